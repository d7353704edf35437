"""What others wrote never reaches a terminal as it came."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from mdconnector.printable import escaped, printable

_DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(max_size=300))
def test_nothing_unprintable_is_left(text: str) -> None:
    assert not any(unicodedata.category(character) in _DANGEROUS for character in printable(text))


@given(st.text(max_size=5000))
def test_the_result_is_bounded(text: str) -> None:
    assert len(printable(text, 80)) <= 80


def test_escape_sequences_are_shown_and_lines_folded() -> None:
    assert printable("a\x1b[31mred\nnext\u202eline") == "a\\x1b[31mred next\\u202eline"


def test_ordinary_text_stays_as_it_is() -> None:
    assert printable("Zertifikat für Bücher [ok]") == "Zertifikat für Bücher [ok]"


def test_escaped_text_is_whole_with_its_blanks() -> None:
    assert escaped("a  b\tc\x1b\udce9" + "x" * 1000) == "a  b\\x09c\\x1b\\udce9" + "x" * 1000


def test_a_blank_that_only_looks_like_one_is_escaped() -> None:
    """To httpd it is a part of a word."""
    assert escaped("ServerName\u00a0a.example.org \u3000") == "ServerName\\xa0a.example.org \\u3000"


def test_exactly_the_limit_is_shown_and_one_more_is_cut() -> None:
    assert printable("x" * 500) == "x" * 500
    assert printable("x" * 501) == "x" * 499 + "…"
    assert printable("x" * 9, 8) == "x" * 7 + "…"


def test_what_folds_away_does_not_count() -> None:
    assert printable("a" + " " * 30 + "b", 8) == "a b"
    assert printable("a" + " " * 31 + "b", 8) == "a"


def test_line_and_paragraph_separators_are_blanks() -> None:
    assert printable("a\u2028b\u2029c") == "a b c"
    assert escaped("a\u2028b\u2029c") == "a\\u2028b\\u2029c"


def test_last_of_one_byte_and_first_of_two_are_told_apart() -> None:
    assert escaped("\x7f\x9f\xad") == "\\x7f\\x9f\\xad"
    assert escaped("\u0378\u200b") == "\\u0378\\u200b"


def test_plain_text_is_returned_as_it_is() -> None:
    assert escaped("plain  text") == "plain  text"
    assert escaped("") == ""


def test_a_line_feed_alone_is_no_plain_text() -> None:
    assert escaped("a\nb") == "a\\x0ab"


def test_what_is_unprintable_beyond_one_byte_has_four_digits() -> None:
    assert escaped("\xad\u0600") == "\\xad\\u0600"
    assert escaped("é\x00") == "é\\x00"
