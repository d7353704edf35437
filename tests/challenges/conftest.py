"""What the tests of challenges share: a store, a domain, a site, and a CA's offers."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdconnector.challenges import ChallengeSite, Offer, OfferedAuthorization
from mdconnector.managed_domain import Address, ManagedDomain, SourceLine, VirtualHost
from mdconnector.store.tree import Store

TOKEN = "DGyRejmCefe7v4NfDGDKfA-_x"
ANSWER = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
TYPES = ("http-01", "dns-01", "tls-alpn-01")


def key_authorization(token: str) -> str:
    return token + ANSWER.removeprefix(TOKEN)


def authorization(
    identifier: str = "shop.example.org",
    *,
    wildcard: bool = False,
    types: tuple[str, ...] = TYPES,
    token: str = TOKEN,
) -> OfferedAuthorization:
    offers = tuple(Offer(kind, token, f"https://ca.test/{kind}") for kind in types)
    return OfferedAuthorization(identifier, wildcard, offers)


def managed_domain(*names: str, **settings: Any) -> ManagedDomain:
    names = names or ("shop.example.org",)
    return ManagedDomain(names[0], names, SourceLine("shop.conf", 1), **settings)


def vhost(name: str, *addresses: str, **settings: Any) -> VirtualHost:
    settings.setdefault("aliases", ())
    settings.setdefault("ssl", False)
    settings.setdefault("declared_at", SourceLine("shop.conf", 3))
    return VirtualHost(name, addresses=tuple(map(address, addresses or ("*:80",))), **settings)


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), None if port == "*" else int(port))


def site(*listens: str, mod_md_loaded: bool = True, **settings: Any) -> ChallengeSite:
    settings.setdefault("vhosts", ())
    heard = tuple(map(address, listens or ("*:80", "*:443")))
    return ChallengeSite(mod_md_loaded, heard, **settings)


def site_on(port: int, *vhosts: VirtualHost, **settings: Any) -> ChallengeSite:
    """Return a site whose http port is `port` on loopback; the vhosts get that address."""
    here = Address("127.0.0.1", port)
    moved = tuple(each._replace(addresses=(here,)) for each in vhosts)
    return site(f"127.0.0.1:{port}", vhosts=moved, http_port=port, **settings)


@pytest.fixture
def store(parts_folder: Path) -> Iterator[Store]:
    """A new store below `parts_folder`, made for Apache's user where we are root."""
    is_root = os.geteuid() == 0
    httpd = pwd.getpwnam("www-data") if is_root else None
    opened = Store.open(
        parts_folder / "md",
        httpd_user_uid=httpd.pw_uid if httpd else None,
        httpd_group_gid=httpd.pw_gid if httpd else None,
        mod_md_loaded=True,
        create=True,
    )
    assert opened is not None
    with opened:
        yield opened
