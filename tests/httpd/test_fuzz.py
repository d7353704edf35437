"""Whatever bytes the files of a configuration hold, a scan of it ends, soon and with a result.

MDCONNECTOR_FUZZ_EXAMPLES sets how many configurations are tried (see tests/conftest.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.commands.scan import scan_configuration
from mdconnector.errors import ConfigurationError
from mdconnector.httpd.configuration import find_domain, load_configuration
from mdconnector.httpd.dumps import parse_config_dump, parse_refusal, parse_vhosts_dump
from mdconnector.httpd.settings import SPELLING
from mdconnector.managed_domain import is_dns_name
from mdconnector.report import Style, render

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_SECONDS = 2.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)

_NAMES = st.sampled_from(
    [
        *SPELLING.values(),
        "${E}",
        *("MDomain", "<MDomain", "</MDomain>", "<MDomainSet", "</MDomainSet>", "ServerName"),
        *("ServerAlias", "<VirtualHost", "</VirtualHost>", "SSLEngine", "SSLCertificateFile"),
        *("SSLCertificateKeyFile", "Listen", "DocumentRoot", "Protocols", "ServerAdmin", "User"),
        *("Group", "PidFile", "ServerRoot", "DefaultRuntimeDir", "LoadModule", "Include"),
        *("IncludeOptional", "Define", "UnDefine", "<IfModule", "</IfModule>", "<IfDefine"),
        *("</IfDefine>", "<IfFile", "</IfFile>", "<IfVersion", "</IfVersion>", "<IfDirective"),
        *("</IfDirective>", "<Macro", "</Macro>", "Use", "UndefMacro", "RemoteIPProxyProtocol"),
    ]
)
_WORDS = st.sampled_from(
    [
        *(
            "a.example.org",
            "*.example.org",
            "b.example.org",
            "*.*",
            "[::1]:443",
            "*:443",
            "_default_",
        ),
        *("on", "off", "auto", "manual", "RSA", "2048", "secp256r1", "33%", "14d", "9" * 30, "-1"),
        *(
            "${A}",
            "${E}",
            "${",
            "A",
            "$x",
            "m",
            "md_module",
            "ssl_module",
            "mod_md.so",
            "macro_module",
        ),
        *(
            "https://ca.example.org/dir",
            "http-01",
            "kid",
            "c2VjcmV0",
            "/bin/true",
            "x.conf",
            "*",
            ".",
        ),
        *(
            "",
            '"',
            "'",
            "\\",
            '"a b"',
            ">",
            "/>",
            "#",
            "<",
            "!",
            "md/domains/a.example.org/x",
            "/x",
        ),
    ]
)
_LINES = st.builds(
    lambda name, words, end: f"{name} {' '.join(words)}{end}".encode(),
    _NAMES,
    st.lists(_WORDS, max_size=4),
    st.sampled_from(["\n", ">\n", "\\\n", "\r\n", ""]),
)
_BYTES = st.one_of(_LINES, _LINES, _LINES, st.binary(max_size=40))
_FILE = st.lists(_BYTES, max_size=40).map(b"".join)


def _mutants() -> Iterator[bytes]:
    for file in sorted(EXAMPLES.rglob("*.conf")):
        yield file.read_bytes()


_EXAMPLES = tuple(_mutants())
_LOADED = b"LoadModule md_module m\nLoadModule ssl_module m\nLoadModule macro_module m\n"


def scan(main: bytes, included: bytes) -> None:
    """Scan a configuration from its bytes to the text that is printed."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "apache2.conf").write_bytes(main)
        (folder / "x.conf").write_bytes(included)
        begin = time.process_time()
        try:
            configuration = load_configuration(
                config=folder / "apache2.conf", sites=None, store=None, environment={"E": ""}
            )
        except ConfigurationError:
            return
        result = scan_configuration(configuration, (), NOW, shows_tree=True)
        json.loads(render(result, Style(as_json=True)))
        text = render(result, Style())
        assert all(line.isprintable() for line in text.splitlines())
        assert time.process_time() - begin < LIMIT_SECONDS
        for domain in configuration.domains[:20]:
            if is_dns_name(domain.name):
                assert find_domain(configuration, domain.name) == domain


@given(_FILE, _FILE)
def test_any_lines_are_scanned(main: bytes, included: bytes) -> None:
    scan(_LOADED + main, included)


@given(st.binary(max_size=400))
def test_any_bytes_are_scanned(content: bytes) -> None:
    scan(content, content[::-1])


@given(st.sampled_from(_EXAMPLES), st.data())
def test_damaged_sites_are_scanned(site: bytes, data: st.DataObject) -> None:
    content = bytearray(site)
    for _ in range(data.draw(st.integers(1, 8))):
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, min(begin + 60, len(content))))
        content[begin:end] = data.draw(st.one_of(st.binary(max_size=8), _BYTES))
    scan(_LOADED + bytes(content), bytes(content))


@given(st.text(alphabet='# In file:()"\n 0123456789*[]azportnamevhost<>/', max_size=300))
def test_any_dump_is_read_to_its_end(text: str) -> None:
    list(parse_config_dump(text))
    list(parse_vhosts_dump(text))
    parse_refusal(text)


_LONG = {
    "blanks": b" " * 1_000_000,
    "backslashes": b"\\" * 1_000_000,
    "quotes": b'"' * 1_000_000,
    "variables": b"${" * 500_000,
    "stars in an alias": (
        b"MDomain " + b"a" * 63 + b".example.org\n<VirtualHost *>\n"
        b"ServerAlias " + b"*a" * 30 + b"*b\n</VirtualHost>\n"
    ),
    "continued lines": b"a\\\n" * 300_000,
    "nested sections": b"<If 1>\n" * 5000,
    "nested conditions": b"<IfModule core.c>\n" * 5000,
    "macros that double": (
        b"<Macro A0>\nx\n</Macro>\n"
        + b"".join(
            b"<Macro A%d>\nUse A%d\nUse A%d\n</Macro>\n" % (n, n - 1, n - 1) for n in range(1, 9)
        )
        + b"Use A8\n"
    ),
    "a file that includes itself": b"Include x.conf\n" * 3,
    "parameters of a macro": b"<Macro M " + b"$a " * 20_000 + b">\n$a\n</Macro>\nUse M x\n",
    "names of one domain": (
        b"<MDomain a.example.org>\n"
        + b"".join(b"MDMember n%d.example.org\n" % number for number in range(20_000))
        + b"</MDomain>\n"
    ),
    "a domain for each name": b"".join(b"MDomain n%d.example.org\n" % n for n in range(5000)),
    "SSL vhosts of one domain": (
        b"MDomain a.example.org\n"
        + b"<VirtualHost *:443>\nServerName a.example.org\nSSLEngine on\n</VirtualHost>\n" * 3000
    ),
    "names of one vhost": (
        b"MDomain a.example.org\n<VirtualHost *:443>\nServerName a.example.org\nSSLEngine on\n"
        + b"".join(b"ServerAlias n%d.example.org\n" % number for number in range(3000))
        + b"</VirtualHost>\n"
    ),
}


@pytest.mark.parametrize("content", _LONG.values(), ids=_LONG)
def test_long_and_deep_files_are_scanned(content: bytes) -> None:
    scan(_LOADED + content, content)
