"""The fault matrix, rows C4 and E4: an account or an order that is not where it was, or never was.

Rules: the next run ends well, no key is lost, no binding is spent twice, and no certificate ordered
twice where the first can be had. Each test proves by the rule's hits that the lie was told.
"""

from __future__ import annotations

import json
import secrets

import pytest

from tests.e2e.behind_proxy import (
    ACCOUNT,
    BINDING,
    CERTIFICATE,
    LATER,
    ORDER,
    PROVEN,
    READ,
    SitesBehindProxy,
    failure,
    problem,
)
from tests.parts import Canned, FaultingProxy, Hang, Rule, Substitute

pytestmark = pytest.mark.pebble

EC_KEY = "privkey.secp256r1.pem"
WITHIN = {
    "nothing is there": "/my-order/none",
    "the directory is there": "/dir",
    "it is newOrder's own": " ",
}
ELSEWHERE = {
    "it is another port's": "https://localhost:1/my-order/1",
    "it is no URL": "https://[::1",
}
MALFORMED = problem(400, "malformed", "what is this")


def lie(path: str, location: str) -> Rule:
    """Let the first answer of a path name another address for what it made."""
    return Rule(Substitute(b"^", b"", {"Location": location}), path=path, nth=1)


def account_urls(sites: SitesBehindProxy) -> list[str]:
    """Return the addresses of the stored accounts that count."""
    files = (sites.store / "accounts").glob("*/account.json")
    accounts = [json.loads(file.read_text()) for file in files]
    return [one["url"] for one in accounts if one["status"] == "valid"]


def saved_order(sites: SitesBehindProxy, proxy: FaultingProxy, path: str) -> str:
    """Leave an order whose requests to a path were not answered; return its address's path."""
    proxy.expect(Rule(Hang(), path=path))
    assert "pending" in sites.here("renew", "--all", "--wait", "0").stdout
    order = json.loads(sites.note(PROVEN, "order.secp256r1.json").read_text())
    return str(order["url"]).partition(f":{proxy.port}")[2]


# --- orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", WITHIN.values(), ids=WITHIN)
def test_matrix_e4_order_that_was_finalized_is_taken_up_where_finalize_says_it_is(
    sites: SitesBehindProxy, proxy: FaultingProxy, location: str
) -> None:
    rule = lie(ORDER, location)
    proxy.expect(rule)
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert rule.hits == 1
    assert (proxy.pebble.orders - orders, proxy.pebble.certificates - certificates) == (1, 1)


@pytest.mark.parametrize("location", ELSEWHERE.values(), ids=ELSEWHERE)
def test_matrix_e4_order_at_an_address_of_others_is_not_finalized(
    sites: SitesBehindProxy, proxy: FaultingProxy, location: str
) -> None:
    rule = lie(ORDER, location)
    proxy.expect(rule)
    certificates = proxy.pebble.certificates
    failure(sites.here("renew", "--all"))
    assert (rule.hits, proxy.pebble.certificates) == (1, certificates)
    key = sites.note(PROVEN, EC_KEY).read_bytes()
    sites.heals()
    assert proxy.count(ORDER) == 0, "the account's list of orders has it"
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key


@pytest.mark.parametrize("location", WITHIN.values(), ids=WITHIN)
def test_matrix_e4_pending_order_that_is_not_there_is_replaced_by_the_next_run(
    sites: SitesBehindProxy, proxy: FaultingProxy, location: str
) -> None:
    name = f"fresh-{secrets.token_hex(6)}.example.org"
    sites.rename(name)
    rule = lie(ORDER, location)
    proxy.expect(rule)
    orders = proxy.pebble.orders
    failure(sites.here("renew", "--all", "--wait", "5"), name)
    assert (rule.hits, proxy.pebble.orders - orders) == (1, 1), "one order in a run at most"
    key = sites.note(name, EC_KEY).read_bytes()
    sites.heals(name)
    assert sites.note(name, EC_KEY).read_bytes() == key
    assert proxy.count(ACCOUNT, BINDING) == 0


@pytest.mark.parametrize(
    "answer",
    [problem(404, "malformed", "no such order"), MALFORMED, Canned(200, b"<html>")],
    ids=["404", "malformed", "a page"],
)
def test_matrix_e4_order_that_the_ca_mislays_once_is_kept(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned
) -> None:
    path = saved_order(sites, proxy, r"^/finalize-order/")
    mislaid = Rule(answer, path=path, nth=1)
    proxy.expect(mislaid)
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, done.output
    assert (mislaid.hits, proxy.count(ORDER)) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        MALFORMED,
        Canned(400, b"<html>"),
        Canned(405, b""),
        Canned(200, b"<html>"),
        Substitute(PROVEN.encode(), b"evil.example.net"),
    ],
    ids=["malformed", "400", "405", "a page", "an order for other names"],
)
def test_matrix_e4_order_that_is_not_there_any_more_is_replaced_in_the_same_run(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned | Substitute
) -> None:
    path = saved_order(sites, proxy, r"^/finalize-order/")
    key = sites.note(PROVEN, EC_KEY).read_bytes()
    gone = Rule(answer, path=path)
    proxy.expect(gone)
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, done.output
    assert (gone.hits, proxy.count(ORDER), proxy.count(ACCOUNT, BINDING)) == (2, 1, 0)
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key


@pytest.mark.parametrize("answer", [MALFORMED, Canned(200, b"<html>")], ids=["malformed", "page"])
def test_matrix_e4_ca_that_answers_the_same_to_everything_loses_us_no_order(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned
) -> None:
    saved_order(sites, proxy, r"^/finalize-order/")
    note = sites.note(PROVEN, "order.secp256r1.json").read_bytes()
    same = Rule(answer, method="POST")
    proxy.expect(same)
    failure(sites.here("renew", "--all", later=LATER))
    assert same.hits == 2, "the order, and the account"
    assert sites.note(PROVEN, "order.secp256r1.json").read_bytes() == note
    sites.heals()
    assert proxy.count(ORDER) == 0


LOST = pytest.mark.parametrize(
    "answer",
    [problem(404, "malformed", "no such certificate"), MALFORMED, Canned(200, b"<html>")],
    ids=["404", "malformed", "a page"],
)


def lose_the_certificate(sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned) -> Rule:
    """Order one, and have the CA answer otherwise where it should be."""
    rule = Rule(answer, path=CERTIFICATE)
    proxy.expect(rule)
    failure(sites.here("renew", "--all"))
    assert rule.hits
    return rule


@LOST
def test_certificate_that_stays_lost_is_ordered_anew_with_the_same_key(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned
) -> None:
    orders = proxy.pebble.orders
    rule = lose_the_certificate(sites, proxy, answer)
    order, key = sites.note(PROVEN, "order.secp256r1.json"), sites.note(PROVEN, EC_KEY).read_bytes()
    assert order.exists(), "the next run may find it"
    hits = rule.hits
    line = failure(sites.here("renew", PROVEN))
    assert "its order is given up" in line
    assert (rule.hits > hits, order.exists(), proxy.pebble.orders - orders) == (True, False, 1)
    sites.heals()
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key
    assert proxy.pebble.orders - orders == 2


@LOST
def test_certificate_that_is_mislaid_in_one_run_is_fetched_by_the_next(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned
) -> None:
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    lose_the_certificate(sites, proxy, answer)
    sites.heals()
    assert (proxy.pebble.orders - orders, proxy.pebble.certificates - certificates) == (1, 1)


def test_certificate_behind_a_ca_in_disorder_is_asked_for_until_it_comes(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(Canned(503, b""), path=CERTIFICATE)
    proxy.expect(rule)
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    for hours in (0, 1, 10):
        hits = rule.hits
        sites.here("renew", "--all", later=hours * LATER)
        assert rule.hits > hits
    sites.heals()
    assert (proxy.pebble.orders - orders, proxy.pebble.certificates - certificates) == (1, 1)


def test_matrix_e4_ca_that_mislays_every_order_is_asked_for_one_in_a_run(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    name = f"fresh-{secrets.token_hex(6)}.example.org"
    sites.rename(name)
    gone = Rule(problem(404, "malformed", "no such order"), path=READ)
    for _ in range(2):
        proxy.expect(gone)
        failure(sites.here("renew", name, "--wait", "5"), name)
        assert proxy.count(ORDER) == 1
    sites.heals(name)


# --- accounts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    ["/my-account/none", "/none", "https://localhost:1/my-account/1"],
    ids=["no account's", "not an account's", "another port's"],
)
def test_matrix_c4_account_with_a_false_address_is_found_by_its_key(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, location: str
) -> None:
    rule = lie(ACCOUNT, location)
    proxy.expect(rule)
    done = new_sites.here("renew", "--all")
    assert done.exit_code == 0, done.output
    assert (rule.hits, proxy.count(ACCOUNT, BINDING)) == (1, 1)
    (url,) = account_urls(new_sites)
    assert url.startswith(f"https://localhost:{proxy.port}/my-account/")
    assert not url.endswith("none")


def test_matrix_c4_account_with_a_false_address_takes_up_its_order(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """One that was restored from a backup, say, of another host."""
    saved_order(sites, proxy, r"^/finalize-order/")
    (file,) = (sites.store / "accounts").glob("*/account.json")
    (url,) = account_urls(sites)
    file.write_text(file.read_text().replace(url, f"https://localhost:{proxy.port}/none"))
    proxy.expect()
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, done.output
    assert (proxy.count(ORDER), proxy.count(ACCOUNT, BINDING)) == (0, 0)
    assert account_urls(sites) == [url]


@pytest.mark.parametrize(
    "answer",
    [MALFORMED, problem(400, "accountDoesNotExist", "who are you")],
    ids=["malformed", "unknown"],
)
def test_matrix_c4_account_that_the_ca_does_know_is_asked_for_once_and_not_registered_again(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned
) -> None:
    sites.add("second.example.org")
    refused = Rule(answer, path=ORDER)
    proxy.expect(refused)
    before = sites.account()
    assert sites.here("renew", "--all").exit_code == 1
    assert (refused.hits, proxy.count(ACCOUNT), proxy.count(ACCOUNT, BINDING)) == (2, 1, 0)
    assert sites.account() == before
