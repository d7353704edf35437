"""Reads lines into a tree of directives, as httpd does (its ap_build_config). Pure.

An `Action` is what one directive does while it is read; all other directives go into the tree.
What httpd would end at becomes a finding, and reading goes on: a closing tag closes what it must
have meant, and the end of a file closes what that file opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mdconnector.httpd.directives import Directive, Origin, Section
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
from mdconnector.httpd.macros import Macro
from mdconnector.httpd.paths import merge_path
from mdconnector.httpd.world import Assumptions, EntryKind, World
from mdconnector.managed_domain import Finding, Severity, SourceLine

MAX_FILES = 500_000
MAX_USES = 2_000_000
MAX_CIRCLES = 8
MAX_ERRORS = 10_000

_TAG_STARTS = frozenset("<\"'")
_ORDER_HINT = "close sections in the reverse order, in the file that opens them, alone on a line"

Action = Callable[["Reading", "FileReading", str], None]


def _drop(_run: Reading, _file: FileReading, _args: str) -> None:
    """Leave out a directive that nobody wants."""


def _look_up_first(_run: Reading, _file: FileReading, _args: str) -> None:
    """Stand for what a name does that was not met yet."""


class CircleError(Exception):
    """Files include one another without end; `depth` is how many are open outside the circle."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth


class TooMuchError(Exception):
    """The configuration is larger than anybody can mean, or is none: all that a folder holds."""


class ReadTime(NamedTuple):
    """What a directive does while it is read, if its module is loaded."""

    action: Action
    module: str | None = None
    otherwise: Action | None = None


class _ClosingTags(dict[str, str]):
    """Closing tags in lower case, by the name as written."""

    def __missing__(self, name: str) -> str:
        self[name] = tag = f"</{lower_ascii(name)}>"
        return tag


_CLOSING_TAGS = _ClosingTags()


class Frame(NamedTuple):
    """An open section, or the live body of a condition."""

    name: str
    closing: str
    """its closing tag in lower case"""
    is_condition: bool
    siblings: list[Directive]
    """what the directives behind it are added to"""
    origin: Origin
    number: int
    assumed_before: bool

    @property
    def at(self) -> SourceLine:
        """Where it was opened."""
        return self.origin.line(self.number)


class FileReading:
    """One file while it is read, with the macro texts that are spliced into it."""

    __slots__ = ("children", "frames", "origins", "stream")

    def __init__(self, source: LineSource, children: list[Directive]) -> None:
        self.stream = LineStream(source)
        self.children = children
        """where the next directive goes"""
        self.frames: list[Frame] = []
        self.origins = {source: Origin(source.name)}

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


class Reading:
    """One evaluation: everything that changes while httpd reads."""

    def __init__(
        self,
        world: World,
        assumptions: Assumptions,
        actions: Mapping[str, ReadTime],
        keeps: Callable[[str], bool],
    ) -> None:
        self.world = world
        self.assumptions = assumptions
        self.actions = actions
        """by lower-case name"""
        self.keeps = keeps
        """says of a lower-case name whether such directives are wanted; sections always are"""
        self.directives: list[Directive] = []
        self.findings: list[Finding] = []
        self._errors = 0
        self.files: list[str] = []
        self.server_root = merge_path("/", world.server_root) or world.server_root
        self.runtime_folder: str | None = None
        self.state_folder: str | None = None
        self.modules = set(world.modules)
        self.module_files: dict[str, str] = {}
        self.defines = dict.fromkeys(world.defines)
        """what <IfDefine> knows"""
        self.values: dict[str, str] = {}
        """what Define gave a value, by lower-case name"""
        self.macros: dict[str, Macro] = {}
        self.uses = 0
        self._circles = 0
        self._open_files: list[tuple[str, list[Directive], int]] = []
        self.assumed = False
        """whether what is being read is live only by an assumption"""
        self.used_assumption = False
        self._known: dict[str, Action | None] = {}
        """what each name does, as it was written so far"""
        self._undefined: set[str] = set()

    def report(
        self,
        code: str,
        at: SourceLine,
        message: str,
        hint: str,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note something that httpd refuses, or gets wrong without a word; line 0 is the file.

        Raises TooMuchError at the last error that is still looked for.
        """
        if at.used_at:
            message += ", in the macro used at " + ", ".join(map(str, at.used_at))
        place = str(at) if at.line else at.file
        self.findings.append(Finding(code, severity, place, message, hint))
        self._errors += severity is Severity.ERROR
        if self._errors == MAX_ERRORS and severity is Severity.ERROR:
            raise TooMuchError

    def read_commands(self, commands: tuple[str, ...]) -> None:
        """Read the directives of -C or -c."""
        # each is a line of its own, whatever it ends with: a NUL keeps it from being continued
        source = LineSource("-c/-C directives", [f"{command}\0" for command in commands])
        self._read_source(source, self.directives)

    def read_file(
        self, path: str, children: list[Directive], kind: EntryKind | None = None
    ) -> None:
        """Read one file into `children`. Raises ConfigurationError where it cannot be read."""
        text = self.world.reader.read(path, kind)
        self.files.append(path)
        if len(self.files) > MAX_FILES:
            raise TooMuchError
        if text.startswith("\ufeff"):
            self.report(
                "byte-order-mark",
                SourceLine(path, 1),
                "the file begins with a byte order mark, which becomes part of its first word",
                "save it as UTF-8 without byte order mark",
            )
            text = text[1:]
        self._open_files.append((path, children, len(children)))
        try:
            self._read_source(LineSource.of_text(path, text), children)
        finally:
            self._open_files.pop()

    @property
    def open_file_count(self) -> int:
        """How many files are being read, one within another."""
        return len(self._open_files)

    def find_circle(self) -> CircleError | None:
        """Say where the open files begin to repeat; what the repetition has added is removed.

        Raises TooMuchError when circles are found again and again.
        """
        self._circles += 1
        if self._circles > MAX_CIRCLES:
            raise TooMuchError
        first: dict[str, int] = {}
        for position, (path, children, length) in enumerate(self._open_files):
            if path in first:
                del children[length:]
                return CircleError(first[path])
            first[path] = position
        return None

    def _read_source(self, source: LineSource, children: list[Directive]) -> None:
        file = FileReading(source, children)
        try:
            self._read_lines(file)
        except LineTooLongError:
            self.report(
                "line-too-long",
                file.at,
                "the line is longer than 16 MiB; what follows in this file was not read",
                "split the line",
            )
        self._end_file(file)

    def _read_lines(self, file: FileReading) -> None:
        stream = file.stream
        known = self._known
        for line in stream:
            if not line:
                continue
            first = line[0]
            if first == "#":
                continue
            if first == "<" and line[1:2] == "/" and self._ends_section(file, line):
                continue
            text = line
            if "$" in line and "${" in line:
                text = self._expand(file, line)
                first = text[:1]
            name, _, args = text.partition(" ")
            action = known.get(name, _look_up_first)
            if action is _drop:
                continue
            is_tag = first == "<"
            if not (name[1:].isalnum() and args if is_tag else name.isalnum()):
                self._read_odd_line(file, text)
                continue
            if action is _look_up_first:
                action = self._look_up(name)
            if args and args[0] in WHITE_SPACE:
                args = args.lstrip(WHITE_SPACE)
            if action is not None:
                action(self, file, args)
            elif is_tag:
                self._open_section(file, name[1:], args)
            else:
                source = stream.source
                file.children.append(
                    Directive(name, args, file.origins[source], source.index, assumed=self.assumed)
                )

    def _read_odd_line(self, file: FileReading, line: str) -> None:
        """Read a line that is a tag, or whose first word is more than letters and digits."""
        name, args = next_word(line)
        if not name:
            return
        if name[1:2] != "/":
            name = name.removesuffix(">")
            if name.startswith("<") and not args:
                args = ">"
        action = self._known[name] if name in self._known else self._look_up(name)
        if action is not None:
            action(self, file, args)
        elif name.startswith("</"):
            self._close_section(file, name)
        elif name.startswith("<"):
            self._open_section(file, name[1:], args)
        else:
            file.children.append(
                Directive(name, args, file.origin, file.number, assumed=self.assumed)
            )

    def _look_up(self, name: str) -> Action | None:
        key = lower_ascii(name)
        entry = self.actions.get(key)
        action: Action | None = None if key.startswith("<") or self.keeps(key) else _drop
        if entry is not None:
            is_loaded = entry.module is None or entry.module in self.modules
            action = entry.action if is_loaded else entry.otherwise
        self._known[name] = action
        return action

    def add_module(self, *names: str) -> None:
        """Take a module for loaded, by identifier and source name."""
        self.modules.update(names)
        self._known.clear()

    def _expand(self, file: FileReading, line: str) -> str:
        def look_up(name: str) -> str | None:
            value = self.values.get(lower_ascii(name))
            if value is None:
                value = self.world.environment.get(name)
            if value is None and ":" not in name and name not in self._undefined:
                self._undefined.add(name)
                self.report(
                    "undefined-variable",
                    file.at,
                    f"${{{name}}} is not defined and stays in the text as it is",
                    f"add 'Define {name} ...' above, or set it in envvars",
                    severity=Severity.WARNING,
                )
            return value

        return expand_variables(line, look_up)

    def take(
        self, file: FileReading, args: str, *, name: str, least: int = 1, most: int = 1
    ) -> tuple[str, ...] | None:
        """Split arguments of a fixed number; None, with a finding, where the number differs."""
        words = split_words(args, most + 1)
        if least <= len(words) <= most and all(words[:least]):
            return words
        count = str(most) if least == most else f"{least} to {most}"
        self.report(
            "bad-arguments",
            file.at,
            f"{name} takes {count} argument{'s' if most > 1 else ''}",
            "put quotes around a value with blanks, and a comment on a line of its own",
        )
        return None

    # sections

    def open_condition(self, file: FileReading, name: str, *, assumed: bool) -> None:
        """Go on reading in the body of a condition that is true."""
        self._push(file, name, file.children, is_condition=True)
        if assumed:
            self.assumed = self.used_assumption = True

    def skip_section(self, file: FileReading, name: str) -> None:
        """Pass over a dead body by its tags alone (httpd: ap_soak_end_container)."""
        begin = file.at
        names = [name]
        for line in file.stream:
            if line[:1] not in _TAG_STARTS:
                continue
            word, rest = next_word(line)
            if word.startswith("</"):
                self._skip_closing_tag(file, names, word)
                if not names:
                    return
            elif word.startswith("<"):
                names.append(word[1:] if rest else word[1:].removesuffix(">"))
        self.report_unclosed(file, name, begin)

    def _skip_closing_tag(self, file: FileReading, names: list[str], tag: str) -> None:
        closed = lower_ascii(tag[2:-1])
        if closed == lower_ascii(names[-1]):
            names.pop()
            return
        message = f"{tag} where </{names[-1]}> is expected, in a part that is not in force"
        self.report("unmatched-tag", file.at, message, _ORDER_HINT)
        for depth in range(len(names) - 1, -1, -1):
            if lower_ascii(names[depth]) == closed:
                del names[depth:]
                return

    def _open_section(self, file: FileReading, name: str, args: str) -> None:
        end = args.rfind(">")
        if end < 0:
            self.report_unclosed_tag(file, name)
            end = len(args)
        if file.frames and _CLOSING_TAGS[name] == "</virtualhost>":
            self._end_unclosed_vhost(file)
        source = file.stream.source
        section = Section(
            name,
            args[:end],
            args[end:],
            file.origins[source],
            source.index,
            assumed=self.assumed,
        )
        file.children.append(section)
        self._push(file, name, section.children, is_condition=False)

    def _end_unclosed_vhost(self, file: FileReading) -> None:
        # they cannot be nested: the one before lacks its end, and the new one is fine
        for depth, frame in enumerate(file.frames):
            if frame.closing == "</virtualhost>" and not frame.is_condition:
                self.report_unclosed(file, frame.name, frame.at)
                self._pop_to(file, depth)
                return

    def _push(
        self, file: FileReading, name: str, children: list[Directive], *, is_condition: bool
    ) -> None:
        source = file.stream.source
        frame = Frame(
            name,
            _CLOSING_TAGS[name],
            is_condition,
            file.children,
            file.origins[source],
            source.index,
            self.assumed,
        )
        file.frames.append(frame)
        file.children = children

    def _pop(self, file: FileReading) -> None:
        frame = file.frames.pop()
        file.children = frame.siblings
        self.assumed = frame.assumed_before

    def _pop_to(self, file: FileReading, depth: int) -> None:
        while len(file.frames) > depth:
            self._pop(file)

    def _ends_section(self, file: FileReading, line: str) -> bool:
        """Close what is innermost, if the line is its closing tag and nothing else.

        Only so is a live condition closed; other sections may be closed in more ways.
        """
        frames = file.frames
        if not frames or lower_ascii(line) != frames[-1].closing:
            return False
        self._pop(file)
        return True

    def _close_section(self, file: FileReading, tag: str) -> None:
        frames = file.frames
        innermost = frames[-1] if frames else None
        if innermost and not innermost.is_condition and lower_ascii(tag) == innermost.closing:
            self._pop(file)
            return
        if innermost is None:
            message = f"{tag} closes nothing: no section of this file is open here"
        elif innermost.is_condition:
            message = (
                f"{tag} within <{innermost.name}> of {innermost.at}: it must stand alone there"
            )
        else:
            message = f"{tag} where </{innermost.name}> is expected for {innermost.at}"
        self.report("unmatched-tag", file.at, message, _ORDER_HINT)
        meant = [depth for depth, frame in enumerate(frames) if frame.closing == lower_ascii(tag)]
        if meant:
            self._pop_to(file, meant[-1])

    def _end_file(self, file: FileReading) -> None:
        if file.stream.lost_line is not None:
            self.report(
                "last-line-lost",
                SourceLine(file.stream.file.name, file.stream.lost_line),
                "httpd drops this line without a word, because it has no line end",
                "add a line feed at the end of the file",
                severity=Severity.WARNING,
            )
        accepted = False
        for frame in file.frames:
            # the end of a file ends a live condition silently, with all that is open in it
            accepted = accepted or frame.is_condition
            severity = Severity.WARNING if accepted else Severity.ERROR
            self.report_unclosed(file, frame.name, frame.at, severity=severity)
        self._pop_to(file, 0)

    def report_unclosed(
        self,
        file: FileReading,
        name: str,
        at: SourceLine,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note a section without its end."""
        self.report(
            "unclosed-section",
            at,
            f"<{name}> is not closed in {file.stream.file.name}",
            f"add </{name}> on a line of its own",
            severity=severity,
        )

    def report_unclosed_tag(self, file: FileReading, name: str) -> None:
        """Note a tag without `>`."""
        self.report("unclosed-tag", file.at, f"the tag <{name} has no '>'", "add it")
