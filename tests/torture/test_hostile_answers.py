"""A slice of the hostile answers in process, and that a request to elsewhere is found out."""

from __future__ import annotations

from tests.torture.hostile_answers import HOSTILE_ANSWERS
from tests.torture.slices import a_control, a_slice


def test_hostile_answers_are_taken_or_refused_and_send_nothing_elsewhere() -> None:
    tally = a_slice(HOSTILE_ANSWERS, 600)
    assert tally.counts["answers that were refused"] > 0
    assert tally.counts["answers that were taken"] > 0


def test_hostile_answers_find_out_requests_to_elsewhere() -> None:
    tally = a_control(HOSTILE_ANSWERS, "origins", 1200)
    assert any("a request went to" in one for one in tally.violations)
