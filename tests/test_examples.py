"""The example sites are what a real Apache takes, and declare what the demo promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts import Apache, Challtestsrv

EXAMPLES = Path(__file__).parent.parent / "examples"


def defines(folder: Path) -> str:
    """Return values for the names that the example sites use, with no server behind them."""
    eab_file = folder / "eab.json"
    eab_file.write_text('{"kid": "kid-1", "hmac": "c2VjcmV0"}')
    values = {
        "CA_DIRECTORY": "https://localhost:1/dir",
        "CA_BUNDLE": "system",
        "EAB_FILE": str(eab_file),
        "PARTNER_CA_DIRECTORY": "https://localhost:2/dir",
        "PARTNER_CA_BUNDLE": "system",
        "PARTNER_KID": "kid-2",
        "PARTNER_HMAC": "c2VjcmV0",
        "DNS_01_COMMAND": "/bin/false",
        "LEGACY_ROOT": str(folder),
    }
    return "\n".join(f'Define {name} "{value}"' for name, value in values.items())


@pytest.mark.apache
def test_mod_md_finds_the_managed_domains_of_the_example_sites(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    apache = make_apache(sites_folder=EXAMPLES / "sites-enabled", main_extra=defines(parts_folder))
    with apache:
        found = {
            domain["name"]: set(domain["domains"])
            for domain in apache.md_status()["managed-domains"]
        }
    portal, apps = "portal.example.org", "apps.example.org"
    assert found == {
        "shop.example.org": {"shop.example.org"},
        portal: {portal, f"www.{portal}", f"old-{portal}"},
        "api.example.org": {"api.example.org"},
        "mail.example.org": {"mail.example.org"},
        apps: {apps, f"*.{apps}"},
        "partner.example.net": {"partner.example.net"},
    }


@pytest.mark.apache
def test_an_apache_without_mod_md_starts_before_its_certificate_exists(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    apache = make_apache(
        sites_folder=EXAMPLES / "sites-without-mod_md",
        mod_md=False,
        main_extra=defines(parts_folder),
    )
    with apache:
        assert apache.get("/eab.json", "legacy.example.org")[0] == 200


@pytest.mark.pebble
def test_the_dns_01_command_sets_records_and_clears_them(
    dns: Challtestsrv,
) -> None:
    domain = "command.example.org"
    for arguments, expected in (
        (("setup", domain, "first"), {"first"}),
        (("setup", domain, "second"), {"first", "second"}),
        (("teardown", domain), set()),
    ):
        subprocess.run(
            [
                sys.executable,
                EXAMPLES / "dns-01" / "challtestsrv.py",
                dns.management_url,
                *arguments,
            ],
            check=True,
            env={"PATH": os.defpath},
            timeout=30,
        )
        assert dns.txt_records(f"_acme-challenge.{domain}") == expected
