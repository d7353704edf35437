"""Lines and words are cut as httpd cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.httpd.lexer import (
    FIRST_BUFFER_BYTES,
    LONG_LINE,
    MAX_LINE_BYTES,
    LineSource,
    LineStream,
    LineTooLongError,
    expand_variables,
    logical_lines,
    lower_ascii,
    next_word,
    split_words,
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb\n", [(1, "a"), (2, "b")]),
        ("a\nb", [(1, "a"), (2, "b")]),
        ("", []),
        ("\n\n", []),
        ("a\r\nb\r\n", [(1, "a"), (2, "b")]),
        ("a\rb\n", [(1, "a\rb")]),
        (" \t\v\f a b \t\r\n", [(1, "a b")]),
        ("\xa0a\xa0\n", [(1, "\xa0a\xa0")]),
        ("a\\\nb\n", [(2, "ab")]),
        ("a\\\r\nb\n", [(2, "ab")]),
        ("a\\\n  b\n", [(2, "a  b")]),
        ("a\\\\\nb\n", [(2, "a\\b")]),
        ("a\\\\\\\nb\n", [(2, "a\\\\b")]),
        ("a\\ \nb\n", [(1, "a\\"), (2, "b")]),
        ("a\\\\\n\nb\n", [(3, "ab")]),
        ("a\\", [(1, "a\\")]),
        ("a\\\n", [(2, "a")]),
        ("\\\n", []),
        ("a\\\nb\\\n", [(3, "ab")]),
        ("# a\\\nb\nc\n", [(3, "c")]),
        ("a \\\n# b\n", [(2, "a # b")]),
        ("  # a\nb # c\n", [(2, "b # c")]),
        ("a\0b\\\nc\n", [(1, "a"), (2, "c")]),
        ("a\\\nb\0c\\\nd\n", [(2, "ab"), (3, "d")]),
    ],
)
def test_logical_lines(text: str, lines: list[tuple[int, str]]) -> None:
    """Lines are joined, trimmed and numbered by their last physical line."""
    assert list(logical_lines(text)) == lines


def test_character_split_by_a_continuation_is_whole_again() -> None:
    """Text is bytes: two halves of a character make one."""
    halves = "caf\xe9".encode()
    text = (halves[:-1] + b"\\\n" + halves[-1:]).decode("utf-8", "surrogateescape")
    assert list(logical_lines(text)) == [(2, "caf\xe9")]


def test_last_line_that_fills_the_first_buffer_is_lost_without_line_end() -> None:
    """httpd takes it for the end of the file."""
    line = "a" * FIRST_BUFFER_BYTES
    stream = LineStream(LineSource.of_text("f", f"b\n{line}"))
    assert (list(stream), stream.lost_line) == (["b"], 2)
    assert list(logical_lines(f"{line}\n")) == [(1, line)]
    assert list(logical_lines(f"{line}a")) == [(1, f"{line}a")]
    assert list(logical_lines(f"{line}\n{line}")) == [(1, line), (2, line)]
    wide = "\xe9" * (FIRST_BUFFER_BYTES // 2)
    assert list(logical_lines(wide)) == []
    assert list(logical_lines("\xe9" * FIRST_BUFFER_BYTES)) != []
    assert list(logical_lines(f"{line[:100]}\\\n{line[100:]}")) == []


def test_line_past_sixteen_mebibytes_is_too_long() -> None:
    """It ends the file for httpd."""
    with pytest.raises(LineTooLongError):
        list(logical_lines("a\n" + "b" * 16 * 1024 * 1024 + "\nc\n"))


@pytest.mark.parametrize(
    "text",
    [
        "b" * MAX_LINE_BYTES + "\nc\n",
        "a\n" + "\U0001f600" * LONG_LINE + "\nc\n",
    ],
    ids=["the first line", "as few characters as can be"],
)
def test_each_line_past_sixteen_mebibytes_is_too_long(text: str) -> None:
    """Bytes count, wherever the line stands."""
    with pytest.raises(LineTooLongError):
        list(logical_lines(text))


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("123456789\n", False),
        ("12345678\n", True),
        ("123456789", True),
        ("1234567890", False),
        ("1234\\\n5678\n", True),
        ("1234\\\n56789\n", False),
        ("1\\\r\n2\\\n3\\\n4\\\n5678\n", True),
    ],
)
def test_a_joined_line_is_as_long_as_its_parts_and_its_end(text: str, *, fits: bool) -> None:
    """What joins the lines does not count."""
    stream = LineStream(LineSource.of_text("f", text))
    if fits:
        assert stream.next_joined_line(limit=10, from_macro=False) in {"12345678", "123456789"}
    else:
        with pytest.raises(LineTooLongError):
            stream.next_joined_line(limit=10, from_macro=False)


def test_macro_text_is_read_before_the_file_goes_on() -> None:
    """The spliced lines come next, then the file's."""
    stream = LineStream(LineSource.of_text("f", "a\nb\n"))
    lines = iter(stream)
    assert next(lines) == "a"
    stream.splice(LineSource("m", ["x", "y"]))
    assert list(lines) == ["x", "y", "b"]
    assert stream.lost_line is None


def test_lines_that_are_taken_meanwhile_are_not_met_again() -> None:
    """What skips a section goes through the same lines."""
    stream = LineStream(LineSource.of_text("f", "a\nb\nc\nd\n"))
    lines = iter(stream)
    assert (next(lines), next(iter(stream)), stream.next_physical_line()) == ("a", "b", "c")
    assert list(lines) == ["d"]


def test_last_line_without_line_end_is_lost_right_after_macro_text() -> None:
    """httpd 2.4.71 drops it."""
    stream = LineStream(LineSource.of_text("f", "a\nb"))
    lines = iter(stream)
    next(lines)
    stream.splice(LineSource("m", ["x"]))
    assert list(lines) == ["x"]
    assert stream.lost_line == 2


def test_macro_text_that_ends_in_a_backslash_continues_in_the_file() -> None:
    """The joined line counts as the file's."""
    stream = LineStream(LineSource.of_text("f", "a\n  b\n"))
    lines = iter(stream)
    next(lines)
    stream.splice(LineSource("m", ["x\\"]))
    assert next(lines) == "x  b"
    assert (stream.source.name, stream.source.index) == ("f", 2)


def test_what_macro_text_begins_is_kept_though_the_last_line_is_lost() -> None:
    """The parts before it are a line."""
    stream = LineStream(LineSource.of_text("f", "a\nb"))
    lines = iter(stream)
    next(lines)
    stream.splice(LineSource("m", ["x\\", "y\\"]))
    assert (next(lines), stream.lost_line) == ("xy", 2)


def test_physical_lines_end_with_the_file() -> None:
    """There is nothing behind the last one."""
    stream = LineStream(LineSource.of_text("f", "a\\\n b"))
    assert [stream.next_physical_line() for _ in range(3)] == ["a\\", " b", None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b\tc\vd", ("a", "b", "c", "d")),
        ("", ()),
        ("  ", ()),
        ('"a b" c', ("a b", "c")),
        ("'a b' c", ("a b", "c")),
        (r'"a\"b"', ('a"b',)),
        (r"'a\'b'", ("a'b",)),
        (r'"a\\b"', (r"a\b",)),
        (r'"a\'b"', (r"a\'b",)),
        (r'"a\nb"', (r"a\nb",)),
        ('"a b', ("a b",)),
        ('"a\\', ("a\\",)),
        (r'"a\"', ('a"',)),
        ('"a"b', ("a", "b")),
        ('"a""b"', ("a", "b")),
        ('a"b c"', ('a"b', 'c"')),
        (r"a\\b", (r"a\b",)),
        (r"a\\\b", (r"a\\b",)),
        (r"a\ b", ("a\\", "b")),
        (r"a\"b", (r"a\"b",)),
        ("a,b;c", ("a,b;c",)),
        ('a "" b', ("a", "", "b")),
        ('a ""', ("a", "")),
        ("a\xa0b", ("a\xa0b",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    """Words are cut and unquoted."""
    assert split_words(text) == words


def test_no_more_words_than_asked_for() -> None:
    """A limit leaves the rest alone."""
    assert split_words("a b c", 2) == ("a", "b")


def test_rest_begins_with_the_next_word() -> None:
    """White space on both sides of a word is gone."""
    assert next_word("  a   'b' ") == ("a", "'b' ")
    assert next_word(" \t") == ("", "")


_VALUES = {"A": "one", "B": "${A}", "E": "", "a b": "blank"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("x ${A} y", "x one y"),
        ("${A}${A}", "oneone"),
        ("${B}", "${A}"),
        ("${E}x", "x"),
        ("${NONE}", "${NONE}"),
        ("$A ${A ${A}", "$A ${A ${A}"),
        ("$${A}", "$one"),
        ("\\${A}", "\\one"),
        ("'${A}'", "'one'"),
        ("${a b}", "blank"),
        ("${}", "${}"),
        ("${A", "${A"),
    ],
)
def test_variables(text: str, result: str) -> None:
    """Only `${NAME}` is replaced, once, and unknown names stay."""
    assert expand_variables(text, _VALUES.get) == result


def test_case_is_folded_for_ascii_only() -> None:
    """Letters beyond ASCII are bytes to httpd."""
    assert lower_ascii("ABCz\xc9\u212a") == "abcz\xc9\u212a"


@given(st.binary(max_size=300))
def test_any_bytes_give_lines_and_words(content: bytes) -> None:
    """Whatever a file holds, reading ends, and no byte of a word is made up."""
    text = content.decode("utf-8", "surrogateescape")
    for number, line in logical_lines(text):
        assert 1 <= number <= content.count(b"\n") + 1
        for word in split_words(line):
            assert set(word.encode("utf-8", "surrogateescape")) <= set(content)
