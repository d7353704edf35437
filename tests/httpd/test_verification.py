"""`scan --verify`: what a real httpd reads is compared with what we read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mdconnector.certificates import chain_to_pem
from mdconnector.httpd import verification
from mdconnector.httpd.configuration import Configuration, load_configuration
from mdconnector.httpd.verification import verify
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import Finding
from tests.authority import EC_SPEC, Authority
from tests.parts import Apache, find_debian_configuration, find_program
from tests.test_examples import EXAMPLES, defines

SITES = {
    "macro": (
        "<Macro Site $name>\n<VirtualHost *:${HTTPS_PORT} [::1]:81>\nServerName $name\n"
        "ServerAlias www.$name *.$name\nSSLEngine on\n</VirtualHost>\n</Macro>\n"
        "Use Site a.test\nUse Site b.test\nMDomain a.test\nMDomain b.test\n"
    ),
    "plain": (
        "<VirtualHost 0.0.0.0:82>\nServerName https://c.test:443\n<Directory /srv>\n"
        "Require all denied\n</Directory>\n</VirtualHost>\n"
        "<VirtualHost _default_>\n</VirtualHost>\n"
        "<IfDefine DUMP_CONFIG>\nDefine ASKED\n</IfDefine>\n<IfModule mod_info.c>\n"
        "Define WITH_INFO\n</IfModule>\n<IfDefine MDCONNECTOR>\nMDomain unread.test\n</IfDefine>\n"
    ),
}


def load(apache: Apache) -> Configuration:
    return load_configuration(
        config=apache.config,
        sites=None,
        store=None,
        environment=apache.environment,
        httpd=apache.binary,
    )


def verified(apache: Apache) -> tuple[Finding, ...]:
    return verify(load(apache), apache.binary)


@pytest.mark.apache
def test_no_difference_where_there_is_none(make_apache: Callable[..., Apache]) -> None:
    assert verified(make_apache(sites=SITES)) == ()


@pytest.mark.apache
def test_no_difference_on_the_example_sites(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    beside = defines(parts_folder)
    with_mod_md = make_apache(sites_folder=EXAMPLES / "sites-enabled", main_extra=beside)
    without = make_apache(
        sites_folder=EXAMPLES / "sites-without-mod_md", main_extra=beside, mod_md=False
    )
    assert verified(with_mod_md) == ()
    assert verified(without) == ()


# What an installation on Debian 12 has enabled, with SSL.
DEBIAN_MODULES = [
    "access_compat",
    "alias",
    "auth_basic",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_host",
    "authz_user",
    "autoindex",
    "deflate",
    "dir",
    "env",
    "filter",
    "mime",
    "mpm_event",
    "negotiation",
    "reqtimeout",
    "setenvif",
    "socache_shmcb",
    "ssl",
    "status",
]
DEBIAN_CONF = [
    "charset",
    "localized-error-pages",
    "other-vhosts-access-log",
    "security",
    "serve-cgi-bin",
]


def enable(folder: Path, kind: str, *names: str) -> None:
    for name in names:
        for file in (folder / f"{kind}-available").glob(f"{name}.[cl]o*"):
            (folder / f"{kind}-enabled" / file.name).symlink_to(f"../{kind}-available/{file.name}")


@pytest.mark.apache
@pytest.mark.debian
def test_no_difference_on_debian_s_own_configuration(parts_folder: Path) -> None:
    unpacked, folder = find_debian_configuration(), parts_folder / "apache2"
    shutil.copytree(unpacked, folder, symlinks=True)
    enable(folder, "mods", *DEBIAN_MODULES)
    enable(folder, "conf", *DEBIAN_CONF)
    enable(folder, "sites", "000-default", "default-ssl")
    snakeoil = Authority().credential(("snakeoil.example",), EC_SPEC)
    pair = parts_folder / "snakeoil.pem"
    pair.write_bytes(key_to_pem(snakeoil.key) + chain_to_pem(snakeoil.chain))
    names = re.compile(r"/etc/ssl/(?:certs|private)/ssl-cert-snakeoil\.(?:pem|key)")
    for file in folder.glob("*-available/*.conf"):
        text = file.read_text().replace(
            "/usr/share/apache2", f"{unpacked.parents[1]}/usr/share/apache2"
        )
        file.write_text(names.sub(str(pair), text))
    with (folder / "envvars").open("a") as envvars:
        envvars.writelines(
            f"export APACHE_{name}_DIR={parts_folder}\n" for name in ("RUN", "LOG", "LOCK")
        )
    httpd = Path(find_program("apache2"))
    configuration = load_configuration(
        config=folder / "apache2.conf", sites=None, store=None, environment={}, httpd=httpd
    )

    assert verify(configuration, httpd) == ()
    assert len(configuration.vhosts) == 2


@pytest.mark.apache
def test_what_only_apache_refuses_is_told_with_its_line(make_apache: Callable[..., Apache]) -> None:
    apache = make_apache(sites={"odd": "\nNoSuchDirective here\n"})

    (finding,) = verified(apache)

    assert (finding.code, finding.at) == ("verify-refused", f"{apache.sites_folder}/odd.conf:2")
    assert "NoSuchDirective" in finding.message


@pytest.mark.apache
def test_what_both_refuse_is_not_compared(make_apache: Callable[..., Apache]) -> None:
    (finding,) = verified(make_apache(sites={"odd": "<VirtualHost *:443>\n"}))

    assert finding.code == "verify-not-compared"


CANNED = """\
VirtualHost configuration:
*:443                  is a NameVirtualHost
         default server {first} ({main}:4)
         port 443 namevhost {first} ({main}:4)
                 alias {alias}
         port 443 namevhost b.test ({main}:8)
# In file: {main}
#   1:
Listen {port}
#   2:
{binding}
#   4:
<VirtualHost {address}>
  #   5:
  ServerName a.test
  #   6:
  ServerAlias www.a.test
</VirtualHost>
#   8:
<VirtualHost *:443>
  #   9:
  ServerName b.test
</VirtualHost>
"""
CONFIGURATION = """\
Listen 443
MDExternalAccountBinding kid c2VjcmV0
LoadModule info_module modules/mod_info.so
<VirtualHost *:443>
ServerName a.test
ServerAlias www.a.test
</VirtualHost>
<VirtualHost *:443>
ServerName b.test
</VirtualHost>
"""


def told(folder: Path, *, ours: str = CONFIGURATION, **otherwise: str) -> list[tuple[str, str]]:
    """Compare with a stand-in for httpd that prints what it is told; return codes and messages."""
    main = folder / "apache2.conf"
    main.write_text(ours)
    usual = {
        "first": "a.test",
        "alias": "www.a.test",
        "port": "443",
        "address": "*:443",
        "binding": "MDExternalAccountBinding kid c2VjcmV0",
    }
    (folder / "dump").write_text(CANNED.format(main=main, **(usual | otherwise)))
    httpd = folder / "httpd"
    httpd.write_text(f"#!/bin/sh\ncat {folder}/dump\n")
    httpd.chmod(0o755)
    configuration = load_configuration(config=main, sites=None, store=None, environment={})
    return [
        (one.code, one.message.replace(str(folder), "")) for one in verify(configuration, httpd)
    ]


def test_the_stand_in_prints_what_we_see(tmp_path: Path) -> None:
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("otherwise", "findings"),
    [
        (
            {"port": "8443"},
            [
                ("verify-only-apache", "only Apache sees 'listen 8443' at depth 0"),
                ("verify-only-mdconnector", "only mdconnector sees 'listen 443' at depth 0"),
            ],
        ),
        (
            {"first": "c.test"},
            [("verify-vhost", "Apache calls this virtual host c.test, mdconnector a.test")],
        ),
        (
            {"alias": "*.a.test"},
            [
                (
                    "verify-vhost",
                    "the aliases of a.test are to Apache *.a.test, to mdconnector www.a.test",
                )
            ],
        ),
        (
            {"binding": "MDExternalAccountBinding kid b3RoZXI"},
            [
                (
                    "verify-only-apache",
                    "only Apache sees 'mdexternalaccountbinding ***' at depth 0",
                ),
                (
                    "verify-only-mdconnector",
                    "only mdconnector sees 'mdexternalaccountbinding ***' at depth 0",
                ),
            ],
        ),
    ],
    ids=["a directive", "a name", "an alias", "a secret"],
)
def test_a_difference_is_told(
    tmp_path: Path, otherwise: dict[str, str], findings: list[tuple[str, str]]
) -> None:
    assert told(tmp_path, **otherwise) == findings


def test_vhosts_that_one_side_lacks_are_told(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        ours=CONFIGURATION.replace(
            "\n<VirtualHost *:443>\nServerName b", "\n\n<VirtualHost *:443>\nServerName b"
        ),
    )
    assert [one for one in found if one[0] == "verify-vhost"] == [
        ("verify-vhost", "only Apache sees the virtual host b.test"),
        ("verify-vhost", "only mdconnector sees the virtual host b.test"),
    ]


def test_other_addresses_are_told(tmp_path: Path) -> None:
    ours = CONFIGURATION.replace(
        "<VirtualHost *:443>", "<VirtualHost *:443 [2001:DB8:0::1]:443>", 1
    )
    found = told(tmp_path, ours=ours, address="*:443 [2001:DB8:0::1]:443")
    assert found == [
        (
            "verify-vhost",
            "the addresses of a.test are to Apache *:443, to mdconnector *:443 [2001:db8::1]:443",
        )
    ]


def test_what_we_call_an_error_and_apache_takes_is_told(tmp_path: Path) -> None:
    ours = CONFIGURATION.replace("ServerName b.test", "ServerName b.test\n</Nothing>")
    assert "verify-accepted" in [code for code, _ in told(tmp_path, ours=ours)]


def test_without_mod_info_virtual_hosts_alone_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_MODULE_FOLDERS", (str(tmp_path),))
    ours = CONFIGURATION.replace("LoadModule info_module modules/mod_info.so", "")
    assert [code for code, _ in told(tmp_path, ours=ours)] == ["verify-vhosts-only"]

    (tmp_path / "mod_info.so").touch()
    assert told(tmp_path, ours=ours) == []


def test_another_order_is_told(tmp_path: Path) -> None:
    main = tmp_path / "apache2.conf"
    dump = CANNED.replace(
        "#   1:\nListen {port}\n#   2:\n{binding}", "#   2:\n{binding}\n#   1:\nListen {port}"
    )
    assert dump != CANNED
    told(tmp_path)
    (tmp_path / "dump").write_text(
        dump.format(
            main=main,
            first="a.test",
            alias="www.a.test",
            port="443",
            address="*:443",
            binding="MDExternalAccountBinding kid c2VjcmV0",
        )
    )
    configuration = load_configuration(config=main, sites=None, store=None, environment={})
    assert [one.code for one in verify(configuration, tmp_path / "httpd")] == ["verify-order"]


def test_a_binary_that_cannot_be_run_is_a_finding(tmp_path: Path) -> None:
    told(tmp_path)
    main = tmp_path / "apache2.conf"
    configuration = load_configuration(config=main, sites=None, store=None, environment={})
    (finding,) = verify(configuration, tmp_path / "none")
    assert finding.code == "verify-not-possible"
