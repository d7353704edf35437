"""Files that exist only in memory, for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Iterable

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.evaluator import (
    NOTHING_ASSUMED,
    STATIC_MODULES,
    Assumptions,
    Directive,
    EntryKind,
    Evaluation,
    World,
    evaluate,
)

ROOT = "/srv/httpd"
MAIN = f"{ROOT}/main.conf"
MACRO = STATIC_MODULES | {"macro_module", "mod_macro.c"}


class MemoryReader:
    """A Reader on a table of files; every folder above one exists, as do the `folders` named."""

    def __init__(self, files: dict[str, str], folders: Iterable[str] = ()) -> None:
        self.files = {_absolute(name): text for name, text in files.items()}
        self.folders = {_absolute(name) for name in folders} | {ROOT}
        for path in [*self.files, *self.folders]:
            while path := path.rpartition("/")[0]:
                self.folders.add(path)
        self.unreadable: set[str] = set()

    def read(self, path: str, _kind: EntryKind | None = None) -> str:
        """Return a file's text."""
        if path not in self.files or path in self.unreadable:
            raise ConfigurationError("no such file, or not readable", at=path)
        return self.files[path]

    def kind(self, path: str) -> EntryKind | None:
        """Say what is there."""
        path = path.rstrip("/")
        if path in self.files:
            return EntryKind.FILE
        return EntryKind.FOLDER if path in self.folders else None

    def list_folder(self, path: str) -> list[tuple[str, EntryKind]] | None:
        """List in the reverse of the order that is wanted."""
        path = path.rstrip("/")
        if path in self.files:
            raise ConfigurationError("not a directory", at=path)
        if path and path not in self.folders:
            return None
        below = [name for name in (*self.files, *self.folders) if name.rpartition("/")[0] == path]
        kinds = {name.rpartition("/")[2]: self.kind(name) for name in below if name}
        return sorted(((name, kind) for name, kind in kinds.items() if kind), reverse=True)


def _absolute(name: str) -> str:
    return name if name.startswith("/") else f"{ROOT}/{name}"


def read(
    text: str,
    *,
    files: dict[str, str] | None = None,
    folders: Iterable[str] = (),
    modules: frozenset[str] = MACRO,
    defines: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    assumptions: Assumptions = NOTHING_ASSUMED,
) -> Evaluation:
    """Evaluate `text` as the main file beside other files."""
    world = World(
        MemoryReader({**(files or {}), MAIN: text}, folders),
        ROOT,
        modules=modules,
        defines=defines,
        environment=environment or {},
    )
    return evaluate(MAIN, world=world, assumptions=assumptions)


def outline(directives: Iterable[Directive]) -> list[object]:
    """Return directives as `name args` strings, sections as lists that begin with one."""
    return [
        [_text(each), *outline(each.children)] if each.is_section else _text(each)
        for each in directives
    ]


def _text(directive: Directive) -> str:
    return f"{directive.name} {directive.args}".strip()


def live(text: str, **more: object) -> list[object]:
    """Return what is in force of `text`, which httpd accepts."""
    evaluation = read(text, **more)  # type: ignore[arg-type] # handed on as they are
    assert evaluation.errors == ()
    return outline(evaluation.directives)


def codes(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return code and place, below the root, of all findings."""
    return [(each.code, (each.at or "").removeprefix(f"{ROOT}/")) for each in evaluation.findings]
