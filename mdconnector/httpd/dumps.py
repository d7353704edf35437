"""Understands what httpd prints: -D DUMP_CONFIG, -D DUMP_VHOSTS, and why it refuses. Pure.

mod_info prints each directive below a line with its number, indented by its depth, and names the
file whenever that changes; a section without children has no closing line. httpd's core prints the
virtual hosts by address, with aliases only where several share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mdconnector.httpd.directives import Directive

DUMP_CONFIG = "DUMP_CONFIG"
DUMP_VHOSTS = "DUMP_VHOSTS"

_FILE = re.compile(r"# In file: (.*)")
_NUMBER = re.compile(r"((?:  )*)# *(\d+):")
_PLACE = r"(?P<name>\S*) \((?P<file>.*):(?P<line>\d+)\)"
_ALONE = re.compile(rf"(?P<address>\S+) +{_PLACE}")
_SHARED = re.compile(r"(?P<address>\S+) +is a NameVirtualHost")
_NAMED = re.compile(rf" +port (?:\d+|\*) namevhost {_PLACE}")
_ALIAS = re.compile(r" +(?:wild )?alias (?P<name>.*)")
_NO_REASON = re.compile(r"AH00014: |AH0055[78]: ")
"""that the test has failed, which is known, and that this host's name leads nowhere"""
_SYNTAX_ERROR = re.compile(r"Syntax error on line (\d+) of ([^\n]+?):[ \n]\s*")


class DumpedDirective(NamedTuple):
    """One directive that is in force, as mod_info prints it."""

    depth: int
    name: str
    """in lower case; of a section with `<`"""
    args: str
    """of a section with the closing `>`"""
    file: str
    """of a macro's text, a sentence on where it was defined and used"""
    line: int


class DumpedVhost(NamedTuple):
    """One virtual host at one address."""

    address: str
    server_name: str
    file: str
    line: int
    aliases: tuple[str, ...] | None
    """None: not told, because no other virtual host has that address"""


class Refusal(NamedTuple):
    """Why httpd does not take a configuration; `at` is the `file:line` that it blames."""

    message: str
    at: str | None


def parse_config_dump(text: str) -> Iterator[DumpedDirective]:
    """Yield every directive of a text that may begin with other dumps."""
    file = ""
    lines = iter(text.split("\n"))
    for line in lines:
        if heading := _FILE.fullmatch(line):
            file = heading[1]
        elif number := _NUMBER.fullmatch(line):
            written = next(lines, "")[len(number[1]) :]
            name, _, args = written.partition(" ")
            depth = len(number[1]) // 2
            yield DumpedDirective(depth, name.lower(), args, file, int(number[2]))


def dumped(directives: Iterable[Directive]) -> Iterator[DumpedDirective]:
    """Yield a tree as mod_info would print it, however deep it is."""
    open_sections = [iter(directives)]
    while open_sections:
        one = next(open_sections[-1], None)
        if one is None:
            open_sections.pop()
            continue
        name = f"<{one.name}" if one.is_section else one.name
        depth, args = len(open_sections) - 1, one.args + one.tail
        yield DumpedDirective(depth, name.lower(), args, one.origin.dump_name, one.dump_line)
        open_sections.append(iter(one.children))


def parse_vhosts_dump(text: str) -> Iterator[DumpedVhost]:
    """Yield every virtual host, once for each of its addresses."""
    address = ""
    found: DumpedVhost | None = None
    for line in text.split("\n"):
        if found is not None and (alias := _ALIAS.fullmatch(line)):
            found = found._replace(aliases=(*(found.aliases or ()), alias["name"]))
            continue
        if found is not None:
            yield found
            found = None
        if named := _NAMED.fullmatch(line):
            found = _vhost(named, address, aliases=())
        elif shared := _SHARED.fullmatch(line):
            address = shared["address"]
        elif alone := _ALONE.fullmatch(line):
            yield _vhost(alone, alone["address"], aliases=None)
        elif line.startswith("# In file: "):
            return
    if found is not None:
        yield found


def _vhost(match: re.Match[str], address: str, *, aliases: tuple[str, ...] | None) -> DumpedVhost:
    return DumpedVhost(address, match["name"], match["file"], int(match["line"]), aliases)


def parse_refusal(errors: str) -> Refusal:
    """Read why httpd refused: the innermost line that it blames, else all its reasons."""
    chain = list(_SYNTAX_ERROR.finditer(errors))
    if chain:
        innermost = chain[-1]
        message = errors[innermost.end() :].partition("\n")[0]
        return Refusal(message, f"{innermost[2]}:{innermost[1]}")
    said = [line for line in errors.splitlines() if line and not _NO_REASON.search(line)]
    return Refusal("; ".join(said) or "it says nothing", None)
