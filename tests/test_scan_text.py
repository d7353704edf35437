"""What people read of a scan."""

from __future__ import annotations

import pytest

from mdconnector.keys import KeySpec
from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.scan import Paste, ScanResult
from mdconnector.report import Style, journal_lines, render
from tests.results import NOWHERE, TREE, VHOST, WRONG, failures_of, lines_of, managed, scan

QUIET = Style(quiet=True)


def test_scan_exits_1_for_errors_only() -> None:
    def scanned(severity: Severity) -> ScanResult:
        finding = Finding("code", severity, "x.conf:1", "wrong", "mend it")
        return ScanResult((), (finding,), (), "nobody", "/md")

    assert scanned(Severity.ERROR).exit_code == 1
    assert scanned(Severity.WARNING).exit_code == 0
    assert "x.conf:1: wrong; mend it [code]" in render(scanned(Severity.ERROR), Style())


HEAD = ["mdconnector alone renews", "store: /md"]
WRONG_LINE = "error: /etc/a.conf:3: no such key; write RSA [bad-keys]"


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (scan(), HEAD),
        (
            scan(assumptions=("md_module is loaded",), findings=(WRONG, NOWHERE), agrees=True),
            [
                *HEAD,
                "assumed: md_module is loaded",
                WRONG_LINE,
                "info: it is new; nothing to do [store]",
                "verified: Apache itself reads the same",
            ],
        ),
        (
            scan(
                domains=(
                    managed(
                        "b.example",
                        "c.example",
                        vhosts=(VHOST,),
                        ca_urls=("https://ca/dir", "https://other/dir"),
                        configured_key_specs=(KeySpec("RSA", 3072), KeySpec("EC", curve="P-256")),
                    ),
                    managed(ca_urls=("https://ca/dir",)),
                    managed("b.example", ca_urls=("https://ca/dir",)),
                ),
                agrees=False,
            ),
            [
                *HEAD,
                "a.example  rsa3072, p-256  https://ca/dir  (/etc/a.conf:3)",
                "    also b.example, c.example",
                "a.example  rsa2048  https://ca/dir  (/etc/a.conf:3)",
                "    no vhost uses it",
                "a.example  rsa2048  https://ca/dir  (/etc/a.conf:3)",
                "    also b.example",
                "    no vhost uses it",
            ],
        ),
        (
            scan(candidates=(VHOST,)),
            [
                *HEAD,
                "no managed domain is declared; these virtual hosts could be managed:",
                "    a.example (/v.conf:1): add 'MDomain a.example' above it",
            ],
        ),
        (
            scan(pastes=(Paste("a.example", "/v.conf:1", ("SSLEngine on", "Protocols h2")),)),
            [
                *HEAD,
                "put into the virtual host of a.example at /v.conf:1:",
                "    SSLEngine on",
                "    Protocols h2",
            ],
        ),
        (
            scan(tree=TREE, findings=(WRONG,)),
            [
                "/a.conf:1: <VirtualHost *:443>",
                "/a.conf:2:   SSLEngine on",
                "/m.conf:9 used at /a.conf:3 used at /b.conf:4:   Use \\x1b",
                "/a.conf:5: MDStapling",
                WRONG_LINE,
            ],
        ),
    ],
    ids=["nothing", "findings", "domains", "candidates", "pastes", "a tree"],
)
def test_the_lines_of_scan(result: ScanResult, lines: list[str]) -> None:
    assert lines_of(result) == lines


def test_scan_under_quiet_tells_findings_alone() -> None:
    result = scan(assumptions=("x",), domains=(managed(),), findings=(WRONG,), agrees=True)
    assert lines_of(result, QUIET) == [WRONG_LINE]
    assert failures_of(result) == []


@pytest.mark.parametrize(("count", "more"), [(5, []), (7, ["and likewise for 2 more"])])
def test_only_the_first_lines_to_paste_are_shown(count: int, more: list[str]) -> None:
    pastes = tuple(Paste(f"{n}.example", "/v.conf:1", ()) for n in range(count))
    lines = lines_of(scan(pastes=pastes))[2:]
    assert lines[:5] == [
        f"put into the virtual host of {n}.example at /v.conf:1:" for n in range(5)
    ]
    assert lines[5:] == [f"{text}: mdconnector scan NAME shows them" for text in more]


def test_a_finding_is_one_line_of_at_most_two_thousand_characters() -> None:
    long = Finding("code", Severity.WARNING, "/a.conf:1", "x" * 3000, "mend it")
    (line,) = lines_of(scan(findings=(long,)), QUIET)
    assert len(line) == 2000


def test_scan_is_nothing_for_the_journal() -> None:
    assert journal_lines(scan(findings=(WRONG,))) == ()
