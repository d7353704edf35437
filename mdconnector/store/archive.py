"""Old sets: archive/<name>.<n>, numbered as mod_md numbers them and no more than a few of each.

Rules: a set gets the lowest free number, so numbers say nothing about age; newest is by notBefore.
Five are kept for each domain, the newest that Apache could open always among them; sets without a
chain go first; while one cannot be read, none goes. What is to go leaves the archive in one step,
so that no half set is found there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

from mdconnector.errors import StoreError
from mdconnector.store.folder import EntryExistsError, ExhaustedError, Folder, UnsafeEntryError
from mdconnector.store.pairs import examined
from mdconnector.store.set_aside import numbered_stem
from mdconnector.store.tree import Store

ARCHIVE = "archive"
WORK_SCRATCH = ("work", "scratch")
"""sets being assembled or thrown away: nothing in it is the only copy of anything"""
KEPT_SETS = 5

_NUMBERED = re.compile(r"(.+)\.([1-9][0-9]{0,8})")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class _Age(NamedTuple):
    """How worth keeping an archived set is; more is better."""

    has_chain: bool
    not_before: datetime
    number: int


class Archive:
    """The open archive; listed once, however many sets are put into it."""

    def __init__(self, store: Store, folder: Folder) -> None:
        self._store = store
        self._folder = folder
        self._numbers: dict[str, set[int]] = defaultdict(set)
        for name in folder.names():
            if match := _NUMBERED.fullmatch(name):
                self._numbers[match[1]].add(int(match[2]))

    @classmethod
    @contextmanager
    def open(cls, store: Store) -> Iterator[Archive]:
        """Open the archive, made where it is absent."""
        with store.make_group(ARCHIVE) as folder:
            yield cls(store, folder)

    def entries(self, name: str) -> Iterator[tuple[str, Folder]]:
        """Yield the archived sets of a domain, open, in no order; what cannot be opened is not."""
        yield from self._entries(name, passed_over=StoreError)

    def _entries(self, name: str, *, passed_over: type[StoreError]) -> Iterator[tuple[str, Folder]]:
        stem = numbered_stem(name)
        for number in sorted(self._numbers[stem]):
            entry = f"{stem}.{number}"
            try:
                folder = self._folder.open(entry)
            except ExhaustedError:
                raise
            except passed_over:
                continue
            if folder is not None:
                with folder:
                    yield entry, folder

    def add(self, source: Folder, name: str) -> None:
        """Archive a set that lies in `source`, durably; an empty folder is only removed."""
        if _is_empty(source, name):
            source.remove_tree(name)
            source.sync()
            return
        number = self._add(source, name)
        self._folder.sync()
        source.sync()
        self._prune(name, just_added=number)

    def take(self, entry: str, to: Folder, name: str) -> None:
        """Move an archived set out again, durably."""
        self._folder.move(entry, to, name)
        to.sync()
        self._folder.sync()
        stem, _, number = entry.rpartition(".")
        self._numbers[stem].discard(int(number))

    def _add(self, source: Folder, name: str) -> int:
        stem = numbered_stem(name)
        taken = self._numbers[stem]
        for number in count(1):
            if number in taken:
                continue
            taken.add(number)
            try:
                source.move(name, self._folder, f"{stem}.{number}")
            except EntryExistsError:
                continue
            except StoreError:
                taken.discard(number)
                raise
            return number
        raise AssertionError("unreachable: count() does not end")

    def _prune(self, name: str, *, just_added: int) -> None:
        stem = numbered_stem(name)
        if len(self._numbers[stem]) <= KEPT_SETS:
            return
        try:
            kept = self._kept(name, just_added)
        except StoreError:
            # which is the newest good one cannot be told; the next set that comes makes room
            return
        with self._store.make_own(*WORK_SCRATCH) as scratch:
            for number in sorted(self._numbers[stem] - kept):
                entry = f"{stem}.{number}"
                scratch.remove_tree(entry)
                self._folder.move(entry, scratch, entry)
                self._numbers[stem].discard(number)
                self._folder.sync()
                scratch.remove_tree(entry)

    def _kept(self, name: str, just_added: int) -> set[int]:
        ages, sound = [], []
        for entry, folder in self._entries(name, passed_over=UnsafeEntryError):
            leaves, is_sound = examined(folder)
            newest = max((leaf.not_before for leaf in leaves), default=_LONG_AGO)
            age = _Age(bool(leaves), newest, int(entry.rpartition(".")[2]))
            ages.append(age)
            if is_sound:
                sound.append(age)
        # a promotion that has to be put back needs the set that it replaced, whatever its age
        must_stay = {just_added, *(age.number for age in [max(sound, default=None)] if age)}
        newest_first = [age.number for age in sorted(ages, reverse=True)]
        others = [number for number in newest_first if number not in must_stay]
        return must_stay | set(others[: KEPT_SETS - len(must_stay)])


def _is_empty(source: Folder, name: str) -> bool:
    folder = source.open(name)
    if folder is None:
        return False
    with folder:
        return not folder.names()
