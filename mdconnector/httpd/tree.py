"""The evaluated configuration as it is shown to people and programs. Pure.

Rule: the values of an account binding are never shown, nor those of a line that begins like one,
nor a proxy's password.
"""

from __future__ import annotations

from collections.abc import Iterable

from mdconnector.httpd.directives import Directive
from mdconnector.httpd.lexer import lower_ascii
from mdconnector.outcomes.scan import TreeEntry

MASK = "***"
MAX_DEPTH = 100
"""deeper than anybody nests sections; JSON of any depth could not be written, nor be read"""


def is_secret(name: str, args: str) -> bool:
    """Say whether a directive's arguments are not for everybody's eyes: a binding, a password."""
    key = lower_ascii(name).lstrip("<")
    return key.startswith("mdext") or (key.startswith("mdhttpproxy") and "@" in args)


def tree_of(directives: Iterable[Directive], depth: int = 0) -> tuple[TreeEntry, ...]:
    """Return a tree of directives as it may be shown."""
    return tuple(_entry(directive, depth) for directive in directives)


def _entry(directive: Directive, depth: int) -> TreeEntry:
    args, words = directive.args, directive.words
    if is_secret(directive.name, args):
        args, words = MASK, (MASK,)
    children = directive.children
    return TreeEntry(
        name=directive.name,
        args=args,
        words=words,
        at=directive.at,
        is_section=directive.is_section,
        children=tree_of(children, depth + 1)
        if depth < MAX_DEPTH
        else tuple(_left_out(child) for child in children[:1]),
    )


def _left_out(directive: Directive) -> TreeEntry:
    """Return what stands for all that is nested too deeply to be shown."""
    words = ("deeper", "sections", "are", "not", "shown")
    return TreeEntry("#", " ".join(words), words, directive.at, is_section=False, children=())
