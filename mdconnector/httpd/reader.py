"""The files behind a configuration: how text, folders, environment and httpd's own facts are read.

Only regular files are opened, never a FIFO or a device, and without following a race into one.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.paths import to_bytes
from mdconnector.httpd.world import EntryKind

MAX_FILE_BYTES = 64 * 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DiskReader:
    """A Reader on the real file system."""

    def read(self, path: str, kind: EntryKind | None = None) -> str:
        """Return a regular file's text. Raises ConfigurationError.

        What it is, is asked before it is opened, because opening a device may act, and once more
        after it.
        """
        if path == "/dev/null":
            return ""
        raw = to_bytes(path)
        try:
            if kind is not EntryKind.FILE and not _is_regular(os.stat(raw)):  # noqa: PTH116 - a path of any bytes
                raise _irregular(path)
            return _read_regular(raw, path).decode("utf-8", "surrogateescape")
        except (OSError, ValueError) as error:
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
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error


def _read_regular(raw: bytes, path: str) -> bytes:
    descriptor = os.open(raw, _FLAGS)
    try:
        status = os.fstat(descriptor)
        if not _is_regular(status):
            raise _irregular(path)
        content = os.read(descriptor, min(status.st_size, MAX_FILE_BYTES) + 1)
        if len(content) == status.st_size <= MAX_FILE_BYTES:
            return content
        while len(content) <= MAX_FILE_BYTES and (part := os.read(descriptor, 1024 * 1024)):
            content += part
        if len(content) > MAX_FILE_BYTES:
            hint = "no configuration is: see what it is"
            raise ConfigurationError("larger than 64 MiB", at=path, hint=hint)
        return content
    finally:
        os.close(descriptor)


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def _kind_of(entry: os.DirEntry[bytes]) -> EntryKind:
    if entry.is_file(follow_symlinks=False):
        return EntryKind.FILE
    if entry.is_symlink():
        return EntryKind.LINK
    return EntryKind.FOLDER if entry.is_dir(follow_symlinks=False) else EntryKind.OTHER


def _irregular(path: str) -> ConfigurationError:
    hint = "name a file that can be read to its end"
    return ConfigurationError("not a regular file", at=path, hint=hint)


def _unreadable(path: str, error: OSError | ValueError) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else None
    return ConfigurationError(
        (reason or str(error)).lower(), at=path, hint="check the path and who may read it"
    )


_ENVVARS_LIMIT_SECONDS = 10
_SOURCING = 'test -n "$APACHE_CONFDIR" || APACHE_CONFDIR=$2; . "$1" >/dev/null && /usr/bin/env -0'
_NOT_OURS = frozenset({"PWD", "OLDPWD", "SHLVL", "_"})


def read_environment(envvars: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that apache2ctl starts httpd in: `base`, changed by `envvars`.

    The file is a shell script and is run by `sh`. Raises ConfigurationError.
    """
    import subprocess  # not every host has the file

    file = envvars.absolute()
    try:
        answer = subprocess.run(
            ["/bin/sh", "-c", _SOURCING, "sh", str(file), str(file.parent)],
            env=dict(base),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ENVVARS_LIMIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _unsourced(envvars) from error
    if not answer.stdout:
        raise _unsourced(envvars)
    entries = answer.stdout.decode("utf-8", "surrogateescape").split("\0")
    pairs = (entry.partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs if name not in _NOT_OURS}


def _unsourced(envvars: Path) -> ConfigurationError:
    hint = f"see what it does: sh -xc '. {envvars}'"
    return ConfigurationError("cannot be sourced by sh", at=str(envvars), hint=hint)


class Program(NamedTuple):
    """What can be read in httpd's binary without starting it."""

    version: str
    modules: frozenset[str]
    """compiled in: identifiers and source names"""
    server_root: str | None
    """HTTPD_ROOT, where the main file does not say"""


_VERSION = re.compile(rb"\0Apache/(2\.\d+\.\d+)[ \0]")
_COMPILED_IN = re.compile(rb"mod_\w+|core|http_core|event|worker|prefork")
_SERVER_ROOT = re.compile(rb'HTTPD_ROOT="([^"\0]+)"')
_MPMS = frozenset({"event", "worker", "prefork"})


def read_program(httpd: Path) -> Program | None:
    """Read version and static modules from the binary's bytes; None where it is not one of httpd.

    Raises ConfigurationError where it cannot be read.
    """
    try:
        content = _read_regular(to_bytes(str(httpd)), str(httpd))
    except (OSError, ValueError) as error:
        raise _unreadable(str(httpd), error) from error
    version = _VERSION.search(content)
    if version is None:
        return None
    names = (before.rpartition(b"\0")[2] for before in content.split(b".c\0")[:-1])
    stems = {name.decode() for name in names if _COMPILED_IN.fullmatch(name)} | {
        "core",
        "http_core",
    }
    server_root = _SERVER_ROOT.search(content)
    return Program(
        version=version[1].decode(),
        modules=frozenset(name for stem in stems for name in (f"{stem}.c", _identifier(stem))),
        server_root=server_root[1].decode("utf-8", "surrogateescape") if server_root else None,
    )


def _identifier(stem: str) -> str:
    if stem == "http_core":
        return "http_module"
    return f"mpm_{stem}_module" if stem in _MPMS else f"{stem.removeprefix('mod_')}_module"
