"""What revoke did: the words that are printed, and the exit code of a whole run."""

from __future__ import annotations

from datetime import UTC, datetime

from mdconnector.outcomes.revoke import RevocationOutcome, RevocationRun, Revoked
from mdconnector.renewal import LastError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_words_are_those_of_json_and_tables() -> None:
    assert [str(one) for one in Revoked] == ["revoked", "failed"]


def test_exit_code_of_a_revocation() -> None:
    error = LastError("ca", "no", None, NOW)
    done = RevocationOutcome("a.example", Revoked.REVOKED, "")
    failed = RevocationOutcome("b.example", Revoked.FAILED, "", error=error)
    assert RevocationRun((done,)).exit_code == 0
    assert RevocationRun((done, failed)).exit_code == 1
    assert RevocationRun(()).command == "revoke"


def test_what_is_not_said_of_a_domain() -> None:
    assert RevocationOutcome("a.example", Revoked.REVOKED, "").next_step == ""
