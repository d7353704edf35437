"""What scan found: the exit code is 1 for an error alone."""

from __future__ import annotations

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.scan import ScanResult


@pytest.mark.parametrize(
    ("severity", "code"), [(Severity.ERROR, 1), (Severity.WARNING, 0), (Severity.INFO, 0)]
)
def test_exit_code_of_a_scan(severity: Severity, code: int) -> None:
    finding = Finding("x", severity, None, "no", "mend it")
    assert ScanResult((), (finding,), (), "", "/md").exit_code == code
    assert ScanResult((), (), (), "", "/md").exit_code == 0


def test_the_result_knows_its_command() -> None:
    assert ScanResult((), (), (), "", "/md").command == "scan"
