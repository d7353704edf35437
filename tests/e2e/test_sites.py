"""The example sites, from vhost files by CAs that really validate to an Apache that serves them."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.e2e.command import CLONE, Finished, run
from tests.e2e.estate import key_of, leaf_in
from tests.parts import (
    Apache,
    Challtestsrv,
    Pebble,
    free_port,
    names_of,
    served_certificate,
)

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

EXAMPLES = CLONE / "examples"
SHOP, PORTAL, API = "shop.example.org", "portal.example.org", "api.example.org"
MAIL, APPS, PARTNER = "mail.example.org", "apps.example.org", "partner.example.net"
PLAIN, LEGACY = "plain.example.org", "legacy.example.org"
RSA_FILE, EC_FILE = "pubcert.pem", "pubcert.secp256r1.pem"
PARTNERS = frozenset({PARTNER})


@dataclass(frozen=True, slots=True)
class Demo:
    """The servers, and what the commands said on the way."""

    apache: Apache
    ca: Pebble
    partner_ca: Pebble
    dns: Challtestsrv
    renewed: Finished
    promoted: Finished

    def ca_of(self, name: str) -> Pebble:
        """Return the CA that a site is configured for."""
        return self.partner_ca if name in PARTNERS else self.ca


def defines(folder: Path, ca: Pebble, partner_ca: Pebble, dns: Challtestsrv) -> str:
    """Return the values for the ${NAMES} of the example sites."""
    eab_file = folder / "eab.json"
    eab_file.touch(mode=0o600)
    eab_file.write_text(json.dumps({"kid": "kid-1", "hmac": ca.eab_keys["kid-1"]}))
    root = folder / "legacy-htdocs"
    root.mkdir(exist_ok=True)
    values = {
        "CA_DIRECTORY": ca.directory_url,
        "CA_BUNDLE": ca.ca_file,
        "EAB_FILE": eab_file,
        "PARTNER_CA_DIRECTORY": partner_ca.directory_url,
        "PARTNER_CA_BUNDLE": partner_ca.ca_file,
        "PARTNER_KID": "kid-2",
        "PARTNER_HMAC": partner_ca.eab_keys["kid-2"],
        "DNS_01_COMMAND": f"{EXAMPLES}/dns-01/challtestsrv.py {dns.management_url}",
        "LEGACY_ROOT": root,
    }
    return "\n".join(f'Define {name} "{value}"' for name, value in values.items())


@pytest.fixture(scope="module")
def demo(session_folder: Path) -> Iterator[Demo]:
    """All example sites taken to the end, with servers of their own: their orders are counted."""
    folder = session_folder / "sites"
    http_port, ssl_port = free_port(), free_port()
    with Challtestsrv(folder / "dns") as dns:
        first, second = (
            Pebble(folder / name, dns_server=dns.dns_server, http_port=http_port, tls_port=ssl_port)
            for name in ("ca", "partner-ca")
        )
        with (
            first as ca,
            second as partner_ca,
            Apache(
                folder / "apache",
                sites_folder=EXAMPLES / "sites-enabled",
                http_port=http_port,
                ssl_port=ssl_port,
                main_extra=defines(folder, ca, partner_ca, dns),
            ) as apache,
        ):
            renewed = run("renew", "--all", "--json", config=apache.config)
            promoted = run("promote", "--all", "--reload", "--json", config=apache.config)
            yield Demo(apache, ca, partner_ca, dns, renewed, promoted)


def test_one_renew_and_one_promote_bring_every_site_into_apache(demo: Demo) -> None:
    assert (demo.renewed.exit_code, demo.promoted.exit_code) == (0, 0), demo.renewed.output
    assert {one["name"]: one["outcome"] for one in demo.renewed.json["domains"]} == dict.fromkeys(
        (SHOP, PORTAL, API, MAIL, APPS, PARTNER), "enrolled"
    )
    promoted = demo.promoted.json
    assert {one["name"]: (one["outcome"], one["served"]) for one in promoted["domains"]} == (
        dict.fromkeys((SHOP, PORTAL, API, MAIL, APPS, PARTNER), ("promoted", "new"))
    )
    assert promoted["reload"] == "reloaded"


@pytest.mark.parametrize(
    ("name", "asked_for", "key_type", "key", "names"),
    [
        (SHOP, SHOP, "rsa", "RSA 2048", {SHOP}),
        (PORTAL, PORTAL, "rsa", "RSA 4096", {PORTAL, f"www.{PORTAL}", f"old-{PORTAL}"}),
        (PORTAL, f"old-{PORTAL}", "rsa", "RSA 4096", {PORTAL, f"www.{PORTAL}", f"old-{PORTAL}"}),
        (API, API, "ec", "secp256r1", {API}),
        (MAIL, MAIL, "rsa", "RSA 2048", {MAIL}),
        (MAIL, MAIL, "ec", "secp256r1", {MAIL}),
        (APPS, APPS, "ec", "secp256r1", {APPS, f"*.{APPS}"}),
        (APPS, f"any.{APPS}", "ec", "secp256r1", {APPS, f"*.{APPS}"}),
        (PARTNER, PARTNER, "ec", "secp256r1", {PARTNER}),
    ],
)
def test_apache_serves_exactly_the_configured_names_and_key_with_a_chain_to_the_cas_root(
    demo: Demo,
    name: str,
    asked_for: str,
    key_type: Literal["rsa", "ec"],
    key: str,
    names: set[str],
) -> None:
    leaf = served_certificate(
        demo.apache.address,
        demo.apache.ssl_port,
        asked_for,
        key_type,
        roots_pem=demo.ca_of(name).root_pem(),
    )
    assert (key_of(leaf), set(names_of(leaf))) == (key, names)
    file_name = RSA_FILE if key_type == "rsa" else EC_FILE
    assert leaf == leaf_in(demo.apache.store / "domains" / name, file_name)


@pytest.mark.parametrize(
    ("name", "key_type"), [(SHOP, "ec"), (PORTAL, "ec"), (API, "rsa"), (PARTNER, "rsa")]
)
def test_a_site_with_one_key_type_has_no_certificate_of_the_other(
    demo: Demo, name: str, key_type: Literal["rsa", "ec"]
) -> None:
    with pytest.raises(ssl.SSLError):
        served_certificate(demo.apache.address, demo.apache.ssl_port, name, key_type)


def test_a_site_of_the_second_ca_is_signed_by_nobody_else(demo: Demo) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        served_certificate(
            demo.apache.address, demo.apache.ssl_port, PARTNER, roots_pem=demo.ca.root_pem()
        )


def test_each_ca_got_one_order_for_each_key_of_its_sites(demo: Demo) -> None:
    assert (demo.ca.orders, demo.ca.certificates) == (6, 6)
    assert (demo.partner_ca.orders, demo.partner_ca.certificates) == (1, 1)


def test_the_wildcard_was_validated_in_the_dns_and_no_record_stays(demo: Demo) -> None:
    record = f"_acme-challenge.{APPS}"
    assert demo.dns.dns_requests(record)
    assert demo.dns.txt_records(record) == set()


def test_a_vhost_without_managed_domain_is_left_alone(demo: Demo) -> None:
    scanned = run("scan", "--json", config=demo.apache.config)
    assert scanned.exit_code == 0
    assert PLAIN not in {name for one in scanned.json["domains"] for name in one["names"]}
    assert not list(demo.apache.store.rglob(f"*{PLAIN}*"))
    assert PLAIN not in demo.ca.log_text()
    assert demo.apache.get("/", PLAIN)[0] < 500


def test_a_site_on_an_apache_without_mod_md_needs_one_enroll_and_one_promote(
    make_apache: Callable[..., Apache],
    parts_folder: Path,
    validating_ca: Pebble,
    dns: Challtestsrv,
) -> None:
    apache = make_apache(
        sites_folder=EXAMPLES / "sites-without-mod_md",
        mod_md=False,
        main_extra=defines(parts_folder, validating_ca, validating_ca, dns),
    ).start()
    before = validating_ca.orders
    with pytest.raises(OSError):  # noqa: PT011 - no SSL vhost yet: any failed handshake will do
        served_certificate(apache.address, apache.ssl_port, LEGACY)

    enrolled = run("enroll", LEGACY, "--json", config=apache.config)
    assert enrolled.exit_code == 0, enrolled.output
    assert enrolled.domain(LEGACY)["outcome"] == "enrolled"
    promoted = run("promote", LEGACY, "--reload", "--json", config=apache.config)
    assert promoted.exit_code == 0, promoted.output
    assert promoted.domain(LEGACY)["served"] == "new"

    leaf = served_certificate(
        apache.address, apache.ssl_port, LEGACY, roots_pem=validating_ca.root_pem()
    )
    assert (key_of(leaf), set(names_of(leaf))) == ("RSA 2048", {LEGACY})
    assert validating_ca.orders == before + 1
    left_behind = [one for one in (parts_folder / "legacy-htdocs").rglob("*") if one.is_file()]
    assert left_behind == []


@pytest.mark.parametrize("kind", ["tls-alpn-01", "http-01"])
def test_the_command_proves_a_name_by_what_mdcachallenges_allows_alone(
    make_apache: Callable[..., Apache], validating_ca: Pebble, kind: str
) -> None:
    name = f"by-{kind}.example.org"
    site = (
        f"<MDomain {name}>\n    MDCAChallenges {kind}\n</MDomain>\n"
        f"<VirtualHost *:${{HTTPS_PORT}}>\nServerName {name}\n"
        "SSLEngine on\nProtocols http/1.1 acme-tls/1\n</VirtualHost>\n"
    )
    lines = f"{validating_ca.directives()}MDRenewMode manual\n"
    before = len(validating_ca.log_text())
    with make_apache(sites={name: site}, main_extra=lines) as apache:
        done = run("enroll", name, config=apache.config)
    assert done.exit_code == 0, done.output
    log = validating_ca.log_text()[before:]
    assert log.count("set VALID by completed challenge") == 1
    by_http = f"Attempting to validate w/ HTTP: http://{name}:" in log
    assert by_http == (kind == "http-01")
    assert names_of(leaf_in(apache.store / "staging" / name, RSA_FILE)) == {name}
    assert list((apache.store / "challenges").rglob("*.*")) == []
