"""Everything about a folder that a write would change, to show that nothing was written."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

RUN_LOCK = "mdconnector/run.lock"
"""names who holds it: not counted as a write"""


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what lies below a folder and how, but for the run lock; reading changes none of it."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path.relative_to(folder)): _traits(path) for path in paths if path != folder / RUN_LOCK
    }


def _traits(path: Path) -> tuple[object, ...]:
    status = os.lstat(path)
    content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
    return (
        stat.filemode(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_nlink,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        content,
    )
