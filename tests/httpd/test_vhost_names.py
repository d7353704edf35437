"""The names that a virtual host answers to, by value."""

from __future__ import annotations

import pytest

from mdconnector.httpd.vhost_names import is_pattern, matches_vhost, pattern_expression
from mdconnector.managed_domain import Address, SourceLine, VirtualHost


def vhost(
    *aliases: str, addresses: tuple[Address, ...] = (), port: int = 443, name: str = "A.example.org"
) -> VirtualHost:
    return VirtualHost(name, aliases, addresses, True, SourceLine("a.conf", 1), port=port)


@pytest.mark.parametrize(
    ("alias", "is_one"),
    [("a.example.org", False), ("*.example.org", True), ("a?.example.org", True), ("", False)],
)
def test_a_star_or_a_question_mark_makes_a_pattern(alias: str, *, is_one: bool) -> None:
    assert is_pattern(alias) is is_one


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.org", "A.ORG", True),
        ("a.org", "axorg", False),
        ("a?c", "abc", True),
        ("a?c", "a\nc", True),
        ("a?c", "ac", False),
        ("*", "", True),
        ("*b*c*", "abc", True),
        ("*b*c*", "acb", False),
        ("a*b*c", "a-c-b", False),
        ("a*b*c", "a-b-c", True),
        ("*ab*ab", "ab", False),
        ("*.a.org", ".a.org", True),
        ("*.a.org", "x.a.org.", False),
        ("a**c", "abc", True),
    ],
)
def test_a_pattern_matches_the_whole_name(pattern: str, name: str, *, matches: bool) -> None:
    assert (pattern_expression(pattern).fullmatch(name) is not None) is matches


@pytest.mark.parametrize(
    ("one", "name", "is_its"),
    [
        pytest.param(vhost(), "a.EXAMPLE.org", True, id="its ServerName"),
        pytest.param(vhost("B.org"), "b.org", True, id="an alias"),
        pytest.param(vhost("*.b.org"), "x.b.org", True, id="a pattern"),
        pytest.param(vhost("*.b.org"), "*.c.org", False, id="a pattern is not compared as a name"),
        pytest.param(vhost("b.org", "?.c.org"), "d.org", False, id="neither"),
        pytest.param(
            vhost(addresses=(Address("Host.org", 443),)), "host.org", True, id="its address"
        ),
        pytest.param(
            vhost(addresses=(Address("host.org", 8443),)), "host.org", False, id="of another port"
        ),
        pytest.param(
            vhost(addresses=(Address("host.org", None),)), "host.org", True, id="of any port"
        ),
    ],
)
def test_a_vhost_answers_to(one: VirtualHost, name: str, *, is_its: bool) -> None:
    assert matches_vhost(one, name) is is_its
