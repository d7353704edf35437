"""Many domains side by side: the pool, the one deadline, the back-off, and each domain's outcome.

Rules: a run has two phases. First every due domain, most urgent first, is taken as far as it
goes without waiting; then all open orders are asked in turn until one deadline. What is still
open then is kept, and taken up by the next run. One domain's failure never stops another.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from mdconnector.acme.advice import fill_name
from mdconnector.authorities import Accounts, Clock, Sessions, look_for_account
from mdconnector.challenges import ChallengeSite
from mdconnector.enrollment import Complete, Enrollment, Progress, Waiting, Wish
from mdconnector.errors import CaError, CaUnreachableError, MdConnectorError, StoreError
from mdconnector.httpd.configuration import Configuration
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import ExternalAccount, ManagedDomain
from mdconnector.notifications import (
    ERRORED,
    RENEWED,
    RENEWING,
    Notifier,
    Programs,
    untold_renewal,
)
from mdconnector.outcomes.order import Ordered, OrderOutcome
from mdconnector.planning import Job, Rules, in_trouble, news, planned, told_key
from mdconnector.printable import printable
from mdconnector.renewal import (
    Attempt,
    LastError,
    Reason,
    after_failure,
    digest_of,
    is_as_wished,
    is_comfortable,
    needs_enrolling,
    renews_at,
)
from mdconnector.steps import Phase, Step, Steps, unheard
from mdconnector.stock import describe_keys, local_time
from mdconnector.store.accounts import find_accounts
from mdconnector.store.attempts import AttemptRecord, Run, UntoldRenewal, save_attempt
from mdconnector.store.live import issuing_ca
from mdconnector.store.tree import Store

BYTES_FOR_ONE_SET = 64 * 1024


class Vetoed(NamedTuple):
    """A program of the administrator's has said no before anything was done."""

    why: str


Ending = Progress | MdConnectorError | Vetoed


def order_certificates(
    jobs: Sequence[Job],
    *,
    store: Store,
    configuration: Configuration,
    rules: Rules,
    clock: Clock,
    steps: Steps = unheard,
) -> tuple[OrderOutcome, ...]:
    """Obtain and stage certificates for all jobs; one outcome each, in the order of the jobs.

    What became of each domain is durable in attempts/ when it returns. Raises StoreError before
    the first request where the new sets would not fit on the disk.
    """
    store.check_space(BYTES_FOR_ONE_SET * len(jobs))
    asked = jobs
    jobs, blocked = _with_sound_accounts(asked, store)
    sessions = Sessions(store, clock)
    accounts = Accounts(store, sessions, configuration.domains)
    try:
        programs = Programs.of(configuration)
        enrollments = [
            _enrollment(
                job,
                store,
                accounts,
                configuration,
                Notifier(job.stock.domain.name, programs, job.stock.record.messages, clock()),
                steps=steps,
            )
            for job in jobs
        ]
        done = _Run(enrollments, jobs, store, configuration, rules, steps).outcomes(clock)
        outcomes = {outcome.name: outcome for outcome in (*blocked, *done)}
        return tuple(outcomes[job.stock.domain.name] for job in asked)
    finally:
        sessions.close()


def _with_sound_accounts(jobs: Sequence[Job], store: Store) -> tuple[list[Job], list[OrderOutcome]]:
    """Part the jobs from those whose stored account is damaged: for these nobody is asked."""
    sound: list[Job] = []
    blocked: list[OrderOutcome] = []
    known: dict[tuple[str, ExternalAccount | None], StoreError | None] = {}
    for job in jobs:
        key = (job.stock.ca_url, job.stock.domain.eab)
        if key not in known:
            known[key] = _account_error(store, *key)
        error = known[key]
        if error is None:
            sound.append(job)
        else:
            blocked.append(in_trouble(job.stock, error)._replace(error_group=str(error)))
    return sound, blocked


def _account_error(store: Store, ca_url: str, eab: ExternalAccount | None) -> StoreError | None:
    try:
        find_accounts(store, ca_url, eab)
    except StoreError as error:
        return error
    return None


def rehearse(jobs: Sequence[Job], *, store: Store | None, clock: Clock) -> tuple[OrderOutcome, ...]:
    """Say what would be done, having asked each CA only for what it tells without any change."""
    sessions = Sessions(store, clock)
    try:
        return tuple(_rehearsed(job, store, sessions, clock()) for job in jobs)
    finally:
        sessions.close()


def _rehearsed(job: Job, store: Store | None, sessions: Sessions, now: datetime) -> OrderOutcome:
    domain = job.stock.domain
    outcome = planned(job)
    try:
        begins = look_for_account(store, sessions, domain, job.stock.ca_url)
    except MdConnectorError as error:
        return outcome._replace(
            outcome=Ordered.FAILED,
            detail=printable(str(error), 1000),
            error=last_error_of(error, domain, now),
            error_group=_group_of(error),
        )
    return outcome._replace(detail=f"{outcome.detail}, {begins}")


def _enrollment(
    job: Job,
    store: Store,
    accounts: Accounts,
    configuration: Configuration,
    notifier: Notifier,
    *,
    steps: Steps,
) -> Enrollment:
    wish = Wish(
        job.stock.domain,
        job.stock.ca_url,
        live=job.stock.serving,
        replaces=_replaced_by(job, store),
        order_anew=job.order_anew,
        revoked=job.stock.record.revoked,
        despite_clock=Reason.FORCED in job.reasons,
    )
    return Enrollment(
        wish,
        store=store,
        accounts=accounts,
        site=_site(configuration),
        clock=accounts.sessions.clock,
        notifier=notifier,
        steps=steps,
    )


def _replaced_by(job: Job, store: Store) -> dict[KeySpec, str]:
    """Return the ARI ids of the certificates that new ones take the place of, at the same CA."""
    if not job.stock.domain.ari_renewals:
        return {}
    issuer = issuing_ca(store, job.stock.domain.name)
    if issuer is not None and issuer != job.stock.ca_url:
        return {}
    return {one.spec: one.facts.ari_id for one in job.stock.live if one.facts and one.facts.ari_id}


def _site(configuration: Configuration) -> ChallengeSite:
    return ChallengeSite(
        mod_md_loaded=configuration.mod_md_loaded,
        listens=tuple(
            listen.address
            for listen in configuration.listens
            if not listen.protocol or listen.protocol.startswith("http")
        ),
        vhosts=configuration.servers,
        http_port=configuration.http_port,
        https_port=configuration.https_port,
        dns01_version=configuration.dns01_version,
        server_key_specs=configuration.server_key_specs,
    )


class _Run:
    """The two phases of one run."""

    def __init__(
        self,
        enrollments: Sequence[Enrollment],
        jobs: Sequence[Job],
        store: Store,
        configuration: Configuration,
        rules: Rules,
        steps: Steps,
    ) -> None:
        self._steps = steps
        self._enrollments = enrollments
        self._jobs = jobs
        self._store = store
        self._configuration = configuration
        self._rules = rules
        self._waiting: dict[int, Waiting] = {}
        self._ask_at: dict[int, float] = {}
        self._outcomes: dict[int, OrderOutcome] = {}

    def outcomes(self, clock: Clock) -> tuple[OrderOutcome, ...]:
        """Bring every enrollment to its end, or up to the deadline."""
        numbers = range(len(self._enrollments))
        for enrollment in self._enrollments:
            self._steps(Step(enrollment.domain.name, "waits for its turn", Phase.QUEUED))
        with ThreadPoolExecutor(self._rules.jobs, thread_name_prefix="domain") as pool:
            for future in [pool.submit(self._advance, number, clock) for number in numbers]:
                future.result()
            self._poll(pool, time.monotonic() + self._rules.wait_seconds, clock)
        for number, waiting in self._waiting.items():
            self._outcomes[number] = self._conclude(number, waiting, clock())
        return tuple(self._outcomes[number] for number in numbers)

    def _advance(self, number: int, clock: Clock) -> None:
        """Take one domain as far as it goes; what became of it is durable at once."""
        ending = _advance(self._enrollments[number], is_begun=number in self._waiting)
        if isinstance(ending, Waiting):
            self._ask_at[number] = time.monotonic() + ending.pause_seconds
            self._waiting[number] = ending
            name = self._enrollments[number].domain.name
            self._steps(Step(name, "waits for the CA", Phase.WAITING))
            return
        self._waiting.pop(number, None)
        self._outcomes[number] = self._conclude(number, ending, clock())

    def _conclude(self, number: int, ending: Ending, now: datetime) -> OrderOutcome:
        notifier = self._enrollments[number].notifier
        outcome = _conclude(
            self._jobs[number], ending, self._store, self._configuration, notifier, now
        )
        has_failed = outcome.outcome is Ordered.FAILED
        self._steps(Step(outcome.name, outcome.outcome, Phase.DONE, has_failed=has_failed))
        return outcome

    def _poll(self, pool: ThreadPoolExecutor, deadline: float, clock: Clock) -> None:
        """Ask for each open order when its pause is over; one that is slow holds up no other."""
        queue = [(self._ask_at[number], number) for number in self._waiting]
        heapq.heapify(queue)
        asked: dict[Future[None], int] = {}
        while queue or asked:
            now = time.monotonic()
            while queue and queue[0][0] <= now < deadline and len(asked) < self._rules.jobs:
                _, number = heapq.heappop(queue)
                asked[pool.submit(self._advance, number, clock)] = number
            if asked:
                full = now >= deadline or not queue or len(asked) == self._rules.jobs
                pause = None if full else max(queue[0][0] - now, 0)
                done, _ = wait(asked, timeout=pause, return_when=FIRST_COMPLETED)
                for future in done:
                    number = asked.pop(future)
                    future.result()
                    if number in self._waiting:
                        heapq.heappush(queue, (self._ask_at[number], number))
            elif now >= deadline:
                return
            else:
                time.sleep(max(min(queue[0][0], deadline) - now, 0))


def _advance(enrollment: Enrollment, *, is_begun: bool) -> Ending:
    veto = "" if is_begun else enrollment.notifier.tell(RENEWING)
    if veto:
        return Vetoed(veto)
    try:
        return enrollment.advance()
    except MdConnectorError as error:
        try:
            enrollment.abandon()
        except MdConnectorError:
            # The first error is the one to tell; the next run takes the rest away.
            return error
        return error


def _conclude(
    job: Job,
    ending: Ending,
    store: Store,
    configuration: Configuration,
    notifier: Notifier,
    now: datetime,
) -> OrderOutcome:
    """Turn what became of a domain into its outcome, tell of it, and remember it."""
    match ending:
        case Complete():
            outcome, record = _completed(job, ending, now)
            notifier.begin_set()
            _note_untold(job, record, store, notifier, now)
            veto = notifier.tell(RENEWED)
            if veto:
                untold = untold_renewal(None, veto, retry_delay=configuration.retry_delay, now=now)
                notifier.remarks.append(f"{veto}; it is told again")
                record = record._replace(untold=untold)
        case Waiting():
            outcome, record = _still_waiting(job, ending, now)
        case Vetoed():
            outcome, record = _vetoed(job, ending, now), job.stock.record
        case _:
            outcome, record = _failed(job, ending, configuration.retry_delay, now)
            refused = notifier.tell(ERRORED)
            notifier.remarks += [refused] if refused else []
    record = record._replace(messages=notifier.told)
    if notifier.remarks:
        detail = printable(f"{outcome.detail}; note: {'; '.join(notifier.remarks)}", 1000)
        outcome = outcome._replace(detail=detail)
    try:
        save_attempt(store, job.stock.domain.name, record)
    except MdConnectorError as error:
        return outcome._replace(detail=f"{outcome.detail}; and it could not be noted: {error}")
    return outcome


def _note_untold(
    job: Job, record: AttemptRecord, store: Store, notifier: Notifier, now: datetime
) -> None:
    """Remember that programs are to hear of a set, lest a run is killed meanwhile."""
    if not notifier.has_programs:
        return
    untold = UntoldRenewal(0, now, "the run ended while they were told")
    # where this cannot be noted, neither can the outcome, which tells of it
    with suppress(StoreError):
        save_attempt(
            store,
            job.stock.domain.name,
            record._replace(messages=notifier.told, untold=untold),
        )


def _completed(job: Job, ending: Complete, now: datetime) -> tuple[OrderOutcome, AttemptRecord]:
    domain = job.stock.domain
    is_due_at_once = any(renews_at(domain, one) <= now for one in ending.certificates)
    word = Ordered.ENROLLED if needs_enrolling(job.reasons) else Ordered.RENEWED
    until = min(facts.not_after for facts in ending.certificates)
    detail = (
        f"{describe_keys(ending.certificates)}, {len(domain.names)} "
        f"name{'s' if len(domain.names) > 1 else ''}, valid until {local_time(until)}; staged"
    )
    if ending.warnings:
        detail += f"; note: {printable('; '.join(ending.warnings))}"
    outcome = OrderOutcome(
        domain.name,
        word,
        detail,
        reasons=job.reasons,
        certificates=ending.certificates,
        renew_at=min(renews_at(domain, facts) for facts in ending.certificates),
    )
    record = job.stock.record._replace(
        attempt=Attempt(),
        told=None,
        untold=None,
        settled_digest="" if is_as_wished(domain, ending.certificates) else digest_of(domain),
        settled_window=str(domain.renew_window) if is_due_at_once else "",
        last_success=now,
    )
    return outcome, record.with_run(Run(now, job.command, word, detail))


def _vetoed(job: Job, ending: Vetoed, now: datetime) -> OrderOutcome:
    """Leave the domain to the next run: no error is counted, as in mod_md."""
    stock = job.stock
    since = stock.record.attempt.failing_since
    return OrderOutcome(
        stock.domain.name,
        Ordered.SKIPPED,
        printable(f"not renewed in this run: {ending.why}", 1000),
        reasons=job.reasons,
        is_comfortable=is_comfortable(stock.domain, stock.live, waiting_since=since, now=now),
    )


def _still_waiting(job: Job, ending: Waiting, now: datetime) -> tuple[OrderOutcome, AttemptRecord]:
    stock = job.stock
    comfortable = is_comfortable(stock.domain, stock.live, waiting_since=ending.since, now=now)
    since = local_time(ending.since)
    detail = f"the CA is still working on the order of {since}; the next run takes it up"
    is_news, told = news(stock.record, f"pending {ending.order_url}", now)
    outcome = OrderOutcome(
        stock.domain.name,
        Ordered.PENDING,
        detail,
        reasons=job.reasons,
        is_comfortable=comfortable,
        is_news=is_news,
    )
    attempt = Attempt(ca_url=stock.ca_url)
    return outcome, stock.record._replace(attempt=attempt, told=None if comfortable else told)


def _failed(
    job: Job, error: MdConnectorError, retry_delay: timedelta, now: datetime
) -> tuple[OrderOutcome, AttemptRecord]:
    stock = job.stock
    domain = stock.domain
    retry_after = error.retry_after_seconds if isinstance(error, CaError) else None
    attempt = after_failure(
        stock.record.attempt._replace(ca_url=stock.ca_url),
        domain,
        stock.live,
        error=last_error_of(error, domain, now),
        error_class=error.error_class,
        retry_delay=retry_delay,
        retry_after=timedelta(seconds=retry_after) if retry_after is not None else None,
        jitter=random.random(),  # noqa: S311 - spreads load, guards nothing
    )
    is_news, told = news(stock.record, told_key(attempt.last_error), now)
    outcome = OrderOutcome(
        domain.name,
        Ordered.FAILED,
        printable(str(error), 1000),
        reasons=job.reasons,
        next_try=attempt.next_try,
        error=attempt.last_error,
        is_news=is_news,
        error_group=_group_of(error),
    )
    record = stock.record._replace(attempt=attempt, told=told)
    return outcome, record.with_run(Run(now, job.command, Ordered.FAILED, outcome.detail))


def _group_of(error: MdConnectorError) -> str:
    """Return what domains share whose failure has one cause outside of them."""
    concerns_all = isinstance(error, CaUnreachableError) or (
        isinstance(error, CaError) and error.stops_account
    )
    return str(error) if concerns_all else ""


def last_error_of(error: MdConnectorError, domain: ManagedDomain, now: datetime) -> LastError:
    """Return an error as it is kept and shown."""
    hint = fill_name(domain.locate(error.hint), domain.name) if error.hint else None
    return LastError(error.type, printable(str(error), 1000), hint, now)
