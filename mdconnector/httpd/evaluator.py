"""Evaluates httpd's configuration: which directives are in force, and where each one stands. Pure.

It reads line by line as httpd does. A few directives act while reading (Include, Define, <IfModule>,
<Macro>, ...) and leave nothing; all others become a tree. What httpd would end at becomes a finding
with its file:line, and reading goes on where that can be told apart, at the latest with the next file.
Files are reached through a Reader. An assumption makes text live that this httpd would not read; what
is live only for that reason is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.lexer import (
    WHITE_SPACE,
    LineSource,
    LineStream,
    LineTooLongError,
    expand_variables,
    lower_ascii,
    next_word,
    split_words,
)
from mdconnector.httpd.macros import MAX_BODY_LINE_BYTES, Macro, MacroError
from mdconnector.httpd.paths import has_wildcard, join_path, merge_path, name_matcher
from mdconnector.httpd.versions import VersionTestError, version_matches
from mdconnector.managed_domain import Finding, Severity, SourceLine

MAX_INCLUDE_DEPTH = 128
MAX_FOLDER_DEPTH = 20
MAX_ARGUMENTS = 64

STATIC_MODULES = frozenset(
    name
    for module in ("core", "so", "watchdog", "http", "log_config", "logio", "version", "unixd")
    for name in (f"{module}_module", f"mod_{module}.c")
) - {"mod_core.c", "mod_http.c"} | {"core.c", "http_core.c"}
"""compiled into Debian's apache2: identifiers and source names"""

SITES_FOLDER_MODULES = STATIC_MODULES | {
    name for module in ("ssl", "md", "macro") for name in (f"{module}_module", f"mod_{module}.c")
}
"""taken for loaded where only a folder of sites is read"""

_ODD_SOURCE_NAMES = {
    "mod_ldap": "util_ldap.c",
    "mod_mpm_event": "event.c",
    "mod_mpm_worker": "worker.c",
    "mod_mpm_prefork": "prefork.c",
    "mpm_itk": "mpm_itk.c",
}


def source_name(identifier: str, module_file: str) -> str:
    """Return the source name that <IfModule> knows a loaded module by: `mod_ssl.c` for `mod_ssl.so`."""
    stem = module_file.rpartition("/")[2].removesuffix(".so")
    if stem.startswith("libphp"):
        return f"mod_{identifier.removesuffix('_module')}.c"
    return _ODD_SOURCE_NAMES.get(stem, f"{stem}.c")


class EntryKind(Enum):
    """What a path leads to."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class Reader(Protocol):
    """The files that a configuration may name."""

    def read(self, path: str) -> str:
        """Return a regular file's text. Raises ConfigurationError, at once for anything else."""

    def kind(self, path: str) -> EntryKind | None:
        """Say what `path` leads to, links followed; None where there is nothing to be seen."""

    def list_folder(self, path: str) -> Iterable[tuple[str, EntryKind]] | None:
        """List a folder, links not followed, in any order; None where there is none.

        Raises ConfigurationError where it cannot be listed, or is no folder.
        """


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What counts as true for us although this httpd may know better; it never makes text dead."""

    modules: frozenset[str] = frozenset()
    defines: frozenset[str] = frozenset()
    store_folder: str | None = None
    """<IfFile> on a path in it is true"""

    def has_file(self, path: str) -> bool:
        """Say whether `path` is taken for there."""
        folder = self.store_folder
        return folder is not None and path.startswith(folder.rstrip("/") + "/")


NOTHING_ASSUMED = Assumptions()
MDCONNECTOR_MODULES = frozenset({"md_module", "mod_md.c"})
MDCONNECTOR_DEFINES = frozenset({"MDCONNECTOR"})


class Origin:
    """A file, or one use of a macro: what the lines of one stretch of text have in common.

    `dump_name` is what mod_info prints for it.
    """

    __slots__ = ("dump_name", "places", "used_at")

    def __init__(
        self,
        dump_name: str,
        used_at: tuple[SourceLine, ...] = (),
        places: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.dump_name = dump_name
        self.used_at = used_at
        self.places = places

    def place(self, number: int) -> tuple[str, int]:
        """Return the file and the line in it where line `number` of this text was written."""
        return self.places[number - 1] if self.places else (self.dump_name, number)

    def line(self, number: int) -> SourceLine:
        """Return the place of line `number` with the Use lines that brought it in."""
        file, line = self.place(number)
        return SourceLine(file, line, self.used_at)


class Directive:
    """One directive or section that is in force.

    `args` is the expanded rest of the line, not split into words; of a section, up to the last `>`.
    """

    __slots__ = ("args", "assumed", "children", "dump_line", "is_section", "name", "origin", "tail")

    def __init__(
        self,
        name: str,
        args: str,
        origin: Origin,
        dump_line: int,
        *,
        is_section: bool = False,
        assumed: bool = False,
    ) -> None:
        self.name = name
        """as written; of a section, without `<`"""
        self.args = args
        self.tail = ""
        """of a section: the last `>` and what follows it, which httpd ignores"""
        self.origin = origin
        self.dump_line = dump_line
        """the line number that httpd counts: within a macro's text, the lines of its body"""
        self.is_section = is_section
        self.children: list[Directive] = [] if is_section else _NO_CHILDREN
        self.assumed = assumed
        """in force only by an assumption of ours"""

    def __repr__(self) -> str:
        return f"<{self.name} at {self.at}>"

    @property
    def key(self) -> str:
        """The name in lower case."""
        return lower_ascii(self.name)

    @property
    def at(self) -> SourceLine:
        """Where it was written."""
        return self.origin.line(self.dump_line)

    @property
    def words(self) -> tuple[str, ...]:
        """All words, unquoted; empty ones are kept."""
        return split_words(self.args)

    def argv(self, limit: int = MAX_ARGUMENTS) -> tuple[str, ...]:
        """Return the words as directives with an argument list get them (httpd: TAKE_ARGV).

        Words past `limit` are dropped, and so is an empty one at the end.
        """
        words = split_words(self.args, limit)
        if words and not words[-1] and len(split_words(self.args, limit + 1)) == len(words):
            return words[:-1]
        return words


_NO_CHILDREN: list[Directive] = []


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The configuration in force; `findings` holds what httpd would refuse or silently get wrong."""

    directives: tuple[Directive, ...]
    findings: tuple[Finding, ...]
    modules: frozenset[str]
    """identifiers and source names of what is loaded at the end"""
    defines: Mapping[str, str]
    """names that <IfDefine> knows, with the value of those that have one, else \"\""""
    server_root: str
    runtime_folder: str | None
    """DefaultRuntimeDir, absolute"""
    files: tuple[str, ...]
    """every file read, in order, again for each time"""
    assumed: bool
    """whether an assumption made any difference"""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What httpd would end at."""
        return tuple(found for found in self.findings if found.severity is Severity.ERROR)


@dataclass(slots=True)
class World:
    """What httpd brings along when it starts to read."""

    reader: Reader
    server_root: str
    modules: frozenset[str] = STATIC_MODULES
    """loaded from the start: identifiers and source names"""
    version: str = "2.4.71"
    defines: tuple[str, ...] = ()
    """-D"""
    environment: Mapping[str, str] = field(default_factory=dict)
    pre_directives: tuple[str, ...] = ()
    """-C"""
    post_directives: tuple[str, ...] = ()
    """-c"""


def evaluate(
    main_file: str | None,
    *,
    world: World,
    sites_folder: str | None = None,
    assumptions: Assumptions = NOTHING_ASSUMED,
) -> Evaluation:
    """Read `main_file`, then the `*.conf` files of `sites_folder`, each where given.

    Raises ConfigurationError when `main_file` cannot be read, or `sites_folder` not be listed.
    """
    run = _Run(world, assumptions)
    run.read_commands(world.pre_directives)
    if main_file is not None:
        path = merge_path(run.server_root, main_file) or main_file
        run.read_text(path, world.reader.read(path), run.directives)
    if sites_folder is not None:
        run.read_sites(sites_folder)
    run.read_commands(world.post_directives)
    return run.result()


class _Frame:
    """An open section, or the live body of a condition."""

    __slots__ = ("assumed_before", "at", "closing", "is_condition", "name", "siblings")

    def __init__(
        self,
        name: str,
        *,
        siblings: list[Directive],
        at: tuple[Origin, int],
        is_condition: bool,
        assumed_before: bool,
    ) -> None:
        self.name = name
        self.closing = f"</{lower_ascii(name)}>"
        self.siblings = siblings
        self.at = at
        self.is_condition = is_condition
        self.assumed_before = assumed_before


_Action = Callable[["_Run", "_File", str], None]


class _File:
    """One file while it is read."""

    __slots__ = ("children", "frames", "origins", "stream")

    def __init__(self, stream: LineStream, origin: Origin, children: list[Directive]) -> None:
        self.stream = stream
        self.children = children
        """where the next directive goes"""
        self.frames: list[_Frame] = []
        self.origins: dict[LineSource, Origin] = {stream.source: origin}

    @property
    def origin(self) -> Origin:
        """Where the current line comes from."""
        return self.origins[self.stream.source]

    @property
    def number(self) -> int:
        """The current line's number."""
        return self.stream.source.index

    @property
    def at(self) -> SourceLine:
        """The current line's place."""
        return self.origin.line(self.number)


class _Run:
    """One evaluation: everything that changes while httpd reads."""

    def __init__(self, world: World, assumptions: Assumptions) -> None:
        self.world = world
        self.assumptions = assumptions
        self.directives: list[Directive] = []
        self.findings: list[Finding] = []
        self.server_root = merge_path("/", world.server_root) or world.server_root
        self.runtime_folder: str | None = None
        self.modules = set(world.modules)
        self.defines: dict[str, None] = dict.fromkeys(world.defines)
        self.values: dict[str, str] = {}
        self.macros: dict[str, Macro] = {}
        self.files: list[str] = []
        self.assumed = False
        self.used_assumption = False
        self.include_depth = 0
        self.known: dict[str, _Action | None] = {}

    def result(self) -> Evaluation:
        return Evaluation(
            directives=tuple(self.directives),
            findings=tuple(self.findings),
            modules=frozenset(self.modules),
            defines={name: self.values.get(lower_ascii(name), "") for name in self.defines},
            server_root=self.server_root,
            runtime_folder=self.runtime_folder,
            files=tuple(self.files),
            assumed=self.used_assumption,
        )

    # reading

    def read_commands(self, commands: tuple[str, ...]) -> None:
        if commands:
            # each is a line of its own, whatever it ends with
            lines = [f"{command}\0" for command in commands]
            source = LineSource("-c/-C directives", lines)
            self._read_lines(source, self.directives)

    def read_sites(self, folder: str) -> None:
        path = merge_path(self.server_root, folder) or folder
        entries = self.world.reader.list_folder(path)
        if entries is None:
            raise ConfigurationError("no such folder", at=path, hint="name another with --sites")
        fits = name_matcher("*.conf")
        for name, kind in _in_byte_order(entry for entry in entries if fits(entry[0])):
            self._read_path(join_path(path, name), kind, self.directives, optional=True, depth=0)

    def read_text(self, path: str, text: str, children: list[Directive]) -> None:
        """Read one file's text into `children`."""
        self.files.append(path)
        if text.startswith("\ufeff"):
            self.report(
                "byte-order-mark",
                SourceLine(path, 1),
                "the file begins with a byte order mark, which httpd takes for a part of the first word",
                "save the file as UTF-8 without byte order mark",
            )
            text = text[1:]
        self._read_lines(LineSource.of_text(path, text), children)

    def _read_lines(self, source: LineSource, children: list[Directive]) -> None:
        file = _File(LineStream(source), Origin(source.name), children)
        try:
            self._read_stream(file)
        except LineTooLongError:
            self.report(
                "line-too-long",
                file.at,
                "the line is longer than 16 MiB",
                "split the line; nothing after it in this file was read",
            )
        self._end_file(file)

    def _read_stream(self, file: _File) -> None:
        stream = file.stream
        known = self.known
        while (line := stream.next_line()) is not None:
            if not line or line[0] == "#":
                continue
            if line[0] == "<" and line[1:2] == "/" and self._closes_condition(file, line):
                continue
            if "${" in line:
                line = expand_variables(line, self._variable)
            name, _, args = line.partition(" ")
            if not name.isalnum():
                self._read_odd_line(file, line)
                continue
            args = args.lstrip(WHITE_SPACE)
            action = known[name] if name in known else self._look_up(name)
            if action is not None:
                action(self, file, args)
                continue
            source = stream.source
            file.children.append(
                Directive(name, args, file.origins[source], source.index, assumed=self.assumed)
            )

    def _read_odd_line(self, file: _File, line: str) -> None:
        """Read a line that is a tag, or whose first word is more than letters and digits."""
        name, args = next_word(line)
        if not name:
            return
        if name[1:2] != "/":
            name = name.removesuffix(">")
            if name.startswith("<") and not args:
                args = ">"
        action = self.known[name] if name in self.known else self._look_up(name)
        if action is not None:
            action(self, file, args)
        elif name.startswith("</"):
            self._close_section(file, name)
        elif name.startswith("<"):
            self._open_section(file, name[1:], args)
        else:
            directive = Directive(name, args, file.origin, file.number, assumed=self.assumed)
            file.children.append(directive)

    def _look_up(self, name: str) -> _Action | None:
        action, modules = _READ_TIME.get(lower_ascii(name), (None, ()))
        if modules and not self.modules.intersection(modules):
            action = None
        if action is None and lower_ascii(name) in _MACRO_NAMES:
            action = _Run._miss_macro_module
        elif lower_ascii(name) == "error":
            action = _Run._add_error
        self.known[name] = action
        return action

    def _variable(self, name: str) -> str | None:
        value = self.values.get(lower_ascii(name))
        return self.world.environment.get(name) if value is None else value

    # findings

    def report(
        self,
        code: str,
        at: SourceLine,
        message: str,
        hint: str,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note something that httpd refuses, or gets wrong without a word."""
        self.findings.append(Finding(code, severity, str(at), message, hint))

    # sections

    def _open_section(self, file: _File, name: str, args: str) -> None:
        section = Directive(
            name, args, file.origin, file.number, is_section=True, assumed=self.assumed
        )
        end = args.rfind(">")
        if end >= 0:
            section.args, section.tail = args[:end], args[end:]
        else:
            self.report(
                "unclosed-tag",
                section.at,
                f"the tag <{name} has no '>'",
                "add it at the line's end",
            )
        self._end_unclosed_vhost(file, section)
        file.children.append(section)
        self._push(file, name, section.children, is_condition=False)

    def _end_unclosed_vhost(self, file: _File, section: Directive) -> None:
        # vhosts cannot be nested: the one before lacks its end, and this one is fine
        if section.key != "virtualhost":
            return
        for depth, frame in enumerate(file.frames):
            if frame.closing == "</virtualhost>" and not frame.is_condition:
                self._report_unclosed(file, frame)
                while len(file.frames) > depth:
                    self._pop(file)
                return

    def _push(
        self, file: _File, name: str, children: list[Directive], *, is_condition: bool
    ) -> None:
        frame = _Frame(
            name,
            siblings=file.children,
            at=(file.origin, file.number),
            is_condition=is_condition,
            assumed_before=self.assumed,
        )
        file.frames.append(frame)
        file.children = children

    def _pop(self, file: _File) -> None:
        frame = file.frames.pop()
        file.children = frame.siblings
        self.assumed = frame.assumed_before

    def _closes_condition(self, file: _File, line: str) -> bool:
        frames = file.frames
        if not frames or not frames[-1].is_condition or lower_ascii(line) != frames[-1].closing:
            return False
        self._pop(file)
        return True

    def _close_section(self, file: _File, tag: str) -> None:
        frames = file.frames
        innermost = frames[-1] if frames else None
        if innermost and not innermost.is_condition and lower_ascii(tag) == innermost.closing:
            self._pop(file)
            return
        if innermost is None:
            message = f"{tag} closes nothing: no section of this file is open here"
        else:
            place = SourceLine(*innermost.at[0].place(innermost.at[1]))
            message = f"{tag} where </{innermost.name}> is expected for the section of {place}"
        hint = (
            "close sections in the reverse order, each in the file that opens it, alone on a line"
        )
        self.report("unmatched-tag", file.at, message, hint)
        self._close_as_meant(file, lower_ascii(tag))

    def _close_as_meant(self, file: _File, tag: str) -> None:
        for depth in range(len(file.frames) - 1, -1, -1):
            if file.frames[depth].closing == tag:
                while len(file.frames) > depth:
                    self._pop(file)
                return

    def _end_file(self, file: _File) -> None:
        if file.stream.lost_line is not None:
            origin = file.origins[file.stream.file]
            self.report(
                "last-line-lost",
                origin.line(file.stream.lost_line),
                "httpd drops this line: it follows a Use and has no line end",
                "add a line feed at the end of the file",
                severity=Severity.WARNING,
            )
        accepted = False
        for frame in file.frames:
            accepted = accepted or frame.is_condition
            self._report_unclosed(file, frame, accepted=accepted)
        while file.frames:
            self._pop(file)

    def _report_unclosed(self, file: _File, frame: _Frame, *, accepted: bool = False) -> None:
        origin, number = frame.at
        self.report(
            "unclosed-section",
            origin.line(number),
            f"<{frame.name}> is not closed in {file.stream.file.name}",
            f"add </{frame.name}> on a line of its own",
            severity=Severity.WARNING if accepted else Severity.ERROR,
        )

    # conditions

    def _open_condition(
        self, file: _File, name: str, args: str, test: Callable[[str], tuple[bool, bool]]
    ) -> None:
        """Read the body of a condition as live or dead; `test` answers (true, by assumption)."""
        end = args.rfind(">")
        if end < 0:
            self.report("unclosed-tag", file.at, f"the tag <{name} has no '>'", "add it")
        text = args[:end] if end >= 0 else args
        is_negated = text.startswith("!")
        word, _ = next_word(text.removeprefix("!"))
        if not word:
            self.report(
                "empty-condition", file.at, f"<{name}> asks for nothing", "name what to test"
            )
            self._skip_body(file, name)
            return
        is_true, is_assumed = test(word)
        if is_negated:
            is_true, is_assumed = not is_true or is_assumed, False
        self._enter_condition(file, name, is_live=is_true, is_assumed=is_assumed)

    def _enter_condition(
        self, file: _File, name: str, *, is_live: bool, is_assumed: bool = False
    ) -> None:
        if not is_live:
            self._skip_body(file, name)
            return
        self._push(file, name, file.children, is_condition=True)
        if is_assumed:
            self.assumed = self.used_assumption = True

    def _skip_body(self, file: _File, name: str) -> None:
        """Skip a dead body by its tags alone (httpd: ap_soak_end_container)."""
        begin = file.at
        names = [name]
        while (line := file.stream.next_line()) is not None:
            if line[:1] not in _TAG_STARTS:
                continue
            word, rest = next_word(line)
            if word.startswith("</"):
                self._skip_closing_tag(file, names, word)
                if not names:
                    return
            elif word.startswith("<"):
                names.append(word[1:] if rest else word[1:].removesuffix(">"))
        self.report(
            "unclosed-section",
            begin,
            f"<{name}> is not closed in {file.stream.file.name}",
            f"add </{name}> on a line of its own",
        )

    def _skip_closing_tag(self, file: _File, names: list[str], tag: str) -> None:
        closed = lower_ascii(tag[2:-1])
        if closed == lower_ascii(names[-1]):
            names.pop()
            return
        self.report(
            "unmatched-tag",
            file.at,
            f"{tag} where </{names[-1]}> is expected, in a part that is not in force",
            "close sections in the reverse order, each in the file that opens it",
        )
        for depth in range(len(names) - 1, -1, -1):
            if lower_ascii(names[depth]) == closed:
                del names[depth:]
                return

    def _if_module(self, file: _File, args: str) -> None:
        self._open_condition(
            file,
            "IfModule",
            args,
            lambda name: _known_or_assumed(name, self.modules, self.assumptions.modules),
        )

    def _if_define(self, file: _File, args: str) -> None:
        self._open_condition(
            file,
            "IfDefine",
            args,
            lambda name: _known_or_assumed(name, self.defines, self.assumptions.defines),
        )

    def _if_file(self, file: _File, args: str) -> None:
        self._open_condition(file, "IfFile", args, self._has_file)

    def _has_file(self, name: str) -> tuple[bool, bool]:
        path = merge_path(self.server_root, name)
        if path is None:
            return False, False
        if self.world.reader.kind(path) is not None:
            return True, False
        is_assumed = self.assumptions.has_file(path)
        return is_assumed, is_assumed

    def _if_directive(self, file: _File, args: str) -> None:
        self._open_condition(
            file, "IfDirective", args, lambda name: self._has_directive(file, name)
        )

    def _if_section(self, file: _File, args: str) -> None:
        self._open_condition(
            file, "IfSection", args, lambda name: self._has_directive(file, f"<{name}")
        )

    def _has_directive(self, file: _File, name: str) -> tuple[bool, bool]:
        from mdconnector.httpd.directive_names import modules_with

        modules = modules_with(lower_ascii(name))
        if modules is None:
            self.report(
                "unknown-directive-asked",
                file.at,
                f"whether this httpd knows {name} cannot be told; taken for no",
                "use <IfModule> with the module's name",
                severity=Severity.WARNING,
            )
            return False, False
        if self.modules.intersection(modules):
            return True, False
        is_assumed = not self.assumptions.modules.isdisjoint(modules)
        return is_assumed, is_assumed

    def _if_version(self, file: _File, args: str) -> None:
        words = split_words(args, 3)
        is_live = False
        try:
            if not words or not words[0] or len(split_words(args, 4)) > 3:
                raise VersionTestError("it takes an operator and a version")
            is_live = version_matches(words, self.world.version)
        except VersionTestError as error:
            self.report(
                "bad-version-test", file.at, f"<IfVersion>: {error}", "write <IfVersion >= 2.4>"
            )
        self._enter_condition(file, "IfVersion", is_live=is_live)

    # other directives that act while reading

    def _take(
        self, file: _File, args: str, *, name: str, least: int = 1, most: int = 1
    ) -> tuple[str, ...] | None:
        """Split an argument list that has a fixed length; None, with a finding, where it has not."""
        words = split_words(args, most + 1)
        required = words[:least]
        if len(words) > most or len(required) < least or not all(required):
            count = str(most) if least == most else f"{least} or {most}"
            self.report(
                "bad-arguments",
                file.at,
                f"{name} takes {count} word{'s' if most > 1 else ''}",
                "put quotes around a value with blanks; a comment needs a line of its own",
            )
            return None
        return words

    def _define(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="Define", most=2)
        if words is None:
            return
        if ":" in words[0]:
            self.report("bad-define", file.at, "the name contains a ':'", "choose another name")
            return
        self.defines[words[0]] = None
        if len(words) == 2 and words[1]:
            self.values[lower_ascii(words[0])] = words[1]

    def _undefine(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="UnDefine")
        if words is None:
            return
        if ":" in words[0]:
            self.report("bad-define", file.at, "the name contains a ':'", "choose another name")
            return
        self.defines.pop(words[0], None)
        self.values.pop(lower_ascii(words[0]), None)

    def _load_module(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="LoadModule", least=2, most=2)
        if words is not None:
            self.modules |= {words[0], source_name(*words)}
            self.known.clear()

    def _load_file(self, file: _File, args: str) -> None:
        self._take(file, args, name="LoadFile", most=MAX_ARGUMENTS)

    def _set_server_root(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="ServerRoot")
        if words is None:
            return
        path = merge_path("/", words[0])
        if path is None or self.world.reader.kind(path) is not EntryKind.FOLDER:
            self.report(
                "bad-server-root",
                file.at,
                f"{words[0]} is no folder; {self.server_root} is kept",
                "name the folder that the other paths begin at",
            )
            return
        self.server_root = path

    def _set_runtime_folder(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="DefaultRuntimeDir")
        if words is not None:
            self.runtime_folder = merge_path(self.server_root, words[0])

    def _read_elsewhere(self, file: _File, args: str) -> None:
        """Pass over a directive that names a list for a module."""

    def _add_error(self, file: _File, args: str) -> None:
        directive = Directive("Error", args, file.origin, file.number, assumed=self.assumed)
        file.children.append(directive)
        self.report("error-directive", file.at, f"Error {args}", "httpd ends at this line")

    # Include

    def _include(self, file: _File, args: str) -> None:
        self._include_any(file, args, optional=False)

    def _include_optional(self, file: _File, args: str) -> None:
        self._include_any(file, args, optional=True)

    def _include_any(self, file: _File, args: str, *, optional: bool) -> None:
        name = "IncludeOptional" if optional else "Include"
        words = self._take(file, args, name=name)
        if words is None:
            return
        self.include_depth += 1
        try:
            if self.include_depth > MAX_INCLUDE_DEPTH:
                raise ConfigurationError(
                    f"more than {MAX_INCLUDE_DEPTH} files include one another",
                    hint="a file includes itself, maybe by a wildcard",
                )
            self._read_included(file, words[0], optional=optional)
        except ConfigurationError as error:
            self._report_include(file.at, name, error)
        finally:
            self.include_depth -= 1

    def _report_include(self, at: SourceLine, name: str, error: ConfigurationError) -> None:
        hint = error.hint or "correct the path, or use IncludeOptional"
        self.report("include-failed", at, f"{name}: {error}", hint)

    def _read_included(self, file: _File, pattern: str, *, optional: bool) -> None:
        path = merge_path(self.server_root, pattern)
        if path is None:
            raise ConfigurationError("the path is too long")
        if has_wildcard(path):
            self._read_matching(file, "/", path.lstrip("/"), optional=optional)
        else:
            kind = self.world.reader.kind(path)
            self._read_path(path, kind, file.children, optional=optional, depth=0)

    def _read_matching(self, file: _File, folder: str, pattern: str, *, optional: bool) -> None:
        """Read what a pattern with wildcards matches, component by component."""
        component, slash, rest = pattern.partition("/")
        if not has_wildcard(component):
            path = join_path(folder, component)
            if slash:
                self._read_matching(file, path, rest, optional=optional)
            else:
                kind = self.world.reader.kind(path)
                self._read_path(path, kind, file.children, optional=optional, depth=0)
            return
        entries = self.world.reader.list_folder(folder)
        if entries is None:
            if optional:
                return
            raise ConfigurationError("no such folder", at=folder)
        fits = name_matcher(component)
        found = [entry for entry in entries if fits(entry[0])]
        if slash:
            found = [entry for entry in found if entry[1] is EntryKind.FOLDER]
        if not found and not optional:
            raise ConfigurationError(f"nothing matches '{component}'", at=folder)
        for name, kind in _in_byte_order(found):
            path = join_path(folder, name)
            if slash:
                self._read_matching(file, path, rest, optional=optional)
            else:
                self._read_path(path, kind, file.children, optional=optional, depth=0)

    def _read_path(
        self,
        path: str,
        kind: EntryKind | None,
        children: list[Directive],
        *,
        optional: bool,
        depth: int,
    ) -> None:
        """Read a file, or all that is below a folder."""
        if kind is EntryKind.LINK:
            kind = self.world.reader.kind(path)
        if kind is EntryKind.FOLDER:
            if depth >= MAX_FOLDER_DEPTH:
                raise ConfigurationError("folders are nested too deeply", at=path)
            for name, below in _in_byte_order(self.world.reader.list_folder(path) or ()):
                entry = join_path(path, name)
                self._read_path(entry, below, children, optional=optional, depth=depth + 1)
        elif kind is not None or not optional:
            try:
                text = self.world.reader.read(path)
            except ConfigurationError as error:
                self._report_include(SourceLine(path, 0), "Include", error)
            else:
                self.read_text(path, text, children)

    # macros

    def _miss_macro_module(self, file: _File, args: str) -> None:
        self.report(
            "macro-not-loaded",
            file.at,
            f"a macro is used, but mod_macro is not loaded: {args}",
            "load macro_module before (a2enmod macro)",
        )

    def _define_macro(self, file: _File, args: str) -> None:
        location = f'defined on line {file.number} of "{file.origin.dump_name}"'
        begin = file.at
        end = args.rfind(">")
        name, rest = next_word(args[:end] if end >= 0 else args)
        if end < 0 or not name:
            self.report("bad-macro", begin, "<Macro has no name or no '>'", "<Macro NAME ...>")
        body = self._macro_body(file)
        if body is None:
            self.report(
                "unclosed-section",
                begin,
                f"<Macro {name}> is not closed in {file.stream.file.name}, or a line is too long",
                "add </Macro> on a line of its own",
            )
            return
        if end < 0 or not name:
            return
        try:
            lowered = lower_ascii(name)
            lines, places = body
            self.macros[lowered] = Macro(lowered, split_words(rest), lines, places, location)
        except MacroError as error:
            self.report("bad-macro", begin, str(error), "name each parameter once")

    def _macro_body(
        self, file: _File
    ) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]] | None:
        from_macro = file.stream.source.parent is not None
        lines: list[str] = []
        places: list[tuple[str, int]] = []
        depth = 1
        while True:
            try:
                line = file.stream.next_joined_line(
                    limit=MAX_BODY_LINE_BYTES - 1, from_macro=from_macro
                )
            except LineTooLongError:
                return None
            if line is None:
                return None
            if line.startswith("#"):
                continue
            word = lower_ascii(next_word(line)[0]) if line[:1] in _TAG_STARTS else ""
            if word == "</macro>":
                depth -= 1
                if not depth:
                    return tuple(lines), tuple(places)
            elif word == "<macro":
                depth += 1
            lines.append(line)
            places.append(file.origin.place(file.number))

    def _use(self, file: _File, args: str) -> None:
        name, rest = next_word(args)
        name = lower_ascii(name)
        macro = self.macros.get(name)
        outer = file.origin
        if macro is None:
            self.report(
                "unknown-macro",
                file.at,
                f"there is no macro '{name}'",
                "define it above this line, in a part that is in force",
            )
            return
        try:
            if f"macro '{macro.name}'" in outer.dump_name:
                raise MacroError(f"macro '{macro.name}' uses itself")
            lines = macro.expand(split_words(rest))
        except MacroError as error:
            self.report("bad-use", file.at, str(error), f"the macro is {macro.location}")
            return
        number = file.number
        where = f"macro '{macro.name}' ({macro.location}) used on line {number} of \"{outer.dump_name}\""
        used_at = (SourceLine(*outer.place(number)), *outer.used_at)
        source = LineSource(where, lines)
        file.origins[source] = Origin(where, used_at, macro.places)
        file.stream.splice(source)

    def _undefine_macro(self, file: _File, args: str) -> None:
        words = self._take(file, args, name="UndefMacro")
        if words is not None and self.macros.pop(lower_ascii(words[0]), None) is None:
            self.report(
                "unknown-macro", file.at, f"there is no macro '{words[0]}'", "remove the line"
            )

    def _skip_foreign_body(self, file: _File, args: str) -> None:
        """Skip text in another language, up to the line that begins with the closing tag."""


_TAG_STARTS = frozenset("<\"'")


def _known_or_assumed(
    name: str, known: Iterable[str], assumed: frozenset[str]
) -> tuple[bool, bool]:
    if name in known:
        return True, False
    return name in assumed, name in assumed


def _in_byte_order(entries: Iterable[tuple[str, EntryKind]]) -> list[tuple[str, EntryKind]]:
    return sorted(entries, key=lambda entry: entry[0].encode("utf-8", "surrogateescape"))


_MACRO_MODULE = ("macro_module",)
_VERSION_MODULE = ("version_module",)
_SO_MODULE = ("so_module",)
_REMOTE_IP_MODULE = ("remoteip_module",)

_READ_TIME: dict[str, tuple[_Action, tuple[str, ...]]] = {
    "include": (_Run._include, ()),
    "includeoptional": (_Run._include_optional, ()),
    "define": (_Run._define, ()),
    "undefine": (_Run._undefine, ()),
    "serverroot": (_Run._set_server_root, ()),
    "defaultruntimedir": (_Run._set_runtime_folder, ()),
    "<ifmodule": (_Run._if_module, ()),
    "<ifdefine": (_Run._if_define, ()),
    "<iffile": (_Run._if_file, ()),
    "<ifdirective": (_Run._if_directive, ()),
    "<ifsection": (_Run._if_section, ()),
    "<ifversion": (_Run._if_version, _VERSION_MODULE),
    "loadmodule": (_Run._load_module, _SO_MODULE),
    "loadfile": (_Run._load_file, _SO_MODULE),
    "<macro": (_Run._define_macro, _MACRO_MODULE),
    "use": (_Run._use, _MACRO_MODULE),
    "undefmacro": (_Run._undefine_macro, _MACRO_MODULE),
    "remoteiptrustedproxylist": (_Run._read_elsewhere, _REMOTE_IP_MODULE),
    "remoteipinternalproxylist": (_Run._read_elsewhere, _REMOTE_IP_MODULE),
}
_MACRO_NAMES = frozenset({"<macro", "use", "undefmacro"})
