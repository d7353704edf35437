"""The tree of directives as it is shown: all of it, but no secret, and never too deep."""

from __future__ import annotations

import pytest

from mdconnector.httpd.tree import MASK, MAX_DEPTH, is_secret, tree_of
from mdconnector.outcomes.scan import TreeEntry
from tests.httpd.memory import read


def shown(text: str) -> tuple[TreeEntry, ...]:
    return tree_of(read(text).directives)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("MDExternalAccountBinding kid-1 c2VjcmV0", True),
        ("mdexternalaccountbinding none", True),
        ("MDExternalAccountBindng kid-1 c2VjcmV0", True),
        ("<MDExternalAccountBinding kid-1 c2VjcmV0", True),
        ("MDHttpProxy http://user:password@proxy.example:3128", True),
        ("mdHttpProxyy http://user:password@proxy.example:3128", True),
        ("MDHttpProxy http://proxy.example:3128", False),
        ("MDomain a.example", False),
        ("ServerAdmin hostmaster@example.org", False),
        ("XMDExternalAccountBinding kid-1 c2VjcmV0", False),
    ],
)
def test_bindings_and_passwords_of_proxies_are_secrets(line: str, expected: bool) -> None:
    name, _, args = line.partition(" ")
    assert is_secret(name, args) is expected


def test_directive_is_shown_with_its_words_and_place() -> None:
    (entry,) = [one for one in shown('ServerName "a.example"\n') if one.name == "ServerName"]
    assert (entry.args, entry.words) == ('"a.example"', ("a.example",))
    assert (entry.is_section, entry.children, entry.at.line) == (False, (), 1)


def test_binding_is_masked() -> None:
    (entry,) = shown("MDExternalAccountBinding kid-1 c2VjcmV0\n")
    assert MASK == "***"
    assert (entry.args, entry.words) == (MASK, (MASK,))


def test_section_is_shown_with_what_is_in_it() -> None:
    (entry,) = shown("<MDomainSet a.example>\nMDRenewMode manual\n</MDomainSet>\n")
    assert (entry.name, entry.is_section) == ("MDomainSet", True)
    (child,) = entry.children
    assert (child.name, child.words) == ("MDRenewMode", ("manual",))


def test_what_is_nested_too_deeply_is_left_out_with_a_word() -> None:
    depth = MAX_DEPTH + 5
    within = "<Location /b>\n</Location>\nRequire all denied\n"
    opened, closed = "<Location /a>\n", f"{within}</Location>\n"
    text = opened * depth + closed * depth
    entries, levels = shown(text), 0
    while entries[0].children:
        entries, levels = entries[0].children, levels + 1
        assert len(entries) == (1 if levels > MAX_DEPTH else 3)
    (last,) = entries
    assert MAX_DEPTH == 100
    assert levels == MAX_DEPTH + 1
    assert (last.name, last.args) == ("#", "deeper sections are not shown")
    assert last.words == ("deeper", "sections", "are", "not", "shown")
    assert not last.is_section
