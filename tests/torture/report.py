"""The dated report: what was tried on which machine, and what came of it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.parts import MissingProgramError, find_program
from tests.torture.figure import Figure
from tests.torture.notebook import Note, digest_of_sources

SHOWN_VIOLATIONS = 20

_HEAD = """\
# Reliability report

Written by `make torture`; see [reliability.md](reliability.md) for what each figure tries and how
to run its controls. A figure is met when the goal is reached without a single violation. The
sources are a SHA-256 over the package's files: a figure with another one than the report's was run
on an earlier state of the package.
"""


def render(figures: Sequence[tuple[Figure, Note]], *, scratch: Path) -> str:
    """Return the report; `scratch` is the folder in which the stores under test lay."""
    now = digest_of_sources()
    lines = [_HEAD, *_machine(scratch), f"* sources: {now}", "", *_table(figures), ""]
    for figure, note in figures:
        lines += _details(figure, note)
    return "\n".join(lines).rstrip() + "\n"


def is_met(figure: Figure, note: Note) -> bool:
    """Say whether a figure has reached its goal, with no violation."""
    return not note.not_run and note.tally.done >= figure.goal and not note.tally.violations


def verdict(figure: Figure, note: Note) -> str:
    """Say in a few words what came of a figure."""
    if note.not_run:
        return f"not run: {note.not_run}"
    if note.tally.violations:
        return "**violated**"
    return "met" if is_met(figure, note) else "goal not reached"


def _table(figures: Iterable[tuple[Figure, Note]]) -> Iterable[str]:
    yield "| figure | goal | done | distinct points | violations | seconds | |"
    yield "|---|--:|--:|--:|--:|--:|---|"
    for figure, note in figures:
        tally = note.tally
        numbers = (figure.goal, tally.done, len(tally.points), len(tally.violations))
        cells = [figure.title, *(f"{number:,}" for number in numbers), f"{note.seconds:,.0f}"]
        yield f"| {' | '.join(cells)} | {verdict(figure, note)} |"


def _details(figure: Figure, note: Note) -> Iterable[str]:
    tally = note.tally
    yield f"## {figure.title}"
    yield ""
    ended = f", ended {note.ended}" if note.ended else ""
    yield f"`python -m tests.torture {figure.name}`, sources {note.sources}{ended}."
    yield ""
    if note.not_run:
        yield f"Not run: {note.not_run}."
    for what, number in sorted(tally.counts.items()):
        yield f"* {what}: {number:,}"
    for what, value in sorted(tally.peaks.items()):
        yield f"* {what}: {value:,.6g} at most"
    for violation in tally.violations[:SHOWN_VIOLATIONS]:
        yield f"* violation: `{violation.splitlines()[0] if violation else ''}`"
    if len(tally.violations) > SHOWN_VIOLATIONS:
        yield f"* and {len(tally.violations) - SHOWN_VIOLATIONS:,} violations more"
    yield ""


def _machine(scratch: Path) -> Iterable[str]:
    now = datetime.now(UTC)
    yield f"* date: {now:%Y-%m-%d %H:%M} UTC"
    yield f"* kernel: {platform.system()} {platform.release()}, {platform.machine()}"
    yield f"* CPUs: {os.cpu_count()}"
    yield f"* file system of the stores, where a figure makes none of its own: {_type_of(scratch)}"
    yield f"* Python {platform.python_version()}"
    for program, arguments in (
        ("apache2", ["-v"]),
        ("pebble", ["-version"]),
        ("strace", ["-V"]),
    ):
        yield f"* {_version(program, arguments)}"


def _version(program: str, arguments: Sequence[str]) -> str:
    try:
        path = find_program(program)
    except MissingProgramError:
        return f"{program}: not installed"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    words = (done.stdout or done.stderr).strip().splitlines()
    line = words[0] if words else "no version told"
    found = re.search(r"\d+\.\d+(\.\d+)?\S*", line)
    return f"{program} {found[0] if found else _package_version(program) or line}"


def _package_version(program: str) -> str:
    try:
        query = [find_program("dpkg-query"), "-W", "-f", "${Version}", program]
    except MissingProgramError:
        return ""
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout


def _type_of(folder: Path) -> str:
    """Return the type of the file system that a folder lies on."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, type_, *_rest = line.split()
        is_above = folder.is_relative_to(place)
        if is_above and len(place) >= len(best):
            best, kind = place, type_
    return kind
