"""mdconnector's own small JSON files, below mdconnector/ in the store.

Rules: written whole and durable, mode 0600, times in RFC 3339 UTC; a member of the wrong type makes
the whole file damaged, and what a damaged file costs is decided by whoever reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from mdconnector.errors import StoreError
from mdconnector.store.folder import Folder

MAX_NOTE_BYTES = 1024 * 1024
NOTE_MODE = 0o600


class DamagedNoteError(StoreError):
    """One of our own JSON files does not say what it has to say."""


class Fields:
    """The members of one JSON object; ValueError for one that is of another type than asked for."""

    __slots__ = ("_members",)

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004 - a file's content, not a caller's mistake
        self._members: dict[str, object] = value

    def text(self, key: str) -> str:
        """Return a text that has to be there."""
        value = self._members.get(key)
        if not isinstance(value, str):
            raise ValueError(f"its member '{key}' is no text")  # noqa: TRY004 - as above
        return value

    def optional_text(self, key: str) -> str | None:
        """Return a text, or None where it is null or absent."""
        return None if self._members.get(key) is None else self.text(key)

    def number(self, key: str, absent: int | None = None) -> int:
        """Return a whole number that is not negative; one must be there unless `absent` is given.

        It has at most 15 digits: what is made of it must not overflow.
        """
        value = self._members.get(key, absent)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**15:
            raise ValueError(f"its member '{key}' is no whole number")
        return value

    def flag(self, key: str) -> bool:
        """Return a boolean; an absent one is false."""
        value = self._members.get(key, False)
        if not isinstance(value, bool):
            raise ValueError(f"its member '{key}' is neither true nor false")  # noqa: TRY004 - as above
        return value

    def time(self, key: str) -> datetime:
        """Return a time that has to be there, as aware UTC."""
        at = datetime.fromisoformat(self.text(key))
        if at.tzinfo is None:
            raise ValueError(f"its member '{key}' is a time without a zone")
        return at.astimezone(UTC)

    def optional_time(self, key: str) -> datetime | None:
        """Return a time, or None where it is null or absent."""
        return None if self._members.get(key) is None else self.time(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; an absent one is empty."""
        value = self._members.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"its member '{key}' is no list of texts")
        return tuple(value)

    def part(self, key: str) -> Fields | None:
        """Return an object, or None where it is null or absent."""
        value = self._members.get(key)
        return None if value is None else Fields(value)

    def parts(self, key: str) -> tuple[Fields, ...]:
        """Return a list of objects; an absent one is empty."""
        value = self._members.get(key, [])
        if not isinstance(value, list):
            raise ValueError(f"its member '{key}' is no list")  # noqa: TRY004 - as above
        return tuple(Fields(one) for one in value)

    def members(self) -> dict[str, object]:
        """Return all members as they are."""
        return dict(self._members)


def read_note(folder: Folder, name: str) -> Fields | None:
    """Read one of our JSON files; None where it is absent. Raises DamagedNoteError."""
    content = folder.read(name, max_bytes=MAX_NOTE_BYTES)
    if content is None:
        return None
    try:
        return Fields(json.loads(content))
    except (ValueError, RecursionError):
        raise damaged(folder, name, "it is no JSON object") from None


def damaged(folder: Folder, name: str, why: object) -> DamagedNoteError:
    """Make the error for a file whose members are not what they should be."""
    return DamagedNoteError(f"damaged: {why}", path=folder.path_of(name))


def write_note(folder: Folder, name: str, members: Mapping[str, object]) -> None:
    """Write one of our JSON files; durable when it returns."""
    folder.write(name, render_note(members), NOTE_MODE)
    folder.sync()


def render_note(members: Mapping[str, object]) -> bytes:
    """Return the content of one of our JSON files."""
    # in ASCII, because a name out of a file may hold bytes that are no UTF-8
    return json.dumps(members, indent=2).encode() + b"\n"


def time_text(at: datetime | None) -> str | None:
    """Write a time in RFC 3339, to the second; None stays None."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
