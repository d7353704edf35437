"""Each finding of the doctor: a configuration that has it, and the nearest one that has not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdconnector.httpd.configuration import Configuration, load_configuration
from mdconnector.httpd.doctor import examine, lines_to_paste
from mdconnector.managed_domain import Finding, Severity

HMAC = "c2VjcmV0LW9mLXRoZS10ZXN0"
MD_MODULE = "LoadModule md_module modules/mod_md.so\n"
BASICS = """\
LoadModule ssl_module modules/mod_ssl.so
Listen 80
Listen 443
MDCertificateAuthority https://ca.example.org/dir
MDCertificateAgreement accepted
MDContactEmail hostmaster@example.org
MDRenewMode manual
MDStoreLocks on
"""
SSL_VHOST = "<VirtualHost *:443>\nServerName a.example.org\nSSLEngine on\n</VirtualHost>\n"
DOMAIN = "MDomain a.example.org\n"
ORDINARY = BASICS + DOMAIN + SSL_VHOST
EAB = f"MDExternalAccountBinding kid {HMAC}\n"


def load(folder: Path, text: str, *, mod_md: bool = True) -> Configuration:
    main = folder / "apache2.conf"
    main.write_text((MD_MODULE if mod_md else "") + text)
    return load_configuration(config=main, sites=None, store=None, environment={})


def found(folder: Path, text: str, *, mod_md: bool = True) -> tuple[Finding, ...]:
    return examine(load(folder, text, mod_md=mod_md))


def test_ordinary_configuration_has_no_finding(tmp_path: Path) -> None:
    assert found(tmp_path, ORDINARY) == ()


def without(word: str) -> str:
    return re.sub(rf"^.*{word}.*\n", "", ORDINARY, flags=re.MULTILINE)


def with_vhost_lines(lines: str, *, domain: str = DOMAIN, before: str = "") -> str:
    vhost = SSL_VHOST.replace("SSLEngine on\n", f"SSLEngine on\n{lines}\n")
    return BASICS + before + domain + vhost


HUNDRED = " ".join(f"n{number}.example.org" for number in range(100))
STATIC = (
    "<MDomain a.example.org>\nMDCertificateFile c\nMDCertificateKeyFile k\n"
    "MDRenewMode {}\n</MDomain>\n"
)
PLAIN_VHOST = "<VirtualHost *:{}>\nServerName a.example.org\n</VirtualHost>\n"
WILDCARD = "MDomain a.example.org *.example.org\n"
DNS = "MDChallengeDns01 /usr/bin/dns\n"
SECTIGO = "MDCertificateAuthority https://acme.sectigo.com/v2/{}\n"

CASES = [
    ("mod-md-renews-too", "warning", ORDINARY + "MDRenewMode auto\n", ORDINARY),
    ("store-locks-off", "info", without("MDStoreLocks"), ORDINARY),
    (
        "static-files-always",
        "warning",
        BASICS + STATIC.format("always"),
        BASICS + STATIC.format("manual"),
    ),
    ("no-ca-named", "info", without("MDCertificateAuthority"), ORDINARY),
    ("no-agreement", "warning", without("MDCertificateAgreement"), ORDINARY),
    ("no-contact", "warning", without("MDContactEmail"), ORDINARY),
    (
        "eab-missing",
        "warning",
        ORDINARY + SECTIGO.format("OV"),
        ORDINARY + SECTIGO.format("OV") + EAB,
    ),
    (
        "wildcard-at-ev",
        "warning",
        BASICS + SECTIGO.format("EV") + EAB + DNS + WILDCARD + SSL_VHOST,
        BASICS + SECTIGO.format("OV") + EAB + DNS + WILDCARD + SSL_VHOST,
    ),
    (
        "keys-not-of-this-ca",
        "warning",
        ORDINARY + SECTIGO.format("InCommonECCOV") + EAB,
        ORDINARY + SECTIGO.format("InCommonRSAOV") + EAB,
    ),
    (
        "too-many-names",
        "warning",
        f"{BASICS}<MDomain a.example.org {HUNDRED}>\n</MDomain>\n{SSL_VHOST}",
        f"{BASICS}<MDomain {HUNDRED}>\n</MDomain>\n{SSL_VHOST.replace('a.ex', 'n1.ex')}",
    ),
    (
        "wildcard-without-dns-01",
        "warning",
        BASICS + WILDCARD + SSL_VHOST,
        BASICS + WILDCARD + SSL_VHOST + DNS,
    ),
    (
        "wildcard-without-dns-01",
        "info",
        BASICS + WILDCARD + SSL_VHOST + EAB,
        BASICS + WILDCARD + SSL_VHOST + EAB + DNS,
    ),
    (
        "wildcard-without-dns-01",
        "warning",
        BASICS + WILDCARD + SSL_VHOST + DNS + "MDCAChallenges http-01\n",
        BASICS + WILDCARD + SSL_VHOST + DNS + "MDCAChallenges http-01 dns-01\n",
    ),
    (
        "no-challenge-possible",
        "warning",
        ORDINARY + "MDPortMap http:-\n",
        ORDINARY + "MDPortMap http:-\nProtocols acme-tls/1\n",
    ),
    ("no-challenge-possible", "info", ORDINARY + EAB + "MDPortMap http:8080\n", ORDINARY + EAB),
    (
        "no-challenge-possible",
        "warning",
        ORDINARY + "MDPortMap http:8080\n",
        ORDINARY + "MDPortMap http:8080\nListen 8080\n",
    ),
    (
        "acme-tls-missing",
        "warning",
        ORDINARY + "MDCAChallenges tls-alpn-01 http-01\n",
        ORDINARY + "MDCAChallenges tls-alpn-01 http-01\nProtocols http/1.1 acme-tls/1\n",
    ),
    ("domain-unused", "warning", BASICS + DOMAIN, ORDINARY),
    ("ssl-engine-off", "warning", BASICS + DOMAIN + PLAIN_VHOST.format(443), ORDINARY),
    (
        "ssl-engine-off",
        "warning",
        ORDINARY + PLAIN_VHOST.format(443),
        ORDINARY + PLAIN_VHOST.format(80),
    ),
    (
        "no-ssl-vhost",
        "info",
        BASICS + DOMAIN + PLAIN_VHOST.format(80),
        BASICS + DOMAIN + PLAIN_VHOST.format(80) + SSL_VHOST,
    ),
    (
        "alias-not-covered",
        "warning",
        with_vhost_lines("ServerAlias *.a.example.org"),
        with_vhost_lines(
            "ServerAlias *.a.example.org",
            domain="MDomain a.example.org *.a.example.org\n",
            before=DNS,
        ),
    ),
    (
        "ssl-without-certificate",
        "error",
        ORDINARY + SSL_VHOST.replace("a.ex", "b.ex"),
        ORDINARY + SSL_VHOST.replace("a.ex", "b.ex").replace("on\n", "on\nSSLCertificateFile c\n"),
    ),
    (
        "left-over-certificate",
        "warning",
        with_vhost_lines("SSLCertificateFile /etc/letsencrypt/live/a/fullchain.pem"),
        with_vhost_lines("SSLCertificateFile md/domains/a.example.org/pubcert.pem"),
    ),
]


@pytest.mark.parametrize(("code", "severity", "text", "nearest"), CASES)
def test_finding(tmp_path: Path, code: str, severity: str, text: str, nearest: str) -> None:
    (finding,) = [one for one in found(tmp_path, text) if one.code == code]
    assert finding.severity == severity
    assert finding.at
    assert finding.hint
    assert code not in [one.code for one in found(tmp_path, nearest)]


def test_left_over_names_both_lines(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, with_vhost_lines("SSLCertificateFile /old.pem"))
    main = tmp_path / "apache2.conf"
    assert finding.at == f"{main}:14"
    assert f"{main}:11" in finding.message
    assert f"{main}:10" in finding.message


IN_IFMODULE = "<IfModule md_module>\n{}</IfModule>\n"
WITHOUT_MOD_MD = "Listen 443\n" + IN_IFMODULE.format(
    "MDCertificateAuthority https://ca.example.org/dir\nMDCertificateAgreement accepted\n"
    "MDContactEmail a@example.org\nMDChallengeDns01 /bin/dns\nMDomain a.example.org\n"
)
WITHOUT_MOD_MD += "LoadModule ssl_module modules/mod_ssl.so\n"


@pytest.mark.parametrize("vhost", [SSL_VHOST, PLAIN_VHOST.format(443)])
def test_vhost_without_mod_md_is_told_the_lines_to_paste(tmp_path: Path, vhost: str) -> None:
    (finding,) = found(tmp_path, WITHOUT_MOD_MD + vhost, mod_md=False)
    assert finding.code == "not-served-from-store"
    assert f'SSLCertificateFile "{tmp_path}/md/domains/a.example.org/pubcert.pem"' in finding.hint


def test_pasted_lines_end_the_finding(tmp_path: Path) -> None:
    configuration = load(tmp_path, WITHOUT_MOD_MD + SSL_VHOST, mod_md=False)
    lines = "\n".join(lines_to_paste(configuration, configuration.domains[0]))
    vhost = f"<VirtualHost *:443>\nServerName a.example.org\n{lines}\n</VirtualHost>\n"
    assert found(tmp_path, WITHOUT_MOD_MD + vhost, mod_md=False) == ()


@pytest.mark.parametrize(("version", "codes"), [("2.4.41", ["httpd-too-old"]), ("2.4.48", [])])
def test_apache_that_is_too_old_for_a_binding(
    tmp_path: Path, version: str, codes: list[str]
) -> None:
    configuration = load(tmp_path, ORDINARY + EAB)._replace(httpd_version=version)
    assert [one.code for one in examine(configuration)] == codes


def test_many_domains_with_one_finding_are_one_line(tmp_path: Path) -> None:
    many = "".join(f"MDomain n{number}.example.org\n" for number in range(50))
    (finding,) = found(tmp_path, BASICS + many)
    assert (finding.code, finding.domain) == ("domain-unused", None)
    assert "n0.example.org and 49 more" in finding.message


DOCUMENT = Path(__file__).parents[2] / "docs" / "findings.md"
PACKAGE = Path(__file__).parents[2] / "mdconnector"
_CODE = re.compile(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"')


_RAISED = re.compile(r'(?:report|Finding|error|warn|_error|together)\(\s*"([a-z0-9-]+)"')


def explained() -> set[str]:
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", DOCUMENT.read_text(), re.MULTILINE))


def test_every_code_is_explained() -> None:
    raised = {code for code, *_ in CASES}
    for module in PACKAGE.rglob("*.py"):
        raised.update(_RAISED.findall(module.read_text()))
    settings = (PACKAGE / "httpd" / "settings.py").read_text()
    raised.update(set(_CODE.findall(settings)) - NO_CODES)
    assert raised <= explained()


NO_CODES = {
    "dns-01",
    "http-01",
    "letsencrypt-test",
    "buypass-test",
    "tls-alpn-01",
    "p-256",
    "p-384",
}


def test_severities_are_those_that_are_documented() -> None:
    rows = dict(
        re.findall(r"^\| `([a-z0-9-]+)` \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    )
    assert all(
        {severity} <= set(rows[code].replace(",", "").split()) for code, severity, *_ in CASES
    )
    words = {word for row in rows.values() for word in row.replace(",", "").split()}
    assert words <= set(Severity)
