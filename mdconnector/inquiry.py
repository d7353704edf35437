"""Look at one managed domain closely, for `status NAME`: its chains, its account, Apache itself.

Rules: reads only, takes no lock, contacts no CA; Apache is asked by handshakes on this host. What
cannot be read is told in words: the rest is shown all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mdconnector.errors import StoreError
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.process import find_running
from mdconnector.outcomes.order import Ordered
from mdconnector.outcomes.promote import Served
from mdconnector.outcomes.status import DomainStatus, ServedSummary
from mdconnector.particulars import (
    AccountInUse,
    ChainLink,
    LiveChain,
    NextStep,
    Particulars,
    PastRun,
    Shown,
)
from mdconnector.planning import Job, PlanOptions, plan
from mdconnector.printable import printable
from mdconnector.proof import Target, Witness
from mdconnector.served import Answer, Comparison, compare
from mdconnector.stock import Stock, local_time
from mdconnector.store.accounts import find_accounts
from mdconnector.store.live import read_live_chains
from mdconnector.store.tree import Store

_SHOWN_CHAIN_NAMES = 500


def look_closely(
    row: DomainStatus,
    stock: Stock,
    *,
    store: Store,
    configuration: Configuration,
    clock: Callable[[], datetime],
) -> DomainStatus:
    """Return the row of a domain with all particulars, and with what Apache serves now."""
    target = Target(stock.domain, stock.serving)
    witness = Witness(store, configuration, clock)
    answers = witness.ask([target])
    comparison = compare(answers, before={}, after=answers, expected=target.fingerprints)
    served = None
    if stock.serving:
        apache_runs = _apache_runs(configuration)
        served = _served_now(comparison, clock(), apache_runs=apache_runs)
    account, trouble = _account(store, stock)
    row = row._replace(served=served or row.served)
    return row._replace(
        in_full=Particulars(
            chains=tuple(_chains(store, stock)),
            account=account,
            account_trouble=trouble,
            next_step=_next_step(stock, row),
            runs=tuple(
                PastRun(
                    run.at,
                    printable(run.command),
                    printable(run.outcome),
                    printable(run.detail, 1000),
                )
                for run in stock.record.runs
            ),
            shown=tuple(
                _shown(answer, target.fingerprints)
                for answer in (one for group in answers.values() for one in group)
            ),
        ),
    )


def _apache_runs(configuration: Configuration) -> bool:
    running = find_running(configuration.pid_file)
    if running is not None:
        running.close()
    return running is not None


def _chains(store: Store, stock: Stock) -> Iterator[LiveChain]:
    if stock.trouble is not None:
        return
    for facts, chain in read_live_chains(store, stock.domain):
        names = tuple(printable(name) for name in facts.names)
        yield LiveChain(facts.key_label, names, tuple(_link(one) for one in chain))


def _link(certificate: x509.Certificate) -> ChainLink:
    return ChainLink(
        printable(certificate.subject.rfc4514_string(), _SHOWN_CHAIN_NAMES),
        printable(certificate.issuer.rfc4514_string(), _SHOWN_CHAIN_NAMES),
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _account(store: Store, stock: Stock) -> tuple[AccountInUse | None, str]:
    """Return the account that the next order uses, or why it is not known."""
    try:
        found = find_accounts(store, stock.ca_url, stock.domain.eab)
    except StoreError as error:
        return None, printable(str(error))
    for account, _ in found:
        kid = None if account.eab_kid is None else printable(account.eab_kid)
        return AccountInUse(account.id, printable(account.url), printable(account.ca_url), kid), ""
    return None, ""


def _served_now(
    comparison: Comparison, now: datetime, *, apache_runs: bool
) -> ServedSummary | None:
    match comparison.served:
        case Served.NEW:
            return ServedSummary(True, "Apache serves it (asked just now)", now)
        case Served.OLD:
            first = comparison.stale[0]
            words = f"{first.endpoint} shows serial {first.serial}, which is not what is stored"
            return ServedSummary(False, words, now)
        case Served.NONE:
            lost = comparison.lost[0]
            words = printable(f"{lost.endpoint} shows no certificate: {lost.fault}")
            # where no Apache is known to run, nobody can be expected to answer
            return ServedSummary(False if apache_runs else None, words, now)
        case Served.UNCHECKED:
            return None


def _shown(answer: Answer, stored: tuple[str, ...]) -> Shown:
    endpoint = answer.endpoint
    return Shown(
        endpoint.address,
        endpoint.port,
        endpoint.server_name,
        endpoint.at,
        answer.key_label,
        serial=answer.serial,
        sha256=answer.sha256,
        is_stored=None if answer.sha256 is None else answer.sha256 in stored,
        fault=None if answer.fault is None else printable(answer.fault),
    )


def _next_step(stock: Stock, row: DomainStatus) -> NextStep:
    """Say what `renew --all` or `promote --all --reload` will do about the domain, and when."""
    name = stock.domain.name
    planned = plan(stock, PlanOptions("renew", by_name=False))
    if isinstance(planned, Job):
        return NextStep(_words_for_job(planned), stock.now)
    match planned.outcome:
        case Ordered.STAGED:
            return NextStep(
                "the staged set goes live: mdconnector promote --all --reload", stock.now
            )
        case Ordered.BACKING_OFF:
            words = f"it is tried again; at once with: mdconnector renew {name}"
            return NextStep(words, planned.next_try)
        case Ordered.FAILED:
            hint = f"; {planned.error.hint}" if planned.error and planned.error.hint else ""
            return NextStep(f"nothing is ordered until this is mended: {planned.detail}{hint}")
        case Ordered.CURRENT if row.served is not None and row.served.is_stored is False:
            return NextStep(
                "Apache is to be reloaded: mdconnector promote --all --reload", stock.now
            )
        case Ordered.CURRENT:
            return NextStep(
                "the next 'mdconnector renew --all' from then on renews it", planned.renew_at
            )
        case _:
            return NextStep(f"nothing: {planned.detail}")


def _words_for_job(job: Job) -> str:
    stock = job.stock
    if stock.pending_since is not None:
        return (
            f"the next 'mdconnector renew --all' takes up the order of "
            f"{local_time(stock.pending_since)}"
        )
    return (
        f"the next 'mdconnector renew --all' orders new certificates at {stock.ca_url} "
        f"({', '.join(job.reasons)})"
    )
