"""Windows, durations and names, as mod_md writes and reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mdconnector.keys import KeySpec
from mdconnector.managed_domain import (
    Address,
    CaAccess,
    CertificatePair,
    ExternalAccount,
    ManagedDomain,
    RenewMode,
    Severity,
    SourceLine,
    VirtualHost,
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
    assert repr(account) == "ExternalAccount(kid='kid-1')"
    assert repr(domain) == (
        "ManagedDomain('a.example', x.conf:1, ExternalAccount(kid='kid-1'), "
        "CaAccess(None, proxied=False))"
    )


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
    for name in ("MDCertificateAgreement", "MDExternalAccountBinding", "MDCACertificateFile"):
        assert located(f"set {name}") == f"set {name}; put it above /etc/c.conf:1"


def test_a_directive_that_need_not_stand_anywhere_is_not_asked_for() -> None:
    assert located("see MDPrivateKeys and MDProfile") == "see MDPrivateKeys and MDProfile"


def test_a_longer_name_is_another_directive() -> None:
    assert located("see MDProfileMandatory", MDProfile=BINDING) == "see MDProfileMandatory"


# --- on the edge, and every word -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "window", "written"),
    [
        ("1%", Window(percent=1), "1%"),
        ("33%", Window(percent=33), "33%"),
        ("99%", Window(percent=99), "99%"),
        ("14", Window(duration=timedelta(days=14)), "14d"),
        ("1s", Window(duration=timedelta(seconds=1)), "1s"),
        ("1ms", Window(duration=timedelta(milliseconds=1)), "1ms"),
        ("24h", Window(duration=timedelta(days=1)), "1d"),
        ("60mi", Window(duration=timedelta(hours=1)), "1h"),
    ],
)
def test_a_window_is_read_and_written(text: str, window: Window, written: str) -> None:
    assert Window.parse(text) == window
    assert str(window) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0%", "'0%' must be a whole number of percent from 1 to 99"),
        ("100%", "'100%' must be a whole number of percent from 1 to 99"),
        ("%", "'%' must be a whole number of percent from 1 to 99"),
        ("3.5%", "'3.5%' must be a whole number of percent from 1 to 99"),
        ("0d", "'0d' must be longer than zero"),
        ("-1s", "'-1s' must be longer than zero"),
        ("5w", "'5w' is not a duration; write a number and one of d, h, mi, s, ms"),
        ("9999999999999999d", "'9999999999999999d' is too long a duration"),
    ],
)
def test_a_window_without_sense_is_told_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="'") as caught:
        Window.parse(text)
    assert str(caught.value) == message


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "opens_before_the_end"),
    [
        (Window(percent=33), timedelta(days=29, hours=16, minutes=48)),
        (Window(percent=1), timedelta(hours=21, minutes=36)),
        (Window(), timedelta(0)),
        (Window(duration=timedelta(days=14)), timedelta(days=14)),
        (Window(duration=timedelta(days=91)), timedelta(days=90)),
    ],
)
def test_a_window_opens_before_the_end(window: Window, opens_before_the_end: timedelta) -> None:
    end = NOON + timedelta(days=90)
    assert window.opens(NOON, end) == end - opens_before_the_end


@pytest.mark.parametrize(("length", "is_name"), [(253, True), (254, False)])
def test_a_name_has_at_most_253_bytes(length: int, *, is_name: bool) -> None:
    labels = ".".join(["a" * 63] * 3)
    name = f"{labels}.{'b' * (length - len(labels) - 4)}.de"
    assert len(name) == length
    assert is_dns_name(name) is is_name


def test_the_first_of_two_mentions_is_given_its_line() -> None:
    hint = "MDProfile 'x' is unknown: remove MDProfile"
    assert located(hint, MDProfile=BINDING) == (
        "MDProfile (/etc/b.conf:7) 'x' is unknown: remove MDProfile"
    )


def test_a_place_with_a_backslash_is_given_as_it_is() -> None:
    odd = SourceLine(r"/etc/a\1b.conf", 3)
    assert located("see MDProfile", MDProfile=odd) == r"see MDProfile (/etc/a\1b.conf:3)"


def vhost(*, ssl: bool) -> VirtualHost:
    return VirtualHost("a.example", (), (), ssl, SourceLine("x.conf", 2))


@pytest.mark.parametrize(
    ("vhosts", "used", "by_ssl"),
    [
        ((), False, False),
        ((vhost(ssl=False),), True, False),
        ((vhost(ssl=False), vhost(ssl=True)), True, True),
    ],
)
def test_a_domain_is_used_by_its_vhosts(
    vhosts: tuple[VirtualHost, ...], *, used: bool, by_ssl: bool
) -> None:
    domain = ManagedDomain("a.example", ("a.example",), SourceLine("x.conf", 1), vhosts=vhosts)
    assert (domain.used, domain.used_by_ssl) == (used, by_ssl)


def test_what_a_domain_does_not_say_is_mod_md_s_default() -> None:
    domain = ManagedDomain("a.example", ("a.example",), SourceLine("x.conf", 1))
    assert domain.key_specs == (KeySpec("RSA", 2048),)
    assert domain.effective_ca_urls == ("https://acme-v02.api.letsencrypt.org/directory",)
    assert domain.ca_access == CaAccess(None, None, None)
    assert (domain.must_staple, domain.stapling, domain.profile_mandatory) == (False,) * 3
    assert (domain.ari_renewals, domain.members_auto, domain.assumed) == (True, True, False)
    assert (domain.renew_mode, domain.renewed_by) == (RenewMode.AUTO, "mdconnector")
    assert (str(domain.renew_window), str(domain.warn_window)) == ("33%", "10%")
    assert (domain.vhosts, domain.faults, domain.section_settings) == ((), (), frozenset())


def test_how_a_ca_is_reached_is_what_the_domain_says() -> None:
    domain = ManagedDomain(
        "a.example",
        ("a.example",),
        SourceLine("x.conf", 1),
        ca_certificates="/c",
        proxy_url="http://user:secret@p",
        proxy_ca_certificates="/p",
    )
    assert domain.ca_access == CaAccess("/c", "http://user:secret@p", "/p")
    assert repr(domain.ca_access) == "CaAccess('/c', proxied=True)"
    assert repr(CaAccess()) == "CaAccess(None, proxied=False)"


def test_numbers_and_words_are_those_of_mod_md_and_json() -> None:
    assert {one.name: one.value for one in RenewMode} == {"MANUAL": 0, "AUTO": 1, "ALWAYS": 2}
    assert [str(one) for one in Severity] == ["error", "warning", "info"]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("*", 443), "*:443"),
        (Address("2001:db8::1", 443), "[2001:db8::1]:443"),
        (Address("2001:db8::1", None), "[2001:db8::1]"),
        (Address("192.0.2.7", None), "192.0.2.7"),
    ],
)
def test_an_address_is_written_as_in_the_configuration(address: Address, text: str) -> None:
    assert str(address) == text


def test_what_a_vhost_and_a_pair_do_not_say() -> None:
    one = vhost(ssl=True)
    assert (one.is_base, one.port, one.proxy_protocol) == (False, 0, False)
    pair = CertificatePair("/c", "/k", SourceLine("x.conf", 3))
    assert (pair.assumed, pair.key_is_named) == (False, True)
