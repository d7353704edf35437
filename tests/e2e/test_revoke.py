"""revoke: what the CA has revoked is renewed, and never goes live again."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from mdconnector.certificates import RevocationReason
from mdconnector.cli import _REASONS
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy, problem
from tests.e2e.command import COMMAND, Finished, clean_environment, run
from tests.e2e.estate import managed_site, served_leaf
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, DropAfter, FaultingProxy, Pebble, Rule

pytestmark = pytest.mark.pebble

REVOKE = "^/revoke-cert$"
NOBODY = 65534


def at_ca(proxy: FaultingProxy, serial: str) -> dict[str, Any]:
    """Return what the CA itself says of a certificate."""
    answer = proxy.pebble.management(f"/cert-status-by-serial/{serial}")
    return dict(json.loads(answer))


def make_live(sites: SitesBehindProxy, name: str = PROVEN) -> list[dict[str, Any]]:
    """Obtain and promote a set; return its certificates."""
    assert sites.here("renew", name, "--force").exit_code == 0
    done = sites.here("promote", name, "--json")
    assert done.exit_code == 0, done.output
    return list(done.domain(name)["certificates"])


def serials(done: Finished, name: str = PROVEN) -> list[str]:
    return [one["serial"] for one in done.domain(name)["certificates"]]


@pytest.fixture
def live(sites: SitesBehindProxy) -> SitesBehindProxy:
    """Sites with one live certificate."""
    make_live(sites)
    return sites


def test_reasons_of_the_command_line_are_those_of_rfc_5280() -> None:
    assert tuple(reason.label for reason in RevocationReason) == _REASONS


def test_the_live_certificate_is_revoked_with_its_reason_and_renewed_for_it(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    (old,) = (one["serial"] for one in status(live)["certificates"])
    done = live.here("revoke", PROVEN, "--reason", "superseded", "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert done.json["command"] == "revoke"
    entry = done.domain(PROVEN)
    assert (entry["outcome"], entry["error"], serials(done)) == ("revoked", None, [old])
    told = at_ca(proxy, old)
    assert (told["Status"], told["Reason"]) == ("Revoked", RevocationReason.SUPERSEDED)
    renewed = live.here("renew", "--all", "--json")
    assert renewed.domain(PROVEN)["reasons"] == ["revoked"]
    assert renewed.domain(PROVEN)["outcome"] == "enrolled"
    assert live.here("promote", "--all").exit_code == 0
    (new,) = (one["serial"] for one in status(live)["certificates"])
    assert new != old
    assert at_ca(proxy, new)["Status"] == "Valid"
    assert live.here("renew", "--all", "--json").domain(PROVEN)["outcome"] == "current"


def status(sites: SitesBehindProxy, name: str = PROVEN) -> dict[str, Any]:
    return sites.here("status", name, "--json").domain(name)


def test_a_revoked_certificate_is_told_with_the_next_step_and_by_status(
    live: SitesBehindProxy,
) -> None:
    done = live.here("revoke", PROVEN, "--yes")
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{PROVEN}: revoked: secp256r1 ")
    assert first.endswith("revoked (unspecified), signed by account ACME-localhost-0000")
    assert f"mdconnector renew {PROVEN}; then: mdconnector promote {PROVEN} --reload" in second
    assert done.stderr.startswith("mdconnector: to be revoked: secp256r1 ")
    row = status(live)
    assert row["state"] == "due"
    assert "secp256r1: revoked 2" in row["detail"]


def test_a_certificate_that_is_revoked_already_is_success(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    assert live.here("revoke", PROVEN, "--yes").exit_code == 0
    # as if the run had been killed before it could note it
    (live.store / "mdconnector" / "attempts" / f"{PROVEN}.json").unlink()
    assert live.here("renew", "--all", "--json").domain(PROVEN)["outcome"] == "current"
    again = live.here("revoke", PROVEN, "--yes")
    assert again.exit_code == 0
    assert "was revoked before" in again.stdout
    assert proxy.count(REVOKE) == 2
    assert live.here("renew", "--all", "--json").domain(PROVEN)["reasons"] == ["revoked"]


def test_a_lost_answer_is_no_failure(live: SitesBehindProxy, proxy: FaultingProxy) -> None:
    rule = Rule(DropAfter(), path=REVOKE, nth=1)
    proxy.rules.append(rule)
    done = live.here("revoke", PROVEN, "--yes", "--json")
    assert (done.exit_code, rule.hits) == (0, 1)
    assert done.domain(PROVEN)["outcome"] == "revoked"


def test_a_refused_revocation_fails_and_leaves_no_note(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(problem(400, "badRevocationReason", "not that one"), path=REVOKE)
    proxy.rules.append(rule)
    done = live.here("revoke", PROVEN, "--yes", "--reason", "keyCompromise", "--json")
    assert (done.exit_code, rule.hits) == (1, 1)
    entry = done.domain(PROVEN)
    assert (entry["outcome"], entry["certificates"]) == ("failed", [])
    assert entry["error"]["type"].endswith(":badRevocationReason")
    assert entry["error"]["hint"] == "choose another reason for the revocation"
    assert live.here("renew", "--all", "--json").domain(PROVEN)["outcome"] == "current"


def test_without_a_terminal_nothing_is_revoked_unless_agreed_to(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    before = snapshot(live.store)
    done = live.run("revoke", PROVEN, "--json")
    assert done.exit_code == 2
    assert done.json["error"]["hint"] == "add --yes to do it without asking"
    assert proxy.count(REVOKE) == 0
    assert snapshot(live.store) == before


@pytest.mark.parametrize(("answer", "code", "requests"), [("y", 0, 1), ("n", 2, 0), ("\x04", 2, 0)])
def test_at_a_terminal_it_shows_the_certificate_and_asks(
    live: SitesBehindProxy, proxy: FaultingProxy, answer: str, code: int, requests: int
) -> None:
    (serial,) = (one["serial"] for one in status(live)["certificates"])
    exit_code, shown = at_terminal(live, answer, "revoke", PROVEN)
    assert f"secp256r1 {serial}, live, valid until " in shown
    assert "Apache serves what is revoked until new ones are live" in shown
    assert (exit_code, proxy.count(REVOKE)) == (code, requests), shown
    assert "Traceback" not in shown


def at_terminal(sites: SitesBehindProxy, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the command at a terminal and answer its question; return the code, and what it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments, "--sites", str(sites.sites)],
        env=clean_environment() | {"TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        shown, is_answered, deadline = b"", False, time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if b"[y/N]" in shown and not is_answered:
                is_answered = True
                os.write(ours, answer.encode() + (b"" if answer == "\x04" else b"\n"))
        os.close(ours)
        return process.wait(30), shown.decode().replace("\r\n", "\n")


def test_an_archived_certificate_is_revoked_by_its_serial_and_nothing_is_renewed(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    (old,) = (one["serial"] for one in status(live)["certificates"])
    make_live(live)
    done = live.here("revoke", PROVEN, "--serial", old.upper(), "--yes", "--json")
    assert (done.exit_code, serials(done)) == (0, [old])
    assert at_ca(proxy, old)["Status"] == "Revoked"
    assert live.here("renew", "--all", "--json").domain(PROVEN)["outcome"] == "current"


def test_an_unknown_serial_names_those_that_there_are(live: SitesBehindProxy) -> None:
    (serial,) = (one["serial"] for one in status(live)["certificates"])
    done = live.here("revoke", PROVEN, "--serial", "abc123", "--yes")
    assert done.exit_code == 2
    assert f"secp256r1 {serial}, live" in done.stderr
    nonsense = live.here("revoke", PROVEN, "--serial", "tea", "--yes")
    assert nonsense.exit_code == 2
    assert "not a serial number" in nonsense.stderr


def test_a_staged_set_is_set_aside_and_ordered_anew(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    ordered = sites.here("renew", PROVEN, "--json")
    (serial,) = serials(ordered)
    refused = sites.here("revoke", PROVEN, "--yes")
    assert refused.exit_code == 2
    assert f"{serial}, staged" in refused.stderr
    assert sites.here("revoke", PROVEN, "--serial", serial, "--yes").exit_code == 0
    assert not (sites.store / "staging" / PROVEN).exists()
    assert sites.here("promote", PROVEN).exit_code == 5
    again = sites.here("renew", PROVEN, "--json")
    assert again.domain(PROVEN)["outcome"] == "enrolled"
    assert serials(again) != [serial]


def test_a_revoked_set_that_lies_in_staging_again_is_not_promoted(
    sites: SitesBehindProxy,
) -> None:
    (serial,) = serials(sites.here("renew", PROVEN, "--json"))
    staged = sites.store / "staging" / PROVEN
    assert sites.here("revoke", PROVEN, "--serial", serial, "--yes").exit_code == 0
    (aside,) = (sites.store / "mdconnector" / "set-aside").glob(f"{PROVEN}.[0-9]")
    aside.rename(staged)
    done = sites.here("promote", PROVEN)
    assert done.exit_code == 1
    assert "it was revoked by 'mdconnector revoke'" in done.stderr
    assert sites.here("renew", PROVEN, "--json").domain(PROVEN)["outcome"] == "enrolled"


def test_all_key_types_are_revoked_at_once_or_one_by_its_serial(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    sites.add(PROVEN, {"MDPrivateKeys": "RSA 2048 secp256r1"})
    both = {one["key_spec"]: one["serial"] for one in make_live(sites)}
    assert set(both) == {"rsa2048", "secp256r1"}
    one = sites.here("revoke", PROVEN, "--serial", both["rsa2048"], "--yes", "--json")
    assert serials(one) == [both["rsa2048"]]
    assert at_ca(proxy, both["secp256r1"])["Status"] == "Valid"
    done = sites.here("revoke", PROVEN, "--yes", "--json")
    assert set(serials(done)) == set(both.values())
    assert at_ca(proxy, both["secp256r1"])["Status"] == "Revoked"


def test_one_failure_of_two_is_told_and_the_other_is_noted(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    sites.add(PROVEN, {"MDPrivateKeys": "RSA 2048 secp256r1"})
    make_live(sites)
    proxy.rules.append(Rule(problem(400, "badRevocationReason", "not now"), path=REVOKE, nth=2))
    done = sites.here("revoke", PROVEN, "--yes", "--json")
    assert (done.exit_code, len(serials(done))) == (1, 1)
    assert done.domain(PROVEN)["outcome"] == "failed"
    assert sites.here("renew", "--all", "--json").domain(PROVEN)["reasons"] == ["revoked"]


# --- who signs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["secp256r1", "secp384r1", "RSA 2048"])
def test_the_certificates_own_key_revokes_where_the_account_is_gone(
    sites: SitesBehindProxy, proxy: FaultingProxy, keys: str
) -> None:
    sites.add(PROVEN, {"MDPrivateKeys": keys})
    (made,) = make_live(sites)
    for file in (sites.store / "accounts").rglob("account.*"):
        file.unlink()
    done = sites.here("revoke", PROVEN, "--yes")
    assert done.exit_code == 0, done.output
    assert "signed by its own key" in done.stdout
    assert at_ca(proxy, made["serial"])["Status"] == "Revoked"


def test_the_certificates_own_key_revokes_where_the_account_may_not(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(problem(403, "unauthorized", "not yours"), path=REVOKE, nth=1)
    proxy.rules.append(rule)
    done = live.here("revoke", PROVEN, "--yes")
    assert (done.exit_code, rule.hits) == (0, 1)
    assert "signed by its own key" in done.stdout


def test_neither_account_nor_key_is_a_failure_that_names_the_portal(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    proxy.rules.append(Rule(problem(403, "unauthorized", "not yours"), path=REVOKE))
    done = live.here("revoke", PROVEN, "--yes")
    assert (done.exit_code, proxy.count(REVOKE)) == (1, 2)
    assert "not yours" in done.stderr
    assert "revoke it in the CA's portal" in done.stderr


def test_a_name_that_is_not_configured_any_more_can_be_revoked(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    (serial,) = (one["serial"] for one in status(live)["certificates"])
    live.rename("other.example.org")
    live.write("00-all", f'MDRenewMode manual\nMDCACertificateFile "{proxy.ca_file}"\n')
    done = live.here("revoke", PROVEN, "--yes", "--reason", "cessationOfOperation", "--json")
    assert done.exit_code == 0, done.output
    assert at_ca(proxy, serial)["Status"] == "Revoked"
    unknown = live.here("revoke", "nobody.example.org", "--yes")
    assert unknown.exit_code == 2


def test_a_ca_without_revocation_is_named(live: SitesBehindProxy, proxy: FaultingProxy) -> None:
    for file in (live.store / "mdconnector" / "directories").iterdir():
        known = json.loads(file.read_text())
        known["directory"].pop("revokeCert", None)
        file.write_text(json.dumps(known))
    done = live.here("revoke", PROVEN, "--yes")
    assert done.exit_code == 1
    assert "offers no revocation over ACME" in done.stderr
    assert proxy.count(REVOKE) == 0


def test_a_ca_that_the_staged_set_names_is_not_asked(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """Apache's user can write to staging: what stands there must lead no request astray."""
    (serial,) = serials(sites.here("renew", PROVEN, "--json"))
    file = sites.store / "staging" / PROVEN / "md.json"
    staged = json.loads(file.read_text())
    staged["ca"]["url"] = "https://127.0.0.1:9/evil"
    file.write_text(json.dumps(staged))
    done = sites.here("revoke", PROVEN, "--serial", serial, "--yes")
    assert done.exit_code == 0, done.output
    assert proxy.count(REVOKE) == 1


@pytest.mark.parametrize(
    "words", [("revoke", PROVEN, "--yes"), ("account", "rollover", "ACME-localhost-0000")]
)
def test_beside_another_run_nothing_is_done(
    live: SitesBehindProxy, proxy: FaultingProxy, words: tuple[str, ...]
) -> None:
    proxy.expect()
    with (live.store / "mdconnector" / "run.lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = live.here(*words, "--lock-wait", "0", "--json")
    assert (done.exit_code, done.json["error"]["type"]) == (75, "locked")
    assert proxy.requests == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
@pytest.mark.parametrize(
    "words", [("revoke", PROVEN, "--yes"), ("account", "recover", "ACME-localhost-0000")]
)
def test_another_user_than_the_stores_owner_is_refused_before_any_request(
    live: SitesBehindProxy, proxy: FaultingProxy, words: tuple[str, ...]
) -> None:
    proxy.expect()
    before = snapshot(live.store)
    done = live.run(*words, "--json", user=NOBODY)
    assert (done.exit_code, done.json["error"]["type"]) == (3, "unsafe-store"), done.output
    assert proxy.requests == []
    assert snapshot(live.store) == before


@pytest.mark.apache
def test_a_revoked_certificate_is_replaced_in_a_running_apache(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    name = "revoked.example"
    apache = make_apache(sites={"a": managed_site(name)}, main_extra=counting_ca.directives())
    assert run("renew", name, config=apache.config).exit_code == 0
    assert run("promote", name, config=apache.config).exit_code == 0
    with apache:
        old = served_leaf(apache, name)
        done = run("revoke", name, "--reason", "keyCompromise", "--yes", config=apache.config)
        assert done.exit_code == 0, done.output
        assert run("renew", "--all", config=apache.config).exit_code == 0
        done = run("promote", "--all", "--reload", "--json", config=apache.config)
        assert (done.exit_code, done.domain(name)["served"]) == (0, "new"), done.output
        new = served_leaf(apache, name)
    assert new.serial_number != old.serial_number
    assert new.public_key() != old.public_key()
    statuses = [
        json.loads(counting_ca.management(f"/cert-status-by-serial/{one.serial_number:x}"))
        for one in (old, new)
    ]
    assert [one["Status"] for one in statuses] == ["Revoked", "Valid"]
