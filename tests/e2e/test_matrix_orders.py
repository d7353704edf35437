"""The fault matrix, rows E to H: what can go wrong with an order, from newOrder to its certificate.

Each test names its row, and proves by the rule's hits that its fault was really there.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

import pytest

from tests.e2e.behind_proxy import (
    ACME,
    AUTHORIZATION,
    CHALLENGE,
    FINALIZE,
    LATER,
    ORDER,
    PROVEN,
    READ,
    SitesBehindProxy,
    failure,
    problem,
    unwritable,
)
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.e2e.snapshot import snapshot
from tests.parts import (
    Canned,
    DropAfter,
    FaultingProxy,
    Hang,
    Late,
    Pebble,
    Reset,
    Rule,
    Substitute,
    free_port,
    wait_until,
)

pytestmark = pytest.mark.pebble

SECONDS_FOR_A_RUN = 60
NONCE = r"^/nonce-plz$"
EC_KEY = "privkey.secp256r1.pem"


def becomes(path: str, status: str, *, was: str = "[a-z]+", nth: int | None = None) -> Rule:
    """Change the status that an order or an authorization shows."""
    change = Substitute(rf'"status": "{was}"'.encode(), f'"status": "{status}"'.encode())
    return Rule(change, path=path, nth=nth)


def challenge_files(sites: PlainSites) -> list[str]:
    """Return all files below challenges/."""
    folder = sites.store / "challenges"
    return [str(one.relative_to(folder)) for one in folder.rglob("*") if not one.is_dir()]


@pytest.fixture
def fresh(sites: SitesBehindProxy) -> str:
    """The one domain, by a name that the CA has never heard of: its order comes `pending`."""
    name = f"fresh-{secrets.token_hex(6)}.example.org"
    sites.rename(name)
    return name


# --- E: newOrder ----------------------------------------------------------------------------------


def test_matrix_e2_one_refused_name_fails_and_all_others_go_on(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    sites.add("shop.refused.example")
    done = sites.here("renew", "--all")
    line = failure(done, "shop.refused.example")
    assert "(rejectedIdentifier, HTTP 400)" in line
    assert f"{PROVEN}: enrolled: " in done.stdout


def test_matrix_e2_compound_problem_names_each_part(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    parts = [
        {
            "type": ACME + "caa",
            "detail": "CAA forbids it",
            "identifier": {"type": "dns", "value": "one.example.org"},
        },
        {
            "type": ACME + "rejectedIdentifier",
            "detail": "not yours",
            "identifier": {"type": "dns", "value": "two.example.org"},
        },
    ]
    rule = Rule(problem(403, "compound", "two errors", subproblems=parts), path=ORDER)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert "two errors; one.example.org: CAA forbids it; two.example.org: not yours" in line
    assert rule.hits == 1
    sites.heals()


def test_matrix_e2_malformed_order_is_not_repeated(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(problem(400, "malformed", "what is this"), path=ORDER)
    proxy.expect(rule)
    assert "what is this (malformed, HTTP 400)" in failure(sites.here("renew", "--all"))
    assert rule.hits == 1
    sites.heals()


def test_matrix_e3_order_for_other_names_is_given_up(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(Substitute(PROVEN.encode(), b"evil.example.net"), path=ORDER)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert f"an order for other names: evil.example.net instead of {PROVEN}" in line
    assert (rule.hits, proxy.count(FINALIZE)) == (1, 0)
    sites.heals()


GONE = {
    "404 with an empty body": Canned(404, b"", {"Content-Type": ""}),
    "404": problem(404, "malformed", "no such order"),
    "401 another account's": problem(401, "unauthorized", "not yours"),
    "403 another account's": problem(403, "unauthorized", "not yours"),
    "invalid": Substitute(rb'"status": "ready"', b'"status": "invalid"'),
    "expired": Substitute(rb'"status": "ready"', b'"status": "expired"'),
}


@pytest.mark.parametrize("answer", GONE.values(), ids=GONE)
def test_matrix_e4_saved_order_that_is_gone_is_replaced_in_the_same_run_with_the_same_key(
    sites: SitesBehindProxy, proxy: FaultingProxy, answer: Canned | Substitute
) -> None:
    proxy.expect(Rule(Hang(), path=FINALIZE))
    assert "pending" in sites.here("renew", "--all", "--wait", "0").stdout
    key = sites.note(PROVEN, EC_KEY).read_bytes()
    note = json.loads(sites.note(PROVEN, "order.secp256r1.json").read_text())
    gone = Rule(answer, path=READ + note["url"].rpartition("/")[2])
    proxy.expect(gone)
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    done = sites.here("renew", "--all")
    assert done.exit_code == 0, done.output
    assert gone.hits >= 1
    assert proxy.pebble.orders - orders == 1
    assert proxy.pebble.certificates - certificates == 1
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key


@pytest.mark.parametrize("days", [-1, -40, -20000])
def test_matrix_e5_clock_behind_every_certificate_renews_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy, days: int
) -> None:
    for command in ("enroll", "promote"):
        assert sites.here(command, "--all").exit_code == 0
    proxy.expect()
    done = sites.here("renew", "--all", later=timedelta(days=days))
    assert (done.exit_code, proxy.requests) == (0, [])
    assert f"{PROVEN}: current: " in done.stdout


def ca_clock(at: timedelta) -> Rule:
    """Let the CA's clock show another time than ours."""
    date = format_datetime(datetime.now(UTC) + at, usegmt=True)
    return Rule(Substitute(b"^", b"", {"Date": date}), path=NONCE)


@pytest.mark.parametrize("days", [-40, -1, 1, 40, 27000])
def test_matrix_e5_nothing_is_ordered_by_a_clock_that_differs_from_the_ca_s(
    sites: SitesBehindProxy, proxy: FaultingProxy, days: int
) -> None:
    """Not one of many domains, with one line for all."""
    sites.add("second.example.org")
    rule = ca_clock(timedelta())
    proxy.expect(rule)
    done = sites.here("renew", "--all", later=timedelta(days=days))
    assert (done.exit_code, rule.hits >= 1, proxy.count(ORDER)) == (1, True, 0)
    (line,) = done.stderr.splitlines()
    assert " and 1 more: failed: " in line
    word = "ahead of" if days > 0 else "behind"
    assert f"this host's clock is {word} the one of localhost by more than an hour" in line
    assert "timedatectl" in line
    proxy.expect()
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, "what was noted by the wrong clock keeps it waiting"
    assert done.stdout.count(": enrolled: ") == 2


def test_matrix_e5_small_difference_of_the_clocks_is_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = ca_clock(timedelta(minutes=50))
    proxy.expect(rule)
    assert sites.here("renew", "--all").exit_code == 0
    assert rule.hits == 1


def test_matrix_e5_force_orders_by_the_clock_as_it_is(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """It may be the CA's clock that is wrong."""
    rule = ca_clock(timedelta(days=3))
    proxy.expect(rule)
    assert "the clock" in failure(sites.here("renew", PROVEN))
    assert sites.here("renew", PROVEN, "--force").exit_code == 0
    assert rule.hits == 2


# --- F: authorizations and challenges -------------------------------------------------------------


@pytest.mark.parametrize("status", ["invalid", "deactivated", "expired", "revoked"])
def test_matrix_f1_authorization_that_is_dead_fails_its_domain(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, status: str
) -> None:
    dead = Rule(
        Substitute(rb'"status": "pending"', f'"status": "{status}"'.encode()), path=AUTHORIZATION
    )
    proxy.expect(dead)
    line = failure(sites.here("renew", "--all", "--wait", "5"), fresh)
    assert f"the authorization of {fresh} is {status}" in line
    assert (dead.hits >= 1, proxy.count(CHALLENGE)) == (True, 0)
    assert challenge_files(sites) == []
    sites.heals(fresh)


def test_matrix_f1_unknown_status_is_an_error_that_names_it(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    odd = becomes(AUTHORIZATION, "sleeping")
    proxy.expect(odd)
    line = failure(sites.here("renew", "--all"), fresh)
    assert "the CA's authorization has the unknown status 'sleeping'" in line
    assert odd.hits == 1
    sites.heals(fresh)


def test_matrix_f1_no_challenge_that_can_be_done_says_what_was_offered(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    vendors = Rule(
        Substitute(rb'"type": "(http|dns|tls-alpn)-01"', b'"type": "sectigo-email-01"'),
        path=AUTHORIZATION,
    )
    proxy.expect(vendors)
    line = failure(sites.here("renew", "--all"), fresh)
    assert f"{fresh} cannot be proved to the CA: it offers sectigo-email-01, " in line
    assert "validate this domain in the CA's portal" in line
    assert (vendors.hits, proxy.count(CHALLENGE)) == (1, 0)
    sites.heals(fresh)


def test_matrix_f1_authorization_that_is_valid_already_is_not_proved_again(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    pending = becomes(ORDER, "pending", was="ready")
    proxy.expect(pending)
    assert sites.here("enroll", PROVEN).exit_code == 0
    assert (pending.hits, proxy.count(AUTHORIZATION), proxy.count(CHALLENGE)) == (1, 1, 0)


HOSTILE_TOKENS = {
    "path": b"../../../../tmp/evil-token-that-is-long-enough",
    "absolute": b"/etc/cron.d/evil-token-that-is-long-enough",
    "short": b"abc",
    "empty": b"",
    "line break": b"evil-token-that-is-long-enough\\nX: y",
    "NUL": b"evil-token-that-is-long-enough\\u0000",
    "one megabyte": b"a" * 2**20,
}


@pytest.mark.parametrize("token", HOSTILE_TOKENS.values(), ids=HOSTILE_TOKENS)
def test_matrix_f2_hostile_token_is_refused_and_nothing_is_written(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, token: bytes
) -> None:
    text = b'"token": "' + token + b'"'
    rule = Rule(Substitute(rb'"token": "[^"]*"', text.replace(b"\\", b"\\\\")), path=AUTHORIZATION)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"), fresh)
    assert ("token" in line) != (len(token) == 2**20)
    assert ("more than 262144 bytes" in line) == (len(token) == 2**20)
    assert len(line) < 2000
    assert (rule.hits, proxy.count(CHALLENGE), challenge_files(sites)) == (1, 0, [])
    sites.heals(fresh)


def test_matrix_f2_authorization_that_comes_twice_is_refused(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    twice = Rule(
        Substitute(rb'(?s)"authorizations": \[\s*("[^"]*")', rb'"authorizations": [\1, \1'),
        path=ORDER,
    )
    proxy.expect(twice)
    line = failure(sites.here("renew", "--all"), fresh)
    assert f"the CA asks twice for a proof of {fresh}" in line
    assert (twice.hits, proxy.count(CHALLENGE), challenge_files(sites)) == (1, 0, [])


@pytest.mark.parametrize("what", ["link", "file"])
def test_matrix_f3_entry_in_place_of_the_challenge_folder_is_neither_followed_nor_removed(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, parts_folder: Path, what: str
) -> None:
    victim = parts_folder / "victim"
    victim.mkdir()
    place = sites.store / "challenges" / fresh
    place.parent.mkdir(exist_ok=True)
    if what == "link":
        place.symlink_to(victim)
    else:
        place.write_text("in the way")
    before = snapshot(victim)
    line = failure(sites.here("renew", "--all"), fresh)
    assert str(place) in line
    assert proxy.count(CHALLENGE) == 0
    assert snapshot(victim) == before
    assert place.is_symlink() or place.read_text() == "in the way"
    place.unlink()
    sites.heals(fresh)


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_matrix_f3_challenge_that_cannot_be_written_fails_its_domain_with_the_path(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, error: int
) -> None:
    with unwritable("/challenges/", error) as tried:
        line = failure(sites.here("renew", "--all"), fresh)
    assert tried
    assert f"{sites.store}/challenges/{fresh}" in line
    assert os.strerror(error).lower() in line.lower()
    assert (proxy.count(CHALLENGE), challenge_files(sites)) == (0, [])
    sites.heals(fresh)


@pytest.mark.parametrize("moment", ["before the CA hears of it", "after"])
def test_matrix_f4_run_killed_at_a_challenge_leaves_no_file_after_the_next_one(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, moment: str
) -> None:
    late = Late()
    at_the_ca = Rule(late if moment == "after" else Hang(), path=CHALLENGE, nth=1)
    proxy.expect(at_the_ca)
    kept = sites.store / "challenges" / fresh / "somebody-else.txt"
    with sites.started("enroll", fresh) as process:
        if moment == "after":
            assert late.is_done.wait(SECONDS_FOR_A_RUN)
        else:
            wait_until(lambda: at_the_ca.hits > 0, "the challenge to be answered")
        kept.write_text("not ours")
        process.kill()
        assert process.wait() == -signal.SIGKILL
    late.release.set()
    assert f"{fresh}/acme-http-01.txt" in challenge_files(sites)
    sites.heals(fresh)
    assert challenge_files(sites) == [f"{fresh}/somebody-else.txt"]


class _Stranger(BaseHTTPRequestHandler):
    """Answers every question with a page of its own."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"It works!")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def stranger_on(port: int) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", port), _Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_matrix_f5_challenge_that_another_server_answers_is_not_posted(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    port = free_port()
    sites.write("00-all", f"MDRenewMode manual\nListen 127.0.0.1:{port}\nMDPortMap http:{port}\n")
    with stranger_on(port):
        line = failure(sites.here("renew", "--all"), fresh)
    assert f"http://{fresh}/.well-known/acme-challenge/" in line
    assert f"on 127.0.0.1:{port} is answered by something else: 'It works!'" in line
    assert (proxy.count(AUTHORIZATION), proxy.count(CHALLENGE)) == (1, 0)
    assert challenge_files(sites) == []
    sites.heals(fresh)


def test_matrix_f6_failed_validation_backs_off_and_makes_no_new_order(
    new_sites: SitesBehindProxy, validating_ca: Pebble
) -> None:
    """Nobody listens where this CA comes to validate."""
    new_sites.write(PROVEN, ssl_site(PROVEN, settings_for(validating_ca)))
    with validating_ca.recorded() as requests:
        line = failure(new_sites.here("renew", "--all"))
    assert f"{PROVEN}: " in line.removeprefix(f"{PROVEN}: failed: ")
    assert "(connection, HTTP 400)" in line
    assert "; next try " in line
    assert [one.resource for one in requests].count("/order-plz") >= 1
    assert challenge_files(new_sites) == []
    with validating_ca.recorded() as requests:
        done = new_sites.here("renew", "--all")
    assert (done.exit_code, requests) == (0, [])
    assert f"{PROVEN}: backing-off: " in done.stdout


def test_matrix_f6_words_of_a_failed_validation_are_made_safe(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    error = rb'"status": "invalid", "error": {"type": "x", "detail": "\\u001b[31mred\\u0007"}'
    rule = Rule(Substitute(rb'"status": "[a-z]+"', error), path=READ)
    proxy.expect(rule)
    done = sites.here("renew", "--all")
    assert "red" in failure(done, fresh)
    assert "\x1b" not in done.output
    assert "\x07" not in done.output
    assert rule.hits == 1


def test_matrix_f6_authorization_that_stays_pending_is_waited_for_until_the_deadline(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    rule = becomes(READ, "pending")
    proxy.expect(rule)
    done = sites.here("enroll", fresh, "--wait", "1.5")
    assert done.exit_code == 5
    assert f"{fresh}: pending: the CA is still working on the order of " in done.stdout
    assert rule.hits >= 2
    assert proxy.count(CHALLENGE) == 1
    sites.heals(fresh)


# --- G: the key, the request, finalize ------------------------------------------------------------


def test_matrix_g1_request_is_never_sent_for_a_key_that_is_not_durable(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    real, failed = os.fsync, []

    def fsync(handle: int) -> None:
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        if f"/pending/{PROVEN}" in path and "set" not in Path(path).name:
            failed.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    with mock.patch.object(os, "fsync", fsync):
        line = failure(sites.here("renew", "--all"))
    assert failed
    assert f"{sites.store}/mdconnector/pending/{PROVEN}" in line
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (0, 0)
    sites.heals()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_matrix_g1_request_is_never_sent_for_a_key_that_cannot_be_written(
    sites: SitesBehindProxy, proxy: FaultingProxy, error: int
) -> None:
    with unwritable(f"/pending/{PROVEN}/", error) as tried:
        line = failure(sites.here("renew", "--all"))
    assert tried
    assert os.strerror(error).lower() in line.lower()
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (0, 0)
    sites.heals()


def test_matrix_g2_finalize_whose_answer_was_lost_is_downloaded_by_the_next_run(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    lost, gone = Rule(DropAfter(), path=FINALIZE), Rule(Reset(), path=READ)
    proxy.expect(lost, gone)
    line = failure(sites.here("renew", "--all", "--wait", "1"))
    assert "no answer from localhost while reading the order" in line
    assert (lost.hits, gone.hits > 0) == (1, True)
    key = sites.note(PROVEN, EC_KEY).read_bytes()
    proxy.expect()
    done = sites.here("renew", "--all", later=LATER)
    assert done.exit_code == 0, done.output
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (0, 0)
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key
    assert proxy.pebble.orders - orders == 1
    assert proxy.pebble.certificates - certificates == 1


def test_matrix_g3_refused_request_makes_the_next_order_use_another_key(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(problem(400, "badCSR", "weak key"), path=FINALIZE)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert "weak key (badCSR, HTTP 400); the CA does not take this certificate request" in line
    assert rule.hits == 1
    assert not sites.note(PROVEN, EC_KEY).exists()
    sites.heals()


@pytest.mark.parametrize(
    ("status", "word"), [(403, "orderNotReady"), (403, "unauthorized"), (403, "caa")]
)
def test_matrix_g3_refused_finalize_is_sent_once_and_keeps_order_and_key(
    sites: SitesBehindProxy, proxy: FaultingProxy, status: int, word: str
) -> None:
    rule = Rule(problem(status, word, "not now"), path=FINALIZE)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert f"not now ({word}, HTTP {status})" in line
    assert rule.hits == 1
    key = sites.note(PROVEN, EC_KEY).read_bytes()
    proxy.expect()
    done = sites.here("renew", PROVEN)
    assert done.exit_code == 0, done.output
    assert (proxy.count(ORDER), proxy.count(FINALIZE)) == (0, 1)
    assert sites.note(PROVEN, EC_KEY).read_bytes() == key


# --- H: waiting for the certificate ---------------------------------------------------------------


@pytest.mark.parametrize("retry_after", ["", "0", "1000000000", "soon"])
def test_matrix_h1_processing_for_ever_ends_at_the_deadline_and_keeps_the_order(
    sites: SitesBehindProxy, proxy: FaultingProxy, retry_after: str
) -> None:
    change = Substitute(
        rb'"status": "valid"', b'"status": "processing"', {"Retry-After": retry_after}
    )
    rule = Rule(change, path=f"{READ}|{FINALIZE}")
    proxy.expect(rule)
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    everything = sites.here("renew", "--all", "--wait", "0.5")
    assert everything.exit_code == 0, everything.output
    named = sites.here("renew", PROVEN, "--wait", "0")
    assert named.exit_code == 5
    assert f"{PROVEN}: pending: the CA is still working on the order of 20" in named.stdout
    assert 2 <= rule.hits <= 20
    proxy.expect()
    assert sites.here("renew", "--all").exit_code == 0
    assert proxy.pebble.orders - orders == 1
    assert proxy.pebble.certificates - certificates == 1


ODD = {
    "back to pending": (
        Substitute(rb'"status": "(valid|processing)"', b'"status": "pending"'),
        "the CA's order has gone back to 'pending' after it was finalized",
    ),
    "valid without a certificate": (
        Substitute(
            rb'(?s)"status": "(valid|processing)"(.*?)"certificate": "[^"]*"',
            rb'"status": "valid"\2"other": 0',
        ),
        "the CA's order is valid but has no 'certificate'",
    ),
    "an unknown status": (
        Substitute(rb'"status": "(valid|processing)"', b'"status": "done"'),
        "the CA's order has the unknown status 'done'",
    ),
}


@pytest.mark.parametrize(("change", "words"), ODD.values(), ids=ODD)
def test_matrix_h2_order_that_contradicts_itself_is_an_error_without_a_loop(
    sites: SitesBehindProxy, proxy: FaultingProxy, change: Substitute, words: str
) -> None:
    certificates = proxy.pebble.certificates
    rule = Rule(change, path=READ)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all", "--wait", "20"))
    assert words in line
    assert 1 <= rule.hits <= 3
    assert proxy.count(FINALIZE) == 1
    sites.heals()
    assert proxy.pebble.certificates - certificates == 1
