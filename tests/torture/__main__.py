"""Run figures and write the report: `python -m tests.torture [FIGURE…]`, or `make torture`.

Rules: what a run has done is noted below tests/.run/torture after each part, and the next run goes
on from there; --fresh begins anew. The report tells what all notes of these sources hold, and with
--as-noted those of earlier sources too, saying so. A run with --scale, --amount or --without notes
nothing; with --without it is good only if it finds violations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.torture.figure import CannotRunError, Figure, Tally, Task
from tests.torture.figures import FIGURES
from tests.torture.notebook import Note, digest_of_sources, load_note, save_note
from tests.torture.report import render, verdict

CLONE = Path(__file__).resolve().parents[2]
NOTES = CLONE / "tests" / ".run" / "torture"
REPORT = CLONE / "docs" / "reliability-report.md"


def main(
    arguments: Sequence[str] | None = None,
    *,
    figures: Sequence[Figure] = FIGURES,
    notes: Path = NOTES,
) -> int:
    """Run what the arguments name; return 0 if nothing went wrong."""
    asked = _parser(figures).parse_args(arguments)
    chosen = [one for one in figures if not asked.figures or one.name in asked.figures]
    if asked.list:
        for one in chosen:
            print(f"{one.name}: {one.title}; goal {one.goal:,}")
            for name, what in one.controls.items():
                print(f"    --without {name}: {what}")
        return 0
    if asked.without:
        return _run_control(chosen, asked)
    if asked.scale is not None or asked.amount is not None:
        return _run_scaled(chosen, asked)
    sources = digest_of_sources()
    for one in () if asked.as_noted else chosen:
        note = Note(sources) if asked.fresh else load_note(notes, one.name, sources=sources)
        _complete(one, note, notes, seed=asked.seed)
    results = [
        (one, load_note(notes, one.name, sources=sources, or_any=asked.as_noted)) for one in figures
    ]
    asked.report.write_text(render(results, scratch=Path(tempfile.gettempdir())))
    print(f"written: {asked.report}")
    return int(any(verdict(one, note) != "met" for one, note in results if one in chosen))


def _parser(figures: Sequence[Figure]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="all where none is named")
    names = [one.name for one in figures]
    parser.add_argument("--list", action="store_true", help="name the figures and their controls")
    parser.add_argument(
        "--as-noted", action="store_true", help="run nothing; report all notes, of any sources"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what was noted of them")
    parser.add_argument("--scale", type=float, help="do this part of the goal; nothing is noted")
    parser.add_argument("--amount", type=int, help="do so many trials; nothing is noted")
    parser.add_argument("--first", type=int, default=0, help="with --amount: from this trial on")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--without", default="", metavar="PROTECTION", help="run a control")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    parser.epilog = f"Figures: {', '.join(names)}."
    return parser


def _complete(figure: Figure, note: Note, notes: Path, *, seed: int) -> None:
    """Go on with a figure, part by part, until its goal is reached or nothing more is to do."""
    note.not_run = ""
    while note.tally.done < figure.goal:
        begun = time.monotonic()
        task = Task(figure.part, first=note.tried, seed=seed, say=_sayer(figure))
        try:
            part = figure.run(task)
        except CannotRunError as error:
            note.not_run = str(error)
            save_note(notes, figure.name, note)
            print(f"{figure.name}: not run: {error}", flush=True)
            return
        note.tally.add(part)
        note.tried += figure.part
        note.seconds += time.monotonic() - begun
        note.ended = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        save_note(notes, figure.name, note)
        _tell(figure, note.tally, note.seconds)
        if not part.done:
            print(f"{figure.name}: a part did nothing, it ends here", flush=True)
            return


def _run_scaled(chosen: Sequence[Figure], asked: argparse.Namespace) -> int:
    is_red = False
    for one in chosen:
        tally = _run(one, asked)
        if tally is None:
            is_red = True
            continue
        is_red = is_red or bool(tally.violations) or not tally.done
        for violation in tally.violations:
            print(f"{one.name}: violation: {violation}")
    return int(is_red)


def _run_control(chosen: Sequence[Figure], asked: argparse.Namespace) -> int:
    """Run the figures that have this control; each has to find violations."""
    having = [one for one in chosen if asked.without in one.controls]
    if not having:
        print(f"no figure that is named has a control {asked.without!r}; see --list")
        return 2
    is_green = False
    for one in having:
        tally = _run(one, asked)
        if tally is None or not tally.violations:
            is_green = True
            print(f"{one.name} --without {asked.without}: GREEN, so this figure would see nothing")
        else:
            first = tally.violations[0].partition("\n")[0]
            print(f"{one.name} --without {asked.without}: red, as it should be; first: {first}")
    return int(is_green)


def _run(figure: Figure, asked: argparse.Namespace) -> Tally | None:
    amount = asked.amount if asked.amount is not None else round(figure.goal * (asked.scale or 1))
    begun = time.monotonic()
    task = Task(amount, asked.first, asked.seed, asked.without, _sayer(figure))
    try:
        tally = figure.run(task)
    except CannotRunError as error:
        print(f"{figure.name}: not run: {error}")
        return None
    _tell(figure, tally, time.monotonic() - begun)
    return tally


def _tell(figure: Figure, tally: Tally, seconds: float) -> None:
    print(
        f"{figure.name}: {tally.done:,} of {figure.goal:,} done at {len(tally.points):,} points, "
        f"{len(tally.violations)} violations, {seconds:,.0f} s",
        flush=True,
    )


def _sayer(figure: Figure) -> Callable[[str], object]:
    return lambda text: print(f"{figure.name}: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
