"""What a CA says to an account counts for all its domains; and several CAs, one of them down."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mdconnector.acme.advice import Purpose
from mdconnector.acme.session import Session
from mdconnector.store.tree import Store
from tests.e2e.command import Finished, run
from tests.e2e.estate import managed_site
from tests.e2e.snapshot import snapshot
from tests.parts import (
    Apache,
    Canned,
    FaultingProxy,
    Pebble,
    Rule,
    Substitute,
    Together,
    free_port,
)

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAMES = ("one.example", "two.example", "three.example")
NEW_ACCOUNT, NEW_ORDER = "/sign-me-up", "/order-plz"
ACME = "urn:ietf:params:acme:error:"


@pytest.fixture
def proxy(parts_folder: Path, counting_ca: Pebble) -> Iterator[FaultingProxy]:
    """A faulting proxy before the CA that counts; it has no faults yet."""
    with FaultingProxy(parts_folder / "proxy", counting_ca) as before_ca:
        yield before_ca


@pytest.fixture
def apache(make_apache: Callable[..., Apache], proxy: FaultingProxy) -> Apache:
    """An Apache with three domains of one account, not started; the first is obtained already."""
    made = make_apache(
        sites={name: managed_site(name) for name in NAMES}, main_extra=proxy.directives()
    )
    done = run("renew", NAMES[0], config=made.config)
    assert done.exit_code == 0, done.output
    proxy.requests.clear()
    return made


def problem(
    status: int, word: str, detail: str, headers: Mapping[str, str] | None = None
) -> Canned:
    """Answer with a problem document."""
    body = {"type": ACME + word, "detail": detail, "status": status}
    return Canned(status, json.dumps(body).encode(), headers or {})


def asked(proxy: FaultingProxy, resource: str) -> int:
    """Return how often a resource was asked for."""
    return sum(request.resource == resource for request in proxy.requests)


def outcomes(done: Finished) -> dict[str, str]:
    """Return each domain's outcome."""
    return {domain["name"]: domain["outcome"] for domain in done.json["domains"]}


def accounts_of(apache: Apache) -> dict[str, dict[str, object]]:
    """Return every stored account by its id."""
    files = sorted((apache.store / "accounts").glob("*/account.json"))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def account_keys(apache: Apache) -> dict[str, rsa.RSAPrivateKey]:
    """Return the key of every stored account by its id."""
    keys = {}
    store = Store.open(
        apache.store,
        httpd_user_uid=None,
        httpd_group_gid=None,
        mod_md_loaded=False,
        create=False,
        read_only=True,
    )
    assert store is not None
    with store:
        for file in (apache.store / "accounts").glob("*/account.pem"):
            key = load_pem_private_key(file.read_bytes(), store.passphrase())
            assert isinstance(key, rsa.RSAPrivateKey)
            keys[file.parent.name] = key
    return keys


# --- an account that is out of service -----------------------------------------------------------


def test_a_suspended_account_is_asked_for_once_in_a_run_with_one_line_for_all_its_domains(
    apache: Apache, proxy: FaultingProxy
) -> None:
    suspended = problem(401, "unauthorized", "The account is currently suspended")
    proxy.rules.append(Rule(suspended, path=NEW_ORDER))
    before = accounts_of(apache)
    done = run("renew", "--all", "--jobs", "1", config=apache.config)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "and 1 more: failed: " in line
    assert "The account is currently suspended" in line
    assert (asked(proxy, NEW_ORDER), asked(proxy, NEW_ACCOUNT)) == (1, 0)
    assert accounts_of(apache) == before


def test_requests_that_were_under_way_when_the_account_was_found_stopped_give_one_line_together(
    apache: Apache, proxy: FaultingProxy
) -> None:
    """Three at a time: nobody's request is sent after the answer, and nobody's answer is told."""
    names = [f"{number}.example" for number in range(4)]
    for name in names:
        apache.write_site(name, managed_site(name))
    suspended = problem(401, "unauthorized", "The account is currently suspended")
    proxy.rules.append(Rule(Together(suspended, threading.Barrier(3)), path=NEW_ORDER))
    done = run("renew", "--all", "--jobs", "3", "--json", config=apache.config)
    assert (done.exit_code, asked(proxy, NEW_ORDER)) == (1, 3)
    failed = [one for one in done.json["domains"] if one["outcome"] == "failed"]
    assert len(failed) == 6
    assert len({one["error"]["detail"] for one in failed}) == 1
    plain = run("renew", *NAMES[1:], *names, "--jobs", "3", config=apache.config)
    (line,) = plain.stderr.splitlines()
    assert "and 5 more: failed: " in line


def test_a_deactivated_account_is_not_replaced_by_a_new_one(
    make_apache: Callable[..., Apache], make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True, nonce_reject=0)
    apache = make_apache(
        sites={name: managed_site(name) for name in NAMES}, main_extra=ca.directives()
    )
    assert run("renew", NAMES[0], config=apache.config).exit_code == 0
    deactivate(apache, ca)
    before = accounts_of(apache)
    with ca.recorded() as requests:
        done = run("renew", "--all", "--jobs", "1", config=apache.config)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "and 1 more: failed: " in line
    assert "deactivated" in line
    assert "create a new ACME account" in line
    assert NEW_ACCOUNT not in [request.resource for request in requests]
    assert accounts_of(apache) == before


def deactivate(apache: Apache, ca: Pebble) -> None:
    """Deactivate the only account, as its owner may (RFC 8555 §7.3.6)."""
    ((account_id, account),) = accounts_of(apache).items()
    url, key = str(account["url"]), account_keys(apache)[account_id]
    with Session(ca.directory_url, ca_certificates=str(ca.ca_file)) as session:
        session.post(url, {"status": "deactivated"}, key=key, kid=url, purpose=Purpose.ACCOUNT)


def test_a_refused_binding_is_tried_once_in_a_run(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    known = counting_ca.eab_keys["kid-1"]
    lines = counting_ca.directives().replace(f"kid-1 {known}", f"kid-unknown {known}")
    apache = make_apache(sites={name: managed_site(name) for name in NAMES}, main_extra=lines)
    with counting_ca.recorded() as requests:
        done = run("renew", "--all", config=apache.config)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "and 2 more: failed: " in line
    assert "MDExternalAccountBinding" in line
    assert [request.resource for request in requests].count(NEW_ACCOUNT) == 1


def test_an_account_that_the_ca_has_forgotten_is_registered_again_with_the_same_key(
    make_apache: Callable[..., Apache], make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True)
    apache = make_apache(
        sites={name: managed_site(name) for name in NAMES}, main_extra=ca.directives()
    )
    assert run("renew", NAMES[0], config=apache.config).exit_code == 0
    (key,) = account_keys(apache).values()
    ca.restart()
    done = run("renew", "--all", config=apache.config)
    assert done.exit_code == 0, done.output
    assert all(one.public_key() == key.public_key() for one in account_keys(apache).values())


def test_an_account_that_cannot_be_registered_again_is_tried_once_for_all_its_domains(
    apache: Apache, proxy: FaultingProxy
) -> None:
    """The CA has forgotten it, and its binding was good for one use."""
    gone = problem(400, "accountDoesNotExist", "no such account")
    used = "[External Account Binding] The account is not awaiting external account binding"
    proxy.rules += [
        Rule(gone, path=NEW_ORDER),
        Rule(gone, path=NEW_ACCOUNT, payload="onlyReturnExisting"),
        Rule(problem(400, "malformed", used), path=NEW_ACCOUNT, payload="externalAccountBinding"),
    ]
    before = accounts_of(apache)
    done = run("renew", "--all", "--jobs", "1", config=apache.config)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert f"and 1 more: failed: the CA refused: {used}" in line
    assert proxy.rules[2].hits == 1
    assert accounts_of(apache) == before


def test_an_account_that_the_ca_denies_and_finds_in_turn_is_not_registered_again(
    apache: Apache, proxy: FaultingProxy
) -> None:
    proxy.rules.append(Rule(problem(400, "accountDoesNotExist", "who?"), path=NEW_ORDER))
    done = run("renew", "--all", "--jobs", "1", config=apache.config)
    assert done.exit_code == 1
    assert done.stderr.count("who?") == 2
    assert (asked(proxy, NEW_ACCOUNT), asked(proxy, NEW_ORDER)) == (1, 2)


# --- an account that was asked to wait -----------------------------------------------------------


@pytest.fixture
def told_to_wait(apache: Apache, proxy: FaultingProxy) -> Apache:
    """The CA has told the account to come back in three hours, and would answer it now."""
    busy = problem(429, "rateLimited", "too many orders", {"Retry-After": "10800"})
    rule = Rule(busy, path=NEW_ORDER)
    proxy.rules.append(rule)
    done = run("renew", "--all", "--jobs", "1", "--json", config=apache.config)
    assert (done.exit_code, rule.hits) == (1, 1), done.output
    assert set(outcomes(done).values()) == {"staged", "failed"}
    proxy.rules.clear()
    proxy.requests.clear()
    return apache


def test_retry_after_keeps_all_domains_of_the_account_waiting_without_a_request(
    told_to_wait: Apache, proxy: FaultingProxy
) -> None:
    told_to_wait.write_site("four.example", managed_site("four.example"))
    before = snapshot(told_to_wait.store)
    done = run("renew", "--all", "--json", config=told_to_wait.config)
    assert proxy.requests == []
    waiting = dict.fromkeys((*NAMES[1:], "four.example"), "backing-off")
    assert outcomes(done) == {NAMES[0]: "staged", **waiting}
    assert snapshot(told_to_wait.store) == before


def test_an_order_that_is_open_while_its_account_is_asked_to_wait_is_no_failure(
    apache: Apache, proxy: FaultingProxy
) -> None:
    """Neither the one whose own question is answered so, nor others' of the account."""
    working = Substitute(rb'"status":\s*"valid"', b'"status": "processing"')
    busy = problem(429, "rateLimited", "slow down", {"Retry-After": "3600"})
    polled = Rule(busy, path="/my-order/", after=2)
    proxy.rules += [polled, Rule(working, path="/(my-order|finalize-order)/")]
    done = run("renew", "--all", "--wait", "2", "--json", config=apache.config)
    assert outcomes(done) == {NAMES[0]: "staged", **dict.fromkeys(NAMES[1:], "pending")}
    assert (done.exit_code, polled.hits in (1, 2)) == (0, True), done.output
    proxy.rules.clear()
    proxy.requests.clear()
    held = run("renew", "--all", "--json", config=apache.config)
    assert outcomes(held) == {NAMES[0]: "staged", **dict.fromkeys(NAMES[1:], "backing-off")}
    assert (held.exit_code, proxy.requests) == (0, [])
    done = run("renew", *NAMES[1:], "--json", config=apache.config)
    assert outcomes(done) == dict.fromkeys(NAMES[1:], "enrolled")
    assert asked(proxy, NEW_ORDER) == 0


def test_status_says_until_when_the_account_waits_and_why(told_to_wait: Apache) -> None:
    told_to_wait.write_site("four.example", managed_site("four.example"))
    row = run("status", "--json", config=told_to_wait.config).domain("four.example")
    until = datetime.fromisoformat(row["next_try"])
    assert timedelta(hours=2) < until - datetime.now(UTC) < timedelta(hours=3)
    assert "too many orders" in row["last_error"]["detail"]


def test_another_account_does_not_wait(told_to_wait: Apache, proxy: FaultingProxy) -> None:
    key = proxy.pebble.eab_keys["kid-2"]
    other = managed_site("four.example", settings=f"MDExternalAccountBinding kid-2 {key}\n")
    told_to_wait.write_site("four.example", other)
    done = run("renew", "--all", "--json", config=told_to_wait.config)
    assert done.domain("four.example")["outcome"] == "enrolled"


def test_a_named_domain_is_asked_for_though_its_account_waits(told_to_wait: Apache) -> None:
    done = run("renew", NAMES[1], "--json", config=told_to_wait.config)
    assert (done.exit_code, outcomes(done)) == (0, {NAMES[1]: "enrolled"})


# --- the account's contact -----------------------------------------------------------------------


def change_contact(apache: Apache, new: str) -> None:
    """Write another contact for all domains."""
    text = apache.config.read_text()
    assert "MDContactEmail hostmaster@example.org" in text
    apache.config.write_text(text.replace("hostmaster@example.org", new))


def test_a_new_contact_is_told_to_the_ca_once(apache: Apache, proxy: FaultingProxy) -> None:
    change_contact(apache, "security@example.org")
    assert run("renew", NAMES[1], config=apache.config).exit_code == 0
    (account,) = accounts_of(apache).values()
    assert account["contact"] == ["mailto:security@example.org"]
    path = str(account["url"]).partition(f":{proxy.port}")[2]
    assert [one.path for one in proxy.requests].count(path) == 1
    proxy.requests.clear()
    assert run("renew", NAMES[2], config=apache.config).exit_code == 0
    assert path not in [one.path for one in proxy.requests]


def test_a_contact_that_the_ca_refuses_holds_up_no_certificate(
    apache: Apache, proxy: FaultingProxy
) -> None:
    change_contact(apache, "nobody@refused.example")
    refused = problem(400, "invalidContact", "not this one")
    proxy.rules.append(Rule(refused, path="/my-account/"))
    done = run("renew", NAMES[1], config=apache.config)
    assert (done.exit_code, proxy.rules[0].hits) == (0, 1)
    assert "contact is still the old one: the CA refused: not this one" in done.stdout
    (account,) = accounts_of(apache).values()
    assert account["contact"] == ["mailto:hostmaster@example.org"]


def test_a_contact_that_cannot_be_told_holds_up_no_certificate(
    apache: Apache, proxy: FaultingProxy
) -> None:
    change_contact(apache, "security@example.org")
    proxy.rules.append(Rule(Canned(500, b""), path="/my-account/"))
    done = run("renew", NAMES[1], config=apache.config)
    assert (done.exit_code, proxy.rules[0].hits) == (0, 3)
    assert "contact may still be the old one: localhost answered HTTP 500" in done.stdout


# --- several CAs ---------------------------------------------------------------------------------


def test_the_second_ca_takes_over_and_success_leads_back_to_the_first(
    make_apache: Callable[..., Apache],
    make_pebble: Callable[..., Pebble],
    parts_folder: Path,
    counting_ca: Pebble,
) -> None:
    name, first = NAMES[0], make_pebble(always_valid=True, nonce_reject=0)
    both = parts_folder / "both-roots.pem"
    both.write_bytes(first.ca_file.read_bytes() + counting_ca.ca_file.read_bytes())
    urls = f"{first.directory_url} {counting_ca.directory_url}"
    lines = first.directives().replace(first.directory_url, urls)
    lines = lines.replace(str(first.ca_file), str(both)) + "MDRetryFailover 2\n"
    apache = make_apache(sites={name: managed_site(name)}, main_extra=lines)
    first.stop()
    for _ in range(2):
        failed = run("renew", name, "--json", config=apache.config)
        assert outcomes(failed) == {name: "failed"}
        assert f"localhost:{first.port}" in failed.output or "no answer" in failed.output
    before = counting_ca.certificates
    done = run("renew", name, "--json", config=apache.config)
    assert (done.exit_code, outcomes(done)) == (0, {name: "enrolled"}), done.output
    assert counting_ca.certificates == before + 1
    assert [one["ca-url"] for one in accounts_of(apache).values()] == [counting_ca.directory_url]
    staged = json.loads((apache.store / "staging" / name / "md.json").read_text())
    assert staged["ca"]["url"] == counting_ca.directory_url
    first.start()
    again = run("renew", name, "--force", "--json", config=apache.config)
    assert (again.exit_code, first.certificates) == (0, 1), again.output
    assert {one["ca-url"] for one in accounts_of(apache).values()} == set(urls.split())


def test_an_order_that_waits_at_the_second_ca_is_taken_up_there(
    make_apache: Callable[..., Apache], proxy: FaultingProxy
) -> None:
    name, gone = NAMES[0], f"https://localhost:{free_port()}/dir"
    lines = proxy.directives().replace(proxy.directory_url, f"{gone} {proxy.directory_url}")
    apache = make_apache(sites={name: managed_site(name)}, main_extra=f"{lines}MDRetryFailover 1\n")
    assert outcomes(run("renew", name, "--json", config=apache.config)) == {name: "failed"}
    slow = Substitute(rb'"status":\s*"valid"', b'"status": "processing"')
    proxy.rules.append(Rule(slow, path="/(my-order|finalize-order)/"))
    waits = run("renew", name, "--wait", "0", "--json", config=apache.config)
    assert outcomes(waits) == {name: "pending"}, waits.output
    proxy.rules.clear()
    proxy.requests.clear()
    done = run("renew", name, "--json", config=apache.config)
    assert outcomes(done) == {name: "enrolled"}, done.output
    assert asked(proxy, NEW_ORDER) == 0


def test_an_order_at_a_ca_that_another_one_stands_in_for_is_given_up_and_told_of(
    make_apache: Callable[..., Apache], make_pebble: Callable[..., Pebble], proxy: FaultingProxy
) -> None:
    name, second = NAMES[0], make_pebble(always_valid=True, nonce_reject=0)
    lines = proxy.directives().replace(
        proxy.directory_url, f"{proxy.directory_url} {second.directory_url}"
    )
    apache = make_apache(sites={name: managed_site(name)}, main_extra=f"{lines}MDRetryFailover 1\n")
    bundle = proxy.ca_file.read_bytes() + second.ca_file.read_bytes()
    proxy.ca_file.write_bytes(bundle)
    working = Substitute(rb'"status":\s*"valid"', b'"status": "processing"')
    proxy.rules.append(Rule(working, path="/(my-order|finalize-order)/"))
    waits = run("renew", name, "--wait", "0", "--json", config=apache.config)
    assert outcomes(waits) == {name: "pending"}
    url = run("status", "--json", config=apache.config).domain(name)["pending"]["order_url"]
    proxy.rules[:] = [Rule(Canned(403, b""), path="/my-order/"), Rule(Canned(500, b""))]
    assert outcomes(run("renew", name, "--json", config=apache.config)) == {name: "failed"}
    proxy.requests.clear()
    done = run("renew", name, config=apache.config)
    assert done.exit_code == 0, done.output
    assert (
        f"{name}: its order at {url} is given up for one at {second.directory_url}; " in done.stderr
    )
    assert (proxy.requests, second.certificates) == ([], 1)
    proxy.rules.clear()
    again = run("renew", name, "--force", config=apache.config)
    assert (again.exit_code, again.stderr, asked(proxy, NEW_ORDER)) == (0, "", 1), again.output
