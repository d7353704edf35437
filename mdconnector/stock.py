"""Take stock of each domain: what is live, staged, open at the CA, remembered; and decide.

Rules: reads only, contacts nobody, takes no lock. What this user may not read, or what is
damaged in one domain's folders, is that domain's `trouble`; the others are not touched by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import StoreError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.renewal import (
    Decision,
    InstalledCertificate,
    assess,
    serves_until,
)
from mdconnector.store.attempts import AttemptRecord, load_attempt
from mdconnector.store.live import FoundSet, StagedRubbish, read_live, read_staging
from mdconnector.store.pending import Pending
from mdconnector.store.tree import Store


@dataclass(frozen=True, slots=True)
class Stock:
    """Everything about one domain that a command branches on."""

    domain: ManagedDomain
    live: tuple[InstalledCertificate, ...]
    found: FoundSet | None
    """what waits in staging, fit or not"""
    record: AttemptRecord
    decision: Decision
    now: datetime
    rubbish: StagedRubbish | None = None
    """what lies in staging and can never become a set"""
    pending_since: datetime | None = None
    pending_url: str = ""
    """of an order for this configuration that is open at the CA"""
    trouble: StoreError | None = None
    """why parts of it are not known"""

    @property
    def serving(self) -> tuple[CertificateFacts, ...]:
        """The live certificates, where they serve the configuration; else empty."""
        if serves_until(self.domain, self.live, self.now) is None:
            return ()
        return tuple(one.facts for one in self.live if one.facts is not None)


def take_stock(
    store: Store | None, domains: Iterable[ManagedDomain], now: datetime
) -> tuple[Stock, ...]:
    """Look at each domain. Without a store nothing is live, staged or remembered."""
    return tuple(_look(store, domain, now) for domain in domains)


def _look(store: Store | None, domain: ManagedDomain, now: datetime) -> Stock:
    nothing = tuple(InstalledCertificate(spec) for spec in domain.key_specs)
    if store is None:
        return _stock(domain, nothing, None, AttemptRecord(), now)
    try:
        live = read_live(store, domain)
        staging = read_staging(store, domain, now=now, live=live)
        record = load_attempt(store, domain.name)
        since, url = _open_order(store, domain)
    except StoreError as error:
        unknown = _stock(domain, nothing, None, AttemptRecord(), now)
        return replace(unknown, trouble=error)
    found = staging if isinstance(staging, FoundSet) else None
    rubbish = staging if isinstance(staging, StagedRubbish) else None
    stock = _stock(domain, live, found, record, now)
    return replace(stock, rubbish=rubbish, pending_since=since, pending_url=url)


def _stock(
    domain: ManagedDomain,
    live: tuple[InstalledCertificate, ...],
    found: FoundSet | None,
    record: AttemptRecord,
    now: datetime,
) -> Stock:
    staged = found.staged if found else None
    decision = assess(domain, live=live, staged=staged, attempt=record.attempt, now=now)
    return Stock(domain, live, found, record, decision, now)


def _open_order(store: Store, domain: ManagedDomain) -> tuple[datetime | None, str]:
    """Return since when an order for this configuration is open at the CA, and its URL."""
    pending = Pending.load(store, domain)
    if not pending.is_for(domain):
        return None, ""
    for order in pending.open_orders():
        if order.url is not None:
            return order.created, order.url
    return None, ""


def describe_keys(certificates: Iterable[CertificateFacts]) -> str:
    """Return `rsa2048 + secp256r1`."""
    return " + ".join(facts.key_label for facts in certificates)


def local_time(moment: datetime) -> str:
    """Return a time as a person on this machine reads it, with its zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")
