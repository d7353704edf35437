"""The question of <IfVersion>: does this httpd's version fit? Pure."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]*){0,2}\.?")


class VersionTestError(Exception):
    """httpd does not understand the question; the text says why."""


def version_matches(words: tuple[str, ...], version: str) -> bool:
    """Answer <IfVersion> for all its words, the closing `>` included (httpd: mod_version.c).

    `version` is `2.4.71`. Raises VersionTestError.
    """
    operator, operand = _operator_and_operand(words)
    is_negated = operator.startswith("!") and operator != "!"
    if is_negated:
        operator = operator[1:]
    return _is_true(operator, operand, version) != is_negated


def _operator_and_operand(words: tuple[str, ...]) -> tuple[str, str]:
    if not 1 <= len(words) <= 3 or not words[0]:
        raise VersionTestError("it takes an operator and a version")
    if len(words) == 1:
        words = ("=", words[0])
    elif len(words) == 2 and words[1] == ">":
        words = ("=", words[0], ">")
    operator, operand = words[0], words[1]
    if len(words) == 3 and words[2] == ">" and operand:
        return operator, operand
    if not operand.endswith(">"):
        raise VersionTestError("'>' is missing at the end of the tag")
    return operator, operand[:-1]


def _is_true(operator: str, operand: str, version: str) -> bool:
    match operator:
        case "=" | "==":
            if operand.startswith("/"):
                return _matches(_between_slashes(operand), version)
            return _compare(version, operand) == 0
        case "~":
            return _matches(operand, version)
        case "<":
            return _compare(version, operand) < 0
        case "<=":
            return _compare(version, operand) <= 0
        case ">":
            return _compare(version, operand) > 0
        case ">=":
            return _compare(version, operand) >= 0
        case _:
            raise VersionTestError(f"'{operator}' is no operator; put a blank before the version")


def _between_slashes(operand: str) -> str:
    if len(operand) < 2 or not operand.endswith("/"):
        raise VersionTestError("the '/' at the end of the expression is missing")
    return operand[1:-1]


def _matches(expression: str, version: str) -> bool:
    try:
        return re.search(expression, version) is not None
    except re.error as error:
        raise VersionTestError(f"'{expression}' is no regular expression") from error


def _compare(version: str, wanted: str) -> int:
    if not _NUMBERS.fullmatch(wanted):
        raise VersionTestError(f"'{wanted}' is no version; write it like 2.4.71")
    ours, theirs = _numbers(version), _numbers(wanted)
    return (ours > theirs) - (ours < theirs)


def _numbers(version: str) -> list[int]:
    numbers = [int(part or "0") for part in re.split(r"\.", version.split("-", maxsplit=1)[0])[:3]]
    return numbers + [0] * (3 - len(numbers))
