"""Make staged sets live and have Apache serve them: the only place where store meets httpd.

Rules: everything is checked before anything is swapped; all swaps are one burst while httpd
rests; then comes one reload, and the question what is served now. Only positive proof of harm
undoes anything. A reload is owed, without any mark on disk, while what is live is newer than
what Apache took up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from mdconnector.candidates import Candidate, failed, last_error_of, nothing_at_all, sort_out
from mdconnector.errors import (
    ErrorClass,
    HttpdError,
    MdConnectorError,
    StoreBusyError,
    StoreError,
)
from mdconnector.httpd import process, reloading
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.process import RunningHttpd
from mdconnector.httpd.programs import split_command
from mdconnector.httpd.reloading import ReloadOutcome
from mdconnector.managed_domain import ManagedDomain
from mdconnector.notifications import INSTALLED, Notifier, Programs
from mdconnector.outcomes.promote import Promoted, PromoteRun, PromotionOutcome, Reload, Served
from mdconnector.planning import news, told_key
from mdconnector.printable import printable
from mdconnector.proof import Target, Witness, describe
from mdconnector.readiness import reason_not_to_reload
from mdconnector.renewal import after_failure
from mdconnector.served import Answers, Comparison
from mdconnector.steps import Phase, Step, Steps, unheard
from mdconnector.stock import Stock, describe_keys, local_time
from mdconnector.store import attempts, promotion
from mdconnector.store.tree import Store


class ReloadWish(NamedTuple):
    """What the command line says about reloading Apache."""

    wanted: bool
    command: str | None = None
    httpd: Path | None = None


def nothing_to_promote(
    domains: Iterable[ManagedDomain], *, by_name: bool, wish: ReloadWish
) -> PromoteRun:
    """Return the result where there is no store at all."""
    outcomes = tuple(
        PromotionOutcome(
            domain.name, Promoted.NOTHING_STAGED, nothing_at_all(domain.name), is_missing=True
        )
        for domain in domains
    )
    reload = Reload.NOT_NEEDED if wish.wanted else Reload.NOT_REQUESTED
    return PromoteRun(outcomes, reload, by_name=by_name)


def deploy(
    stocks: Sequence[Stock],
    *,
    store: Store,
    configuration: Configuration,
    wish: ReloadWish,
    force: bool,
    clock: Callable[[], datetime],
    steps: Steps = unheard,
) -> PromoteRun:
    """Promote what is staged, and do the one reload that this, or an earlier change, asks for."""
    sorted_out = [sort_out(store, stock, force=force) for stock in stocks]
    candidates = [one for one in sorted_out if isinstance(one, Candidate)]
    others = {one.name: one for one in sorted_out if isinstance(one, PromotionOutcome)}
    running = process.find_running(configuration.pid_file, httpd=wish.httpd)
    with running or nullcontext():
        run = _Deployment(store, configuration, wish, running, clock, steps).run(candidates, stocks)
    _remember_telling(store, others.values(), stocks)
    told = _tell_of_installed(run.domains, store, configuration, clock())
    for outcome in told:
        harmed = outcome.outcome is Promoted.FAILED or outcome.is_not_served
        steps(Step(outcome.name, outcome.outcome, Phase.DONE, has_failed=harmed))
    outcomes = others | {outcome.name: outcome for outcome in told}
    ordered = tuple(outcomes[stock.domain.name] for stock in stocks)
    return run._replace(domains=ordered)


def _tell_of_installed(
    outcomes: Iterable[PromotionOutcome], store: Store, configuration: Configuration, now: datetime
) -> list[PromotionOutcome]:
    """Tell the administrator's programs of the sets that are live and stay so."""
    programs = Programs.of(configuration)
    return [
        _told_of(outcome, programs, store, now) if outcome.outcome is Promoted.PROMOTED else outcome
        for outcome in outcomes
    ]


def _told_of(
    outcome: PromotionOutcome, programs: Programs, store: Store, now: datetime
) -> PromotionOutcome:
    if programs.message is None:
        return outcome
    record = attempts.load_attempt(store, outcome.name)
    notifier = Notifier(outcome.name, programs, record.messages, now)
    refused = notifier.tell(INSTALLED)
    remarks = [*notifier.remarks, *([refused] if refused else [])]
    changed = record._replace(messages=notifier.told, untold=None)
    if changed != record:
        attempts.save_attempt(store, outcome.name, changed)
    if not remarks:
        return outcome
    return outcome._replace(detail=printable(f"{outcome.detail}; {'; '.join(remarks)}", 1000))


def _remember_telling(
    store: Store, outcomes: Iterable[PromotionOutcome], stocks: Iterable[Stock]
) -> None:
    """Keep when a failure was told, so that under -q it is told again only after a day."""
    records = {stock.domain.name: stock.record for stock in stocks if stock.trouble is None}
    for outcome in outcomes:
        record = records.get(outcome.name)
        if outcome.outcome is Promoted.FAILED and outcome.is_news and record is not None:
            now = outcome.error.at if outcome.error else datetime.now(UTC)
            _, told = news(record, told_key(outcome.error), now)
            attempts.save_attempt(store, outcome.name, record._replace(told=told))


class _Deployment:
    """One promotion of any number of sets, up to what Apache shows afterwards."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        wish: ReloadWish,
        running: RunningHttpd | None,
        clock: Callable[[], datetime],
        steps: Steps,
    ) -> None:
        self._steps = steps
        self._store = store
        self._configuration = configuration
        self._wish = wish
        self._running = running
        self._clock = clock
        self._stocks: dict[str, Stock] = {}
        self._witness = Witness(store, configuration, clock)

    def run(self, candidates: Sequence[Candidate], stocks: Sequence[Stock]) -> PromoteRun:
        """Check, swap, reload, ask. Domains about which there is nothing to say have no outcome."""
        self._stocks = {stock.domain.name: stock for stock in stocks}
        staged = {candidate.name for candidate in candidates}
        owing = [
            Target(stock.domain, stock.serving)
            for stock in stocks
            if stock.domain.name not in staged and self._owes(stock)
        ]
        if not candidates and not owing:
            reload = Reload.NOT_NEEDED if self._wish.wanted else Reload.NOT_REQUESTED
            return PromoteRun((), reload, by_name=False)
        names = [candidate.name for candidate in candidates]
        self._say(names, "verified")
        if self._reloads:
            self._say(names, "looking whether Apache may be reloaded")
        refusal = self._refusal(candidates) if self._reloads else None
        if refusal is not None:
            return self._all_wait(candidates, refusal, Reload.REFUSED)
        new = [Target(candidate.stock.domain, candidate.facts) for candidate in candidates]
        before = self._witness.ask([*new, *owing]) if self._reloads else {}
        outcomes, promoted = self._swap(candidates)
        if promoted is None:
            reload = Reload.REFUSED if self._wish.wanted else Reload.NOT_REQUESTED
            return self._all_wait(candidates, _no_rest(), reload)
        live = [*(target for target in new if target.name in promoted), *owing]
        if not live or not self._wish.wanted:
            reload = Reload.NOT_NEEDED if self._wish.wanted else Reload.NOT_REQUESTED
            return PromoteRun(tuple(outcomes.values()), reload, by_name=False)
        return self._reload_and_ask(outcomes, live, promoted, before)

    def _say(self, names: Iterable[str], words: str) -> None:
        for name in names:
            self._steps(Step(name, words))

    @property
    def _reloads(self) -> bool:
        """Say whether this run will reload something."""
        return self._wish.wanted and (self._running is not None or self._wish.command is not None)

    def _refusal(self, candidates: Sequence[Candidate]) -> HttpdError | None:
        try:
            if self._wish.command is not None:
                split_command(self._wish.command)
            elif self._running is not None:
                process.require_access(self._running)
        except HttpdError as error:
            return error
        credentials = {candidate.name: candidate.credentials for candidate in candidates}
        return reason_not_to_reload(
            self._configuration, self._running, self._store.path / "domains", credentials
        )

    def _all_wait(
        self, candidates: Sequence[Candidate], why: MdConnectorError, reload: Reload
    ) -> PromoteRun:
        detail = printable(f"{why}; {why.hint}" if why.hint else str(why), 1000)
        waiting = tuple(self._waits(candidate, why) for candidate in candidates)
        is_news = any(outcome.is_news for outcome in waiting) or not waiting
        return PromoteRun(
            waiting, reload, by_name=False, reload_detail=detail, reload_is_news=is_news
        )

    def _waits(self, candidate: Candidate, why: MdConnectorError) -> PromotionOutcome:
        now = self._clock()
        error = last_error_of(why, now)
        record = attempts.load_attempt(self._store, candidate.name)
        is_news, told = news(record, told_key(error), now)
        if is_news:
            attempts.save_attempt(self._store, candidate.name, record._replace(told=told))
        return PromotionOutcome(
            candidate.name,
            Promoted.WAITING,
            f"the set waits in staging: {error.detail}",
            certificates=candidate.facts,
            error=error,
            is_news=is_news,
        )

    # --- the swap ----------------------------------------------------------------------------

    def _swap(
        self, candidates: Sequence[Candidate]
    ) -> tuple[dict[str, PromotionOutcome], dict[str, promotion.Swapped] | None]:
        """Swap all sets in one burst; None in second place where Apache never rested."""
        outcomes: dict[str, PromotionOutcome] = {}
        prepared = []
        for candidate in candidates:
            try:
                prepared.append(self._prepare(candidate))
            except MdConnectorError as error:
                outcomes[candidate.name] = failed(candidate.stock, error)
        if not prepared:
            return outcomes, {}
        self._say((one.name for one in prepared), "waiting for Apache to rest, to swap it in")
        swapped = self._swap_at_rest([one.name for one in prepared])
        if swapped is None:
            promotion.discard(self._store, prepared)
            return outcomes, None
        by_name = {candidate.name: candidate for candidate in candidates}
        promoted = {}
        for name, result in swapped.items():
            match result:
                case StoreBusyError():
                    outcomes[name] = self._waits(by_name[name], result)
                case StoreError():
                    outcomes[name] = failed(by_name[name].stock, result)
                case _:
                    promoted[name] = result
        disturbed = [one for one in prepared if one.name not in swapped]
        if disturbed:
            promotion.discard(self._store, disturbed)
            for one in disturbed:
                outcomes[one.name] = self._waits(by_name[one.name], _no_rest())
        notes = promotion.finish(self._store, promoted)
        for one in prepared:
            if one.name in promoted:
                moved = tuple(f"{name} went to the archive" for name in one.left_behind)
                remarks = (*moved, *notes.get(one.name, ()))
                outcomes[one.name] = self._promoted(by_name[one.name], remarks)
        return outcomes, promoted

    def _prepare(self, candidate: Candidate) -> promotion.Prepared:
        self._say([candidate.name], "assembling the set")
        return promotion.prepare(
            self._store,
            candidate.stock.domain,
            candidate.credentials,
            ca_url=candidate.ca_url,
            account_id=candidate.account_id,
            now=self._clock(),
        )

    def _swap_at_rest(
        self, names: Sequence[str]
    ) -> dict[str, promotion.Swapped | StoreError] | None:
        running = self._running
        if running is None:
            return promotion.swap(self._store, names)
        deadline = time.monotonic() + reloading.IDLE_LIMIT_SECONDS
        still = reloading.Stillness(running)
        done: dict[str, promotion.Swapped | StoreError] = {}
        while (left := deadline - time.monotonic()) > 0:
            if not reloading.wait_idle(running, limit_seconds=left):
                break
            rest = [name for name in names if name not in done]
            done |= (
                promotion.swap(self._store, rest, is_idle=still.begins, is_still=still.lasts) or {}
            )
            if len(done) == len(names):
                break
        return done or None

    def _promoted(self, candidate: Candidate, notes: tuple[str, ...]) -> PromotionOutcome:
        now = self._clock()
        until = min(facts.not_after for facts in candidate.facts)
        detail = f"{describe_keys(candidate.facts)}, valid until {local_time(until)}"
        remarks = [*candidate.warnings, *notes]
        if remarks:
            detail += f"; note: {printable('; '.join(remarks))}"
        record = attempts.load_attempt(self._store, candidate.name)
        run = attempts.Run(now, "promote", Promoted.PROMOTED, detail)
        attempts.save_attempt(self._store, candidate.name, record._replace(told=None).with_run(run))
        return PromotionOutcome(
            candidate.name, Promoted.PROMOTED, detail, certificates=candidate.facts
        )

    # --- reload, and ask again ---------------------------------------------------------------

    def _reload_and_ask(
        self,
        outcomes: dict[str, PromotionOutcome],
        live: Sequence[Target],
        promoted: dict[str, promotion.Swapped],
        before: Answers,
    ) -> PromoteRun:
        if not self._reloads:
            self._forget_pending(live)
            return PromoteRun(tuple(outcomes.values()), Reload.NOT_RUNNING, by_name=False)
        names = [target.name for target in live]
        self._say(names, "Apache is reloaded")
        result = reloading.reload(self._running, command=self._wish.command)
        match result.outcome:
            case ReloadOutcome.NOT_RUNNING | ReloadOutcome.STOPPED:
                self._forget_pending(live)
                return PromoteRun(tuple(outcomes.values()), Reload.NOT_RUNNING, by_name=False)
            case ReloadOutcome.COMMAND_FAILED:
                return self._not_reloaded(outcomes, live, result.detail)
            case ReloadOutcome.DIED | ReloadOutcome.TIMED_OUT:
                return self._roll_back(outcomes, promoted, result.outcome, result.detail)
        self._say(names, "asking Apache what it serves")
        comparisons = self._witness.compare(live, before)
        if any(one.served is Served.OLD for one in comparisons.values()):
            self._reload_again()
            comparisons = self._witness.compare(live, before)
        harmed = [name for name, one in comparisons.items() if one.harmed]
        if harmed and promoted:
            where = ", ".join(str(one) for name in harmed for one in comparisons[name].harmed)
            why = f"after the reload {where} completes no handshake any more"
            return self._roll_back(outcomes, promoted, ReloadOutcome.RELOADED, why)
        for target in live:
            outcomes[target.name] = self._judged(
                target, outcomes.get(target.name), comparisons[target.name]
            )
        return PromoteRun(tuple(outcomes.values()), Reload.RELOADED, by_name=False)

    def _reload_again(self) -> None:
        """Reload once more; a reload command may have put another parent in the old one's place."""
        running = process.find_running(self._configuration.pid_file, httpd=self._wish.httpd)
        with running or nullcontext():
            reloading.reload(running, command=self._wish.command)

    def _not_reloaded(
        self, outcomes: dict[str, PromotionOutcome], live: Sequence[Target], why: str
    ) -> PromoteRun:
        """Keep what was promoted: no reload took place, so it harmed nobody, and is still owed."""
        error = last_error_of(HttpdError(why, hint="see --reload-command"), self._clock())
        for target in live:
            if target.name in outcomes:
                outcomes[target.name] = outcomes[target.name]._replace(
                    served=Served.OLD, error=error
                )
        return PromoteRun(tuple(outcomes.values()), Reload.FAILED, by_name=False, reload_detail=why)

    def _roll_back(
        self,
        outcomes: dict[str, PromotionOutcome],
        promoted: dict[str, promotion.Swapped],
        ended: ReloadOutcome,
        why: str,
    ) -> PromoteRun:
        """Put the sets of this run back, and start the httpd that this reload has ended."""
        now = self._clock()
        problems = promotion.put_back(self._store, promoted.values(), reason=why, now=now)
        repairs = []
        if ended is ReloadOutcome.DIED and self._running is not None:
            repairs.append(_start_again(self._running))
        else:
            self._reload_again()
        for name in promoted:
            stock = self._stocks[name]
            outcomes[name] = self._rolled_back(outcomes[name], stock, why, problems.get(name))
        return PromoteRun(
            tuple(outcomes.values()),
            Reload.FAILED,
            by_name=False,
            reload_detail=printable(why, 1000),
            repairs=tuple(repairs),
        )

    def _rolled_back(
        self, outcome: PromotionOutcome, stock: Stock, why: str, problem: StoreError | None
    ) -> PromotionOutcome:
        """Count the attempt as failed: what Apache refused must not be ordered again every hour."""
        hint = (
            "see Apache's error log; the set lies in the store's mdconnector/refused; "
            f"once mended: mdconnector promote {outcome.name} --reload --force"
        )
        now = self._clock()
        error = last_error_of(HttpdError(why, hint=hint), now)
        record = attempts.load_attempt(self._store, outcome.name)
        attempt = after_failure(
            record.attempt,
            stock.domain,
            stock.live,
            error=error,
            error_class=ErrorClass.NEEDS_HUMAN,
            retry_delay=self._configuration.retry_delay,
        )
        run = attempts.Run(now, "promote", Promoted.ROLLED_BACK, error.detail)
        attempts.save_attempt(
            self._store, outcome.name, record._replace(attempt=attempt).with_run(run)
        )
        detail = f"the old set was put back: {error.detail}"
        if problem is not None:
            detail = f"the old set could not be put back ({problem}): {error.detail}"
        return outcome._replace(
            outcome=Promoted.ROLLED_BACK,
            detail=printable(detail, 1000),
            error=error,
        )

    def _judged(
        self, target: Target, outcome: PromotionOutcome | None, comparison: Comparison
    ) -> PromotionOutcome:
        """Say what Apache shows for one domain now, and remember it."""
        self._witness.conclude(target, comparison.served)
        outcome = outcome or PromotionOutcome(
            target.name, Promoted.NOTHING_STAGED, "a reload was owed", certificates=target.facts
        )
        words, error = describe(comparison, self._clock())
        return outcome._replace(
            detail=f"{outcome.detail}; {words}", served=comparison.served, error=error
        )

    def _forget_pending(self, live: Sequence[Target]) -> None:
        for target in live:
            self._witness.conclude(target, Served.UNCHECKED)

    def _owes(self, stock: Stock) -> bool:
        if not self._wish.wanted or self._running is None:
            return False
        return self._witness.is_owed(stock, self._running)


def _no_rest() -> HttpdError:
    return HttpdError(
        "Apache did not come to rest within 10 s, so nothing was swapped",
        hint="the next run tries again",
    )


def _start_again(ended: RunningHttpd) -> str:
    """Start the httpd that a reload has ended; return how that went."""
    try:
        successor = reloading.start_again(ended)
    except HttpdError as error:
        return f"Apache could not be started again: {error}; start it by hand"
    if successor is None:
        return "Apache could not be started again; start it by hand"
    with successor:
        return f"Apache was started again as process {successor.pid}"
