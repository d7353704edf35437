"""mdconnector.hooks: whose rights a command gets, when it is not run, and how it is ended."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import pwd
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.hooks import SEARCH_PATH, HookOutcome, HookResult, run_hook, split_command_line
from mdconnector.printable import MAX_CHARACTERS
from tests.parts.processes import is_alive, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give rights to others")
NOBODY = pwd.getpwnam("nobody")
NUL_REFUSED = f"embedded null {'byte' if sys.version_info < (3, 13) else 'character'}"
"""in Python's words"""


def write_hook(folder: Path, script: str, name: str = "hook") -> Path:
    hook = folder / name
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(0o755)
    return hook


def run(hook: Path, *arguments: str, seconds: float = 60) -> HookResult:
    return run_hook(str(hook), arguments, timeout_seconds=seconds)


class Apr:
    """The real apr_tokenize_to_argv."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(ctypes.util.find_library("apr-1"))
        self.library.apr_initialize()
        self.pool = ctypes.c_void_p()
        self.library.apr_pool_create_ex(ctypes.byref(self.pool), None, None, None)

    def split(self, line: str) -> tuple[str, ...]:
        argv = ctypes.POINTER(ctypes.c_char_p)()
        self.library.apr_tokenize_to_argv(line.encode(), ctypes.byref(argv), self.pool)
        words: list[str] = []
        while (word := argv[len(words)]) is not None:
            words.append(word.decode())
        self.library.apr_pool_clear(self.pool)
        return tuple(words)


@pytest.fixture(scope="module")
def apr() -> Apr:
    if ctypes.util.find_library("apr-1") is None:
        pytest.skip("apt-get install libapr1")
    return Apr()


@given(line=st.text(alphabet="ab/ \t\"'\\$", max_size=24))
def test_a_line_is_split_as_apr_splits_it(apr: Apr, line: str) -> None:
    assert split_command_line(line) == apr.split(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("/bin/hook a  b", ("/bin/hook", "a", "b"), id="blanks"),
        pytest.param("/bin/hook \"a b\" 'c d'", ("/bin/hook", "a b", "c d"), id="quotes"),
        pytest.param(r"/bin/my\ hook a\"b", ("/bin/my hook", 'a"b'), id="backslashes"),
        pytest.param("/bin/hook $HOME;id `id`", ("/bin/hook", "$HOME;id", "`id`"), id="no shell"),
        pytest.param(" \t", (), id="nothing"),
    ],
)
def test_words_of_a_line(line: str, words: tuple[str, ...]) -> None:
    assert split_command_line(line) == words


def test_arguments_follow_the_words_of_the_line_and_reach_no_shell(tmp_path: Path) -> None:
    hook = write_hook(tmp_path, 'printf "<%s>" "$@"')
    arguments = ("setup", "$(touch P)", "`id`; exit 3")
    result = run_hook(f"{hook} 'one word'", arguments, timeout_seconds=60)
    assert result.output == "<one word><setup><$(touch P)><`id`; exit 3>"
    assert result.outcome is HookOutcome.OK


def test_matrix_z1_exit_code_is_a_failure_with_the_words_of_the_command(tmp_path: Path) -> None:
    result = run(write_hook(tmp_path, "echo no such zone >&2; exit 7"))
    assert (result.outcome, result.exit_code) == (HookOutcome.FAILED, 7)
    assert str(result) == f"{tmp_path}/hook exited with 7: no such zone"


def test_matrix_z1_death_by_a_signal_is_a_failure(tmp_path: Path) -> None:
    result = run(write_hook(tmp_path, "kill -9 $$"))
    assert (result.outcome, result.reason) == (HookOutcome.FAILED, "was ended by signal 9")


def test_environment_holds_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDCONNECTOR_SECRET", "hmac")
    monkeypatch.setenv("LD_PRELOAD", "")
    output = run(write_hook(tmp_path, "exec /usr/bin/env")).output
    names = {word.partition("=")[0] for word in output.split()}
    assert names <= {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "PWD"}
    assert f"PATH={SEARCH_PATH}" in output


def test_command_leads_a_session_without_a_terminal(tmp_path: Path) -> None:
    script = 'echo "$$ $(ps -o sid=,tty= -p $$)"'
    pid, session, terminal = run(write_hook(tmp_path, script)).output.split()
    assert (session, terminal) == (pid, "?")


def test_command_cannot_read_what_we_are_given(tmp_path: Path) -> None:
    hook = write_hook(tmp_path, "cat")
    (tmp_path / "input").write_text("a secret")
    before = os.dup(0)
    with (tmp_path / "input").open() as given:
        os.dup2(given.fileno(), 0)
        try:
            assert run(hook).output == ""
        finally:
            os.dup2(before, 0)
            os.close(before)


def test_open_files_of_ours_are_closed_in_the_command(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        output = run(write_hook(tmp_path, "ls -l /proc/self/fd")).output
    assert "secret" not in output


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("", "it must begin with an absolute path", id="empty"),
        pytest.param("hook", "it must begin with an absolute path", id="relative"),
        pytest.param("/nowhere/hook", "No such file or directory", id="absent"),
        pytest.param("/usr", "it is not a file", id="folder"),
        pytest.param("/dev/null", "it is not a file", id="device"),
        pytest.param("/etc/passwd", "Permission denied", id="not executable"),
        pytest.param("/etc/passwd\0x", NUL_REFUSED, id="nul"),
    ],
)
def test_what_cannot_be_run_is_told_apart_from_a_failure(line: str, reason: str) -> None:
    result = run_hook(line, (), timeout_seconds=60)
    assert (result.outcome, result.exit_code) == (HookOutcome.NOT_RUN, None)
    assert reason in result.reason


def test_file_writable_by_others_is_not_run(tmp_path: Path) -> None:
    hook = write_hook(tmp_path, f"touch {tmp_path}/ran")
    hook.chmod(0o775)
    result = run(hook)
    assert result.outcome is HookOutcome.NOT_RUN
    assert result.reason == f"{hook} is writable by others; chmod go-w {hook}"
    assert not (tmp_path / "ran").exists()


def test_file_below_a_folder_writable_by_others_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "open" / "inner").mkdir(parents=True)
    hook = write_hook(tmp_path / "open" / "inner", "true")
    (tmp_path / "open").chmod(0o777)
    assert run(hook).reason.startswith(f"{tmp_path}/open is writable by others")


def test_file_below_a_sticky_folder_is_run(tmp_path: Path) -> None:
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    assert run(write_hook(tmp_path / "sticky", "true")).outcome is HookOutcome.OK


def test_link_is_followed_and_its_way_is_checked(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    hook = write_hook(tmp_path / "closed", "echo ran")
    (tmp_path / "open" / "hook").symlink_to("../closed/hook")
    assert run(tmp_path / "open" / "hook").output == "ran"
    (tmp_path / "open").chmod(0o777)
    assert run(tmp_path / "open" / "hook").outcome is HookOutcome.NOT_RUN
    assert run(hook).output == "ran"


def test_links_in_a_circle_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "hook").symlink_to("hook")
    assert run(tmp_path / "hook").outcome is HookOutcome.NOT_RUN


@needs_root
def test_command_gets_the_rights_of_its_owner(parts_folder: Path) -> None:
    hook = write_hook(parts_folder, 'echo "$(id -u) $(id -g) $(id -G) $HOME $(umask)"')
    os.chown(hook, NOBODY.pw_uid, 0)
    groups = " ".join(map(str, os.getgrouplist("nobody", NOBODY.pw_gid)))
    expected = f"{NOBODY.pw_uid} {NOBODY.pw_gid} {groups} {NOBODY.pw_dir} 0022"
    umask, before = os.umask(0o007), os.getgroups()
    os.setgroups([0, 4])
    try:
        assert run(hook).output == expected
    finally:
        os.setgroups(before)
        os.umask(umask)


@needs_root
def test_file_of_root_in_a_folder_of_another_user_is_not_run(parts_folder: Path) -> None:
    (parts_folder / "home").mkdir()
    hook = write_hook(parts_folder / "home", "true")
    os.chown(parts_folder / "home", NOBODY.pw_uid, -1)
    reason = f"{parts_folder}/home belongs to uid {NOBODY.pw_uid}, who could replace it"
    assert run(hook).reason == reason


@needs_root
def test_link_of_another_user_is_not_followed(parts_folder: Path) -> None:
    (parts_folder / "sticky").mkdir()
    (parts_folder / "sticky").chmod(0o1777)
    link = parts_folder / "sticky" / "hook"
    link.symlink_to(write_hook(parts_folder, "true"))
    os.lchown(link, NOBODY.pw_uid, -1)
    assert run(link).outcome is HookOutcome.NOT_RUN


@needs_root
def test_owner_that_is_no_user_of_this_system_gets_no_rights(parts_folder: Path) -> None:
    hook = write_hook(parts_folder, "true")
    os.chown(hook, 54321, 54321)
    assert run(hook).reason == "its owner, uid 54321, is not a user of this system"


def test_matrix_z1_command_that_hangs_is_ended_with_all_its_children(tmp_path: Path) -> None:
    script = f"""
        trap '' TERM
        sh -c 'trap "" TERM; echo $$ > {tmp_path}/child; while :; do sleep 1; done' &
        while [ ! -s {tmp_path}/child ]; do sleep 0.01; done
        echo begun
        while :; do sleep 1; done"""
    result = run(write_hook(tmp_path, script), seconds=1)
    assert (result.outcome, result.exit_code) == (HookOutcome.FAILED, None)
    assert result.reason == "did not end within 1 s"
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_alive(child), "the child to end")


def test_command_that_listens_to_sigterm_may_tidy_up(tmp_path: Path) -> None:
    script = f"trap 'echo tidy > {tmp_path}/tidied; exit 1' TERM; while :; do sleep 0.1; done"
    run(write_hook(tmp_path, script), seconds=0.5)
    assert (tmp_path / "tidied").read_text() == "tidy\n"


def test_matrix_z1_daemon_that_keeps_the_pipe_open_is_not_waited_for(tmp_path: Path) -> None:
    script = f"sleep 600 & echo $! > {tmp_path}/daemon; echo done"
    result = run(write_hook(tmp_path, script), seconds=500)
    daemon = int((tmp_path / "daemon").read_text())
    assert (result.outcome, result.output) == (HookOutcome.OK, "done")
    assert is_alive(daemon)
    os.kill(daemon, signal.SIGKILL)


def test_matrix_z1_daemon_that_floods_the_pipe_is_not_waited_for(tmp_path: Path) -> None:
    script = f"yes & echo $! > {tmp_path}/daemon"
    result = run(write_hook(tmp_path, script), seconds=500)
    assert result.outcome is HookOutcome.OK
    daemon = int((tmp_path / "daemon").read_text())
    wait_until(lambda: not is_alive(daemon), "the daemon to meet the closed pipe")


def test_matrix_z1_command_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    script = f"exec >&- 2>&-; sleep 0.3; touch {tmp_path}/ended; exit 4"
    assert run(write_hook(tmp_path, script)).exit_code == 4
    assert (tmp_path / "ended").exists()


def test_matrix_z1_output_of_a_gigabyte_is_read_away_and_its_end_is_kept(tmp_path: Path) -> None:
    script = "head -c 1000000000 /dev/zero | tr '\\0' 'x'; echo the end"
    result = run(write_hook(tmp_path, script))
    assert result.outcome is HookOutcome.OK
    assert len(result.output) == MAX_CHARACTERS
    assert result.output.startswith("…xxx")
    assert result.output.endswith("xxxthe end")


def test_output_is_made_safe_to_print(tmp_path: Path) -> None:
    result = run(write_hook(tmp_path, "printf 'a\\033[31mb\\nc\\377\\302\\233'"))
    assert result.output == "a\\x1b[31mb c�\\x9b"
