"""Which machine this is, among others that share a store or ask one CA."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def host_name() -> str:
    """Return what this host is called."""
    return os.uname().nodename


def host_id() -> str:
    """Return the host's name and a mark of its machine: clones often have one name."""
    mark = machine_digest("host").hex()[:8]
    return f"{host_name()}/{mark}"


def machine_digest(purpose: str) -> bytes:
    """Return 32 bytes that stay the same on this machine and are others for another purpose."""
    try:
        identity = _MACHINE_ID.read_bytes()
    except OSError:
        identity = b""
    identity = identity or host_name().encode()
    return hashlib.sha256(f"mdconnector {purpose} ".encode() + identity).digest()
