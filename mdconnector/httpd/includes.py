"""Include, IncludeOptional and the folder of sites: which files are read, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.paths import has_wildcard, join_path, merge_path, name_matcher, to_bytes
from mdconnector.httpd.reading import CircleError, FileReading, Reading
from mdconnector.httpd.world import EntryKind, Reader
from mdconnector.managed_domain import SourceLine

MAX_INCLUDE_DEPTH = 128
MAX_FOLDER_DEPTH = 128

_Entry = tuple[str, EntryKind | None]


def read_sites(run: Reading, folder: str) -> None:
    """Read every `*.conf` of a folder. Raises ConfigurationError where it cannot be listed."""
    path = merge_path(run.server_root, folder) or folder
    if run.world.reader.list_folder(path) is None:
        raise ConfigurationError("no such folder", at=path, hint="name another with --sites")
    found = _matching(run.world.reader, path, "*.conf", is_optional=True)
    _read_each(run, found, None, is_optional=True)


def include(run: Reading, file: FileReading, args: str, *, is_optional: bool) -> None:
    """Read the files of an Include or IncludeOptional."""
    name = "IncludeOptional" if is_optional else "Include"
    words = run.take(file, args, name=name)
    if words is None:
        return
    if run.open_file_count > MAX_INCLUDE_DEPTH:
        message = f"more than {MAX_INCLUDE_DEPTH} files include one another"
        run.report("include-failed", file.at, message, "end the circle: a file includes itself")
        if circle := run.find_circle():
            raise circle
        return
    try:
        found = _found(run, words[0], is_optional=is_optional)
        _read_each(run, found, file, is_optional=is_optional)
    except ConfigurationError as error:
        _report_failure(run, file, error)


def _found(run: Reading, pattern: str, *, is_optional: bool) -> Iterable[_Entry]:
    path = merge_path(run.server_root, pattern)
    if path is None:
        raise ConfigurationError("the path is too long")
    if not has_wildcard(path):
        return [(path, run.world.reader.kind(path))]
    return _matching(run.world.reader, "/", path.lstrip("/"), is_optional=is_optional)


def _matching(reader: Reader, folder: str, pattern: str, *, is_optional: bool) -> Iterator[_Entry]:
    """Yield what a pattern matches, component by component (httpd: ap_dir_fnmatch)."""
    component, slash, rest = pattern.partition("/")
    while slash and not has_wildcard(component):
        folder = join_path(folder, component)
        component, slash, rest = rest.partition("/")
    if not has_wildcard(component):
        path = join_path(folder, component)
        yield path, reader.kind(path)
        return
    fits = name_matcher(component)
    found = [entry for entry in reader.list_folder(folder) or () if fits(entry[0])]
    if slash:
        found = [entry for entry in found if entry[1] is EntryKind.FOLDER]
    if not found and not is_optional:
        raise ConfigurationError(f"nothing matches '{component}'", at=folder)
    for name, kind in _in_byte_order(found):
        path = join_path(folder, name)
        if slash:
            yield from _matching(reader, path, rest, is_optional=is_optional)
        else:
            yield path, kind


def _in_byte_order(entries: Iterable[tuple[str, EntryKind]]) -> list[tuple[str, EntryKind]]:
    return sorted(entries, key=lambda entry: to_bytes(entry[0]))


def _read_each(
    run: Reading, found: Iterable[_Entry], includer: FileReading | None, *, is_optional: bool
) -> None:
    children = includer.children if includer else run.directives
    for path, kind in found:
        for file, known in _files_at(run.world.reader, path, kind, is_optional=is_optional):
            assumed = run.assumed
            try:
                run.read_file(file, children, known)
            except ConfigurationError as error:
                _report_failure(run, includer, error)
            except CircleError as circle:
                if circle.depth < run.open_file_count:
                    raise
                run.assumed = assumed


def _report_failure(run: Reading, includer: FileReading | None, error: ConfigurationError) -> None:
    at = includer.at if includer else SourceLine(error.at or "", 0)
    hint = error.hint or "correct the path, or use IncludeOptional"
    run.report("include-failed", at, f"cannot include {error}", hint)


def _files_at(
    reader: Reader, path: str, kind: EntryKind | None, *, is_optional: bool, depth: int = 0
) -> Iterator[_Entry]:
    """Yield a file, or everything below a folder (httpd: ap_dir_nofnmatch)."""
    if kind is EntryKind.LINK:
        kind = reader.kind(path)
    if kind is EntryKind.FOLDER:
        if depth >= MAX_FOLDER_DEPTH:
            raise ConfigurationError("folders are nested too deeply", at=path)
        for name, below in _in_byte_order(reader.list_folder(path) or ()):
            entry = join_path(path, name)
            yield from _files_at(reader, entry, below, is_optional=is_optional, depth=depth + 1)
    elif kind is not None or not is_optional:
        yield path, kind
