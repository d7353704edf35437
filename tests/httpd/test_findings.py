"""Each finding that the text of a configuration has: one that has it, and the nearest without.

Findings about how lines fit together are in test_doctor.py, about the disk in test_examination.py
and tests/store/test_inspection.py, about what Apache itself reads in test_verification.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdconnector.httpd import reading
from mdconnector.httpd.configuration import load_configuration
from mdconnector.httpd.doctor import examine
from mdconnector.httpd.lexer import MAX_LINE_BYTES
from mdconnector.managed_domain import Finding
from tests.httpd import test_doctor

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "findings.md"
MODULES = "LoadModule md_module m.so\nLoadModule ssl_module s.so\nLoadModule macro_module x.so\n"
DOMAIN = "MDomain a.example.org\n"
CA = "MDCertificateAuthority https://ca.example.org/dir\n"
HMAC = "c2VjcmV0LW9mLXRoZS10ZXN0"
EAB = "MDExternalAccountBinding"
MACRO = "<Macro M $x>\nUnsetEnv $x\n</Macro>\n"
VHOST = "<VirtualHost *:443>\nServerName a.example.org\n{}\n</VirtualHost>\n"
SECTION = "<MDomain a.example.org>\n{}\n</MDomain>\n"
SSL = VHOST.format("SSLEngine on\n{}")


BESIDE = {
    "bom.conf": "\ufeffUnsetEnv x\n",
    "plain.conf": "UnsetEnv x\n",
    "eab.json": f'{{"kid": "kid", "hmac": "{HMAC}"}}',
}


def words(count: int) -> str:
    """Return `count` names."""
    return " ".join(f"n{number}.example.org" for number in range(count))


CASES: list[tuple[str, str, str, str]] = [
    # while the files are read
    ("byte-order-mark", "error", "Include bom.conf\n", "Include plain.conf\n"),
    ("line-too-long", "error", "Include long.conf\n", "Include plain.conf\n"),
    ("unclosed-tag", "error", "<Files x\n</Files>\n", "<Files x>\n</Files>\n"),
    ("unclosed-section", "error", "<Files x>\n", "<Files x>\n</Files>\n"),
    (
        "unclosed-section",
        "warning",
        "<IfModule core.c>\n",
        "<IfModule core.c>\n</IfModule>\n",
    ),
    (
        "unmatched-tag",
        "error",
        "<Files a>\n<Limit b>\n</Files>\n</Limit>\n",
        "<Files a>\n<Limit b>\n</Limit>\n</Files>\n",
    ),
    (
        "bad-condition",
        "error",
        "<IfVersion >=2.4>\n</IfVersion>\n",
        "<IfVersion >= 2.4>\n</IfVersion>\n",
    ),
    ("bad-arguments", "error", "Define\n", "Define A\n"),
    ("bad-arguments", "error", "ServerName a.org # x\n", "ServerName a.org\n# x\n"),
    ("bad-define", "error", "Define a:b\n", "Define a b\n"),
    ("bad-macro", "error", "<Macro M $a $a>\n</Macro>\n", "<Macro M $a $b>\n</Macro>\n"),
    ("bad-use", "error", f"{MACRO}Use M\n\n", f"{MACRO}Use M y\n\n"),
    ("unknown-macro", "error", f"Use M y\n{MACRO}\n", f"{MACRO}Use M y\n\n"),
    ("bad-server-root", "error", "ServerRoot none\n", "ServerRoot {folder}\n"),
    ("include-failed", "error", "Include none.conf\n", "IncludeOptional none.conf\n"),
    (
        "error-directive",
        "error",
        "<IfModule core.c>\nError no\n</IfModule>\n",
        "<IfModule none.c>\nError no\n</IfModule>\n",
    ),
    ("last-line-lost", "warning", f"{MACRO}Use M y\nUnsetEnv z", f"{MACRO}Use M y\nUnsetEnv z\n"),
    ("undefined-variable", "warning", "UnsetEnv ${A}\n", "Define A 1\nUnsetEnv ${A}\n"),
    (
        "unknown-directive-asked",
        "warning",
        "<IfDirective PassengerRoot>\n</IfDirective>\n",
        "<IfDirective SSLEngine>\n</IfDirective>\n",
    ),
    # virtual hosts
    (
        "bad-vhost-address",
        "error",
        "<VirtualHost 443>\n</VirtualHost>\n",
        "<VirtualHost *:443>\n</VirtualHost>\n",
    ),
    ("bad-listen", "error", "Listen somewhere\n", "Listen 443\n"),
    (
        "bad-server-name",
        "error",
        VHOST.format("ServerName *.example.org"),
        VHOST.format("ServerAlias *.example.org"),
    ),
    ("bad-ssl-engine", "error", VHOST.format("SSLEngine yes"), VHOST.format("SSLEngine off")),
    (
        "comment-words",
        "warning",
        VHOST.format("ServerAlias b.org # was c.org"),
        VHOST.format("ServerAlias b.org\n# was c.org"),
    ),
    # lines for mod_md
    ("bad-directive", "error", "MDMustStaple yes\n", "MDMustStaple on\n"),
    ("unknown-md-directive", "error", "MDStorDir x\n", "MDStoreDir x\n"),
    ("too-many-words", "error", f"MDomain {words(65)}\n", f"MDomain {words(64)}\n"),
    ("bad-ca", "error", "MDCertificateAuthority Sectigo\n", "MDCertificateAuthority Buypass\n"),
    (
        "ca-not-https",
        "error",
        "MDCertificateAuthority http://ca.example.org/dir\n",
        "MDCertificateAuthority http://127.0.0.1/dir\n",
    ),
    ("bad-eab", "error", f"{EAB} kid not/base64url\n", f"{EAB} kid {HMAC}\n"),
    ("bad-eab-file", "error", f"{EAB} none.json\n", f"{EAB} eab.json\n"),
    ("eab-without-ca", "error", f"{EAB} kid {HMAC}\n{DOMAIN}", f"{EAB} kid {HMAC}\n{CA}{DOMAIN}"),
    ("eab-hmac-padded", "warning", f"{EAB} kid {HMAC}=\n", f"{EAB} kid {HMAC}\n"),
    ("bad-keys", "error", "MDPrivateKeys RSA 1024\n", "MDPrivateKeys RSA 2048\n"),
    ("bad-keys", "error", "MDPrivateKeys secp521r1\n", "MDPrivateKeys secp384r1\n"),
    ("unusual-key-size", "warning", "MDPrivateKeys RSA 2500\n", "MDPrivateKeys RSA 3072\n"),
    ("curve-spelling", "warning", "MDPrivateKeys p-256\n", "MDPrivateKeys P-256\n"),
    ("bad-renew-mode", "error", "MDRenewMode sometimes\n", "MDRenewMode stick\n"),
    ("bad-window", "error", "MDRenewWindow 100%\n", "MDRenewWindow 99%\n"),
    ("bad-duration", "error", "MDRetryDelay 0\n", "MDRetryDelay 1\n"),
    ("bad-duration", "error", "MDStoreLocks soon\n", "MDStoreLocks 5s\n"),
    ("unknown-challenge", "error", "MDCAChallenges http01\n", "MDCAChallenges http-01\n"),
    ("unknown-challenge", "warning", "MDCAChallenges http-01 x\n", "MDCAChallenges http-01\n"),
    ("bad-contact", "warning", "MDContactEmail hostmaster\n", "MDContactEmail h@example.org\n"),
    (
        "md-setting-in-vhost",
        "error",
        DOMAIN + VHOST.format("MDRenewMode manual"),
        DOMAIN + VHOST.format("") + "MDRenewMode manual\n",
    ),
    (
        "md-global-in-vhost",
        "warning",
        VHOST.format("MDPortMap http:81"),
        "MDPortMap http:81\n" + VHOST.format(""),
    ),
    ("md-wrong-place", "error", SECTION.format("MDStoreDir x"), "MDStoreDir x\n" + DOMAIN),
    ("md-wrong-place", "error", "MDMembers b.org\n", SECTION.format("MDMembers b.example.org")),
    ("mdomain-without-name", "error", "MDomain auto\n", "MDomain auto a.example.org\n"),
    (
        "static-files-unequal",
        "error",
        SECTION.format("MDCertificateFile c"),
        SECTION.format("MDCertificateFile c\nMDCertificateKeyFile k"),
    ),
    # names and domains
    ("name-refused", "error", "MDomain under_score.example.org\n", DOMAIN),
    ("name-refused", "error", "MDomain a.example.org # shop\n", f"{DOMAIN}# shop\n"),
    (
        "name-refused",
        "error",
        DOMAIN + SSL.format("ServerAlias intranet"),
        DOMAIN + SSL.format("ServerAlias b.example.org"),
    ),
    (
        "overlap",
        "error",
        f"{DOMAIN}MDomain b.example.org a.example.org\n",
        f"{DOMAIN}MDomain b.example.org\n",
    ),
    (
        "overlap-unread",
        "error",
        f"{DOMAIN}<IfDefine MDCONNECTOR>\nMDomain b.org a.example.org\n</IfDefine>\n",
        f"{DOMAIN}<IfDefine MDCONNECTOR>\nMDomain b.org\n</IfDefine>\n",
    ),
    (
        "domains-on-ssl-vhost",
        "error",
        f"{DOMAIN}MDomain b.example.org\n" + SSL.format("ServerAlias b.example.org"),
        f"{DOMAIN}MDomain b.example.org\n" + SSL.format("ServerAlias c.example.org"),
    ),
    (
        "domains-on-ssl-vhost-unread",
        "error",
        f"{DOMAIN}<IfDefine MDCONNECTOR>\nMDomain b.example.org\n</IfDefine>\n"
        + SSL.format("ServerAlias b.example.org"),
        f"{DOMAIN}<IfDefine MDCONNECTOR>\nMDomain b.example.org\n</IfDefine>\n"
        + SSL.format("ServerAlias c.example.org"),
    ),
    (
        "name-not-covered",
        "warning",
        "MDomain a.example.org manual\n" + SSL.format("ServerAlias b.example.org"),
        "MDomain a.example.org b.example.org manual\n" + SSL.format("ServerAlias b.example.org"),
    ),
]

WITHOUT_MODULES = [
    ("macro-not-loaded", "error", MACRO, f"LoadModule macro_module x.so\n{MACRO}"),
    ("mod-md-not-loaded", "error", DOMAIN, f"<IfModule md_module>\n{DOMAIN}</IfModule>\n"),
]


def found(folder: Path, text: str, *, before: str = MODULES) -> tuple[Finding, ...]:
    """Return what is found where this is the main file."""
    main = folder / "apache2.conf"
    main.write_text(before + text.replace("{folder}", str(folder)))
    for name, content in BESIDE.items():
        (folder / name).write_text(content)
    if "long.conf" in text:
        (folder / "long.conf").write_text("UnsetEnv " + "x" * MAX_LINE_BYTES + "\n")
    configuration = load_configuration(config=main, sites=None, store=None, environment={})
    return (*configuration.findings, *examine(configuration))


def is_found(findings: tuple[Finding, ...], code: str, severity: str) -> bool:
    """Say whether there is a finding of this kind, and that it can be acted on."""
    of_kind = [one for one in findings if (one.code, one.severity) == (code, severity)]
    assert all(one.at and one.message and one.hint for one in of_kind)
    return bool(of_kind)


@pytest.mark.parametrize(("code", "severity", "text", "nearest"), CASES)
def test_finding(tmp_path: Path, code: str, severity: str, text: str, nearest: str) -> None:
    assert is_found(found(tmp_path, text), code, severity)
    assert code not in [one.code for one in found(tmp_path, nearest)]


@pytest.mark.parametrize(("code", "severity", "text", "nearest"), WITHOUT_MODULES)
def test_finding_without_modules(
    tmp_path: Path, code: str, severity: str, text: str, nearest: str
) -> None:
    assert is_found(found(tmp_path, text, before=""), code, severity)
    assert code not in [one.code for one in found(tmp_path, nearest, before="")]


def test_finding_of_envvars(tmp_path: Path) -> None:
    (tmp_path / "envvars").write_text("exit 3\n")
    assert is_found(found(tmp_path, ""), "envvars-failed", "error")
    (tmp_path / "envvars").write_text("export A=1\n")
    assert found(tmp_path, "") == ()


def test_finding_of_files_that_multiply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Include plain.conf\nInclude plain.conf\n"
    monkeypatch.setattr(reading, "MAX_FILES", 2)
    assert is_found(found(tmp_path, text), "too-much", "error")
    monkeypatch.setattr(reading, "MAX_FILES", 3)
    assert found(tmp_path, text) == ()


ELSEWHERE = {
    "httpd-too-old": "httpd/test_doctor.py",
    "not-served-from-store": "httpd/test_doctor.py",
    "eab-readable-by-all": "test_examination.py",
    "eab-writable-by-others": "test_examination.py",
    "hook-not-run": "test_examination.py",
    "mod-md-too-old": "test_examination.py",
    "pair-broken": "test_examination.py",
    "pair-not-checked": "test_examination.py",
    "certificate-expired": "test_examination.py",
    "live-set-broken": "test_examination.py",
    "served-but-not-declared": "test_examination.py",
    "store": "e2e/test_bad_input.py",
    "store-readable-by-all": "store/test_inspection.py",
    "store-too-open": "store/test_inspection.py",
    "store-wrong-owner": "store/test_inspection.py",
    "store-split": "store/test_inspection.py",
    "store-not-inspected": "store/test_inspection.py",
    "tmp-left-over": "store/test_inspection.py",
    "archive-nearly-full": "store/test_inspection.py",
    "verify-only-apache": "httpd/test_verification.py",
    "verify-only-mdconnector": "httpd/test_verification.py",
    "verify-order": "httpd/test_verification.py",
    "verify-vhost": "httpd/test_verification.py",
    "verify-refused": "httpd/test_verification.py",
    "verify-accepted": "httpd/test_verification.py",
    "verify-not-compared": "httpd/test_verification.py",
    "verify-vhosts-only": "httpd/test_verification.py",
    "verify-not-possible": "httpd/test_verification.py",
}
"""findings that are no matter of text, and the file with a test of each"""


def test_every_documented_finding_is_tested() -> None:
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    here = {code for code, *_ in (*CASES, *WITHOUT_MODULES, *test_doctor.CASES)}
    here |= {"envvars-failed", "too-much"}
    assert {*documented} == here | {*ELSEWHERE}
    for code, file in ELSEWHERE.items():
        assert f'"{code}"' in (TESTS / file).read_text()
