"""Macro text is filled in as by mod_macro."""

from __future__ import annotations

import pytest

from mdconnector.httpd.macros import Macro, MacroError, parameters_of


def _macro(line: str, *parameters: str) -> Macro:
    return Macro("m", parameters, (line,), (("f", 1),), 'defined on line 1 of "f"')


@pytest.mark.parametrize(
    ("line", "values", "result"),
    [
        ("a $p b", {"$p": "x"}, "a x b"),
        ("$p$p", {"$p": "x"}, "xx"),
        ("my$port", {"$p": "x"}, "myxort"),
        ("$pq $p", {"$p": "x", "$pq": "y"}, "y x"),
        ("$p", {"$p": "b.org c.org"}, "b.org c.org"),
        ("%p", {"%p": "a b"}, "a b"),
        ("@p", {"@p": "a b"}, '"a b"'),
        ("@p", {"@p": 'a"b\\c'}, '"a\\"b\\\\c"'),
        ("@p", {"@p": "@p"}, "@p"),
        ("$a $b", {"$a": "$b", "$b": "x"}, "$b x"),
        ("$A", {"$a": "x"}, "$A"),
        ("bare", {"ar": "x"}, "bxe"),
        ("nothing", {"$p": "x"}, "nothing"),
        ("$p", {"$p": ""}, ""),
        # quotes and backslashes that are added are not skipped: what they push back is read again
        ("@a", {"@a": '"""$b', "$b": "x"}, '"\\"\\"\\"x"'),
    ],
)
def test_values_replace_parameters(line: str, values: dict[str, str], result: str) -> None:
    """From left to right, the longest name first, as plain text."""
    assert _macro(line, *values).expand(tuple(values.values())) == [result]


def test_number_of_values_must_fit() -> None:
    """Neither more nor fewer."""
    for values in [(), ("x", "y")]:
        with pytest.raises(MacroError, match="takes 1 values"):
            _macro("$p", "$p").expand(values)


def test_line_that_grows_past_eight_kilobytes_is_refused() -> None:
    """With its line feed it must fit into 8191 bytes."""
    macro = _macro("$p", "$p")
    assert macro.expand(("x" * 8190,)) == ["x" * 8190]
    with pytest.raises(MacroError, match="too long"):
        macro.expand(("x" * 8191,))


@pytest.mark.parametrize("parameters", [("$a", "$a"), ("",), ("$a", "")])
def test_parameters_need_names_of_their_own(parameters: tuple[str, ...]) -> None:
    """Twice the same, or none, is refused."""
    with pytest.raises(MacroError):
        _macro("x", *parameters).check()


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("$a $b", ("$a", "$b")),
        ('"$a b" c', ("$a b", "c")),
        ("", ()),
        ("/IgnoreEmptyArgs $a", ("$a",)),
        ("/ignoreemptyargs /IgnoreBadNesting $a", ("$a",)),
        ("/IgnoreEmptyArgs", ()),
        ("/other $a", ("$a",)),
        ("/other", ("other",)),
        ("//x", ("x",)),
        ("$a /IgnoreEmptyArgs", ("$a", "/IgnoreEmptyArgs")),
    ],
)
def test_flags_before_the_parameters_are_passed_over(
    text: str, parameters: tuple[str, ...]
) -> None:
    """Known since httpd 2.4.71, unknown ones too."""
    assert parameters_of(text) == parameters
