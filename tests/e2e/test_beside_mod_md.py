"""mdconnector and a real mod_md on one store: each uses what the other has staged or registered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import run
from tests.e2e.estate import key_of, leaf_in, live_leaf, managed_site, served_leaf
from tests.parts import (
    Apache,
    FaultingProxy,
    Hang,
    Pebble,
    Request,
    Rule,
    names_of,
    served_certificate,
    wait_until,
)

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

MakeApache = Callable[..., Apache]
AUTO, MANUAL = "MDRenewMode auto\n", "MDRenewMode manual\n"
COMPLETE = 2
"""MD_S_COMPLETE in mod_md's md-status"""


def staged(apache: Apache, name: str) -> Path:
    return apache.store / "staging" / name


def pending(apache: Apache, name: str) -> Path:
    return apache.store / "mdconnector" / "pending" / name


def await_mod_md(apache: Apache, name: str) -> None:
    """Wait until mod_md's watchdog has a complete set in staging and says so."""
    job = staged(apache, name) / "job.json"

    def is_finished() -> bool:
        try:
            return json.loads(job.read_text()).get("finished") is True
        except FileNotFoundError:  # not yet, or being replaced
            return False

    wait_until(
        is_finished,
        f"mod_md to obtain {name}",
        seconds=60,
        every=0.1,
    )


def account_of(folder: Path) -> str:
    md: dict[str, Any] = json.loads((folder / "md.json").read_text())
    return str(md["ca"]["account"])


def registrations(requests: Sequence[Request]) -> int:
    return sum(one.resource == "/sign-me-up" for one in requests)


def test_a_promoted_set_is_served_and_mod_md_calls_the_domain_complete(
    make_apache: MakeApache, counting_ca: Pebble
) -> None:
    name = "promoted.example"
    site = managed_site(name, keys="RSA 2048 secp256r1")
    apache = make_apache(sites={"a": site}, main_extra=counting_ca.directives()).start()
    assert apache.md_status(name)["state"] != COMPLETE

    assert run("enroll", name, config=apache.config).exit_code == 0
    promoted = run("promote", name, "--reload", "--json", config=apache.config)

    assert promoted.exit_code == 0, promoted.output
    status = apache.md_status(name)
    assert status["state"] == COMPLETE
    serials = {one["key_spec"]: one["serial"] for one in promoted.domain(name)["certificates"]}
    rsa_leaf = served_certificate(apache.address, apache.ssl_port, name, "rsa")
    ec_leaf = served_certificate(apache.address, apache.ssl_port, name, "ec")
    for leaf, spec, in_mod_md in (
        (rsa_leaf, "rsa2048", "rsa"),
        (ec_leaf, "secp256r1", "secp256r1"),
    ):
        assert serials[spec] == f"{leaf.serial_number:x}"
        assert int(status["cert"][in_mod_md]["serial"], 16) == leaf.serial_number
    assert "renewal" not in status


def test_a_staged_set_that_nobody_promoted_is_activated_by_mod_md_at_a_graceful_restart(
    make_apache: MakeApache, counting_ca: Pebble
) -> None:
    name = "activated.example"
    apache = make_apache(sites={"a": managed_site(name)}, main_extra=counting_ca.directives())
    apache.start()
    assert run("enroll", name, config=apache.config).exit_code == 0
    ours = leaf_in(staged(apache, name))
    assert pending(apache, name).exists()

    apache.graceful()

    assert not (staged(apache, name) / "pubcert.secp256r1.pem").exists()
    assert live_leaf(apache, name) == ours
    wait_until(lambda: served_leaf(apache, name) == ours, "Apache to serve it")
    assert int(apache.md_status(name)["cert"]["secp256r1"]["serial"], 16) == ours.serial_number

    generation = apache.generation
    after = run("promote", "--all", "--reload", "--json", config=apache.config)
    assert (after.exit_code, after.json["reload"]) == (0, "not-needed"), after.output
    assert after.domain(name)["outcome"] == "nothing-staged"
    assert apache.generation == generation
    assert not pending(apache, name).exists(), "what mod_md activated needs no copy any more"
    assert served_leaf(apache, name) == ours

    with counting_ca.recorded() as requests:
        idle = run("renew", "--all", "--json", config=apache.config)
    assert (idle.exit_code, idle.domain(name)["outcome"]) == (0, "current")
    assert requests == []


def test_a_set_that_mod_md_staged_is_promoted_and_served(
    make_apache: MakeApache, counting_ca: Pebble
) -> None:
    name, alias = "watched.example", "www.watched.example"
    apache = make_apache(
        sites={"a": managed_site(name, settings=AUTO, aliases=alias)},
        main_extra=counting_ca.directives(),
    ).start()
    await_mod_md(apache, name)
    theirs = leaf_in(staged(apache, name))
    with counting_ca.recorded() as requests:
        waits = run("renew", "--all", "--json", config=apache.config)
    assert waits.domain(name)["outcome"] in {"staged", "skipped"}
    assert requests == []

    promoted = run("promote", "--all", "--reload", "--json", config=apache.config)

    assert promoted.exit_code == 0, promoted.output
    assert promoted.domain(name)["outcome"] == "promoted"
    assert promoted.domain(name)["served"] == "new"
    shown = served_certificate(
        apache.address, apache.ssl_port, alias, roots_pem=counting_ca.root_pem()
    )
    assert shown == theirs == live_leaf(apache, name)
    assert (key_of(shown), set(names_of(shown))) == ("secp256r1", {name, alias})
    status = apache.md_status(name)
    assert status["state"] == COMPLETE
    account = account_of(apache.store / "domains" / name)
    assert (apache.store / "accounts" / account / "account.pem").exists()


@pytest.mark.parametrize("is_promoted", [False, True], ids=["in staging", "promoted"])
def test_an_account_that_mod_md_registered_is_used_without_registering(
    make_apache: MakeApache, counting_ca: Pebble, is_promoted: bool
) -> None:
    theirs, ours = "first.example", "second.example"
    apache = make_apache(
        sites={"a": managed_site(theirs, settings=AUTO), "b": managed_site(ours, settings=MANUAL)},
        main_extra=counting_ca.directives(),
    )
    with counting_ca.recorded() as by_mod_md:
        apache.start()
        await_mod_md(apache, theirs)
    if is_promoted:
        assert run("promote", theirs, "--reload", config=apache.config).exit_code == 0

    with counting_ca.recorded() as requests:
        enrolled = run("enroll", ours, config=apache.config)

    assert enrolled.exit_code == 0, enrolled.output
    assert registrations(by_mod_md) == 1
    assert registrations(requests) == 0
    assert sum(one.resource == "/finalize-order" for one in requests) == 1
    assert run("promote", "--all", "--reload", config=apache.config).exit_code == 0
    domains = apache.store / "domains"
    assert account_of(domains / ours) == account_of(domains / theirs)
    assert served_leaf(apache, ours) == live_leaf(apache, ours)
    assert len(list((apache.store / "accounts").iterdir())) == 1


def test_an_account_that_mdconnector_registered_is_used_by_mod_md_without_registering(
    make_apache: MakeApache, counting_ca: Pebble
) -> None:
    ours, theirs = "ours.example", "theirs.example"
    apache = make_apache(
        sites={"a": managed_site(ours, settings=MANUAL)}, main_extra=counting_ca.directives()
    ).start()
    with counting_ca.recorded() as requests:
        assert run("enroll", ours, config=apache.config).exit_code == 0
    assert registrations(requests) == 1
    assert run("promote", ours, "--reload", config=apache.config).exit_code == 0

    apache.write_site("b", managed_site(theirs, settings=AUTO))
    with counting_ca.recorded() as requests:
        apache.graceful()
        await_mod_md(apache, theirs)

    assert registrations(requests) == 0
    assert sum(one.resource == "/finalize-order" for one in requests) == 1
    apache.graceful()
    new = live_leaf(apache, theirs)
    wait_until(lambda: served_leaf(apache, theirs) == new, "Apache to serve mod_md's own set")
    domains = apache.store / "domains"
    assert account_of(domains / theirs) == account_of(domains / ours)


def test_an_order_that_a_stopped_mod_md_has_left_is_taken_up_and_not_doubled(
    make_apache: MakeApache, counting_ca: Pebble, parts_folder: Path
) -> None:
    name = "begun.example"
    with FaultingProxy(parts_folder / "proxy", counting_ca) as proxy:
        proxy.rules.append(Rule(Hang(), path="/finalize-order/"))
        apache = make_apache(
            sites={"a": managed_site(name, settings=AUTO)}, main_extra=proxy.directives()
        )
        with apache:
            wait_until(lambda: proxy.rules[0].hits > 0, "mod_md to finalize", seconds=60)
        order = json.loads((staged(apache, name) / "order.json").read_text())["url"]
        before = counting_ca.certificates
        proxy.expect()
        done = run("renew", "--all", "--json", config=apache.config)
    assert (done.exit_code, done.domain(name)["outcome"]) == (0, "enrolled"), done.output
    assert (proxy.count("/order-plz"), counting_ca.certificates - before) == (0, 1)
    assert proxy.count("/finalize-order/" + order.rpartition("/")[2]) == 1
    assert not (staged(apache, name) / "order.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"url": 7}',
        b'{"url": "https://evil.example/order/1"}',
        b'{"url": "not\nan URL"}',
        b"x" * 2_000_000,
    ],
)
def test_nonsense_in_place_of_an_order_of_mod_md_is_passed_over(
    make_apache: MakeApache, counting_ca: Pebble, text: bytes
) -> None:
    """Apache's user may have written it."""
    name = "begun.example"
    apache = make_apache(sites={"a": managed_site(name)}, main_extra=counting_ca.directives())
    staged(apache, name).mkdir(parents=True)
    (staged(apache, name) / "order.json").write_bytes(text)
    done = run("renew", "--all", "--json", config=apache.config)
    assert (done.exit_code, done.domain(name)["outcome"]) == (0, "enrolled"), done.output
