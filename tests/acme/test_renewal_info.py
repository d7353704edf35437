"""Renewal information (RFC 9773): when a CA would have a certificate renewed, and nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from mdconnector.acme.renewal_info import Suggestion, fetch_suggestion
from mdconnector.acme.session import Session
from mdconnector.errors import CaProtocolError
from tests.acme.fake_ca import BASE, DIRECTORY_URL, FakeCa, answered
from tests.authority import Authority

FACTS = Authority().credential(("a.example",)).facts
START = datetime(2030, 1, 1, tzinfo=UTC)
END = START + timedelta(days=2)
WINDOW = {"start": "2030-01-01T00:00:00Z", "end": "2030-01-03T00:00:00Z"}


def ask(body: Any, headers: dict[str, str] | None = None, *, base: str = f"{BASE}/ari/") -> Any:
    ca = FakeCa(directory_extra={"renewalInfo": base})
    ca.fault(f"/ari/{FACTS.ari_id}$", answered(200, body, headers))
    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(ca))
    return fetch_suggestion(session, FACTS)


def test_ca_without_renewal_information_is_not_asked() -> None:
    ca = FakeCa()
    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(ca))
    assert fetch_suggestion(session, FACTS) is None
    assert ca.count("ari") == 0


@pytest.mark.parametrize("base", [f"{BASE}/ari", f"{BASE}/ari/"])
def test_window_is_told_with_its_pause_and_why(base: str) -> None:
    body = {"suggestedWindow": WINDOW, "explanationURL": f"{BASE}/why\x1b[31m"}
    suggestion = ask(body, {"Retry-After": "3600"}, base=base)
    assert suggestion == Suggestion((START, END), timedelta(hours=1), f"{BASE}/why\\x1b[31m")


def test_window_alone_has_neither_pause_nor_explanation() -> None:
    assert ask({"suggestedWindow": WINDOW}) == Suggestion((START, END), None, "")


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (None, "no 'suggestedWindow'"),
        ({"start": "yesterday", "end": WINDOW["end"]}, "has no dates"),
        ({"start": WINDOW["end"], "end": WINDOW["start"]}, "cannot be meant"),
        ({"start": WINDOW["start"], "end": WINDOW["start"]}, "cannot be meant"),
        ({"start": "1999-01-01T00:00:00Z", "end": "1999-01-02T00:00:00Z"}, "cannot be meant"),
        ({"start": "0001-01-01T00:00:00+14:00", "end": WINDOW["end"]}, "has no dates"),
    ],
)
def test_window_that_cannot_be_meant_is_a_protocol_error(window: object, message: str) -> None:
    with pytest.raises(CaProtocolError, match=message):
        ask({"suggestedWindow": window})
