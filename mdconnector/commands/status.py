"""status: show how every domain's certificates stand.

Rules: it only reads, and takes no lock; of a store that cannot be read it tells for each domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from mdconnector.commands.loading import open_store, select
from mdconnector.errors import StoreError
from mdconnector.httpd.configuration import Configuration
from mdconnector.outcomes import StatusResult
from mdconnector.overview import most_urgent_first, status_of
from mdconnector.stock import take_stock


def show_status(configuration: Configuration, names: Sequence[str], now: datetime) -> StatusResult:
    """Show every domain's certificates, most urgent first."""
    domains = select(configuration, names)
    try:
        with open_store(configuration, read_only=True) as store:
            stocks = take_stock(store, domains, now, failover=configuration.retry_failover)
    except StoreError as error:
        # status tells how things stand, and this is how they stand for each domain
        stocks = tuple(
            replace(one, trouble=error)
            for one in take_stock(None, domains, now, failover=configuration.retry_failover)
        )
    return StatusResult(most_urgent_first([status_of(stock) for stock in stocks]), now)
