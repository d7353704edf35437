"""The files behind a configuration: how text, folders, environment and httpd's own facts are read.

Only regular files are opened, never a FIFO or a device, and without following a race into one.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.evaluator import STATIC_MODULES, EntryKind
from mdconnector.httpd.paths import to_bytes

MAX_FILE_BYTES = 64 * 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DiskReader:
    """A Reader on the real file system."""

    def read(self, path: str) -> str:
        """Return a regular file's text. Raises ConfigurationError."""
        if path == "/dev/null":
            return ""
        raw = to_bytes(path)
        try:
            if not stat.S_ISREG(os.stat(raw).st_mode):  # noqa: PTH116 - a path of any bytes
                raise ConfigurationError("not a regular file", at=path)
            return _read_regular(raw, path).decode("utf-8", "surrogateescape")
        except OSError as error:
            raise _unreadable(path, error) from error

    def kind(self, path: str) -> EntryKind | None:
        """Say what `path` leads to, links followed."""
        try:
            mode = os.stat(to_bytes(path)).st_mode  # noqa: PTH116 - a path of any bytes
        except (OSError, ValueError):
            return None
        if stat.S_ISREG(mode):
            return EntryKind.FILE
        return EntryKind.FOLDER if stat.S_ISDIR(mode) else EntryKind.OTHER

    def list_folder(self, path: str) -> Iterable[tuple[str, EntryKind]] | None:
        """List a folder, links not followed. Raises ConfigurationError."""
        try:
            with os.scandir(to_bytes(path)) as entries:
                return [
                    (entry.name.decode("utf-8", "surrogateescape"), _kind_of(entry))
                    for entry in entries
                ]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error


def _read_regular(raw: bytes, path: str) -> bytes:
    descriptor = os.open(raw, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError("not a regular file", at=path)
        content = os.read(descriptor, min(status.st_size, MAX_FILE_BYTES) + 1)
        while part := os.read(descriptor, 1024 * 1024):
            content += part
            if len(content) > MAX_FILE_BYTES:
                raise ConfigurationError("larger than 64 MiB", at=path)
        return content
    finally:
        os.close(descriptor)


def _kind_of(entry: os.DirEntry[bytes]) -> EntryKind:
    if entry.is_symlink():
        return EntryKind.LINK
    if entry.is_file(follow_symlinks=False):
        return EntryKind.FILE
    return EntryKind.FOLDER if entry.is_dir(follow_symlinks=False) else EntryKind.OTHER


def _unreadable(path: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        (error.strerror or str(error)).lower(), at=path, hint="check the path and who may read it"
    )
