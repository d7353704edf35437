"""Free ports on loopback that no other test process takes meanwhile.

Rule: a port is held by a lock file for as long as this process lives, because "bind, look, close"
gives the same port to two workers that ask at the same time. The range lies below the kernel's
ephemeral ports.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
from pathlib import Path

_FIRST, _LAST = 10_000, 29_999
_LOCKS = Path(f"/tmp/mdconnector-ports.{os.getuid()}")
_held: list[int] = []


def free_port() -> int:
    """Return a port that nothing listens on and that stays ours until this process ends."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(range(_FIRST, _LAST + 1), 1000):
        if _claim(port):
            return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}")


def _claim(port: int) -> bool:
    handle = os.open(_LOCKS / str(port), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    if not _is_free(port):
        os.close(handle)
        return False
    _held.append(handle)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
