"""Tell the administrator's own programs what happens: MDNotifyCmd and MDMessageCmd.

Rules: events, arguments and rates are mod_md's (mod_md.c, notify; md_status.c, md_job_notify). A
program that cannot be run, is ended by a signal or does not end in time is reported and vetoes
nothing; only its own non-zero exit does. What was told is remembered, and told again only after a
while; a new set begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from mdconnector.errors import ErrorClass, StoreError
from mdconnector.hooks import HookOutcome, run_hook
from mdconnector.httpd.configuration import Configuration
from mdconnector.renewal import Attempt, Staged, delay_step, is_expiring
from mdconnector.stock import Stock
from mdconnector.store.attempts import AttemptRecord, UntoldRenewal, save_attempt
from mdconnector.store.tree import Store

TIMEOUT_SECONDS = 300.0
RENEWING, RENEWED, INSTALLED = "renewing", "renewed", "installed"
EXPIRING, ERRORED = "expiring", "errored"
_PAUSES = {
    RENEWING: timedelta(hours=1),
    RENEWED: timedelta(days=1),
    INSTALLED: timedelta(days=1),
    EXPIRING: timedelta(days=1),
    ERRORED: timedelta(hours=1),
}
"""how long an event is not told again; `challenge-setup` has none"""
_REPEATED = frozenset({RENEWING, RENEWED})
"""told in the next run again where a program said no"""


class Programs(NamedTuple):
    """The command lines in force, untokenised."""

    notify: str | None
    message: str | None

    @classmethod
    def of(cls, configuration: Configuration) -> Programs:
        """Return those of a configuration."""
        notify, message = configuration.notify_hook, configuration.message_hook
        return cls(notify.command if notify else None, message.command if message else None)

    def calls(self, event: str, name: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield directive, command line and arguments of each program that hears of an event."""
        if self.notify is not None and event == RENEWED:
            yield "MDNotifyCmd", self.notify, (name,)
        if self.message is not None:
            yield "MDMessageCmd", self.message, (event, name)


class Notifier:
    """What the programs are told about one domain in this run."""

    def __init__(
        self, name: str, programs: Programs, told: Mapping[str, datetime], now: datetime
    ) -> None:
        self.remarks: list[str] = []
        """what went wrong with a program without vetoing anything; safe to print"""
        self._name = name
        self._programs = programs
        self._told = dict(told)
        self._now = now

    @property
    def has_programs(self) -> bool:
        """Say whether anybody hears what is told."""
        return self._programs.notify is not None or self._programs.message is not None

    @property
    def told(self) -> Mapping[str, datetime]:
        """What was told and when, to be remembered."""
        return MappingProxyType(dict(self._told))

    def begin_set(self) -> None:
        """Let a new set be told of, however soon it comes after the one before."""
        self._told.pop(RENEWED, None)
        self._told.pop(INSTALLED, None)

    def tell(self, event: str) -> str:
        """Tell of an event; return a program's veto in words, empty where there is none."""
        pause, last = _PAUSES.get(event), self._told.get(event)
        if pause is not None and last is not None and last <= self._now < last + pause:
            return ""
        is_told, veto = False, ""
        for directive, line, arguments in self._programs.calls(event, self._name):
            result = run_hook(line, arguments, timeout_seconds=TIMEOUT_SECONDS)
            is_told = True
            if result.outcome is HookOutcome.OK:
                continue
            words = f"{directive} {event}: {result}"
            if result.outcome is HookOutcome.FAILED and result.exit_code is not None:
                veto = words
                break
            self.remarks.append(words)
        is_repeated = veto and event in _REPEATED
        if is_told and pause is not None and not is_repeated:
            self._told[event] = self._now
        return veto


def untold_renewal(
    before: UntoldRenewal | None, veto: str, *, retry_delay: timedelta, now: datetime
) -> UntoldRenewal:
    """Return what is remembered of a `renewed` that a program did not take: when to repeat it."""
    errors = before.errors if before else 0
    step = delay_step(
        Attempt(errors), "", error_class=ErrorClass.TRANSIENT, retry_delay=retry_delay
    )
    return UntoldRenewal(errors + 1, now + step, veto)


def tell_what_time_brings(
    stocks: Sequence[Stock], *, store: Store, configuration: Configuration
) -> tuple[tuple[Stock, ...], tuple[str, ...]]:
    """Tell what no order brings about: `expiring`, and a `renewed` that is still to be taken.

    Returns the stocks with what is remembered now, and a line for each program that failed.
    """
    programs = Programs.of(configuration)
    if programs.notify is None and programs.message is None:
        return tuple(stocks), ()
    lines: list[str] = []
    told = tuple(
        _told_of_one(stock, programs, store, configuration.retry_delay, lines) for stock in stocks
    )
    return told, tuple(lines)


def _told_of_one(
    stock: Stock, programs: Programs, store: Store, retry_delay: timedelta, lines: list[str]
) -> Stock:
    if stock.trouble is not None or stock.domain.faults or stock.domain.static_pairs:
        return stock
    record = stock.record
    notifier = Notifier(stock.domain.name, programs, record.messages, stock.now)
    untold = record.untold
    if not isinstance(stock.decision, Staged):
        untold = None
        if is_expiring(stock.domain, stock.live, stock.now):
            veto = notifier.tell(EXPIRING)
            lines += [f"{stock.domain.name}: {veto}"] if veto else []
    elif untold is not None and untold.next_try <= stock.now:
        veto = notifier.tell(RENEWED)
        lines += [f"{stock.domain.name}: {veto}"] if veto else []
        untold = (
            untold_renewal(untold, veto, retry_delay=retry_delay, now=stock.now) if veto else None
        )
    lines += [f"{stock.domain.name}: {remark}" for remark in notifier.remarks]
    changed = record._replace(messages=notifier.told, untold=untold)
    return _saved(stock, changed, store, lines)


def _saved(stock: Stock, record: AttemptRecord, store: Store, lines: list[str]) -> Stock:
    if record == stock.record:
        return stock
    try:
        save_attempt(store, stock.domain.name, record)
    except StoreError as error:
        lines.append(f"{stock.domain.name}: what was told could not be noted: {error}")
    return stock._replace(record=record)
