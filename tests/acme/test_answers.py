"""Whatever a CA answers, we get a record or an error of ours, never a bug's traceback."""

from __future__ import annotations

import contextlib
import json

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mdconnector.acme.advice import Purpose
from mdconnector.acme.answers import (
    JsonObject,
    parse_directory,
    problem_error,
    read_response,
)
from mdconnector.acme.resources import (
    Account,
    fetch_authorization,
    fetch_order,
    find_account,
    list_orders,
)
from mdconnector.acme.session import Session
from mdconnector.errors import CaError, CaProtocolError
from tests.acme.fake_ca import BASE, DIRECTORY_URL, Chunks, FakeCa

URL = f"{BASE}/x"
WORDS = st.sampled_from(
    [
        "valid",
        "ready",
        "pending",
        "invalid",
        "dns",
        "http-01",
        "\ud800",
        "\x00\x1b[2J",
        URL,
        "",
        "é",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=20)
MEMBERS = st.sampled_from(
    [
        "status",
        "identifiers",
        "authorizations",
        "finalize",
        "certificate",
        "error",
        "expires",
        "identifier",
        "challenges",
        "wildcard",
        "type",
        "url",
        "token",
        "value",
        "contact",
        "orders",
        "newNonce",
        "newAccount",
        "newOrder",
        "renewalInfo",
        "meta",
        "termsOfService",
        "externalAccountRequired",
        "profiles",
        "detail",
        "title",
        "instance",
        "subproblems",
    ]
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=8),
    max_leaves=20,
)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@settings(max_examples=300)
@given(document=DOCUMENTS, status=st.sampled_from([200, 201, 400, 403, 429]))
def test_no_document_of_a_ca_is_a_bug_of_ours(document: object, status: int) -> None:
    ca = FakeCa()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return ca(request)
        headers = {"Location": URL, "Replay-Nonce": "n"}
        return httpx.Response(status, headers=headers, stream=Chunks(json.dumps(document).encode()))

    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(answer), sleep=lambda _: None)
    account = Account(url=f"{BASE}/account/1", key=KEY, orders_url=f"{BASE}/orders")
    for ask in (
        lambda: find_account(session, KEY),
        lambda: fetch_order(session, account, URL),
        lambda: fetch_authorization(session, account, URL),
        lambda: list_orders(session, account),
        lambda: parse_directory(document, url=URL),
    ):
        with contextlib.suppress(CaError):
            ask()


@settings(max_examples=300)
@given(document=DOCUMENTS, status=st.integers(400, 499))
def test_every_problem_document_can_be_printed(document: object, status: int) -> None:
    members = JsonObject(document, what="problem", url=URL) if isinstance(document, dict) else None
    error = problem_error(
        members, url=URL, status=status, host="ca.example", purpose=Purpose.NEW_ORDER
    )
    shown = f"{error} {error.hint} {error.type} {error.detail}"
    assert shown.isprintable()
    shown.encode()


@given(st.text())
def test_no_retry_after_is_negative_or_above_seven_days(text: str) -> None:
    response = read_response(url=URL, status=200, headers={"retry-after": [text]}, body=b"")
    assert response.retry_after_seconds is None or 0 <= response.retry_after_seconds <= 604800


@given(st.lists(st.text()))
def test_no_link_header_is_a_bug_of_ours(headers: list[str]) -> None:
    with contextlib.suppress(CaProtocolError):
        read_response(url=URL, status=200, headers={"link": headers}, body=b"")


@pytest.mark.parametrize(
    ("header", "links"),
    [
        ('<https://ca.example/a>;rel="next"', (("next", "https://ca.example/a"),)),
        ("</a>; rel=next", (("next", f"{BASE}/a"),)),
        ('<a,b>; title="x"; rel="up index"', (("up", f"{BASE}/a,b"), ("index", f"{BASE}/a,b"))),
        ('</a>;rel="index", </b>;rel="next"', (("index", f"{BASE}/a"), ("next", f"{BASE}/b"))),
        ("</a>", ()),
        ("no link", ()),
    ],
)
def test_links_are_read_with_their_relations(
    header: str, links: tuple[tuple[str, str], ...]
) -> None:
    response = read_response(url=URL, status=200, headers={"link": [header]}, body=b"")
    assert response.links == links


@pytest.mark.parametrize(
    "header", ["Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 31 Dec 99999 23:59:59 GMT"]
)
def test_date_beyond_the_calendar_is_nonsense(header: str) -> None:
    response = read_response(
        url=URL, status=200, headers={"date": [header], "retry-after": [header]}, body=b""
    )
    assert response.retry_after_seconds is None


def test_directory_with_profiles_and_without_terms_comes_back_as_it_was() -> None:
    document = {
        "newNonce": "https://ca.example/n",
        "newAccount": "https://ca.example/a",
        "newOrder": "https://ca.example/o",
        "meta": {"profiles": {"short": "seven days", "long": ""}},
    }
    directory = parse_directory(document, url="https://ca.example/dir")
    assert directory.profiles == ("short", "long")
    assert directory.terms_of_service is None
    again = parse_directory(directory.to_json(), url="https://ca.example/dir")
    assert again == directory


@pytest.mark.parametrize("value", ["1", True, 1.5, []])
def test_number_of_another_type_is_refused(value: object) -> None:
    members = JsonObject({"status": value}, what="problem", url="https://ca.example/x")
    with pytest.raises(CaProtocolError, match="'status'"):
        members.whole_number("status")


def test_absent_number_is_none() -> None:
    members = JsonObject({"status": 400}, what="problem", url="https://ca.example/x")
    assert (members.whole_number("status"), members.whole_number("other")) == (400, None)
