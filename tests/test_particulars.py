"""Particulars: what is not said of a domain."""

from __future__ import annotations

from mdconnector.particulars import NextStep, Particulars, Shown


def test_without_runs_and_trouble_nothing_is_told_of_them() -> None:
    full = Particulars((), None, NextStep("nothing is due"))
    assert (full.runs, full.shown, full.account_trouble, full.next_step.at) == ((), (), "", None)


def test_an_address_that_was_not_asked_has_shown_nothing() -> None:
    shown = Shown("127.0.0.1", 443, "a.example", "a.conf:1", None)
    assert (shown.serial, shown.sha256, shown.is_stored, shown.fault) == (None,) * 4
