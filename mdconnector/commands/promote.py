"""promote: make staged sets live, and have Apache serve them where a reload is wished for."""

from __future__ import annotations

from collections.abc import Sequence

from mdconnector.commands.loading import Clock, Load, Say, open_store, select
from mdconnector.commands.mending import take_stock_and_mend, waiting
from mdconnector.deployment import ReloadWish, deploy, nothing_to_promote
from mdconnector.outcomes.promote import PromoteRun
from mdconnector.store.lock import run_lock
from mdconnector.telling import tell_of_promotion, untold


def promote_sets(
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
    configuration = load_now()
    domains = select(configuration, names)
    with open_store(configuration) as store:
        if store is None:
            run = nothing_to_promote(domains, by_name=bool(names), wish=wish)
            return run._replace(broken_files=untold(configuration.ownerless_errors))
        with run_lock(
            store, wait_seconds=lock_wait_seconds, command="promote", on_wait=waiting(say)
        ):
            stocks, repairs = take_stock_and_mend(configuration, store, domains, clock())
            run = deploy(
                stocks,
                store=store,
                configuration=configuration,
                wish=wish,
                force=force,
                clock=clock,
                steps=say,
            )
            run = run._replace(by_name=bool(names), repairs=repairs + run.repairs)
            return tell_of_promotion(run, store, configuration.ownerless_errors, stocks, clock())
