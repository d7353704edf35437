"""What every subcommand that writes begins with: finish what killed runs have begun, take stock.

Rules: it is done under the run lock. What cannot be mended is the trouble of its own domain alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from mdconnector.commands.loading import Say
from mdconnector.errors import StoreError
from mdconnector.httpd.configuration import Configuration
from mdconnector.managed_domain import ManagedDomain
from mdconnector.stock import Stock, take_stock
from mdconnector.store.recovery import recover, repair
from mdconnector.store.tree import Store


def take_stock_and_mend(
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
        stock._replace(trouble=stock.trouble or failures.get(stock.domain.name)) for stock in stocks
    )
    return troubled, tuple(lines)


def waiting(say: Say) -> Callable[[str], None]:
    return lambda holder: say(f"waiting for {holder}")
