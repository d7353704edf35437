"""<IfVersion> is answered as by mod_version."""

from __future__ import annotations

import pytest

from mdconnector.httpd.lexer import split_words
from mdconnector.httpd.versions import VersionTestError, version_matches


def _answer(tag_arguments: str) -> bool:
    return version_matches(split_words(tag_arguments), "2.4.71")


@pytest.mark.parametrize(
    "question",
    [
        *(
            "2.4.71>",
            "2.4.71 >",
            '"2.4.71">',
            "= 2.4.71>",
            "== 2.4.71>",
            ">= 2.4>",
            "> 2>",
            "> 2.4.70>",
        ),
        *("<= 2.4.71>", "< 3>", "!= 2.4>", "!< 2.4.71>", ">= 2.4.71.>", "> 2..1>", '>= "2.4">'),
        *("= /^2\\.4/>", "~ 71$>", "!~ 9>", "!= /9/>", '"=" "2.4.71" >'),
    ],
)
def test_true_of_version_2_4_71(question: str) -> None:
    """Versions and expressions that fit."""
    assert _answer(question)


@pytest.mark.parametrize(
    "question",
    ["2.4>", "= 2>", "> 2.4.71>", "< 2.4.71>", "!= 2.4.71>", "= /5/>", "!~ 2>", ">= 2.10>"],
)
def test_false_of_version_2_4_71(question: str) -> None:
    """Missing parts count as zero, and parts are numbers."""
    assert not _answer(question)


@pytest.mark.parametrize(
    "question",
    [
        *(
            "",
            ">",
            '"">',
            ">=2.4>",
            "=< 2>",
            "~= 2>",
            "! 2>",
            "= 2.4",
            "= 2.x>",
            "= v2>",
            "= /2>",
            "= />",
        ),
        *("~ (>", "~ >", "= 2.4.71.1>", "= 2 3 >", '= "" >'),
    ],
)
def test_questions_that_httpd_refuses(question: str) -> None:
    """They are errors, not no."""
    with pytest.raises(VersionTestError):
        _answer(question)
