"""Accounts as lines and JSON: aligned, complete, and in the system's log only when changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mdconnector.account_text import account_cells
from mdconnector.outcomes.account import AccountAction, AccountOutcome, AccountRun
from mdconnector.outcomes.revoke import RevocationOutcome, RevocationRun, Revoked
from mdconnector.renewal import LastError
from mdconnector.report import Style, journal_lines, render, render_failures

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ERROR = LastError("store", "account.json: it is missing", "ask the CA", NOW)
GOOD = AccountOutcome(
    "ACME-ca.example-0000",
    "https://ca.example/dir",
    "https://ca.example/acct/1",
    "kid-1",
    "valid",
    "rsa3072",
    ("mailto:a@example.org",),
    ("a.example", "b.example", "c.example", "d.example"),
)
DAMAGED = AccountOutcome("ACME-ca.example-0001", key_label="rsa2048", error=ERROR)
CHANGED = AccountOutcome("ACME-ca.example-0000", detail="its key was changed", is_change=True)


def test_list_is_aligned_and_names_only_some_of_many_domains() -> None:
    run = AccountRun(AccountAction.LIST, (GOOD, DAMAGED))
    head, good, damaged = render(run, Style()).splitlines()
    assert "a.example and 3 more" in good
    assert head.index("KEY") == good.index("rsa3072") == damaged.index("rsa2048")
    assert damaged.endswith("cannot be used")
    assert render_failures(run, Style()) == (
        "ACME-ca.example-0001: failed: account.json: it is missing; ask the CA\n"
    )
    assert run.exit_code == 1


def test_show_tells_all_of_an_account_a_line_each() -> None:
    lines = render(AccountRun(AccountAction.SHOW, (GOOD,)), Style()).splitlines()
    assert lines[0] == GOOD.id
    told = dict(line.strip().split(":", 1) for line in lines[1:])
    assert told["used by"].strip().split(", ") == list(GOOD.domains)
    assert told["contact"].strip() == "mailto:a@example.org"


def test_json_has_a_null_for_what_is_not_known() -> None:
    run = AccountRun(AccountAction.RECOVER, (DAMAGED,))
    shown = json.loads(render(run, Style(as_json=True)))
    assert (shown["command"], shown["action"]) == ("account", "recover")
    (account,) = shown["accounts"]
    assert [account[key] for key in ("ca_url", "url", "kid", "status")] == [None] * 4
    assert account["error"] == {"type": "store", "detail": ERROR.detail, "hint": ERROR.hint}


@pytest.mark.parametrize("action", [AccountAction.LIST, AccountAction.SHOW])
def test_what_only_looks_is_not_in_the_log(action: AccountAction) -> None:
    assert journal_lines(AccountRun(action, (CHANGED, DAMAGED))) == ()


def test_changes_and_failures_are_in_the_log_and_quiet_tells_changes_alone() -> None:
    run = AccountRun(AccountAction.ROLLOVER, (CHANGED, DAMAGED))
    assert [line.split(":")[0] for line in journal_lines(run)] == [CHANGED.id, DAMAGED.id]
    assert render(run, Style(quiet=True)) == f"{CHANGED.id}: its key was changed\n"
    assert render(AccountRun(AccountAction.LIST, (GOOD,)), Style(quiet=True)) == ""


def test_an_empty_store_says_so() -> None:
    assert render(AccountRun(AccountAction.LIST, ()), Style()) == "no account is stored\n"


@pytest.mark.parametrize("outcome", list(Revoked))
def test_each_revocation_is_in_the_log(outcome: Revoked) -> None:
    error = ERROR if outcome is Revoked.FAILED else None
    run = RevocationRun(
        (RevocationOutcome("a.example", outcome, "rsa2048 1f: so", error=error, next_step="renew"),)
    )
    assert journal_lines(run) == (f"a.example: {outcome}: rsa2048 1f: so",)
    assert run.exit_code == (1 if error else 0)
    assert "renew" in render(run, Style())
    assert "renew" not in render(run, Style(quiet=True))


# --- to the letter -------------------------------------------------------------------------------


def lines(action: AccountAction, *accounts: AccountOutcome, quiet: bool = False) -> list[str]:
    return render(AccountRun(action, accounts), Style(quiet=quiet)).splitlines()


@pytest.mark.parametrize(
    ("account", "cells"),
    [
        (
            GOOD,
            ("valid", "rsa3072", "https://ca.example/dir", "kid-1", "a.example and 3 more", ""),
        ),
        (DAMAGED, ("-", "rsa2048", "-", "-", "-", "cannot be used")),
        (CHANGED, ("-", "-", "-", "-", "-", "its key was changed")),
        (
            AccountOutcome("ACME-1", domains=("a.example",), detail="old", error=ERROR),
            ("-", "-", "-", "-", "a.example", "old; cannot be used"),
        ),
        (AccountOutcome("ACME-1", domains=("a", "b")), (*("-",) * 4, "a and 1 more", "")),
    ],
)
def test_the_row_of_an_account(account: AccountOutcome, cells: tuple[str, ...]) -> None:
    assert account_cells(account) == (account.id, *cells)


def test_the_table_of_accounts_is_aligned() -> None:
    head, good, damaged = lines(AccountAction.LIST, GOOD, DAMAGED)
    assert head == (
        "ACCOUNT               STATUS  KEY      CA                      KID    "
        "DOMAINS               NOTE"
    )
    assert good == (
        "ACME-ca.example-0000  valid   rsa3072  https://ca.example/dir  kid-1  a.example and 3 more"
    )
    assert damaged == (
        "ACME-ca.example-0001  -       rsa2048  -                       -      "
        "-                     cannot be used"
    )


def test_all_about_an_account() -> None:
    account = AccountOutcome(
        GOOD.id,
        GOOD.ca_url,
        GOOD.url,
        GOOD.kid,
        GOOD.status,
        GOOD.key_label,
        ("mailto:a@example.org", "mailto:b@example.org"),
        GOOD.domains,
        "asked the CA",
    )
    assert lines(AccountAction.SHOW, account, CHANGED) == [
        "ACME-ca.example-0000",
        "    CA:       https://ca.example/dir",
        "    URL:      https://ca.example/acct/1",
        "    status:   valid",
        "    key:      rsa3072",
        "    binding:  kid-1",
        "    contact:  mailto:a@example.org, mailto:b@example.org",
        "    used by:  a.example, b.example, c.example, d.example",
        "    note:     asked the CA",
        "ACME-ca.example-0000",
        "    note:     its key was changed",
    ]


@pytest.mark.parametrize(
    ("account", "line"),
    [
        (CHANGED, "ACME-ca.example-0000: its key was changed"),
        (
            AccountOutcome("", "https://ca", "https://ca/a/1", detail="made"),
            "https://ca (https://ca/a/1): made",
        ),
        (
            AccountOutcome("ACME-1", domains=("a.example", "b.example"), detail="ended"),
            "ACME-1: ended; used by a.example, b.example",
        ),
    ],
)
def test_what_was_done_to_an_account_is_a_line(account: AccountOutcome, line: str) -> None:
    assert lines(AccountAction.ROLLOVER, account, DAMAGED) == [line]
    assert lines(AccountAction.ROLLOVER, account, quiet=True) == (
        [line] if account.is_change else []
    )


def test_a_recovery_without_work_says_so() -> None:
    assert lines(AccountAction.RECOVER) == [
        "every stored account is complete: there is nothing to recover"
    ]
    assert lines(AccountAction.RECOVER, CHANGED) == ["ACME-ca.example-0000: its key was changed"]
    assert lines(AccountAction.IMPORT) == []


@pytest.mark.parametrize(
    ("account", "line"),
    [
        (
            DAMAGED,
            "ACME-ca.example-0001: failed: account.json: it is missing; ask the CA",
        ),
        (
            AccountOutcome("", "https://ca", error=LastError("ca", "no", None, NOW)),
            "https://ca: failed: no",
        ),
        (AccountOutcome("", error=LastError("ca", "no", "wait", NOW)), "account: failed: no; wait"),
    ],
)
def test_what_is_wrong_with_an_account_is_a_line(account: AccountOutcome, line: str) -> None:
    run = AccountRun(AccountAction.LIST, (account, GOOD))
    assert render_failures(run, Style()).splitlines() == [line]
