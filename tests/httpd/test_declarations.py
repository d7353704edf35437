"""What MDomain and its sections declare, wherever they stand, and every word of a complaint."""

from __future__ import annotations

import pytest

from mdconnector.httpd.domains import Interpretation
from mdconnector.httpd.evaluator import MDCONNECTOR_DEFINES, Assumptions
from mdconnector.managed_domain import Finding, Severity
from tests.httpd.trees import CA, MAIN, codes, interpreted

NOT_LOADED = (
    "Apache reads {} here, but has not loaded mod_md, and refuses to start",
    "load mod_md (a2enmod md), or put all MD lines into <IfModule md_module>",
)


def in_vhost(lines: str, *, name: str = "www.example.net") -> str:
    return f"<VirtualHost *:443>\nServerName {name}\nSSLEngine on\n{lines}\n</VirtualHost>\n"


def names(interpretation: Interpretation) -> list[tuple[str, ...]]:
    return [one.names for one in interpretation.domains]


# --- where a declaration may stand ---------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        "MDomain a.example.org b.example.org manual",
        "MDomain manual a.example.org b.example.org",
        "<MDomain a.example.org b.example.org manual>\n</MDomain>",
        "<MDomain a.example.org>\nMDMember b.example.org manual\n</MDomain>",
        "<MDomainSet a.example.org>\nMDMember b.example.org\nMDMember manual\n</MDomainSet>",
        "MDContactEmail x@example.org\nMDomain a.example.org b.example.org manual",
    ],
)
def test_a_domain_is_declared_within_a_vhost_as_well(lines: str) -> None:
    found = interpreted(CA + in_vhost(lines))
    assert (names(found), found.findings) == ([("a.example.org", "b.example.org")], ())


def test_other_lines_before_a_declaration_do_not_hide_it() -> None:
    text = f"Listen 443\nServerAdmin x@example.org\n{CA}Timeout 5\nMDomain a.example.org\n"
    assert names(interpreted(text)) == [("a.example.org",)]
    assert names(interpreted(in_vhost("") + text)) == [("a.example.org",)]


def test_a_vhost_within_a_section_is_read() -> None:
    text = (
        "<MDomain a.example.org>\n"
        + in_vhost("MDPortMap http:8080\nMDomain b.example.org", name="a.example.org")
        + "</MDomain>\n"
    )
    found = interpreted(CA + text)
    assert names(found) == [("b.example.org",), ("a.example.org",)]
    assert found.shared.ports == (8080, 443)


def test_a_name_below_the_domain_s_own_wildcard_is_covered() -> None:
    text = "MDomain *.example.org manual\n" + in_vhost(
        "ServerAlias b.example.org", name="a.example.org"
    )
    found = interpreted(CA + text)
    assert (names(found), codes(found)) == ([("*.example.org",)], [])
    deeper = "MDomain *.example.org manual\n" + in_vhost(
        "ServerAlias c.b.example.org", name="a.example.org"
    )
    assert codes(interpreted(CA + deeper)) == ["name-not-covered"]


def test_sixty_five_words_of_a_letter_are_too_many() -> None:
    text = f"<MDomain a.example.org>\nMDMembers{' b' * 65}\n</MDomain>"
    assert "too-many-words" in codes(interpreted(CA + text))
    assert "too-many-words" not in codes(interpreted(CA + text.replace(" b", "", 1)))


@pytest.mark.parametrize(("length", "is_folder"), [(255, True), (256, False)])
def test_a_first_name_is_a_folder_s_name_up_to_255_bytes(length: int, *, is_folder: bool) -> None:
    name = "a" * (length - 4) + ".org"
    found = interpreted(f"{CA}MDomain {name}\n")
    assert codes(found) == ["name-refused"]
    assert names(found) == ([(name,)] if is_folder else [])
    assert found.findings[0].domain == (name if is_folder else None)


# --- what is said --------------------------------------------------------------------------------


def error(code: str, line: int, message: str, hint: str, domain: str | None = None) -> Finding:
    return Finding(code, Severity.ERROR, f"{MAIN}:{line}", message, hint, domain)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "MDomain auto",
            error("mdomain-without-name", 2, "MDomain names no domain", "write its names"),
        ),
        (
            '<MDomainSet "">\n</MDomainSet>',
            error(
                "mdomain-without-name",
                2,
                "<MDomainSet> names no domain",
                "write its names between < and >",
            ),
        ),
        (
            "<MDomain a.org>\n<MDomain b.org>\n</MDomain>\n</MDomain>",
            error(
                "md-wrong-place",
                3,
                "MDomain is not allowed in an MD section",
                "end the section before it",
                "a.org",
            ),
        ),
        (
            f"<MDomain a.org>\nMDMembers {'b.org ' * 65}\n</MDomain>",
            error(
                "too-many-words",
                3,
                "MDMembers has 65 words, and Apache drops all after the 64th",
                "use several MDMember lines in an <MDomain> section",
                "a.org",
            ),
        ),
        (
            "MDomain a.org under_score.example.org",
            error(
                "name-refused",
                2,
                "'under_score.example.org' cannot be in a certificate: it has an underscore, "
                "which no public CA signs",
                "use a hyphen",
                "a.org",
            ),
        ),
        (
            "MDomain a.org b.org\nMDomain c.org b.org",
            error(
                "overlap",
                3,
                f"'b.org' belongs to two managed domains: a.org ({MAIN}:2) and c.org ({MAIN}:3); "
                "Apache does not start",
                "remove it from one of them",
                "c.org",
            ),
        ),
    ],
    ids=lambda one: one.code if isinstance(one, Finding) else "",
)
def test_a_mistake_is_told_with_its_line_and_its_cure(text: str, finding: Finding) -> None:
    assert interpreted(CA + text).findings == (finding,)


def test_a_name_that_only_mdconnector_reads_twice_is_told_apart() -> None:
    text = "MDomain a.org\n<IfDefine MDCONNECTOR>\nMDomain b.org a.org\n</IfDefine>\n"
    (finding,) = interpreted(
        CA + text, assumptions=Assumptions(defines=MDCONNECTOR_DEFINES)
    ).findings
    assert finding == error(
        "overlap-unread",
        4,
        f"'a.org' belongs to two managed domains: a.org ({MAIN}:2) and b.org ({MAIN}:4); "
        "Apache reads one of them at most, so only mdconnector is at a loss",
        "remove it from one of them",
        "b.org",
    )


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        (
            "MDStoreDir x",
            Finding(
                "md-global-in-vhost",
                Severity.WARNING,
                f"{MAIN}:5",
                "MDStoreDir in a <VirtualHost> holds for the whole server",
                "move it above <VirtualHost>, where it is seen for what it is",
            ),
        ),
        (
            "MDBaseServr on",
            error(
                "unknown-md-directive",
                5,
                "mod_md has no directive MDBaseServr",
                "did you mean MDBaseServer?",
            ),
        ),
        ("MDCheckInterval 1h", None),
    ],
)
def test_what_holds_for_the_whole_server_is_told_in_a_vhost(
    line: str, finding: Finding | None
) -> None:
    assert interpreted(CA + in_vhost(line)).findings == ((finding,) if finding else ())


# --- an httpd without mod_md ---------------------------------------------------------------------


ASSUMED = "<IfDefine MDCONNECTOR>\nMDomain a.example.org\n</IfDefine>\n"


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("MDomain a.example.org\nMDRenewMode manual\n", "MDomain", 1),
        (ASSUMED + "MDRenewMode manual\nMDomain b.example.org\n", "MDRenewMode", 4),
        (ASSUMED + in_vhost("MDomain b.example.org"), "MDomain", 7),
    ],
    ids=["the first line", "the first that it reads", "in a vhost"],
)
def test_the_first_line_that_ends_an_httpd_without_mod_md_is_told(
    text: str, name: str, line: int
) -> None:
    found = interpreted(
        text, mod_md_loaded=False, assumptions=Assumptions(defines=MDCONNECTOR_DEFINES)
    )
    message, hint = NOT_LOADED
    assert [one for one in found.findings if one.code == "mod-md-not-loaded"] == [
        error("mod-md-not-loaded", line, message.format(name), hint)
    ]


def test_lines_that_an_httpd_without_mod_md_does_not_read_are_no_finding() -> None:
    found = interpreted(
        ASSUMED, mod_md_loaded=False, assumptions=Assumptions(defines=MDCONNECTOR_DEFINES)
    )
    assert (codes(found), names(found)) == ([], [("a.example.org",)])
