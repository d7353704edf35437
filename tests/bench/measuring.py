"""Run a command to its end and tell what it cost, as the kernel counted it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MDCONNECTOR = (sys.executable, "-m", "mdconnector")
RUNS = 5

_TIMER = """
import os, sys, time
begin = time.perf_counter()
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - begin
figures = seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
print(os.waitstatus_to_exitcode(status), *figures, file=os.fdopen(int(sys.argv[1]), "w"))
"""
"""in a small process of its own: the kernel counts a parent's memory as its child's"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a command cost: by the clock, on all processors, and at most in memory."""

    seconds: float
    cpu_seconds: float
    peak_mebibytes: float


def measure(command: Sequence[str]) -> Run:
    """Run a command without its output; it must exit 0."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as figures, tempfile.TemporaryFile() as errors:
        subprocess.run(
            [sys.executable, "-E", "-S", "-c", _TIMER, str(figures.fileno()), *command],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[figures.fileno()],
            check=True,
        )
        figures.seek(0)
        errors.seek(0)
        code, *counted = figures.read().split()
        if int(code):
            raise SystemExit(f"{' '.join(command)} exited {int(code)}\n{errors.read().decode()}")
    return Run(*(float(figure) for figure in counted))


def best_of(command: Sequence[str], runs: int = RUNS) -> Run:
    """Run a command several times; return the least seconds of each kind, and the most memory."""
    return _best([measure(command) for _ in range(runs)])


def side_by_side(commands: Mapping[str, Sequence[str]], runs: int = RUNS) -> dict[str, Run]:
    """Run several commands in turn, so that a machine that slows down slows them all."""
    measured: dict[str, list[Run]] = {title: [] for title in commands}
    for _ in range(runs):
        for title, command in commands.items():
            measured[title].append(measure(command))
    return {title: _best(of) for title, of in measured.items()}


def _best(runs: Sequence[Run]) -> Run:
    return Run(
        min(run.seconds for run in runs),
        min(run.cpu_seconds for run in runs),
        max(run.peak_mebibytes for run in runs),
    )


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table below a heading; the first column is left-aligned."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "|".join([" --- ", *[" ---: "] * (len(header) - 1)]) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()
