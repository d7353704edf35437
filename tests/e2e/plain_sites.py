"""A folder of sites without any Apache, its store beside it, and the command run on them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.command import COMMAND, Finished, command_for_anybody, run
from tests.parts import Pebble

CONTACT = "hostmaster@example.org"


class PlainSites:
    """`<folder>/sites-enabled` and `<folder>/md`, as they lie below /etc/apache2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites = folder / "sites-enabled"
        self.store = folder / "md"
        self.sites.mkdir(parents=True, exist_ok=True)
        self.write("00-all", "MDRenewMode manual\n")

    def write(self, name: str, text: str) -> Path:
        """Write one file of sites-enabled; `.conf` is added to its name."""
        file = self.sites / f"{name}.conf"
        file.write_text(text)
        return file

    def run(self, *arguments: str | Path, user: int | None = None, **options: Any) -> Finished:
        """Run the command on these sites, as another user if one is given; see `run`."""
        words = (*arguments, "--sites", self.sites)
        if user is None or user == os.geteuid():
            return run(*words, **options)
        with command_for_anybody() as (python, environment, handles):
            return run(
                *words,
                command=(python, *COMMAND[1:]),
                environment=environment,
                handles=handles,
                user=user,
                **options,
            )

    def copy_to(self, folder: Path) -> PlainSites:
        """Copy everything with modes and owners."""
        shutil.copytree(self.folder, folder, symlinks=True)
        for path in (self.folder, *self.folder.rglob("*")):
            status = path.lstat()
            os.lchown(folder / path.relative_to(self.folder), status.st_uid, status.st_gid)
        return PlainSites(folder)

    def give_to(self, user: int, *, but: Path | None = None) -> None:
        """Make somebody the owner of everything."""
        for path in (self.folder, *self.folder.rglob("*")):
            if path != but:
                os.lchown(path, user, user)


def settings_for(ca: Pebble, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Return what a managed domain needs for a CA; None in `changes` leaves a directive out."""
    settings: dict[str, str | None] = {
        "MDCertificateAuthority": ca.directory_url,
        "MDCACertificateFile": str(ca.ca_file),
        "MDCertificateAgreement": "accepted",
        "MDContactEmail": CONTACT,
        "MDExternalAccountBinding": f"kid-1 {ca.eab_keys['kid-1']}",
        "MDPrivateKeys": "secp256r1",
    }
    settings |= dict(changes or {})
    return {name: value for name, value in settings.items() if value is not None}


def ssl_site(
    name: str, settings: Mapping[str, str], *, inside: Sequence[str] = (), more: str = ""
) -> str:
    """Return a managed domain (its settings from line 2 on) and its SSL vhost.

    `inside` are lines of the vhost, `more` further DNS names of the domain.
    """
    section = [f"{directive} {value}" for directive, value in settings.items()]
    names = f"{name} {more}".strip()
    lines = [
        f"<MDomainSet {names}>",
        *section,
        "</MDomainSet>",
        "<VirtualHost *:443>",
        f"ServerName {name}",
        "SSLEngine on",
        *inside,
        "</VirtualHost>",
    ]
    return "\n".join(lines) + "\n"


def line_of(file: Path, directive: str) -> str:
    """Return `file:line` of the first line that begins with a directive."""
    lines = file.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.split()[:1] == [directive])
    return f"{file}:{number}"
