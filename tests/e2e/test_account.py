"""account: an account's key, end and whereabouts, against a real CA."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mdconnector.store.records import parse_store
from tests.e2e.behind_proxy import HASTY, PROVEN, SitesBehindProxy, problem
from tests.e2e.command import Finished, clean_environment
from tests.e2e.leaks import Secrets
from tests.e2e.snapshot import snapshot
from tests.parts import Canned, DropAfter, FaultingProxy, Reset, Rule

pytestmark = pytest.mark.pebble

ID = "ACME-localhost-0000"
KEY_CHANGE = "^/rollover-account-key$"
ACCOUNT_URL = "^/my-account/"
NEW_ACCOUNT = "^/sign-me-up$"


def entry(done: Finished) -> dict[str, Any]:
    """Return the only account in what --json printed."""
    (found,) = done.json["accounts"]
    return dict(found)


def key_in(sites: SitesBehindProxy, account_id: str = ID) -> rsa.RSAPrivateKey:
    """Return a stored account's key."""
    passphrase = parse_store((sites.store / "md_store.json").read_bytes())
    pem = (sites.store / "accounts" / account_id / "account.pem").read_bytes()
    key = load_pem_private_key(pem, passphrase)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def number(key: rsa.RSAPrivateKey) -> int:
    return key.public_key().public_numbers().n


def enrolls(sites: SitesBehindProxy, proxy: FaultingProxy, name: str = PROVEN) -> None:
    """Prove that the stored account works, and that no other is registered."""
    proxy.expect()
    done = sites.here("renew", name, "--force", "--json")
    assert done.exit_code == 0, done.output
    assert proxy.count(NEW_ACCOUNT, "externalAccountBinding") == 0


@pytest.fixture
def own_account(new_sites: SitesBehindProxy, proxy: FaultingProxy) -> SitesBehindProxy:
    """Sites with an account of their own, whose key may change."""
    assert new_sites.here("renew", PROVEN).exit_code == 0
    shutil.rmtree(new_sites.store / "staging" / PROVEN)
    for name in ("pending", "attempts"):
        shutil.rmtree(new_sites.store / "mdconnector" / name)
    proxy.expect()
    return new_sites


# --- list and show -------------------------------------------------------------------------------


def test_list_tells_of_each_account_and_contacts_nobody(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    before = snapshot(sites.store)
    for words in (("account",), ("account", "list")):
        found = entry(sites.here(*words, "--json"))
        assert found["id"] == ID
        assert (found["kid"], found["status"], found["error"]) == ("kid-1", "valid", None)
        assert (found["ca_url"], found["key_spec"]) == (proxy.directory_url, "rsa3072")
        assert (found["domains"], found["contact"]) == ([PROVEN], ["mailto:hostmaster@example.org"])
    head, row = sites.here("account", "list").stdout.splitlines()
    assert head.split() == ["ACCOUNT", "STATUS", "KEY", "CA", "KID", "DOMAINS", "NOTE"]
    assert row.split() == [ID, "valid", "rsa3072", proxy.directory_url, "kid-1", PROVEN]
    assert proxy.requests == []
    assert snapshot(sites.store) == before


def test_list_loads_nothing_that_talks_to_a_ca(sites: SitesBehindProxy) -> None:
    code = (
        "import sys; from mdconnector.cli import main\n"
        "try: main()\nfinally: print(*(m for m in ('httpx', 'josepy', 'rich') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "account", "list", "--sites", str(sites.sites)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == ""


def test_list_tells_of_damage_and_what_to_do(sites: SitesBehindProxy) -> None:
    (sites.store / "accounts" / ID / "account.json").write_text("{")
    done = sites.here("account", "list", "--json")
    assert done.exit_code == 1
    assert entry(done)["error"]["hint"].startswith("'mdconnector account recover'")


def test_show_asks_the_ca_and_changes_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    before = snapshot(sites.store)
    done = sites.here("account", "show", ID)
    assert done.exit_code == 0, done.output
    assert f"    CA:       {proxy.directory_url}" in done.stdout
    assert "    status:   valid" in done.stdout
    assert proxy.count(ACCOUNT_URL) == 1
    assert snapshot(sites.store) == before


def test_show_tells_an_account_that_the_ca_does_not_know(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    gone = problem(400, "accountDoesNotExist", "never heard of it")
    proxy.rules.append(Rule(gone, path=ACCOUNT_URL))
    done = sites.here("account", "show", "--json")
    assert done.exit_code == 1
    assert "never heard of it" in entry(done)["error"]["detail"]


def test_an_unknown_id_names_those_that_there_are(sites: SitesBehindProxy) -> None:
    for words in (("show",), ("rollover",), ("deactivate", "--yes"), ("recover",)):
        done = sites.here("account", *words, "ACME-other-0000")
        assert done.exit_code == 2, done.output
        assert f"there are: {ID}" in done.stderr


def test_show_tells_where_the_ca_and_the_store_differ(sites: SitesBehindProxy) -> None:
    file = sites.store / "accounts" / ID / "account.json"
    file.write_text(file.read_text().replace('"valid"', '"unknown"'))
    found = entry(sites.here("account", "show", "--json"))
    assert (found["status"], found["detail"]) == ("valid", "stored here as unknown")


def test_without_a_store_there_is_no_account(new_sites: SitesBehindProxy) -> None:
    assert new_sites.here("account").stdout == "no account is stored\n"
    assert new_sites.here("account", "show").exit_code == 0
    for words in (("show", ID), ("rollover", ID), ("deactivate", ID, "--yes"), ("recover",)):
        assert new_sites.here("account", *words).exit_code == 2
    assert not new_sites.store.exists()


# --- rollover ------------------------------------------------------------------------------------


def test_rollover_gives_the_account_a_new_key(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    old, before = number(key_in(own_account)), entry(own_account.here("account", "list", "--json"))
    done = own_account.here("account", "rollover", ID, "--json")
    assert done.exit_code == 0, done.output
    assert number(key_in(own_account)) != old
    assert proxy.count(KEY_CHANGE) == 1
    after = entry(own_account.here("account", "list", "--json"))
    assert after == before
    assert not list((own_account.store / "mdconnector" / "accounts").iterdir())
    mode = (own_account.store / "accounts" / ID / "account.pem").stat().st_mode & 0o777
    assert mode == 0o644
    enrolls(own_account, proxy)


def test_a_lost_answer_to_the_key_change_is_settled_by_asking(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    old = number(key_in(own_account))
    rule = Rule(DropAfter(), path=KEY_CHANGE)
    proxy.rules.append(rule)
    done = own_account.here("account", "rollover", ID)
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    assert number(key_in(own_account)) != old
    enrolls(own_account, proxy)


def test_a_key_change_that_never_arrived_leaves_the_old_key_and_is_taken_up(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    old = number(key_in(own_account))
    rule = Rule(Reset(), path=KEY_CHANGE)
    proxy.rules.append(rule)
    done = own_account.here("account", "rollover", ID)
    assert (done.exit_code, rule.hits) == (1, 1), done.output
    assert number(key_in(own_account)) == old
    told = own_account.here("account", "list").stdout
    assert f"not finished: mdconnector account rollover {ID}" in told
    enrolls(own_account, proxy)
    pending = (own_account.store / "mdconnector" / "accounts" / ID / "key.pem").read_bytes()
    proxy.expect()
    assert own_account.here("account", "rollover", ID).exit_code == 0
    new = load_pem_private_key(pending, None)
    assert isinstance(new, rsa.RSAPrivateKey)
    assert number(key_in(own_account)) == number(new)


@pytest.mark.parametrize("command", ["renew", "rollover"])
def test_a_changed_key_that_could_not_be_confirmed_is_found_by_the_next_run(
    own_account: SitesBehindProxy, proxy: FaultingProxy, command: str
) -> None:
    """The answer to keyChange is lost, and then the CA is silent: as in a killed run."""
    old = number(key_in(own_account))
    lost, silent = Rule(DropAfter(), path=KEY_CHANGE), Rule(Reset(), path=NEW_ACCOUNT)
    proxy.rules += [lost, silent]
    done = own_account.here("account", "rollover", ID)
    assert (done.exit_code, lost.hits, silent.hits > 0) == (1, 1, True), done.output
    assert number(key_in(own_account)) == old
    proxy.expect()
    if command == "rollover":
        assert own_account.here("account", "rollover", ID).exit_code == 0
        assert proxy.count(KEY_CHANGE) == 0
    enrolls(own_account, proxy)
    assert number(key_in(own_account)) != old
    assert not list((own_account.store / "mdconnector" / "accounts").iterdir())


def test_a_dry_run_after_a_killed_rollover_finds_the_account_and_writes_nothing(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    proxy.rules += [Rule(DropAfter(), path=KEY_CHANGE), Rule(Reset(), path=NEW_ACCOUNT)]
    assert own_account.here("account", "rollover", ID).exit_code == 1
    proxy.expect()
    before = snapshot(own_account.store)
    done = own_account.here("renew", PROVEN, "--dry-run")
    assert f"as {ID}, which the CA knows" in done.stdout
    assert snapshot(own_account.store) == before


def test_a_refused_key_change_leaves_nothing_behind(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    before = own_account.account()
    rule = Rule(problem(403, "unauthorized", "not you"), path=KEY_CHANGE)
    proxy.rules.append(rule)
    done = own_account.here("account", "rollover", ID)
    assert (done.exit_code, rule.hits) == (1, 1)
    assert "not you" in done.stderr
    assert own_account.account() == before


def test_a_ca_without_key_change_is_named_before_a_key_is_made(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    document = {"newNonce": "x", "newAccount": "x", "newOrder": "x"}
    base = proxy.directory_url.removesuffix("/dir")
    body = json.dumps({name: f"{base}/{name}" for name in document}).encode()
    proxy.rules.append(Rule(Canned(200, body), path="^/dir$"))
    shutil.rmtree(own_account.store / "mdconnector" / "directories")
    before = own_account.account()
    done = own_account.here("account", "rollover", ID)
    assert done.exit_code == 1
    assert "offers no change of an account's key" in done.stderr
    assert own_account.account() == before


def test_a_copy_that_mod_md_left_in_staging_keeps_the_key_as_it_is(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    staged = own_account.store / "staging" / PROVEN
    staged.mkdir(parents=True)
    for file in (own_account.store / "accounts" / ID).iterdir():
        shutil.copy(file, staged)
    done = own_account.here("account", "rollover", ID)
    assert done.exit_code == 1
    assert f"{staged}: mod_md left a copy" in done.stderr
    assert proxy.count(KEY_CHANGE) == 0


@pytest.mark.strace
@pytest.mark.parametrize("point", [("fsync", n) for n in (1, 3, 4, 5)] + [("unlinkat", 1)])
def test_a_rollover_that_is_killed_anywhere_is_taken_up_by_the_next_run(
    own_account: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path, point: tuple[str, int]
) -> None:
    call, when = point
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", str(tmp_path / "log"), "-e", f"trace={call},unlink"),
            *("-e", f"inject={call},unlink:signal=SIGKILL:when={when}"),
            *(*HASTY, "account", "rollover", ID, "--sites", str(own_account.sites)),
        ],
        env=clean_environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    killed = done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}
    assert killed, (done.returncode, done.stderr, (tmp_path / "log").read_text())
    enrolls(own_account, proxy)
    assert own_account.here("account", "rollover", ID).exit_code == 0
    enrolls(own_account, proxy)
    assert not list((own_account.store / "mdconnector" / "accounts").iterdir())


# --- deactivate ----------------------------------------------------------------------------------


def test_deactivate_ends_the_account_and_the_next_order_registers_another(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    done = own_account.here("account", "deactivate", ID, "--yes", "--json")
    assert (done.exit_code, entry(done)["status"]) == (0, "deactivated"), done.output
    stored = json.loads((own_account.store / "accounts" / ID / "account.json").read_text())
    assert stored["status"] == "deactivated"
    shown = entry(own_account.here("account", "show", ID, "--json"))
    assert (shown["status"], shown["error"]) == ("deactivated", None)
    again = own_account.here("account", "deactivate", ID, "--yes")
    assert (again.exit_code, "was deactivated before" in again.stdout) == (0, True)
    assert own_account.here("renew", PROVEN, "--force").exit_code == 0
    both = own_account.here("account", "list", "--json").json["accounts"]
    assert [one["status"] for one in both] == ["deactivated", "valid"]


def test_deactivate_says_what_stops_and_asks(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    done = own_account.here("account", "deactivate", ID)
    assert done.exit_code == 2
    assert "add --yes" in done.stderr
    assert proxy.requests == []
    agreed = own_account.here("account", "deactivate", ID, "--yes")
    assert f"used by: {PROVEN}" in agreed.stderr
    assert "may need a new external account binding" in agreed.stderr


def test_a_lost_answer_to_the_deactivation_is_no_failure(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(DropAfter(), path=ACCOUNT_URL, nth=1)
    proxy.rules.append(rule)
    done = own_account.here("account", "deactivate", ID, "--yes")
    assert (done.exit_code, rule.hits) == (0, 1), done.output


# --- recover -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [None, "{", '{"status": "valid"}'])
def test_recover_finds_the_account_of_a_key_and_registers_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy, damage: str | None
) -> None:
    file = sites.store / "accounts" / ID / "account.json"
    before = json.loads(file.read_text())
    file.unlink() if damage is None else file.write_text(damage)
    done = sites.here("account", "recover", "--json")
    assert (done.exit_code, entry(done)["id"]) == (0, ID), done.output
    after = json.loads(file.read_text())
    for member in ("url", "ca-url", "status", "eab"):
        assert after[member] == before[member]
    kept = (
        list((sites.store / "mdconnector" / "set-aside").glob("account.json.*")) if damage else []
    )
    assert len(kept) == (2 if damage else 0), "the file and its reason"
    enrolls(sites, proxy)
    assert "nothing to recover" in sites.here("account", "recover").stdout


def test_recover_asks_for_the_domain_where_several_bindings_could_be_meant(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    other = f"kid-2 {proxy.pebble.eab_keys['kid-2']}"
    sites.add("second.example.org", {"MDExternalAccountBinding": other})
    (sites.store / "accounts" / ID / "account.json").unlink()
    done = sites.here("account", "recover")
    assert done.exit_code == 1
    assert "several bindings" in done.stderr
    done = sites.here("account", "recover", "--for", "second.example.org", "--json")
    assert (done.exit_code, entry(done)["domains"]) == (0, ["second.example.org"]), done.output


def test_recover_makes_an_account_valid_that_was_marked_unknown(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    file = sites.store / "accounts" / ID / "account.json"
    file.write_text(file.read_text().replace('"valid"', '"unknown"'))
    assert sites.here("account", "recover").exit_code == 0
    enrolls(sites, proxy)


def test_recover_with_a_lost_key_says_that_it_is_lost(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    (sites.store / "accounts" / ID / "account.pem").unlink()
    done = sites.here("account", "recover")
    assert done.exit_code == 1
    assert "without its key the account is lost" in done.stderr
    assert proxy.requests == []


def test_recover_finds_a_registration_that_was_cut_short(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    proxy.rules += [
        Rule(DropAfter(), path=NEW_ACCOUNT, nth=1),
        Rule(Reset(), path=NEW_ACCOUNT),
    ]
    assert new_sites.here("renew", PROVEN).exit_code == 1
    proxy.expect()
    done = new_sites.here("account", "recover", "--json")
    assert (done.exit_code, entry(done)["id"]) == (0, ID), done.output
    enrolls(new_sites, proxy)


def test_recover_leaves_a_key_alone_that_is_not_registered_yet(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    proxy.rules.append(Rule(problem(401, "unauthorized", "no"), path=NEW_ACCOUNT))
    assert new_sites.here("renew", PROVEN).exit_code == 1
    proxy.expect()
    before = new_sites.account()
    done = new_sites.here("account", "recover")
    assert done.exit_code == 0
    assert "not registered yet; the next order does it" in done.stdout
    assert new_sites.account() == before


def test_recover_of_an_account_at_a_ca_that_nobody_uses_says_so(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    folder = sites.store / "accounts" / ID
    (folder / "account.json").unlink()
    folder.rename(folder.with_name("ACME-other.example-0000"))
    done = sites.here("account", "recover")
    assert done.exit_code == 1
    assert "no managed domain uses a CA that ACME-other.example-0000" in done.stderr
    assert proxy.requests == []


# --- secrets -------------------------------------------------------------------------------------


def test_no_subcommand_shows_a_key_or_a_binding(
    own_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    secrets = Secrets().add_key("account key", key_in(own_account))
    for kid, hmac in proxy.pebble.eab_keys.items():
        secrets.add_text(kid, hmac)
    shown = ""
    for words in (("list",), ("show",), ("rollover", ID), ("recover", ID), ("show", "-v")):
        for form in ((), ("--json",)):
            shown += own_account.here("account", *words, *form).output
    shown += own_account.here("account", "deactivate", "ACME-nobody-0000", "--yes").output
    secrets.add_key("new account key", key_in(own_account))
    assert ID in shown
    assert secrets.found_in(shown) == []
