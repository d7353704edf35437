"""`scan` as an administrator calls it: the tree, the comparison with Apache, what to paste."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import run
from tests.parts import Apache
from tests.parts.processes import wait_until

HMAC = "c2VjcmV0LW9mLXRoZS10ZXN0"
TEXT = f"""\
ServerName  main.test
<Macro Site $name>
<VirtualHost *:443>
  ServerName $name.${{ZONE}}
</VirtualHost>
</Macro>
Define ZONE example.org
Use Site "shop"
<IfDefine NEVER>
Dead line
</IfDefine>
<MDomain b.example.org>
MDExternalAccountBinding kid {HMAC}
</MDomain>
<IfDefine MDCONNECTOR>
MDomain a.example.org
</IfDefine>
KeepAlive On
"""


@pytest.fixture
def main_file(tmp_path: Path) -> Path:
    """Return a main file of Apache's, with macros and two domains, of which Apache reads one."""
    file = tmp_path / "apache2.conf"
    file.write_text(f"LoadModule macro_module m.so\nLoadModule md_module m.so\n{TEXT}")
    return file


def test_tree_is_a_line_for_each_directive_in_force(main_file: Path) -> None:
    done = run("scan", "--tree", "-q", config=main_file)

    at = main_file
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{at}:")]
    assert lines == [
        f"{at}:3: ServerName main.test",
        f"{at}:5 used at {at}:10: <VirtualHost *:443>",
        f"{at}:6 used at {at}:10:   ServerName shop.example.org",
        f"{at}:14: <MDomain b.example.org>",
        f"{at}:15:   MDExternalAccountBinding ***",
        f"{at}:20: KeepAlive On",
    ]


def test_tree_as_json_is_nested(main_file: Path) -> None:
    found = run("scan", "--tree", "--json", config=main_file).json["directives"]

    name, vhost, domain, other = found
    assert name == entry(main_file, 3, "ServerName", "main.test")
    assert vhost == entry(
        main_file,
        5,
        "VirtualHost",
        "*:443",
        used_at=[f"{main_file}:10"],
        section=True,
        children=[
            entry(main_file, 6, "ServerName", "shop.example.org", used_at=[f"{main_file}:10"])
        ],
    )
    assert domain["children"] == [entry(main_file, 15, "MDExternalAccountBinding", "***")]
    assert other == entry(main_file, 20, "KeepAlive", "On")


def entry(file: Path, line: int, name: str, args: str, **other: Any) -> dict[str, Any]:
    """Return an entry of `directives[]` whose arguments are one word."""
    usual = {"section": False, "used_at": [], "children": []}
    place = {"name": name, "args": args, "words": [args], "file": str(file), "line": line}
    return place | usual | other


def test_without_tree_there_are_no_directives(main_file: Path) -> None:
    assert "directives" not in run("scan", "--json", config=main_file).json


def test_the_tree_shows_what_apache_reads_and_the_domains_what_mdconnector_manages(
    main_file: Path,
) -> None:
    found = run("scan", "--tree", "--json", config=main_file).json

    assert {one["name"]: one["assumed"] for one in found["domains"]} == {
        "a.example.org": True,
        "b.example.org": False,
    }
    assert "a.example.org" not in str(found["directives"])


def test_the_hmac_is_shown_nowhere(main_file: Path) -> None:
    for options in (["--tree"], ["--tree", "--json"], ["--json"], []):
        assert HMAC not in run("scan", *options, config=main_file).output


@pytest.mark.apache
def test_verify_says_that_apache_sees_the_same(make_apache: Callable[..., Apache]) -> None:
    apache = make_apache(sites={"shop": "<VirtualHost *:81>\nServerName a.test\n</VirtualHost>\n"})
    done = run("scan", "--verify", config=apache.config)

    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "verified: Apache itself reads the same"
    assert not apache.is_running
    assert not apache.store.exists()


@pytest.mark.apache
def test_verify_fails_where_apache_refuses(make_apache: Callable[..., Apache]) -> None:
    apache = make_apache(sites={"shop": "NoSuchDirective\n"})
    done = run("scan", "--verify", "--json", config=apache.config)

    assert done.exit_code == 1
    assert "verify-refused" in {one["code"] for one in done.json["findings"]}


@pytest.mark.apache
def test_verify_reads_with_the_defines_of_the_apache_that_runs(
    make_apache: Callable[..., Apache],
) -> None:
    apache = make_apache(sites={"shop": "<IfDefine X>\nMDomain a.test\n</IfDefine>\n"})
    places = ("-d", str(apache.root), "-f", str(apache.config))
    command = [str(apache.binary), "-D", "X", *places, "-k", "start"]
    subprocess.run(command, env=apache.environment, check=True, timeout=60)
    wait_until(lambda: apache.is_running, "Apache to run")
    done = run("scan", "--verify", "--tree", config=apache.config)

    assert done.stdout.splitlines()[-1] == "verified: Apache itself reads the same", done.output
    assert "MDomain a.test" in done.stdout


def test_verify_needs_a_main_file(tmp_path: Path) -> None:
    done = run("scan", "--verify", "--sites", tmp_path)

    assert done.exit_code == 2
    assert "--config FILE" in done.stderr


def test_verify_needs_an_executable(main_file: Path, tmp_path: Path) -> None:
    done = run("scan", "--verify", "--httpd", tmp_path / "none", config=main_file)

    assert done.exit_code == 2
    assert f"there is no executable to ask: {tmp_path}/none" in done.stderr


def test_a_host_without_mod_md_is_told_the_lines_to_paste(tmp_path: Path) -> None:
    main = tmp_path / "apache2.conf"
    main.write_text(
        "Listen 443\n<IfModule md_module>\nMDomain a.example.org\n</IfModule>\n"
        "LoadModule ssl_module x.so\n"
        "<VirtualHost *:443>\nServerName a.example.org\n</VirtualHost>\n"
    )
    before = run("scan", config=main).stdout.splitlines()
    begin = before.index(f"put into the virtual host of a.example.org at {main}:6:")
    lines = [line[4:] for line in before[begin + 1 :] if line.startswith("    ")]
    files = f"{tmp_path}/md/domains/a.example.org"
    assert lines == [
        f'<IfFile "{files}/pubcert.pem">',
        "SSLEngine on",
        f'SSLCertificateFile "{files}/pubcert.pem"',
        f'SSLCertificateKeyFile "{files}/privkey.pem"',
        "</IfFile>",
    ]

    text = "\n".join((*lines, "</VirtualHost>"))
    main.write_text(main.read_text().replace("</VirtualHost>", text))
    assert "put into" not in run("scan", config=main).stdout
