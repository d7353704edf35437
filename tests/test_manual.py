"""The man page, docs/commands.md and the completions have every command and option there is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from mdconnector.cli import program
from tests.e2e.command import CLONE

MANUAL = CLONE / "docs" / "manual.py"
SITE = "MDomain {name}\n<VirtualHost *:443>\nServerName {name}\nSSLEngine on\n</VirtualHost>\n"


@pytest.fixture(scope="module")
def manual() -> ModuleType:
    spec = importlib.util.spec_from_file_location("manual", MANUAL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make man` writes."""
    folder = tmp_path_factory.mktemp("manual")
    subprocess.run(
        [sys.executable, MANUAL, folder],
        check=True,
        env={"PATH": os.defpath, "SOURCE_DATE_EPOCH": "86400"},
        timeout=60,
    )
    return folder


def every_command() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = [("mdconnector", program)]
    for path, command in found:
        if isinstance(command, click.Group):
            found += [(f"{path} {name}", below) for name, below in command.commands.items()]
    return found


def options_of(command: click.Command) -> set[str]:
    return {
        word
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
        for word in (*one.opts, *one.secondary_opts)
    }


# --- pages --------------------------------------------------------------------------------------


def test_the_page_of_commands_is_what_the_command_line_says(manual: ModuleType) -> None:
    written = (CLONE / "docs" / "commands.md").read_text()
    assert written == manual.commands_page(), "run `make man` and commit docs/commands.md"


@pytest.mark.parametrize("path", [path for path, _ in every_command()][1:])
def test_the_man_page_has_each_option_of_a_command(pages: Path, path: str) -> None:
    text = (pages / "mdconnector.1").read_text().replace("\\-", "-")
    _, _, after = text.partition(f'.SS "{path}"\n')
    section = re.split(r"^\.S[SH] ", after, maxsplit=1, flags=re.MULTILINE)[0]
    assert section, "a section of its own"
    _, _, common = text.partition(".SH GLOBAL OPTIONS\n")
    terms = re.findall(r"^\.TP\n\\fB(.*)\\fR$", common.partition(".SH ")[0] + section, re.MULTILINE)
    shown = {word for term in terms for word in re.findall(r"--?[a-z][a-z-]*", term)}
    assert options_of(dict(every_command())[path]) <= shown


def test_the_man_page_has_each_exit_code_and_variable(pages: Path) -> None:
    text = (pages / "mdconnector.1").read_text()
    _, _, codes = text.partition(".SH EXIT STATUS")
    assert re.findall(r"^\\fB(\d+)\\fR$", codes, re.MULTILINE) == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "75",
    ]
    for option in program.params:
        assert not option.envvar or f"\\fB{option.envvar}\\fR" in text


def test_the_man_page_has_the_day_of_the_build(pages: Path) -> None:
    assert '1 "1970-01-02"' in (pages / "mdconnector.1").read_text()


def test_mandoc_finds_nothing_wrong(pages: Path) -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("apt-get install mandoc")
    done = subprocess.run(
        [mandoc, "-Tlint", "-Wall", pages / "mdconnector.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_man_prints_it_without_a_warning(pages: Path) -> None:
    man = shutil.which("man")
    if man is None or shutil.which("groff") is None:
        pytest.skip("apt-get install man-db groff-base")
    done = subprocess.run(
        [man, "--warnings", "-Tutf8", "-l", pages / "mdconnector.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "another run of mdconnector holds the lock" in done.stdout


# --- completions --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The command in the PATH, and sites and an account for it to read."""
    folder = tmp_path_factory.mktemp("shell")
    command = folder / "mdconnector"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mdconnector "$@"\n')
    command.chmod(0o755)
    sites = folder / "sites-enabled"
    sites.mkdir()
    for name in ("shop.example.org", "api.example.org"):
        (sites / f"{name}.conf").write_text(SITE.format(name=name))
    (folder / "md" / "accounts" / "ACME-ca.example-0000").mkdir(parents=True)
    return {
        "PATH": f"{folder}:{os.defpath}",
        "PYTHONPATH": str(CLONE),
        "LC_ALL": "C.UTF-8",
        "HOME": str(folder),
        "MDCONNECTOR_SITES": str(sites),
        "TERM": "dumb",
    }


_COMPLETIONS = [
    ("mdconnector re", {"renew", "revoke"}),
    ("mdconnector promote --reload", {"--reload", "--reload-command"}),
    ("mdconnector renew sh", {"shop.example.org"}),
    ("mdconnector renew ", {"shop.example.org", "api.example.org"}),
    ("mdconnector account show ACME-", {"ACME-ca.example-0000"}),
]
_IN_BASH = r"""
source "$1"; line=$2; mdconnector_words() { COMP_WORDS=($line); }; mdconnector_words
case $line in *" ") COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$line; COMP_POINT=${#line}
wanted=$(complete -p mdconnector | sed 's/.*-F \([^ ]*\).*/\1/')
"$wanted" mdconnector; printf '%s\n' "${COMPREPLY[@]}"
"""
# What offers the candidates is replaced, because only the line editor may call it.
_IN_ZSH = r"""
compdef() { :; }; compadd() { print -l -- ${(P)@[-1]}; }
_describe() { print -l -- ${${(P)@[-2]}%%:*}; }
source "$1"; words=(${(z)2}); case $2 in *" ") words+=("") ;; esac
CURRENT=${#words}; _mdconnector_completion
"""
_IN_FISH = 'source $argv[1]; complete --do-complete "$argv[2]" | string replace -r "\\t.*" ""'
_SHELLS = {
    "bash": ("mdconnector", ["bash", "--norc", "-c", _IN_BASH, "bash"]),
    "zsh": ("_mdconnector", ["zsh", "-f", "-c", _IN_ZSH, "zsh"]),
    "fish": ("mdconnector.fish", ["fish", "--no-config", "-c", _IN_FISH]),
}


@pytest.mark.parametrize("shell", _SHELLS)
@pytest.mark.parametrize(("line", "expected"), _COMPLETIONS)
def test_a_shell_completes_commands_options_and_managed_domains(
    pages: Path, shell_environment: dict[str, str], shell: str, line: str, expected: set[str]
) -> None:
    file, words = _SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"apt-get install {shell}")
    done = subprocess.run(
        [*words, pages / file, line],
        env=shell_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


def test_a_broken_configuration_completes_nothing_and_says_nothing(
    pages: Path, shell_environment: dict[str, str]
) -> None:
    file, words = _SHELLS["bash"]
    done = subprocess.run(
        [*words, pages / file, "mdconnector renew "],
        env=shell_environment | {"MDCONNECTOR_CONFIG": "/nowhere/apache2.conf"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == ([], "")
