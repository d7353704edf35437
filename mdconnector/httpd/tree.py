"""The evaluated configuration as it is shown to people and programs. Pure.

Rule: the values of an account binding are never shown, nor those of a line that begins like one.
"""

from __future__ import annotations

from collections.abc import Iterable

from mdconnector.httpd.directives import Directive
from mdconnector.httpd.lexer import lower_ascii
from mdconnector.outcomes import TreeEntry

MASK = "***"


def is_secret(name: str) -> bool:
    """Say whether the arguments of a directive of this name are not for everybody's eyes."""
    return lower_ascii(name).lstrip("<").startswith("mdext")


def tree_of(directives: Iterable[Directive]) -> tuple[TreeEntry, ...]:
    """Return a tree of directives as it may be shown."""
    return tuple(map(_entry, directives))


def _entry(directive: Directive) -> TreeEntry:
    args, words = directive.args, directive.words
    if is_secret(directive.name):
        args, words = MASK, (MASK,)
    return TreeEntry(
        name=directive.name,
        args=args,
        words=words,
        at=directive.at,
        is_section=directive.is_section,
        children=tree_of(directive.children),
    )
