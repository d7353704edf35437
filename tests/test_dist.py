"""Wheel, sdist and Debian package are made from what the project says of itself."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from mdconnector import __version__
from tests.e2e.command import CLONE

_NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "demo-run", "__pycache__", ".*_cache", ".hypothesis", ".run"
)


def build(folder: Path, *, umask: int) -> dict[str, bytes]:
    """Build both from a copy of the clone, as `make dist` does; return them by name."""
    shutil.copytree(CLONE, folder / "clone", ignore=_NOT_SOURCE, copy_function=shutil.copy)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder / "dist"],
        cwd=folder / "clone",
        env={"PATH": os.defpath, "SOURCE_DATE_EPOCH": "1790000000"},
        check=True,
        capture_output=True,
        timeout=120,
        umask=umask,
    )
    return {file.name: file.read_bytes() for file in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two builds, in different folders, of files with different times, under different umasks."""
    pytest.importorskip("hatchling")
    first, second = (tmp_path_factory.mktemp("dist") for _ in range(2))
    return build(first, umask=0o022), build(second, umask=0o077)


def test_wheel_and_sdist_are_reproducible(
    builds: tuple[dict[str, bytes], dict[str, bytes]],
) -> None:
    first, second = (
        {name: hashlib.sha256(data).hexdigest() for name, data in one.items()} for one in builds
    )
    assert sorted(first) == [
        f"mdconnector-{__version__}-py3-none-any.whl",
        f"mdconnector-{__version__}.tar.gz",
    ]
    assert first == second


def test_the_wheel_has_the_package_alone(
    builds: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    (wheel,) = (name for name in builds[0] if name.endswith(".whl"))
    (tmp_path / wheel).write_bytes(builds[0][wheel])
    names = zipfile.ZipFile(tmp_path / wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "mdconnector",
        f"mdconnector-{__version__}.dist-info",
    }
    modules = {str(file.relative_to(CLONE)) for file in (CLONE / "mdconnector").rglob("*.py")}
    assert modules <= set(names)


def test_the_sdist_has_what_the_debian_package_is_built_from(
    builds: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    (sdist,) = (name for name in builds[0] if name.endswith(".tar.gz"))
    (tmp_path / sdist).write_bytes(builds[0][sdist])
    with tarfile.open(tmp_path / sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = ("debian/rules", "debian/control", "docs/manual.py", "cron.d/mdconnector")
    assert set(wanted) <= names
    assert not {name for name in names if name.startswith((".venv", "build/", "dist/"))}


def test_the_debian_package_has_our_version() -> None:
    head = (CLONE / "debian" / "changelog").read_text().splitlines()[0]
    assert head.startswith(f"mdconnector ({__version__}) ")


def test_the_debian_package_brings_every_library_that_we_ask_for() -> None:
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    locked = dict(
        re.findall(
            r"^([a-z0-9-]+)==([0-9.]+)",
            (CLONE / "debian" / "requirements.txt").read_text(),
            re.MULTILINE,
        )
    )
    for wish in project["dependencies"]:
        name, floor = wish.split(">=")
        assert numbers(locked[name]) >= numbers(floor), wish


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
