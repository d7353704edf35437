"""Draw docs/status.svg, what `mdconnector status` looks like, from fixed example data.

    python docs/pictures.py    docs/status.svg anew, which is kept in the repository

Rule: rich draws it, as it draws on a terminal; the data are those of the tests.
"""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from rich.console import Console

from mdconnector.terminal.status import show_status
from tests.standings import ALL

WIDTH = 112


def draw() -> str:
    """Return the picture as SVG; times in UTC."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    console = Console(
        record=True,
        width=WIDTH,
        file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )
    show_status(console, ALL)
    return console.export_svg(title="mdconnector status", unique_id="status")


if __name__ == "__main__":
    (DOCS / "status.svg").write_text(draw(), encoding="utf-8")
