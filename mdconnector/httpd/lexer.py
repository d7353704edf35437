"""Lines and words of httpd's configuration syntax, as its C code reads them. Pure.

Text is bytes decoded as UTF-8 with surrogateescape, so that every byte survives the way back to a
file's name. White space is ASCII white space only. Case is folded for ASCII only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

WHITE_SPACE = " \t\n\v\f\r"
MAX_LINE_BYTES = 16 * 1024 * 1024
LONG_LINE = MAX_LINE_BYTES // 4
"""characters from which on a line's bytes are counted: none is longer than four of them"""
FIRST_BUFFER_BYTES = 206
"""what fits in httpd's line buffer before it first grows (on 64 bits)"""

_TRIMMED = WHITE_SPACE + "\0"
_BARE_WORD = re.compile(r"([^ \t\n\v\f\r]+)[ \t\n\v\f\r]*")
_QUOTED_WORD = {
    '"': re.compile(r'"([^"\\]*+(?:\\["\\]?[^"\\]*+)*+)"?[ \t\n\v\f\r]*'),
    "'": re.compile(r"'([^'\\]*+(?:\\['\\]?[^'\\]*+)*+)'?[ \t\n\v\f\r]*"),
}
_ESCAPED = {'"': re.compile(r'\\(["\\])'), "'": re.compile(r"\\(['\\])")}
_NAME_IN_BRACES = re.compile(r"\$\{([^}]*)\}")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class LineTooLongError(Exception):
    """A logical line is longer than httpd's buffer."""


def lower_ascii(text: str) -> str:
    """Fold A-Z only, as httpd does in every locale it is started in."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def byte_length(text: str) -> int:
    """Count the bytes that `text` was decoded from."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def rejoined(text: str) -> str:
    """Put a character together again whose bytes came from two pieces of text."""
    return text if text.isascii() else _decoded(text.encode("utf-8", "surrogateescape"))


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def next_word(text: str) -> tuple[str, str]:
    """Take the first word off `text`, and white space around it (httpd: ap_getword_conf)."""
    text = text.lstrip(WHITE_SPACE)
    quote = text[:1]
    pattern = _QUOTED_WORD.get(quote)
    match = (pattern or _BARE_WORD).match(text)
    if match is None:
        return "", ""
    word = match[1]
    if "\\" in word:
        word = _ESCAPED[quote].sub(r"\1", word) if pattern else word.replace("\\\\", "\\")
    return word, text[match.end() :]


def split_words(text: str, limit: int | None = None) -> tuple[str, ...]:
    """Split into words, at most `limit`; quoted empty words are kept."""
    words: list[str] = []
    rest = text.lstrip(WHITE_SPACE)
    while rest and (limit is None or len(words) < limit):
        word, rest = next_word(rest)
        words.append(word)
    return tuple(words)


def expand_variables(text: str, lookup: Callable[[str], str | None]) -> str:
    """Replace each `${NAME}` that `lookup` knows; the result is not scanned again."""
    # behind the last brace nothing can match, and each attempt would look through all of it
    end = text.rfind("}") + 1
    replaced = _NAME_IN_BRACES.sub(lambda match: _known_or_literal(match, lookup), text[:end])
    return rejoined(replaced + text[end:])


def _known_or_literal(match: re.Match[str], lookup: Callable[[str], str | None]) -> str:
    value = lookup(match[1])
    return match[0] if value is None else value


class LineSource:
    """Physical lines of a file, or of the text that one use of a macro stands for."""

    __slots__ = (
        "count",
        "index",
        "last_line_ends",
        "lines",
        "name",
        "parent",
        "plain_lines",
        "trimmed",
    )

    def __init__(
        self,
        name: str,
        lines: list[str],
        *,
        last_line_ends: bool = True,
        are_joined: bool = True,
    ) -> None:
        self.name = name
        self.lines = lines
        self.trimmed = [
            None if are_joined and _goes_on(line) else line.strip(_TRIMMED) for line in lines
        ]
        """each line without the white space around it; None where the next one belongs to it"""
        self.count = len(lines)
        self.last_line_ends = last_line_ends
        self.plain_lines = self.count if last_line_ends else self.count - 1
        """below this index a line ends with a line feed and is not too long"""
        self.index = 0
        """how many lines have been read: the number of the last one"""
        self.parent: LineSource | None = None
        """what is read on once this macro text is at its end"""

    @classmethod
    def of_text(cls, name: str, text: str) -> LineSource:
        """Split a file's text."""
        lines = text.split("\n")
        last_line_ends = lines[-1] == ""
        if last_line_ends:
            lines.pop()
        if "\0" in text:
            lines = [_cut_at_nul(line) for line in lines]
        are_joined = "\\" in text and ("\\\n" in text or "\\\r\n" in text)
        source = cls(name, lines, last_line_ends=last_line_ends, are_joined=are_joined)
        if len(text) >= LONG_LINE:
            source.plain_lines = min(source.plain_lines, _first_long(lines))
        return source

    def has_short_lines(self) -> bool:
        """Say whether every line but the last left the line buffer as small as it was."""
        return all(byte_length(line) < FIRST_BUFFER_BYTES for line in self.lines[:-1])


def _goes_on(line: str) -> bool:
    return line.endswith(("\\", "\\\r"))


def _cut_at_nul(line: str) -> str:
    # the NUL is kept as a mark that nothing continues this line; trimming removes it
    text, nul, _ = line.partition("\0")
    return text + nul


def _first_long(lines: list[str]) -> int:
    return next((i for i, line in enumerate(lines) if len(line) >= LONG_LINE), len(lines))


class LineStream:
    """The logical lines of one file, with the macro texts that are spliced into it.

    `source` is where the last line came from, and its `index` that line's number.
    """

    __slots__ = ("file", "lost_line", "source")

    def __init__(self, source: LineSource) -> None:
        self.file = source
        self.source = source
        self.lost_line: int | None = None
        """the number of a last line that httpd drops (see __iter__)"""

    def splice(self, source: LineSource) -> None:
        """Read `source` before going on."""
        source.parent = self.source
        self.source = source

    def __iter__(self) -> Iterator[str]:
        """Yield the logical lines that are left, joined and trimmed.

        Meanwhile lines may be taken in other ways, and texts be spliced in. httpd drops the last
        line of a file that has no line end, when it is the first one read after a macro's text, or
        fills the first line buffer to the last byte; so does this.
        """
        while True:
            source = self.source
            index = source.index
            line = source.trimmed[index] if index < source.plain_lines else None
            if line is not None:
                source.index = index + 1
                yield line
                continue
            from_macro = source.parent is not None
            line = self.next_joined_line(limit=MAX_LINE_BYTES, from_macro=from_macro)
            if line is None:
                return
            yield line

    def next_joined_line(self, *, limit: int, from_macro: bool) -> str | None:
        """Return the next logical line, whatever it takes. Raises LineTooLongError."""
        parts: list[str] = []
        length = 0
        while True:
            source = self._source_with_lines()
            if source.index >= source.count:
                source.index = source.count + 1
                return "".join(parts).strip(_TRIMMED) or None
            line = source.lines[source.index]
            source.index += 1
            is_ended = source.index < source.count or source.last_line_ends
            if from_macro and not is_ended:
                self.lost_line = source.index
                return "".join(parts).strip(_TRIMMED) or None
            length += byte_length(line)
            if length == FIRST_BUFFER_BYTES and not is_ended and source.has_short_lines():
                self.lost_line = source.index
                return None
            if length + is_ended >= limit:
                raise LineTooLongError
            if parts and len(line) < 2:
                line = parts.pop() + line
            stem = line.removesuffix("\r")
            if not is_ended or not stem.endswith("\\"):
                parts.append(line)
                return rejoined("".join(parts)).strip(_TRIMMED)
            parts.append(stem[:-1])
            length -= len(line) - len(parts[-1])

    def next_physical_line(self) -> str | None:
        """Return the next line as it stands; None at the end of the file."""
        source = self._source_with_lines()
        if source.index >= source.count:
            return None
        source.index += 1
        return source.lines[source.index - 1]

    def _source_with_lines(self) -> LineSource:
        source = self.source
        while source.index >= source.count and source.parent is not None:
            source = source.parent
        self.source = source
        return source


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its last physical line, logical line), comments and empty lines left out."""
    stream = LineStream(LineSource.of_text("", text))
    for line in stream:
        if line and line[0] != "#":
            yield stream.source.index, line
