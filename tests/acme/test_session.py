"""What a CA, or the network before it, may do to one conversation."""

from __future__ import annotations

import json
import math
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme import session as session_module
from mdconnector.acme.advice import Purpose
from mdconnector.acme.answers import Directory, parse_directory, parse_retry_after
from mdconnector.acme.session import CaUntrustedError, Session
from mdconnector.acme.transport import _PunctualSocket, limit_request, make_punctual
from mdconnector.errors import (
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    ConfigurationError,
    ErrorClass,
)
from tests.acme.fake_ca import (
    BASE,
    DIRECTORY_URL,
    Chunks,
    FakeCa,
    Handle,
    answered,
    changed,
    lost,
    problem,
    refused,
    reset,
    with_headers,
)
from tests.parts.authority import ThrowAwayAuthority

ORDER = {"identifiers": [{"type": "dns", "value": "shop.example.org"}]}


@dataclass
class Conversation:
    """A session with a fake CA, and how long it would have slept."""

    ca: FakeCa
    key: rsa.RSAPrivateKey
    slept: list[float] = field(default_factory=list)
    remembered: Directory | None = None

    def __post_init__(self) -> None:
        self.session = Session(
            DIRECTORY_URL,
            transport=httpx.MockTransport(self.ca),
            sleep=self.slept.append,
            remembered=self.remembered,
        )

    def post(self, path: str = "new-account", *, repeatable: bool = True) -> Any:
        payload = {"termsOfServiceAgreed": True} if path == "new-account" else ORDER
        kid = None if path == "new-account" else f"{BASE}/account/1"
        response = self.session.post(
            f"{BASE}/{path}",
            payload,
            key=self.key,
            kid=kid,
            purpose=Purpose.NEW_ORDER,
            repeatable=repeatable,
        )
        return json.loads(response.body)


@pytest.fixture(scope="session")
def account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def talk(account_key: rsa.RSAPrivateKey) -> Conversation:
    return Conversation(FakeCa(), account_key)


# --- the directory


def test_directory_is_read_once(talk: Conversation) -> None:
    talk.ca.directory_extra = {"renewalInfo": f"{BASE}/ari"}
    assert talk.session.directory() == talk.session.directory()
    assert talk.session.directory().renewal_info == f"{BASE}/ari"
    assert talk.ca.count("/directory") == 1
    assert talk.session.directory_is_fresh


def test_remembered_directory_saves_the_request(account_key: rsa.RSAPrivateKey) -> None:
    first = Conversation(FakeCa(), account_key)
    document = json.loads(json.dumps(first.session.directory().to_json()))
    remembered = parse_directory(document, url=DIRECTORY_URL)
    second = Conversation(FakeCa(), account_key, remembered=remembered)
    second.post()
    assert second.ca.count("/directory") == 0
    assert remembered == first.session.directory()
    assert not second.session.directory_is_fresh


def test_remembered_directory_that_moved_is_read_anew(account_key: rsa.RSAPrivateKey) -> None:
    old = Directory(f"{BASE}/old/nonce", f"{BASE}/old/account", f"{BASE}/old/order")
    talk = Conversation(FakeCa(), account_key, remembered=old)
    talk.ca.fault("/old/nonce", answered(404))
    talk.post()
    assert talk.ca.count("/directory") == 1
    assert talk.session.directory().new_nonce == f"{BASE}/new-nonce"


def test_directory_that_has_moved_has_moved_for_everybody_who_used_the_old_one(
    account_key: rsa.RSAPrivateKey,
) -> None:
    """Only the first of several threads reads it anew; the others must see it too."""
    old = Directory(f"{BASE}/new-nonce", f"{BASE}/old/account", f"{BASE}/old/order")
    talk = Conversation(FakeCa(), account_key, remembered=old)
    used = talk.session.directory()
    assert [talk.session.has_moved_from(used) for _ in range(3)] == [True, True, True]
    assert not talk.session.has_moved_from(talk.session.directory())
    assert talk.ca.count("/directory") == 1


def test_directory_that_cannot_be_had_is_asked_three_times_for_everybody(
    talk: Conversation,
) -> None:
    talk.ca.fault("/directory", refused, refused, refused)
    errors = []
    for _ in range(5):
        with pytest.raises(CaUnreachableError) as caught:
            talk.post()
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 1
    assert talk.session.requests_sent == 3
    assert talk.slept == sorted(talk.slept)
    assert len(talk.slept) == 2


def test_threads_that_meet_a_dead_ca_ask_three_times_together(
    account_key: rsa.RSAPrivateKey,
) -> None:
    remembered = Conversation(FakeCa(), account_key).session.directory()
    talk = Conversation(FakeCa(), account_key, remembered=remembered)
    talk.ca.fault("", *[refused] * 50)

    def attempt(_: int) -> CaUnreachableError:
        with pytest.raises(CaUnreachableError) as caught:
            talk.post()
        return caught.value

    with ThreadPoolExecutor(8) as pool:
        errors = set(map(id, pool.map(attempt, range(16))))
    assert len(errors) == 1
    assert talk.session.requests_sent == 3


@pytest.mark.parametrize("member", ["newNonce", "newAccount", "newOrder", "meta"])
@pytest.mark.parametrize("value", [True, -1, 1.5, [], [None], "\ud800"], ids=repr)
def test_directory_member_of_a_wrong_type_is_named(
    talk: Conversation, member: str, value: object
) -> None:
    talk.ca.fault("/directory", changed(**{member: value}))
    with pytest.raises(CaProtocolError, match=f"'{member}'"):
        talk.session.directory()


@pytest.mark.parametrize("member", ["newNonce", "newAccount", "newOrder"])
def test_directory_without_a_needed_member_is_refused(talk: Conversation, member: str) -> None:
    talk.ca.fault("/directory", changed(**{member: ...}))
    with pytest.raises(CaProtocolError, match=f"no '{member}'"):
        talk.session.directory()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"newNonce": "x"', id="cut"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": 1' + b"0" * 5000 + b"}", id="long-number"),
        pytest.param(b"\xff\xfe{}", id="not-utf8"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"null", id="null"),
    ],
)
def test_garbage_in_place_of_the_directory_is_a_protocol_error(
    talk: Conversation, body: bytes
) -> None:
    talk.ca.fault("/directory", answered(200, body))
    with pytest.raises(CaProtocolError):
        talk.session.directory()


# --- where requests may go


@pytest.mark.parametrize(
    "url",
    [
        "http://ca.example/x",
        "https://evil.example/x",
        "https://ca.example:8443/x",
        "https://user@ca.example/x",
        "https://ca.example@evil.example/x",
        "//evil.example/x",
        "file:///etc/passwd",
        "ftp://ca.example/x",
        "https:///x",
        "https://127.0.0.1/x",
        "https://ca.example/x#fragment",
        "https://ca.exаmple/x",  # noqa: RUF001 - a Cyrillic letter is the point
        "https://ca.example/x y",
        "/x",
        "",
    ],
)
def test_nothing_is_sent_to_an_address_that_the_directory_does_not_name(
    talk: Conversation, url: str
) -> None:
    talk.session.directory()
    with pytest.raises(CaProtocolError):
        talk.session.post(url, None, key=talk.key, kid="k", purpose=Purpose.READ)
    assert talk.session.requests_sent == 1


@pytest.mark.parametrize(
    "url", ["http://ca.example/n", "https://127.0.0.1/n", "https://localhost/n", "gopher://x/n"]
)
def test_directory_that_names_an_unsafe_address_is_refused(talk: Conversation, url: str) -> None:
    talk.ca.directory_extra = {"newOrder": url}
    with pytest.raises(CaProtocolError, match="not safe"):
        talk.session.directory()


def test_other_https_origin_that_the_directory_names_is_allowed(
    account_key: rsa.RSAPrivateKey,
) -> None:
    ca = FakeCa(directory_extra={"newOrder": "https://orders.example/new"})
    seen: list[str] = []

    def route(request: httpx.Request) -> httpx.Response:
        if request.url.host == "orders.example":
            seen.append(str(request.url))
            return httpx.Response(200, stream=Chunks(b"{}"))
        return ca(request)

    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(route))
    url = session.directory().new_order
    session.post(url, {}, key=account_key, kid="k", purpose=Purpose.NEW_ORDER)
    assert seen == ["https://orders.example/new"]


@pytest.mark.parametrize(
    "url", ["http://ca.example/dir", "ftp://ca.example/", "ca.example/dir", "", "https://"]
)
def test_directory_url_that_is_not_https_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Session(url, transport=httpx.MockTransport(FakeCa()))
    assert "MDCertificateAuthority" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_plain_http_is_for_loopback_hosts(host: str) -> None:
    session = Session(f"http://{host}:14000/dir", transport=httpx.MockTransport(FakeCa()))
    assert session.is_plain_http


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/directory", "/new-nonce", "/new-account"])
def test_redirect_is_named_and_not_followed(talk: Conversation, status: int, path: str) -> None:
    if path == "/new-nonce":
        talk.ca.fault("/directory", with_headers(Replay_Nonce=None))
    talk.ca.fault(path, answered(status, b"", {"Location": "https://evil.example/"}))
    with pytest.raises(CaProtocolError, match=r"https://evil\.example/.*not followed"):
        talk.post()
    assert {how for how, where in talk.ca.requests if where != path} <= {"GET", "HEAD"}


# --- nonces


def test_nonces_are_reused_between_requests(talk: Conversation) -> None:
    for _ in range(5):
        talk.post()
    assert talk.ca.count("/new-nonce") == 0


def test_bad_nonce_is_answered_with_the_nonce_of_the_error(talk: Conversation) -> None:
    talk.ca.bad_nonces = 10
    talk.post()
    assert talk.ca.count("/new-account") == 11
    assert talk.ca.count("/new-nonce") == 0


def test_bad_nonce_is_given_up_after_ten_repetitions(talk: Conversation) -> None:
    talk.ca.bad_nonces = 1000
    with pytest.raises(CaProblemError, match="badNonce"):
        talk.post()
    assert talk.ca.count("/new-account") == 11


def test_bad_nonce_repeats_even_what_must_not_happen_twice(talk: Conversation) -> None:
    talk.post()
    talk.ca.bad_nonces = 2
    talk.post("new-order", repeatable=False)
    assert len(talk.ca.orders) == 1


@pytest.mark.parametrize("nonce", [None, "with blank", "ünicode", "a" * 600, "<script>", ""])
def test_missing_or_odd_nonce_is_a_protocol_error_that_names_the_header(
    talk: Conversation, nonce: str | None
) -> None:
    talk.ca.fault("/directory", with_headers(Replay_Nonce=None))
    talk.ca.fault("/new-nonce", with_headers(Replay_Nonce=nonce))
    with pytest.raises(CaProtocolError, match="Replay-Nonce"):
        talk.post()


def test_threads_share_nonces_and_none_is_used_twice(talk: Conversation) -> None:
    talk.post()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: talk.post("new-order"), range(64)))
    assert len(talk.ca.orders) == 64
    assert talk.ca.count("/new-order") == 64


# --- repetition


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_server_trouble_is_tried_three_times_with_growing_waits(
    talk: Conversation, status: int
) -> None:
    talk.ca.fault("/new-account", *[answered(status)] * 3)
    with pytest.raises(CaUnreachableError, match=f"HTTP {status}") as caught:
        talk.post()
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert talk.ca.count("/new-account") == 3
    assert len(talk.slept) == 2
    assert 0 < talk.slept[0] < talk.slept[1]


@pytest.mark.parametrize("fault", [reset, lost, refused, answered(500)])
def test_repeatable_request_survives_one_fault(
    talk: Conversation, fault: Callable[[Handle], httpx.Response]
) -> None:
    talk.ca.fault("/new-account", fault)
    assert talk.post()["status"] == "valid"
    assert len(talk.ca.accounts) == 1


@pytest.mark.parametrize("fault", [reset, lost, answered(500)])
def test_request_that_must_not_happen_twice_is_not_repeated(
    talk: Conversation, fault: Callable[[Handle], httpx.Response]
) -> None:
    talk.post()
    talk.ca.fault("/new-order", fault)
    with pytest.raises(CaUnreachableError) as caught:
        talk.post("new-order", repeatable=False)
    assert caught.value.request_sent
    assert talk.ca.count("/new-order") == 1
    assert talk.slept == []


def test_refused_connection_may_be_repeated_for_every_request(talk: Conversation) -> None:
    talk.post()
    talk.ca.fault("/new-order", refused, refused)
    talk.post("new-order", repeatable=False)
    assert len(talk.ca.orders) == 1


def test_lost_nonce_does_not_count_as_a_lost_request(talk: Conversation) -> None:
    talk.ca.fault("/directory", with_headers(Replay_Nonce=None))
    talk.ca.fault("/new-nonce", lost, lost, lost)
    with pytest.raises(CaUnreachableError) as caught:
        talk.post(repeatable=False)
    assert not caught.value.request_sent
    assert talk.ca.count("/new-nonce") == 3


def test_short_retry_after_of_a_rate_limit_is_kept(talk: Conversation) -> None:
    limited = answered(
        429, {"type": "urn:ietf:params:acme:error:rateLimited"}, {"Retry-After": "4"}
    )
    talk.ca.fault("/new-account", limited)
    talk.post()
    assert len(talk.slept) == 1
    assert 4 <= talk.slept[0] <= 6


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3600", 3600.0), ("1000000000", 604800.0), ("-1", None), ("soon", None), (None, None)],
)
def test_long_or_odd_retry_after_of_a_rate_limit_is_left_to_the_next_run(
    talk: Conversation, header: str | None, seconds: float | None
) -> None:
    headers = {"Retry-After": header} if header else {}
    talk.ca.fault("/new-account", answered(429, {"detail": "too many"}, headers))
    with pytest.raises(CaProblemError, match="too many") as caught:
        talk.post()
    assert caught.value.retry_after_seconds == seconds
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert talk.slept == []


def test_server_trouble_with_a_long_retry_after_is_not_repeated(talk: Conversation) -> None:
    talk.ca.fault("/new-account", answered(503, b"", {"Retry-After": "120"}))
    with pytest.raises(CaUnreachableError) as caught:
        talk.post()
    assert caught.value.retry_after_seconds == 120
    assert talk.slept == []


def test_suspended_account_is_not_asked_again_in_this_run(talk: Conversation) -> None:
    talk.post()
    talk.ca.fault("/new-order", problem(401, "unauthorized", "The account is currently suspended"))
    errors = []
    for _ in range(3):
        with pytest.raises(CaProblemError, match="suspended") as caught:
            talk.post("new-order")
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 1
    assert talk.ca.count("/new-order") == 1


def test_ca_that_goes_silent_is_left_alone_for_a_minute(account_key: rsa.RSAPrivateKey) -> None:
    now = 0.0
    ca = FakeCa()
    session = Session(
        DIRECTORY_URL,
        transport=httpx.MockTransport(ca),
        clock=lambda: now,
        sleep=lambda _: None,
    )

    def register() -> None:
        session.post(
            f"{BASE}/new-account",
            {"termsOfServiceAgreed": True},
            key=account_key,
            kid=None,
            purpose=Purpose.ACCOUNT,
        )

    session.directory()
    ca.fault("", *[reset] * 9)
    for _ in range(6):
        with pytest.raises(CaUnreachableError) as caught:
            register()
    assert session.requests_sent == 1 + 9
    assert not caught.value.request_sent
    now = 61.0
    register()
    assert len(ca.accounts) == 1


# --- what an answer may be


def test_answer_above_the_cap_is_not_read_on(talk: Conversation) -> None:
    read = 0

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal read
            while True:
                read += 1
                yield b" " * 65536

    talk.ca.fault("/new-account", lambda _: httpx.Response(200, stream=Endless()))
    with pytest.raises(CaProtocolError, match="more than 262144 bytes"):
        talk.post()
    assert read == 5


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-anything"])
def test_compressed_answer_is_refused(talk: Conversation, encoding: str) -> None:
    talk.ca.fault("/new-account", with_headers(Content_Encoding=encoding))
    with pytest.raises(CaProtocolError, match="compressed"):
        talk.post()


def test_answer_that_does_not_end_meets_the_deadline(account_key: rsa.RSAPrivateKey) -> None:
    now = 0.0
    ca = FakeCa()

    class Drip(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            nonlocal now
            while True:
                now += 30.0
                yield b" "

    session = Session(
        DIRECTORY_URL,
        transport=httpx.MockTransport(ca),
        clock=lambda: now,
        sleep=lambda _: None,
    )
    session.directory()
    ca.fault("/new-account", lambda _: httpx.Response(200, stream=Drip()))
    with pytest.raises(CaUnreachableError, match="took too long"):
        session.post(
            f"{BASE}/new-account",
            {},
            key=account_key,
            kid=None,
            purpose=Purpose.ACCOUNT,
            repeatable=False,
        )
    assert now == 270.0


def test_several_locations_are_refused(talk: Conversation) -> None:
    def twice(handle: Handle) -> httpx.Response:
        response = handle()
        headers = [*response.headers.multi_items(), ("Location", "https://ca.example/other")]
        return httpx.Response(201, headers=headers, stream=response.stream)

    talk.ca.fault("/new-account", twice)
    with pytest.raises(CaProtocolError, match="Location"):
        talk.post()


def test_problem_document_becomes_an_error_with_words_and_subproblems(talk: Conversation) -> None:
    talk.ca.fault(
        "/new-account",
        problem(
            403,
            "compound",
            "several names were refused",
            subproblems=[
                {
                    "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                    "detail": "no\x1b[31m",
                    "identifier": {"type": "dns", "value": "a.example"},
                },
                {"type": 5},
            ],
        ),
    )
    with pytest.raises(CaProblemError) as caught:
        talk.post()
    error = caught.value
    assert error.type == "urn:ietf:params:acme:error:compound"
    assert error.subproblems[0].identifier == "a.example"
    assert error.subproblems[0].detail == "no\\x1b[31m"
    assert error.subproblems[1].type == "about:blank"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"type": 1, "detail": {}, "subproblems": 7}',
        b'{"subproblems": [1]}',
    ],
)
def test_refusal_without_a_problem_document_still_has_its_status(
    talk: Conversation, body: bytes
) -> None:
    talk.ca.fault("/new-account", answered(404, body))
    with pytest.raises(CaProblemError, match="404") as caught:
        talk.post()
    assert caught.value.status == 404
    assert caught.value.type == "about:blank"


def test_words_of_a_ca_are_made_safe_to_print(talk: Conversation) -> None:
    hostile = "\x1b]0;owned\x07 \u202e$(touch x) [/red] `id`\r\n" + "A" * 5000
    talk.ca.fault("/new-account", problem(400, "mal\x1bformed", hostile, instance="\x1b[2J"))
    with pytest.raises(CaProblemError) as caught:
        talk.post()
    shown = f"{caught.value} {caught.value.hint} {caught.value.type}"
    assert not any(ord(character) < 0x20 or character in "\x7f\u202e" for character in shown)
    assert len(caught.value.detail) <= 500


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Wed, 01 Jan 2025 00:01:00 GMT", 60.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 604800.0),
        ("99999999999999999999999999", 604800.0),
        ("1e9", None),
        ("٣", None),
        ("-5", None),
        ("", None),
        ("Wed, 99 Jan 2025 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after_is_read_with_a_cap_and_nonsense_is_none(
    text: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(text, now=datetime(2025, 1, 1, tzinfo=UTC)) == seconds


def test_date_in_retry_after_is_measured_by_the_clock_of_the_ca(talk: Conversation) -> None:
    talk.ca.fault(
        "/new-account",
        answered(
            429,
            {"detail": "wait"},
            {
                "Date": "Wed, 01 Jan 2020 00:00:00 GMT",
                "Retry-After": "Wed, 01 Jan 2020 01:00:00 GMT",
            },
        ),
    )
    with pytest.raises(CaProblemError) as caught:
        talk.post()
    assert caught.value.retry_after_seconds == 3600


# --- connections, for real


@contextmanager
def serving(
    answer: Callable[[socket.socket], None], folder: Path, *, host: str = "127.0.0.1"
) -> Iterator[str]:
    """Let a TLS server on loopback treat each connection with `answer`; give its URL."""
    authority = ThrowAwayAuthority(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue())
    listener = socket.create_server((host, 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with tls.wrap_socket(connection, server_side=True) as secure:
                    answer(secure)
            except OSError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://{host}:{listener.getsockname()[1]}/directory"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_server_that_is_not_trusted_is_asked_once_and_the_directive_is_named(
    tmp_path: Path,
) -> None:
    slept: list[float] = []
    with serving(lambda _: None, tmp_path) as url:
        session = Session(url, sleep=slept.append)
        with pytest.raises(CaUntrustedError) as caught, session:
            session.directory()
    assert caught.value.type == "tls"
    assert not caught.value.request_sent
    assert "MDCACertificateFile" in (caught.value.hint or "")
    assert slept == []


def test_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    with serving(lambda _: None, tmp_path, host="127.0.0.2") as url:
        session = Session(url, ca_certificates=str(tmp_path / "ca.pem"), sleep=lambda _: None)
        with pytest.raises(CaUntrustedError, match=r"127\.0\.0\.2"), session:
            session.directory()


def test_ca_certificates_replace_the_trust_store(tmp_path: Path) -> None:
    body = json.dumps(FakeCa()._directory()).replace("ca.example", "127.0.0.1").encode()

    def answer(secure: socket.socket) -> None:
        secure.recv(65536)
        secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with serving(answer, tmp_path) as url:
        session = Session(url, ca_certificates=str(tmp_path / "ca.pem"))
        with session:
            assert session.directory().new_nonce == "https://127.0.0.1/new-nonce"


def test_headers_that_drip_meet_the_deadline_of_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "REQUEST_DEADLINE_SECONDS", 0.5)

    def drip(secure: socket.socket) -> None:
        secure.recv(65536)
        secure.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(200):
            secure.sendall(b"X: y\r\n")
            time.sleep(0.05)

    with serving(drip, tmp_path) as url:
        session = Session(url, ca_certificates=str(tmp_path / "ca.pem"), sleep=lambda _: None)
        monkeypatch.setattr(session_module, "MAX_TRIES", 1)
        with pytest.raises(CaUnreachableError, match="took too long"), session:
            session.directory()


def test_answer_to_connect_that_drips_meets_the_deadline_of_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "REQUEST_DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(session_module, "MAX_TRIES", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    heard_the_end: list[bool] = []

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(200):
                if select.select([connection], [], [], 0.05)[0]:
                    heard_the_end.append(True)
                    return
                connection.sendall(b"X: y\r\n")

    proxy = threading.Thread(target=drip)
    proxy.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listener, Session("https://ca.example/directory", proxy_url=url) as session:
        with pytest.raises(CaUnreachableError, match="took too long"):
            session.directory()
        proxy.join()
    assert heard_the_end, "the connection was ended while it dripped"


def test_closed_port_is_a_connection_that_was_never_made(unused_port: int) -> None:
    session = Session(f"https://localhost:{unused_port}/directory", sleep=lambda _: None)
    with pytest.raises(CaUnreachableError, match="refused") as caught, session:
        session.directory()
    assert not caught.value.request_sent
    assert session.requests_sent == 3


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_proxies_of_the_environment_are_not_used_but_named(
    monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("https_proxy", "http://user:secret@127.0.0.1:9")
    session = Session(f"https://localhost:{unused_port}/directory", sleep=lambda _: None)
    with pytest.raises(CaUnreachableError) as caught, session:
        session.directory()
    hint = caught.value.hint or ""
    assert "https_proxy" in hint
    assert "MDHttpProxy" in hint
    assert "secret" not in hint


def test_connection_goes_through_the_proxy_that_is_configured(tmp_path: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def proxy() -> None:
        for _ in range(3):
            connection, _address = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=proxy)
    thread.start()
    session = Session(
        "https://ca.example/directory",
        proxy_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        sleep=lambda _: None,
    )
    with pytest.raises(CaUnreachableError) as caught, session:
        session.directory()
    thread.join()
    listener.close()
    assert asked[0].startswith(b"CONNECT ca.example:443 ")
    assert "MDHttpProxy" in (caught.value.hint or "")
    assert not caught.value.request_sent


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "not a url", "http://[::1"])
def test_proxy_that_is_no_http_url_is_refused_without_its_value(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Session(DIRECTORY_URL, proxy_url=url)
    assert url not in f"{caught.value}"


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_trust_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "roots.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"MDCACertificateFile .*roots\.pem"):
        Session(DIRECTORY_URL, ca_certificates=str(file))


# --- what only odd moments lead to


def test_time_of_a_ca_that_has_not_answered_yet_costs_a_nonce_that_is_kept(
    talk: Conversation,
) -> None:
    talk.session = Session(
        DIRECTORY_URL,
        transport=httpx.MockTransport(talk.ca),
        sleep=talk.slept.append,
        remembered=talk.session.directory(),
    )
    before = talk.ca.count("nonce")
    talk.session.ca_time()
    talk.post()
    assert talk.ca.count("nonce") == before + 1


def test_remembered_directory_with_an_unsafe_address_is_read_anew(talk: Conversation) -> None:
    document = talk.session.directory().to_json() | {"newOrder": "http://ca.example/order"}
    remembered = parse_directory(document, url=DIRECTORY_URL)
    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(talk.ca), remembered=remembered)
    assert session.directory().new_order == f"{BASE}/new-order"
    assert session.directory_is_fresh


def test_unsigned_question_goes_to_no_foreign_address(talk: Conversation) -> None:
    with pytest.raises(CaProtocolError, match="does not"):
        talk.session.get("https://evil.example/ari", purpose=Purpose.RENEWAL_INFO)
    assert talk.ca.count("/ari") == 0


def test_nonce_address_that_has_moved_is_looked_up_anew(talk: Conversation) -> None:
    document = talk.session.directory().to_json() | {"newNonce": f"{BASE}/old-nonce"}
    remembered = parse_directory(document, url=DIRECTORY_URL)
    again = Conversation(talk.ca, talk.key, remembered=remembered)
    again.post()
    assert talk.ca.count("/old-nonce") == 1


def test_connection_that_is_not_made_in_time_says_how_long_it_was_tried(
    talk: Conversation,
) -> None:
    def slow(_: Handle) -> httpx.Response:
        raise httpx.ConnectTimeout("timed out")

    talk.ca.fault("/directory", *[slow] * 9)
    with pytest.raises(CaUnreachableError, match=r"no connection within \d+ s"):
        talk.session.directory()


@pytest.mark.parametrize("address", ["https://[::1", "http://[x]/"])
def test_address_that_no_url_can_have_is_refused(talk: Conversation, address: str) -> None:
    talk.session.directory()
    with pytest.raises(CaProtocolError):
        talk.session.post(address, None, key=talk.key, kid="k", purpose=Purpose.READ)
    assert talk.session.requests_sent == 1


def test_proxy_by_https_is_trusted_by_its_own_file(tmp_path: Path) -> None:
    bundle = tmp_path / "none.pem"
    bundle.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="MDHttpProxyCACertificateFile"):
        Session(
            DIRECTORY_URL,
            proxy_url="https://proxy.example:3128",
            proxy_ca_certificates=str(bundle),
        )
    Session(DIRECTORY_URL, proxy_url="https://proxy.example:3128")


def test_talking_to_a_ca_loads_no_command_line_of_a_library() -> None:
    code = "import sys, mdconnector.acme.session; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "httpx" in loaded
    assert not {"click", "pygments", "rich"} & loaded


def test_time_of_a_ca_that_has_told_it_costs_no_request(talk: Conversation) -> None:
    told = "Mon, 30 Nov 2026 12:00:00 GMT"
    talk.ca.fault("/new-account", with_headers(Date=told))
    talk.post()
    before = len(talk.ca.requests)
    assert talk.session.ca_time() == datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert len(talk.ca.requests) == before


def test_nonce_that_is_refused_at_an_address_that_has_not_moved_is_the_ca_s_error(
    talk: Conversation,
) -> None:
    talk.ca.fault("/new-nonce", problem(403, "unauthorized", "none for you"))
    talk.session = Session(
        DIRECTORY_URL,
        transport=httpx.MockTransport(talk.ca),
        sleep=talk.slept.append,
        remembered=talk.session.directory(),
    )
    with pytest.raises(CaProblemError, match="HTTP 403"):
        talk.post()
    assert talk.ca.count("/new-nonce") == 1


class WatchedLock:
    """A lock that tells when another thread wants it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = threading.current_thread()
        self.is_wanted = threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is not self._owner:
            self.is_wanted.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_thread_that_waited_for_the_first_answer_asks_for_a_nonce_of_its_own(
    talk: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = WatchedLock()
    monkeypatch.setattr(talk.session, "_contact_lock", lock)
    waiting = threading.Thread(target=talk.session.ca_time)
    with lock:
        waiting.start()
        assert lock.is_wanted.wait(60)
        talk.post()
    waiting.join(60)
    assert not waiting.is_alive()
    assert talk.ca.count("/new-nonce") == 1
    talk.post()
    assert talk.ca.count("/new-nonce") == 1, "its nonce was kept"


def test_socket_whose_request_has_no_time_left_waits_no_more() -> None:
    ours, theirs = socket.socketpair()
    context = ssl.create_default_context()
    context.sslsocket_class = _PunctualSocket
    wrapped = context.wrap_socket(ours, server_hostname="ca.example", do_handshake_on_connect=False)
    limit_request(-1)
    try:
        with theirs, wrapped, pytest.raises(TimeoutError, match="took too long"):
            wrapped.settimeout(5)
    finally:
        limit_request(math.inf)


def test_connection_that_is_no_plain_socket_is_left_as_it_is() -> None:
    class Stream:
        def get_extra_info(self, _: str) -> object:
            return self

    stream = Stream()
    make_punctual("connection.connect_tcp.complete", {"return_value": stream})
    assert type(stream) is Stream
