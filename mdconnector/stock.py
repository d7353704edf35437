"""Take stock of each domain: what is live, staged, open at the CA, remembered; and decide.

Rules: reads only, contacts nobody, takes no lock. What this user may not read, or what is
damaged in one domain's folders, is that domain's `trouble`; the others are not touched by it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.errors import StoreError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.renewal import (
    AccountHold,
    Current,
    Decision,
    Due,
    assess,
    ca_for,
    digest_of,
    is_open_to_suggestions,
    is_to_be_asked_about,
    serves_until,
)
from mdconnector.store.attempts import AttemptRecord, load_attempt
from mdconnector.store.directories import load_hold
from mdconnector.store.pending import Pending
from mdconnector.store.staged import FoundSet, StagedRubbish, read_sets
from mdconnector.store.tree import Store

WAS_REVOKED = "it was revoked by 'mdconnector revoke'"
_UNDECIDED = Due((), None)


class Stock(NamedTuple):
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
    ca_url: str = ""
    """of the CA whose turn it is"""
    hold: AccountHold | None = None
    """its account there is not to ask before that"""

    @property
    def serving(self) -> tuple[CertificateFacts, ...]:
        """The live certificates, where they serve the configuration; else empty."""
        if serves_until(self.domain, self.live, self.now) is None:
            return ()
        return tuple(one.facts for one in self.live if one.facts is not None)


def take_stock(
    store: Store | None, domains: Iterable[ManagedDomain], now: datetime, *, failover: int
) -> tuple[Stock, ...]:
    """Look at each domain; `failover` is MDRetryFailover.

    Without a store nothing is live, staged or remembered.
    """
    look = _Look(store, now, failover)
    return tuple(look.at(domain) for domain in domains)


class _Look:
    """One look at a store; what concerns an account is read once."""

    def __init__(self, store: Store | None, now: datetime, failover: int) -> None:
        self._store = store
        self._now = now
        self._failover = failover
        self._holds: dict[tuple[str, str | None], AccountHold | None] = {}

    def at(self, domain: ManagedDomain) -> Stock:
        nothing = tuple(InstalledCertificate(spec) for spec in domain.key_specs)
        if self._store is None:
            return self._stock(domain, nothing, None, AttemptRecord())
        try:
            return self._found(self._store, domain)
        except StoreError as error:
            unknown = self._stock(domain, nothing, None, AttemptRecord())
            return unknown._replace(trouble=error)

    def _found(self, store: Store, domain: ManagedDomain) -> Stock:
        live, staging = read_sets(store, domain, now=self._now)
        record = load_attempt(store, domain.name)
        since, url = _open_order(store, domain)
        found = _judged(staging, record) if isinstance(staging, FoundSet) else None
        rubbish = staging if isinstance(staging, StagedRubbish) else None
        hold = self._hold(store, domain, ca_for(domain, record.attempt, failover=self._failover))
        stock = self._stock(domain, live, found, record, hold)
        return stock._replace(rubbish=rubbish, pending_since=since, pending_url=url)

    def _stock(
        self,
        domain: ManagedDomain,
        live: tuple[InstalledCertificate, ...],
        found: FoundSet | None,
        record: AttemptRecord,
        hold: AccountHold | None = None,
    ) -> Stock:
        return judge(
            Stock(
                domain,
                live,
                found,
                record,
                _UNDECIDED,
                self._now,
                ca_url=ca_for(domain, record.attempt, failover=self._failover),
                hold=hold,
            )
        )

    def _hold(self, store: Store, domain: ManagedDomain, ca_url: str) -> AccountHold | None:
        key = (ca_url, domain.eab.kid if domain.eab else None)
        if key not in self._holds:
            self._holds[key] = load_hold(store, *key)
        return self._holds[key]


def judge(stock: Stock) -> Stock:
    """Return the stock with the decision that follows from all else in it."""
    live = tuple(_with_memory(stock, certificate) for certificate in stock.live)
    decision = assess(
        stock.domain,
        live=live,
        staged=stock.found.staged if stock.found else None,
        attempt=stock.record.attempt,
        now=stock.now,
        hold=stock.hold,
    )
    return stock._replace(live=live, decision=decision)


def _with_memory(stock: Stock, certificate: InstalledCertificate) -> InstalledCertificate:
    """Add to a live certificate what is remembered of it."""
    facts, record = certificate.facts, stock.record
    if not (
        record.renewal_info or record.settled_digest or record.settled_window or record.revoked
    ):
        return certificate
    is_settled = bool(record.settled_digest) and record.settled_digest == digest_of(stock.domain)
    info = record.renewal_info.get(facts.ari_id) if facts else None
    heeded = info if is_open_to_suggestions(stock.domain) else None
    return certificate._replace(
        suggested=heeded.chosen if heeded else None,
        must_staple_is_settled=is_settled,
        window_is_settled=record.settled_window == str(stock.domain.renew_window),
        revoked_at=record.revoked.get(facts.sha256) if facts else None,
    )


def _judged(found: FoundSet, record: AttemptRecord) -> FoundSet:
    """Return what waits in staging with its fault where a certificate of it was revoked."""
    if all(facts.sha256 not in record.revoked for facts in found.staged.certificates):
        return found
    return found._replace(staged=found.staged._replace(fault=WAS_REVOKED))


def questions(stock: Stock) -> tuple[CertificateFacts, ...]:
    """Return the live certificates about which the CA is to be asked when to renew them."""
    if not isinstance(stock.decision, Current) or not is_open_to_suggestions(stock.domain):
        return ()
    known = stock.record.renewal_info
    facts = (one.facts for one in stock.live if one.facts is not None)
    return tuple(
        one for one in facts if is_to_be_asked_about(one, known.get(one.ari_id), stock.now)
    )


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
