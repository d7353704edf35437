"""Evaluates httpd's configuration: which directives are in force, and where each one stands. Pure.

It reads line by line, as httpd does: a grammar cannot express it. A few directives act while they
are read (Include, Define, <IfModule>, <Macro>, ...) and leave nothing; all others become a tree.
What httpd would end at is a finding, and the rest is read all the same. Files are reached through a
Reader. An assumption makes text live that this httpd would not read; what is live only for that is
marked.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from mdconnector.httpd import conditions, includes, macro_lines
from mdconnector.httpd.directives import MAX_ARGUMENTS, Directive, Origin
from mdconnector.httpd.lexer import lower_ascii
from mdconnector.httpd.paths import merge_path
from mdconnector.httpd.reading import (
    Action,
    CircleError,
    FileReading,
    Reading,
    ReadTime,
    TooMuchError,
)
from mdconnector.httpd.world import (
    MDCONNECTOR_DEFINES,
    MDCONNECTOR_MODULES,
    NOTHING_ASSUMED,
    SITES_FOLDER_MODULES,
    STATIC_MODULES,
    Assumptions,
    EntryKind,
    Reader,
    World,
    source_name,
)
from mdconnector.managed_domain import Finding, Severity

__all__ = [
    "MAX_ARGUMENTS",
    "MDCONNECTOR_DEFINES",
    "MDCONNECTOR_MODULES",
    "NOTHING_ASSUMED",
    "SITES_FOLDER_MODULES",
    "STATIC_MODULES",
    "Assumptions",
    "Directive",
    "EntryKind",
    "Evaluation",
    "Origin",
    "Reader",
    "World",
    "evaluate",
]


class Evaluation(NamedTuple):
    """The configuration in force; `findings` is what httpd refuses or silently gets wrong."""

    directives: tuple[Directive, ...]
    findings: tuple[Finding, ...]
    modules: frozenset[str]
    """identifiers and source names of what is loaded at the end"""
    module_files: Mapping[str, str]
    """by identifier: the absolute path that LoadModule names"""
    defines: Mapping[str, str]
    """what <IfDefine> knows, with the value of those that have one, else \"\""""
    server_root: str
    runtime_folder: str | None
    """DefaultRuntimeDir, absolute"""
    state_folder: str | None
    """DefaultStateDir, absolute: a directive of Red Hat's httpd"""
    files: tuple[str, ...]
    """every file in the order of reading, as often as it was read"""
    assumed: bool
    """whether an assumption made any text live"""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What httpd would end at."""
        return tuple(found for found in self.findings if found.severity is Severity.ERROR)


def evaluate(
    main_file: str | None,
    *,
    world: World,
    sites_folder: str | None = None,
    assumptions: Assumptions = NOTHING_ASSUMED,
    keeps: Callable[[str], bool] = lambda _: True,
) -> Evaluation:
    """Read `main_file`, then the `*.conf` files of `sites_folder`, each where given.

    `keeps` says of a name in lower case whether its directives are wanted in the tree, where
    sections always are: most lines of a site are about other things than certificates.
    Raises ConfigurationError when `main_file` cannot be read, or `sites_folder` not be listed.
    """
    run = Reading(world, assumptions, _ACTIONS, keeps)
    try:
        _read_all(run, main_file, sites_folder)
    except TooMuchError:
        last = run.files[-1] if run.files else "-c/-C"
        message = f"it repeats itself, or is none: after {last} nothing more was read"
        hint = "end the repetition, and see what the Include lines bring in"
        # not by report(), which may raise this very error
        run.findings.append(Finding("too-much", Severity.ERROR, main_file or "", message, hint))
    return Evaluation(
        directives=tuple(run.directives),
        findings=tuple(run.findings),
        modules=frozenset(run.modules),
        module_files=run.module_files,
        defines={name: run.values.get(lower_ascii(name), "") for name in run.defines},
        server_root=run.server_root,
        runtime_folder=run.runtime_folder,
        state_folder=run.state_folder,
        files=tuple(run.files),
        assumed=run.used_assumption,
    )


def _read_all(run: Reading, main_file: str | None, sites_folder: str | None) -> None:
    run.read_commands(run.world.pre_directives)
    if main_file is not None:
        with suppress(CircleError):
            run.read_file(merge_path(run.server_root, main_file) or main_file, run.directives)
    if sites_folder is not None:
        includes.read_sites(run, sites_folder)
    run.read_commands(run.world.post_directives)


def _define(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="Define", most=2)
    if words is None or not _is_definable(run, file, words[0]):
        return
    run.defines[words[0]] = None
    if len(words) == 2 and words[1]:
        run.values[lower_ascii(words[0])] = words[1]


def _undefine(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="UnDefine")
    if words is not None and _is_definable(run, file, words[0]):
        run.defines.pop(words[0], None)
        run.values.pop(lower_ascii(words[0]), None)


def _is_definable(run: Reading, file: FileReading, name: str) -> bool:
    if ":" not in name:
        return True
    shown = name.partition(":")[0]  # what follows may be a value, and a secret
    run.report("bad-define", file.at, f"the name '{shown}:...' contains ':'", "choose another name")
    return False


def _load_module(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="LoadModule", least=2, most=2)
    if words is not None:
        run.module_files.setdefault(words[0], merge_path(run.server_root, words[1]) or words[1])
        run.add_module(words[0], source_name(*words))


def _set_server_root(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="ServerRoot")
    if words is None:
        return
    path = merge_path("/", words[0])
    if path is not None and run.world.reader.kind(path) is EntryKind.FOLDER:
        run.server_root = path
        return
    message = f"{words[0]} is no folder; paths are still taken from {run.server_root}"
    run.report("bad-server-root", file.at, message, "name the folder that relative paths begin at")


def _set_runtime_folder(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="DefaultRuntimeDir")
    if words is not None:
        run.runtime_folder = merge_path(run.server_root, words[0])


def _set_state_folder(run: Reading, file: FileReading, args: str) -> None:
    words = run.take(file, args, name="DefaultStateDir")
    if words is not None:
        run.state_folder = merge_path(run.server_root, words[0])


def _pass_over(_run: Reading, _file: FileReading, _args: str) -> None:
    """Do nothing: the directive acts while it is read, and leaves nothing that matters here."""


def _skip_foreign_text(closing_tag: str) -> Action:
    """Return what passes over a body in another language, up to a line that begins with its end."""

    def skip(run: Reading, file: FileReading, _args: str) -> None:
        begin = file.at
        while (line := file.stream.next_physical_line()) is not None:
            if lower_ascii(line.lstrip()).startswith(closing_tag):
                return
        run.report_unclosed(file, closing_tag[2:].removesuffix(">"), begin)

    return skip


def _report_error(run: Reading, file: FileReading, args: str) -> None:
    file.children.append(Directive("Error", args, file.origin, file.number, assumed=run.assumed))
    run.report("error-directive", file.at, f"Error {args}", "httpd ends at this line")


_LUA_SECTIONS = (
    "luahookaccesschecker",
    "luahookauthchecker",
    "luahookcheckuserid",
    "luahookfixups",
    "luahookmaptostorage",
    "luahookpretranslatename",
    "luahooktranslatename",
    "luahooktypechecker",
    "luaquickhandler",
)

_ACTIONS: dict[str, ReadTime] = {
    "include": ReadTime(partial(includes.include, is_optional=False)),
    "includeoptional": ReadTime(partial(includes.include, is_optional=True)),
    "define": ReadTime(_define),
    "undefine": ReadTime(_undefine),
    "serverroot": ReadTime(_set_server_root),
    "defaultruntimedir": ReadTime(_set_runtime_folder),
    "defaultstatedir": ReadTime(_set_state_folder),
    "error": ReadTime(_report_error),
    "<ifmodule": ReadTime(conditions.if_module),
    "<ifdefine": ReadTime(conditions.if_define),
    "<iffile": ReadTime(conditions.if_file),
    "<ifdirective": ReadTime(conditions.if_directive),
    "<ifsection": ReadTime(conditions.if_section),
    "<ifversion": ReadTime(conditions.if_version, "version_module"),
    "loadmodule": ReadTime(_load_module, "so_module"),
    "loadfile": ReadTime(_pass_over, "so_module"),
    "<macro": ReadTime(
        macro_lines.define_macro, "macro_module", macro_lines.miss_module_for_definition
    ),
    "use": ReadTime(macro_lines.use_macro, "macro_module", macro_lines.miss_module),
    "undefmacro": ReadTime(macro_lines.undefine_macro, "macro_module", macro_lines.miss_module),
    "macroignoreemptyargs": ReadTime(_pass_over, "macro_module"),
    "macroignorebadnesting": ReadTime(_pass_over, "macro_module"),
    "remoteiptrustedproxylist": ReadTime(_pass_over, "remoteip_module"),
    "remoteipinternalproxylist": ReadTime(_pass_over, "remoteip_module"),
    "luaauthzprovider": ReadTime(_pass_over, "lua_module"),
    "<perl": ReadTime(_skip_foreign_text("</perl>"), "perl_module"),
    **{
        f"<{name}": ReadTime(_skip_foreign_text(f"</{name}"), "lua_module")
        for name in _LUA_SECTIONS
    },
}
