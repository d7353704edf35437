"""What a real mod_md makes of a configuration, and a real Apache refuses, against our reading."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mdconnector.httpd.configuration import Configuration, load_configuration
from mdconnector.httpd.doctor import examine
from mdconnector.keys import KeySpec, generate_key, key_to_pem
from mdconnector.managed_domain import ManagedDomain, Severity
from tests.authority import EC_SPEC, Authority
from tests.parts import Apache, free_port

pytestmark = pytest.mark.apache

NOWHERE = "https://127.0.0.1:9/dir"
BASICS = f"MDCertificateAuthority {NOWHERE}\nMDCertificateAgreement accepted\n"


@dataclass(frozen=True)
class Case:
    """A configuration: the files of sites-enabled, lines of the main file, and other files."""

    sites: dict[str, str]
    main: str = BASICS
    files: dict[str, str] = field(default_factory=dict)


def vhost(name: str, *lines: str, port: str = "${HTTPS_PORT}", ssl: bool = True) -> str:
    """Write a <VirtualHost> on loopback."""
    all_lines = [f"ServerName {name}"] if name else []
    all_lines += [*(["SSLEngine on"] if ssl else []), *lines]
    body = "\n".join(f"    {line}" for line in all_lines)
    return f"<VirtualHost 127.0.0.1:{port}>\n{body}\n</VirtualHost>\n"


def plain(name: str, *lines: str) -> str:
    """Write a <VirtualHost> without SSL."""
    return vhost(name, *lines, port="${HTTP_PORT}", ssl=False)


def site(text: str) -> dict[str, str]:
    """Make one file of sites-enabled."""
    return {"site": text}


SECTION = """\
<MDomain all.example.org Second.Example.org manual>
    MDMember third.example.org
    MDMembers fourth.example.org auto
    MDCertificateAuthority https://127.0.0.1:9/one https://127.0.0.1:9/two
    MDCertificateAgreement https://ca.example.org/terms
    MDContactEmail mailto:section@example.org
    MDExternalAccountBinding section-kid c2VjdGlvbi1obWFj
    MDCAChallenges DNS-01 http-01
    MDChallengeDns01 /usr/bin/dns "with blanks" plain
    MDPrivateKeys secp384r1 RSA 3072
    MDMustStaple on
    MDStapling on
    MDProfile shortlived
    MDProfileMandatory on
    MDRenewViaARI off
    MDRenewMode manual
    MDRenewWindow 21d
    MDWarnWindow 5%
    MDRequireHttps permanent
    MDHttpProxy http://127.0.0.1:3128
    MDCACertificateFile /etc/ssl/section.pem
    MDHttpProxyCACertificateFile /etc/ssl/proxy.pem
</MDomain>
MDomain other.example.org
"""

CASES: dict[str, Case] = {
    "one name": Case(site("MDomain a.example.org\n" + vhost("a.example.org"))),
    "names in any case, twice": Case(
        site("MDomain A.example.ORG b.example.org a.EXAMPLE.org B.example.org")
    ),
    "quoted names": Case(site("MDomain \"a.example.org\" 'b.example.org'")),
    "words auto and manual anywhere": Case(
        site("MDomain a.example.org MANUAL b.example.org\nMDomain auto c.example.org")
    ),
    "no vhost at all": Case(site("MDomain a.example.org b.example.org")),
    "names join from an SSL vhost": Case(
        site(
            "MDomain a.example.org\n"
            + vhost(
                "a.example.org", "ServerAlias B.example.org c.example.org", "ServerAlias d.x.org"
            )
        )
    ),
    "names join by an alias": Case(
        site(
            "MDomain b.example.org\n" + vhost("a.example.org", "ServerAlias b.example.org c.org.uk")
        )
    ),
    "several SSL vhosts join in mod_md's order": Case(
        site(
            "MDomain a.example.org\n"
            + vhost("a.example.org", "ServerAlias one.example.org")
            + vhost("two.example.org", "ServerAlias a.example.org")
            + vhost("three.example.org", "ServerAlias a.example.org four.example.org")
        )
    ),
    "names do not join from a plain vhost": Case(
        site("MDomain a.example.org\n" + plain("a.example.org", "ServerAlias b.example.org"))
    ),
    "names do not join in manual mode": Case(
        site("MDomain a.example.org manual\n" + vhost("a.example.org", "ServerAlias b.example.org"))
    ),
    "manual for the whole server": Case(
        site("MDomain a.example.org\n" + vhost("a.example.org", "ServerAlias b.example.org")),
        main=BASICS + "MDMembers manual\n",
    ),
    "auto on the line wins over manual": Case(
        site("MDomain a.example.org auto\n" + vhost("a.example.org", "ServerAlias b.example.org")),
        main=BASICS + "MDMember manual\n",
    ),
    "wildcard aliases never join": Case(
        site(
            "MDomain a.example.org\n" + vhost("a.example.org", "ServerAlias *.a.example.org x.y.z")
        )
    ),
    "a wildcard alias assigns": Case(
        site(
            "MDomain a.example.org\n" + vhost("b.example.net", "ServerAlias *.example.org ?.b.net")
        )
    ),
    "a wildcard domain takes names one label deep": Case(
        site(
            "MDomain *.example.org\n"
            + vhost("a.example.org", "ServerAlias b.example.org c.d.example.org")
            + plain("x.y.example.org", "ServerAdmin not@example.org")
        )
    ),
    "a wildcard domain and a wildcard alias": Case(
        site("MDomain *.example.org\n" + vhost("z.example.net", "ServerAlias *.example.org"))
    ),
    "a later wildcard beside a specific domain": Case(
        site("MDomain a.example.org\nMDomain *.example.org\n" + plain("a.example.org"))
    ),
    "two domains on a plain vhost": Case(
        site(
            "MDomain a.example.org\nMDomain b.example.org\n"
            + plain("a.example.org", "ServerAlias b.example.org")
        )
    ),
    "servernames: aliases do not assign": Case(
        site(
            "MDMatchNames servernames\nMDomain a.example.org\nMDomain b.example.org\n"
            + vhost("a.example.org", "ServerAlias b.example.org")
        )
    ),
    "servernames: a specific name displaces a wildcard": Case(
        site(
            "MDMatchNames servernames\nMDomain *.example.org\nMDomain a.example.org\n"
            + vhost("a.example.org", "ServerAlias q.example.net")
            + vhost("b.example.org", "ServerAlias r.example.net")
        )
    ),
    "servernames: a wildcard does not displace a specific name": Case(
        site(
            "MDMatchNames servernames\nMDomain a.example.org\nMDomain *.example.org\n"
            + vhost("a.example.org", "ServerAlias q.example.net")
        )
    ),
    "the base server is left out": Case(
        site("MDomain main.invalid x.example.org"), main=BASICS + "SSLEngine off\n"
    ),
    "the base server takes part": Case(
        site("MDBaseServer on\nMDomain x.example.org main.invalid\n" + plain("x.example.org"))
    ),
    "settings of the section": Case(site(SECTION)),
    "settings of the server": Case(
        site("MDomain a.example.org\n<MDomainSet b.example.org>\n</MDomainSet>"),
        main="""\
MDCertificateAuthority https://127.0.0.1:9/base
MDCertificateAgreement accepted
MDContactEmail base@example.org
MDExternalAccountBinding base-kid YmFzZS1obWFj
MDCAChallenges tls-alpn-01 dns-01
MDChallengeDns01 /usr/bin/dns01 --flag
MDPrivateKeys RSA4096 secp256r1
MDMustStaple On
MDStapling on
MDProfile classic
MDProfileMandatory on
MDRenewViaARI off
MDRenewWindow 30%
MDWarnWindow 36h
MDRequireHttps temporary
MDHttpProxy http://127.0.0.1:3128
MDCACertificateFile /etc/ssl/base.pem
""",
    ),
    "a section switches off what the server says": Case(
        site(
            "<MDomain a.example.org>\nMDExternalAccountBinding none\nMDMustStaple off\n"
            "MDStapling off\nMDRequireHttps off\nMDProfileMandatory off\nMDRenewViaARI on\n"
            "</MDomain>"
        ),
        main=BASICS
        + "MDExternalAccountBinding base-kid YmFzZS1obWFj\nMDMustStaple on\nMDStapling on\n"
        "MDRequireHttps permanent\nMDProfileMandatory on\nMDRenewViaARI off\n",
    ),
    "settings after the domain, and a second value": Case(
        site("MDomain a.example.org"),
        main=BASICS,
        files={
            "sites-enabled/z.conf": "MDPrivateKeys RSA 2048\nMDPrivateKeys secp384r1\n"
            "MDCAChallenges http-01\nMDCAChallenges dns-01\nMDRenewWindow 10d\nMDRenewWindow 12h\n"
        },
    ),
    "a domain within a vhost": Case(
        site(vhost("a.example.org", "MDomain a.example.org b.example.org"))
    ),
    "a section within a vhost": Case(
        site(
            vhost(
                "a.example.org",
                "<MDomain a.example.org>",
                "MDRenewWindow 9d",
                "</MDomain>",
                "ServerAlias c.example.org",
            )
        )
    ),
    "settings in a vhost have no effect": Case(
        site(
            "MDomain a.example.org\n"
            + vhost(
                "a.example.org",
                "MDCertificateAuthority https://127.0.0.1:9/vhost",
                "MDRenewWindow 3d",
                "MDPrivateKeys secp384r1",
                "MDExternalAccountBinding vhost-kid dmhvc3Q",
                "MDMembers manual",
                "ServerAlias b.example.org",
            )
        )
    ),
    "global settings in a vhost hold for all": Case(
        site(
            "MDomain a.example.org\nMDomain b.example.org\n"
            + vhost("a.example.org", "MDMatchNames servernames", "ServerAlias b.example.org")
        )
    ),
    "contact: ServerAdmin of the server": Case(
        site("MDomain a.example.org\n" + vhost("a.example.org", "ServerAdmin vhost@example.org")),
        main=BASICS + "ServerAdmin admin@example.org\n",
    ),
    "contact: MDContactEmail before ServerAdmin": Case(
        site("MDomain a.example.org"),
        main=BASICS + "ServerAdmin admin@example.org\nMDContactEmail md@example.org\n",
    ),
    "contact: the vhost's, where the server has none": Case(
        site(
            "MDomain a.example.org\n"
            + plain("a.example.org", "ServerAdmin first@example.org")
            + vhost("a.example.org", "ServerAdmin s@example.org", "MDContactEmail last@example.org")
        )
    ),
    "contact: a URI stays": Case(
        site("MDomain a.example.org"), main=BASICS + "ServerAdmin mailto:x@example.org\n"
    ),
    "contact: none": Case(site("MDomain a.example.org\n" + vhost("a.example.org"))),
    "keys: RSA alone, then a curve": Case(
        site(
            "<MDomain a.example.org>\nMDPrivateKeys RSA\n</MDomain>\n"
            "<MDomain b.example.org>\nMDPrivateKeys Default\n</MDomain>\n"
            "<MDomain c.example.org>\nMDPrivateKeys rsa4096 P-256 SECP384R1\n</MDomain>\n"
            "<MDomain d.example.org>\nMDPrivateKeys secp256r1 rsa 2048\n</MDomain>\n"
        )
    ),
    "windows and modes": Case(
        site(
            "<MDomain a.example.org>\nMDRenewWindow 90mi\nMDWarnWindow 45S\n</MDomain>\n"
            "<MDomain b.example.org>\nMDRenewWindow 250s\nMDWarnWindow 7\n</MDomain>\n"
            "<MDomain c.example.org>\nMDRenewWindow 99%\nMDWarnWindow 1%\nMDDriveMode stick\n"
            "</MDomain>\n"
            "<MDomain d.example.org>\nMDRenewMode Always\n</MDomain>\n"
            "<MDomain e.example.org>\nMDRenewMode automatic\n</MDomain>\n"
        )
    ),
    "names of known CAs": Case(
        site("MDomain a.example.org"),
        main="MDCertificateAuthority letsencrypt-test Buypass-Test LetsEncrypt buypass\n",
    ),
    "no CA named": Case(site("MDomain a.example.org"), main=""),
    "account binding from a file": Case(
        site("MDExternalAccountBinding eab.json\nMDomain a.example.org"),
        files={"eab.json": '{"kid": "file-kid", "hmac": "ZmlsZS1obWFj"}'},
    ),
    "challenges in capitals": Case(site("MDCAChallenges HTTP-01 Dns-01\nMDomain a.example.org")),
    "acme-tls/1 in Protocols": Case(
        site(
            "MDomain a.example.org b.example.org\n"
            + vhost("a.example.org", "Protocols http/1.1 acme-tls/1")
            + vhost("b.example.org", "Protocols http/1.1")
        )
    ),
    "acme-tls/1 for the server, on other ports": Case(
        site(
            "MDomain a.example.org\nMDomain b.example.org\n"
            + vhost("a.example.org")
            + vhost("b.example.org", port="*")
        ),
        main=BASICS + "Protocols h2 http/1.1 acme-tls/1\n",
    ),
    "acme-tls/1 asked for by name, on any port": Case(
        site(
            "MDCAChallenges tls-alpn-01\nMDomain b.example.org\n"
            + vhost("b.example.org", "Protocols acme-tls/1", port="*")
        )
    ),
    "acme-tls/1 without a public port": Case(
        site(
            "MDPortMap https:-\nMDomain b.example.org\n"
            + vhost("b.example.org", "Protocols acme-tls/1")
        )
    ),
    "static files": Case(
        site(
            "<MDomain a.example.org>\nMDCertificateFile static/cert.pem\n"
            "MDCertificateKeyFile static/key.pem\n</MDomain>\n" + vhost("a.example.org")
        )
    ),
    "ServerName with scheme and port": Case(
        site(
            "MDomain a.example.org\n"
            + vhost("https://A.example.org:8443", "ServerAlias b.example.org")
        )
    ),
    "the second ServerName counts": Case(
        site("MDomain b.example.org\n" + vhost("a.example.org", "ServerName b.example.org"))
    ),
    "a vhost without ServerName has the main server's": Case(
        site(
            "MDomain a.example.org\n<VirtualHost *:${HTTPS_PORT}>\nSSLEngine on\n"
            "ServerAlias a.example.org\n</VirtualHost>"
        )
    ),
    "the host in the vhost's address": Case(
        site(
            "MDomain localhost.localdomain\nMDomain localhost\n"
            "<VirtualHost localhost:${HTTPS_PORT}>\nServerName q.example.org:${HTTPS_PORT}\n"
            "SSLEngine on\n</VirtualHost>"
        )
    ),
    "the host in the vhost's address with another port": Case(
        site(
            "MDomain localhost\n<VirtualHost localhost:${HTTPS_PORT}>\nServerName q.example.org\n"
            "ServerAdmin not@example.org\n</VirtualHost>"
        )
    ),
    "several addresses": Case(
        site(
            "MDomain a.example.org\n"
            "<VirtualHost 127.0.0.1:${HTTPS_PORT} [::1]:8443 _default_:8444 *>\n"
            "ServerName a.example.org\nServerAlias b.example.org\nSSLEngine on\n</VirtualHost>"
        )
    ),
    "SSLEngine inherited from the server": Case(
        site(
            "MDomain a.example.org main.invalid\n"
            + vhost("a.example.org", "ServerAlias b.example.org", ssl=False)
            + plain("a.example.org", "SSLEngine off", "ServerAlias c.example.org")
        ),
        main=BASICS + "SSLEngine on\nMDBaseServer on\n",
    ),
    "SSL by the listener and a certificate": Case(
        site(
            "MDomain a.example.org\nMDomain b.example.org\n"
            + vhost(
                "a.example.org",
                "SSLCertificateFile static/cert.pem",
                "SSLCertificateKeyFile static/key.pem",
                "ServerAlias c.example.org",
                ssl=False,
            )
            + vhost("b.example.org", "ServerAlias d.example.org", ssl=False)
        )
    ),
    "a certificate, and a listener for all addresses": Case(
        site(
            "MDomain a.example.org\nListen ${OTHER_PORT} https\n<VirtualHost *:${OTHER_PORT}>\n"
            "ServerName a.example.org\nServerAlias b.example.org\n"
            "SSLCertificateFile static/cert.pem\nSSLCertificateKeyFile static/key.pem\n"
            "</VirtualHost>"
        )
    ),
    "a vhost in an MD section": Case(
        site(
            "<MDomainSet a.example.org>\n"
            + vhost("a.example.org", "ServerAlias b.example.org")
            + "MDRenewWindow 8d\n</MDomainSet>"
        )
    ),
    "macros and variables": Case(
        site(
            "Define DOM example.org\n<Macro VHost $name $port>\nMDomain $name.${DOM}\n"
            "<VirtualHost 127.0.0.1:$port>\nServerName $name.${DOM}\nServerAlias www.$name.${DOM}\n"
            "SSLEngine on\n</VirtualHost>\n</Macro>\n"
            "Use VHost a ${HTTPS_PORT}\nUse VHost b ${HTTPS_PORT}\n"
        )
    ),
    "sections in conditions": Case(
        site(
            "<IfModule md_module>\nMDomain a.example.org\n</IfModule>\n"
            "<IfModule !mod_md.c>\nMDomain b.example.org\n</IfModule>\n"
            "<IfFile /nowhere>\nMDomain c.example.org\n</IfFile>\n"
        )
    ),
    "paths and commands of the whole server in a section's place": Case(
        site(
            "MDChallengeDns01Version 2\n"
            "<MDomain a.example.org>\nMDChallengeDns01 /own/dns\n</MDomain>\n"
            "<MDomain b.example.org>\nMDCACertificateFile none\n</MDomain>\n"
        ),
        main=BASICS + "MDCACertificateFile none\nMDChallengeDns01 /base/dns\n",
    ),
    "an auto section word that is a name": Case(
        site("<MDomain auto.example.org manual>\n</MDomain>")
    ),
}

REFUSED: dict[str, Case] = {
    "overlap": Case(site("MDomain a.example.org b.example.org\nMDomain b.example.org")),
    "overlap by a wildcard": Case(site("MDomain *.example.org\nMDomain b.example.org")),
    "two domains on one SSL vhost": Case(
        site(
            "MDomain a.example.org\nMDomain b.example.org\n"
            + vhost("a.example.org", "ServerAlias b.example.org")
        )
    ),
    "static files of unequal number": Case(
        site("<MDomain a.example.org>\nMDCertificateFile static/cert.pem\n</MDomain>")
    ),
    "a static key alone": Case(
        site("<MDomain a.example.org>\nMDCertificateKeyFile static/key.pem\n</MDomain>")
    ),
    "unknown protocol": Case(site("MDCertificateProtocol SCEP\nMDomain a.example.org")),
    "MDomain without a name": Case(site("MDomain auto")),
    "a section without a name": Case(site("<MDomain>\n</MDomain>")),
    "a section in a section": Case(
        site("<MDomain a.example.org>\n<MDomain b.example.org>\n</MDomain>\n</MDomain>")
    ),
    "a domain in a section": Case(
        site("<MDomain a.example.org>\nMDomain b.example.org\n</MDomain>")
    ),
    "members outside of a section": Case(site("MDomain a.example.org\nMDMembers b.example.org")),
    "static file outside of a section": Case(site("MDCertificateFile static/cert.pem")),
    "global setting in a section": Case(
        site("<MDomain a.example.org>\nMDStoreDir elsewhere\n</MDomain>")
    ),
    "unknown renew mode": Case(site("MDRenewMode sometimes\nMDomain a.example.org")),
    "window of 100 %": Case(site("MDRenewWindow 100%\nMDomain a.example.org")),
    "window without a number": Case(site("MDWarnWindow soon\nMDomain a.example.org")),
    "window in minutes spelled m": Case(site("MDRenewWindow 30m\nMDomain a.example.org")),
    "two RSA keys": Case(site("MDPrivateKeys RSA RSA4096\nMDomain a.example.org")),
    "a curve twice": Case(site("MDPrivateKeys secp256r1 SECP256R1\nMDomain a.example.org")),
    "RSA of 1024 bits": Case(site("MDPrivateKeys RSA 1024\nMDomain a.example.org")),
    "Default beside another key": Case(site("MDPrivateKeys Default RSA\nMDomain a.example.org")),
    "a CA that is no URL": Case(site("MDCertificateAuthority Sectigo\nMDomain a.example.org")),
    "an account binding whose file is missing": Case(
        site("MDExternalAccountBinding nowhere.json\nMDomain a.example.org")
    ),
    "an account binding whose file has no kid": Case(
        site("MDExternalAccountBinding eab.json\nMDomain a.example.org"),
        files={"eab.json": '{"hmac": "ZmlsZS1obWFj"}'},
    ),
    "an account binding of three words": Case(
        site("MDExternalAccountBinding one two three\nMDomain a.example.org")
    ),
    "a comment after a value": Case(
        site("MDContactEmail a@example.org # me\nMDomain a.example.org")
    ),
    "on and off": Case(site("MDMustStaple yes\nMDomain a.example.org")),
    "a map of other ports": Case(site("MDPortMap 8080:80\nMDomain a.example.org")),
    "unknown match mode": Case(site("MDMatchNames some\nMDomain a.example.org")),
    "unknown version of dns-01": Case(site("MDChallengeDns01Version 3\nMDomain a.example.org")),
    "no such directive": Case(
        site("MDCertificateMonitor crt.sh https://crt.sh\nMDomain a.example.org")
    ),
    "a delay of nothing": Case(site("MDRetryDelay 0\nMDomain a.example.org")),
    "https permanently": Case(site("MDRequireHttps always\nMDomain a.example.org")),
    "a bad SSLEngine": Case(
        site("MDomain a.example.org\n" + vhost("a.example.org", "SSLEngine yes"))
    ),
    "a pattern as ServerName": Case(site(vhost("*.example.org"))),
    "a bare port as address": Case(site("<VirtualHost 8443>\n</VirtualHost>")),
    "an SSL vhost that has no certificate": Case(site(vhost("a.example.org"))),
    "a comment behind a name": Case(site(vhost("a.example.org # ours"))),
    "an unclosed vhost": Case(site("<VirtualHost *:8443>\nServerName a.example.org")),
}


def prepare(folder: Path, case: Case) -> Apache:
    """Write the files of a case for an Apache that is not started."""
    folder.joinpath("static").mkdir()
    key = generate_key(EC_SPEC)
    leaf = Authority().leaf(("a.example.org",), key)
    folder.joinpath("static", "cert.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    folder.joinpath("static", "key.pem").write_bytes(key_to_pem(key))
    main = f"Define OTHER_PORT {free_port()}\n{case.main}"
    apache = Apache(folder, sites=case.sites, main_extra=main)
    for name, text in case.files.items():
        folder.joinpath(name).write_text(text)
    return apache


def read(apache: Apache) -> Configuration:
    """Read the configuration of an Apache ourselves."""
    return load_configuration(
        config=apache.config, sites=None, store=None, environment={}, httpd=apache.binary
    )


@pytest.mark.parametrize("name", CASES)
def test_managed_domains_are_those_of_mod_md(name: str, parts_folder: Path) -> None:
    apache = prepare(parts_folder, CASES[name])
    configuration = read(apache)
    with apache:
        written = {
            entry.name: json.loads((entry / "md.json").read_text())
            for entry in (apache.store / "domains").iterdir()
        }
    ours = {domain.name: as_mod_md_writes(domain) for domain in configuration.domains}
    theirs = {name: comparable(record) for name, record in written.items()}
    assert ours == theirs


@pytest.mark.parametrize("name", REFUSED)
def test_what_apache_refuses_to_start_with_is_an_error(name: str, parts_folder: Path) -> None:
    apache = prepare(parts_folder, REFUSED[name])
    configuration = read(apache)
    findings = (*configuration.findings, *examine(configuration))
    errors = [one for one in findings if one.severity is Severity.ERROR]
    assert errors
    assert all(one.at and one.hint for one in errors)
    with pytest.raises((RuntimeError, TimeoutError)), apache:
        pass


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """Bring what mod_md wrote into the form of `as_mod_md_writes`."""
    ca = record["ca"]
    keys = record.get("privkey", [])
    return {
        "domains": [name.lower() for name in record["domains"]],
        "contacts": record["contacts"],
        "transitive": record["transitive"],
        "ca.urls": ca.get("urls"),
        "ca.agreement": ca.get("agreement"),
        "ca.challenges": ca.get("challenges"),
        "privkey": keys if isinstance(keys, list) else [keys],
        **{key: record.get(key) for key in _PLAIN},
        "acme-tls/1": [name.lower() for name in record["proto"]["acme-tls/1"]],
    }


_PLAIN = (
    "renew-mode",
    "renew-window",
    "warn-window",
    "require-https",
    "must-staple",
    "stapling",
    "cert-files",
    "pkey-files",
    "cmd-dns-01",
    "proxy-url",
    "ca-certs",
    "proxy-ca-certs",
    "eab",
    "profile",
    "profile-mandatory",
    "ari-renewals",
)


def as_mod_md_writes(domain: ManagedDomain) -> dict[str, Any]:
    """Write a domain in the words of md.json."""
    own = domain.section_settings
    return {
        "domains": list(domain.names),
        "contacts": [domain.contact] if domain.contact else [],
        "transitive": int(domain.members_auto),
        "ca.urls": list(domain.effective_ca_urls),
        "ca.agreement": domain.agreement,
        "ca.challenges": list(domain.challenges) or None,
        "privkey": [key_record(spec) for spec in domain.configured_key_specs],
        "renew-mode": domain.renew_mode.value,
        "renew-window": str(domain.renew_window),
        "warn-window": str(domain.warn_window),
        "require-https": domain.require_https,
        "must-staple": domain.must_staple,
        "stapling": domain.stapling,
        "cert-files": [certificate for certificate, _ in domain.static_pairs] or None,
        "pkey-files": [key for _, key in domain.static_pairs] or None,
        "cmd-dns-01": domain.dns01_command if "cmd-dns-01" in own else None,
        "proxy-url": domain.proxy_url if "proxy-url" in own else None,
        "ca-certs": domain.ca_certificates if "ca-certs" in own else None,
        "proxy-ca-certs": domain.proxy_ca_certificates if "proxy-ca-certs" in own else None,
        "eab": {"kid": domain.eab.kid, "hmac": domain.eab.hmac} if domain.eab else None,
        "profile": domain.profile,
        "profile-mandatory": domain.profile_mandatory,
        "ari-renewals": domain.ari_renewals,
        "acme-tls/1": list(domain.acme_tls_names),
    }


def key_record(spec: KeySpec) -> dict[str, Any]:
    """Write a key spec in the words of md.json."""
    match spec.kind:
        case "Default":
            return {"type": "Default"}
        case "RSA":
            return {"type": "RSA", "bits": spec.bits}
        case _:
            return {"type": "EC", "curve": spec.curve}
