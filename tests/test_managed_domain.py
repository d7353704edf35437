"""Windows, durations and names, as mod_md writes and reads them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mdconnector.managed_domain import (
    ExternalAccount,
    ManagedDomain,
    SourceLine,
    Window,
    format_duration,
    is_dns_name,
    name_covers,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("14d", timedelta(days=14)),
        ("36H", timedelta(hours=36)),
        ("90mi", timedelta(minutes=90)),
        ("250ms", timedelta(milliseconds=250)),
        ("30", timedelta(days=30)),
    ],
)
def test_durations_are_read_with_their_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text, "d") == duration


@pytest.mark.parametrize("text", ["", "m", "5m", "5 weeks", "1.5d", "9999999999999999d"])
def test_durations_that_mod_md_refuses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text, "d")


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(days=14), "14d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90mi"),
        (timedelta(seconds=45), "45s"),
        (timedelta(0), "0ms"),
    ],
)
def test_durations_are_written_in_the_largest_unit_that_divides(
    duration: timedelta, text: str
) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize("text", ["0%", "100%", "x%", "-5%", "0d", "-3d"])
def test_windows_without_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Window.parse(text)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("a.example.org", "A.example.ORG", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "b.a.example.org", False),
        ("*.example.org", "example.org", False),
        ("a.example.org", "b.example.org", False),
    ],
)
def test_certificate_names_cover(pattern: str, name: str, covered: bool) -> None:
    assert name_covers(pattern, name) is covered


@pytest.mark.parametrize(
    "name", ["shop.example.org", "*.example.org", "xn--bcher-kva.example", "a.b"]
)
def test_names_that_may_go_to_a_ca(name: str) -> None:
    assert is_dns_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localhost",
        "a..b",
        "-a.example",
        "a-.example",
        "../etc",
        "a/b.example",
        "a_b.example",
        "*.*.example",
        "192.0.2.1",
        "é.example",
        "Shop.example",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "a.example\n",
    ],
)
def test_names_that_never_become_an_order_or_a_path(name: str) -> None:
    assert not is_dns_name(name)


def test_names_under_an_own_wildcard_are_not_ordered() -> None:
    names = ("*.example.org", "example.org", "www.example.org", "a.b.example.org")
    domain = ManagedDomain("*.example.org", names, SourceLine("x.conf", 1))
    assert domain.order_names == ("*.example.org", "example.org", "a.b.example.org")


def test_the_hmac_is_not_in_any_repr() -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    account = ExternalAccount("kid-1", secret)
    domain = ManagedDomain("a.example", ("a.example",), SourceLine("x.conf", 1), eab=account)
    assert secret not in repr(account) + repr(domain) + str(domain)


AUTHORITY, BINDING = SourceLine("/etc/a.conf", 3), SourceLine("/etc/b.conf", 7)


def located(hint: str, **lines: SourceLine) -> str:
    domain = ManagedDomain("a.example", ("a.example",), SourceLine("/etc/c.conf", 1))
    return domain._replace(lines=tuple(lines.items())).locate(hint)


def test_a_hint_is_given_the_line_of_each_directive_that_it_names() -> None:
    hint = "compare MDExternalAccountBinding and MDCertificateAuthority; then: mdconnector renew x"
    assert located(hint, MDExternalAccountBinding=BINDING, MDCertificateAuthority=AUTHORITY) == (
        "compare MDExternalAccountBinding (/etc/b.conf:7) and MDCertificateAuthority "
        "(/etc/a.conf:3); then: mdconnector renew x"
    )


def test_a_directive_to_write_is_left_as_it_is_to_be_written() -> None:
    hint = "write 'MDCertificateAgreement accepted'"
    assert located(hint, MDCertificateAgreement=BINDING) == hint


def test_what_stands_nowhere_is_put_beside_the_ca_s_line_before_the_command_to_type() -> None:
    hint = "set MDExternalAccountBinding; then: mdconnector renew a.example"
    assert located(hint, MDCertificateAuthority=AUTHORITY) == (
        "set MDExternalAccountBinding; put it beside /etc/a.conf:3; "
        "then: mdconnector renew a.example"
    )
    assert located("set MDExternalAccountBinding") == (
        "set MDExternalAccountBinding; put it above /etc/c.conf:1"
    )


def test_a_directive_that_need_not_stand_anywhere_is_not_asked_for() -> None:
    assert located("see MDPrivateKeys and MDProfile") == "see MDPrivateKeys and MDProfile"


def test_a_longer_name_is_another_directive() -> None:
    assert located("see MDProfileMandatory", MDProfile=BINDING) == "see MDProfileMandatory"
