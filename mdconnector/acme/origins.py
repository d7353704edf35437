"""Where a CA's URLs lead to, and which of them may be followed.

Rules: pure. HTTPS only, save for loopback hosts; a URL that is not plainly http or https to a host
leads nowhere.
"""

from __future__ import annotations

import functools
import ipaddress

import httpx

from mdconnector.errors import ConfigurationError
from mdconnector.printable import printable

Origin = tuple[str, str, int]
"""scheme, host, port"""

PORTS = {"http": 80, "https": 443}


def directory_origin(url: str) -> Origin:
    """Return where a directory URL leads to. Raises ConfigurationError where nothing may go."""
    origin = origin_of(url)
    if origin is None:
        raise ConfigurationError(
            f"'{printable(url, 200)}' is not the URL of a CA's directory",
            hint="write the https:// URL that the CA names into MDCertificateAuthority",
        )
    scheme, host, _ = origin
    if scheme != "https" and not _is_loopback(host):
        raise ConfigurationError(
            f"the CA's directory {printable(url, 200)} is not https",
            hint="write https:// in MDCertificateAuthority; http is for loopback addresses only",
        )
    return origin


def origin_of(url: str) -> Origin | None:
    """Return where a URL leads to, None for one that is not plainly http or https to a host."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parsed = parsed_url(url)
    except httpx.InvalidURL:
        return None
    if parsed.scheme not in PORTS or not parsed.host or parsed.userinfo or parsed.fragment:
        return None
    return parsed.scheme, parsed.host, parsed.port or PORTS[parsed.scheme]


@functools.lru_cache(maxsize=64)
def parsed_url(url: str) -> httpx.URL:
    """Parse a URL once for the look at its origin and for the request. Raises httpx.InvalidURL."""
    return httpx.URL(url)


def may_follow(directory: Origin, other: Origin) -> bool:
    """Say whether requests may go where the directory points, by where it was found."""
    if _is_loopback(directory[1]):
        return other[0] == "https" or _is_loopback(other[1])
    return other[0] == "https" and not _is_loopback(other[1])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
