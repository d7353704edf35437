"""Progress on a terminal: how many domains are done, and at which step the others are.

Rules: it is drawn on stderr and taken away at the end, so that the result stands alone; what others
write meanwhile goes above it. A step only changes what is known: a thread of rich's own draws, a
few times in a second, one write each. The cursor is never hidden: a killed run must leave the
terminal as it was.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mdconnector.steps import Phase, Step

SHOWN_ROWS = 10
_PER_SECOND = 8
_STYLES = {Phase.QUEUED: "dim", Phase.AT_WORK: "", Phase.WAITING: "cyan", Phase.DONE: "dim"}


class Board:
    """What is known of each domain, and where that is drawn; begins to draw when it is made."""

    def __init__(self, *, color: bool, console: Console | None = None) -> None:
        self._console = console or Console(
            stderr=True, no_color=not color, highlight=False, markup=False, emoji=False
        )
        self._lock = threading.Lock()
        self._steps: dict[str, Step] = {}
        self._began = time.monotonic()
        self._live = Live(
            console=self._console,
            get_renderable=self.render,
            refresh_per_second=_PER_SECOND,
            transient=True,
        )
        self._live.start()
        self._console.show_cursor(True)

    def show(self, step: Step) -> None:
        """Take note of a step."""
        with self._lock:
            # at the end, so that the latest are the last to be left out
            self._steps.pop(step.name, None)
            self._steps[step.name] = step

    def close(self) -> None:
        """Take everything away."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Return what is to be seen now."""
        with self._lock:
            steps = tuple(self._steps.values())
        seconds = time.monotonic() - self._began
        return draw(steps, seconds=int(seconds), rows=min(SHOWN_ROWS, self._console.height - 4))


def draw(steps: tuple[Step, ...], *, seconds: int, rows: int) -> Group:
    """Return a bar and the domains that are at work, at most so many; the others are counted."""
    counts = Counter(step.phase for step in steps)
    failed = sum(step.has_failed for step in steps)
    head = Table.grid(padding=(0, 2, 0, 0))
    words = Text(f"{counts[Phase.DONE]} of {len(steps)} done", style="bold")
    if failed:
        words.append(f", {failed} failed", "red")
    bar = ProgressBar(
        total=max(len(steps), 1),
        completed=counts[Phase.DONE],
        width=24,
        complete_style="green",
        finished_style="green",
    )
    head.add_row(bar, words, Text(f"{seconds // 60}:{seconds % 60:02}"))
    busy = [step for step in steps if step.phase is Phase.AT_WORK]
    busy += [step for step in steps if step.phase is Phase.WAITING]
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True, overflow="ellipsis")
    shown.add_column(no_wrap=True, overflow="ellipsis")
    rows = max(rows, 1)
    for step in busy[:rows]:
        shown.add_row(Text(step.name), Text(step.words, style=_STYLES[step.phase]))
    rest = Counter(step.words for step in (*busy[rows:], *_queued(steps)))
    for text, count in rest.most_common(2):
        shown.add_row(Text(f"{count} more", style="dim"), Text(text, style="dim"))
    return Group(head, shown) if shown.row_count else Group(head)


def _queued(steps: tuple[Step, ...]) -> list[Step]:
    return [step for step in steps if step.phase is Phase.QUEUED]
