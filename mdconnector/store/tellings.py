"""What was told of failures that last from run to run, and when: mdconnector/told.json.

Rule: this memory only keeps -q from repeating itself, so a damaged file reads as an empty one, and
one that cannot be written is a warning: what is told twice is better than what is not told.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from mdconnector.errors import StoreError
from mdconnector.store.attempts import Told
from mdconnector.store.notes import Fields, damaged, read_note, time_text, write_note
from mdconnector.store.tree import Store
from mdconnector.warning import warn

TOLD = "told.json"
TELL_AGAIN_AFTER = timedelta(hours=24)


class About(StrEnum):
    """What a failure is about: the members of the file."""

    FILES = "files"
    DOMAINS = "domains"


class Tellings:
    """The failures that were told, by what they are about; `save` keeps them."""

    def __init__(self, store: Store, told: dict[About, dict[str, Told]]) -> None:
        self._store = store
        self._told = told
        self._has_changed = False

    @classmethod
    def load(cls, store: Store) -> Self:
        """Read what was told; nothing where the file is absent or damaged."""
        with store.make_own() as folder:
            try:
                fields = read_note(folder, TOLD)
                return cls(store, {} if fields is None else _parse(fields))
            except ValueError as error:
                warn(str(damaged(folder, TOLD, error)))
            except StoreError as error:
                warn(str(error))
        return cls(store, {})

    def is_news(self, about: About, subject: str, key: str, now: datetime) -> bool:
        """Say whether a failure is to be told now; if so, it counts as told."""
        told = self._told.setdefault(about, {})
        before = told.get(subject)
        if before and before.key == key and now - before.at < TELL_AGAIN_AFTER:
            return False
        told[subject] = Told(key, now)
        self._has_changed = True
        return True

    def forget(self, about: About, has_ended: Callable[[str], bool]) -> tuple[str, ...]:
        """Return what was told of and has ended; should it begin again, it is news."""
        told = self._told.get(about, {})
        ended = tuple(subject for subject in told if has_ended(subject))
        for subject in ended:
            del told[subject]
        self._has_changed = self._has_changed or bool(ended)
        return ended

    def save(self) -> None:
        """Keep it, durable; nothing is written where nothing has changed."""
        if not self._has_changed:
            return
        members: dict[str, object] = {
            about.value: [
                {"subject": subject, "key": one.key, "at": time_text(one.at)}
                for subject, one in told.items()
            ]
            for about, told in self._told.items()
        }
        try:
            with self._store.make_own() as folder:
                write_note(folder, TOLD, members)
        except StoreError as error:
            warn(f"{error}; what is told now will be told again")


def _parse(fields: Fields) -> dict[About, dict[str, Told]]:
    return {
        about: {
            one.text("subject"): Told(one.text("key"), one.time("at"))
            for one in fields.parts(about.value)
        }
        for about in About
    }
