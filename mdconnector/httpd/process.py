"""The running httpd: found by its pid file, and described.

Rule: nothing is asked or signalled but a process whose pid file, executable and start time fit
together, and only through a pidfd, so that a pid that has changed hands is never hit.
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
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from mdconnector.errors import HttpdError
from mdconnector.httpd.programs import Finished, run_program

KNOWN_EXECUTABLES = (
    Path("/usr/sbin/apache2"),
    Path("/usr/sbin/httpd"),
    Path("/usr/local/apache2/bin/httpd"),
)

CONFIG_TEST_SECONDS = 120.0

_EXECUTABLE_NAME = re.compile(r"(?:apache2|httpd)(?:[.-][a-z0-9]+)?")
_DELETED = " (deleted)"
_OPTIONS_WITH_VALUE = frozenset("CcDdEefk")
_OPTIONS_THAT_COUNT = frozenset("CcDdf")
_MAX_PID_FILE_BYTES = 64
_START_SLACK_SECONDS = 2.0


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
        return not self.ends_within(0)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end for at most so long, and say whether it has come."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

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


def find_running(pid_file: Path | None, *, httpd: Path | None = None) -> RunningHttpd | None:
    """Return the httpd parent that a pid file names, or None where it names none that runs.

    A pid file that is older than the process belongs to one that has ended, unless the process's
    own configuration names this very file: a clock that was set forward makes it look so.
    """
    if pid_file is None:
        return None
    written = read_pid_file(pid_file)
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
    written = read_pid_file(pid_file)
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


def require_access(running: RunningHttpd) -> None:
    """Raise HttpdError for the process of another user, which can't be tested nor signalled."""
    if not running.accessible:
        raise HttpdError(
            f"process {running.pid} ({running.executable}) belongs to another user "
            f"than uid {os.geteuid()}",
            hint="run it as root, or let --reload-command do the reload",
        )


def ask_itself(running: RunningHttpd, *arguments: str, limit_seconds: float) -> Finished:
    """Run its own executable on its own configuration."""
    own = own_arguments(running, without="kEtX")
    return run_program(
        (str(_program_of(running)), *own, *arguments),
        environment=running.environment,
        directory=running.directory,
        limit_seconds=limit_seconds,
    )


def own_arguments(running: RunningHttpd, *, without: str) -> tuple[str, ...]:
    """Return its arguments without the options named, as those that act or redirect."""
    return tuple(
        word
        for option, value in _split_options(running.arguments)
        if option not in without
        for word in ((f"-{option}",) if value is None else (f"-{option}", value))
    )


def read_pid_file(pid_file: Path) -> tuple[int, int] | None:
    """Return the number in a pid file and when it was written, in ns; None where it holds none."""
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


def stat_fields(pid: int) -> list[str]:
    """Return /proc/<pid>/stat from its third field on: state, parent, …"""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def _describe(
    pid: int, pidfd: int, *, pid_file: Path, mtime_ns: int, httpd: Path | None
) -> RunningHttpd | None:
    """Read everything about the process; None where it is no httpd parent, or ended meanwhile."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = stat_fields(pid)
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
    finished = ask_itself(running, "-t", "-D", "DUMP_RUN_CFG", limit_seconds=CONFIG_TEST_SECONDS)
    named = re.search(r'^PidFile: "(.*)"$', finished.output, re.MULTILINE)
    if named is None or not running.is_alive():
        return False
    return os.path.realpath(named[1]) == os.path.realpath(running.pid_file)


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


def _program_of(running: RunningHttpd) -> Path:
    """Return the file to run: after an upgrade, the one in memory is what will do the reload."""
    image = Path(f"/proc/{running.pid}/exe")
    try:
        replaced = image.readlink().name.endswith(_DELETED)
    except OSError:
        return running.executable
    return image if replaced else running.executable
