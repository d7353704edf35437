"""Where no Apache is: a folder of vhost files, a CA, and somebody who is not root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, Finished, command_for_anybody, run
from tests.e2e.estate import leaf_in, managed_site
from tests.parts import Pebble, names_of

pytestmark = pytest.mark.pebble

NAME = "static.example"
NAMES = (NAME, "www.static.example")
CHAINS = ("pubcert.pem", "pubcert.secp256r1.pem")
NOBODY = 65534


@dataclass(frozen=True, slots=True)
class Home:
    """A folder of somebody's own, with sites, and nothing of an Apache in sight."""

    folder: Path
    uid: int

    @property
    def sites(self) -> Path:
        """The folder of vhost files."""
        return self.folder / "sites-enabled"

    @property
    def store(self) -> Path:
        """Where the store is expected: beside the sites."""
        return self.sites / ".." / "md"

    def run(self, *arguments: str) -> Finished:
        """Run the command as the folder's owner, with a PATH and an --httpd that hold nothing."""
        nowhere = str(self.folder / "no")
        words = (*arguments, "--sites", str(self.sites), "--httpd", f"{nowhere}/httpd")
        path = {"PATH": nowhere}
        if self.uid == os.geteuid():
            return run(*words, environment=path)
        with command_for_anybody() as (python, environment, handles):
            return run(
                *words,
                command=(python, *COMMAND[1:]),
                environment=environment | path,
                user=self.uid,
                handles=handles,
            )


@pytest.fixture(params=["current user", "ordinary user"])
def home(request: pytest.FixtureRequest, parts_folder: Path, counting_ca: Pebble) -> Home:
    """A folder with one site: of whoever runs the tests, and if that is root of nobody's too."""
    uid = os.geteuid() if request.param == "current user" else NOBODY
    if uid != os.geteuid() != 0:
        pytest.skip("only root can become somebody else; the current user is an ordinary one")
    made = Home(parts_folder / "home", uid)
    made.sites.mkdir(parents=True)
    site = managed_site(NAME, keys="RSA 2048 secp256r1", aliases=NAMES[1])
    files = {
        "00-acme.conf": counting_ca.directives(),
        "static.conf": site.replace("${HTTPS_PORT}", "443"),
    }
    for name, text in files.items():
        file = made.sites / name
        file.write_text(text)
        file.chmod(0o600)
        os.chown(file, uid, uid)
    for folder in (made.folder, made.sites):
        os.chown(folder, uid, uid)
    return made


def test_status_before_anything_says_missing_and_makes_no_store(home: Home) -> None:
    done = home.run("status", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.domain(NAME)["state"] == "missing"
    assert not home.store.exists()


def test_scan_enroll_promote_and_status_work_in_a_store_beside_the_sites(home: Home) -> None:
    steps = (["scan"], ["enroll", NAME], ["promote", "--all", "--reload"], ["status"])
    for arguments in steps:
        done = home.run(*arguments)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        assert NAME in done.stdout
    status = home.run("status", "--json").domain(NAME)
    assert status["state"] == "valid"
    assert len(status["certificates"]) == len(CHAINS)
    live = home.store / "domains" / NAME
    for file_name in CHAINS:
        assert names_of(leaf_in(live, file_name)) == {*NAMES}
    assert {path.lstat().st_uid for path in (live, *live.iterdir())} == {home.uid}
