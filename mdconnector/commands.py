"""The five subcommands: read the configuration, take stock, act, return the result.

Rules: reading comes before writing, and all NAMEs are checked before anything is done. enroll,
renew and promote hold the run lock and begin by finishing what a killed run has begun. Only
`order` talks to a CA, and only where something is due: what that needs is imported then.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mdconnector.errors import StoreError, UsageError
from mdconnector.httpd.configuration import (
    MAIN_FILES,
    PID_FILES,
    Configuration,
    evaluate_as_httpd,
    find_domain,
    load_configuration,
    was_read_as,
)
from mdconnector.httpd.directives import Directive
from mdconnector.httpd.doctor import examine, pastes
from mdconnector.httpd.process import arguments_that_count, default_httpd, find_running
from mdconnector.httpd.tree import tree_of
from mdconnector.managed_domain import (
    Finding,
    ManagedDomain,
    RenewMode,
    Severity,
    VirtualHost,
    is_dns_name,
)
from mdconnector.notifications import tell_what_time_brings
from mdconnector.outcomes import (
    NotLive,
    Ordered,
    OrderOutcome,
    OrderRun,
    PromoteRun,
    ScanResult,
    StatusResult,
)
from mdconnector.overview import most_urgent_first, status_of
from mdconnector.planning import Command, Job, PlanOptions, Rules, plan, sort_jobs
from mdconnector.renewal import is_expiring
from mdconnector.stock import Stock, questions, take_stock
from mdconnector.store.directories import is_known_to_offer
from mdconnector.store.live import staging_changed_at
from mdconnector.store.lock import run_lock
from mdconnector.store.recovery import recover, repair
from mdconnector.store.staging import STAGING, set_aside
from mdconnector.store.tree import Store
from mdconnector.telling import tell_of_order, tell_of_promotion, untold

if TYPE_CHECKING:
    from mdconnector.deployment import ReloadWish

Say = Callable[[str], None]
Load = Callable[[], Configuration]
Clock = Callable[[], datetime]

OLD_STAGED_SET = timedelta(days=1)
WATCHDOG_AT_WORK = timedelta(minutes=15)
_WITH_ROOM_IN_STAGING = frozenset({Ordered.CURRENT, Ordered.BACKING_OFF})
"""of the domains that nothing is ordered for, those whose staging is ours to keep in order"""
_MACHINE_ID = Path("/etc/machine-id")


def load(
    *, config: Path | None, sites: Path | None, store: Path | None, httpd: Path | None
) -> Configuration:
    """Read Apache's configuration, as the httpd that runs it was started.

    Where the PidFile is, and so which httpd runs, is known only once that was read. In the usual
    place it is guessed, and read again only where the guess was wrong.
    """

    def read(started: _Started) -> Configuration:
        return load_configuration(
            config=config,
            sites=sites,
            store=store,
            environment=os.environ,
            parent_arguments=started.arguments,
            parent_environment=started.environment,
            httpd=started.httpd,
        )

    is_usual = sites is None and config in (None, *MAIN_FILES)
    guess = _started(PID_FILES if is_usual else (), httpd)
    configuration = read(guess)
    truth = _started((configuration.pid_file,), httpd)
    if truth.httpd == guess.httpd and was_read_as(configuration, truth.arguments):
        return configuration
    return read(truth)


@dataclass(frozen=True, slots=True)
class _Started:
    """How an httpd was started, as far as its configuration depends on it."""

    httpd: Path | None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = field(default=None, repr=False)


def _started(pid_files: Iterable[Path | None], httpd: Path | None) -> _Started:
    found = (find_running(pid_file, httpd=httpd) for pid_file in pid_files)
    running = next((one for one in found if one is not None), None)
    if running is None:
        return _Started(default_httpd(httpd, None))
    with running:
        program, arguments = default_httpd(httpd, running), arguments_that_count(running)
        if {"-D", "-C", "-c", "-d"}.isdisjoint(arguments):
            return _Started(program)
        return _Started(program, arguments, running.environment or None)


def scan(
    configuration: Configuration,
    names: Sequence[str],
    now: datetime,
    *,
    shows_tree: bool = False,
    asked_httpd: Path | None = None,
) -> ScanResult:
    """Show what the configuration declares, and what is wrong with it.

    `asked_httpd` is the binary that is asked whether it sees the same.
    """
    domains = select(configuration, names)
    findings = _findings(configuration, now)
    if names:
        chosen = {domain.name for domain in domains}
        findings = tuple(finding for finding in findings if finding.domain in chosen)
    differences = _verify(configuration, asked_httpd)
    return ScanResult(
        domains=domains,
        findings=(*findings, *(differences or ())),
        assumptions=configuration.assumptions,
        who_renews=_who_renews(configuration),
        store_path=str(configuration.store_path),
        candidates=() if configuration.domains else _candidates(configuration),
        pastes=pastes(configuration, domains),
        tree=tree_of(_directives_in_force(configuration)) if shows_tree else None,
        agrees=None if differences is None else not differences,
    )


def _verify(configuration: Configuration, httpd: Path | None) -> tuple[Finding, ...] | None:
    if httpd is None:
        return None
    from mdconnector.httpd.verification import verify

    return verify(configuration, httpd)


def httpd_to_ask(configuration: Configuration, httpd: Path | None) -> Path:
    """Return the binary to compare a configuration with. Raises UsageError where there is none."""
    if configuration.main_file is None:
        raise UsageError(
            "--verify asks Apache, which reads a main file and no mere folder of sites",
            hint="name it with --config FILE",
        )
    running = find_running(configuration.pid_file, httpd=httpd)
    found = default_httpd(httpd, running)
    if running is not None:
        running.close()
    if found is None:
        raise UsageError(
            f"there is no executable to ask: {httpd or 'none in the usual places'}",
            hint="name its executable with --httpd FILE",
        )
    return found


def _findings(configuration: Configuration, now: datetime) -> tuple[Finding, ...]:
    """Return what was found while reading, what does not fit together, and what the disk shows."""
    from mdconnector.examination import examine_disk

    found = (*configuration.findings, *examine(configuration))
    try:
        with _open_store(configuration, read_only=True) as store:
            return (*found, *examine_disk(configuration, store, now))
    except StoreError as error:
        hint = error.hint or "see docs/store.md"
        damage = Finding("store", Severity.ERROR, error.path, error.message, hint)
        return (*found, *examine_disk(configuration, None, now), damage)


def _directives_in_force(configuration: Configuration) -> tuple[Directive, ...]:
    if not configuration.assumed:
        return configuration.directives
    return evaluate_as_httpd(configuration).directives


def status(configuration: Configuration, names: Sequence[str], now: datetime) -> StatusResult:
    """Show every domain's certificates, most urgent first."""
    domains = select(configuration, names)
    try:
        with _open_store(configuration, read_only=True) as store:
            stocks = take_stock(store, domains, now, failover=configuration.retry_failover)
    except StoreError as error:
        # status tells how things stand, and this is how they stand for each domain
        stocks = tuple(
            replace(one, trouble=error)
            for one in take_stock(None, domains, now, failover=configuration.retry_failover)
        )
    return StatusResult(most_urgent_first([status_of(stock) for stock in stocks]), now)


def order(
    command: Command,
    load_now: Load,
    *,
    names: Sequence[str],
    force: bool,
    dry_run: bool,
    rules: Rules,
    clock: Clock,
    say: Say,
) -> OrderRun:
    """Do the whole ACME job, up to complete sets in staging."""
    configuration = load_now()
    domains = select(configuration, names)
    options = PlanOptions(command, by_name=bool(names), force=force)
    if dry_run:
        with _open_store(configuration, read_only=True) as store:
            stocks = take_stock(store, domains, clock(), failover=configuration.retry_failover)
            plans = _plan_all(configuration, store, stocks, options)
            run = _order_run(options, _rehearse(store, plans, clock), (), clock())
            return replace(run, broken_files=untold(configuration.ownerless_errors))
    with _open_store(configuration, create=bool(domains)) as store:
        if store is None:
            run = _order_run(options, [], (), clock())
            return replace(run, broken_files=untold(configuration.ownerless_errors))
        with run_lock(
            store, wait_seconds=rules.lock_wait_seconds, command=command, on_wait=_waiting(say)
        ):
            stocks, repairs = _take_stock_and_mend(configuration, store, domains, clock())
            if command == "renew":
                stocks = _ask_when_to_renew(store, stocks, rules, clock)
                stocks, lines = tell_what_time_brings(
                    stocks, store=store, configuration=configuration
                )
                repairs += lines
            plans = _plan_all(configuration, store, stocks, options)
            repairs += _clear_staging(store, stocks, plans)
            outcomes = _work_off(configuration, store, plans, rules, clock)
            run = _order_run(options, outcomes, repairs, clock())
            return tell_of_order(run, store, configuration.ownerless_errors, stocks, clock())


def _ask_when_to_renew(
    store: Store, stocks: tuple[Stock, ...], rules: Rules, clock: Clock
) -> tuple[Stock, ...]:
    """Have the CAs asked (ARI) where it is time to; most runs load and send nothing."""
    urls = {one.domain.effective_ca_urls[0] for one in stocks if questions(one)}
    offering = {url for url in urls if is_known_to_offer(store, url, "renewalInfo")}
    if not offering:
        return stocks
    from mdconnector.suggestions import ask_when_to_renew

    return ask_when_to_renew(stocks, offering, store=store, clock=clock, jobs=rules.jobs)


def _plan_all(
    configuration: Configuration,
    store: Store | None,
    stocks: Sequence[Stock],
    options: PlanOptions,
) -> list[Job | OrderOutcome]:
    apache_runs = _apache_runs(configuration)
    return [
        plan(
            stock,
            options,
            watchdog_since=_watchdog_since(configuration, store, stock, apache_runs),
        )
        for stock in stocks
    ]


def _work_off(
    configuration: Configuration,
    store: Store,
    plans: Sequence[Job | OrderOutcome],
    rules: Rules,
    clock: Clock,
) -> list[OrderOutcome]:
    """Do the jobs among the plans, most urgent first; outcomes come in the plans' order."""
    jobs = sort_jobs(one for one in plans if isinstance(one, Job))
    outcomes = {one.name: one for one in plans if isinstance(one, OrderOutcome)}
    if jobs:
        # The only place that needs httpx and josepy: an idle run never loads them.
        from mdconnector.ordering import order_certificates

        done = order_certificates(
            jobs, store=store, configuration=configuration, rules=rules, clock=clock
        )
        outcomes |= {outcome.name: outcome for outcome in done}
    return [outcomes[_name_of(one)] for one in plans]


def _rehearse(
    store: Store | None, plans: Sequence[Job | OrderOutcome], clock: Clock
) -> list[OrderOutcome]:
    """Say what would be done; the CA is asked only what changes nothing."""
    jobs = [one for one in plans if isinstance(one, Job)]
    outcomes = {one.name: one for one in plans if isinstance(one, OrderOutcome)}
    if jobs:
        from mdconnector.ordering import rehearse

        outcomes |= {one.name: one for one in rehearse(jobs, store=store, clock=clock)}
    return [outcomes[_name_of(one)] for one in plans]


def _name_of(plan_or_outcome: Job | OrderOutcome) -> str:
    if isinstance(plan_or_outcome, Job):
        return plan_or_outcome.stock.domain.name
    return plan_or_outcome.name


def _order_run(
    options: PlanOptions,
    outcomes: Sequence[OrderOutcome],
    repairs: tuple[str, ...],
    now: datetime,
) -> OrderRun:
    staged = [one for one in outcomes if one.outcome is Ordered.STAGED]
    new = sum(one.is_change for one in outcomes)
    oldest = min((one.staged_since for one in staged if one.staged_since), default=None)
    is_old = oldest is not None and now - oldest > OLD_STAGED_SET
    return OrderRun(
        command=options.command,
        domains=tuple(outcomes),
        not_live=NotLive(len(staged) + new, oldest, is_old),
        by_name=options.by_name,
        repairs=repairs,
    )


def promote(
    load_now: Load,
    *,
    names: Sequence[str],
    wish: ReloadWish,
    force: bool,
    lock_wait_seconds: float,
    clock: Clock,
    say: Say,
) -> PromoteRun:
    """Make staged sets live, and have Apache serve them where a reload is wished for."""
    from mdconnector.deployment import deploy, nothing_to_promote

    configuration = load_now()
    domains = select(configuration, names)
    with _open_store(configuration) as store:
        if store is None:
            run = nothing_to_promote(domains, by_name=bool(names), wish=wish)
            return replace(run, broken_files=untold(configuration.ownerless_errors))
        with run_lock(
            store, wait_seconds=lock_wait_seconds, command="promote", on_wait=_waiting(say)
        ):
            stocks, repairs = _take_stock_and_mend(configuration, store, domains, clock())
            run = deploy(
                stocks,
                store=store,
                configuration=configuration,
                wish=wish,
                force=force,
                clock=clock,
            )
            run = replace(run, by_name=bool(names), repairs=repairs + run.repairs)
            return tell_of_promotion(run, store, configuration.ownerless_errors, stocks, clock())


def _take_stock_and_mend(
    configuration: Configuration,
    store: Store,
    domains: Sequence[ManagedDomain],
    now: datetime,
) -> tuple[tuple[Stock, ...], tuple[str, ...]]:
    """Finish what killed runs have begun, repair damaged live sets, and look at each domain.

    Returns a line for each repair. What could not be mended is the trouble of its domain.
    """
    recovery = recover(store, configuration.domains, now)
    lines, failures = list(recovery.lines), dict(recovery.failures)
    stocks = take_stock(store, domains, now, failover=configuration.retry_failover)
    damaged = [stock.domain for stock in stocks if any(one.fault for one in stock.live)]
    for domain in damaged:
        try:
            line = repair(store, domain, now)
            lines += [line] if line else []
        except StoreError as error:
            failures.setdefault(domain.name, error)
    if damaged:
        stocks = take_stock(store, domains, now, failover=configuration.retry_failover)
    named = {domain.name for domain in domains}
    lines += (str(error) for name, error in failures.items() if name not in named)
    troubled = tuple(
        replace(stock, trouble=stock.trouble or failures.get(stock.domain.name)) for stock in stocks
    )
    return troubled, tuple(lines)


def select(configuration: Configuration, names: Sequence[str]) -> tuple[ManagedDomain, ...]:
    """Return the domains that are meant: all, or those that the NAMEs name or are covered by."""
    if not names:
        return configuration.domains
    return tuple(dict.fromkeys(find_domain(configuration, name) for name in names))


def splay(seconds: float) -> float:
    """Return this machine's constant part of `seconds`: a fleet must not ask the CA at once."""
    try:
        identity = _MACHINE_ID.read_bytes()
    except OSError:
        identity = os.uname().nodename.encode()
    digest = hashlib.sha256(b"mdconnector splay " + identity).digest()
    return seconds * int.from_bytes(digest[:8]) / 2**64


@contextmanager
def _open_store(
    configuration: Configuration, *, create: bool = False, read_only: bool = False
) -> Iterator[Store | None]:
    user, group = configuration.user, configuration.group
    store = Store.open(
        configuration.store_path,
        httpd_user_uid=user.number if user else None,
        httpd_group_gid=group.number if group else None,
        mod_md_loaded=configuration.mod_md_loaded,
        create=create,
        read_only=read_only,
    )
    if store is None:
        yield None
        return
    with store:
        yield store


def _waiting(say: Say) -> Say:
    return lambda holder: say(f"waiting for {holder}")


def _apache_runs(configuration: Configuration) -> bool:
    running = find_running(configuration.pid_file)
    if running is None:
        return False
    running.close()
    return True


def _watchdog_since(
    configuration: Configuration, store: Store | None, stock: Stock, apache_runs: bool
) -> datetime | None:
    """Return since when mod_md's watchdog is at work on a domain that can wait for it."""
    domain = stock.domain
    concerned = (
        apache_runs and configuration.mod_md_loaded and domain.renew_mode is not RenewMode.MANUAL
    )
    if store is None or not concerned or is_expiring(domain, stock.live, stock.now):
        return None
    changed = staging_changed_at(store, domain.name)
    if changed is None or stock.now - changed > WATCHDOG_AT_WORK:
        return None
    return changed


def _clear_staging(
    store: Store, stocks: Sequence[Stock], plans: Sequence[Job | OrderOutcome]
) -> tuple[str, ...]:
    """Set aside what can never go live, unless a new set is about to take its place in one step.

    Beside a good live set nothing is ordered, but mod_md would activate even an expired one.
    """
    lines = []
    for stock, one in zip(stocks, plans, strict=True):
        if isinstance(one, OrderOutcome) and one.outcome not in _WITH_ROOM_IN_STAGING:
            continue
        path, why = _unfit(store, stock, is_replaced=isinstance(one, Job))
        if why:
            aside = set_aside(store, STAGING, stock.domain.name, why)
            lines.append(f"{path}: {why}; set aside as {aside}")
    return tuple(lines)


def _unfit(store: Store, stock: Stock, *, is_replaced: bool) -> tuple[str, str]:
    """Return the path of what has to leave staging, and why; empty where nothing has."""
    if stock.rubbish is not None:
        return stock.rubbish.path, stock.rubbish.why
    fault = stock.found.staged.fault if stock.found else None
    if fault is None or is_replaced:
        return "", ""
    return str(store.path / STAGING / stock.domain.name), fault


def _who_renews(configuration: Configuration) -> str:
    if not configuration.domains:
        return "no managed domain is declared, so there is nothing to renew"
    beside = [domain.name for domain in configuration.domains if domain.renewed_by == "mod_md"]
    if not beside:
        return "who renews: mdconnector alone"
    shown = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
    return (
        f"who renews: mod_md's watchdog too, for {shown}, and mdconnector works beside it; "
        "with 'MDRenewMode manual' mdconnector alone renews"
    )


def _candidates(configuration: Configuration) -> tuple[VirtualHost, ...]:
    seen: dict[str, VirtualHost] = {}
    for vhost in configuration.vhosts:
        if is_dns_name(vhost.server_name.lower()):
            seen.setdefault(vhost.server_name.lower(), vhost)
    return tuple(seen.values())
