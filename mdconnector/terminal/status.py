"""Status on a terminal: a table with a bar for each certificate's life, and one domain in full.

Rules: a colour never stands alone: a sign and a word say the same. What a narrow terminal has no
room for is left out of the table, and long sentences stand below it. Signs that the terminal's
encoding lacks are written in ASCII.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mdconnector.outcomes.status import DomainStatus, Lifetime, StatusResult
from mdconnector.printable import printable
from mdconnector.renewal import State
from mdconnector.status_text import (
    DIFFERS,
    EQUALS,
    Section,
    local,
    sections,
    state_words,
    status_note,
    time_left,
)

STYLES = {
    State.UNKNOWN: "magenta",
    State.ERROR: "bold red",
    State.EXPIRED: "bold red",
    State.MISSING: "bold red",
    State.FAILING: "red",
    State.PENDING: "cyan",
    State.STAGED: "cyan",
    State.EXPIRING: "bold yellow",
    State.DUE: "yellow",
    State.UNUSED: "dim",
    State.VALID: "green",
}
SHOWN_NOTES = 20
SHOWN_DOMAINS = 500
"""nobody reads more on a terminal, and rich would take seconds for them"""
LONGEST_BAR = 40
SHORTEST_BAR = 10


class Signs(NamedTuple):
    """What bars and states are drawn with, one column each."""

    gone: str
    now: str
    ahead: str
    renewal: str
    warning: str
    over: str
    by_state: dict[State, str]
    points_to: str


UNICODE = Signs(
    gone="━",
    now="●",
    ahead="─",
    renewal="┄",
    warning="┅",
    over="✗",
    by_state={
        State.UNKNOWN: "?",
        State.ERROR: "✗",
        State.EXPIRED: "✗",
        State.MISSING: "✗",
        State.FAILING: "!",
        State.PENDING: "…",
        State.STAGED: "▲",
        State.EXPIRING: "!",
        State.DUE: "○",
        State.UNUSED: "·",
        State.VALID: "✓",
    },
    points_to="→",
)
ASCII = Signs(
    gone="=",
    now="O",
    ahead="-",
    renewal=".",
    warning=":",
    over="X",
    by_state={
        State.UNKNOWN: "?",
        State.ERROR: "x",
        State.EXPIRED: "x",
        State.MISSING: "x",
        State.FAILING: "!",
        State.PENDING: ".",
        State.STAGED: "^",
        State.EXPIRING: "!",
        State.DUE: "o",
        State.UNUSED: "-",
        State.VALID: "+",
    },
    points_to="->",
)


def show_status(console: Console, result: StatusResult) -> None:
    """Print the table; in place of it, where domains were named, all about each of them."""
    signs = signs_for(console)
    if not result.domains:
        console.print("no managed domain is declared; see 'mdconnector scan'")
    elif any(domain.in_full is None for domain in result.domains):
        console.print(_overview(result, console.width, signs))
    else:
        for domain in result.domains:
            console.print(_in_full(domain, result.now, console.width, signs))


def signs_for(console: Console) -> Signs:
    """Return the signs that a terminal can show."""
    return UNICODE if console.encoding.lower().startswith("utf") else ASCII


# --- bars ----------------------------------------------------------------------------------------


def bar(one: Lifetime, now: datetime, width: int, signs: Signs, style: str) -> Text:
    """Draw a certificate's life: what is gone, now, and when it is renewed and warned about."""
    renewal, warning = (_cell(moment, one, width) for moment in (one.renew_at, one.warn_at))
    is_over = now >= one.not_after
    at = width - 1 if is_over else _cell(now, one, width)
    ahead = max(renewal, at + 1)
    last = max(warning, ahead)
    return Text.assemble(
        (signs.gone * at, style),
        (signs.over if is_over else signs.now, style),
        (signs.ahead * (ahead - at - 1), "dim"),
        (signs.renewal * (last - ahead), "cyan"),
        (signs.warning * (width - last), "yellow"),
    )


def _cell(moment: datetime, one: Lifetime, width: int) -> int:
    """Return the cell of a moment: 0 to width - 1, and `width` after the end."""
    life = (one.not_after - one.not_before) / timedelta(seconds=1)
    passed = (moment - one.not_before) / timedelta(seconds=1)
    if life <= 0 or passed >= life:
        return width
    return min(max(int(passed / life * width), 0), width - 1)


def _legend(signs: Signs) -> Text:
    return Text.assemble(
        (f"{signs.gone * 2} gone  {signs.now} now  {signs.ahead * 2} ahead  ", "dim"),
        (signs.renewal * 2, "cyan"),
        (" to be renewed  ", "dim"),
        (signs.warning * 2, "yellow"),
        (" MDWarnWindow", "dim"),
    )


# --- the table -----------------------------------------------------------------------------------


class _Column(NamedTuple):
    heading: str
    from_width: int
    """the narrowest terminal that shows it"""


_NAME, _STATE, _LIFE = _Column("NAME", 0), _Column("STATE", 0), _Column("LIFETIME", 46)
_LEFT, _RENEWED = _Column(" LEFT", 0), _Column("RENEWED", 76)
_KEYS, _UNTIL, _ISSUER = _Column("KEYS", 92), _Column("VALID UNTIL", 112), _Column("ISSUER", 150)
_COLUMNS = (_NAME, _STATE, _LIFE, _LEFT, _RENEWED, _UNTIL, _KEYS, _ISSUER)


def _overview(result: StatusResult, width: int, signs: Signs) -> Group:
    shown = [column for column in _COLUMNS if width >= column.from_width]
    domains = result.domains[:SHOWN_DOMAINS]
    cells = [_cells(domain, result.now, signs) for domain in domains]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in shown:
        table.add_column(
            column.heading,
            no_wrap=column not in {_NAME, _ISSUER},
            overflow="fold",
        )
    length = _bar_length(cells, shown, width)
    for domain, row in zip(domains, cells, strict=True):
        bars = [
            bar(one, result.now, length, signs, STYLES[domain.state]) for one in domain.lifetimes
        ]
        row[_LIFE.heading] = Text("\n").join(bars) if bars else Text("-", style="dim")
        table.add_row(*(row[column.heading] for column in shown))
    parts: list[RenderableType] = [table]
    if left_out := len(result.domains) - len(domains):
        parts.append(Text(f"and {left_out} less urgent; all: mdconnector status | less", "dim"))
    parts += [Text(), _counts(result, width, signs)]
    parts += [_legend(signs)] if _LIFE in shown else []
    notes = list(_notes(result, signs))
    return Group(*parts, *([Text(), *notes] if notes else []))


def _bar_length(rows: list[dict[str, Text]], shown: list[_Column], width: int) -> int:
    """Return how many columns the other cells leave for the bars."""
    taken = sum(
        max([len(column.heading), *(_width(row[column.heading]) for row in rows)]) + 2
        for column in shown
        if column is not _LIFE
    )
    return min(max(width - taken, SHORTEST_BAR), LONGEST_BAR)


def _width(cell: Text) -> int:
    return max(line.cell_len for line in cell.split("\n", allow_blank=True))


def _cells(domain: DomainStatus, now: datetime, signs: Signs) -> dict[str, Text]:
    """Return the cells of a row but for the bars; a line for each certificate."""
    style = STYLES[domain.state]
    issuers = dict.fromkeys(printable(one.facts.issuer, 60) for one in domain.live if one.facts)
    lines = domain.lifetimes
    return {
        _NAME.heading: Text(domain.name, style="bold"),
        _STATE.heading: Text(f"{signs.by_state[domain.state]} {domain.state}", style=style),
        _LEFT.heading: _lines([f"{_short(one.not_after - now):>5}" for one in lines], style),
        _RENEWED.heading: _lines([_renewed(one, now) for one in lines], ""),
        _UNTIL.heading: _lines([local(one.not_after) for one in lines], ""),
        _KEYS.heading: _lines([one.spec.label for one in domain.live], ""),
        _ISSUER.heading: _lines(list(issuers), "dim"),
    }


def _lines(texts: list[str], style: str) -> Text:
    return Text("\n".join(texts) or "-", style=style if texts else "dim")


def _short(left: timedelta) -> str:
    """Return `58 d` or `7 h`; negative once it is over."""
    sign = "" if left >= timedelta() else "-"
    days, hours = abs(left) // timedelta(days=1), abs(left) // timedelta(hours=1)
    return f"{sign}{days} d" if days >= 2 else f"{sign}{hours} h"


def _renewed(one: Lifetime, now: datetime) -> str:
    left = one.renew_at - now
    return f"in {_short(left)}" if left > timedelta() else "due"


def _counts(result: StatusResult, width: int, signs: Signs) -> Text:
    """Return how many there are of each state, lines broken between states."""
    counts = Counter(domain.state for domain in result.domains)
    number = len(result.domains)
    head = f"{number} managed domain{'' if number == 1 else 's'}"
    text, column = Text.assemble((head, "bold")), len(head)
    for state in State:
        if counts[state]:
            words = f"{signs.by_state[state]} {counts[state]} {state}"
            gap = "   " if column + len(words) + 3 <= width else "\n"
            column = column + 3 + len(words) if gap != "\n" else len(words)
            text.append(gap).append(words, STYLES[state])
    return text


def _notes(result: StatusResult, signs: Signs) -> Iterator[RenderableType]:
    """Yield a paragraph for each domain about which there is more to say than fits in a row."""
    noted = [(domain, note) for domain in result.domains if (note := status_note(domain))]
    for domain, note in noted[:SHOWN_NOTES]:
        yield Text.assemble(_note_sign(domain, signs), " ", (domain.name, "bold"))
        yield Padding(Text(note), (0, 0, 0, 2), expand=False)
        if domain.last_error is not None and domain.last_error.hint:
            hint = Text(f"{signs.points_to} {domain.last_error.hint}", style="cyan")
            yield Padding(hint, (0, 0, 0, 2), expand=False)
    if len(noted) > SHOWN_NOTES:
        yield Text(f"and {len(noted) - SHOWN_NOTES} more; see 'mdconnector status NAME'")


def _note_sign(domain: DomainStatus, signs: Signs) -> tuple[str, str]:
    state = domain.state
    if state is State.VALID and domain.served is not None and domain.served.is_stored is False:
        state = State.EXPIRING
    return signs.by_state[state], STYLES[state]


# --- one domain ----------------------------------------------------------------------------------


def _in_full(domain: DomainStatus, now: datetime, width: int, signs: Signs) -> Group:
    """Return all about a domain: what the plain lines say, and a bar for each certificate."""
    style = STYLES[domain.state]
    length = min(max(width - 30, SHORTEST_BAR), LONGEST_BAR)
    parts: list[RenderableType] = []
    for number, section in enumerate(sections(domain, now)):
        heading = Text(section.heading, style="bold")
        if number == 0:
            heading = Text.assemble(
                (f"{signs.by_state[domain.state]} {domain.name}: ", "bold"),
                (state_words(domain, now), style),
            )
        if section.lifetime is not None:
            drawn = bar(section.lifetime, now, length, signs, style)
            left = time_left(section.lifetime.not_after, now)
            heading = Text.assemble(f"{section.heading:<9}  ", drawn, f"  {left}", style="bold")
        parts += [heading, _rows(section), Text()]
    return Group(*parts, *([_legend(signs), Text()] if domain.lifetimes else []))


def _rows(section: Section) -> Padding:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in section.rows:
        grid.add_row(Text(label), Text(text, style=_style(label, text)))
    return Padding(grid, (0, 0, 0, 2), expand=False)


def _style(label: str, text: str) -> str:
    if text.endswith(EQUALS):
        return "green"
    if text.endswith(DIFFERS):
        return "bold yellow"
    return {"last error": "red", "what to do": "cyan", "next": "cyan"}.get(label, "")
