"""Results on a terminal: tables by rich, colour by urgency, and never by colour alone.

Rule: rich is imported in this package and nowhere else; foreign text is shown as it is, never read
as markup.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mdconnector.account_text import ACCOUNT_HEAD, account_cells
from mdconnector.managed_domain import Severity
from mdconnector.outcomes import Result
from mdconnector.outcomes.account import AccountAction, AccountRun
from mdconnector.outcomes.scan import ScanResult
from mdconnector.outcomes.status import StatusResult
from mdconnector.report import Style
from mdconnector.run_text import run_lines
from mdconnector.scan_text import AGREES, finding_line, paste_lines, tree_lines
from mdconnector.terminal.status import show_status

_SEVERITY_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def show(result: Result, style: Style) -> None:
    """Print a result to the terminal."""
    console = Console(no_color=not style.color, highlight=False, markup=False, emoji=False)
    match result:
        case StatusResult():
            show_status(console, result)
        case ScanResult():
            _show_scan(console, result)
        case AccountRun() if result.action is AccountAction.LIST and result.accounts:
            console.print(_account_table(result))
        case _:
            _show_lines(console, run_lines(result, quiet=style.quiet))


def _show_lines(console: Console, lines: list[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _account_table(result: AccountRun) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ACCOUNT_HEAD:
        table.add_column(heading.lower(), overflow="fold", no_wrap=heading in {"ACCOUNT", "STATUS"})
    for account in result.accounts:
        cells = [Text(cell) for cell in account_cells(account)]
        is_good = account.status == "valid" and account.error is None
        cells[1].stylize("green" if is_good else "bold red")
        table.add_row(*cells)
    return table


def _show_scan(console: Console, result: ScanResult) -> None:
    if result.tree is None:
        _show_domains(console, result)
    else:
        _show_lines(console, list(tree_lines(result.tree)))
    for finding in result.findings:
        console.print(
            Text(finding_line(finding), style=_SEVERITY_STYLES[finding.severity]), soft_wrap=True
        )
    if result.agrees:
        console.print(AGREES, soft_wrap=True)


def _show_domains(console: Console, result: ScanResult) -> None:
    console.print(result.who_renews, soft_wrap=True)
    console.print(f"store: {result.store_path}", soft_wrap=True)
    for assumption in result.assumptions:
        console.print(f"assumed: {assumption}", soft_wrap=True, style="dim")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("managed domain", "names", "keys", "CA", "declared at"):
        table.add_column(heading, overflow="fold")
    for domain in result.domains:
        keys = ", ".join(spec.label for spec in domain.key_specs)
        cells = (
            domain.name,
            ", ".join(domain.names[1:]) or "-",
            keys,
            domain.effective_ca_urls[0],
            str(domain.declared_at),
        )
        table.add_row(*(Text(cell) for cell in cells))
    if result.domains:
        console.print(table)
    for vhost in result.candidates:
        add = f"add 'MDomain {vhost.server_name}' above it"
        console.print(
            f"not managed: {vhost.server_name} ({vhost.declared_at}): {add}", soft_wrap=True
        )
    _show_lines(console, paste_lines(result.pastes))
