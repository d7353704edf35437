"""Which process is the running httpd, and what it is asked; without a real Apache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mdconnector.errors import HttpdError
from mdconnector.httpd import process, reloading
from mdconnector.httpd.process import (
    RunningHttpd,
    arguments_that_count,
    default_httpd,
    find_running,
)
from mdconnector.httpd.reloading import ReloadOutcome, Stillness, is_idle_now, wait_idle
from tests.parts.processes import is_alive, wait_until

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs that are killed with the test."""
    with ExitStack() as stack:

        def run(*arguments: str | Path) -> subprocess.Popen[bytes]:
            program = stack.enter_context(subprocess.Popen([str(word) for word in arguments]))
            stack.callback(program.kill)
            name = Path(arguments[0]).name
            # the kernel names a process a moment after its parent goes on
            wait_until(lambda: _comm(program.pid) == name, f"{name} to run")
            return program

        yield run


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.fixture
def httpd(tmp_path: Path) -> Path:
    """A program that is called like httpd and only sleeps."""
    return Path(shutil.copy("/bin/sleep", tmp_path / "httpd"))


def write_pid(folder: Path, pid: int, *, seconds_ago: float = 0) -> Path:
    pid_file = folder / "httpd.pid"
    pid_file.write_text(f"{pid}\n")
    written = pid_file.stat().st_mtime - seconds_ago
    os.utime(pid_file, (written, written))
    return pid_file


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def a_parent(*arguments: str) -> RunningHttpd:
    return RunningHttpd(
        pid=1,
        start_time=0,
        executable=Path("/usr/sbin/apache2"),
        arguments=arguments,
        environment={"SECRET": "hunter2"},
        directory=Path("/"),
        unit=None,
        pid_file=Path("/nowhere"),
        pid_file_mtime_ns=0,
        accessible=False,
        core_limits=(0, 0),
        pidfd=-1,
    )


def test_the_process_of_the_pid_file_is_found(tmp_path: Path, httpd: Path, start: Start) -> None:
    program = start(httpd, "600")
    pid_file = write_pid(tmp_path, program.pid)

    running = find_running(pid_file)

    assert running is not None
    with running:
        assert running.pid == program.pid
        assert running.executable == httpd
        assert running.arguments == ("600",)
        assert running.environment["PATH"] == os.environ["PATH"]
        assert running.pid_file_mtime_ns == pid_file.stat().st_mtime_ns
        assert running.accessible
        assert running.is_alive()


def test_an_executable_that_an_upgrade_replaced_is_still_httpd(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    program = start(httpd, "600")
    pid_file = write_pid(tmp_path, program.pid)
    httpd.unlink()

    running = find_running(pid_file, httpd=httpd)

    assert running is not None
    with running:
        assert running.executable == httpd


def test_another_program_than_the_one_named_is_not_ours(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    pid_file = write_pid(tmp_path, start(httpd, "600").pid)

    assert find_running(pid_file, httpd=Path("/usr/sbin/apache2")) is None


def test_matrix_r2_a_pid_that_an_innocent_program_has_now_is_no_httpd(
    tmp_path: Path, start: Start
) -> None:
    pid_file = write_pid(tmp_path, start("/bin/sleep", "600").pid)

    assert find_running(pid_file) is None


def test_a_pid_that_another_httpd_has_now_is_not_ours(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    program = start(httpd, "600")
    pid_file = write_pid(tmp_path, program.pid, seconds_ago=3600)

    assert find_running(pid_file) is None
    assert is_alive(program.pid)


def test_a_worker_is_not_the_parent(tmp_path: Path, start: Start) -> None:
    shell = Path(shutil.copy("/bin/sh", tmp_path / "httpd"))
    child_file = tmp_path / "child"
    # the worker outlives its parent's kill, so it ends by itself
    start(shell, "-c", f"{shell} -c 'echo $$ > {child_file}; sleep 30'; :")
    wait_until(lambda: child_file.exists() and child_file.read_text().strip() != "", "the worker")

    assert find_running(write_pid(tmp_path, int(child_file.read_text()))) is None


@pytest.mark.parametrize(
    "content", ["", "no number", "0", "-5", "99999999999", "4194305", "12 13"], ids=repr
)
def test_a_pid_file_that_names_no_process_means_not_running(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "httpd.pid"
    pid_file.write_text(content)

    assert find_running(pid_file) is None


def test_a_pid_file_that_is_no_file_means_not_running(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    assert find_running(None) is None
    assert find_running(tmp_path / "missing") is None
    assert find_running(tmp_path) is None
    assert find_running(fifo) is None


def test_a_process_that_has_ended_is_not_running(tmp_path: Path, httpd: Path, start: Start) -> None:
    program = start(httpd, "600")
    pid_file = write_pid(tmp_path, program.pid)
    program.kill()
    program.wait()

    assert find_running(pid_file) is None


def test_looking_for_a_process_leaves_no_descriptor_open(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    program = start(httpd, "600")
    before = _open_descriptors()

    find_running(write_pid(tmp_path, program.pid, seconds_ago=3600))
    running = find_running(write_pid(tmp_path, program.pid))
    assert running is not None
    running.close()

    assert _open_descriptors() == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-k", "start"), ()),
        (("-D", "FOREGROUND"), ("-D", "FOREGROUND")),
        (("-DFOREGROUND", "-k", "start"), ("-D", "FOREGROUND")),
        (
            ("-d", "/srv/a", "-f", "b.conf", "-k", "graceful"),
            ("-d", "/srv/a", "-f", "b.conf"),
        ),
        (("-C", "Listen 80", "-c", "Define X 1"), ("-C", "Listen 80", "-c", "Define X 1")),
        (("-XD", "NAME", "-e", "debug", "-E", "/tmp/log"), ("-D", "NAME")),
        (("-D",), ()),
    ],
)
def test_arguments_that_change_the_configuration_are_told_in_pairs(
    arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert arguments_that_count(a_parent(*arguments)) == expected


def test_the_parents_environment_is_never_shown() -> None:
    assert "hunter2" not in repr(a_parent())


def test_the_named_httpd_comes_before_the_running_one() -> None:
    assert default_httpd(Path("/bin/sh"), a_parent()) == Path("/bin/sh")
    assert default_httpd(None, a_parent()) == Path("/usr/sbin/apache2")
    assert default_httpd(Path("/no/such/httpd"), None) is None


def test_the_usual_places_are_looked_at_without_a_path(
    tmp_path: Path, httpd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KNOWN_EXECUTABLES", (tmp_path / "missing", httpd))
    monkeypatch.setenv("PATH", "")

    assert default_httpd(None, None) == httpd


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/apache2.service\n", "apache2.service"),
        ("0::/system.slice/system-apache2.slice/apache2@b.service\n", "apache2@b.service"),
        ("2:cpu:/x\n1:name=systemd:/system.slice/httpd.service\n0::/\n", "httpd.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/web.service\n", None),
        ("0::/system.slice/docker-0123.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_systemd_unit_is_read_from_the_cgroup(
    tmp_path: Path, cgroup: str, unit: str | None
) -> None:
    (tmp_path / "cgroup").write_text(cgroup)

    assert process._unit(tmp_path) == unit


def test_a_sleeping_parent_is_idle(tmp_path: Path, httpd: Path, start: Start) -> None:
    running = find_running(write_pid(tmp_path, start(httpd, "600").pid))

    assert running is not None
    with running:
        assert wait_idle(running, limit_seconds=60)


def test_stillness_ends_when_the_parent_does_anything(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    program = start(httpd, "600")
    running = find_running(write_pid(tmp_path, program.pid))

    assert running is not None
    with running:
        still = Stillness(running)
        wait_until(still.begins, "it to rest")
        assert still.lasts()
        program.send_signal(signal.SIGSTOP)
        wait_until(lambda: not still.lasts(), "it to be stopped")
        program.send_signal(signal.SIGCONT)
        wait_until(lambda: is_idle_now(running), "it to rest again")
        assert not still.lasts(), "what it did meanwhile counts"
        wait_until(still.begins, "it to rest")
        assert still.lasts()


def test_a_working_parent_is_not_idle(tmp_path: Path, start: Start) -> None:
    shell = Path(shutil.copy("/bin/sh", tmp_path / "httpd"))
    running = find_running(write_pid(tmp_path, start(shell, "-c", "while :; do :; done").pid))

    assert running is not None
    with running:
        assert not is_idle_now(running)
        assert not wait_idle(running, limit_seconds=0.2)


def test_a_stopped_parent_is_not_idle(tmp_path: Path, httpd: Path, start: Start) -> None:
    program = start(httpd, "600")
    running = find_running(write_pid(tmp_path, program.pid))
    program.send_signal(signal.SIGSTOP)
    wait_until(lambda: " T " in Path(f"/proc/{program.pid}/stat").read_text(), "the stop")

    assert running is not None
    with running:
        assert not is_idle_now(running)


def test_a_parent_that_has_ended_holds_nobody_up(tmp_path: Path, httpd: Path, start: Start) -> None:
    program = start(httpd, "600")
    running = find_running(write_pid(tmp_path, program.pid))
    program.kill()
    program.wait()

    assert running is not None
    with running:
        assert is_idle_now(running)
        assert not running.is_alive()
        assert reloading.reload(running).outcome is ReloadOutcome.NOT_RUNNING


def test_nothing_is_asked_of_another_users_process() -> None:
    with pytest.raises(HttpdError, match="belongs to another user"):
        reloading.config_test(a_parent())
    with pytest.raises(HttpdError, match="belongs to another user"):
        reloading.start_again(a_parent())


def test_without_a_running_httpd_nothing_is_reloaded() -> None:
    assert reloading.reload(None).outcome is ReloadOutcome.NOT_RUNNING


@pytest.mark.parametrize(
    ("command", "outcome", "detail"),
    [
        ("true", ReloadOutcome.RELOADED, "succeeded"),
        ("sh -c 'echo no such unit; exit 5'", ReloadOutcome.COMMAND_FAILED, "5: no such unit"),
        ("sleep 600", ReloadOutcome.COMMAND_FAILED, "did not end within"),
    ],
)
def test_a_reload_command_is_judged_by_its_exit_code_where_httpd_cannot_be_seen(
    command: str, outcome: ReloadOutcome, detail: str
) -> None:
    result = reloading.reload(None, command=command, limit_seconds=1)

    assert result.outcome is outcome
    assert detail in result.detail


def test_an_httpd_that_takes_nothing_up_is_told(tmp_path: Path, httpd: Path, start: Start) -> None:
    running = find_running(write_pid(tmp_path, start(httpd, "600").pid))

    assert running is not None
    with running:
        result = reloading.reload(running, command="true", limit_seconds=0.3)

    assert result.outcome is ReloadOutcome.TIMED_OUT
    assert "was not written again" in result.detail


def test_another_users_httpd_is_named_by_its_process_name(
    tmp_path: Path, httpd: Path, start: Start
) -> None:
    folder = Path(f"/proc/{start(httpd, '600').pid}")

    assert process._guess_executable(folder, (str(httpd), "600"), None) == httpd
    assert process._guess_executable(folder, ("httpd",), Path("/usr/sbin/apache2")) is None
