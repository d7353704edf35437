"""Faults in this process: every call to the disk, of every story, stopped by every plausible fault.

Rules: the point of a fault is the number of a call in a story that runs undisturbed; it counts only
if it was reached. After each the disk is well again, and what the next run finds is judged: the
live set before anything is mended, then keys, left-overs, and whether the story can be told to its
end. A death is that of a forked child.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from mdconnector.errors import MdConnectorError
from mdconnector.store import folder, recovery, tree
from mdconnector.store.attempts import load_attempt
from mdconnector.store.folder import Folder
from mdconnector.store.tree import Store
from tests.store import stories
from tests.store.credentials import NAME, live, open_store
from tests.store.kill_points import Call, killed_at, watched
from tests.store.stories import STORIES, WORK, Story
from tests.torture.figure import Figure, Tally, Task

KILL = "kill"
SHORT = "short write"
_MAKES = frozenset({"open", "mkdir", "link", "rename", "renameat2"})
_REMOVES = frozenset({"unlink", "rmdir"})
_METADATA = frozenset({"fchmod", "fchown", "setxattr"})
_CHANGES = _MAKES | _REMOVES | _METADATA | {"write", "fsync", "pwrite", "ftruncate"}
_OPENS = frozenset({"open", "open-to-read", "scandir"})
_READS = frozenset({"open-to-read", "read", "listdir", "scandir", "stat", "fstat", "fstatvfs"})
_LOCKS = frozenset({"flock", "lockf"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and at which calls; `lasts`: at all such calls from then on."""

    name: str
    calls: frozenset[str]
    error: int = 0
    lasts: bool = False

    def __str__(self) -> str:
        return f"{self.name}{' from then on' if self.lasts else ''}"


def _both(name: str, calls: frozenset[str]) -> tuple[Fault, Fault]:
    error = getattr(errno, name)
    return Fault(name, calls, error), Fault(name, calls, error, lasts=True)


FAULTS = (
    Fault(KILL, _CHANGES),
    Fault(SHORT, frozenset({"write"})),
    Fault("ENOLCK", _LOCKS, errno.ENOLCK),
    Fault("EOPNOTSUPP", _LOCKS, errno.EOPNOTSUPP),
    *_both("ENOSPC", _MAKES | {"write", "fsync", "pwrite"}),
    *_both("EDQUOT", _MAKES | {"write", "fsync", "pwrite"}),
    *_both("EIO", _CHANGES | _READS),
    *_both("ESTALE", _CHANGES | _READS),
    *_both("EROFS", _CHANGES),
    *_both("EACCES", _MAKES | _REMOVES | _METADATA | {"open-to-read", "stat"}),
    *_both("EMFILE", _OPENS),
    *_both("ENOMEM", _MAKES | _OPENS | {"stat", "listdir"}),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One fault at one call of a story; for recovery, of the run after a death."""

    story: str
    died_at: int
    """the change at which a run had died before; 0: none had"""
    number: int
    call: str
    fault: Fault

    def __str__(self) -> str:
        after = f" after a death at {self.died_at}" if self.died_at else ""
        return f"{self.story}{after}, call {self.number} ({self.call}): {self.fault}"


def in_stories(task: Task) -> Tally:
    """Stop each story at any call of it."""
    with _bench(task) as bench:
        space = [
            Point(name, 0, number, call, fault)
            for name, story in STORIES.items()
            for number, call in enumerate(bench.calls(name, 0, story.act), start=1)
            for fault in FAULTS
            if call in fault.calls
        ]
        return _tally(task, space, bench.try_point)


def in_recovery(task: Task) -> Tally:
    """Let stories die at any of their changes, and stop the next run's recovery at any call."""
    tally = Tally()
    with _bench(task) as bench:
        for trial in task.told("faults", every=500):
            choice = random.Random(f"{task.seed} {trial}")  # noqa: S311 - which point is tried
            name = choice.choice(list(STORIES))
            death = choice.randint(1, bench.changes(name))
            calls = bench.calls(name, death, stories.mend)
            fault = choice.choice(FAULTS)
            numbers = [number for number, call in enumerate(calls) if call in fault.calls]
            if numbers:
                number = choice.choice(numbers)
                bench.try_point(Point(name, death, number + 1, calls[number], fault), tally)
    return tally


def _tally(task: Task, space: list[Point], try_point: Callable[[Point, Tally], None]) -> Tally:
    random.Random(task.seed).shuffle(space)  # noqa: S311 - the order of trials
    tally = Tally()
    for trial in task.told("faults", every=500):
        if trial >= len(space):
            break
        try_point(space[trial], tally)
    tally.peak("points there are", len(space))
    return tally


@contextmanager
def _bench(task: Task) -> Iterator[_Bench]:
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path,
        _protections_removed(task.without),
        mock.patch("logging.Logger.warning"),
    ):
        yield _Bench(Path(path))


class _Bench:
    """Stores as the stories find them, made once, and fresh copies of them."""

    def __init__(self, room: Path) -> None:
        self._room = room
        self._made: dict[tuple[str, int], Path] = {}
        self._keys: dict[str, set[bytes]] = {}
        self._changes: dict[str, int] = {}
        self._calls: dict[tuple[str, int], list[str]] = {}

    def calls(self, name: str, death: int, act: Callable[[Store], object]) -> list[str]:
        """Return the calls to the disk that a run makes, in order."""
        if (name, death) in self._calls:
            return self._calls[name, death]
        made = self._calls[name, death] = []

        def watch(call: str, args: Any, kwargs: Any, original: Call) -> Any:
            made.append(call)
            return original(*args, **kwargs)

        path = self._copy(name, death)
        with watched(watch, can_exchange=STORIES[name].can_exchange, reads=True):
            stories.act_in(path, act)
        return made

    def changes(self, name: str) -> int:
        """Return how many changes a story makes."""
        if name not in self._changes:
            path, story = self._copy(name, 0), STORIES[name]
            self._changes[name] = stories.changes_in(path, story.act, story)
        return self._changes[name]

    def try_point(self, point: Point, tally: Tally) -> None:
        """Do one trial."""
        story = STORIES[point.story]
        path = self._copy(point.story, point.died_at)
        act = stories.mend if point.died_at else story.act
        before = _open_handles()
        try:
            happened, refusal = _disturbed(path, point, act, story)
        except Exception:  # noqa: BLE001 - any exception but ours is what is looked for
            tally.hit(str(point))
            tally.violations.append(f"{point}: a traceback\n{traceback.format_exc()}")
            return
        if not happened:
            tally.counts["faults that were not reached"] += 1
            return
        tally.hit(str(point))
        tally.counts[f"{point.fault}"] += 1
        tally.counts["runs that ended with an error of ours"] += refusal
        if left := _open_handles() - before:
            gc.collect()
            if left := _open_handles() - before:
                tally.violations.append(f"{point}: {left} handles were left open")
        for problem in _judged(path, story, self._keys[point.story]):
            tally.violations.append(f"{point}: {problem}")

    def _copy(self, name: str, death: int) -> Path:
        if (name, death) not in self._made:
            self._made[name, death] = self._make(name, death)
        return stories.copy_of(self._made[name, death])

    def _make(self, name: str, death: int) -> Path:
        room = self._room / f"{name}-{death}"
        room.mkdir()
        if not death:
            path = stories.given(room, STORIES[name])
            self._keys[name] = stories.keys_that_must_survive(path, STORIES[name])
            return path
        path = room / "given"
        self._copy(name, 0).rename(path)
        story = STORIES[name]
        act = partial(stories.act_in, path, story.act)
        assert killed_at(death, act, can_exchange=story.can_exchange)
        return path


def _open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as cheap as can be


def _disturbed(
    path: Path, point: Point, act: Callable[[Store], object], story: Story
) -> tuple[bool, bool]:
    """Run with the fault; return whether it happened, and whether the run ended with an error."""
    whole = partial(stories.act_in, path, act)
    if point.fault.name == KILL:
        died = killed_at(point.number, whole, can_exchange=story.can_exchange, reads=True)
        return died, False
    happened = False
    count = 0

    def watch(call: str, args: Any, kwargs: Any, original: Call) -> Any:
        nonlocal happened, count
        count += 1
        is_hit = count == point.number or (point.fault.lasts and happened)
        if not is_hit or call not in point.fault.calls:
            return original(*args, **kwargs)
        happened = True
        if call == "write" and len(args[1]) > 1:
            written = original(args[0], bytes(args[1])[: len(args[1]) // 2])
            if point.fault.name == SHORT:
                return written
        raise OSError(point.fault.error, os.strerror(point.fault.error))

    try:
        with watched(watch, can_exchange=story.can_exchange, reads=True):
            whole()
    except MdConnectorError:
        return happened, True
    return happened, False


def _judged(path: Path, story: Story, keys: set[bytes]) -> Iterator[str]:
    """Yield what is wrong with a store after a fault, before and after the next run."""
    try:
        with open_store(path) as store:
            found = stories.live_or_damaged(store)
            is_undone = load_attempt(store, NAME).rollback is not None
            absent_for_a_moment = found is None and not story.can_exchange
            damaged_before = found == "damaged" and "damaged" in story.given.__name__
            if not (found in story.may_be_live or absent_for_a_moment or damaged_before):
                yield f"live was {found}"
        stories.assert_mended(path, story, keys)
        if is_undone:
            with open_store(path) as store:
                if live(store) != story.is_live_in_the_end:
                    yield "a rollback that was noted was forgotten"
        with open_store(path) as store:
            if live(store) != story.is_live_in_the_end:
                story.act(store)
            if live(store) != story.is_live_in_the_end:
                yield "it cannot be done again"
            if left := list((path / WORK).glob("*/*")):
                yield f"left over: {left}"
    except (AssertionError, MdConnectorError) as error:
        lines = traceback.format_exception_only(error)
        yield f"the next run did not mend it: {lines[-1]}\n{traceback.format_exc()}"


@contextmanager
def _protections_removed(without: str) -> Iterator[None]:
    """Remove what a control is without."""
    with ExitStack() as patches:
        if without == "exchange":
            patches.enter_context(mock.patch.object(Folder, "exchange", _removed_and_renamed))
        elif without == "errors":
            for module in (folder, tree):
                patches.enter_context(mock.patch.object(module, "store_error", _as_it_is))
        elif without == "recovery":
            patches.enter_context(mock.patch.object(stories, "recover", _nothing_recovered))
        yield


def _removed_and_renamed(self: Folder, name: str, other: Folder, other_name: str) -> bool:
    other.remove_tree(other_name)
    self.move(name, other, other_name)
    return True


def _as_it_is(error: OSError, _path: str, _what: str) -> OSError:
    return error


def _nothing_recovered(*_: object) -> recovery.Recovery:
    return recovery.Recovery()


_CONTROLS = {
    "exchange": "the live set is removed, and the new one renamed to its place",
    "errors": "what the system says is passed on as it is",
}
FAULTS_IN_STORIES = Figure(
    "faults",
    "Kills and errors at every call to the disk, in process",
    20_000,
    in_stories,
    1000,
    {**_CONTROLS, "recovery": "the next run finishes nothing"},
)
FAULTS_IN_RECOVERY = Figure(
    "recovery-faults",
    "The same inside the recovery after a kill",
    2_000,
    in_recovery,
    500,
    _CONTROLS,
)
