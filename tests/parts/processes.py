"""A server as a child process: started, waited for by a condition, ended by its own process id."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(
    condition: Callable[[], bool], what: str, *, seconds: float = 20, every: float = 0.01
) -> None:
    """Ask until the condition holds; raise TimeoutError naming what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(every)


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts TCP connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Tell whether the process exists; one that only waits to be reaped does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


class ServerProcess:
    """One child process with one log file, which ends when the test process does."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.arguments = tuple(arguments)
        self.log = log
        self._environment = dict(environment)
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the server lives; a stopped (paused) one does."""
        return self._child is not None and self._child.poll() is None

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Start the server and return when `is_ready` says so; its log is added to."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl call, no lock is taken
            )
        try:
            wait_until(
                lambda: is_ready() or not self.is_running, f"{self.arguments[0]} to be ready"
            )
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}\n{self.log_text()}") from None
        if not self.is_running:
            raise RuntimeError(f"{self.arguments[0]} ended at once\n{self.log_text()}")

    def stop(self) -> None:
        """End the server with SIGTERM, and with SIGKILL if that takes longer than five seconds."""
        if self._child is None or not self.is_running:
            return
        self.resume()
        self._child.terminate()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server with SIGKILL."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def pause(self) -> None:
        """Stop the server where it is: connections are accepted by the kernel, nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().send_signal(signal.SIGCONT)

    def log_text(self) -> str:
        """Return everything that the server has written."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or not self.is_running:
            raise RuntimeError(f"{self.arguments[0]} is not running\n{self.log_text()}")
        return self._child


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def minimal_environment(**more: str) -> dict[str, str]:
    """Return the environment that servers get: nothing of the tester's own settings."""
    return {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C", **more}
