"""Results as plain lines that cut, grep and mail well; JSON is `result_json`'s.

Rules: no box characters, no colour (that is mdconnector.terminal's); one line per domain; times
are local with their zone. Everything foreign has been through `printable` before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mdconnector.account_text import account_failures, account_line, account_lines
from mdconnector.errors import LockedError, MdConnectorError
from mdconnector.managed_domain import Finding, ManagedDomain, VirtualHost
from mdconnector.outcomes import (
    AccountAction,
    AccountRun,
    BrokenFile,
    Ordered,
    OrderOutcome,
    OrderRun,
    Paste,
    Promoted,
    PromoteRun,
    PromotionOutcome,
    Reload,
    Result,
    RevocationOutcome,
    RevocationRun,
    Revoked,
    ScanResult,
    StatusResult,
    TreeEntry,
)
from mdconnector.printable import escaped, printable
from mdconnector.status_text import in_full_lines, local, status_lines

OLD_LOCK_SECONDS = 6 * 3600


class Style(NamedTuple):
    """How a result is to be shown."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    terminal: bool = False
    color: bool = True


def render(result: Result, style: Style) -> str:
    """Return what belongs on stdout."""
    if style.as_json:
        from mdconnector import result_json

        return result_json.render(result)
    match result:
        case ScanResult():
            lines = scan_lines(result, style)
        case OrderRun():
            lines = order_lines(result, style)
        case PromoteRun():
            lines = promote_lines(result, style)
        case StatusResult():
            lines = [] if style.quiet else _status_lines(result)
        case RevocationRun():
            lines = revoke_lines(result, style)
        case AccountRun():
            lines = account_lines(result, quiet=style.quiet)
    return "".join(f"{line}\n" for line in lines)


def _status_lines(result: StatusResult) -> list[str]:
    """Return the table; in place of it, where domains were named, all about each of them."""
    if any(domain.in_full is None for domain in result.domains) or not result.domains:
        return status_lines(result)
    return list(in_full_lines(result))


def render_failures(result: Result, style: Style) -> str:
    """Return what belongs on stderr: one line per repair and per failure."""
    match result:
        case OrderRun():
            lines = [*result.repairs, *_order_failures(result, style), *_broken(result, style)]
        case PromoteRun():
            lines = [*result.repairs, *_promote_failures(result, style), *_broken(result, style)]
        case RevocationRun():
            lines = _revocation_failures(result)
        case AccountRun():
            lines = account_failures(result)
        case _:
            lines = []
    return "".join(f"{line}\n" for line in lines)


def describe_error(error: MdConnectorError) -> str:
    """Return an error that ended the run, as one or two lines for stderr."""
    text = f"mdconnector: error: {error}\n"
    return text + (f"mdconnector: hint: {error.hint}\n" if error.hint else "")


def is_silent(error: MdConnectorError, *, quiet: bool) -> bool:
    """Say whether -q swallows this error: another run at work is no news until it hangs."""
    if not quiet or not isinstance(error, LockedError):
        return False
    return error.age_seconds is None or error.age_seconds < OLD_LOCK_SECONDS


def journal_lines(result: Result) -> tuple[str, ...]:
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


def scan_lines(result: ScanResult, style: Style) -> list[str]:
    """Return the lines of scan: who renews, the domains, then the findings.

    A tree, where it is asked for, stands in place of all but the findings.
    """
    lines: list[str] = []
    if result.tree is not None:
        lines += tree_lines(result.tree)
    elif not style.quiet:
        lines += [result.who_renews, f"store: {result.store_path}"]
        lines += [f"assumed: {text}" for text in result.assumptions]
        lines += [line for domain in result.domains for line in _domain_lines(domain)]
        lines += _candidate_lines(result.candidates)
        lines += paste_lines(result.pastes)
    lines += [finding_line(finding) for finding in result.findings]
    if result.agrees and not style.quiet:
        lines.append(AGREES)
    return lines


AGREES = "verified: Apache itself reads the same"


def tree_lines(entries: Iterable[TreeEntry], depth: int = 0) -> Iterator[str]:
    """Return a line for each directive: its place, indented by its depth name and arguments."""
    for entry in entries:
        used_at = "".join(f" used at {place}" for place in entry.at.used_at)
        name = f"<{entry.name}" if entry.is_section else entry.name
        text = f"{name} {entry.args}".rstrip() + (">" if entry.is_section else "")
        yield escaped(f"{entry.at}{used_at}: {'  ' * depth}{text}")
        yield from tree_lines(entry.children, depth + 1)


SHOWN_PASTES = 5


def paste_lines(pastes: Sequence[Paste]) -> list[str]:
    """Return the lines to put into virtual hosts, ready to be copied."""
    lines = []
    for paste in pastes[:SHOWN_PASTES]:
        lines.append(f"put into the virtual host of {paste.domain} at {paste.vhost_at}:")
        lines += [f"    {line}" for line in paste.lines]
    if len(pastes) > SHOWN_PASTES:
        lines.append(
            f"and likewise for {len(pastes) - SHOWN_PASTES} more: mdconnector scan NAME shows them"
        )
    return lines


def _domain_lines(domain: ManagedDomain) -> Iterable[str]:
    keys = ", ".join(spec.label for spec in domain.key_specs)
    yield f"{domain.name}  {keys}  {domain.effective_ca_urls[0]}  ({domain.declared_at})"
    if len(domain.names) > 1:
        yield f"    also {', '.join(domain.names[1:])}"
    if not domain.used:
        yield "    no vhost uses it"


def _candidate_lines(candidates: Sequence[VirtualHost]) -> list[str]:
    if not candidates:
        return []
    lines = ["no managed domain is declared; these virtual hosts could be managed:"]
    lines += [
        f"    {vhost.server_name} ({vhost.declared_at}): add 'MDomain {vhost.server_name}' above it"
        for vhost in candidates
    ]
    return lines


def finding_line(finding: Finding) -> str:
    """Return a finding as one line: severity, place, what is wrong, what to do, code."""
    place = f"{finding.at}: " if finding.at else ""
    return printable(
        f"{finding.severity}: {place}{finding.message}; {finding.hint} [{finding.code}]", 2000
    )


def order_lines(result: OrderRun, style: Style) -> list[str]:
    """Return the lines of enroll and renew without the failures."""
    shown = [domain for domain in result.domains if domain.outcome is not Ordered.FAILED]
    if style.quiet:
        shown = [domain for domain in shown if domain.is_change]
    lines = [*result.mended, *(_order_line(domain) for domain in shown)]
    if not style.quiet and not result.domains:
        lines.append("no managed domain is declared; see 'mdconnector scan'")
    if result.not_live.sets and (not style.quiet or result.not_live.is_old):
        lines.append(_not_live_line(result))
    return lines


def _order_line(domain: OrderOutcome) -> str:
    return f"{domain.name}: {domain.outcome}: {domain.detail}"


def _not_live_line(result: OrderRun) -> str:
    count = result.not_live.sets
    sets = "1 staged set is" if count == 1 else f"{count} staged sets are"
    since = f" (the oldest since {local(result.not_live.oldest)})" if result.not_live.oldest else ""
    return f"{sets} not live{since}; make live: mdconnector promote --all --reload"


def _order_failures(result: OrderRun, style: Style) -> list[str]:
    failed = [domain for domain in result.domains if domain.has_failed]
    if style.quiet:
        failed = [domain for domain in failed if domain.is_news]
    groups: dict[str, list[OrderOutcome]] = {}
    for domain in failed:
        groups.setdefault(domain.error_group or domain.name, []).append(domain)
    return [_failure_line(group) for group in groups.values()]


def _broken(result: OrderRun | PromoteRun, style: Style) -> list[str]:
    """Return the errors in files that are no domain's own, a line each."""
    told = [one for one in result.broken_files if one.is_news or not style.quiet]
    return [_broken_line(one) for one in told]


def _broken_line(broken: BrokenFile) -> str:
    finding = broken.finding
    return printable(f"{finding.at}: {finding.message}; {finding.hint}", 2000)


def _files_told(result: OrderRun | PromoteRun) -> tuple[str, ...]:
    return *_broken(result, Style(quiet=True)), *result.mended


def _failure_line(group: list[OrderOutcome]) -> str:
    first = group[0]
    names = first.name
    if len(group) > 1:
        names = f"{first.name} and {len(group) - 1} more"
    hint = f"; {first.error.hint}" if first.error and first.error.hint else ""
    again = f"; next try {local(first.next_try)}" if first.next_try else ""
    word = "failed" if first.outcome is Ordered.FAILED else first.outcome
    return f"{names}: {word}: {first.detail}{hint}{again}"


def promote_lines(result: PromoteRun, style: Style) -> list[str]:
    """Return the lines of promote without the failures."""
    shown = [
        domain
        for domain in result.domains
        if domain.outcome in {Promoted.PROMOTED, Promoted.NOTHING_STAGED}
        and not domain.is_not_served
    ]
    if style.quiet:
        shown = [domain for domain in shown if domain.outcome is Promoted.PROMOTED]
    lines = [*result.mended, *(_promotion_line(domain) for domain in shown)]
    if not style.quiet:
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


def _promote_failures(result: PromoteRun, style: Style) -> list[str]:
    lines = []
    for domain in result.domains:
        good = domain.outcome in {Promoted.PROMOTED, Promoted.NOTHING_STAGED}
        if (good and not domain.is_not_served) or (style.quiet and not domain.is_news):
            continue
        hint = f"; {domain.error.hint}" if domain.error and domain.error.hint else ""
        lines.append(f"{_promotion_line(domain)}{hint}")
    refused = result.reload in {Reload.REFUSED, Reload.FAILED}
    if refused and (result.reload_is_news or not style.quiet):
        lines.append(f"Apache: reload {result.reload}: {result.reload_detail}")
    return lines


def revoke_lines(result: RevocationRun, style: Style) -> list[str]:
    """Return the lines of revoke without the failures, and what is to be done now."""
    done = [domain for domain in result.domains if domain.outcome is Revoked.REVOKED]
    lines = [_revocation_line(domain) for domain in done]
    if not style.quiet:
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
