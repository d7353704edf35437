"""Renewal by the CA's word (ARI, RFC 9773): asked seldom, remembered, and never in the way.

Pebble knows nothing of it, so the proxy adds it to the directory and gives the answers; and the
live certificate is one of several days, which no CA of today has made.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.keys import key_to_pem
from tests.authority import DAY, EC_SPEC, Authority
from tests.e2e.command import run
from tests.e2e.estate import managed_site
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, Canned, FaultingProxy, Pebble, Rule, Substitute

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAME, OTHER = "one.example", "other.example"
ASK = "/renewal-information/"
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def proxy(parts_folder: Path, counting_ca: Pebble) -> Iterator[FaultingProxy]:
    """The CA, with renewal information in its directory."""
    with FaultingProxy(parts_folder / "proxy", counting_ca) as before_ca:
        member = f'{{"renewalInfo": "https://localhost:{before_ca.port}{ASK}", '
        before_ca.rules.append(Rule(Substitute(rb"\A\{", member.encode()), path="/dir"))
        yield before_ca


@pytest.fixture
def live() -> Credential:
    """A certificate of twenty days that lives for ninety."""
    return Authority().credential((NAME,), not_before=NOW - 20 * DAY)


@pytest.fixture
def apache(make_apache: Callable[..., Apache], proxy: FaultingProxy, live: Credential) -> Apache:
    """An Apache with one live domain, and another that waits in staging; not started."""
    sites = {name: managed_site(name) for name in (NAME, OTHER)}
    made = make_apache(sites=sites, main_extra=proxy.directives())
    assert run("renew", "--all", config=made.config).exit_code == 0
    assert run("promote", NAME, config=made.config).exit_code == 0
    folder = made.store / "domains" / NAME
    (folder / EC_SPEC.privkey_name).write_bytes(key_to_pem(live.key))
    (folder / EC_SPEC.pubcert_name).write_bytes(chain_to_pem(live.chain))
    shutil.rmtree(made.store / "mdconnector" / "pending" / NAME)
    proxy.requests.clear()
    proxy.payloads.clear()
    return made


def answer(proxy: FaultingProxy, start: datetime, end: datetime, **headers: str) -> None:
    """Let the CA suggest a window."""
    window = {"start": start.isoformat(), "end": end.isoformat()}
    body = json.dumps({"suggestedWindow": window, "explanationURL": "https://ca.example/why"})
    json_type = {"Content-Type": "application/json", **headers}
    proxy.rules.append(Rule(Canned(200, body.encode(), json_type), path=ASK))


def questions(proxy: FaultingProxy) -> list[str]:
    """Return the paths below the CA's renewal information that were asked for."""
    return [one.path for one in proxy.requests if one.path.startswith(ASK)]


def renew(apache: Apache, **options: Any) -> dict[str, Any]:
    """Renew all, and return what became of the live domain."""
    done = run("renew", "--all", "--json", config=apache.config, **options)
    assert done.exit_code == 0, done.output
    return done.domain(NAME)


def time_in(text: str) -> datetime:
    """Read a time of the JSON output."""
    return datetime.fromisoformat(text)


def test_a_window_that_is_open_renews_the_certificate_and_names_the_one_it_replaces(
    apache: Apache, proxy: FaultingProxy, live: Credential
) -> None:
    answer(proxy, NOW - 2 * DAY, NOW - DAY)
    outcome = renew(apache)
    assert (outcome["outcome"], outcome["reasons"]) == ("renewed", ["ari"])
    assert questions(proxy) == [f"{ASK}{live.facts.ari_id}"]
    orders = [text for text in proxy.payloads if "identifiers" in text]
    assert [json.loads(text)["replaces"] for text in orders] == [live.facts.ari_id]


def test_a_window_to_come_is_remembered_and_an_idle_run_asks_nobody(
    apache: Apache, proxy: FaultingProxy
) -> None:
    answer(proxy, NOW + DAY, NOW + 3 * DAY, **{"Retry-After": "86400"})
    first = renew(apache)
    assert first["outcome"] == "current"
    assert NOW + DAY <= time_in(first["renew_at"]) <= NOW + 3 * DAY
    assert len(questions(proxy)) == 1
    proxy.requests.clear()
    before = snapshot(apache.store)
    again = run(
        "renew", "--all", config=apache.config, environment={"PYTHONPROFILEIMPORTTIME": "1"}
    )
    assert again.exit_code == 0
    assert "mdconnector.renewal" in again.stderr
    assert "httpx" not in again.stderr, "an idle run has loaded httpx"
    assert (proxy.requests, snapshot(apache.store)) == ([], before)
    assert renew(apache)["renew_at"] == first["renew_at"]
    (row,) = [one for one in run("status", config=apache.config).stdout.splitlines() if NAME in one]
    assert "the CA would have it renewed by" in row
    assert "https://ca.example/why" in row


def test_a_window_past_our_own_changes_nothing(
    apache: Apache, proxy: FaultingProxy, live: Credential
) -> None:
    answer(proxy, live.facts.not_after - DAY, live.facts.not_after)
    outcome = renew(apache)
    assert outcome["outcome"] == "current"
    assert time_in(outcome["renew_at"]) == live.facts.not_after - timedelta(days=29.7)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(Canned(500, b"down"), id="the CA has trouble"),
        pytest.param(Canned(404, b"{}"), id="the CA does not know the certificate"),
        pytest.param(Canned(200, b'{"suggestedWindow": {"start": "x"}}'), id="nonsense"),
    ],
)
def test_a_ca_that_cannot_say_holds_up_nothing_and_is_left_alone_for_hours(
    apache: Apache, proxy: FaultingProxy, failure: Canned
) -> None:
    proxy.rules.append(Rule(failure, path=ASK))
    assert renew(apache)["outcome"] == "current"
    assert questions(proxy)
    proxy.requests.clear()
    assert renew(apache)["outcome"] == "current"
    assert proxy.requests == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(("MDPrivateKeys", "MDRenewViaARI off\nMDPrivateKeys"), id="it is off"),
        pytest.param(("MDPrivateKeys", "MDRenewWindow 75d\nMDPrivateKeys"), id="it is due anyway"),
    ],
)
def test_nobody_is_asked_where(
    apache: Apache, proxy: FaultingProxy, change: tuple[str, str]
) -> None:
    answer(proxy, NOW - 2 * DAY, NOW - DAY)
    apache.write_site(NAME, managed_site(NAME).replace(*change))
    outcome = renew(apache)
    assert "ari" not in outcome["reasons"]
    assert questions(proxy) == []


def test_enroll_asks_nobody(apache: Apache, proxy: FaultingProxy) -> None:
    answer(proxy, NOW - 2 * DAY, NOW - DAY)
    assert run("enroll", "--all", config=apache.config).exit_code == 0
    assert proxy.requests == []


# --- several CAs ---------------------------------------------------------------------------------


@pytest.fixture
def second(proxy: FaultingProxy, parts_folder: Path) -> Iterator[FaultingProxy]:
    """Another CA, to all appearance, which offers renewal information too."""
    with FaultingProxy(parts_folder / "second", proxy.pebble) as other:
        member = f'{{"renewalInfo": "https://localhost:{other.port}{ASK}", '
        other.rules.append(Rule(Substitute(rb"\A\{", member.encode()), path="/dir"))
        yield other


def have_cas(apache: Apache, *cas: FaultingProxy) -> None:
    """Let the sites have these CAs, in this order; what they offer is known from another domain."""
    bundle = apache.root / "bundle.pem"
    bundle.write_bytes(b"".join(ca.ca_file.read_bytes() for ca in cas))
    lines = {
        "MDCertificateAuthority": " ".join(ca.directory_url for ca in cas),
        "MDCACertificateFile": str(bundle),
    }
    text = apache.config.read_text()
    for directive, value in lines.items():
        text, count = re.subn(rf"(?m)^{directive} .*$", f"{directive} {value}", text)
        assert count == 1
    apache.config.write_text(text)
    done = run("renew", OTHER, "--force", config=apache.config)
    assert done.exit_code == 0, done.output
    for ca in cas:
        ca.requests.clear()
        ca.payloads.clear()


def test_of_several_cas_the_one_that_issued_the_live_certificate_is_asked(
    apache: Apache, proxy: FaultingProxy, second: FaultingProxy, live: Credential
) -> None:
    have_cas(apache, second, proxy)
    for ca in (proxy, second):
        answer(ca, NOW + DAY, NOW + 3 * DAY)
    assert renew(apache)["outcome"] == "current"
    assert (questions(proxy), questions(second)) == ([f"{ASK}{live.facts.ari_id}"], [])


def test_a_ca_that_is_not_configured_any_more_is_not_asked_nor_is_another_about_its_certificates(
    apache: Apache, proxy: FaultingProxy, second: FaultingProxy
) -> None:
    have_cas(apache, second)
    for ca in (proxy, second):
        answer(ca, NOW - 2 * DAY, NOW - DAY)
    assert renew(apache)["outcome"] == "current"
    assert (questions(proxy), questions(second)) == ([], [])


def test_a_set_that_does_not_say_where_it_comes_from_is_asked_about_at_the_first_ca(
    apache: Apache, proxy: FaultingProxy, second: FaultingProxy
) -> None:
    have_cas(apache, second, proxy)
    (apache.store / "domains" / NAME / "md.json").unlink()
    for ca in (proxy, second):
        answer(ca, NOW + DAY, NOW + 3 * DAY)
    assert renew(apache)["outcome"] == "current"
    assert (len(questions(proxy)), len(questions(second))) == (0, 1)


def test_another_ca_than_the_one_that_issued_is_told_of_no_certificate_to_be_replaced(
    apache: Apache, proxy: FaultingProxy, second: FaultingProxy
) -> None:
    have_cas(apache, second, proxy)
    done = run("renew", NAME, "--force", "--json", config=apache.config)
    assert done.exit_code == 0, done.output
    (order,) = [json.loads(text) for text in second.payloads if "identifiers" in text]
    assert "replaces" not in order
    assert not [text for text in proxy.payloads if "identifiers" in text]
