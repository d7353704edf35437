"""The one line of cron.d/mdconnector, run as cron runs it, on a real Apache and a real CA."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import CLONE, COMMAND
from tests.e2e.estate import managed_site
from tests.parts import Apache, Pebble, names_of, served_certificate

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

GOOD = ("cron-one.example", "cron-two.example")
REFUSED = "cron.refused.example"


@pytest.fixture
def programs(parts_folder: Path) -> Path:
    """A folder with the command, and a systemctl to which the timer is off."""
    folder = parts_folder / "bin"
    folder.mkdir()
    write_program(
        folder / "mdconnector",
        f'export PYTHONPATH={shlex.quote(str(CLONE))}; exec {shlex.join(COMMAND)} "$@"',
    )
    write_program(folder / "systemctl", "exit 3")
    return folder


def write_program(path: Path, line: str) -> None:
    """Write a shell script of one line."""
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def run_line(programs: Path, apache: Apache) -> str:
    """Run the line under an empty environment but for the file's PATH; return all its output."""
    path_line, job = (CLONE / "cron.d" / "mdconnector").read_text().splitlines()
    command, replaced = re.subn(r"--splay \d+", "--splay 0", job.split(maxsplit=6)[6])
    assert replaced == 1
    environment = {
        "PATH": f"{programs}:{path_line.removeprefix('PATH=')}",
        "MDCONNECTOR_CONFIG": str(apache.config),
        "MDCONNECTOR_HTTPD": str(apache.binary),
    }
    done = subprocess.run(
        ["/usr/bin/env", "-i", *map("=".join, environment.items()), "/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout


def test_the_line_has_two_of_three_served_tells_what_changed_and_then_is_silent(
    programs: Path, make_apache: Callable[..., Apache], validating_ca: Pebble
) -> None:
    sites = {name: managed_site(name) for name in (*GOOD, REFUSED)}
    with make_apache(sites=sites, main_extra=validating_ca.directives()) as apache:
        told = run_line(programs, apache)
        assert sorted(line.split(": ")[:2] for line in told.splitlines()) == sorted(
            [
                *([name, word] for name in GOOD for word in ("enrolled", "promoted")),
                [REFUSED, "failed"],
            ]
        )
        for name in GOOD:
            served = served_certificate(
                apache.address, apache.ssl_port, name, roots_pem=validating_ca.root_pem()
            )
            assert names_of(served) == {name}
        generation = apache.generation
        with validating_ca.recorded() as requests:
            assert run_line(programs, apache) == ""
        assert requests == []
        assert apache.generation == generation
