"""Asks the installed httpd what it reads: its own dump of a configuration, and what it refuses.

Nothing listens, nothing is written: `-T -M` only reads. The environment is fixed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mdconnector.httpd.evaluator import Directive, World
from mdconnector.httpd.reader import DiskReader, read_program
from tests.parts import find_program
from tests.parts.apache import MODULES_FOLDER

MODULES = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "md", "macro", "env", "info"]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "E": "from env", "EMPTY": "", "A": "env A"}
LIMIT_SECONDS = 60

Row = tuple[int, str, str, str, int]
"""depth, name in lower case, arguments, file, line"""

_FILE = re.compile(r"# In file: (.*)")
_NUMBER = re.compile(r"((?:  )*)# *(\d+):")
_REFUSED_WHILE_READING = re.compile(r"(?:^|: )Syntax error on line (\d+) of ([^:]*(?:\"[^:]*)?): ")


@dataclass(frozen=True)
class Answer:
    """What httpd says: its tree, or that it does not start."""

    rows: tuple[Row, ...] | None
    """None: refused"""
    message: str
    walked: bool
    """whether it was refused only after everything was read"""


def every_module() -> list[str]:
    """Return the names of all modules that are installed and go with one another, in order."""
    installed = sorted(file.stem.removeprefix("mod_") for file in MODULES_FOLDER.glob("mod_*.so"))
    fitting = [name for name in installed if name not in {"mpm_prefork", "mpm_worker"}]
    # these name functions of mod_proxy_balancer
    return sorted(fitting, key=lambda name: name.startswith("lbmethod_"))


def base_lines(folder: Path, modules: Iterable[str] = MODULES) -> str:
    """Return the lines that a private httpd needs before the configuration that is asked about."""
    (folder / "run").mkdir(exist_ok=True)
    loads = "".join(
        f"LoadModule {name}_module {MODULES_FOLDER}/mod_{name}.so\n" for name in modules
    )
    return (
        f'ServerRoot "{folder}"\nDefaultRuntimeDir "{folder}/run"\nPidFile run/httpd.pid\n'
        f'ErrorLog "{folder}/error.log"\nListen 127.0.0.1:4\nServerName oracle.invalid\n'
        f'{loads}MDStoreDir "{folder}/md"\n'
    )


def ask(folder: Path, root: Path, *arguments: str) -> Answer:
    """Let httpd read `root`."""
    done = _run(folder, root, *arguments, "-T", "-M", "-D", "DUMP_CONFIG")
    output = done.stdout.decode("utf-8", "surrogateescape")
    message = done.stderr.decode("utf-8", "surrogateescape")
    tree, loaded, _ = output.partition("Loaded Modules:\n")
    if done.returncode or not loaded:
        return Answer(None, message, walked="AH00526" in message or "AH02291" in message)
    return Answer(tuple(_rows(tree)), message, walked=True)


def dump_vhosts(folder: Path, root: Path) -> str:
    """Let httpd print the virtual hosts of `root`, which it takes."""
    done = _run(folder, root, "-t", "-D", "DUMP_VHOSTS")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def _run(folder: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [find_program("apache2"), "-d", str(folder), "-f", str(root), *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def _rows(dump: str) -> Iterator[Row]:
    file = ""
    lines = iter(dump.split("\n"))
    for line in lines:
        if heading := _FILE.fullmatch(line):
            file = heading[1]
        elif number := _NUMBER.fullmatch(line):
            text = next(lines)[len(number[1]) :]
            name, _, arguments = text.partition(" ")
            yield len(number[1]) // 2, name.lower(), arguments, file, int(number[2])


def our_rows(directives: list[Directive] | tuple[Directive, ...], depth: int = 0) -> Iterator[Row]:
    """Return our tree as httpd prints its own."""
    for directive in directives:
        name = f"<{directive.name}" if directive.is_section else directive.name
        place = (directive.origin.dump_name, directive.dump_line)
        yield depth, name.lower(), directive.args + directive.tail, *place
        yield from our_rows(directive.children, depth + 1)


def world(folder: Path) -> World:
    """Return what the httpd that is asked brings along."""
    program = read_program(Path(find_program("apache2")))
    assert program is not None
    return World(
        reader=DiskReader(),
        server_root=str(folder),
        modules=program.modules,
        version=program.version,
        defines=("DUMP_CONFIG", "DUMP_MODULES"),
        environment=ENVIRONMENT,
    )
