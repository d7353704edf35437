"""The running httpd's reload: tested before, sent while it is idle, waited for, and mended.

Rules: httpd's own word is what counts: its `-t` before a reload, and its pid file, written anew,
after one. A server that does not run is never started, but one that a reload has ended is.
"""

import contextlib
import os
import resource
import signal
import time
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mdconnector.errors import HttpdError
from mdconnector.httpd.dumps import parse_refusal
from mdconnector.httpd.process import (
    CONFIG_TEST_SECONDS,
    RunningHttpd,
    ask_itself,
    find_running,
    own_arguments,
    read_pid_file,
    require_access,
    stat_fields,
)
from mdconnector.httpd.programs import find_program, run_program, split_command
from mdconnector.printable import printable

IDLE_LIMIT_SECONDS = 10.0
RELOAD_LIMIT_SECONDS = 120.0
START_LIMIT_SECONDS = 30.0

_IDLE_SAMPLES = 4
_IDLE_SAMPLE_SECONDS = 0.010
_LOOK_SECONDS = 0.020
_SUCCESSOR_SECONDS = 5.0
_START_PAUSE_SECONDS = 0.25


class ConfigTest(NamedTuple):
    """What httpd itself says about its configuration; `at` is the `file:line` that it blames."""

    ok: bool
    output: str
    at: str | None = None


class ReloadOutcome(StrEnum):
    """How a reload ended."""

    RELOADED = "reloaded"
    NOT_RUNNING = "not-running"
    """it was gone before anything was sent"""
    DIED = "died"
    """it ended because of the reload"""
    STOPPED = "stopped"
    """somebody stopped it meanwhile, in the ordinary way"""
    TIMED_OUT = "timed-out"
    """its pid file was not written again within the limit"""
    COMMAND_FAILED = "command-failed"


class ReloadResult(NamedTuple):
    """How a reload ended, why, and how long it took."""

    outcome: ReloadOutcome
    detail: str
    seconds: float


def config_test(running: RunningHttpd, *, limit_seconds: float = CONFIG_TEST_SECONDS) -> ConfigTest:
    """Ask the running httpd's own executable whether the configuration can be read.

    It says nothing about keys and certificates: `-t` never opens them.
    """
    require_access(running)
    finished = ask_itself(running, "-t", limit_seconds=limit_seconds)
    if finished.exit_code == 0:
        return ConfigTest(ok=True, output=printable(finished.output))
    if finished.exit_code is None:
        return ConfigTest(ok=False, output=f"no answer within {limit_seconds:.0f} s")
    refusal = parse_refusal(finished.output)
    at = None if refusal.at is None else printable(refusal.at)
    return ConfigTest(ok=False, output=printable(refusal.message), at=at)


def is_idle_now(running: RunningHttpd) -> bool:
    """Say whether the parent sleeps and used no CPU time for 40 ms; one that has ended is idle."""
    first = _activity(running)
    for _ in range(_IDLE_SAMPLES):
        if first is None:
            return True
        if first[0] != "S":
            return False
        time.sleep(_IDLE_SAMPLE_SECONDS)
        now = _activity(running)
        if now is not None and now != first:
            return False
        first = now
    return True


class Stillness:
    """Whether the parent does nothing at all from one moment on."""

    def __init__(self, running: RunningHttpd) -> None:
        self._running = running
        self._seen: tuple[str, str, str, str] | None = None

    def begins(self) -> bool:
        """Say whether the parent is idle now; `lasts` counts from here."""
        is_idle = is_idle_now(self._running)
        self._seen = _activity(self._running)
        return is_idle

    def lasts(self) -> bool:
        """Say whether it has slept ever since, or ended. Takes no time."""
        now = _activity(self._running)
        return now is None or (now[0] == "S" and now == self._seen)


def wait_idle(running: RunningHttpd, *, limit_seconds: float = IDLE_LIMIT_SECONDS) -> bool:
    """Wait until the parent is idle, so not in the middle of taking up its configuration."""
    deadline = time.monotonic() + limit_seconds
    while not is_idle_now(running):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_IDLE_SAMPLE_SECONDS)
    return True


def reload(
    running: RunningHttpd | None,
    *,
    command: str | None = None,
    limit_seconds: float = RELOAD_LIMIT_SECONDS,
) -> ReloadResult:
    """Reload httpd gracefully, by SIGUSR1 or by `command`, and wait until that is over.

    It is over when httpd has written its pid file anew, which it does after post_config. A server
    that does not run is never started. Without `running`, only the command's exit code can be told.
    """
    started = time.monotonic()
    if command is None:
        outcome, detail = _reload_by_signal(running, limit_seconds)
    else:
        outcome, detail = _reload_by_command(running, command, limit_seconds)
    return ReloadResult(outcome, detail, time.monotonic() - started)


def start_again(
    running: RunningHttpd, *, limit_seconds: float = START_LIMIT_SECONDS
) -> RunningHttpd | None:
    """Start an httpd that a reload has ended: by its systemd unit, else as it was started before.

    Returns the new parent, or None where none came up within the limit. One that somebody else has
    started meanwhile counts.
    """
    require_access(running)
    deadline = time.monotonic() + limit_seconds
    successor = _await_successor(running, time.monotonic())
    if successor is not None:
        return successor
    _remove_stale_pid_file(running)
    systemctl = find_program("systemctl")
    if running.unit is not None and systemctl is not None:
        finished = run_program((systemctl, "start", running.unit), limit_seconds=limit_seconds)
        if finished.exit_code == 0:
            successor = _await_successor(running, min(deadline, time.monotonic() + 5))
            if successor is not None:
                return successor
    return _start_as_before(running, deadline)


def _activity(running: RunningHttpd) -> tuple[str, str, str, str] | None:
    """Return state and CPU time, the last in ns where the kernel counts so; None once it ended."""
    try:
        fields = stat_fields(running.pid)
        precise = "0"
        with contextlib.suppress(OSError):
            precise = Path(f"/proc/{running.pid}/schedstat").read_bytes().split()[0].decode()
    except (OSError, IndexError):
        return None
    if not running.is_alive():
        return None
    return fields[0], fields[11], fields[12], precise


def _reload_by_signal(
    running: RunningHttpd | None, limit_seconds: float
) -> tuple[ReloadOutcome, str]:
    if running is None or not running.is_alive():
        return ReloadOutcome.NOT_RUNNING, "httpd is not running"
    require_access(running)
    # while somebody else's reload is under way, the next pid file would be that one's
    wait_idle(running)
    before = _stamp(running.pid_file)
    try:
        signal.pidfd_send_signal(running.pidfd, signal.SIGUSR1)
    except ProcessLookupError:
        return ReloadOutcome.NOT_RUNNING, "httpd is not running"
    return _await_rewritten(running, before, time.monotonic() + limit_seconds)


def _reload_by_command(
    running: RunningHttpd | None, command: str, limit_seconds: float
) -> tuple[ReloadOutcome, str]:
    deadline = time.monotonic() + limit_seconds
    before = _stamp(running.pid_file) if running else None
    try:
        finished = run_program(split_command(command), limit_seconds=limit_seconds)
    except HttpdError as error:
        return ReloadOutcome.COMMAND_FAILED, error.message
    shown = printable(command)
    if finished.exit_code is None:
        return (
            ReloadOutcome.COMMAND_FAILED,
            f"{shown} did not end within {limit_seconds:.0f} s and was killed",
        )
    if finished.exit_code != 0:
        said = printable(finished.output) or "no output"
        detail = f"{shown} ended with exit code {finished.exit_code}: {said}"
        if running is not None and not running.is_alive():
            return _ended(running, detail)
        return ReloadOutcome.COMMAND_FAILED, detail
    if running is None:
        return ReloadOutcome.RELOADED, f"{shown} succeeded"
    return _await_rewritten(running, before, deadline)


def _stamp(pid_file: Path) -> tuple[int, int] | None:
    try:
        status = pid_file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _await_rewritten(
    running: RunningHttpd, before: tuple[int, int] | None, deadline: float
) -> tuple[ReloadOutcome, str]:
    """Wait until httpd has written its pid file again, or has ended."""
    while True:
        if running.ends_within(_LOOK_SECONDS):
            return _ended(running, f"httpd (process {running.pid}) ended during the reload")
        if _stamp(running.pid_file) not in {None, before}:
            return ReloadOutcome.RELOADED, f"process {running.pid} took up its configuration"
        if time.monotonic() >= deadline:
            return (
                ReloadOutcome.TIMED_OUT,
                f"{running.pid_file} was not written again by process {running.pid}",
            )


def _ended(running: RunningHttpd, detail: str) -> tuple[ReloadOutcome, str]:
    """Tell why the parent ended: killed by what it read, or restarted or stopped by somebody.

    httpd removes its pid file when it is stopped, not when it gives up on its configuration.
    """
    if _names(running.pid_file, running.pid):
        return ReloadOutcome.DIED, detail
    successor = _await_successor(running, time.monotonic() + _SUCCESSOR_SECONDS)
    if successor is not None:
        with successor:
            return ReloadOutcome.RELOADED, f"it was restarted as process {successor.pid}"
    if _unit_failed(running.unit):
        return ReloadOutcome.DIED, detail
    return ReloadOutcome.STOPPED, f"httpd (process {running.pid}) was stopped meanwhile"


def _names(pid_file: Path, pid: int) -> bool:
    written = read_pid_file(pid_file)
    return written is not None and written[0] == pid


def _unit_failed(unit: str | None) -> bool:
    systemctl = find_program("systemctl")
    if unit is None or systemctl is None:
        return False
    finished = run_program((systemctl, "is-failed", "--quiet", unit), limit_seconds=10)
    return finished.exit_code == 0


def _await_successor(running: RunningHttpd, deadline: float) -> RunningHttpd | None:
    """Wait for another parent that has written the same pid file."""
    while True:
        successor = find_running(running.pid_file, httpd=running.executable)
        if successor is not None:
            if successor.pid != running.pid or successor.start_time != running.start_time:
                return successor
            successor.close()
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOOK_SECONDS)


def _remove_stale_pid_file(running: RunningHttpd) -> None:
    """Remove the pid file of a dead parent: httpd does not start while its number seems alive."""
    if not running.is_alive() and _names(running.pid_file, running.pid):
        with contextlib.suppress(OSError):
            running.pid_file.unlink()


def _start_as_before(running: RunningHttpd, deadline: float) -> RunningHttpd | None:
    """Start httpd with its former arguments, again while the workers left behind hold its ports."""
    while True:
        child = _start_detached(running)
        while not _has_failed(child):
            successor = _await_successor(running, time.monotonic())
            if successor is not None or time.monotonic() >= deadline:
                return successor
            time.sleep(_LOOK_SECONDS)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_START_PAUSE_SECONDS)


def _has_failed(child: int) -> bool:
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return False  # it ended well before: httpd has left us to run by itself
    return ended != 0 and status != 0


def _start_detached(running: RunningHttpd) -> int:
    """Start httpd without `-k`, which may have been `graceful`; return the new process."""
    import shlex

    command = (str(running.executable), *own_arguments(running, without="kE"))
    nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    try:
        child = os.posix_spawn(
            running.executable, command, running.environment, file_actions=nothing, setsid=True
        )
    except OSError as error:
        raise HttpdError(
            f"cannot start {running.executable} again: {error.strerror}",
            hint=f"start it by hand: {shlex.join(command)}",
        ) from error
    # ours forbid a core, which would hold keys; httpd gets its own ones back
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(child, resource.RLIMIT_CORE, running.core_limits)
    return child
