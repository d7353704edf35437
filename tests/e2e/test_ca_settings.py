"""One enrolment at every kind of CA that Pebble can be, and what it costs in requests."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.behind_proxy import ORDER, PROVEN, SitesBehindProxy, problem, unwritable
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.parts import Canned, FaultingProxy, Pebble, Request, Rule

pytestmark = pytest.mark.pebble

NAME, ALIAS = "shop.example.org", "www.shop.example.org"
BOTH = "secp256r1 rsa2048"

SETTINGS: dict[str, Mapping[str, object]] = {
    "strict, no nonce refused, no proof kept": {"strict": True, "nonce_reject": 0},
    "every fifth nonce refused, every proof kept": {"nonce_reject": 20, "authz_reuse": 100},
    "every second nonce refused": {"strict": True, "nonce_reject": 50},
    "slow validation": {"va_nosleep": False, "va_sleep_seconds": 3, "nonce_reject": 0},
    "long chain": {"chain_length": 3, "strict": True, "nonce_reject": 20},
    "alternate roots": {"alternate_roots": 2, "authz_reuse": 100, "nonce_reject": 0},
}


@pytest.mark.parametrize("knobs", SETTINGS.values(), ids=SETTINGS)
def test_two_key_types_are_enrolled_whatever_the_ca_is_like(
    parts_folder: Path, make_pebble: Callable[..., Pebble], knobs: Mapping[str, object]
) -> None:
    ca = make_pebble(always_valid=True, **knobs)
    sites = PlainSites(parts_folder / "sites")
    sites.write(NAME, ssl_site(NAME, settings_for(ca, {"MDPrivateKeys": BOTH}), more=ALIAS))
    done = sites.run("enroll", "--all")
    assert done.exit_code == 0, done.output
    assert (ca.orders, ca.certificates) == (2, 2)
    if "authz_reuse" in knobs:
        proofs = ca.log_text().count("set VALID by completed challenge")
        assert proofs == 2, "what was proved for one order is proved for the next"
    if "va_sleep_seconds" in knobs:
        assert "Sleeping for" in ca.log_text()
    root = x509.load_pem_x509_certificate(ca.root_pem().encode())
    for file in ("pubcert.pem", "pubcert.secp256r1.pem"):
        text = (sites.store / "staging" / NAME / file).read_bytes()
        chain = x509.load_pem_x509_certificates(text)
        assert len(chain) == 1 + int(str(knobs.get("chain_length", 1)))
        chain[-1].verify_directly_issued_by(root)


# --- requests for one certificate -----------------------------------------------------------------

FREE = frozenset({"/dir", "/nonce-plz"})


@pytest.fixture
def warm(parts_folder: Path, make_pebble: Callable[..., Pebble]) -> tuple[PlainSites, Pebble]:
    """An account, and proof of two names that the CA keeps."""
    ca = make_pebble(always_valid=True, nonce_reject=0, authz_reuse=100)
    sites = PlainSites(parts_folder / "sites")
    sites.write(NAME, ssl_site(NAME, settings_for(ca), more=ALIAS))
    assert sites.run("enroll", "--all").exit_code == 0
    return sites, ca


def counted(requests: list[Request]) -> tuple[int, int]:
    """Return how many requests there were beside directory and nonce, and how many polls."""
    asked = [request.resource for request in requests if request.resource not in FREE]
    polls = asked.count("/my-order")
    return len(asked) - polls, polls


def test_certificate_for_names_that_are_proved_takes_three_requests(
    warm: tuple[PlainSites, Pebble],
) -> None:
    sites, ca = warm
    with ca.recorded() as requests:
        done = sites.run("renew", NAME, "--force")
    assert done.exit_code == 0, done.output
    asked, polls = counted(requests)
    assert asked == 3
    assert polls <= 3
    assert [one.resource for one in requests].count("/nonce-plz") == 1
    assert "/dir" not in [one.resource for one in requests], "what it offers is remembered"


def test_certificate_for_names_to_be_proved_takes_two_more_for_each(
    warm: tuple[PlainSites, Pebble],
) -> None:
    sites, ca = warm
    new = ("new.example.org", "a.new.example.org", "b.new.example.org")
    sites.write("new", ssl_site(new[0], settings_for(ca), more=" ".join(new[1:])))
    with ca.recorded() as requests:
        done = sites.run("enroll", new[0])
    assert done.exit_code == 0, done.output
    asked, polls = counted(requests)
    assert asked == 3 + 2 * len(new)
    assert polls <= 4


def test_certificates_of_two_key_types_cost_twice_that_of_one(
    warm: tuple[PlainSites, Pebble],
) -> None:
    sites, ca = warm
    sites.write(NAME, ssl_site(NAME, settings_for(ca, {"MDPrivateKeys": BOTH}), more=ALIAS))
    with ca.recorded() as requests:
        done = sites.run("enroll", NAME)
    assert done.exit_code == 0, done.output
    assert counted(requests)[0] == 6


@pytest.mark.parametrize("asked_to_wait", [False, True])
def test_what_cannot_be_remembered_of_a_ca_costs_no_certificate(
    new_sites: SitesBehindProxy,
    proxy: FaultingProxy,
    caplog: pytest.LogCaptureFixture,
    asked_to_wait: bool,
) -> None:
    """Neither what its directory offers, nor until when it wants to be left alone."""
    limited = Canned(429, problem(429, "rateLimited", "too many").body, {"Retry-After": "3600"})
    proxy.expect(*([Rule(limited, path=ORDER)] if asked_to_wait else []))
    with unwritable("/mdconnector/directories/", errno.ENOSPC) as tried:
        done = new_sites.here("renew", "--all")
    assert len(tried) == 1 + asked_to_wait
    assert "what localhost offers is not remembered: " in caplog.text
    if asked_to_wait:
        assert f"{PROVEN}: failed: the CA refused: too many (rateLimited, HTTP 429)" in done.stderr
    else:
        assert f"{PROVEN}: enrolled: " in done.stdout
    assert done.exit_code == int(asked_to_wait)
