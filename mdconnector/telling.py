"""Decide what -q tells of failures that no order and no promotion remembers.

Rules: a failure is told when it begins, when it changes, once a day, and when it ends. Files with
errors are known to all commands; a domain that its own lines or folders keep from being worked on
is known to enroll and renew, and they alone say when that has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from mdconnector.managed_domain import Finding
from mdconnector.outcomes.order import BrokenFile, Ordered, OrderOutcome, OrderRun
from mdconnector.outcomes.promote import Promoted, PromoteRun, PromotionOutcome
from mdconnector.planning import news, told_key
from mdconnector.stock import Stock
from mdconnector.store.attempts import save_attempt
from mdconnector.store.tellings import About, Tellings
from mdconnector.store.tree import Store


def tell_of_order(
    run: OrderRun, store: Store, errors: Sequence[Finding], stocks: Iterable[Stock], now: datetime
) -> OrderRun:
    """Add the files with errors, and what has ended; mark what is no news. Writes what it tells."""
    tellings = Tellings.load(store)
    by_name = {stock.domain.name: stock for stock in stocks}
    broken, mended = _tell_files(tellings, errors, now)
    domains = tuple(
        _tell_ordered(one, by_name[one.name], store, tellings, now) for one in run.domains
    )
    blocked = {one.name for one in domains if _is_blocked(one, by_name[one.name])}
    ended = tellings.forget(
        About.DOMAINS,
        lambda name: name not in blocked and (name in by_name or not run.by_name),
    )
    mended += tuple(
        f"{name}: mended: it can be worked on again" for name in ended if name in by_name
    )
    tellings.save()
    return run._replace(domains=domains, broken_files=broken, mended=mended)


def tell_of_promotion(
    run: PromoteRun, store: Store, errors: Sequence[Finding], stocks: Iterable[Stock], now: datetime
) -> PromoteRun:
    """Do the same for promote, which says of no domain that its failure has ended."""
    tellings = Tellings.load(store)
    by_name = {stock.domain.name: stock for stock in stocks}
    broken, mended = _tell_files(tellings, errors, now)
    domains = tuple(_tell_promoted(one, by_name[one.name], tellings, now) for one in run.domains)
    tellings.save()
    return run._replace(domains=domains, broken_files=broken, mended=mended)


def untold(errors: Iterable[Finding]) -> tuple[BrokenFile, ...]:
    """Return the files with errors where nothing is remembered."""
    return tuple(BrokenFile(error) for error in errors)


def _tell_files(
    tellings: Tellings, errors: Sequence[Finding], now: datetime
) -> tuple[tuple[BrokenFile, ...], tuple[str, ...]]:
    """Return the errors, those of one file told together or not at all, and what was mended."""
    keys: dict[str, str] = {}
    for error in errors:
        keys[_file_of(error)] = f"{keys.get(_file_of(error), '')}{error}\n"
    is_news = {file: tellings.is_news(About.FILES, file, key, now) for file, key in keys.items()}
    ended = tellings.forget(About.FILES, lambda file: file not in keys)
    return (
        tuple(BrokenFile(error, is_news[_file_of(error)]) for error in errors),
        tuple(f"{file}: mended: it can be read again" for file in ended),
    )


def _file_of(error: Finding) -> str:
    file, _, line = (error.at or "").rpartition(":")
    return file if file and line.isdecimal() else error.at or ""


def _tell_ordered(
    outcome: OrderOutcome, stock: Stock, store: Store, tellings: Tellings, now: datetime
) -> OrderOutcome:
    if _is_blocked(outcome, stock):
        key = told_key(outcome.error)
        is_news = tellings.is_news(About.DOMAINS, outcome.name, key, now)
        return outcome._replace(is_news=is_news)
    if outcome.outcome is Ordered.BACKING_OFF and outcome.has_failed and outcome.is_news:
        _, told = news(stock.record, told_key(outcome.error), now)
        save_attempt(store, outcome.name, stock.record._replace(told=told))
    return outcome


def _is_blocked(outcome: OrderOutcome, stock: Stock) -> bool:
    """Say whether the domain failed before anything could be tried for it."""
    has_cause = stock.trouble is not None or bool(stock.domain.faults)
    return has_cause and outcome.outcome is Ordered.FAILED


def _tell_promoted(
    outcome: PromotionOutcome, stock: Stock, tellings: Tellings, now: datetime
) -> PromotionOutcome:
    if stock.trouble is None or outcome.outcome is not Promoted.FAILED:
        return outcome
    key = told_key(outcome.error)
    return outcome._replace(is_news=tellings.is_news(About.DOMAINS, outcome.name, key, now))
