"""The demo: from vhost files to certificates that Apache serves, on loopback, in about a minute.

It starts two test CAs (Pebble) that demand External Account Binding, their DNS, and a private
Apache with the sites of examples/sites-enabled; then it types what an administrator would type. A
second Apache without mod_md follows. Everything lies in demo-run; the machine's own Apache is never
touched.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EXAMPLES = Path(__file__).resolve().parent
CLONE = EXAMPLES.parent
sys.path.insert(0, str(CLONE))

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from examples.playground import make_folder
from tests.parts import (
    Apache,
    Challtestsrv,
    Pebble,
    find_program,
    free_port,
    names_of,
    served_certificate,
)

RUN = CLONE / "demo-run"
SECOND_ADDRESS = "127.0.0.2"
BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")


@dataclass(frozen=True, slots=True)
class Expected:
    """A certificate that Apache should serve at the end."""

    name: str
    names: frozenset[str]
    key_type: Literal["rsa", "ec"]
    key: str
    ca: Pebble


class Failure(Exception):  # noqa: N818 - it ends the demo, nothing catches it by kind
    """Something did not come out as it should; the message says what."""


def main() -> int:
    """Run the demo; return 0 only if every step came out as it should."""
    folder = make_folder(RUN)
    try:
        with ExitStack() as servers:
            run_demo(servers, folder)
    except Failure as failure:
        print(f"\n{BOLD}The demo failed: {failure}{PLAIN}\nLogs and files are in {RUN}")
        return 1
    print(f"\n{BOLD}All servers are ended.{PLAIN} Look around in {RUN}")
    return 0


def run_demo(servers: ExitStack, folder: Path) -> None:
    """Start the servers and go through both Apaches."""
    heading("Two test CAs that demand External Account Binding, and a private Apache on loopback")
    http_port, https_port = free_port(), free_port()
    dns = servers.enter_context(Challtestsrv(folder / "dns"))
    ca, partner_ca = (
        servers.enter_context(
            Pebble(
                folder / name, dns_server=dns.dns_server, http_port=http_port, tls_port=https_port
            )
        )
        for name in ("ca", "partner-ca")
    )
    apache = Apache(
        folder / "apache",
        sites_folder=EXAMPLES / "sites-enabled",
        http_port=http_port,
        ssl_port=https_port,
        main_extra=defines(folder, ca, partner_ca, dns),
    )
    servers.enter_context(apache)
    for name, server in (("CA", ca), ("second CA", partner_ca)):
        print(f"{name:10} {server.directory_url}")
    print(f"{'Apache':10} ports {http_port} and {https_port}, {apache.config}")
    with_mod_md(apache, ca, partner_ca)
    dns.set_address("legacy.example.org", SECOND_ADDRESS)
    without_mod_md(servers, folder, ca, partner_ca, dns)


def with_mod_md(apache: Apache, ca: Pebble, partner_ca: Pebble) -> None:
    """Take the sites of examples/sites-enabled from scan to an Apache that serves them."""
    choose(apache)
    heading("What does Apache's configuration declare?")
    mdconnector("scan")
    heading("One domain by name")
    mdconnector("enroll", "shop.example.org")
    heading("Everything else: this is what cron does every hour")
    mdconnector("renew", "--all")
    mdconnector("promote", "--all", "--reload")
    heading("The certificates, as the store has them and as Apache serves them")
    mdconnector("status")
    show_served(apache, expected_certificates(ca, partner_ca))
    heading("An hour later nothing is due: no request, no write")
    before = (ca.requests(), partner_ca.requests(), changed_at(apache.store))
    mdconnector("renew", "--all")
    if (ca.requests(), partner_ca.requests(), changed_at(apache.store)) != before:
        raise Failure("an idle run sent a request or changed a file of the store")
    print("(no request reached either CA, no file of the store changed)")


def without_mod_md(
    servers: ExitStack, folder: Path, ca: Pebble, partner_ca: Pebble, dns: Challtestsrv
) -> None:
    """Take a site on an Apache that has not loaded mod_md from scan to being served."""
    heading("A second Apache, without mod_md")
    apache = Apache(
        folder / "apache-without-mod_md",
        sites_folder=EXAMPLES / "sites-without-mod_md",
        mod_md=False,
        http_port=ca.http_port,
        ssl_port=ca.tls_port,
        address=SECOND_ADDRESS,
        main_extra=defines(folder, ca, partner_ca, dns),
    )
    servers.enter_context(apache)
    print(f"Apache at {SECOND_ADDRESS}, {apache.config}")
    choose(apache)
    orders = ca.orders
    mdconnector("enroll", "legacy.example.org")
    mdconnector("promote", "--all", "--reload")
    name = "legacy.example.org"
    show_served(apache, [Expected(name, frozenset({name}), "rsa", "RSA 2048", ca)])
    if ca.orders != orders + 1:
        raise Failure(f"the CA was asked for {ca.orders - orders} certificates instead of one")
    print("(one order at the CA)")


def defines(folder: Path, ca: Pebble, partner_ca: Pebble, dns: Challtestsrv) -> str:
    """Return the lines of Apache's main file that the example sites build on."""
    eab_file = folder / "eab.json"
    write_secret(eab_file, json.dumps({"kid": "kid-1", "hmac": ca.eab_keys["kid-1"]}))
    document_root = folder / "legacy-htdocs"
    document_root.mkdir(exist_ok=True)
    command = f"{EXAMPLES}/dns-01/challtestsrv.py {dns.management_url}"
    values = {
        "CA_DIRECTORY": ca.directory_url,
        "CA_BUNDLE": ca.ca_file,
        "EAB_FILE": eab_file,
        "PARTNER_CA_DIRECTORY": partner_ca.directory_url,
        "PARTNER_CA_BUNDLE": partner_ca.ca_file,
        "PARTNER_KID": "kid-2",
        "PARTNER_HMAC": partner_ca.eab_keys["kid-2"],
        "DNS_01_COMMAND": command,
        "LEGACY_ROOT": document_root,
    }
    return "\n".join(f'Define {name} "{value}"' for name, value in values.items())


def expected_certificates(ca: Pebble, partner_ca: Pebble) -> list[Expected]:
    """Return what examples/sites-enabled asks for."""
    shop, portal, api = "shop.example.org", "portal.example.org", "api.example.org"
    mail, apps, partner = "mail.example.org", "apps.example.org", "partner.example.net"
    portal_names = frozenset({portal, f"www.{portal}", f"old-{portal}"})
    apps_names = frozenset({apps, f"*.{apps}"})
    return [
        Expected(shop, frozenset({shop}), "rsa", "RSA 2048", ca),
        Expected(portal, portal_names, "rsa", "RSA 4096", ca),
        Expected(api, frozenset({api}), "ec", "secp256r1", ca),
        Expected(mail, frozenset({mail}), "rsa", "RSA 2048", ca),
        Expected(mail, frozenset({mail}), "ec", "secp256r1", ca),
        Expected(f"any.{apps}", apps_names, "ec", "secp256r1", ca),
        Expected(partner, frozenset({partner}), "ec", "secp256r1", partner_ca),
    ]


def show_served(apache: Apache, expected: list[Expected]) -> None:
    """Ask Apache by TLS handshakes, verified against the CAs' roots, and print a table."""
    print(f"\n{'asked for':24} {'key':10} {'issuer':32} names")
    for wanted in expected:
        leaf = served_certificate(
            apache.address,
            apache.ssl_port,
            wanted.name,
            wanted.key_type,
            roots_pem=wanted.ca.root_pem(),
        )
        issuer = leaf.issuer.rfc4514_string().removeprefix("CN=")
        names = " ".join(sorted(names_of(leaf)))
        print(f"{wanted.name:24} {key_of(leaf):10} {issuer:32} {names}")
        if (key_of(leaf), names_of(leaf)) != (wanted.key, wanted.names):
            raise Failure(f"{wanted.name} should have {wanted.key}: {sorted(wanted.names)}")


def changed_at(store: Path) -> dict[Path, int]:
    """Return when each file and folder of a store was last changed, but for the lock of a run."""
    return {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.name != "run.lock"}


def key_of(leaf: x509.Certificate) -> str:
    """Return the key type in Apache's words."""
    key = leaf.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return getattr(getattr(key, "curve", None), "name", type(key).__name__)


def choose(apache: Apache) -> None:
    """Point mdconnector to an Apache; in production it finds the machine's own."""
    for name, value in (
        ("MDCONNECTOR_CONFIG", apache.config),
        ("MDCONNECTOR_HTTPD", find_program("apache2")),
    ):
        print(f"$ export {name}={value}")
        os.environ[name] = str(value)


def mdconnector(*arguments: str) -> None:
    """Print a command, run it, show what it says; it must exit 0."""
    print(f"\n{BOLD}$ {shlex.join(['mdconnector', *arguments])}{PLAIN}", flush=True)
    done = subprocess.run([sys.executable, "-m", "mdconnector", *arguments], check=False, cwd=CLONE)
    if done.returncode:
        raise Failure(f"mdconnector {arguments[0]} exited {done.returncode}")


def heading(text: str) -> None:
    """Print what comes next."""
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
