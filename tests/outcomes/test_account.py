"""What account found and did: the words that are printed, and the exit code of a whole run."""

from __future__ import annotations

from datetime import UTC, datetime

from mdconnector.outcomes.account import AccountAction, AccountOutcome, AccountRun
from mdconnector.renewal import LastError

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_words_are_those_of_json_and_tables() -> None:
    assert [str(one) for one in AccountAction] == [
        "list",
        "show",
        "rollover",
        "deactivate",
        "recover",
        "import",
    ]


def test_exit_code_of_an_account_run() -> None:
    error = LastError("ca", "no", None, NOW)
    assert AccountRun(AccountAction.LIST, (AccountOutcome("ACME-1"),)).exit_code == 0
    assert AccountRun(AccountAction.LIST, (AccountOutcome("ACME-1", error=error),)).exit_code == 1
    assert AccountRun(AccountAction.LIST, ()).command == "account"


def test_what_is_not_said_of_an_account() -> None:
    account = AccountOutcome("ACME-1")
    texts = (account.ca_url, account.url, account.status, account.key_label, account.detail)
    assert texts == ("",) * 5
    assert (account.kid, account.contact, account.domains) == (None, (), ())
    assert account.is_change is False
