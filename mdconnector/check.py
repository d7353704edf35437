"""Judge status for monitoring: one level for each domain, and the text of `status --check`.

Rules: everything is a function of values. Levels and texts are those of the monitoring plug-ins'
guidelines: one summary line with performance data behind a bar, then a line for each domain that
is not well. Where several levels apply, critical comes before warning, warning before unknown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import chain, islice
from typing import NamedTuple

from mdconnector.outcomes.status import DomainStatus, StatusResult
from mdconnector.printable import printable
from mdconnector.renewal import State
from mdconnector.stock import local_time

PATIENCE = timedelta(days=1)
"""how long a domain may fail, an order be open, or a set be staged"""
SHOWN_LINES = 100
"""more lines than that no monitoring shows; the counts tell of the others"""
_SEE_SCAN = "see 'mdconnector scan'"


class Level(IntEnum):
    """How a plug-in ends: the exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_BY_WEIGHT = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)


class Verdict(NamedTuple):
    """The level of one domain, and why; no reasons where all is well."""

    level: Level
    reasons: tuple[str, ...] = ()


def judge(domain: DomainStatus, now: datetime) -> Verdict:
    """Judge one domain. What is nobody's to renew, like static files, is always well."""
    if domain.state is State.UNKNOWN:
        return Verdict(Level.UNKNOWN, (domain.detail,))
    if not domain.is_renewed:
        return Verdict(Level.OK)
    critical, warning = list(_critical(domain, now)), list(_warnings(domain, now))
    if critical:
        return Verdict(Level.CRITICAL, (*critical, *warning))
    return Verdict(Level.WARNING, tuple(warning)) if warning else Verdict(Level.OK)


def _critical(domain: DomainStatus, now: datetime) -> Iterator[str]:
    for one in domain.lifetimes:
        if one.not_after <= now:
            yield f"{one.key_label} expired {local_time(one.not_after)}"
    if domain.used_by_ssl:
        for certificate in domain.live:
            if certificate.fault is not None:
                yield f"{certificate.spec.label} cannot be used: {printable(certificate.fault)}"
            elif certificate.facts is None:
                yield f"{certificate.spec.label} is missing"
            elif certificate.revoked_at is not None:
                yield f"{certificate.spec.label} was revoked {local_time(certificate.revoked_at)}"
    if domain.errors and any(
        _is_nearly_over(one.warn_at, one.not_after, now) for one in domain.lifetimes
    ):
        yield "failing with under a third of MDWarnWindow left"


def _is_nearly_over(warn_at: datetime, not_after: datetime, now: datetime) -> bool:
    return now < not_after and not_after - now < (not_after - warn_at) / 3


def _warnings(domain: DomainStatus, now: datetime) -> Iterator[str]:
    for one in domain.lifetimes:
        if one.warn_at <= now < one.not_after:
            yield f"{one.key_label} expires {local_time(one.not_after)}"
    if domain.state is State.ERROR and domain.detail:
        yield domain.detail
    error = f": {domain.last_error.detail}" if domain.last_error else ""
    if domain.failing_since is not None and now - domain.failing_since >= PATIENCE:
        yield f"failing since {local_time(domain.failing_since)}{error}"
    if domain.pending is not None and now - domain.pending.since >= PATIENCE:
        yield f"the CA is at work on an order since {local_time(domain.pending.since)}"
    if domain.staged is not None and now - domain.staged.since >= PATIENCE:
        yield f"staged since {local_time(domain.staged.since)} and not live"
    if domain.served is not None and domain.served.is_stored is False:
        yield domain.served.words


def worst(levels: Iterable[Level]) -> Level:
    """Return the level that stands for all; unknown where there is none to judge."""
    found = set(levels)
    return next((level for level in _BY_WEIGHT if level in found), Level.UNKNOWN)


def exit_code(result: StatusResult) -> int:
    """Return the exit code of `status --check`: 3 where nothing is managed."""
    return _level(result, [judge(domain, result.now) for domain in result.domains])


def _level(result: StatusResult, verdicts: Iterable[Verdict]) -> Level:
    """Return the level of all: an error that may hide domains is a warning beside those it left."""
    levels = [verdict.level for verdict in verdicts]
    return worst([*levels, Level.WARNING] if levels and result.findings else levels)


def render_check(result: StatusResult) -> str:
    """Return the text of `status --check`: summary and performance data, then what is not well."""
    hiding = [_plain(f"{finding}; {finding.hint}") for finding in result.findings]
    if not result.domains:
        return unknown_line("; ".join(["no managed domain is declared", *(hiding or [_SEE_SCAN])]))
    verdicts = [(domain, judge(domain, result.now)) for domain in result.domains]
    level = _level(result, [verdict for _, verdict in verdicts])
    counts = Counter(verdict.level for _, verdict in verdicts)
    summary = _summary(level, counts, verdicts, hiding, result.now)
    lines = [f"{summary}|{_performance(counts, result)}"]
    bad = sorted(
        ((domain, verdict) for domain, verdict in verdicts if verdict.level is not Level.OK),
        key=lambda one: _BY_WEIGHT.index(one[1].level),
    )
    told = chain(
        (f"{Level.WARNING.name} {line}" for line in hiding),
        (
            f"{verdict.level.name} {domain.name}: {_plain('; '.join(verdict.reasons))}"
            for domain, verdict in bad
        ),
    )
    lines += islice(told, SHOWN_LINES)
    more = len(hiding) + len(bad) - SHOWN_LINES
    if more > 0:
        lines.append(f"and {more} more; see 'mdconnector status'")
    return "".join(f"{line}\n" for line in lines)


def unknown_line(why: str) -> str:
    """Return the one line of a check that could not be made."""
    return f"MDCONNECTOR UNKNOWN - {_plain(why)}\n"


def _summary(
    level: Level,
    counts: Counter[Level],
    verdicts: list[tuple[DomainStatus, Verdict]],
    hiding: list[str],
    now: datetime,
) -> str:
    head = f"MDCONNECTOR {level.name} - "
    total = f"{len(verdicts)} managed domain{'s' if len(verdicts) > 1 else ''}"
    if level is Level.OK:
        return f"{head}{total}{_next_end([domain for domain, _ in verdicts], now)}"
    told = [f"{counts[one]} {one.name.lower()}" for one in _BY_WEIGHT[:3] if counts[one]]
    subject = f"{', '.join(told)} of {total}" if told else total
    if hiding:
        subject += ", and Apache's configuration may hide others"
    reasons = (
        _plain(f"{domain.name}: {verdict.reasons[0]}")
        for domain, verdict in verdicts
        if verdict.level is level
    )
    return f"{head}{subject}; {next(chain(reasons, hiding))}"


def _next_end(domains: Iterable[DomainStatus], now: datetime) -> str:
    ends = [(one.not_after, one.name) for one in domains if one.not_after is not None]
    if not ends:
        return ""
    not_after, name = min(ends)
    return f", the first to expire is {name} in {(not_after - now).days} days"


def _performance(counts: Counter[Level], result: StatusResult) -> str:
    """Return counts, and the days that the certificate has left which ends first.

    Its thresholds are MDWarnWindow and the third of it, as ranges: an alert below them.
    """
    parts = [f"domains={len(result.domains)};;;0"]
    parts += [f"{level.name.lower()}={counts[level]};;;0" for level in Level]
    lifetimes = [one for domain in result.domains for one in domain.lifetimes]
    if lifetimes:
        first = min(lifetimes, key=lambda one: one.not_after)
        window = (first.not_after - first.warn_at) / timedelta(days=1)
        left = (first.not_after - result.now) / timedelta(days=1)
        parts.append(f"days_left={left:.2f};{window:.2f}:;{window / 3:.2f}:")
    return " ".join(parts)


def _plain(text: str) -> str:
    """Return text without the bar, behind which performance data begins."""
    return printable(text, 1000).replace("|", "/")
