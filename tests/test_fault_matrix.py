"""The fault matrix: every row has a test that names it, and stands in docs/fault-matrix.md.

Rules: a test names its rows in its own name, `test_matrix_<row>_..._`, and asserts their outcome.
Two rows do not apply: A6, there is no configuration of our own whose owner could be refused, and
X3, a user who owns the store needs no root.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[1]
PAGE = CLONE / "docs" / "fault-matrix.md"
ROWS_OF_A_STEP = {
    "A": 5,
    "B": 6,
    "C": 7,
    "D": 10,
    "E": 5,
    "F": 6,
    "G": 3,
    "H": 2,
    "V": 7,
    "W": 7,
    "P": 9,
    "Q": 1,
    "R": 8,
    "X": 6,
    "Z": 2,
}
ROWS = tuple(
    f"{step}{number}"
    for step, count in ROWS_OF_A_STEP.items()
    for number in range(1, count + 1)
    if f"{step}{number}" != "X3"
)
_NAMED = re.compile(r"test_matrix_((?:[a-z]\d+_)+)")


def _tests_by_row() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted((CLONE / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and (named := _NAMED.match(node.name)):
                for row in named[1].strip("_").split("_"):
                    found[row.upper()].add(str(file.relative_to(CLONE)))
    return found


TESTS = _tests_by_row()
TABLE = {
    cells[0]: cells[1:]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ")
    and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
    and re.fullmatch(r"[A-Z]\d+", cells[0])
}


@pytest.mark.parametrize("row", ROWS)
def test_row_has_a_test_that_names_it(row: str) -> None:
    assert TESTS.get(row), f"no test is called test_matrix_{row.lower()}_..."


@pytest.mark.parametrize("row", ROWS)
def test_row_is_told_with_its_fault_its_outcome_and_where_it_is_tested(row: str) -> None:
    fault, outcome, exit_code, files = TABLE[row]
    assert fault
    assert outcome
    assert re.fullmatch(r"\d+(, \d+)*|as killed", exit_code)
    told = set(re.findall(r"`([^`]+)`", files))
    assert told
    assert told <= TESTS[row], "no test of this row is there"


def test_no_other_row_is_told_or_named() -> None:
    assert set(TABLE) == set(ROWS)
    assert set(TESTS) <= set(ROWS)
