"""What Apache on this host shows of the live sets, and whether it has still to take them up.

Rules: a reload is owed, without any mark on disk, while what is live is newer than what httpd
took up at its start or last reload (its pid file tells when), or is not what it was last seen
to serve. Where the times lie too near to each other, a handshake decides. What was seen is
remembered for each host, because hosts may share a store; their clocks are not one clock, so
that a host which has seen nothing yet asks where another has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.process import RunningHttpd
from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes.promote import Served
from mdconnector.printable import printable
from mdconnector.renewal import LastError
from mdconnector.served import (
    Answers,
    Comparison,
    Endpoint,
    Places,
    ask,
    ask_until_new,
    compare,
    endpoints_for,
)
from mdconnector.stock import Stock
from mdconnector.store import attempts, promotion
from mdconnector.store.live import live_changed_at
from mdconnector.store.pending import drop_pending
from mdconnector.store.tree import Store
from mdconnector.this_host import host_id

CLOSE_TIMES = timedelta(seconds=60)
"""a set and a reload that are this near to each other can't be told apart by their times"""


class Target(NamedTuple):
    """A domain that Apache is asked about, and the leaves that it should show."""

    domain: ManagedDomain
    facts: tuple[CertificateFacts, ...]

    @property
    def name(self) -> str:
        """The managed domain's name."""
        return self.domain.name

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The SHA-256 of the leaves, sorted."""
        return tuple(sorted(facts.sha256 for facts in self.facts))

    @property
    def serials(self) -> tuple[str, ...]:
        """The serials as they are remembered."""
        return tuple(f"{facts.serial:x}" for facts in self.facts)


class Witness:
    """Asks the Apache of this host, and remembers what it saw."""

    def __init__(
        self, store: Store, configuration: Configuration, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._clock = clock
        self._host = host_id()
        listens = (listen.address for listen in configuration.listens)
        self._places = Places(listens, configuration.vhosts)

    def ask(self, targets: Iterable[Target]) -> Answers:
        """Ask every endpoint of every target once."""
        return ask(endpoint for target in targets for endpoint in self._endpoints(target))

    def compare(self, targets: Sequence[Target], before: Answers) -> dict[str, Comparison]:
        """Ask until the new certificates are shown, or 10 s are over, and judge; by domain."""
        endpoints = {target.name: self._endpoints(target) for target in targets}
        expected: dict[Endpoint, Collection[str]] = {
            endpoint: target.fingerprints
            for target in targets
            for endpoint in endpoints[target.name]
        }
        after = ask_until_new(expected, before=before)
        return {
            target.name: compare(
                endpoints[target.name], before=before, after=after, expected=target.fingerprints
            )
            for target in targets
        }

    def conclude(self, target: Target, served: Served) -> None:
        """Remember what is served; a pending copy that has become needless is dropped."""
        if served is not Served.UNCHECKED:
            self._remember(target, is_shown=served is Served.NEW)
        if served in {Served.NEW, Served.UNCHECKED}:
            drop_pending(self._store, target.name, target.fingerprints)

    def is_owed(self, stock: Stock, running: RunningHttpd) -> bool:
        """Say whether Apache has still to take up what is live for a domain."""
        if stock.trouble is not None or not stock.serving:
            return False
        target = Target(stock.domain, stock.serving)
        seen = stock.record.served.get(self._host)
        if seen is not None and seen.serials == target.serials:
            is_outdated = _is_older_than_rollback(seen, stock.record)
            return is_outdated and self._seems_owed(target, is_newer=False)
        changed = live_changed_at(self._store, stock.domain.name)
        if changed is None:
            return False
        taken_up = datetime.fromtimestamp(running.pid_file_mtime_ns / 1e9, UTC)
        if (seen is None or not seen.serials) and changed < taken_up - CLOSE_TIMES:
            # what was missed may have been mended by now; another host's times are another clock's
            is_open = seen is not None or bool(stock.record.served)
            is_owed = is_open and self._seems_owed(target, is_newer=False)
            return is_owed and seen is None
        if changed > taken_up + CLOSE_TIMES:
            return True
        return self._seems_owed(target, is_newer=changed > taken_up)

    def _seems_owed(self, target: Target, *, is_newer: bool) -> bool:
        """Ask Apache where the times leave it open; what mod_md activated is made durable by us."""
        endpoints = self._endpoints(target)
        comparison = compare(
            endpoints, before={}, after=ask(endpoints), expected=target.fingerprints
        )
        if comparison.served is Served.NEW:
            promotion.make_durable(self._store, target.name)
            self.conclude(target, Served.NEW)
            return False
        return comparison.served is Served.OLD or is_newer

    def _remember(self, target: Target, *, is_shown: bool) -> None:
        now = self._clock()
        record = attempts.load_attempt(self._store, target.name)
        known = record.served.get(self._host)
        seen = attempts.Served(target.serials, now)
        if not is_shown:
            before = known or attempts.Served((), now)
            seen = before._replace(missed=target.serials, missed_at=now)
        is_news = known is None or (known.serials, known.missed) != (seen.serials, seen.missed)
        if is_news or (known is not None and _is_older_than_rollback(known, record)):
            attempts.save_attempt(self._store, target.name, record.with_served(self._host, seen))

    def _endpoints(self, target: Target) -> tuple[Endpoint, ...]:
        return endpoints_for(target.domain, self._places)


def _is_older_than_rollback(seen: attempts.Served, record: attempts.AttemptRecord) -> bool:
    """Say whether a set that was put back later may have been taken up meanwhile."""
    return record.rollback is not None and seen.at <= record.rollback.at


def describe(comparison: Comparison, now: datetime) -> tuple[str, LastError | None]:
    """Put into words what Apache shows, with what is to blame where that is not the new set."""
    match comparison.served:
        case Served.NEW:
            return "Apache serves it", None
        case Served.UNCHECKED:
            why = sorted({endpoint.obstacle or "" for endpoint in comparison.obstacles})
            return f"not asked what is served: {'; '.join(why)}", None
        case Served.OLD:
            answer = comparison.stale[0]
            blame = answer.endpoint.override_at
            hint = f"see the virtual host at {answer.endpoint.at}"
            if blame is not None:
                hint = f"the SSLCertificateFile at {blame} is served instead; delete it and reload"
            words = f"but {answer.endpoint} still shows serial {answer.serial}"
            return words, LastError("httpd", words, hint, now)
        case Served.NONE:
            lost = comparison.lost[0]
            words = printable(f"but {lost.endpoint} shows no certificate: {lost.fault}")
            return words, LastError(
                "httpd", words, f"see the virtual host at {lost.endpoint.at}", now
            )
