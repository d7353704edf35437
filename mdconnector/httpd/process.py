"""The running httpd: found, tested, reloaded, and started again where a reload ended it.

Rule: nothing is signalled but a process whose pid file, executable and start time fit together, and
only through a pidfd, so that a pid that has changed hands is never hit.
"""

import contextlib
import os
import re
import resource
import select
import signal
import stat
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from mdconnector.errors import HttpdError
from mdconnector.httpd.programs import Finished, find_program, run_program, split_command
from mdconnector.printable import printable

KNOWN_EXECUTABLES = (
    Path("/usr/sbin/apache2"),
    Path("/usr/sbin/httpd"),
    Path("/usr/local/apache2/bin/httpd"),
)

CONFIG_TEST_SECONDS = 120.0
IDLE_LIMIT_SECONDS = 10.0
RELOAD_LIMIT_SECONDS = 120.0
START_LIMIT_SECONDS = 30.0

_EXECUTABLE_NAME = re.compile(r"(?:apache2|httpd)(?:[.-][a-z0-9]+)?")
_DELETED = " (deleted)"
_OPTIONS_WITH_VALUE = frozenset("CcDdEefk")
_OPTIONS_THAT_COUNT = frozenset("CcDdf")
_RUN_PID_FILE = re.compile(r'^PidFile: "(.*)"$', re.MULTILINE)
_MAX_PID_FILE_BYTES = 64
_START_SLACK_SECONDS = 2.0
_IDLE_SAMPLES = 4
_IDLE_SAMPLE_SECONDS = 0.010
_LOOK_SECONDS = 0.020
_SUCCESSOR_SECONDS = 5.0
_START_PAUSE_SECONDS = 0.25


class RunningHttpd(NamedTuple):
    """The parent process of a running httpd, held by a pidfd until `close`."""

    pid: int
    start_time: int
    """clock ticks since boot, field 22 of /proc/<pid>/stat"""
    executable: Path
    arguments: tuple[str, ...]
    """its own, without the program's name"""
    environment: Mapping[str, str]
    """as it was started, so it is never shown; empty where it may not be read"""
    directory: Path
    unit: str | None
    """the systemd unit it belongs to"""
    pid_file: Path
    pid_file_mtime_ns: int
    """when it started or last took up its configuration"""
    accessible: bool
    """this user may signal it and read its environment"""
    core_limits: tuple[int, int]
    """how large a core it may dump, soft and hard; our own limits where its are not known"""
    pidfd: int

    def __repr__(self) -> str:
        return f"RunningHttpd({self.pid}, {self.executable})"

    def is_alive(self) -> bool:
        """Say whether this very process still runs."""
        return not _readable(self.pidfd, 0)

    def close(self) -> None:
        """Let go of the process; nothing of it can be asked afterwards."""
        with contextlib.suppress(OSError):
            os.close(self.pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


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


def find_running(pid_file: Path | None, *, httpd: Path | None = None) -> RunningHttpd | None:
    """Return the httpd parent that a pid file names, or None where it names none that runs.

    A pid file that is older than the process belongs to one that has ended, unless the process's
    own configuration names this very file: a clock that was set forward makes it look so.
    """
    if pid_file is None:
        return None
    written = _read_pid_file(pid_file)
    if written is None:
        return None
    pid, mtime_ns = written
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    running = None
    try:
        running = _describe(pid, pidfd, pid_file=pid_file, mtime_ns=mtime_ns, httpd=httpd)
        if running is not None and not _belongs_together(running):
            running = None
        return running
    finally:
        if running is None:
            os.close(pidfd)


def pid_file_mtime_ns(pid_file: Path) -> int | None:
    """Return when httpd last wrote its pid file, which it does at each start and each reload."""
    written = _read_pid_file(pid_file)
    return written[1] if written else None


def default_httpd(explicit: Path | None, running: RunningHttpd | None) -> Path | None:
    """Return the httpd to ask: the one named, else the running one, else the first usual place."""
    if explicit is not None:
        return explicit if os.access(explicit, os.X_OK) else None
    if running is not None:
        return running.executable
    return next((path for path in KNOWN_EXECUTABLES if os.access(path, os.X_OK)), None)


def arguments_that_count(running: RunningHttpd) -> tuple[str, ...]:
    """Return the arguments that change the configuration, in pairs: `-D NAME`, -C, -c, -f, -d."""
    return tuple(
        word
        for option, value in _split_options(running.arguments)
        if option in _OPTIONS_THAT_COUNT and value is not None
        for word in (f"-{option}", value)
    )


def config_test(running: RunningHttpd, *, limit_seconds: float = CONFIG_TEST_SECONDS) -> ConfigTest:
    """Ask the running httpd's own executable whether the configuration can be read.

    It says nothing about keys and certificates: `-t` never opens them.
    """
    from mdconnector.httpd.dumps import parse_refusal

    require_access(running)
    finished = _ask_itself(running, "-t", limit_seconds=limit_seconds)
    if finished.exit_code == 0:
        return ConfigTest(ok=True, output=printable(finished.output))
    if finished.exit_code is None:
        return ConfigTest(ok=False, output=f"no answer within {limit_seconds:.0f} s")
    refusal = parse_refusal(finished.output)
    if refusal.at is None:
        return ConfigTest(ok=False, output=printable(finished.output))
    return ConfigTest(ok=False, output=printable(refusal.message), at=printable(refusal.at))


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


def _read_pid_file(pid_file: Path) -> tuple[int, int] | None:
    try:
        descriptor = os.open(pid_file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        text = os.read(descriptor, _MAX_PID_FILE_BYTES) if stat.S_ISREG(status.st_mode) else b""
    except OSError:
        return None
    finally:
        os.close(descriptor)
    number = text.strip()
    if not number.isdigit() or not 0 < int(number) < 2**31:
        return None
    return int(number), status.st_mtime_ns


def _describe(
    pid: int, pidfd: int, *, pid_file: Path, mtime_ns: int, httpd: Path | None
) -> RunningHttpd | None:
    """Read everything about the process; None where it is no httpd parent, or ended meanwhile."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = _stat_fields(pid)
        arguments = _strings(folder / "cmdline")
        link, accessible = _executable_link(folder)
        executable = link or _guess_executable(folder, arguments, httpd)
        if executable is None or not _is_httpd(executable, httpd):
            return None
        if link is not None and _runs(fields[1], link):
            return None  # a worker: its parent runs the same program
        running = RunningHttpd(
            pid=pid,
            start_time=int(fields[19]),
            executable=executable,
            arguments=arguments[1:],
            environment=_environment(folder) if accessible else {},
            directory=(folder / "cwd").readlink() if accessible else Path("/"),
            unit=_unit(folder),
            pid_file=pid_file,
            pid_file_mtime_ns=mtime_ns,
            accessible=accessible and _may_signal(pidfd),
            core_limits=_core_limits(pid),
            pidfd=pidfd,
        )
    except (OSError, IndexError, ValueError):
        return None
    # what was read belongs to the process of the pidfd only if that one lives still
    return running if running.is_alive() else None


def _belongs_together(running: RunningHttpd) -> bool:
    """Say whether the process is the one that wrote the pid file."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + running.start_time / os.sysconf("SC_CLK_TCK")
    if started <= running.pid_file_mtime_ns / 1e9 + _START_SLACK_SECONDS:
        return True
    if not running.accessible:
        return False
    finished = _ask_itself(running, "-t", "-D", "DUMP_RUN_CFG", limit_seconds=CONFIG_TEST_SECONDS)
    named = _RUN_PID_FILE.search(finished.output)
    if named is None or not running.is_alive():
        return False
    return os.path.realpath(named[1]) == os.path.realpath(running.pid_file)


def _stat_fields(pid: int) -> list[str]:
    """Return /proc/<pid>/stat from its third field on: state, parent, …"""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _strings(path: Path) -> tuple[str, ...]:
    content = path.read_bytes().removesuffix(b"\0")
    return tuple(os.fsdecode(part) for part in content.split(b"\0"))


def _environment(folder: Path) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in _strings(folder / "environ"))
    return {name: value for name, separator, value in pairs if separator and name}


def _executable_link(folder: Path) -> tuple[Path | None, bool]:
    try:
        return Path(str((folder / "exe").readlink()).removesuffix(_DELETED)), True
    except PermissionError:
        return None, False


def _runs(pid: str, executable: Path) -> bool:
    try:
        return _executable_link(Path(f"/proc/{pid}"))[0] == executable
    except OSError:
        return False  # the first process of a container has no parent to look at


def _guess_executable(folder: Path, arguments: tuple[str, ...], httpd: Path | None) -> Path | None:
    """Name the executable of another user's process, for reading the configuration only."""
    comm = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    first = Path(arguments[0])
    for candidate in (httpd,) if httpd is not None else (first, *KNOWN_EXECUTABLES):
        if candidate.is_absolute() and candidate.name[:15] == comm:
            return Path(os.path.realpath(candidate))
    return None


def _is_httpd(executable: Path, httpd: Path | None) -> bool:
    if httpd is not None:
        return os.path.realpath(httpd) == os.path.realpath(executable)
    return _EXECUTABLE_NAME.fullmatch(executable.name) is not None


def _unit(folder: Path) -> str | None:
    """Return the system unit of the process, by cgroup version 2 or the systemd line of 1."""
    for line in (folder / "cgroup").read_text(encoding="utf-8").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy != "0" and controllers != "name=systemd":
            continue
        parts = path.strip("/").split("/")
        services = [part for part in parts if part.endswith(".service")]
        if parts[0] == "system.slice" and services:
            return services[0]
    return None


def _core_limits(pid: int) -> tuple[int, int]:
    try:
        return resource.prlimit(pid, resource.RLIMIT_CORE)
    except OSError:
        return resource.getrlimit(resource.RLIMIT_CORE)


def _may_signal(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError:
        return False
    return True


def require_access(running: RunningHttpd) -> None:
    """Raise HttpdError for the process of another user, which can't be tested nor signalled."""
    if not running.accessible:
        raise HttpdError(
            f"process {running.pid} ({running.executable}) belongs to another user "
            f"than uid {os.geteuid()}",
            hint="run it as root, or let --reload-command do the reload",
        )


def _split_options(arguments: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Split a command line as httpd's getopt does: `-DNAME`, `-D NAME`, `-Xt`."""
    options: list[tuple[str, str | None]] = []
    words = iter(arguments)
    for word in words:
        if len(word) < 2 or not word.startswith("-"):
            break
        for position, letter in enumerate(word[1:], start=2):
            if letter in _OPTIONS_WITH_VALUE:
                options.append((letter, word[position:] or next(words, None)))
                break
            options.append((letter, None))
    return tuple(options)


def _own_arguments(running: RunningHttpd, *, without: str) -> tuple[str, ...]:
    """Return its arguments without the options named, for those that act or redirect."""
    return tuple(
        word
        for option, value in _split_options(running.arguments)
        if option not in without
        for word in ((f"-{option}",) if value is None else (f"-{option}", value))
    )


def _ask_itself(running: RunningHttpd, *arguments: str, limit_seconds: float) -> Finished:
    """Run its own executable on its own configuration."""
    own = _own_arguments(running, without="kEtX")
    return run_program(
        (str(_program_of(running)), *own, *arguments),
        environment=running.environment,
        directory=running.directory,
        limit_seconds=limit_seconds,
    )


def _program_of(running: RunningHttpd) -> Path:
    """Return the file to run: after an upgrade, the one in memory is what will do the reload."""
    image = Path(f"/proc/{running.pid}/exe")
    try:
        replaced = image.readlink().name.endswith(_DELETED)
    except OSError:
        return running.executable
    return image if replaced else running.executable


def _activity(running: RunningHttpd) -> tuple[str, str, str, str] | None:
    """Return state and CPU time, the last in ns where the kernel counts so; None once it ended."""
    try:
        fields = _stat_fields(running.pid)
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
        if _readable(running.pidfd, _LOOK_SECONDS):
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
    written = _read_pid_file(pid_file)
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

    command = (str(running.executable), *_own_arguments(running, without="kE"))
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


def _readable(pidfd: int, seconds: float) -> bool:
    """Say whether a process has ended, waiting for it at most so long."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
