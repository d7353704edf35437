"""Two runs at once: both come to the run lock at the same moment, and one of them works.

Rules: each run is a child of its own that waits, with all read and loaded, where it is about to
take the lock, until both are there. What it changes on the disk is noted with its time: whoever
finds the lock taken changes nothing, and two that both work do so one after the other.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from mdconnector.store import lock
from tests.e2e.behind_proxy import SitesBehindProxy
from tests.store.credentials import NAME, NEW, leaves, open_store, set_in
from tests.store.kill_points import Call, watched
from tests.torture.bench import Bench, open_bench
from tests.torture.figure import Figure, Tally, Task

LOCKED = 75
TRIES = 3
"""for two of which one had ended before the other came: the machine was busy"""
_BROKEN = 99
RENEW, ENROLL, PROMOTE = (("renew", "--all"), ("enroll", "--all"), ("promote", "--all"))
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """Two commands on one kind of store; `orders`: one certificate is to be ordered."""

    name: str
    template: Path
    words: tuple[Words, Words]
    orders: bool
    has_store: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """How one of the two ended, and the times of what it changed beside the lock's own file."""

    exit_code: int
    output: str
    changes: tuple[float, ...]
    places: tuple[str, ...]


def run_in_pairs(task: Task) -> Tally:
    """Let two runs begin at once, of every two commands that write."""
    tally = Tally()
    with open_bench() as bench:
        kinds = _kinds(bench)
        for number in task.told("pairs"):
            done = tally.done
            for _ in range(TRIES):
                if tally.done == done:
                    _try_pair(kinds[number % len(kinds)], bench, tally, task.without)
    return tally


def _kinds(bench: Bench) -> tuple[Kind, ...]:
    account = bench.with_account("warm")
    staged = bench.with_staged_set("staged")
    nothing = bench.without_store("nothing")
    return (
        Kind("two renewals", account, (RENEW, RENEW), orders=True),
        Kind("two promotions", staged, (PROMOTE, PROMOTE), orders=False),
        Kind("an enrollment and a renewal", account, (ENROLL, RENEW), orders=True),
        Kind("a promotion and a renewal", staged, (PROMOTE, RENEW), orders=False),
        Kind("two first enrollments", nothing, (ENROLL, ENROLL), orders=True, has_store=False),
    )


def _try_pair(kind: Kind, bench: Bench, tally: Tally, without: str) -> None:
    sites = bench.copy(kind.template)
    ca = bench.proxy.pebble
    certificates, orders = ca.certificates, ca.orders
    runs = _both(sites, kind.words, without)
    codes = sorted(run.exit_code for run in runs)
    tally.violations += (f"{kind.name}: {what}" for what in _wrongs(kind, runs))
    new = (ca.certificates - certificates, ca.orders - orders)
    if new != ((1, 1) if kind.orders else (0, 0)):
        tally.violations.append(f"{kind.name}: {new[0]} certificates by {new[1]} orders")
    if kind.template.name == "staged" and kind.words[_winner(runs)] == PROMOTE:
        _expect_promoted(sites, tally)
    if codes == [0, LOCKED]:
        tally.hit(f"{kind.name}: the {'first' if _winner(runs) == 0 else 'second'} works")
    elif codes == [0, 0]:
        tally.counts["pairs of which one came when the other had ended"] += 1
    shutil.rmtree(sites.folder)


def _winner(runs: tuple[Run, Run]) -> int:
    return int(runs[0].exit_code == LOCKED)


def _wrongs(kind: Kind, runs: tuple[Run, Run]) -> list[str]:
    wrongs = []
    for run in runs:
        if run.exit_code not in (0, LOCKED):
            wrongs.append(f"exit code {run.exit_code}: {run.output}")
        if run.exit_code == LOCKED and run.changes and kind.has_store:
            wrongs.append(f"it found the lock taken and changed {run.places}")
    first, second = (run.changes if run.exit_code == 0 else () for run in runs)
    if first and second and min(first) < max(second) and min(second) < max(first):
        wrongs.append("two writers at once")
    if all(run.exit_code == LOCKED for run in runs):
        wrongs.append("neither works")
    return wrongs


def _expect_promoted(sites: SitesBehindProxy, tally: Tally) -> None:
    with open_store(sites.store) as store:
        if set_in(store, "domains", NAME) != leaves(NEW):
            tally.violations.append("the promotion has not promoted")


# --- two children ------------------------------------------------------------------------------


def _both(sites: SitesBehindProxy, words: tuple[Words, Words], without: str) -> tuple[Run, Run]:
    results = [sites.folder / f"run-{number}.json" for number in range(2)]
    start_read, start_write = os.pipe()
    children = [
        _begin(start_read, start_write, partial(_work, sites, one, result, without))
        for one, result in zip(words, results, strict=True)
    ]
    os.close(start_read)
    for _, ready in children:
        # nothing to read: it ended before it came to the lock
        os.read(ready, 1)
        os.close(ready)
    os.close(start_write)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child, _ in children]
    if codes != [0, 0]:
        raise AssertionError(f"the children ended with {codes}")
    first, second = (Run(**json.loads(result.read_text())) for result in results)
    return first, second


def _begin(
    start_read: int, start_write: int, work: Callable[[Callable[[], None]], None]
) -> tuple[int, int]:
    """Fork a child for one run; returns its process id and the pipe that tells it is there."""
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child:
        os.close(ready_write)
        return child, ready_read
    write = os.write  # the one that nobody watches

    def meet() -> None:
        write(ready_write, b".")
        os.read(start_read, 1)

    os.close(start_write)
    _end_with(partial(work, meet))
    return 0, 0


def _end_with(work: Callable[[], object]) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child that goes on would do the parent's trials
        traceback.print_exc(file=sys.__stderr__)
        os._exit(_BROKEN)
    os._exit(0)


def _work(
    sites: SitesBehindProxy,
    words: Words,
    result: Path,
    without: str,
    meet: Callable[[], None],
) -> None:
    changes: list[tuple[float, str]] = []
    take = lock._take_run_lock
    flock = (lambda *_: True) if without else lock._flock

    def taken(*arguments: Any) -> int:
        meet()
        with mock.patch.object(lock, "_flock", flock):
            return take(*arguments)

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        done = original(*args, **kwargs)
        if not (name == "open" and args[0] == lock.RUN_LOCK):
            changes.append((time.monotonic(), f"{name} {args[0]}"))
        return done

    with mock.patch.object(lock, "_take_run_lock", taken), watched(watch):
        done = sites.here(*words)
    record = {
        "exit_code": done.exit_code,
        "output": done.output,
        "changes": [at for at, _ in changes],
        "places": [place for _, place in changes],
    }
    result.write_text(json.dumps(record))


RUN_PAIRS = Figure(
    "run-pairs",
    "Two runs at once",
    500,
    run_in_pairs,
    50,
    {"run-lock": "taking the run lock locks nothing"},
)
