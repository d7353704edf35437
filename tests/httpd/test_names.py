"""Names that no CA certifies, each with why and what to write instead."""

from __future__ import annotations

import pytest

from mdconnector.httpd.names import why_refused

COMMA = ("names are separated by blanks only", "replace the comma by a blank")
ADDRESS = ("it is an IP address", "name the site by a DNS name")
STAR = ("only its first label may be '*'", "name the sites one by one")
SINGLE = ("it is not a public name", "use a name below a public domain")
NO_NAME = ("it is not a DNS name", "use letters, digits and hyphens between dots")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop.example.org", None),
        ("*.example.org", None),
        (
            "#comment",
            (
                "a '#' within a line begins no comment: its words became names",
                "put the comment on a line of its own",
            ),
        ),
        ("a.example,b.example", COMMA),
        ("a.example;b.example", COMMA),
        ("bücher.example", ("it is not in ASCII", "write its A-label, xn--bcher-kva.example")),
        ("ü" * 70, ("it is not in ASCII", "write its A-label, the form that begins with xn--")),
        ("192.0.2.1", ADDRESS),
        ("[2001:db8::1]", ADDRESS),
        ("2001:db8::1", ADDRESS),
        (
            "a_b.example",
            ("it has an underscore, which no public CA signs", "use a hyphen"),
        ),
        ("*.*.example", STAR),
        ("a.*.example", STAR),
        ("*.org", NO_NAME),
        ("X.a", NO_NAME),
        ("X192.0.2.1", NO_NAME),
        ("localhost", SINGLE),
        ("localhost.", SINGLE),
        ("-a.example", NO_NAME),
        ("a%2fb.example", NO_NAME),
    ],
)
def test_name_is_refused_with_why_and_what_to_write(
    name: str, expected: tuple[str, str] | None
) -> None:
    assert why_refused(name) == expected
