"""Warnings: how one looks, and where it goes."""

from __future__ import annotations

import io
import logging

import pytest

from mdconnector.warning import warn


def test_a_warning_is_a_line_on_standard_error_as_that_is_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for text in ("what was remembered is lost", "100%s"):
        stream = io.StringIO()
        monkeypatch.setattr("sys.stderr", stream)
        warn(text)
        assert stream.getvalue() == f"mdconnector: WARNING: {text}\n"
