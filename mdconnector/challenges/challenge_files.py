"""Files in `<store>/challenges/<identifier>/`, from which the running mod_md answers.

Rules: modes and owners are mod_md's; the folder belongs to Apache's user, so everything goes
through the store's folder handles, and a file is removed only while it holds what we wrote.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from mdconnector.challenges.traces import ChallengeFiles
from mdconnector.store.tree import Store

GROUP = "challenges"
_MAX_FILE_BYTES = 64 * 1024


class ChallengeFile(NamedTuple):
    """One file that answers a challenge."""

    name: str
    content: bytes
    mode: int = 0o644

    def __repr__(self) -> str:
        return f"ChallengeFile({self.name})"


def trace_of(store: Store, identifier: str, files: tuple[ChallengeFile, ...]) -> ChallengeFiles:
    """Return what `write` is about to leave in the store."""
    group = store.challenges()
    if group is None:
        absent = True
    else:
        with group:
            absent = group.stat(identifier) is None
    digests = tuple((file.name, hashlib.sha256(file.content).hexdigest()) for file in files)
    return ChallengeFiles(identifier, digests, absent)


def write(store: Store, identifier: str, files: tuple[ChallengeFile, ...]) -> None:
    """Put the files in place, whatever an earlier run or mod_md left under their names."""
    uid = store.uid_for(GROUP)
    with store.make_in_group(GROUP, identifier) as folder:
        for file in files:
            folder.write(file.name, file.content, file.mode, uid=uid)


def remove(store: Store, trace: ChallengeFiles) -> None:
    """Remove our files, and the folder if we made it and nothing else lies in it."""
    group = store.challenges()
    if group is None:
        return
    with group:
        folder = group.open(trace.identifier)
        if folder is None:
            return
        with folder:
            for name, digest in trace.digests:
                content = folder.read(name, max_bytes=_MAX_FILE_BYTES)
                if content is not None and hashlib.sha256(content).hexdigest() == digest:
                    folder.remove(name)
            is_empty = not folder.names()
        if trace.made_folder and is_empty:
            group.remove_tree(trace.identifier)
