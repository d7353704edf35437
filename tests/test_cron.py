"""The cron file is one line that does both steps, and is silent where it has nothing to say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CRON = Path(__file__).parent.parent / "cron.d" / "mdconnector"
FAKE = '#!/bin/sh\necho "$*" >> "$CALLS"\nexit $CODE\n'


def line() -> tuple[str, str]:
    """Return the PATH and the command of the file, which has nothing else."""
    path, job = CRON.read_text().splitlines()
    fields = job.split(maxsplit=6)
    assert fields[1:6] == ["*", "*", "*", "*", "root"]
    return path.removeprefix("PATH="), fields[6]


def run(folder: Path, **programs: str) -> tuple[str, list[str]]:
    """Run the line as cron does, with these programs first in its PATH; return output and calls."""
    path, command = line()
    calls = folder / "calls"
    for name, text in programs.items():
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": f"{folder}:{path}", "CALLS": str(calls), "CODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []


def test_its_path_has_the_sbin_and_local_folders() -> None:
    folders = line()[0].split(":")
    assert {
        f"{base}/{kind}" for base in ("/usr/local", "/usr", "") for kind in ("sbin", "bin")
    } == {*folders}


def test_a_failed_renewal_does_not_hold_back_the_promotion(tmp_path: Path) -> None:
    _, calls = run(tmp_path, mdconnector=FAKE, systemctl="#!/bin/sh\nexit 3\n")
    assert calls == ["-q renew --all --splay 1800", "-q promote --all --reload"]


def test_it_is_silent_where_the_timer_is_on(tmp_path: Path) -> None:
    assert run(tmp_path, mdconnector=FAKE, systemctl="#!/bin/sh\nexit 0\n") == ("", [])


def test_it_is_silent_where_systemd_is_not_at_work(tmp_path: Path) -> None:
    broken = '#!/bin/sh\necho "not booted with systemd" >&2\nexit 1\n'
    output, calls = run(tmp_path, mdconnector=FAKE, systemctl=broken)
    assert (output, len(calls)) == ("", 2)


def test_it_is_silent_where_the_package_is_gone(tmp_path: Path) -> None:
    path, _ = line()
    if any(os.access(f"{folder}/mdconnector", os.X_OK) for folder in path.split(":")):
        pytest.skip("mdconnector is installed on this machine")
    assert run(tmp_path) == ("", [])


def test_cron_would_accept_it() -> None:
    text = CRON.read_text()
    assert text.endswith("\n")
    assert "%" not in text
    assert "&& mdconnector" not in text
    assert CRON.stat().st_mode & 0o133 == 0
