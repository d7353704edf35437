"""A CA that validates, a real Apache and a real DNS: each way ends in a valid authorization."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mdconnector.acme import jws, resources
from mdconnector.acme.resources import Account, Order, OrderStatus
from mdconnector.acme.session import Session
from mdconnector.challenges import (
    ChallengeSite,
    ChallengeType,
    Offer,
    OfferedAuthorization,
    Setups,
    set_up,
    tear_down,
)
from mdconnector.keys import generate_account_key
from mdconnector.managed_domain import Address, ExternalAccount, ManagedDomain, VirtualHost
from mdconnector.store.tree import Store
from tests.challenges.conftest import managed_domain, vhost
from tests.parts import Apache, Challtestsrv, Pebble, wait_until

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

EXAMPLE = Path(__file__).parents[2] / "examples" / "dns-01" / "challtestsrv.py"
WORKING = (OrderStatus.PENDING, OrderStatus.PROCESSING)


@dataclass(frozen=True, slots=True)
class Customer:
    """An account at the validating CA."""

    session: Session
    account: Account

    def prove(
        self, domain: ManagedDomain, here: ChallengeSite, store: Store
    ) -> tuple[Order, Setups]:
        """Order, answer and wait; return the order as the CA left it."""
        order = resources.new_order(self.session, self.account, domain.names)
        setups = set_up(
            [self._offered(url) for url in order.authorizations],
            domain,
            here,
            store=store,
            key_authorization=lambda token: jws.key_authorization(token, self.account.key),
            remember=lambda _: None,
            now=datetime.now(UTC),
        )
        for answer in setups.answers:
            resources.answer_challenge(self.session, self.account, answer.url)
        wait_until(lambda: self._read(order).status not in WORKING, "the CA's decision", seconds=60)
        return self._read(order), setups

    def _read(self, order: Order) -> Order:
        return resources.fetch_order(self.session, self.account, order.url)

    def _offered(self, url: str) -> OfferedAuthorization:
        found = resources.fetch_authorization(self.session, self.account, url)
        offers = (Offer(each.type, each.token or "", each.url or "") for each in found.challenges)
        return OfferedAuthorization(found.name, found.wildcard, tuple(offers))


@pytest.fixture
def customer(validating_ca: Pebble) -> Iterator[Customer]:
    with Session(
        validating_ca.directory_url, ca_certificates=str(validating_ca.ca_file)
    ) as session:
        account = resources.register_account(
            session,
            generate_account_key(),
            contact="mailto:hostmaster@example.org",
            terms_agreed=True,
            eab=ExternalAccount("kid-1", validating_ca.eab_keys["kid-1"]),
        )
        yield Customer(session, account)


def site_of(apache: Apache, *vhosts: VirtualHost) -> ChallengeSite:
    http, https = (Address(apache.address, port) for port in (apache.http_port, apache.ssl_port))
    return ChallengeSite(
        apache.has_mod_md,
        (http, https),
        tuple(each._replace(addresses=(http,)) for each in vhosts),
        http_port=apache.http_port,
        https_port=apache.ssl_port,
    )


def test_http_01_by_mod_md(
    customer: Customer, make_apache: Callable[..., Apache], store: Store
) -> None:
    domain = managed_domain("by-mod-md.example.org", "www.by-mod-md.example.org")
    with make_apache(store=store.path) as apache:
        order, setups = customer.prove(domain, site_of(apache, vhost(domain.name)), store)
    assert order.status is OrderStatus.READY
    assert [(answer.type, answer.notes) for answer in setups.answers] == [
        (ChallengeType.HTTP_01, ()),
        (ChallengeType.HTTP_01, ()),
    ]
    assert tear_down(setups.traces, store) == ()


def test_http_01_by_document_root(
    customer: Customer, make_apache: Callable[..., Apache], store: Store
) -> None:
    domain = managed_domain("by-root.example.org")
    apache = make_apache(mod_md=False)
    root = apache.root / "by-root"
    root.mkdir()
    apache.write_site(
        "by-root",
        "<VirtualHost *:${HTTP_PORT}>\nServerName other.example.org\n</VirtualHost>\n"
        "<VirtualHost *:${HTTP_PORT}>\nServerName by-root.example.org\n"
        f'DocumentRoot "{root}"\n</VirtualHost>\n',
    )
    shop = vhost(domain.name)._replace(document_root=str(root))
    with apache:
        order, setups = customer.prove(domain, site_of(apache, vhost("other"), shop), store)
    assert order.status is OrderStatus.READY
    assert tear_down(setups.traces, store) == ()
    assert list(root.iterdir()) == []


def test_tls_alpn_01_by_mod_md(
    customer: Customer, make_apache: Callable[..., Apache], store: Store
) -> None:
    name = "by-alpn.example.org"
    apache = make_apache(
        store=store.path,
        sites={
            "by-alpn": f"MDomain {name}\n<VirtualHost *:${{HTTPS_PORT}}>\nServerName {name}\n"
            "SSLEngine on\nProtocols http/1.1 acme-tls/1\n</VirtualHost>"
        },
    )
    domain = managed_domain(name, acme_tls_names=(name,))
    with apache:
        order, setups = customer.prove(domain, site_of(apache), store)
    assert [answer.type for answer in setups.answers] == [ChallengeType.TLS_ALPN_01]
    assert order.status is OrderStatus.READY


def test_dns_01_for_a_wildcard_and_its_base(
    customer: Customer,
    make_apache: Callable[..., Apache],
    store: Store,
    dns: Challtestsrv,
    tmp_path: Path,
) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\nexec {sys.executable} {EXAMPLE} {dns.management_url} "$@"\n')
    hook.chmod(0o755)
    domain = managed_domain(
        "by-dns.example.org",
        "*.by-dns.example.org",
        dns01_command=str(hook),
        challenges=("dns-01",),
    )
    order, setups = customer.prove(domain, site_of(make_apache()), store)
    assert order.status is OrderStatus.READY
    assert {answer.type for answer in setups.answers} == {ChallengeType.DNS_01}
    assert len(setups.answers) == 2
    assert tear_down(setups.traces, store) == ()
