"""Parts of figures, noted in files of their own, so that a long run can be cut short and taken up.

Rules: a note counts for the sources it was made with; with others a figure begins anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.figure import Tally

PACKAGE = Path(__file__).resolve().parents[2] / "mdconnector"


@dataclass(slots=True)
class Note:
    """What a figure has shown so far; `not_run`: why it cannot run here."""

    sources: str
    tally: Tally = field(default_factory=Tally)
    tried: int = 0
    seconds: float = 0
    not_run: str = ""
    ended: str = ""
    """when the last part of it was done"""


def digest_of_sources() -> str:
    """Return what identifies the package as it is now."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def load_note(folder: Path, name: str, *, sources: str, or_any: bool = False) -> Note:
    """Return what was noted of a figure with these sources; an empty note where nothing was.

    With `or_any` what was noted with other sources counts too; the note says which.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return Note(sources)
    found = json.loads(path.read_text())
    if found["sources"] != sources and not or_any:
        return Note(sources)
    tally = Tally(
        found["done"],
        set(found["points"]),
        found["violations"],
        Counter(found["counts"]),
        found["peaks"],
    )
    return Note(
        found["sources"],
        tally,
        found["tried"],
        found["seconds"],
        found["not_run"],
        found.get("ended", ""),
    )


def save_note(folder: Path, name: str, note: Note) -> None:
    """Note what a figure has shown so far."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{name}.new"
    temporary.write_text(
        json.dumps(
            {
                "sources": note.sources,
                "done": note.tally.done,
                "points": sorted(note.tally.points),
                "violations": note.tally.violations,
                "counts": note.tally.counts,
                "peaks": note.tally.peaks,
                "tried": note.tried,
                "seconds": note.seconds,
                "not_run": note.not_run,
                "ended": note.ended,
            },
            indent=1,
        )
    )
    temporary.rename(folder / f"{name}.json")
