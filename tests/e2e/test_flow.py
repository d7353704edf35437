"""The table of docs/flow.md, run row by row."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.command import CLONE, run
from tests.e2e.estate import live_leaf, managed_site, served_leaf
from tests.parts import Apache, Pebble

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAME = "flow.example"
_PATH = re.compile(r"(no )?`([^`]+)`")


@dataclass(frozen=True, slots=True)
class Row:
    """One step: a command, and which paths are there (or are not) before and after."""

    number: int
    command: str
    before: tuple[tuple[str, bool], ...]
    after: tuple[tuple[str, bool], ...]


def rows() -> list[Row]:
    """Read the table of docs/flow.md."""
    lines = (CLONE / "docs" / "flow.md").read_text().splitlines()
    found = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].isdigit():
            command = cells[2].strip("`").replace("NAME", NAME)
            found.append(Row(int(cells[0]), command, paths_of(cells[3]), paths_of(cells[4])))
    return found


def paths_of(cell: str) -> tuple[tuple[str, bool], ...]:
    """Return the paths of a cell, each with whether it is to be there."""
    return tuple((path.replace("NAME", NAME), not absent) for absent, path in _PATH.findall(cell))


def check(apache: Apache, row: Row, paths: tuple[tuple[str, bool], ...], when: str) -> None:
    """Look for each path."""
    for path, expected in paths:
        in_store = path.startswith("S/")
        folder = apache.store if in_store else apache.root
        found = bool(list(folder.glob(path.removeprefix("S/"))))
        assert found is expected, f"step {row.number}, {when}: {path} there: {found}"


def test_the_table_has_the_nine_steps() -> None:
    assert [row.number for row in rows()] == list(range(1, 10))
    assert all(row.after for row in rows())


def test_the_flow_leaves_on_disk_what_its_table_says(
    make_apache: Callable[..., Apache], trusting_ca: Pebble
) -> None:
    site = managed_site(NAME, keys="RSA 2048 secp256r1")
    apache = make_apache(sites={NAME: site}, main_extra=trusting_ca.directives()).start()
    generation = apache.generation
    done: list[str] = []
    for row in rows():
        if row.command not in done:
            check(apache, row, row.before, "before")
            finished = run(*shlex.split(row.command)[1:], config=apache.config)
            assert finished.exit_code == 0, finished.output
            done.append(row.command)
        check(apache, row, row.after, "after")
    assert apache.generation != generation, "step 9 reloads Apache"
    assert served_leaf(apache, NAME) == live_leaf(apache, NAME)
