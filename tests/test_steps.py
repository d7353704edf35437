"""Steps: the words that a terminal and the log have for a domain's turn."""

from __future__ import annotations

from mdconnector.steps import Phase, Step, unheard


def test_a_step_is_work_that_has_not_failed_unless_it_says_so() -> None:
    step = Step("a.example", "sends the order")
    assert (step.phase, step.has_failed) == (Phase.AT_WORK, False)


def test_a_domain_waits_works_and_is_done() -> None:
    assert [one.value for one in Phase] == ["queued", "at-work", "waiting", "done"]


def test_nobody_need_listen() -> None:
    unheard(Step("a.example", "is done", Phase.DONE))
