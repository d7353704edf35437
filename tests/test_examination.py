"""Each finding about the disk: files that have it, and the nearest that have not."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.examination import examine_disk
from mdconnector.httpd.configuration import load_configuration
from mdconnector.httpd.settings import SPELLING
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import Finding
from mdconnector.store.tree import Store
from tests.authority import DAY, EC_SPEC, Authority
from tests.parts.apache import MODULES_FOLDER

NAME = "a.example.org"
HMAC = "c2VjcmV0LW9mLXRoZS10ZXN0"
MD_MODULE = "LoadModule md_module {folder}/mod_md.so\n"
NOW = datetime.now(UTC)
CA = Authority()
GOOD = CA.credential((NAME,))
OTHER = CA.credential((NAME,))
EXPIRED = CA.credential((NAME,), not_before=NOW - 100 * DAY, life=90 * DAY)


class Host:
    """A folder that everybody can search, with a main file and what it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = folder / "apache2.conf"
        self.write("mod_md.so", "", mode=0o644)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file; `{folder}` in it is the host's."""
        file = self.folder / name
        file.write_text(text.replace("{folder}", str(self.folder)))
        file.chmod(mode)
        return file

    def write_pair(self, name: str, chain: Credential, key: Credential | None = None) -> None:
        """Write a chain, and its key unless another is given."""
        (self.folder / f"{name}.pem").write_bytes(chain_to_pem(chain.chain))
        (self.folder / f"{name}.key").write_bytes(key_to_pem((key or chain).key))

    def write_live_set(self, chain: Credential, key: Credential | None = None) -> Path:
        """Write a store in which the domain has this set."""
        with self.store(create=True) as store, store.make_in_group("domains", NAME) as folder:
            folder.write(EC_SPEC.pubcert_name, chain_to_pem(chain.chain), 0o600)
            folder.write(EC_SPEC.privkey_name, key_to_pem((key or chain).key), 0o600)
        return self.folder / "md" / "domains" / NAME

    def store(self, *, create: bool = False) -> Store:
        """Open the store."""
        opened = Store.open(
            self.folder / "md",
            httpd_user_uid=None,
            httpd_group_gid=None,
            mod_md_loaded=False,
            create=create,
            read_only=not create,
        )
        assert opened is not None
        return opened

    def findings(self, text: str, *, mode: int = 0o600) -> tuple[Finding, ...]:
        """Examine the disk for a main file with this text."""
        self.write("apache2.conf", text, mode=mode)
        configuration = load_configuration(config=self.main, sites=None, store=None, environment={})
        if not (self.folder / "md").exists():
            return examine_disk(configuration, None, NOW)
        with self.store() as store:
            return examine_disk(configuration, store, NOW)

    def told(self, text: str, *, mode: int = 0o600) -> list[tuple[str, str, str]]:
        """Return code, severity and place of each finding."""
        return [
            (one.code, one.severity, (one.at or "").replace(f"{self.folder}/", ""))
            for one in self.findings(text, mode=mode)
        ]


@pytest.fixture
def host(parts_folder: Path) -> Host:
    """Return a host with nothing on it."""
    return Host(parts_folder)


# Secrets

INLINE = f"MDExternalAccountBinding kid {HMAC}\n"
READABLE = ("eab-readable-by-all", "warning")
WRITABLE = ("eab-writable-by-others", "warning")


def test_secret_in_a_file_that_everybody_reads(host: Host) -> None:
    assert host.told(f"\n{INLINE}", mode=0o644) == [(*READABLE, "apache2.conf:2")]
    assert host.told(f"\n{INLINE}", mode=0o640) == []


def test_secret_below_a_folder_that_is_closed_is_not_read_by_everybody(host: Host) -> None:
    closed = host.folder / "closed"
    closed.mkdir(mode=0o750)
    inside = Host(closed)

    assert inside.told(INLINE, mode=0o644) == []
    closed.chmod(0o751)
    assert inside.told(INLINE, mode=0o644) == [(*READABLE, "apache2.conf:1")]


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_secret_in_a_file_that_others_write(host: Host, mode: int) -> None:
    assert host.told(INLINE, mode=mode) == [(*WRITABLE, "apache2.conf:1")]


def test_secret_in_a_folder_where_others_may_put_another_file(host: Host) -> None:
    host.folder.chmod(0o775)

    assert host.told(INLINE) == [(*WRITABLE, "apache2.conf:1")]


def test_secret_in_a_json_file(host: Host) -> None:
    text = "MDExternalAccountBinding eab.json\n"
    host.write("eab.json", f'{{"kid": "kid", "hmac": "{HMAC}"}}', mode=0o644)
    assert host.told(text, mode=0o644) == [(*READABLE, "eab.json")]

    (host.folder / "eab.json").chmod(0o600)
    assert host.told(text, mode=0o644) == []


def test_secret_in_a_variable_is_found_where_that_is_defined(host: Host) -> None:
    host.write("secret.conf", f"Define HMAC {HMAC}\n", mode=0o644)
    text = "Include secret.conf\nMDExternalAccountBinding kid ${HMAC}\n"

    assert host.told(text, mode=0o644) == [(*READABLE, "secret.conf")]


def test_secret_that_is_given_to_a_macro_is_found_where_it_is_given(host: Host) -> None:
    host.write(
        "macro.conf",
        "<Macro Bind $hmac>\nMDExternalAccountBinding kid $hmac\n</Macro>\n",
        mode=0o644,
    )
    text = f"LoadModule macro_module m.so\nInclude macro.conf\nUse Bind {HMAC}\n"

    assert host.told(text) == []
    assert host.told(text, mode=0o644) == [(*READABLE, "apache2.conf:3")]


def test_no_binding_is_no_secret(host: Host) -> None:
    assert host.told("MDExternalAccountBinding none\n", mode=0o644) == []


def test_no_secret_stands_in_a_finding(host: Host) -> None:
    assert HMAC not in repr(host.findings(INLINE, mode=0o666))


# Hooks


@pytest.mark.parametrize(
    "line",
    ["MDNotifyCmd {0}", "MDMessageCmd {0} word", f"MDChallengeDns01 {{0}}\nMDomain {NAME}"],
)
def test_hook_that_others_may_change(host: Host, line: str) -> None:
    hook = host.write("hook", "#!/bin/sh\n", mode=0o755)
    text = line.format(hook)
    assert host.told(text) == []

    hook.chmod(0o775)
    (finding,) = host.findings(text)
    assert (finding.code, finding.severity) == ("hook-not-run", "warning")
    assert finding.at == f"{host.main}:1"
    assert f"chmod go-w {hook}" in finding.message


def test_hook_that_is_not_there(host: Host) -> None:
    assert host.told("MDNotifyCmd /no/such/hook\n") == [
        ("hook-not-run", "warning", "apache2.conf:1")
    ]


# The module


def module(host: Host, *, version: str, without: str = "") -> None:
    """Write something that has the texts of a mod_md of this version."""
    names = ["MDomain", *(name for name in SPELLING.values() if name != without)]
    (host.folder / "mod_md.so").write_text("\0" + "\0".join([*names, version]) + "\0")


@pytest.mark.parametrize(
    ("line", "version", "without"),
    [
        (f"MDExternalAccountBinding kid {HMAC}", "2.4.0", "MDExternalAccountBinding"),
        ("mdprofile tlsserver", "2.4.26", "MDProfile"),
        ("MDRenewViaARI off", "2.4.26", "MDRenewViaARI"),
        ("MDPrivateKeys secp256r1 RSA 3072", "2.2.8", ""),
    ],
)
def test_directive_that_the_loaded_mod_md_does_not_know(
    host: Host, line: str, version: str, without: str
) -> None:
    text = MD_MODULE + line
    module(host, version=version, without=without)
    (finding,) = host.findings(text)
    assert (finding.code, finding.severity) == ("mod-md-too-old", "error")
    assert finding.at == f"{host.main}:2"
    assert f"mod_md {version}" in finding.message

    unread = MD_MODULE + f"<IfDefine MDCONNECTOR>\n{line}\n</IfDefine>\n"
    assert host.told(unread) == []
    module(host, version="2.6.0")
    assert host.told(text) == []


def test_one_kind_of_key_is_old(host: Host) -> None:
    module(host, version="2.2.8")
    assert host.told(MD_MODULE + "MDPrivateKeys RSA 4096\n") == []


@pytest.mark.apache
def test_the_installed_mod_md_knows_all(host: Host) -> None:
    lines = "MDProfile x\nMDRenewViaARI on\nMDPrivateKeys RSA secp256r1\n"
    assert host.told(f"LoadModule md_module {MODULES_FOLDER}/mod_md.so\n{lines}{INLINE}") == []


# Pairs

SSL_VHOST = f"""\
Listen 443
<VirtualHost *:443>
ServerName {NAME}
SSLEngine on
</VirtualHost>
"""
OWN_PAIR = SSL_VHOST.replace(
    "on\n", "on\nSSLCertificateFile {folder}/own.pem\nSSLCertificateKeyFile {folder}/own.key\n"
)
PAIR_BROKEN = ("pair-broken", "error")


def test_pair_that_does_not_fit(host: Host) -> None:
    host.write_pair("own", GOOD, OTHER)
    assert host.told(OWN_PAIR) == [(*PAIR_BROKEN, "apache2.conf:5")]

    host.write_pair("own", GOOD)
    assert host.told(OWN_PAIR) == []


def test_pair_that_is_missing(host: Host) -> None:
    (finding,) = host.findings(OWN_PAIR)
    assert finding.code == "pair-broken"
    assert f"{host.folder}/own.pem" in finding.message


def test_certificate_that_has_expired(host: Host) -> None:
    host.write_pair("own", EXPIRED)
    assert host.told(OWN_PAIR) == [("certificate-expired", "warning", "apache2.conf:5")]


def test_pair_that_cannot_be_judged(host: Host) -> None:
    host.write_pair("own", GOOD)
    (host.folder / "own.key").write_bytes(key_to_pem(GOOD.key, b"secret"))
    assert host.told(OWN_PAIR) == [("pair-not-checked", "info", "apache2.conf:5")]


# Live sets

MANAGED = f"MDomain {NAME}\nMDPrivateKeys secp256r1\n{SSL_VHOST}"
WITHOUT_MOD_MD = (
    f"<IfModule md_module>\nMDomain {NAME}\nMDPrivateKeys secp256r1\n</IfModule>\n{SSL_VHOST}"
)


def test_live_set_that_would_end_apache(host: Host) -> None:
    module(host, version="2.6.0")
    host.write_live_set(GOOD, OTHER)
    (finding,) = host.findings(MD_MODULE + MANAGED)
    assert (finding.code, finding.domain) == ("pair-broken", NAME)

    host.write_live_set(GOOD)
    assert host.told(MD_MODULE + MANAGED) == []


def test_live_set_that_has_expired(host: Host) -> None:
    module(host, version="2.6.0")
    host.write_live_set(EXPIRED)
    (finding,) = host.findings(MD_MODULE + MANAGED)
    assert (finding.code, finding.domain) == ("certificate-expired", NAME)


@pytest.mark.parametrize(
    ("chain", "key", "codes"),
    [
        (GOOD, GOOD, []),
        (GOOD, OTHER, ["live-set-broken"]),
        (EXPIRED, EXPIRED, ["certificate-expired"]),
    ],
    ids=["good", "mismatch", "expired"],
)
def test_live_set_that_apache_does_not_open(
    host: Host, chain: Credential, key: Credential, codes: list[str]
) -> None:
    folder = host.write_live_set(chain, key)
    found = host.findings(WITHOUT_MOD_MD)
    assert [one.code for one in found] == codes
    assert all(str(folder) in (one.at or "") and one.domain == NAME for one in found)


def test_set_of_the_store_that_is_served_but_not_declared(host: Host) -> None:
    folder = host.write_live_set(GOOD)
    lines = (
        f"SSLCertificateFile {folder}/{EC_SPEC.pubcert_name}\n"
        f"SSLCertificateKeyFile {folder}/{EC_SPEC.privkey_name}\n"
    )
    vhost = SSL_VHOST.replace("on\n", f"on\n{lines}")
    assert host.told(vhost) == [("served-but-not-declared", "warning", "apache2.conf:5")]
    assert host.told(f"<IfModule md_module>\nMDomain {NAME}\n</IfModule>\n{vhost}") == []


def test_of_many_broken_pairs_a_few_are_told(host: Host) -> None:
    many = "".join(OWN_PAIR.replace("own", f"own{number}") for number in range(9))
    found = host.findings(many)
    assert len(found) == 6
    assert found[-1].message == "and 4 more like these"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_what_may_not_be_read_is_not_taken_for_broken(host: Host) -> None:
    host.write_pair("own", GOOD)
    (host.folder / "own.key").chmod(0o600)
    host.write("apache2.conf", OWN_PAIR, mode=0o644)
    configuration = load_configuration(config=host.main, sites=None, store=None, environment={})
    os.seteuid(65534)
    try:
        (finding,) = examine_disk(configuration, None, NOW)
    finally:
        os.seteuid(0)
    assert (finding.code, finding.severity) == ("pair-not-checked", "info")
