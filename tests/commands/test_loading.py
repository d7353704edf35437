"""How the subcommands read the configuration: as the httpd that runs, or would run, reads it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mdconnector.commands.loading import load as load_places
from mdconnector.commands.scan import httpd_to_ask
from mdconnector.errors import UsageError
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.reader import read_program
from tests.parts import Apache, find_program
from tests.parts.processes import wait_until


def load(config: Path, *, httpd: Path | None = None) -> Configuration:
    """Read a main file as every subcommand does."""
    return load_places(config=config, sites=None, store=None, httpd=httpd)


def main_file(folder: Path, text: str = "") -> Path:
    """Write a main file."""
    file = folder / "apache2.conf"
    file.write_text(text)
    return file


@pytest.mark.apache
def test_version_is_read_from_the_executable_in_the_usual_place(tmp_path: Path) -> None:
    program = read_program(Path(find_program("apache2")))

    assert program is not None
    assert load(main_file(tmp_path)).httpd_version == program.version


def test_version_is_read_from_the_executable_that_is_named(tmp_path: Path) -> None:
    httpd = tmp_path / "httpd"
    httpd.write_bytes(b"\x7fELF\0Apache/2.4.10 (Unix)\0mod_so.c\0core.c\0")
    httpd.chmod(0o755)

    assert load(main_file(tmp_path), httpd=httpd).httpd_version == "2.4.10"


def test_no_executable_is_no_hindrance(tmp_path: Path) -> None:
    assert load(main_file(tmp_path), httpd=tmp_path / "none").httpd_version is None


@pytest.mark.apache
@pytest.mark.parametrize(("arguments", "names"), [([], []), (["-D", "X"], ["a.test"])])
def test_the_defines_of_a_running_httpd_count(
    make_apache: Callable[..., Apache], arguments: list[str], names: list[str]
) -> None:
    apache = make_apache(sites={"a": "<IfDefine X>\nMDomain ${NAME}\n</IfDefine>\n"})
    command = [str(apache.binary), *arguments, "-d", str(apache.root)]
    command += ["-f", str(apache.config), "-k", "start"]
    subprocess.run(command, env=apache.environment | {"NAME": "a.test"}, check=True, timeout=60)
    wait_until(lambda: apache.is_running, "Apache to run")

    assert [domain.name for domain in load(apache.config).domains] == names


def test_a_folder_of_sites_cannot_be_verified(tmp_path: Path) -> None:
    configuration = load_places(config=None, sites=tmp_path, store=None, httpd=None)

    with pytest.raises(UsageError, match="no mere folder of sites"):
        httpd_to_ask(configuration, None)
