"""What was found in the store and not understood: moved to mdconnector/set-aside/, never deleted.

Rule: each entry keeps its name, with the lowest free number behind it; a text beside it says why.
"""

from __future__ import annotations

import hashlib
from itertools import count
from pathlib import Path

from mdconnector.store.folder import EntryExistsError, Folder
from mdconnector.store.tree import Store

SET_ASIDE = "set-aside"
_MAX_FILE_NAME = 255
_ROOM = len(".999")
_ROOM_WITH_REASON = len(".999.reason")


def set_aside_entry(store: Store, folder: Folder, name: str, reason: str) -> Path:
    """Move an entry out of a folder of the store, durably, and return where it lies now."""
    with store.make_own(SET_ASIDE) as aside:
        numbered = move_numbered(folder, name, aside, room=_ROOM_WITH_REASON)
        aside.create(f"{numbered}.reason", f"{folder.path_of(name)}: {reason}\n".encode(), 0o600)
        aside.sync()
        folder.sync()
        return aside.path / numbered


def move_numbered(folder: Folder, name: str, to: Folder, *, room: int = _ROOM) -> str:
    """Move an entry to the lowest free number behind its name, unsynced, and return that name."""
    stem = numbered_stem(name, room=room)
    taken = set(to.names())
    for number in count(1):
        numbered = f"{stem}.{number}"
        if numbered in taken:
            continue
        try:
            folder.move(name, to, numbered)
        except EntryExistsError:
            continue
        return numbered
    raise AssertionError("unreachable: count() does not end")


def numbered_stem(name: str, *, room: int = _ROOM) -> str:
    """Return what stands before the number: the name, shortened where it leaves no room for one."""
    if len(name) + room <= _MAX_FILE_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: _MAX_FILE_NAME - room - len(digest) - 1]}-{digest}"
