"""Accounts as plain lines: the table, one account in full, and what was done to one.

Rules: no box characters, no colour; what is shown is what JSON tells. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from mdconnector.outcomes.account import AccountAction, AccountOutcome, AccountRun

ACCOUNT_HEAD = ("ACCOUNT", "STATUS", "KEY", "CA", "KID", "DOMAINS", "NOTE")
_SHOWN_DOMAINS = 1


def account_lines(result: AccountRun, *, quiet: bool) -> list[str]:
    """Return the lines of account without the failures."""
    if quiet:
        return [account_line(one) for one in result.accounts if one.is_change and not one.error]
    match result.action:
        case AccountAction.LIST:
            if not result.accounts:
                return ["no account is stored"]
            return _table(result)
        case AccountAction.SHOW:
            return [line for one in result.accounts for line in _account_block(one)]
        case AccountAction.RECOVER if not result.accounts:
            return ["every stored account is complete: there is nothing to recover"]
        case _:
            return [account_line(one) for one in result.accounts if not one.error]


def _table(result: AccountRun) -> list[str]:
    rows = [ACCOUNT_HEAD, *(account_cells(account) for account in result.accounts)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def account_cells(account: AccountOutcome) -> tuple[str, ...]:
    """Return one account's row of the table, a text per column."""
    more = len(account.domains) - _SHOWN_DOMAINS
    domains = ", ".join(account.domains[:_SHOWN_DOMAINS]) + (
        f" and {more} more" if more > 0 else ""
    )
    # what is wrong with it is told in full as a failure
    note = "; ".join(filter(None, (account.detail, "cannot be used" if account.error else "")))
    cells = (account.status, account.key_label, account.ca_url, account.kid, domains)
    return (account.id, *(cell or "-" for cell in cells), note)


def account_line(account: AccountOutcome) -> str:
    """Return what was done to an account, as one line."""
    users = f"; used by {', '.join(account.domains)}" if account.domains else ""
    url = f" ({account.url})" if account.url else ""
    return f"{account.id or account.ca_url}{url}: {account.detail}{users}"


def _account_block(account: AccountOutcome) -> Iterator[str]:
    yield account.id
    for label, value in (
        ("CA", account.ca_url),
        ("URL", account.url),
        ("status", account.status),
        ("key", account.key_label),
        ("binding", account.kid),
        ("contact", ", ".join(account.contact)),
        ("used by", ", ".join(account.domains)),
        ("note", account.detail),
    ):
        if value:
            yield f"    {label + ':':<9} {value}"


def account_failures(result: AccountRun) -> list[str]:
    """Return a line for each account that something is wrong with."""
    lines = []
    for account in result.accounts:
        if account.error is not None:
            hint = f"; {account.error.hint}" if account.error.hint else ""
            name = account.id or account.ca_url or "account"
            lines.append(f"{name}: failed: {account.error.detail}{hint}")
    return lines
