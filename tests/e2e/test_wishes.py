"""What a CA may or may not heed: must-staple, profiles, another chain; and how to get to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.e2e.command import Finished, run
from tests.e2e.estate import leaf_in, managed_site
from tests.e2e.snapshot import snapshot
from tests.parts import (
    Apache,
    FaultingProxy,
    ForwardProxy,
    Pebble,
    Rule,
    Substitute,
    free_port,
)
from tests.parts.authority import ThrowAwayAuthority

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAME = "one.example"


def one_site(
    make_apache: Callable[..., Apache], lines: str, settings: str = "", **options: Any
) -> Apache:
    """Make an Apache with one managed domain, not started."""
    return make_apache(
        sites={NAME: managed_site(NAME, settings=settings)}, main_extra=lines, **options
    )


def renew(apache: Apache, *arguments: str, **options: Any) -> Finished:
    """Renew what is due, or what is named."""
    return run("renew", *(arguments or ("--all",)), "--json", config=apache.config, **options)


# --- must-staple ---------------------------------------------------------------------------------


@pytest.fixture
def plain_ca(parts_folder: Path, counting_ca: Pebble) -> Iterator[FaultingProxy]:
    """A CA that takes requests for must-staple and makes certificates without."""
    with FaultingProxy(parts_folder / "proxy", counting_ca) as proxy:
        yield proxy


def test_must_staple_that_the_ca_ignores_is_ordered_once_and_then_reported(
    make_apache: Callable[..., Apache], plain_ca: FaultingProxy
) -> None:
    apache = one_site(make_apache, plain_ca.directives())
    assert renew(apache).exit_code == 0
    assert run("promote", "--all", config=apache.config).exit_code == 0
    apache.write_site(NAME, managed_site(NAME, settings="MDMustStaple on\n"))
    again = renew(apache).domain(NAME)
    assert (again["outcome"], again["reasons"]) == ("enrolled", ["must-staple"])
    leaf = leaf_in(apache.store / "staging" / NAME)
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.TLSFeature)
    assert "it lacks must-staple" in again["detail"]
    assert run("promote", "--all", config=apache.config).exit_code == 0
    plain_ca.requests.clear()
    before = snapshot(apache.store)
    third = renew(apache).domain(NAME)
    assert (third["outcome"], plain_ca.requests) == ("current", [])
    assert "the CA has left out must-staple against MDMustStaple" in third["detail"]
    assert (
        "the CA has left out must-staple against MDMustStaple"
        in run("status", config=apache.config).stdout
    )
    assert snapshot(apache.store) == before


def test_must_staple_is_ordered_again_once_the_configuration_has_changed(
    make_apache: Callable[..., Apache], plain_ca: FaultingProxy
) -> None:
    apache = one_site(make_apache, plain_ca.directives(), settings="MDMustStaple on\n")
    assert renew(apache).exit_code == 0
    assert run("promote", "--all", config=apache.config).exit_code == 0
    assert renew(apache).domain(NAME)["outcome"] == "current"
    site = managed_site(NAME, settings="MDMustStaple on\nMDProfile other\n")
    apache.write_site(NAME, site)
    assert renew(apache).domain(NAME)["reasons"] == ["must-staple"]


# --- profiles ------------------------------------------------------------------------------------


@pytest.fixture
def ca_with_profiles(plain_ca: FaultingProxy) -> FaultingProxy:
    """A CA that offers two profiles, which Pebble knows nothing of."""
    profiles = b'"meta": {"profiles": {"Classic": "90 days", "ShortLived": "6 days"},'
    plain_ca.rules.append(Rule(Substitute(rb'"meta":\s*\{', profiles), path="/dir"))
    return plain_ca


def orders(proxy: FaultingProxy) -> list[dict[str, Any]]:
    """Return what was sent to newOrder."""
    return [json.loads(text) for text in proxy.payloads if '"identifiers"' in text]


def test_a_profile_is_asked_for_in_the_spelling_of_the_ca(
    make_apache: Callable[..., Apache], ca_with_profiles: FaultingProxy
) -> None:
    lines = ca_with_profiles.directives()
    apache = one_site(make_apache, lines, settings="MDProfile shortlived\n")
    assert renew(apache).exit_code == 0
    assert [order["profile"] for order in orders(ca_with_profiles)] == ["ShortLived"]


def test_a_profile_that_the_ca_lacks_is_left_out_and_said_so(
    make_apache: Callable[..., Apache], ca_with_profiles: FaultingProxy
) -> None:
    apache = one_site(make_apache, ca_with_profiles.directives(), settings="MDProfile tlsserver\n")
    done = renew(apache)
    assert done.exit_code == 0
    assert "profile" not in orders(ca_with_profiles)[0]
    assert (
        "the CA does not offer the profile 'tlsserver', so it was ordered without"
        in (done.domain(NAME)["detail"])
    )


def test_a_mandatory_profile_that_the_ca_lacks_stops_the_order(
    make_apache: Callable[..., Apache], ca_with_profiles: FaultingProxy
) -> None:
    settings = "MDProfile tlsserver\nMDProfileMandatory on\n"
    apache = one_site(make_apache, ca_with_profiles.directives(), settings=settings)
    done = renew(apache)
    assert done.exit_code == 1
    error = done.domain(NAME)["error"]
    assert "does not offer the profile 'tlsserver'" in error["detail"]
    assert "the CA offers Classic, ShortLived" in error["hint"]
    assert f"{NAME}.conf:" in error["hint"], "it does not say where MDProfile stands"
    assert orders(ca_with_profiles) == []


# --- other chains --------------------------------------------------------------------------------


def test_the_chain_stays_the_one_that_is_offered_first(
    make_apache: Callable[..., Apache], make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True, chain_length=2, alternate_roots=2, nonce_reject=0)
    apache = one_site(make_apache, ca.directives())
    file = apache.store / "staging" / NAME / "pubcert.secp256r1.pem"
    issuers = []
    for _ in range(2):
        assert renew(apache, NAME, "--force").exit_code == 0
        chain = x509.load_pem_x509_certificates(file.read_bytes())
        issuers.append([one.issuer for one in chain])
    first_root = x509.load_pem_x509_certificate(ca.root_pem(0).encode())
    assert issuers[0] == issuers[1]
    assert issuers[0][-1] == first_root.subject
    certificates = [one.path for one in ca.requests() if one.resource == "/certZ"]
    assert certificates
    assert not [path for path in certificates if "alternate" in path]


# --- the way out ---------------------------------------------------------------------------------


def test_all_requests_go_through_the_proxy_that_mdhttpproxy_names(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    with ForwardProxy() as proxy:
        apache = one_site(make_apache, f"{counting_ca.directives()}MDHttpProxy {proxy.url}\n")
        done = renew(apache)
    assert done.exit_code == 0, done.output
    assert set(proxy.asked_for) == {f"CONNECT localhost:{counting_ca.port}"}


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_proxy_by_tls_is_trusted_by_its_own_file_alone(
    make_apache: Callable[..., Apache], counting_ca: Pebble, parts_folder: Path, is_trusted: bool
) -> None:
    authority = ThrowAwayAuthority(parts_folder)
    with ForwardProxy(authority.issue()) as proxy:
        lines = f"{counting_ca.directives()}MDHttpProxy {proxy.url}\n"
        if is_trusted:
            lines += f"MDHttpProxyCACertificateFile {authority.ca_file}\n"
        done = renew(one_site(make_apache, lines))
    assert (done.exit_code, bool(proxy.asked_for)) == ((0, True) if is_trusted else (1, False))


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_proxy_that_opens_tls_is_trusted_by_mdcacertificatefile(
    make_apache: Callable[..., Apache], counting_ca: Pebble, parts_folder: Path, is_trusted: bool
) -> None:
    authority = ThrowAwayAuthority(parts_folder)
    with ForwardProxy(opens_with=authority.issue(), trusts=counting_ca.ca_file) as proxy:
        lines = f"{counting_ca.directives()}MDHttpProxy {proxy.url}\n"
        if is_trusted:
            lines = lines.replace(str(counting_ca.ca_file), str(authority.ca_file))
        done = renew(one_site(make_apache, lines))
    assert proxy.asked_for
    assert proxy.read.startswith(b"GET /dir HTTP/1.1\r\n") is is_trusted, "it was to read along"
    assert done.exit_code == (0 if is_trusted else 1), done.output
    if not is_trusted:
        assert "must hold its root certificate" in done.domain(NAME)["error"]["hint"]


def test_a_proxy_that_is_down_is_named_in_the_message(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    lines = f"{counting_ca.directives()}MDHttpProxy http://localhost:{free_port()}\n"
    done = renew(one_site(make_apache, lines))
    assert done.exit_code == 1
    assert "MDHttpProxy" in done.domain(NAME)["error"]["hint"]


def test_the_proxy_of_the_environment_is_not_used_but_named_where_the_ca_cannot_be_reached(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    with ForwardProxy() as proxy:
        environment = {"https_proxy": proxy.url, "HTTPS_PROXY": proxy.url, "ALL_PROXY": proxy.url}
        lines = counting_ca.directives()
        apache = one_site(make_apache, lines)
        assert renew(apache, environment=environment).exit_code == 0
        gone = f"https://localhost:{free_port()}/dir"
        apache.config.write_text(apache.config.read_text().replace(counting_ca.directory_url, gone))
        done = renew(apache, NAME, "--force", environment=environment)
    assert (done.exit_code, proxy.asked_for) == (1, [])
    assert "https_proxy" in done.domain(NAME)["error"]["hint"]


@pytest.mark.parametrize(
    ("main", "section", "is_trusted"),
    [
        pytest.param("{file}", "", True, id="for all"),
        pytest.param("none", "", False, id="none: the system's store alone"),
        pytest.param("none", "{file}", True, id="for the domain"),
        pytest.param("{file}", "{other}", False, id="another one for the domain"),
    ],
)
def test_a_ca_is_trusted_by_the_file_that_is_in_force(
    make_apache: Callable[..., Apache],
    counting_ca: Pebble,
    parts_folder: Path,
    main: str,
    section: str,
    is_trusted: bool,
) -> None:
    other = ThrowAwayAuthority(parts_folder).ca_file
    files = {"file": counting_ca.ca_file, "other": other}
    line = f'MDCACertificateFile "{counting_ca.ca_file}"'
    lines = counting_ca.directives().replace(line, f"MDCACertificateFile {main.format(**files)}")
    settings = f"MDCACertificateFile {section.format(**files)}\n" if section else ""
    done = renew(one_site(make_apache, lines, settings=settings))
    assert done.exit_code == (0 if is_trusted else 1), done.output
    if not is_trusted:
        error = done.domain(NAME)["error"]
        assert (error["type"], "MDCACertificateFile" in error["hint"]) == ("tls", True)
