"""A CA that is slow, loses answers, validates beforehand and takes each binding once.

What must never happen whatever such a CA does: a second finalize, a second certificate, a second
binding, or a domain that counts as failed though it only had to wait.
"""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from unittest import mock

import pytest

from mdconnector.acme import advice
from tests.e2e.behind_proxy import (
    ACCOUNT,
    ACME,
    AUTHORIZATION,
    BINDING,
    CERTIFICATE,
    CHALLENGE,
    FINALIZE,
    HASTY,
    LATER,
    ORDER,
    PROVEN,
    READ,
    SHORT_READ_TIMEOUT,
    SitesBehindProxy,
    problem,
)
from tests.e2e.command import Finished
from tests.parts import Canned, DropAfter, FaultingProxy, Hang, Late, Rewrite, Rule, Substitute

pytestmark = pytest.mark.pebble

A_DAY = "86400"
SECONDS_FOR_A_RUN = 60


@dataclass(slots=True)
class Counted:
    """What must not happen twice, counted at the CA itself from when this was made."""

    proxy: FaultingProxy

    def __post_init__(self) -> None:
        self._orders = self.proxy.pebble.orders
        self._certificates = self.proxy.pebble.certificates
        self._finalized = self._finalizations()

    _orders: int = 0
    _certificates: int = 0
    _finalized: int = 0

    def _finalizations(self) -> int:
        return self.proxy.pebble.log_text().count("Processing finalization")

    @property
    def all(self) -> tuple[int, int, int]:
        """Orders, finalizations, certificates."""
        ca = self.proxy.pebble
        return (
            ca.orders - self._orders,
            self._finalizations() - self._finalized,
            ca.certificates - self._certificates,
        )


ONE_OF_EACH = (1, 1, 1)


@pytest.fixture
def counted(proxy: FaultingProxy) -> Counted:
    return Counted(proxy)


def still_processing(path: str, **headers: str) -> Rule:
    """Let an order that is done look as if the CA were still at work on it."""
    return Rule(Substitute(rb'"status": "valid"', b'"status": "processing"', headers), path=path)


def outcome(done: Finished) -> str:
    return str(done.domain(PROVEN)["outcome"])


def staged_chain(sites: SitesBehindProxy) -> bytes:
    return (sites.store / "staging" / PROVEN / "pubcert.secp256r1.pem").read_bytes()


# --- the names are validated beforehand -----------------------------------------------------------


def test_ready_order_is_finalized_without_a_look_at_its_authorizations(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    done = sites.run("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert proxy.count(AUTHORIZATION) == 0
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (1, 1)


@pytest.mark.parametrize(
    "challenges",
    [b"", b'"challenges": [{"type": "sectigo-dns-01", "status": "valid"}],'],
    ids=["no challenges", "the vendor's own challenge without a token"],
)
def test_valid_authorization_needs_no_challenge_that_we_know(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted, challenges: bytes
) -> None:
    pending = Rule(Substitute(rb'"status": "ready"', b'"status": "pending"'), path=ORDER)
    odd = Rule(Substitute(rb'(?s)"challenges": \[.*?\],?', challenges), path=AUTHORIZATION)
    proxy.expect(pending, odd)
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert (pending.hits, odd.hits) == (1, 1)
    assert counted.all == ONE_OF_EACH


# --- finalize answers late, or not at all ---------------------------------------------------------


def test_finalize_that_answers_after_the_time_out_gives_its_certificate_in_the_same_run(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    late = Late()
    proxy.expect(Rule(late, path=FINALIZE))
    done = sites.run("enroll", PROVEN, "--json", command=HASTY)
    late.release.set()
    assert late.is_done.is_set()
    assert (done.exit_code, outcome(done)) == (0, "enrolled"), done.output
    assert (counted.all, proxy.count(FINALIZE)) == (ONE_OF_EACH, 1)


def test_finalize_that_answers_within_the_time_out_is_waited_for(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    late = Late()
    proxy.expect(Rule(late, path=FINALIZE))
    with sites.started("enroll", PROVEN) as process:
        assert late.is_done.wait(SECONDS_FOR_A_RUN)
        late.release.set()
        process.communicate(timeout=SECONDS_FOR_A_RUN)
    assert process.returncode == 0
    assert (counted.all, proxy.count(FINALIZE)) == (ONE_OF_EACH, 1)


def test_finalize_that_the_ca_never_heard_of_is_not_repeated_before_it_must_have_ended(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    """Between us and the CA it may still be on its way; only a later run sends it again."""
    lost = Rule(Hang(), path=FINALIZE, nth=1)
    proxy.expect(lost)
    for _ in range(2):
        done = sites.run("renew", "--all", "--wait", "1", "--json", command=HASTY)
        assert (done.exit_code, outcome(done)) == (0, "pending"), done.output
    assert (lost.hits, proxy.count(FINALIZE), counted.all) == (1, 1, (1, 0, 0))
    done = sites.here("renew", "--all", "--json", later=LATER)
    assert (done.exit_code, outcome(done)) == (0, "enrolled"), done.output
    assert (proxy.count(FINALIZE), counted.all) == (2, ONE_OF_EACH)


STEPS = {
    "order": ORDER,
    "authorization": AUTHORIZATION,
    "challenge": CHALLENGE,
    "finalize": FINALIZE,
    "chain": CERTIFICATE,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_run_that_is_killed_while_the_ca_answers_is_taken_up_by_the_next(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted, step: str
) -> None:
    name = PROVEN
    if step in (AUTHORIZATION, CHALLENGE):
        name = f"killed-{secrets.token_hex(6)}.example.org"
        sites.rename(name)
    late = Late()
    proxy.expect(Rule(late, path=step, nth=1))
    with sites.started("enroll", name) as process:
        assert late.is_done.wait(SECONDS_FOR_A_RUN)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    key = sites.note(name, "privkey.secp256r1.pem").read_bytes()
    late.release.set()
    done = sites.run("enroll", name)
    assert done.exit_code == 0, done.output
    assert counted.all == ONE_OF_EACH
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (1, 1)
    assert proxy.count(ACCOUNT, BINDING) == 0
    assert proxy.count(step) <= 2, "what was answered is asked for once more at most"
    assert sites.note(name, "privkey.secp256r1.pem").read_bytes() == key


def test_finalize_that_was_done_before_is_success(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    """The front end has sent it on twice: Sectigo then refuses what it has just done."""
    text = "Order's status (valid) is not acceptable for finalization"
    done_before = Rule(DropAfter(), path=FINALIZE, nth=1)
    looks_ready = Rule(
        Substitute(rb'"status": "(valid|processing)"', b'"status": "ready"'), path=READ, nth=1
    )
    refused = Rule(problem(403, ACME + "orderNotReady", text), path=FINALIZE)
    proxy.expect(done_before, looks_ready, refused)
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert (done_before.hits, looks_ready.hits) == (1, 1)
    assert counted.all == ONE_OF_EACH


# --- the certificate takes its time ---------------------------------------------------------------


def test_order_that_is_processing_over_three_runs_is_one_order_and_no_failure(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    rule = still_processing(f"{READ}|{FINALIZE}")
    proxy.expect(rule)
    for number in range(3):
        done = sites.run("-q", "renew", "--all", "--wait", "0", command=HASTY)
        assert (done.exit_code, done.output) == (0, ""), number
    assert rule.hits >= 3
    assert sites.run("status", "--json").domain(PROVEN)["pending"]["order_url"]
    named = sites.here("renew", PROVEN, "--wait", "0")
    assert named.exit_code == 5
    (line, *_) = named.stdout.splitlines()
    assert line.startswith(f"{PROVEN}: pending: the CA is still working on the order of ")
    assert line.endswith("; the next run takes it up")
    proxy.expect()
    done = sites.run("renew", "--all", "--json")
    assert (done.exit_code, outcome(done)) == (0, "enrolled"), done.output
    assert proxy.count(FINALIZE) == 0
    assert counted.all == ONE_OF_EACH


def test_order_that_is_stuck_holds_up_no_other(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """One at a time, and the one that is stuck comes first."""
    sites.add("zzz.example.org")

    def working(body: bytes) -> bytes:
        is_stuck = PROVEN.encode() in body
        return body.replace(b'"status": "valid"', b'"status": "processing"') if is_stuck else body

    rule = Rule(Rewrite(working), path=f"{READ}|{FINALIZE}")
    proxy.expect(rule)
    done = sites.here("renew", "--all", "--jobs", "1", "--wait", "2", "--json")
    assert {one["name"]: one["outcome"] for one in done.json["domains"]} == {
        PROVEN: "pending",
        "zzz.example.org": "enrolled",
    }
    assert rule.hits >= 4


@pytest.mark.parametrize(("warn_window", "exit_code"), [("10%", 0), ("95d", 1)])
def test_order_that_waits_is_a_failure_once_what_is_served_is_inside_the_warn_window(
    sites: SitesBehindProxy,
    proxy: FaultingProxy,
    counted: Counted,
    warn_window: str,
    exit_code: int,
) -> None:
    for command in ("enroll", "promote"):
        assert sites.here(command, PROVEN).exit_code == 0
    sites.add(PROVEN, {"MDRenewWindow": "95d", "MDWarnWindow": warn_window})
    rule = still_processing(f"{READ}|{FINALIZE}")
    proxy.expect(rule)
    done = sites.here("renew", "--all", "--wait", "0")
    assert (done.exit_code, rule.hits >= 1) == (exit_code, True), done.output
    assert f"{PROVEN}: pending: the CA is still working on the order of " in done.output
    assert counted.all == (2, 2, 2)


def test_order_that_waits_for_a_week_without_any_certificate_is_a_failure(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    proxy.expect(still_processing(f"{READ}|{FINALIZE}"))
    assert sites.here("renew", "--all", "--wait", "0").exit_code == 0
    done = sites.here("renew", "--all", "--wait", "0", later=timedelta(days=7, hours=1))
    assert done.exit_code == 1
    assert f"{PROVEN}: pending: the CA is still working on the order of " in done.output
    assert counted.all == ONE_OF_EACH


def test_waiting_time_of_a_day_does_not_keep_a_certificate_that_is_there(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted
) -> None:
    """Both while it works, and in the answer that says it is done."""
    working = Rule(
        Substitute(rb'"status": "valid"', b'"status": "processing"', {"Retry-After": A_DAY}),
        path=READ,
        nth=1,
    )
    told = Rule(Substitute(b"^", b"", {"Retry-After": A_DAY}), path=f"{READ}|{FINALIZE}|{ORDER}")
    proxy.expect(working, told)
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert (working.hits, told.hits >= 3) == (1, True)
    assert counted.all == ONE_OF_EACH


# --- orders that are not ours any more ------------------------------------------------------------


@pytest.fixture
def waiting(sites: SitesBehindProxy, proxy: FaultingProxy) -> SitesBehindProxy:
    """The sites with an order that an earlier run has left `ready` at the CA."""
    lost = Rule(Hang(), path=FINALIZE)
    proxy.expect(lost)
    done = sites.here("renew", "--all", "--wait", "0", "--json")
    assert (outcome(done), lost.hits) == ("pending", 1)
    proxy.expect()
    return sites


def test_order_of_another_account_is_forgotten_and_replaced_in_the_same_run_with_the_same_key(
    waiting: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    key = waiting.note(PROVEN, "privkey.secp256r1.pem").read_bytes()
    note = json.loads(waiting.note(PROVEN, "order.secp256r1.json").read_text())
    path = READ + note["url"].rpartition("/")[2]
    foreign = Rule(problem(401, ACME + "unauthorized", "not your order"), path=path)
    proxy.expect(foreign)
    counted = Counted(proxy)
    done = waiting.run("renew", "--all", "--json")
    assert (done.exit_code, outcome(done)) == (0, "enrolled"), done.output
    assert (foreign.hits, counted.all) == (2, ONE_OF_EACH)
    assert waiting.note(PROVEN, "privkey.secp256r1.pem").read_bytes() == key


# --- a binding that can be used once --------------------------------------------------------------

USED = "[External Account Binding] The account is not awaiting external account binding"
SECOND_BINDING = problem(400, ACME + "malformed", USED)


def test_binding_whose_answer_was_lost_is_not_spent_again(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    lost = Rule(DropAfter(), path=ACCOUNT, nth=1)
    once = Rule(SECOND_BINDING, path=ACCOUNT, payload=BINDING)
    proxy.expect(lost, once)
    done = new_sites.run("enroll", PROVEN, command=HASTY)
    assert done.exit_code == 0, done.output
    assert (lost.hits, proxy.count(ACCOUNT, BINDING)) == (1, 1)
    assert len(list((new_sites.store / "accounts").iterdir())) == 1


def test_run_that_is_killed_while_it_registers_does_not_cost_the_binding(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    late = Late()
    once = Rule(SECOND_BINDING, path=ACCOUNT, payload=BINDING, after=1)
    proxy.expect(Rule(late, path=ACCOUNT, nth=1), once)
    with new_sites.started("enroll", PROVEN) as process:
        assert late.is_done.wait(SECONDS_FOR_A_RUN)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    late.release.set()
    ((_, key),) = [one for one in new_sites.account().items() if one[0].endswith("key.pem")]
    assert b"PRIVATE KEY" in key, "the key was not durable before the CA heard of it"
    done = new_sites.run("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert proxy.count(ACCOUNT, BINDING) == 1


def test_front_end_that_counts_our_own_registration_as_the_first_one_finds_the_account(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """The binding is refused as used, but it was used with the key that we hold."""
    taken = Rule(DropAfter(), path=ACCOUNT, nth=1)
    unknown = Rule(
        problem(400, ACME + "accountDoesNotExist", "not yet"), path=ACCOUNT, nth=1, payload="only"
    )
    refused = Rule(SECOND_BINDING, path=ACCOUNT, payload=BINDING)
    proxy.expect(taken, unknown, refused)
    done = new_sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert (taken.hits, unknown.hits, refused.hits) == (1, 1, 1)


def test_binding_that_was_used_with_another_key_says_what_to_do_and_is_not_tried_again(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    refused = Rule(SECOND_BINDING, path=ACCOUNT, payload=BINDING)
    proxy.expect(refused)
    done = new_sites.run("renew", "--all")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert f"{PROVEN}: failed: the CA refused: {USED} (malformed, HTTP 400); " in line
    assert "was used before, with another account key: create a new ACME account" in line
    assert f"then: mdconnector renew {PROVEN}" in line
    assert refused.hits == 1
    kept = new_sites.account()
    again = new_sites.here("renew", "--all", "--json", later=timedelta(hours=3))
    assert (again.exit_code, outcome(again)) == (0, "backing-off")
    assert proxy.count(ACCOUNT, BINDING) == 1
    assert new_sites.account() == kept, "the key that may have been registered is gone"


# --- what the CA is known to answer ---------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """An answer that this CA is known for, where it comes, and what is said of it."""

    path: str
    status: int
    kind: str
    detail: str
    says: str
    payload: str = ""


KNOWN = {
    "kid unknown": Known(
        ACCOUNT,
        400,
        ACME + "malformed",
        "[External Account Binding] The Key Identifier was not recognized",
        "the CA does not know the key ID: compare MDExternalAccountBinding",
    ),
    "no binding": Known(
        ACCOUNT,
        400,
        ACME + "externalAccountRequired",
        'The request must include a value for the "externalAccountBinding" field',
        "with the key ID and HMAC key of the ACME account in SCM, and see that MDContactEmail",
    ),
    "empty malformed": Known(
        ORDER,
        400,
        ACME + "malformed",
        "",
        "the CA gave no reason: see in SCM whether the account may order it",
    ),
    "not delegated": Known(
        ORDER,
        403,
        ACME + "rejectedIdentifier",
        f"A requested identifier has not been delegated [{PROVEN}]",
        "SCM > Domains > Delegate (for a wildcard both example.org and *.example.org)",
    ),
    "two organisations": Known(
        ORDER,
        400,
        ACME + "malformed",
        "The identifiers are not all linked to the same preauthorized Subject organization name",
        "give each organisation's names an MDomain of its own",
    ),
    "suspended": Known(
        ORDER,
        401,
        ACME + "unauthorized",
        "The account is currently suspended",
        "nothing more is asked of it in this run: see SCM > ACME accounts",
    ),
    "no product": Known(
        ORDER,
        401,
        ACME + "unauthorized",
        "No suitable certificate product is currently available to this account",
        "see the certificate profile of the ACME account in SCM, and MDProfile",
    ),
    "subscription": Known(
        FINALIZE,
        403,
        "urn:sectigo:params:acme:error:insufficientBalance",
        "The balance is too low",
        "see balance, credit limit, expiry and the domains of the plan in SCM",
    ),
}


@pytest.fixture
def in_scm() -> Iterator[None]:
    """Let the CA's host be one of Sectigo's."""
    with mock.patch.object(advice, "is_sectigo", return_value=True):
        yield


@pytest.mark.usefixtures("in_scm")
@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_answer_that_the_ca_is_known_for_is_told_in_its_own_words_with_what_to_do(
    sites: SitesBehindProxy, new_sites: SitesBehindProxy, proxy: FaultingProxy, known: Known
) -> None:
    place = new_sites if known.path == ACCOUNT else sites
    rule = Rule(problem(known.status, known.kind, known.detail), path=known.path)
    proxy.expect(rule)
    counted = Counted(proxy)
    done = place.here("renew", "--all")
    assert (done.exit_code, rule.hits) == (1, 1)
    (line,) = done.stderr.splitlines()
    words = known.detail or "no reason given"
    kind = known.kind.rpartition(":")[2]
    assert line.startswith(
        f"{PROVEN}: failed: the CA refused: {words} ({kind}, HTTP {known.status}); "
    )
    assert known.says in line
    assert f"; then: mdconnector renew {PROVEN}; next try " in line
    assert counted.all[1:] == (0, 0)


@pytest.mark.usefixtures("in_scm")
def test_name_that_was_not_validated_beforehand_is_to_be_validated_in_scm_and_its_order_is_kept(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    sites.rename("unproven.example.org")
    vendors = Rule(
        Substitute(rb'"type": "(http|dns|tls-alpn)-01"', b'"type": "sectigo-email-01"'),
        path=AUTHORIZATION,
    )
    proxy.expect(vendors)
    done = sites.here("renew", "--all")
    assert (done.exit_code, vendors.hits) == (1, 1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("unproven.example.org: failed: unproven.example.org cannot be proved")
    assert "it offers sectigo-email-01, sectigo-email-01, sectigo-email-01; " in line
    assert "; validate this domain in SCM, or make one of these challenges possible; " in line
    assert "; then: mdconnector renew unproven.example.org; next try " in line
    proxy.expect()
    assert sites.here("renew", "unproven.example.org").exit_code == 0
    assert proxy.count(ORDER) == 0, "the order that an administrator has made ready is taken up"


@pytest.mark.parametrize("path", [ORDER, FINALIZE], ids=["newOrder", "finalize"])
def test_internal_error_of_the_ca_is_transient_and_the_next_run_makes_one_certificate(
    sites: SitesBehindProxy, proxy: FaultingProxy, counted: Counted, path: str
) -> None:
    if path == ORDER:
        sites.rename("trouble.example.org")  # of its own: lost orders are looked for by their names
    trouble = Rule(problem(500, ACME + "serverInternal", "Internal error"), path=path)
    proxy.expect(trouble)
    first = sites.here("renew", "--all", "--wait", "0")
    assert trouble.hits >= 1
    if path == ORDER:
        assert first.exit_code == 1
        assert "answered HTTP 500 while placing the order: Internal error" in first.stderr
        assert "the next run tries again" in first.stderr
    else:
        assert first.exit_code == 0, "the CA may be at work on it"
        assert trouble.hits == 1
    proxy.expect()
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, done.output
    assert counted.all == ONE_OF_EACH


def test_suspended_account_is_asked_once_for_all_its_domains(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """One message each run, not one for each domain."""
    for name in ("two.example.org", "three.example.org"):
        sites.add(name)
    text = "The account is currently suspended"
    suspended = Rule(problem(401, ACME + "unauthorized", text), path=ORDER)
    proxy.expect(suspended)
    done = sites.run("renew", "--all", "--jobs", "1")
    assert (done.exit_code, suspended.hits) == (1, 1)
    (line,) = done.stderr.splitlines()
    assert line.count(text) == 1
    assert " and 2 more: failed: " in line


def test_times_are_those_that_slow_cas_need() -> None:
    """What the tests make short, as it is in real life."""
    from mdconnector.acme import session

    assert session.READ_TIMEOUT_SECONDS == 180 > SHORT_READ_TIMEOUT
    assert session.CONNECT_TIMEOUT_SECONDS == 15


def test_certificate_that_the_ca_had_made_before_for_another_key_is_never_staged(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """Equal names may give an old certificate."""
    assert sites.here("enroll", PROVEN).exit_code == 0
    old = staged_chain(sites)
    proxy.expect(
        Rule(
            Canned(200, old, {"Content-Type": "application/pem-certificate-chain"}),
            path=CERTIFICATE,
        )
    )
    done = sites.here("renew", PROVEN, "--force")
    assert done.exit_code == 1
    assert "does not belong to its private key" in done.stderr
    assert staged_chain(sites) == old
