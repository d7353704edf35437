"""The commands of docs/how-to/move-host.md on two hosts: two ServerRoots, two users of Apache."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.command import CLONE, run
from tests.e2e.estate import managed_site, served_leaf
from tests.parts import Apache, FaultingProxy, Rule, Substitute, find_program

pytestmark = [
    pytest.mark.apache,
    pytest.mark.pebble,
    pytest.mark.rsync,
    pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root"),
]

LIVE, STAGED, PENDING = "live.example", "staged.example", "pending.example"


class Mover:
    """Somebody who follows the page; it says when the new host begins."""

    def __init__(self, old: Apache, new: Apache) -> None:
        self.old = old
        self.new = new
        self.printed: dict[str, str] = {}

    def type(self, words: list[str]) -> None:
        """Do what a line of the page says, on the host that it is meant for."""
        match words:
            case ["systemctl", "stop", *_]:
                pass  # there is no cron here
            case ["rsync", *options, source, target]:
                assert (source, target) == (
                    "/etc/apache2/md/",
                    "root@new.example.org:/etc/apache2/md/",
                )
                self._call(
                    find_program("rsync"), *options, f"{self.old.store}/", f"{self.new.store}/"
                )
            case ["systemctl", "start", "apache2"]:
                self.new.start()
            case ["mdconnector", *arguments]:
                host = self.new if self.new.store.exists() else self.old
                done = run(*arguments, config=host.config)
                assert done.exit_code == 0, done.output
                self.printed[words[1]] = done.stdout
                if arguments == ["scan"]:
                    self._mend()
            case _:
                pytest.fail(f"the page has another command: {words}")

    def _mend(self) -> None:
        """Type the lines that scan has told."""
        for line in re.findall(
            r"; (\S.*) \[store-wrong-owner\]$", self.printed["scan"], re.MULTILINE
        ):
            self._call("/bin/sh", "-c", line)
        assert "store-wrong-owner" not in run("scan", config=self.new.config).stdout

    def _call(self, *words: str) -> None:
        subprocess.run(words, check=True)


def commands() -> list[list[str]]:
    """Return what the page has its reader type, in order."""
    page = (CLONE / "docs" / "how-to" / "move-host.md").read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [shlex.split(line.strip().removeprefix("sudo ")) for line in lines]


def standings(apache: Apache) -> list[dict[str, Any]]:
    """Return what status tells of each domain that is of the store and not of the host."""
    told = ("name", "state", "certificates", "staged", "pending", "renew_at")
    found = run("status", "--json", config=apache.config).json["domains"]
    ours = [{key: one[key] for key in told} for one in found]
    for one in ours:
        if one["staged"]:
            del one["staged"]["since"]  # on this disk
    return sorted(ours, key=lambda one: str(one["name"]))


def test_the_page_moves_what_is_live_staged_and_open_at_the_ca(
    make_apache: Callable[..., Apache], proxy: FaultingProxy
) -> None:
    sites = {name: managed_site(name) for name in (LIVE, STAGED, PENDING)}
    old = make_apache(sites=sites, main_extra=proxy.directives()).start()
    old.store.chmod(0o750)
    os.chown(old.store, 0, old.store.joinpath("staging").stat().st_uid)
    assert run("enroll", LIVE, config=old.config).exit_code == 0
    assert run("promote", LIVE, "--reload", config=old.config).exit_code == 0
    assert run("enroll", STAGED, config=old.config).exit_code == 0
    slow = Substitute(rb'"status":\s*"valid"', b'"status": "processing"')
    proxy.rules.append(Rule(slow, path="/(my-order|finalize-order)/"))
    assert run("enroll", PENDING, "--wait", "0", config=old.config).exit_code == 5
    proxy.rules.clear()
    before = standings(old)
    assert [one["pending"] is not None for one in before] == [False, True, False]

    new = make_apache(sites=sites, main_extra=proxy.directives())
    text = new.config.read_text()
    assert "User www-data\nGroup www-data\n" in text
    new.config.write_text(
        text.replace("User www-data\nGroup www-data\n", "User nobody\nGroup nogroup\n")
    )
    mover, typed = Mover(old, new), commands()
    start = typed.index(["systemctl", "start", "apache2"])
    for words in typed[:start]:
        mover.type(words)
    assert "chown -R nobody" in mover.printed["scan"]
    assert "chgrp nogroup" in mover.printed["scan"]
    assert standings(new) == before
    for words in typed[start:]:
        mover.type(words)
    for name in (LIVE, STAGED):
        assert served_leaf(new, name).serial_number == int(serial_of(before, name), 16)

    assert [one for one in proxy.requests if "order-plz" in one.path]
    proxy.requests.clear()
    assert run("renew", "--all", config=new.config).exit_code == 0
    assert not [one for one in proxy.requests if "order-plz" in one.path], "it was open already"
    assert run("promote", "--all", "--reload", config=new.config).exit_code == 0
    assert [one["state"] for one in standings(new)] == ["valid"] * 3


def serial_of(found: list[dict[str, Any]], name: str) -> str:
    """Return the serial of what is live for a domain, or of what is staged."""
    (one,) = [one for one in found if one["name"] == name]
    certificates = one["certificates"] or one["staged"]["certificates"]
    return str(certificates[0]["serial"])
