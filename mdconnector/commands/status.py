"""status: show how every domain's certificates stand.

Rules: it only reads, and takes no lock; of a store that cannot be read it tells for each domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mdconnector.commands.loading import open_store, select
from mdconnector.errors import StoreError
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.process import find_running
from mdconnector.outcomes.status import DomainStatus, StatusResult
from mdconnector.overview import most_urgent_first, served_by_memory, status_of
from mdconnector.stock import Stock, take_stock
from mdconnector.store.tree import Store
from mdconnector.this_host import host_id


def show_status(configuration: Configuration, names: Sequence[str], now: datetime) -> StatusResult:
    """Show every domain's certificates, most urgent first."""
    domains = select(configuration, names)
    try:
        with open_store(configuration, read_only=True) as store:
            stocks = take_stock(store, domains, now, failover=configuration.retry_failover)
            rows = _with_what_is_served(configuration, store, stocks)
            if names and store is not None:
                rows = _in_full(configuration, store, rows, stocks, now)
    except StoreError as error:
        # status tells how things stand, and this is how they stand for each domain
        without = take_stock(None, domains, now, failover=configuration.retry_failover)
        rows = [status_of(one._replace(trouble=error)) for one in without]
    hiding = () if names else configuration.ownerless_errors
    return StatusResult(most_urgent_first(rows), now, hiding)


def _with_what_is_served(
    configuration: Configuration, store: Store | None, stocks: Iterable[Stock]
) -> list[DomainStatus]:
    """Return the row of each domain, with what is remembered of what Apache serves."""
    if store is None:
        return [status_of(stock) for stock in stocks]
    host, taken_up = host_id(), _taken_up_at(configuration)
    return [
        status_of(stock)._replace(
            served=served_by_memory(stock, store, host=host, taken_up=taken_up)
        )
        for stock in stocks
    ]


def _in_full(
    configuration: Configuration,
    store: Store,
    rows: Iterable[DomainStatus],
    stocks: Iterable[Stock],
    now: datetime,
) -> list[DomainStatus]:
    """Return the rows of named domains with all particulars; Apache is asked."""
    # The only place that needs sockets and chains: status without NAMEs never loads them.
    from mdconnector.inquiry import look_closely

    return [
        look_closely(row, stock, store=store, configuration=configuration, clock=lambda: now)
        for row, stock in zip(rows, stocks, strict=True)
    ]


def _taken_up_at(configuration: Configuration) -> datetime | None:
    """Return when the running Apache has last read its certificates."""
    running = find_running(configuration.pid_file)
    if running is None:
        return None
    with running:
        return datetime.fromtimestamp(running.pid_file_mtime_ns / 1e9, UTC)
