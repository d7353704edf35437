"""What an evaluation is told about the world: files, modules, defines, and what to assume. Pure."""

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple, Protocol

NEWEST_KNOWN_VERSION = "2.4.71"


def _both_names(*modules: str) -> frozenset[str]:
    return frozenset(name for module in modules for name in (f"{module}_module", f"mod_{module}.c"))


STATIC_MODULES = _both_names("so", "watchdog", "log_config", "logio", "version", "unixd") | {
    "core_module",
    "core.c",
    "http_module",
    "http_core.c",
}
"""compiled into Debian's apache2: identifiers and source names"""

SITES_FOLDER_MODULES = STATIC_MODULES | _both_names("ssl", "md", "macro")
"""taken for loaded where only a folder of sites is read"""

_ODD_SOURCE_NAMES = {
    "mod_ldap": "util_ldap.c",
    "mod_mpm_event": "event.c",
    "mod_mpm_worker": "worker.c",
    "mod_mpm_prefork": "prefork.c",
}


def source_name(identifier: str, module_file: str) -> str:
    """Return the source name that <IfModule> knows a loaded module by: mod_ssl.c for mod_ssl.so."""
    stem = module_file.rpartition("/")[2].removesuffix(".so")
    if stem.startswith("libphp"):
        return f"mod_{identifier.removesuffix('_module')}.c"
    return _ODD_SOURCE_NAMES.get(stem, f"{stem}.c")


class EntryKind(Enum):
    """What a path leads to, or what a folder's entry is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class Reader(Protocol):
    """The files that a configuration may name."""

    def read(self, path: str, kind: EntryKind | None = None) -> str:
        """Return a regular file's text. Raises ConfigurationError, at once for anything else.

        `kind` is what is known of it by `kind()` or `list_folder()`, so as not to look twice.
        """

    def kind(self, path: str) -> EntryKind | None:
        """Say what `path` leads to, links followed; None where there is nothing to be seen."""

    def list_folder(self, path: str) -> Iterable[tuple[str, EntryKind]] | None:
        """List a folder, links not followed, in any order; None where there is none.

        Raises ConfigurationError where it cannot be listed, or is no folder.
        """


class Assumptions(NamedTuple):
    """What counts as true for us although this httpd may know better; it never makes text dead."""

    modules: frozenset[str] = frozenset()
    """identifiers and source names"""
    defines: frozenset[str] = frozenset()
    store_folder: str | None = None
    """<IfFile> on a path in it is true"""

    def has_file(self, path: str) -> bool:
        """Say whether `path` is taken for there."""
        folder = self.store_folder
        return folder is not None and path.startswith(folder.rstrip("/") + "/")


NOTHING_ASSUMED = Assumptions()
MDCONNECTOR_MODULES = _both_names("md")
MDCONNECTOR_DEFINES = frozenset({"MDCONNECTOR"})


class World(NamedTuple):
    """What httpd brings along when it starts to read."""

    reader: Reader
    server_root: str
    modules: frozenset[str] = STATIC_MODULES
    """loaded from the start: identifiers and source names"""
    version: str = NEWEST_KNOWN_VERSION
    defines: tuple[str, ...] = ()
    """-D"""
    environment: Mapping[str, str] = MappingProxyType({})
    pre_directives: tuple[str, ...] = ()
    """-C"""
    post_directives: tuple[str, ...] = ()
    """-c"""
