"""Says which names no CA puts into a certificate, and what to write instead. Pure."""

from __future__ import annotations

import ipaddress

from mdconnector.managed_domain import is_dns_name


def why_refused(name: str) -> tuple[str, str] | None:
    """Say why a CA would refuse a name, and what to do; None where it would not for its form."""
    if is_dns_name(name):
        return None
    if name.startswith("#"):
        return (
            "a '#' within a line begins no comment: its words became names",
            "put the comment on a line of its own",
        )
    if "," in name or ";" in name:
        return "names are separated by blanks only", "replace the comma by a blank"
    if not name.isascii():
        return "it is not in ASCII", f"write its A-label, {_a_label(name)}"
    if _is_ip_address(name):
        return "it is an IP address", "name the site by a DNS name"
    if "_" in name:
        return "it has an underscore, which no public CA signs", "use a hyphen"
    if "*" in name.removeprefix("*."):
        return "only its first label may be '*'", "name the sites one by one"
    if "." not in name.strip("."):
        return "it is not a public name", "use a name below a public domain"
    return "it is not a DNS name", "use letters, digits and hyphens between dots"


def _a_label(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return "the form that begins with xn--"


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
