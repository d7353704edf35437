"""Results as JSON: every member that docs/json.md names, to the letter."""

from __future__ import annotations

import json
from typing import Any

from mdconnector.errors import UsageError
from mdconnector.managed_domain import ExternalAccount, RenewMode
from mdconnector.outcomes import Result
from mdconnector.outcomes.account import AccountAction, AccountOutcome, AccountRun
from mdconnector.outcomes.order import BrokenFile, Ordered
from mdconnector.outcomes.promote import Promoted, Served
from mdconnector.outcomes.status import PendingSummary, ServedSummary, StagedSummary, StatusResult
from mdconnector.particulars import NextStep, Particulars
from mdconnector.renewal import Reason, State
from mdconnector.result_json import render, render_error
from tests.results import (
    ERROR,
    FACTS,
    NONE_WAITS,
    NOW,
    NOWHERE,
    TREE,
    VHOST,
    WRONG,
    managed,
    outcome,
    promote_run,
    promoted,
    renewal,
    revocation,
    scan,
)
from tests.standings import ALONE, ISSUER, standing

FACTS_JSON = {
    "key_spec": "rsa2048",
    "not_before": "2026-06-01T12:00:00Z",
    "not_after": "2026-08-30T12:00:00Z",
    "serial": "abc",
    "sha256": "ff",
    "issuer": "CA",
}
ERROR_JSON = {"type": "connection", "detail": "no answer", "hint": "look at the firewall"}
WRONG_JSON = {
    "code": "bad-keys",
    "severity": "error",
    "at": "/etc/a.conf:3",
    "message": "no such key",
    "hint": "write RSA",
    "domain": "a.example",
}
NOON = "2026-06-01T12:00:00Z"


def json_of(result: Result) -> Any:
    return json.loads(render(result))


def test_json_of_scan() -> None:
    domain = managed(
        "b.example",
        vhosts=(VHOST,),
        eab=ExternalAccount("kid", "hmac"),
        challenges=("http-01",),
        contact="mailto:a@a.example",
        profile="short",
        must_staple=True,
        static_pairs=(("/c", "/k"),),
        renew_mode=RenewMode.MANUAL,
        ca_urls=("https://ca/dir",),
    )
    assert json_of(scan(domains=(domain, managed()), findings=(WRONG,))) == {
        "version": 1,
        "command": "scan",
        "store": "/md",
        "domains": [
            {
                "name": "a.example",
                "names": ["a.example", "b.example"],
                "ca_urls": ["https://ca/dir"],
                "key_specs": ["rsa2048"],
                "challenges": ["http-01"],
                "renew_mode": "manual",
                "renewed_by": "mdconnector",
                "assumed": False,
                "contact": "mailto:a@a.example",
                "has_eab": True,
                "profile": "short",
                "must_staple": True,
                "static": True,
                "used": True,
                "declared_at": "/etc/a.conf:3",
                "vhosts": [
                    {
                        "server_name": "a.example",
                        "addresses": ["*:443", "[2001:db8::1]:443"],
                        "ssl": True,
                        "declared_at": "/v.conf:1",
                    }
                ],
            },
            {
                "name": "a.example",
                "names": ["a.example"],
                "ca_urls": ["https://acme-v02.api.letsencrypt.org/directory"],
                "key_specs": ["rsa2048"],
                "challenges": [],
                "renew_mode": "auto",
                "renewed_by": "mdconnector",
                "assumed": False,
                "contact": None,
                "has_eab": False,
                "profile": None,
                "must_staple": False,
                "static": False,
                "used": False,
                "declared_at": "/etc/a.conf:3",
                "vhosts": [],
            },
        ],
        "findings": [WRONG_JSON],
    }


def test_json_of_a_tree() -> None:
    def entry(name: str, args: str, file: str, line: int, **more: Any) -> dict[str, Any]:
        plain = {
            "name": name,
            "args": args,
            "words": args.split(),
            "section": False,
            "file": file,
            "line": line,
            "used_at": [],
            "children": [],
        }
        return plain | more

    used_at = ["/a.conf:3", "/b.conf:4"]
    assert json_of(scan(tree=TREE))["directives"] == [
        entry(
            *("VirtualHost", "*:443", "/a.conf", 1),
            section=True,
            children=[
                entry("SSLEngine", "on", "/a.conf", 2),
                entry("Use", "\x1b", "/m.conf", 9, used_at=used_at),
            ],
        ),
        entry("MDStapling", "", "/a.conf", 5),
    ]


def test_json_of_an_order_run() -> None:
    run = renewal(
        outcome(Ordered.RENEWED, certificates=(FACTS,), reasons=(Reason.ARI,), renew_at=NOW),
        outcome(Ordered.FAILED, error=ERROR, next_try=NOW),
        not_live=NONE_WAITS,
        broken_files=(BrokenFile(WRONG),),
    )
    plain: dict[str, Any] = {
        "name": "a.example",
        "detail": "the detail",
        "reasons": [],
        "certificates": [],
        "renew_at": None,
        "next_try": None,
        "error": None,
    }
    assert json_of(run) == {
        "version": 1,
        "command": "renew",
        "domains": [
            plain
            | {
                "outcome": "renewed",
                "reasons": ["ari"],
                "certificates": [FACTS_JSON],
                "renew_at": NOON,
            },
            plain | {"outcome": "failed", "error": ERROR_JSON, "next_try": NOON},
        ],
        "findings": [WRONG_JSON],
    }


def test_json_of_a_promotion() -> None:
    run = promote_run(
        promoted(Promoted.PROMOTED, certificates=(FACTS,), served=Served.NEW),
        promoted(Promoted.FAILED, error=ERROR),
        broken_files=(BrokenFile(WRONG),),
    )
    plain = {"name": "a.example", "detail": "the detail"}
    assert json_of(run) == {
        "version": 1,
        "command": "promote",
        "domains": [
            plain
            | {
                "outcome": "promoted",
                "certificates": [FACTS_JSON],
                "served": "new",
                "error": None,
            },
            plain
            | {
                "outcome": "failed",
                "certificates": [],
                "served": "unchecked",
                "error": ERROR_JSON,
            },
        ],
        "reload": "reloaded",
        "findings": [WRONG_JSON],
    }


def test_json_of_a_revocation() -> None:
    assert json_of(revocation(ERROR)) == {
        "version": 1,
        "command": "revoke",
        "domains": [
            {
                "name": "a.example",
                "outcome": "revoked",
                "detail": "rsa2048 1f",
                "certificates": [FACTS_JSON],
                "error": None,
            },
            {
                "name": "b.example",
                "outcome": "failed",
                "detail": "no",
                "certificates": [],
                "error": ERROR_JSON,
            },
        ],
    }


def test_json_of_accounts() -> None:
    whole = AccountOutcome(
        *("ACME-ca-0000", "https://ca", "https://ca/a/1", "kid", "valid", "rsa3072"),
        contact=("mailto:a@b.example",),
        domains=("a.example",),
        detail="its key was changed",
    )
    run = AccountRun(AccountAction.ROLLOVER, (whole, AccountOutcome("", error=ERROR)))
    assert json_of(run) == {
        "version": 1,
        "command": "account",
        "action": "rollover",
        "accounts": [
            {
                "id": "ACME-ca-0000",
                "ca_url": "https://ca",
                "url": "https://ca/a/1",
                "kid": "kid",
                "status": "valid",
                "key_spec": "rsa3072",
                "contact": ["mailto:a@b.example"],
                "domains": ["a.example"],
                "detail": "its key was changed",
                "error": None,
            },
            {
                "id": None,
                "ca_url": None,
                "url": None,
                "kid": None,
                "status": None,
                "key_spec": None,
                "contact": [],
                "domains": [],
                "detail": "",
                "error": ERROR_JSON,
            },
        ],
    }


def test_json_of_a_domain_of_which_little_is_known() -> None:
    result = StatusResult((standing(state=State.MISSING, left=None, used_by_ssl=False),), NOW)
    assert json_of(result) == {
        "version": 1,
        "command": "status",
        "domains": [
            {
                "name": "a.example",
                "names": ["a.example"],
                "state": "missing",
                "detail": "",
                "not_after": None,
                "days_left": None,
                "renew_at": None,
                "warn_at": None,
                "certificates": [],
                "staged": None,
                "pending": None,
                "last_error": None,
                "next_try": None,
                "errors": 0,
                "failing_since": None,
                "last_success": None,
                "ca_url": "https://acme.sectigo.com/v2/OV",
                "served": None,
                "served_equals_stored": None,
                "check": {"level": "ok", "reasons": []},
                "in_full": None,
            }
        ],
        "findings": [],
    }


def test_json_of_a_domain_of_which_much_is_known() -> None:
    domain = standing(
        state=State.FAILING,
        left=6.5,
        detail="a note",
        staged=StagedSummary(NOW, (FACTS,)),
        pending=PendingSummary(NOW, "https://ca/o/1"),
        last_error=ERROR,
        next_try=NOW,
        errors=2,
        failing_since=NOW,
        last_success=NOW,
        served=ServedSummary(False, "Apache was not reloaded"),
    )
    (found,) = json_of(StatusResult((domain,), NOW))["domains"]
    level = found.pop("check")
    assert found == {
        "name": "a.example",
        "names": ["a.example"],
        "state": "failing",
        "detail": "a note",
        "not_after": "2026-06-08T00:00:00Z",
        "days_left": 6,
        "renew_at": "2026-05-09T07:12:00Z",
        "warn_at": "2026-05-30T00:00:00Z",
        "certificates": [
            {
                "key_spec": "rsa2048",
                "not_before": "2026-03-10T00:00:00Z",
                "not_after": "2026-06-08T00:00:00Z",
                "serial": "3abc",
                "sha256": f"{0x3ABC:064x}",
                "issuer": "Sectigo Public Server Authentication CA OV R36",
            }
        ],
        "staged": {"since": NOON, "certificates": [FACTS_JSON]},
        "pending": {"since": NOON, "order_url": "https://ca/o/1"},
        "last_error": ERROR_JSON,
        "next_try": NOON,
        "errors": 2,
        "failing_since": NOON,
        "last_success": NOON,
        "ca_url": "https://acme.sectigo.com/v2/OV",
        "served": "Apache was not reloaded",
        "served_equals_stored": False,
        "in_full": None,
    }
    assert level["level"] == "warning"
    assert "Apache was not reloaded" in level["reasons"]


def test_json_of_all_about_a_domain() -> None:
    (found,) = json_of(ALONE)["domains"]
    full = found["in_full"]
    assert full["chains"][0] == {
        "key_spec": "rsa2048",
        "names": ["www.example.org"],
        "links": [
            {
                "subject": "CN=www.example.org",
                "issuer": f"CN={ISSUER},O=Sectigo Limited,C=GB",
                "not_after": "2026-08-21T12:00:00Z",
                "sha256": f"{0x3ABC:064x}",
            },
            {
                "subject": f"CN={ISSUER},O=Sectigo Limited,C=GB",
                "issuer": "CN=Sectigo Public Server Authentication Root R46,O=Sectigo Limited,C=GB",
                "not_after": "2036-03-19T12:00:00Z",
                "sha256": f"{7:064x}",
            },
        ],
    }
    assert full["account"] == {
        "id": "ACME-acme.sectigo.com-0000",
        "ca_url": "https://acme.sectigo.com/v2/OV",
        "url": "https://acme.sectigo.com/v2/OV/account/Fqz8cXh1",
        "kid": "b7c1c1f0e5f14a9e",
    }
    assert full["next"] == {
        "at": "2026-07-22T19:12:00Z",
        "detail": "the next 'mdconnector renew --all' from then on renews it",
    }
    assert full["runs"][2] == {
        "at": "2026-05-23T05:00:00Z",
        "command": "renew",
        "outcome": "failed",
        "detail": "the CA did not answer within 30 s",
    }
    assert full["shown"][1] == {
        "address": "127.0.0.1",
        "port": 443,
        "server_name": "www.example.org",
        "declared_at": "/etc/apache2/sites-enabled/www.conf:9",
        "key_spec": "rsa2048",
        "serial": "3abc",
        "sha256": f"{0x3ABC:064x}",
        "equals_stored": True,
        "fault": None,
    }
    unknown = Particulars((), None, NextStep("nothing is due"))
    (found,) = json_of(StatusResult((standing(in_full=unknown),), NOW))["domains"]
    assert found["in_full"] == {
        "chains": [],
        "account": None,
        "next": {"at": None, "detail": "nothing is due"},
        "runs": [],
        "shown": [],
    }


def test_json_has_a_line_for_each_entry_of_a_list() -> None:
    assert render_error(UsageError("no"), None) == (
        '{\n  "version": 1,\n  "command": null,\n'
        '  "error": {"type": "usage", "detail": "no", "hint": null}\n}\n'
    )
    text = render(scan(findings=(NOWHERE, NOWHERE)))
    entry = json.dumps(
        {
            "code": "store",
            "severity": "info",
            "at": None,
            "message": "it is new",
            "hint": "nothing to do",
            "domain": None,
        }
    )
    assert text == (
        '{\n  "version": 1,\n  "command": "scan",\n  "store": "/md",\n  "domains": [],\n'
        f'  "findings": [\n    {entry},\n    {entry}\n  ]\n}}\n'
    )


def test_json_is_one_object_with_version_command_and_times_in_utc() -> None:
    run = renewal(
        outcome(Ordered.RENEWED, certificates=(FACTS,), reasons=(Reason.WINDOW,)),
        not_live=NONE_WAITS,
    )
    document = json.loads(render(run))
    assert (document["version"], document["command"]) == (1, "renew")
    certificate = document["domains"][0]["certificates"][0]
    assert certificate["serial"] == "abc"
    assert certificate["not_before"] == "2026-06-01T12:00:00Z"
    assert document["domains"][0]["reasons"] == ["window"]


def test_an_error_that_ended_the_run_is_json_without_domains() -> None:
    document = json.loads(render_error(UsageError("no such name", hint="look"), "enroll"))
    assert document["error"] == {"type": "usage", "detail": "no such name", "hint": "look"}
    assert "domains" not in document
