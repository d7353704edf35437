"""Sites whose CA stands behind the faulting proxy, with the real command in this process or apart.

Rules: one proxy and one Pebble for the session, so that a warm account stays warm; each test begins
with rules of its own. Times that are minutes in real life are made short by setting the constants
that hold them, here and in `HASTY`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from mdconnector import cli
from mdconnector.acme import resources, session
from tests.e2e.command import Finished, clean_environment
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.parts import Canned, FaultingProxy

PROVEN = "proven.example.org"
"""a name that the CA has seen proof of: orders for it come `ready`"""
ORDER = r"^/order-plz$"
READ = r"^/my-order/"
FINALIZE = r"^/finalize-order/"
CERTIFICATE = r"^/certZ/"
AUTHORIZATION = r"^/authZ/"
CHALLENGE = r"^/chalZ/"
ACCOUNT = r"^/sign-me-up$"
BINDING = "externalAccountBinding"

LATER = timedelta(hours=1)
"""when cron comes again"""
SHORT_WAITS = (0.01, 0.02)
SHORT_READ_TIMEOUT = 1.5
HASTY = (
    sys.executable,
    "-c",
    f"""
from mdconnector.acme import session
from mdconnector.cli import main
session.RETRY_WAITS_SECONDS = {SHORT_WAITS}
session.READ_TIMEOUT_SECONDS = {SHORT_READ_TIMEOUT}
main()""",
)
"""the command with short times"""


ACME = "urn:ietf:params:acme:error:"


def problem(status: int, kind: str, detail: str, **members: object) -> Canned:
    """Answer a problem document in the CA's place; a `kind` without a colon is RFC 8555's."""
    whole = kind if ":" in kind else ACME + kind
    document = {"type": whole, "detail": detail, "status": status, **members}
    return Canned(status, json.dumps(document).encode())


def failure(done: Finished, name: str = PROVEN, *, exit_code: int = 1) -> str:
    """Return the one line that a run has for a failed domain."""
    assert done.exit_code == exit_code, done.output
    assert "Traceback" not in done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: failed: ")
    return line


class SitesBehindProxy(PlainSites):
    """Sites that know the CA by the proxy's address alone."""

    def __init__(self, folder: Path, proxy: FaultingProxy) -> None:
        self.proxy = proxy
        super().__init__(folder)

    def add(
        self, name: str, changes: Mapping[str, str | None] | None = None, *, more: str = ""
    ) -> Path:
        """Write the file of one domain."""
        return self.write(name, ssl_site(name, self.settings(changes), more=more))

    def rename(self, name: str) -> None:
        """Let the one domain have a name that the CA has never heard of."""
        (self.sites / f"{PROVEN}.conf").unlink()
        self.add(name)

    def settings(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return what a managed domain needs for this CA."""
        own = {
            "MDCertificateAuthority": self.proxy.directory_url,
            "MDCACertificateFile": str(self.proxy.ca_file),
        }
        return settings_for(self.proxy.pebble, own | dict(changes or {}))

    def copy(self, folder: Path) -> SitesBehindProxy:
        """Copy everything with modes and owners."""
        self.copy_to(folder)
        return SitesBehindProxy(folder, self.proxy)

    def here(
        self,
        *arguments: str | Path,
        later: timedelta = timedelta(),
        times: Mapping[str, float] | None = None,
    ) -> Finished:
        """Run the command in this process, with short times, `later` by the clock.

        `times` are constants of the session, beside those that are always short.
        """
        words = tuple(str(one) for one in (*arguments, "--sites", self.sites))
        out, err = io.StringIO(), io.StringIO()
        with (
            _short_times(times or {}),
            _as_a_process("mdconnector", *words),
            _clock_ahead(later),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = _exit_code()
        return Finished(words, code, out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start the command as a process of its own, with short times; it is ended at the end."""
        with subprocess.Popen(
            [*HASTY, *arguments, "--sites", str(self.sites)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def heals(self, name: str = PROVEN) -> Finished:
        """Run without any fault when the back-off is over: it is good, with one more order."""
        self.proxy.expect()
        orders = self.proxy.pebble.orders
        done = self.here("renew", "--all", later=timedelta(hours=21))
        assert done.exit_code == 0, done.output
        assert f"{name}: enrolled: " in done.stdout
        assert self.proxy.pebble.orders - orders <= 1
        return done

    def note(self, name: str, *path: str) -> Path:
        """Return a path below the folder that holds what is being obtained for a domain."""
        return self.store.joinpath("mdconnector", "pending", name, *path)

    def account(self) -> dict[str, bytes]:
        """Return every file of the accounts, registered and under way."""
        folders = (self.store / "accounts", self.store / "mdconnector" / "accounts")
        files = [file for one in folders for file in one.rglob("*") if file.is_file()]
        return {str(file.relative_to(self.store)): file.read_bytes() for file in sorted(files)}


@contextlib.contextmanager
def unwritable(part: str, error: int) -> Iterator[list[str]]:
    """Let no file be made whose path has this in it; what it yields fills with the tries."""
    tried: list[str] = []
    real = os.open

    def guarded(path: Any, flags: int, *args: Any, dir_fd: int | None = None, **more: Any) -> int:
        folder = "" if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        whole = f"{folder}/{os.fsdecode(path)}"
        if flags & os.O_CREAT and part in whole:
            tried.append(whole)
            raise OSError(error, os.strerror(error))
        return real(path, flags, *args, dir_fd=dir_fd, **more)

    with mock.patch.object(os, "open", guarded):
        yield tried


@contextlib.contextmanager
def _short_times(more: Mapping[str, float]) -> Iterator[None]:
    times: dict[str, Any] = {
        "RETRY_WAITS_SECONDS": SHORT_WAITS,
        "READ_TIMEOUT_SECONDS": SHORT_READ_TIMEOUT,
        "CONNECT_TIMEOUT_SECONDS": SHORT_READ_TIMEOUT,
        **more,
    }
    with (
        mock.patch.multiple(session, **times),
        mock.patch.object(resources, "POLITE_POLL_SECONDS", 0.3),
    ):
        yield


@contextlib.contextmanager
def _as_a_process(*words: str) -> Iterator[None]:
    """Give back what the command sets for its process."""
    mask = os.umask(0o022)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with mock.patch.object(sys, "argv", list(words)):
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
        os.umask(mask)


@contextlib.contextmanager
def _clock_ahead(by: timedelta) -> Iterator[None]:
    now = cli._now

    def ahead() -> datetime:
        return now() + by

    with mock.patch.object(cli, "_now", ahead):
        yield


def _exit_code() -> int:
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
