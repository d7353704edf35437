"""Which virtual hosts a managed domain gets, and which names these give it."""

from __future__ import annotations

import pytest

from mdconnector.httpd.domains import Interpretation
from mdconnector.managed_domain import Finding, Severity
from tests.httpd.trees import CA, MAIN, codes, interpreted


def site(name: str, *aliases: str, lines: str = "", address: str = "*:443") -> str:
    """Write one SSL vhost in one line of a file less than its parts have."""
    alias = f"ServerAlias {' '.join(aliases)}\n" if aliases else ""
    own = f"ServerName {name}\n" if name else ""
    return f"<VirtualHost {address}>\n{own}{alias}SSLEngine on\n{lines}</VirtualHost>\n"


def assigned(text: str) -> dict[str, list[str]]:
    """Return the ServerNames that each domain is given."""
    return {
        one.name: [vhost.server_name for vhost in one.vhosts]
        for one in interpreted(CA + text).domains
    }


def the_finding(interpretation: Interpretation) -> Finding:
    (found,) = interpretation.findings
    return found


# --- MDMatchNames all ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "matches"),
    [
        pytest.param("*.b.example.org", True, id="its parent"),
        pytest.param("*.example.org", True, id="a star matches dots too"),
        pytest.param("*.org", True, id="any depth"),
        pytest.param("*.B.EXAMPLE.org", True, id="in any case"),
        pytest.param("*.c.example.org", False, id="another parent"),
        pytest.param("*.a.b.example.org", False, id="the name itself is not below itself"),
        pytest.param("?.b.example.org", True, id="one character"),
        pytest.param("?.example.org", False, id="no more than one"),
        pytest.param("a.*.org", True, id="in the middle"),
        pytest.param("*.b.exam?le.org", True, id="both"),
        pytest.param("*.?.example.org", True, id="a star and one character"),
        pytest.param("*.b.example.net", False, id="another end"),
        pytest.param("x*", False, id="another beginning"),
        pytest.param("*", True, id="whatever"),
    ],
)
def test_a_pattern_among_the_aliases_finds_the_domains_that_it_matches(
    alias: str, *, matches: bool
) -> None:
    text = "MDomain other.example.net\nMDomain a.b.example.org manual\n"
    expected = ["www.example.com"] if matches else []
    found = assigned(text + site("www.example.com", alias))
    assert found["a.b.example.org"] == expected


@pytest.mark.parametrize("name", [".example.org", "a..example.org"])
def test_a_pattern_finds_names_with_an_empty_label_as_well(name: str) -> None:
    text = f"MDomain first.example.net {name} manual\n" + site("www.example.com", "*.example.org")
    (found,) = interpreted(CA + text).domains
    assert [vhost.server_name for vhost in found.vhosts] == ["www.example.com"]


def test_each_vhost_with_a_pattern_finds_its_own() -> None:
    text = "MDomain a.example.org\nMDomain b.example.net\n"
    sites = site("one.example.com", "*.example.org") + site("two.example.com", "*.example.net")
    assert assigned(text + sites) == {
        "a.example.org": ["one.example.com"],
        "b.example.net": ["two.example.com"],
    }


def test_a_vhost_with_plain_names_and_patterns_gets_the_domains_of_both() -> None:
    text = "MDomain a.example.org\nMDomain b.example.net\n"
    assert assigned(text + site("a.example.org", "*.example.net")) == {
        "a.example.org": ["a.example.org"],
        "b.example.net": ["a.example.org"],
    }


@pytest.mark.parametrize(
    ("name", "server_name", "belongs"),
    [
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "A.Example.org", True),
        ("*.example.org", "a.b.example.org", False),
        ("*.example.org", "example.org", False),
        ("z.example.net *.example.org", "a.example.org", True),
        ("z.example.net *..org", "a..org", True),
    ],
)
def test_a_wildcard_domain_gets_the_vhosts_whose_server_name_it_covers(
    name: str, server_name: str, *, belongs: bool
) -> None:
    (found,) = assigned(f"MDomain {name} manual\n{site(server_name)}").values()
    assert found == ([server_name] if belongs else [])


def test_a_star_below_a_top_level_domain_is_no_wildcard_for_mod_md() -> None:
    (found,) = interpreted(f"{CA}MDomain a.example.net *.org manual\n{site('example.org')}").domains
    assert found.vhosts == ()


@pytest.mark.parametrize(
    ("address", "server_name", "belongs"),
    [
        ("A.example.org", "x.example.net", True),
        ("A.example.org:443", "x.example.net:443", True),
        ("A.example.org:443", "x.example.net:8443", False),
        ("b.example.org", "x.example.net", False),
    ],
)
def test_an_address_of_the_port_is_a_name_of_the_vhost(
    address: str, server_name: str, *, belongs: bool
) -> None:
    text = "MDomain a.example.org\n" + site(server_name, address=address)
    assert assigned(text) == {"a.example.org": ["x.example.net"] if belongs else []}


# --- MDMatchNames servernames --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domains", "owners"),
    [
        pytest.param(
            ("a.example.org", "*.example.org"), ["a.example.org"], id="the exact one comes first"
        ),
        pytest.param(
            ("*.example.org", "a.example.org"), ["a.example.org"], id="the exact one comes later"
        ),
        pytest.param(("*.example.org",), ["*.example.org"], id="a wildcard alone"),
        pytest.param(
            ("*.example.org", "b.example.net *.example.org"),
            ["*.example.org", "b.example.net"],
            id="two wildcards",
        ),
        pytest.param(
            ("a.example.org", "b.example.net a.example.org"),
            ["a.example.org", "b.example.net"],
            id="two exact ones",
        ),
        pytest.param(
            ("a.example.org", "b.example.net *.example.org a.example.org"),
            ["a.example.org", "b.example.net"],
            id="a wildcard is passed over, an exact name behind it is not",
        ),
        pytest.param(
            ("x.example.net *.example.org", "a.example.org"),
            ["a.example.org"],
            id="the name that covers is a wildcard, another one is not",
        ),
        pytest.param(
            ("x.example.net a.example.org *.example.org", "*.example.org"),
            ["x.example.net"],
            id="the first name that covers is exact",
        ),
        pytest.param(("b.example.org",), [], id="another name"),
    ],
)
def test_an_exact_server_name_goes_before_a_wildcard(
    domains: tuple[str, ...], owners: list[str]
) -> None:
    lines = "".join(f"MDomain {words}\n" for words in domains)
    found = assigned(f"MDMatchNames servernames\n{lines}{site('a.example.org')}")
    assert [name for name, vhosts in found.items() if vhosts] == owners


# --- names that join -----------------------------------------------------------------------------


def test_a_name_of_two_vhosts_joins_once() -> None:
    (found,) = interpreted(
        CA
        + "MDomain a.example.org\n"
        + site("a.example.org", "b.example.org")
        + site("a.example.org", "b.example.org", address="*:8443")
    ).domains
    assert found.names == ("a.example.org", "b.example.org")


def test_a_vhost_without_a_server_name_gives_its_aliases() -> None:
    text = "MDomain a.example.org\n" + site("", "a.example.org", "B.example.org", "*.c.org")
    (found,) = interpreted(CA + text).domains
    assert found.names == ("a.example.org", "b.example.org")


@pytest.mark.parametrize(
    ("server", "own", "joins"),
    [
        ("", "", True),
        ("auto", "", True),
        ("manual", "", False),
        ("manual", "auto", True),
        ("auto", "manual", False),
    ],
)
def test_names_join_by_the_domain_s_own_word_else_by_the_server_s(
    server: str, own: str, *, joins: bool
) -> None:
    line = f"MDMembers {server}\n" if server else ""
    text = f"{line}MDomain a.example.org {own}\n{site('a.example.org', 'b.example.org')}"
    (found,) = interpreted(CA + text).domains
    assert ("b.example.org" in found.names) is joins


def test_a_name_that_does_not_join_is_told_with_both_places() -> None:
    text = "MDomain a.example.org manual\n" + site("a.example.org", "b.example.org")
    finding = the_finding(interpreted(CA + text))
    assert finding == Finding(
        "name-not-covered",
        Severity.WARNING,
        f"{MAIN}:3",
        "'b.example.org' of this vhost is not among the names of a.example.org, so browsers "
        "refuse it",
        f"add it to MDomain a.example.org ({MAIN}:2), or use MDMembers auto",
        "a.example.org",
    )


def test_a_name_that_joins_and_cannot_be_certified_is_told_with_a_way_out() -> None:
    text = "MDomain a.example.org\n" + site("a.example.org", "intranet")
    finding = the_finding(interpreted(CA + text))
    assert finding == Finding(
        "name-refused",
        Severity.ERROR,
        f"{MAIN}:3",
        "'intranet' joins a.example.org and cannot be in a certificate: it is not a public name",
        "use a name below a public domain; or write 'manual' on the MDomain line",
        "a.example.org",
    )


# --- what is blamed on vhosts --------------------------------------------------------------------


def test_two_domains_of_one_ssl_vhost_are_told_with_their_places() -> None:
    text = "MDomain a.example.org\nMDomain b.example.org\n"
    found = interpreted(
        CA
        + text
        + site("a.example.org", "b.example.org")
        + "MDomain c.example.org\n"
        + site("c.example.org")
    )
    assert the_finding(found) == Finding(
        "domains-on-ssl-vhost",
        Severity.ERROR,
        f"{MAIN}:4",
        f"2 managed domains match this SSL vhost: a.example.org ({MAIN}:2) and "
        f"b.example.org ({MAIN}:3); Apache does not start",
        "let one managed domain have all names of the vhost, or split the vhost",
        "a.example.org",
    )


def test_each_ssl_vhost_with_two_domains_is_told_in_the_order_of_the_files() -> None:
    domains = "".join(f"MDomain {one}.example.org\n" for one in "abcde")
    sites = (
        site("e.example.org")
        + site("a.example.org", "b.example.org")
        + site("e.example.org")
        + site("c.example.org", "d.example.org")
    )
    found = interpreted(CA + domains + sites)
    assert [(one.code, one.at) for one in found.findings] == [
        ("domains-on-ssl-vhost", f"{MAIN}:11"),
        ("domains-on-ssl-vhost", f"{MAIN}:20"),
    ]


@pytest.mark.parametrize(
    ("server_name", "owner"),
    [("www.example.net", "www.example.net"), ("", "NAME")],
    ids=["its ServerName", "nothing that could be named"],
)
def test_a_setting_in_a_vhost_without_a_domain_says_where_to_put_it(
    server_name: str, owner: str
) -> None:
    text = site(server_name, lines="MDRenewMode manual\n", address="192.0.2.7:443")
    finding = the_finding(interpreted(CA + text))
    assert (finding.code, finding.domain) == ("md-setting-in-vhost", None)
    assert finding.message == "MDRenewMode in a <VirtualHost> has no effect in mod_md"
    assert finding.hint == f"move it above <VirtualHost>, or into <MDomain {owner}>"


def test_a_vhost_in_order_is_no_finding() -> None:
    text = "MDomain a.example.org\n" + site("a.example.org")
    assert codes(interpreted(CA + text)) == []
