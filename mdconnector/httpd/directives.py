"""The evaluated configuration as values: directives, and where each one stands. Pure."""

from __future__ import annotations

from mdconnector.httpd.lexer import lower_ascii, split_words
from mdconnector.managed_domain import SourceLine

MAX_ARGUMENTS = 64
"""words that httpd hands to a directive with an argument list; more are dropped silently"""


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
        """the Use lines that brought this text in, innermost first"""
        self.places = places
        """of a macro's text: the file and line that each of its lines was written at"""

    def place(self, number: int) -> tuple[str, int]:
        """Return the file and the line in it where line `number` of this text was written."""
        if not self.places:
            return self.dump_name, number
        return self.places[min(number, len(self.places)) - 1]

    def line(self, number: int) -> SourceLine:
        """Return the place of line `number` with the Use lines that brought it in."""
        file, line = self.place(number)
        return SourceLine(file, line, self.used_at)


class _Names(dict[str, tuple[str, str]]):
    """Each name once, as written and in lower case: all sites spell a few dozen names."""

    def __missing__(self, name: str) -> tuple[str, str]:
        self[name] = found = (name, lower_ascii(name))
        return found


_NAMES = _Names()


class Directive:
    """One directive that is in force: a plain one, or a `Section`.

    `args` is the expanded rest of the line, not split into words.
    """

    __slots__ = ("args", "assumed", "dump_line", "key", "name", "origin")

    is_section = False
    tail = ""
    children: list[Directive] = []  # noqa: RUF012 - none, for all directives but sections

    def __init__(
        self, name: str, args: str, origin: Origin, dump_line: int, *, assumed: bool = False
    ) -> None:
        self.name, self.key = _NAMES[name]
        """as written, and in lower case; of a section, without `<`"""
        self.args = args
        self.origin = origin
        self.dump_line = dump_line
        """the line number that httpd counts: within a macro's text, the lines of its body"""
        self.assumed = assumed
        """in force only by an assumption of ours"""

    def __repr__(self) -> str:
        return f"<{self.name} at {self.at}>"

    @property
    def at(self) -> SourceLine:
        """Where it was written."""
        return self.origin.line(self.dump_line)

    @property
    def words(self) -> tuple[str, ...]:
        """All words, unquoted; empty ones are kept."""
        args = self.args
        if '"' in args or "'" in args or "\\" in args or not args.isprintable():
            return split_words(args)
        return tuple(args.split())  # the blank is all the white space that is printable

    def argv(self, limit: int = MAX_ARGUMENTS) -> tuple[str, ...]:
        """Return the words as directives with an argument list get them (httpd: TAKE_ARGV).

        Words past `limit` are dropped, and so is an empty one at the very end.
        """
        words = self.words
        if words and not words[-1] and len(words) <= limit:
            return words[:-1]
        return words[:limit]


class Section(Directive):
    """One section that is in force; `args` is what stands before the last `>`.

    `tail` is that `>` and what follows it, which httpd ignores.
    """

    __slots__ = ("children", "tail")

    is_section = True

    def __init__(
        self, name: str, args: str, tail: str, origin: Origin, dump_line: int, *, assumed: bool
    ) -> None:
        super().__init__(name, args, origin, dump_line, assumed=assumed)
        self.tail = tail
        self.children = []
