"""What a run did as plain lines: what was done, what failed, and what the system's log is told.

Rules: no box characters, no colour; one line per domain; what is shown is what JSON tells. Pure.
"""

from __future__ import annotations

from typing import TypeAlias

from mdconnector.account_text import account_failures, account_line, account_lines
from mdconnector.outcomes.account import AccountAction, AccountRun
from mdconnector.outcomes.order import Ordered, OrderOutcome, OrderRun
from mdconnector.outcomes.promote import Promoted, PromoteRun, PromotionOutcome, Reload
from mdconnector.outcomes.revoke import RevocationOutcome, RevocationRun, Revoked
from mdconnector.printable import printable
from mdconnector.status_text import local

Run: TypeAlias = OrderRun | PromoteRun | RevocationRun | AccountRun


def run_lines(result: Run, *, quiet: bool) -> list[str]:
    """Return the lines of a run without the failures."""
    match result:
        case OrderRun():
            return order_lines(result, quiet=quiet)
        case PromoteRun():
            return promote_lines(result, quiet=quiet)
        case RevocationRun():
            return revoke_lines(result, quiet=quiet)
        case AccountRun():
            return account_lines(result, quiet=quiet)


def failure_lines(result: Run, *, quiet: bool) -> list[str]:
    """Return one line per repair and per failure."""
    match result:
        case OrderRun():
            failed = _order_failures(result, quiet=quiet)
            return [*result.repairs, *failed, *_broken(result, quiet=quiet)]
        case PromoteRun():
            failed = _promote_failures(result, quiet=quiet)
            return [*result.repairs, *failed, *_broken(result, quiet=quiet)]
        case RevocationRun():
            return _revocation_failures(result)
        case AccountRun():
            return account_failures(result)


def journal_lines(result: Run) -> tuple[str, ...]:
    """Return what belongs in the system's log: one line per change and per failure."""
    match result:
        case OrderRun():
            told = [
                one for one in result.domains if one.is_change or (one.has_failed and one.is_news)
            ]
            return (*result.repairs, *(_order_line(one) for one in told), *_files_told(result))
        case PromoteRun():
            quiet = Promoted.NOTHING_STAGED
            promoted = [one for one in result.domains if one.outcome is not quiet and one.is_news]
            return (
                *result.repairs,
                *(_promotion_line(one) for one in promoted),
                *_files_told(result),
            )
        case RevocationRun():
            return tuple(_revocation_line(one) for one in result.domains)
        case AccountRun() if result.action not in {AccountAction.LIST, AccountAction.SHOW}:
            done = [account_line(one) for one in result.accounts if one.is_change]
            return (*done, *account_failures(result))
        case _:
            return ()


def order_lines(result: OrderRun, *, quiet: bool) -> list[str]:
    """Return the lines of enroll and renew without the failures."""
    shown = [domain for domain in result.domains if domain.outcome is not Ordered.FAILED]
    if quiet:
        shown = [domain for domain in shown if domain.is_change]
    lines = [*result.mended, *(_order_line(domain) for domain in shown)]
    if not quiet and not result.domains:
        lines.append("no managed domain is declared; see 'mdconnector scan'")
    if result.not_live.sets and (not quiet or result.not_live.is_old):
        lines.append(_not_live_line(result))
    return lines


def _order_line(domain: OrderOutcome) -> str:
    return f"{domain.name}: {domain.outcome}: {domain.detail}"


def _not_live_line(result: OrderRun) -> str:
    count = result.not_live.sets
    sets = "1 staged set is" if count == 1 else f"{count} staged sets are"
    since = f" (the oldest since {local(result.not_live.oldest)})" if result.not_live.oldest else ""
    return f"{sets} not live{since}; make live: mdconnector promote --all --reload"


def _order_failures(result: OrderRun, *, quiet: bool) -> list[str]:
    failed = [domain for domain in result.domains if domain.has_failed]
    if quiet:
        failed = [domain for domain in failed if domain.is_news]
    groups: dict[str, list[OrderOutcome]] = {}
    for domain in failed:
        groups.setdefault(domain.error_group or domain.name, []).append(domain)
    return [_failure_line(group) for group in groups.values()]


def _broken(result: OrderRun | PromoteRun, *, quiet: bool) -> list[str]:
    """Return the errors in files that are no domain's own, a line each."""
    told = [one.finding for one in result.broken_files if one.is_news or not quiet]
    return [printable(f"{finding}; {finding.hint}", 2000) for finding in told]


def _files_told(result: OrderRun | PromoteRun) -> tuple[str, ...]:
    return *_broken(result, quiet=True), *result.mended


def _failure_line(group: list[OrderOutcome]) -> str:
    first = group[0]
    names = first.name
    if len(group) > 1:
        names = f"{first.name} and {len(group) - 1} more"
    hint = f"; {first.error.hint}" if first.error and first.error.hint else ""
    again = f"; next try {local(first.next_try)}" if first.next_try else ""
    word = "failed" if first.outcome is Ordered.FAILED else first.outcome
    return f"{names}: {word}: {first.detail}{hint}{again}"


def promote_lines(result: PromoteRun, *, quiet: bool) -> list[str]:
    """Return the lines of promote without the failures."""
    shown = [
        domain
        for domain in result.domains
        if domain.outcome in {Promoted.PROMOTED, Promoted.NOTHING_STAGED}
        and not domain.is_not_served
    ]
    if quiet:
        shown = [domain for domain in shown if domain.outcome is Promoted.PROMOTED]
    lines = [*result.mended, *(_promotion_line(domain) for domain in shown)]
    if not quiet:
        lines += _reload_lines(result)
    return lines


def _promotion_line(domain: PromotionOutcome) -> str:
    return f"{domain.name}: {domain.outcome}: {domain.detail}"


def _reload_lines(result: PromoteRun) -> list[str]:
    promoted = any(domain.outcome is Promoted.PROMOTED for domain in result.domains)
    match result.reload:
        case Reload.RELOADED:
            return ["Apache: reloaded gracefully"]
        case Reload.NOT_RUNNING:
            return ["Apache is not running; the sets are served from its next start on"]
        case Reload.NOT_REQUESTED if promoted:
            return ["the sets go live at the next reload of Apache by anybody, or with --reload"]
        case _:
            return []


def _promote_failures(result: PromoteRun, *, quiet: bool) -> list[str]:
    lines = []
    for domain in result.domains:
        good = domain.outcome in {Promoted.PROMOTED, Promoted.NOTHING_STAGED}
        if (good and not domain.is_not_served) or (quiet and not domain.is_news):
            continue
        hint = f"; {domain.error.hint}" if domain.error and domain.error.hint else ""
        lines.append(f"{_promotion_line(domain)}{hint}")
    refused = result.reload in {Reload.REFUSED, Reload.FAILED}
    if refused and (result.reload_is_news or not quiet):
        lines.append(f"Apache: reload {result.reload}: {result.reload_detail}")
    return lines


def revoke_lines(result: RevocationRun, *, quiet: bool) -> list[str]:
    """Return the lines of revoke without the failures, and what is to be done now."""
    done = [domain for domain in result.domains if domain.outcome is Revoked.REVOKED]
    lines = [_revocation_line(domain) for domain in done]
    if not quiet:
        lines += [domain.next_step for domain in result.domains if domain.next_step]
    return lines


def _revocation_line(domain: RevocationOutcome) -> str:
    return f"{domain.name}: {domain.outcome}: {domain.detail}"


def _revocation_failures(result: RevocationRun) -> list[str]:
    return [
        _revocation_line(domain)
        + (f"; {domain.error.hint}" if domain.error and domain.error.hint else "")
        for domain in result.domains
        if domain.outcome is Revoked.FAILED
    ]
