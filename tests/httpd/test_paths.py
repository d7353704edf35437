"""Paths and wildcards are understood as by the Apache Portable Runtime."""

from __future__ import annotations

import pytest

from mdconnector.httpd.paths import has_wildcard, join_path, merge_path, name_matcher


@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("a", "/r/a"),
        ("a/", "/r/a/"),
        ("./a//b", "/r/a/b"),
        ("../a", "/a"),
        ("../../../a", "/a"),
        ("a/../b", "/r/b"),
        ("a/..", "/r/"),
        ("a/.", "/r/a/"),
        ("/x//y/./z", "/x/y/z"),
        ("/", "/"),
        ("", "/r/"),
        ("a/*.conf", "/r/a/*.conf"),
        ("x" * 5000, None),
    ],
)
def test_relative_paths_begin_at_the_root(path: str, merged: str | None) -> None:
    """Dots and doubled slashes go, the slash at the end stays."""
    assert merge_path("/r", path) == merged


def test_one_slash_between_folder_and_name() -> None:
    """Whether or not the folder ends in one."""
    assert (join_path("/a", "b"), join_path("/a/", "b")) == ("/a/b", "/a/b")


@pytest.mark.parametrize("pattern", ["*", "a?", "[a]", "x[y]z", "a/[/]"])
def test_wildcards(pattern: str) -> None:
    """What makes a path a pattern."""
    assert has_wildcard(pattern)


@pytest.mark.parametrize("path", ["a", "[a", "a]", "\\*", "\\?", "a\\", "{a,b}"])
def test_no_wildcards(path: str) -> None:
    """What does not."""
    assert not has_wildcard(path)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.conf", ["a.conf", "a.b.conf"], [".conf", ".a.conf", "a.conf~", "a.CONF"]),
        ("*", ["a", "a.b"], [".a"]),
        (".*", [".a"], ["a"]),
        ("\\.a", [".a"], ["a"]),
        ("?", ["a"], ["", "ab", "\xe9", ".", "."]),
        ("??", ["\xe9", "ab"], ["a"]),
        ("[abc]", ["a", "c"], ["d", "[abc]"]),
        ("[a-c]x", ["bx"], ["dx", "-x"]),
        ("[!a]", ["b", "!"], ["a"]),
        ("[^a]", ["b", "^"], ["a"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[\\]]", ["]"], ["\\"]),
        ("[a\\-c]", ["a", "-", "c"], ["b"]),
        ("[c-a]", [], ["a", "b", "c"]),
        ("[!-~]x", ["ax", "!x"], ["~x", "-x"]),
        ("[x", ["[x"], ["x"]),
        ("a\\*b*", ["a*bc"], ["axb"]),
        ("a\\", ["a\\"], ["a"]),
        ("*a*b", ["ab", "xaybzb"], ["ba"]),
        ("a.conf", ["a.conf"], ["axconf"]),
        ("*\n", ["a\n"], ["a"]),
    ],
)
def test_names_that_match(pattern: str, matching: list[str], others: list[str]) -> None:
    """Each pattern against names."""
    fits = name_matcher(pattern)
    assert [name for name in (*matching, *others) if fits(name)] == matching
