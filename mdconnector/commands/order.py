"""enroll and renew: do the whole ACME job, up to complete sets in staging.

Rules: nothing live is changed, but for what recovery mends. Only what is due imports what talks to
a CA: an idle run loads neither httpx nor josepy, sends nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from mdconnector.commands.loading import Clock, Load, Say, open_store, select
from mdconnector.commands.mending import take_stock_and_mend, waiting
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.process import find_running
from mdconnector.managed_domain import RenewMode
from mdconnector.notifications import tell_what_time_brings
from mdconnector.outcomes.order import Ordered, OrderOutcome, OrderRun
from mdconnector.planning import (
    Command,
    Job,
    PlanOptions,
    Rules,
    not_live_after,
    plan,
    sort_jobs,
)
from mdconnector.renewal import is_expiring
from mdconnector.stock import Stock, questions, take_stock
from mdconnector.store.directories import is_known_to_offer
from mdconnector.store.lock import run_lock
from mdconnector.store.staged import staging_changed_at
from mdconnector.store.staging import STAGING, set_aside
from mdconnector.store.tree import Store
from mdconnector.telling import tell_of_order, untold
from mdconnector.this_host import machine_digest

WATCHDOG_AT_WORK = timedelta(minutes=15)
_WITH_ROOM_IN_STAGING = frozenset({Ordered.CURRENT, Ordered.BACKING_OFF})
"""of the domains that nothing is ordered for, those whose staging is ours to keep in order"""


def order_what_is_due(
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
        with open_store(configuration, read_only=True) as store:
            stocks = take_stock(store, domains, clock(), failover=configuration.retry_failover)
            plans = _plan_all(configuration, store, stocks, options)
            run = _order_run(options, _rehearse(store, plans, clock), (), stocks, clock())
            return run._replace(broken_files=untold(configuration.ownerless_errors))
    with open_store(configuration, create=bool(domains)) as store:
        if store is None:
            run = _order_run(options, [], (), (), clock())
            return run._replace(broken_files=untold(configuration.ownerless_errors))
        with run_lock(
            store, wait_seconds=rules.lock_wait_seconds, command=command, on_wait=waiting(say)
        ):
            stocks, repairs = take_stock_and_mend(configuration, store, domains, clock())
            if command == "renew":
                stocks = _ask_when_to_renew(store, stocks, rules, clock)
                stocks, lines = tell_what_time_brings(
                    stocks, store=store, configuration=configuration
                )
                repairs += lines
            plans = _plan_all(configuration, store, stocks, options)
            repairs += _clear_staging(store, stocks, plans)
            outcomes = _work_off(configuration, store, plans, rules, clock, say)
            run = _order_run(options, outcomes, repairs, stocks, clock())
            return tell_of_order(run, store, configuration.ownerless_errors, stocks, clock())


def _ask_when_to_renew(
    store: Store, stocks: tuple[Stock, ...], rules: Rules, clock: Clock
) -> tuple[Stock, ...]:
    """Have the CAs asked (ARI) where it is time to; most runs load and send nothing."""
    urls = {url for one in stocks if questions(one) for url in one.domain.effective_ca_urls}
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
    say: Say,
) -> list[OrderOutcome]:
    """Do the jobs among the plans, most urgent first; outcomes come in the plans' order."""
    jobs = sort_jobs(one for one in plans if isinstance(one, Job))
    outcomes = {one.name: one for one in plans if isinstance(one, OrderOutcome)}
    if jobs:
        # The only place that needs httpx and josepy: an idle run never loads them.
        from mdconnector.ordering import order_certificates

        done = order_certificates(
            jobs,
            store=store,
            configuration=configuration,
            rules=rules,
            clock=clock,
            steps=say,
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
    stocks: Sequence[Stock],
    now: datetime,
) -> OrderRun:
    return OrderRun(
        command=options.command,
        domains=tuple(outcomes),
        not_live=not_live_after(outcomes, stocks, now),
        by_name=options.by_name,
        repairs=repairs,
    )


def splay_of_this_machine(seconds: float) -> float:
    """Return this machine's constant part of `seconds`: a fleet must not ask the CA at once."""
    return seconds * int.from_bytes(machine_digest("splay")[:8]) / 2**64


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
