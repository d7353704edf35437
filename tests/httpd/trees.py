"""Configurations as text, evaluated without a disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.domains import Interpretation, read_domains
from mdconnector.httpd.evaluator import (
    SITES_FOLDER_MODULES,
    Assumptions,
    EntryKind,
    Evaluation,
    World,
    evaluate,
)
from mdconnector.httpd.vhosts import Servers, read_servers
from mdconnector.managed_domain import ManagedDomain

ROOT = "/etc/apache2"
MAIN = f"{ROOT}/apache2.conf"
CA = "MDCertificateAuthority https://ca.example.org/dir\n"


class MemoryReader:
    """Files by path."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = files

    def read(self, path: str, _kind: EntryKind | None = None) -> str:
        """Return a file's text."""
        if path not in self.files:
            raise ConfigurationError("no such file or directory", at=path)
        return self.files[path]

    def kind(self, path: str) -> EntryKind | None:
        """Say what a path leads to."""
        if path in self.files:
            return EntryKind.FILE
        below = any(name.startswith(f"{path.rstrip('/')}/") for name in self.files)
        return EntryKind.FOLDER if below else None

    def list_folder(self, path: str) -> Iterable[tuple[str, EntryKind]] | None:
        """List the files of a folder."""
        return [
            (name.removeprefix(f"{path}/"), EntryKind.FILE)
            for name in self.files
            if name.startswith(f"{path}/")
        ]


def evaluated(text: str, *, assumptions: Assumptions | None = None) -> Evaluation:
    """Evaluate one file as the main file, with mod_ssl, mod_md and mod_macro loaded."""
    world = World(MemoryReader({MAIN: text}), ROOT, modules=SITES_FOLDER_MODULES)
    return evaluate(MAIN, world=world, assumptions=assumptions or Assumptions())


def servers(text: str) -> Servers:
    """Read the servers of one file."""
    return read_servers(evaluated(text).directives, server_root=ROOT, main_file=MAIN)


def interpreted(
    text: str,
    *,
    files: Mapping[str, str] | None = None,
    mod_md_loaded: bool = True,
    assumptions: Assumptions | None = None,
) -> Interpretation:
    """Read the managed domains of one file; `files` are those that it names."""
    directives = evaluated(text, assumptions=assumptions).directives
    return read_domains(
        directives,
        read_servers(directives, server_root=ROOT, main_file=MAIN),
        server_root=ROOT,
        mod_md_loaded=mod_md_loaded,
        read_text=MemoryReader(files or {}).read,
    )


def domain(text: str, *, files: Mapping[str, str] | None = None) -> ManagedDomain:
    """Read the one managed domain of one file."""
    (found,) = interpreted(CA + text, files=files).domains
    return found


def codes(interpretation: Interpretation) -> list[str]:
    """Return the codes of all findings."""
    return [finding.code for finding in interpretation.findings]
