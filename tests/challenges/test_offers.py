"""mdconnector.challenges.offers: which types are tried, and what is refused at once."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.challenges.offers import Offer, OfferedAuthorization, plan
from mdconnector.errors import ChallengeError, ErrorClass
from mdconnector.managed_domain import ExternalAccount
from tests.challenges.conftest import TYPES, authorization, managed_domain, site

HOOK = "/usr/local/bin/dns"
ALL_POSSIBLE = {"dns01_command": HOOK, "acme_tls_names": ("shop.example.org",)}
TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-_"


@pytest.mark.parametrize(
    ("settings", "listens", "mod_md_loaded", "expected"),
    [
        pytest.param(ALL_POSSIBLE, ("*:80", "*:443"), True, "tls-alpn-01 http-01 dns-01", id="all"),
        pytest.param({}, ("*:80", "*:443"), True, "http-01", id="no command, no acme-tls"),
        pytest.param(ALL_POSSIBLE, ("*:443",), True, "tls-alpn-01 dns-01", id="no port 80"),
        pytest.param(ALL_POSSIBLE, ("*:80",), True, "http-01 dns-01", id="no port 443"),
        pytest.param(ALL_POSSIBLE, ("*:80", "*:443"), False, "http-01 dns-01", id="no mod_md"),
        pytest.param(
            ALL_POSSIBLE | {"challenges": ("dns-01", "http-01")},
            ("*:80",),
            True,
            "dns-01 http-01",
            id="as MDCAChallenges says",
        ),
        pytest.param(
            {"challenges": ("http-01",)}, ("*:443",), True, "http-01", id="named, unreachable"
        ),
    ],
)
def test_types_are_tried_in_mod_md_s_order(
    settings: dict[str, Any], listens: tuple[str, ...], mod_md_loaded: bool, expected: str
) -> None:
    here = site(*listens, mod_md_loaded=mod_md_loaded)
    (task,) = plan([authorization()], managed_domain(**settings), here)
    assert " ".join(kind for kind, _ in task.offers) == expected


def test_only_dns_01_proves_a_wildcard() -> None:
    domain = managed_domain("example.org", "*.example.org", **ALL_POSSIBLE)
    (task,) = plan([authorization("example.org", wildcard=True)], domain, site())
    assert (task.name, task.identifier) == ("*.example.org", "example.org")
    assert [kind for kind, _ in task.offers] == ["dns-01"]


@pytest.mark.parametrize("identifier", ["example.org", "*.example.org", "EXAMPLE.org"])
def test_wildcard_is_known_though_the_ca_does_not_say_so(identifier: str) -> None:
    domain = managed_domain("*.example.org", dns01_command=HOOK)
    (task,) = plan([authorization(identifier)], domain, site())
    assert task.name == "*.example.org"


@pytest.mark.parametrize(
    "identifier",
    [
        "other.example.org",
        "example.org",
        "../shop.example.org",
        "shop.example.org/..",
        "shop.example.org\n",
        "",
        ".",
        "..",
        "*.",
        "-shop.example.org",
        "$(touch P)",
        "*.*.shop.example.org",
    ],
)
def test_identifier_that_is_no_name_of_the_domain_is_refused(identifier: str) -> None:
    domain = managed_domain(**ALL_POSSIBLE)
    with pytest.raises(ChallengeError, match="not a name of this managed domain"):
        plan([authorization(identifier)], domain, site())


def test_configured_name_that_is_no_dns_name_is_refused() -> None:
    with pytest.raises(ChallengeError, match="not a name of this managed domain"):
        plan([authorization("../x")], managed_domain("../x"), site())


def test_identifier_with_escapes_is_shown_safely() -> None:
    with pytest.raises(ChallengeError) as caught:
        plan([authorization("\x1b]0;x\x07" + "a" * 9999)], managed_domain(), site())
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_name_that_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(ChallengeError, match=r"asks twice for a proof of shop\.example\.org"):
        plan([authorization(), authorization()], managed_domain(), site())


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("a" * 21, id="short"),
        pytest.param("a" * 257, id="long"),
        pytest.param("a" * 1_000_000, id="a megabyte"),
        pytest.param("../../../../../../../etc/cron.d/x", id="path"),
        pytest.param("a" * 22 + "\n", id="newline"),
        pytest.param("a" * 22 + "\0", id="nul"),
        pytest.param("$(touch_P)aaaaaaaaaaaaaaaaa", id="shell"),
        pytest.param("a" * 21 + "é", id="not ASCII"),
        pytest.param("a" * 21 + "٣", id="a digit of another script"),
        pytest.param("", id="none"),
    ],
)
def test_token_that_rfc_8555_does_not_allow_is_refused(token: str) -> None:
    with pytest.raises(ChallengeError) as caught:
        plan([authorization(token=token)], managed_domain(**ALL_POSSIBLE), site())
    assert len(str(caught.value)) < 600


@given(token=st.text(max_size=300) | st.text(TOKEN_CHARACTERS, max_size=300))
def test_token_of_a_planned_offer_is_a_safe_name(token: str) -> None:
    try:
        (task,) = plan([authorization(token=token)], managed_domain(), site())
    except ChallengeError:
        assert not (22 <= len(token) <= 256 and set(token) <= set(TOKEN_CHARACTERS))
    else:
        assert {offer.token for _, offer in task.offers} == {token}
        assert 22 <= len(token) <= 256
        assert set(token) <= set(TOKEN_CHARACTERS)


def test_good_offers_remain_beside_unknown_and_broken_ones() -> None:
    offers = (
        Offer("sectigo-dcv-02", "", "https://ca.test/1"),
        Offer("dns-01", "", "https://ca.test/2"),
        *authorization(types=("http-01",)).offers,
    )
    asked = OfferedAuthorization("shop.example.org", False, offers)
    (task,) = plan([asked], managed_domain(dns01_command=HOOK), site())
    assert [kind for kind, _ in task.offers] == ["http-01"]


def test_error_says_what_was_offered_and_what_would_be_needed() -> None:
    with pytest.raises(ChallengeError) as caught:
        plan([authorization()], managed_domain(), site("*:8080"))
    assert str(caught.value) == (
        "shop.example.org cannot be proved to the CA: it offers http-01, dns-01, tls-alpn-01; "
        "tls-alpn-01: no SSL vhost of it has 'Protocols acme-tls/1'; "
        "http-01: there is no 'Listen 80'; dns-01: there is no MDChallengeDns01 command"
    )
    assert caught.value.hint == (
        "make one of these challenges possible; then: mdconnector renew shop.example.org"
    )
    assert caught.value.error_class is ErrorClass.NEEDS_HUMAN


def test_error_names_mdportmap_and_mdcachallenges() -> None:
    with pytest.raises(ChallengeError, match="http-01: MDPortMap says http:-"):
        plan([authorization()], managed_domain(), site(http_port=None))
    with pytest.raises(ChallengeError, match="MDCAChallenges allows only dns-01"):
        plan([authorization()], managed_domain(challenges=("dns-01",)), site())


def test_customer_of_a_ca_with_binding_is_sent_to_its_portal() -> None:
    domain = managed_domain(eab=ExternalAccount("kid", "hmac"))
    with pytest.raises(ChallengeError) as caught:
        plan([authorization(types=())], domain, site())
    assert "it offers no challenge" in str(caught.value)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("validate this domain in the CA's portal")


def test_offered_types_are_shown_safely() -> None:
    with pytest.raises(ChallengeError) as caught:
        plan([authorization(types=("\x1b[31m" * 999,) * 999)], managed_domain(), site())
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_every_type_is_known_to_the_tests() -> None:
    domain = managed_domain(**ALL_POSSIBLE)
    (task,) = plan([authorization()], domain, site())
    assert sorted(kind for kind, _ in task.offers) == sorted(TYPES)
