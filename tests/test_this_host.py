"""Which machine this is: clones that kept their name are told apart, and so are namesakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdconnector import this_host
from mdconnector.this_host import host_id, host_name, machine_digest


@pytest.fixture
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that holds the machine's id."""
    file = tmp_path / "machine-id"
    file.write_text("0123\n")
    monkeypatch.setattr(this_host, "_MACHINE_ID", file)
    return file


def test_two_machines_of_one_name_are_two_hosts(machine_id: Path) -> None:
    first = host_id()
    machine_id.write_text("4567\n")
    assert host_id() != first
    assert {one.partition("/")[0] for one in (first, host_id())} == {host_name()}


def test_the_machine_s_id_itself_is_not_shown(machine_id: Path) -> None:
    assert machine_id.read_text().strip() not in host_id()


def test_another_purpose_has_another_digest(machine_id: Path) -> None:
    assert machine_id.exists()
    assert machine_digest("splay") == machine_digest("splay") != machine_digest("host")


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_text("")])
def test_a_machine_without_an_id_goes_by_its_name(
    machine_id: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    assert callable(change)
    change(machine_id)
    before = machine_digest("splay")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("", "other", "", "", "")))
    assert machine_digest("splay") != before
