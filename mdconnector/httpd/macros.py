"""mod_macro's definitions and the text that a use of one stands for. Pure.

Values are put in as plain text, from left to right, the longest parameter name first.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mdconnector.httpd.lexer import byte_length, rejoined, split_words

MAX_BODY_LINE_BYTES = 8192
"""the first length, line feed included, that does not fit"""
_FLAGS = ("/ignoreemptyargs", "/ignorebadnesting")


class MacroError(Exception):
    """A macro is defined or used in a way that httpd refuses; the text says how."""


class Macro(NamedTuple):
    """A definition: its body is joined and trimmed lines, comments left out, nothing expanded."""

    name: str
    parameters: tuple[str, ...]
    body: tuple[str, ...]
    places: tuple[tuple[str, int], ...]
    """file and line of each line of the body"""
    location: str
    """as httpd words it: `defined on line 2 of "/etc/..."`"""

    def check(self) -> None:
        """Raise MacroError for parameters that httpd refuses."""
        for number, parameter in enumerate(self.parameters, 1):
            if not parameter:
                raise MacroError(f"macro '{self.name}': parameter {number} is empty")
            if parameter in self.parameters[number:]:
                raise MacroError(f"macro '{self.name}': parameter '{parameter}' is given twice")

    def expand(self, values: tuple[str, ...]) -> list[str]:
        """Return the body with `values` in place of the parameters. Raises MacroError."""
        if len(values) != len(self.parameters):
            raise MacroError(
                f"macro '{self.name}' takes {len(self.parameters)} values, {len(values)} are given"
            )
        if not values:
            return list(self.body)
        names = sorted(self.parameters, key=len, reverse=True)
        pattern = re.compile("|".join(re.escape(name) for name in names))
        by_name = dict(zip(self.parameters, values, strict=True))
        return [self._substitute(line, pattern, by_name) for line in self.body]

    def _substitute(self, line: str, pattern: re.Pattern[str], values: dict[str, str]) -> str:
        match = pattern.search(line)
        while match:
            name, value = match[0], values[match[0]]
            inserted = _quoted(value) if name.startswith("@") and value != name else value
            line = line[: match.start()] + inserted + line[match.end() :]
            if value != name and byte_length(line) + 1 >= MAX_BODY_LINE_BYTES:
                raise MacroError(f"macro '{self.name}': a line becomes too long")
            # as in mod_macro, quotes and backslashes that were added are not counted
            match = pattern.search(line, match.start() + len(value))
        return rejoined(line)


def parameters_of(text: str) -> tuple[str, ...]:
    """Split what follows a macro's name; words that begin with `/` before the first are flags."""
    while text.startswith("/"):
        flag = next((flag for flag in _FLAGS if text.lower().startswith(flag)), "")
        text = text[len(flag) :]
        if text and not text.startswith(" "):
            # an unknown flag goes up to the next blank; without one, only its slash goes
            _, blank, rest = text.partition(" ")
            text = blank + rest if blank else text
        text = text[1:]
    return split_words(text)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
