"""Running other programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdconnector.errors import HttpdError, UsageError
from mdconnector.httpd.programs import (
    PROGRAM_PATH,
    command_words,
    dump_of,
    run_program,
    split_command,
)
from tests.parts.processes import is_alive, wait_until


def test_output_and_exit_code_are_returned() -> None:
    finished = run_program(("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), limit_seconds=10)

    assert finished.exit_code == 3
    assert finished.output.split() == ["out", "err"]


def test_a_program_gets_a_clean_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")

    finished = run_program(("/bin/sh", "-c", "cat; env"), limit_seconds=10)

    assert f"PATH={PROGRAM_PATH}" in finished.output
    assert "SECRET_OF_OURS" not in finished.output


def test_at_the_limit_the_whole_process_group_is_killed(tmp_path: Path) -> None:
    child_file = tmp_path / "child"

    finished = run_program(
        ("/bin/sh", "-c", f"sleep 600 & echo $! > {child_file}; wait"), limit_seconds=0.5
    )

    assert finished.exit_code is None
    child = int(child_file.read_text())
    wait_until(lambda: not is_alive(child), "the child to end")


def test_a_child_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    child_file = tmp_path / "child"

    finished = run_program(
        ("/bin/sh", "-c", f"sleep 600 & echo $! > {child_file}; echo done"), limit_seconds=300
    )

    os.kill(int(child_file.read_text()), 9)
    assert finished.exit_code == 0
    assert finished.output == "done\n"


def test_output_is_capped() -> None:
    finished = run_program(("/bin/sh", "-c", "yes | head -c 1000000"), limit_seconds=60)

    assert finished.exit_code == 0
    assert len(finished.output) == 64 * 1024


def test_a_dump_is_long_as_it_was_written_and_free_of_error_messages() -> None:
    script = r"printf 'caf\351'; echo oops >&2; yes | head -c 1000000"

    finished = dump_of(("/bin/sh", "-c", script), environment={}, limit_seconds=60)

    assert len(finished.output) == 1000004
    assert finished.output.startswith("caf\udce9y\n")
    assert finished.errors == "oops\n"
    assert finished.exit_code == 0


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(HttpdError, match="cannot run /no/such/program: No such file"):
        run_program(("/no/such/program",), limit_seconds=1)


def test_a_command_is_split_without_a_shell_and_found_along_a_fixed_path() -> None:
    program, *arguments = split_command("sh -c 'exit 0' $HOME")

    assert program.endswith("/sh")
    assert arguments == ["-c", "exit 0", "$HOME"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the command is empty"),
        ("sh -c 'open", "cannot be split"),
        ("true && false", "would need a shell"),
        ("./reload.sh", "would need a shell or a current folder"),
    ],
)
def test_a_command_for_a_shell_is_a_usage_error(command: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        command_words(command)
    with pytest.raises(UsageError, match=message):
        split_command(command)


@pytest.mark.parametrize("command", ["no-such-program-here", "/no/such/program"])
def test_a_program_that_is_not_there_is_an_error_before_it_is_needed(command: str) -> None:
    with pytest.raises(HttpdError, match=f"there is no program {command}"):
        split_command(command)
