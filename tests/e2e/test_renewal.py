"""When the CA is asked again, and when it is not: idle runs, open windows, back-off, refusals."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.command import Finished, run
from tests.e2e.estate import leaf_in, managed_site
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, Pebble, names_of, served_certificate

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAMES = ("one.example", "two.example")
REFUSED = "refused.example"
ONE_HOUR = 3600
WINDOW_IS_OPEN = "MDRenewWindow 2h\n"


@pytest.fixture(scope="module")
def hourly_ca(session_folder: Path) -> Iterator[Pebble]:
    """A CA whose certificates live for an hour, and that refuses one name."""
    with Pebble(
        session_folder / "hourly-ca",
        always_valid=True,
        nonce_reject=0,
        validity_seconds=ONE_HOUR,
        blocklist=[REFUSED],
    ) as ca:
        yield ca


@pytest.fixture(scope="module")
def store_with_live_sets(session_folder: Path, hourly_ca: Pebble) -> Path:
    """A store in which each domain's set is live; to be copied."""
    apache = Apache(
        session_folder / "renewal",
        sites={name: managed_site(name) for name in NAMES},
        main_extra=hourly_ca.directives(),
    )
    for command in ("renew", "promote"):
        done = run(command, "--all", config=apache.config)
        assert done.exit_code == 0, done.output
    return apache.store


@pytest.fixture
def apache(make_apache: Callable[..., Apache], hourly_ca: Pebble) -> Apache:
    """An Apache with the domains, nothing obtained yet, not started."""
    return make_apache(
        sites={name: managed_site(name) for name in NAMES}, main_extra=hourly_ca.directives()
    )


@pytest.fixture
def live_apache(apache: Apache, store_with_live_sets: Path) -> Apache:
    """The same with live sets."""
    subprocess.run(["/bin/cp", "-a", store_with_live_sets, apache.store], check=True)
    return apache


def live_leaf(apache: Apache, name: str) -> x509.Certificate:
    """Return the live certificate of a domain."""
    return leaf_in(apache.store / "domains" / name)


def outcomes(done: Finished) -> dict[str, str]:
    """Return each domain's outcome."""
    return {domain["name"]: domain["outcome"] for domain in done.json["domains"]}


# --- nothing is due ------------------------------------------------------------------------------


def test_an_idle_renewal_sends_no_request_and_writes_nothing(
    live_apache: Apache, hourly_ca: Pebble
) -> None:
    before = snapshot(live_apache.store)
    with hourly_ca.recorded() as requests:
        done = run("renew", "--all", "--json", config=live_apache.config)
    assert (done.exit_code, outcomes(done)) == (0, dict.fromkeys(NAMES, "current"))
    assert requests == []
    assert snapshot(live_apache.store) == before


def test_an_idle_renewal_beside_staged_sets_writes_nothing(
    apache: Apache, hourly_ca: Pebble
) -> None:
    assert run("renew", "--all", config=apache.config).exit_code == 0
    before = snapshot(apache.store)
    with hourly_ca.recorded() as requests:
        done = run("renew", "--all", "--json", config=apache.config)
    assert (done.exit_code, outcomes(done)) == (0, dict.fromkeys(NAMES, "staged"))
    assert requests == []
    assert snapshot(apache.store) == before


def test_enroll_says_until_when_an_enrolled_domain_is_valid(live_apache: Apache) -> None:
    done = run("enroll", NAMES[0], config=live_apache.config)
    until = live_leaf(live_apache, NAMES[0]).not_valid_after_utc
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{NAMES[0]}: current: ")
    assert f"valid until {until:%Y-%m-%d %H:%M} UTC" in line


def test_an_idle_promotion_reloads_nothing_and_writes_nothing(live_apache: Apache) -> None:
    with live_apache.start() as apache:
        run("promote", "--all", "--reload", config=apache.config)  # what is served is seen once
        before, generation = snapshot(apache.store), apache.generation
        done = run("promote", "--all", "--reload", "--json", config=apache.config)
        assert apache.generation == generation
    assert (done.exit_code, done.json["reload"]) == (0, "not-needed")
    assert outcomes(done) == dict.fromkeys(NAMES, "nothing-staged")
    assert snapshot(apache.store) == before


# --- something is due ----------------------------------------------------------------------------


def test_a_domain_in_its_window_is_renewed_with_a_new_key_and_the_old_set_archived(
    live_apache: Apache,
) -> None:
    due, idle = NAMES
    old = live_leaf(live_apache, due)
    live_apache.write_site(due, managed_site(due, settings=WINDOW_IS_OPEN))
    with live_apache.start() as apache:
        renewed = run("renew", "--all", "--json", config=apache.config)
        assert (renewed.exit_code, outcomes(renewed)) == (0, {due: "renewed", idle: "current"})
        assert renewed.domain(due)["reasons"] == ["window"]
        assert live_leaf(apache, due) == old, "renew has changed what is live"
        promoted = run("promote", "--all", "--reload", "--json", config=apache.config)
        assert (promoted.exit_code, promoted.domain(due)["outcome"]) == (0, "promoted")
        served = served_certificate(apache.address, apache.ssl_port, due)
    new = live_leaf(apache, due)
    assert served == new
    assert new.public_key() != old.public_key()
    (archived,) = (apache.store / "archive").iterdir()
    assert archived.name == f"{due}.1"
    assert leaf_in(archived) == old
    assert {one.name for one in archived.iterdir()} >= {"privkey.secp256r1.pem", "md.json"}


def test_a_window_as_long_as_certificates_live_does_not_renew_them_without_end(
    live_apache: Apache, hourly_ca: Pebble
) -> None:
    live_apache.write_site(NAMES[0], managed_site(NAMES[0], settings=WINDOW_IS_OPEN))
    assert outcomes(run("renew", NAMES[0], "--json", config=live_apache.config)) == {
        NAMES[0]: "renewed"
    }
    before = hourly_ca.certificates
    again = run("renew", NAMES[0], "--json", config=live_apache.config)
    assert outcomes(again) == {NAMES[0]: "staged"}
    assert run("promote", NAMES[0], config=live_apache.config).exit_code == 0
    live = run("renew", NAMES[0], "--json", config=live_apache.config)
    assert outcomes(live) == {NAMES[0]: "current"}
    assert "MDRenewWindow 2h is as long as it lives" in live.domain(NAMES[0])["detail"]
    assert hourly_ca.certificates == before


def test_enroll_leaves_a_domain_in_its_window_to_renew(
    live_apache: Apache, hourly_ca: Pebble
) -> None:
    live_apache.write_site(NAMES[0], managed_site(NAMES[0], settings=WINDOW_IS_OPEN))
    with hourly_ca.recorded() as requests:
        done = run("enroll", "--all", "--json", config=live_apache.config)
    assert (done.exit_code, outcomes(done), requests) == (0, dict.fromkeys(NAMES, "current"), [])


def test_force_orders_anew_what_is_not_due(live_apache: Apache, hourly_ca: Pebble) -> None:
    name, before = NAMES[0], hourly_ca.certificates
    done = run("renew", name, "--force", "--json", config=live_apache.config)
    assert (done.exit_code, outcomes(done)) == (0, {name: "renewed"})
    assert done.domain(name)["reasons"] == ["forced"]
    assert hourly_ca.certificates == before + 1
    staged = leaf_in(live_apache.store / "staging" / name)
    assert staged.public_key() != live_leaf(live_apache, name).public_key()


# --- the CA refuses ------------------------------------------------------------------------------


@pytest.fixture
def refusing(apache: Apache) -> Apache:
    """The domains beside one that the CA refuses."""
    apache.write_site(REFUSED, managed_site(REFUSED))
    return apache


def test_matrix_x5_one_refused_domain_is_one_clear_line_and_all_others_are_done(
    refusing: Apache,
) -> None:
    done = run("renew", "--all", config=refusing.config)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{REFUSED}: failed: ")
    assert "issuance is forbidden by policy" in line, "the CA's own words are not in it"
    assert f"mdconnector renew {REFUSED}" in line, "it does not say what to type in the end"
    for name in NAMES:
        assert names_of(leaf_in(refusing.store / "staging" / name)) == {name}
    assert not (refusing.store / "staging" / REFUSED).exists()


@pytest.fixture
def backing_off(live_apache: Apache) -> Apache:
    """Live domains beside one that the CA has just refused."""
    live_apache.write_site(REFUSED, managed_site(REFUSED))
    done = run("renew", "--all", "--json", config=live_apache.config)
    assert outcomes(done) == {**dict.fromkeys(NAMES, "current"), REFUSED: "failed"}
    return live_apache


def test_a_failed_domain_is_not_asked_for_again_with_all(
    backing_off: Apache, hourly_ca: Pebble
) -> None:
    before = snapshot(backing_off.store)
    with hourly_ca.recorded() as requests:
        done = run("renew", "--all", "--json", config=backing_off.config)
    assert done.exit_code == 0
    assert done.domain(REFUSED)["outcome"] == "backing-off"
    assert done.domain(REFUSED)["next_try"] is not None
    assert requests == []
    assert snapshot(backing_off.store) == before


def test_a_failed_domain_is_asked_for_again_when_named(
    backing_off: Apache, hourly_ca: Pebble
) -> None:
    with hourly_ca.recorded() as requests:
        done = run("renew", REFUSED, "--json", config=backing_off.config)
    assert (done.exit_code, outcomes(done)) == (1, {REFUSED: "failed"})
    assert "/order-plz" in [request.resource for request in requests]


def test_a_changed_configuration_voids_the_back_off(backing_off: Apache, hourly_ca: Pebble) -> None:
    backing_off.write_site(REFUSED, managed_site(REFUSED, keys="secp384r1"))
    with hourly_ca.recorded() as requests:
        done = run("renew", "--all", "--json", config=backing_off.config)
    assert (done.exit_code, done.domain(REFUSED)["outcome"]) == (1, "failed")
    assert "/order-plz" in [request.resource for request in requests]
