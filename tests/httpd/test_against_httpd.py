"""Our reading of random odd configurations is the installed httpd's, directive by directive.

MDCONNECTOR_DIFFERENTIAL_CONFIGS sets how many are tried, MDCONNECTOR_DIFFERENTIAL_SEED where the
seeds begin.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdconnector.httpd.evaluator import Evaluation, evaluate
from tests.httpd.nasty import Nasty
from tests.httpd.oracle import Answer, ask, base_lines, our_rows, world

pytestmark = pytest.mark.apache

_CONFIGS = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_CONFIGS", "150"))
_FIRST_SEED = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_SEED", "1"))
_BATCH = 25


def compare(folder: Path, seed: int) -> tuple[Answer, Evaluation]:
    """Let both read the configuration of one seed."""
    folder.mkdir()
    nasty = Nasty(seed, folder)
    nasty.write()
    root = folder / "root.conf"
    root.write_text(base_lines(folder) + "Include main.conf\n")
    return ask(folder, root), evaluate(str(root), world=world(folder))


def difference(answer: Answer, evaluation: Evaluation) -> str | None:
    """Say how the two differ; None where they agree."""
    if answer.rows is None:
        if not evaluation.errors and not answer.walked:
            return f"only httpd refuses: {answer.message}"
        return None
    if evaluation.errors:
        return f"only we refuse: {evaluation.errors[0]}"
    ours = tuple(our_rows(evaluation.directives))
    for theirs, mine in zip(answer.rows, ours, strict=False):
        if theirs != mine:
            return f"httpd: {theirs!r}\nours:  {mine!r}"
    if len(answer.rows) != len(ours):
        longer = max(answer.rows, ours, key=len)
        first = longer[min(len(answer.rows), len(ours))]
        return f"httpd has {len(answer.rows)} directives, we {len(ours)}: {first!r}"
    return None


@pytest.mark.parametrize("first", range(_FIRST_SEED, _FIRST_SEED + _CONFIGS, _BATCH))
def test_odd_configurations_are_read_as_httpd_reads_them(first: int, tmp_path: Path) -> None:
    """Compare a batch of seeds."""
    differences = {}
    for seed in range(first, min(first + _BATCH, _FIRST_SEED + _CONFIGS)):
        found = difference(*compare(tmp_path / str(seed), seed))
        if found:
            differences[seed] = found
    assert not differences, "\n".join(f"seed {seed}: {text}" for seed, text in differences.items())
