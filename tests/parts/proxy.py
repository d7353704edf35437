"""A TLS reverse proxy before Pebble: it does to chosen requests what bad networks and CAs do.

Rule: the Host stays as the client sent it, so Pebble builds all later URLs from it and the whole
conversation comes back through here; no body needs rewriting.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.parts.authority import ThrowAwayAuthority
from tests.parts.pebble import Pebble, Request
from tests.parts.ports import free_port

SECONDS_FOR_A_MEETING = 30


@dataclass(frozen=True, slots=True)
class Canned:
    """Answer this; the CA never hears of the request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection; the CA never hears of the request."""


@dataclass(frozen=True, slots=True)
class DropAfter:
    """Let the CA do it, then reset the connection: the answer is lost."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Send only the first bytes of the body, with a Content-Length of the whole or of the part."""

    length: int
    announce_whole: bool = True


@dataclass(frozen=True, slots=True)
class Substitute:
    """Replace what a pattern finds in the body; add, change or (value "") remove headers."""

    pattern: bytes
    replacement: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Let the CA answer, and send what a function makes of its body."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Remake:
    """Let the CA answer, and send what a function makes of status, headers and body."""

    change: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]


@dataclass(frozen=True, slots=True)
class Hang:
    """Say nothing until the proxy is stopped; the CA never hears of the request."""


@dataclass(slots=True)
class Late:
    """Let the CA do it, and keep its answer back until it is released.

    `is_done` tells that the CA has done it.
    """

    release: threading.Event = field(default_factory=threading.Event)
    is_done: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Together:
    """Answer this to each of so many requests once all of them are here."""

    answer: Canned
    meeting: threading.Barrier


@dataclass(frozen=True, slots=True)
class Drip:
    """Let the CA answer, and send the body byte by byte with a pause before each."""

    pause_seconds: float


Action = (
    Canned
    | Together
    | Reset
    | DropAfter
    | Truncate
    | Substitute
    | Rewrite
    | Remake
    | Hang
    | Late
    | Drip
)


@dataclass(slots=True)
class Rule:
    """What to do with requests that match; `nth` (from 1) picks one of them, None all.

    `payload` is searched for in what the request's JWS carries; so many as `after` says pass first.
    `hits` counts how often the action was taken, so that a test can prove its fault happened.
    """

    action: Action
    path: str = ""
    method: str = ""
    payload: str = ""
    nth: int | None = None
    after: int = 0
    seen: int = 0
    hits: int = 0

    def takes(self, method: str, path: str, payload: str = "") -> bool:
        """Count a request and tell whether the action is to be taken."""
        if not (re.search(self.path, path) and re.fullmatch(self.method or ".*", method)):
            return False
        if not re.search(self.payload, payload):
            return False
        self.seen += 1
        taken = self.nth in {None, self.seen} and self.seen > self.after
        self.hits += taken
        return taken


class FaultingProxy:
    """A proxy before one Pebble; use its `directory_url` and `ca_file` in place of Pebble's."""

    def __init__(self, folder: Path, pebble: Pebble, *rules: Rule) -> None:
        authority = ThrowAwayAuthority(folder)
        self.ca_file = authority.ca_file
        self.port = free_port()
        self.pebble = pebble
        self.rules = list(rules)
        self.requests: list[Request] = []
        self.payloads: list[str] = []
        self.lock = threading.Lock()
        self.is_stopped = threading.Event()
        self.upstream_tls = ssl.create_default_context(cafile=str(pebble.ca_file))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue())
        self._server = _Server(self)
        self._server.socket = tls.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def directory_url(self) -> str:
        """The URL for MDCertificateAuthority."""
        return f"https://localhost:{self.port}/dir"

    def directives(self, kid: str | None = "kid-1") -> str:
        """Return Pebble's directives with this proxy in its place."""
        text = self.pebble.directives(kid).replace(self.pebble.directory_url, self.directory_url)
        return text.replace(str(self.pebble.ca_file), str(self.ca_file))

    def rule_for(self, method: str, path: str, payload: str) -> Rule | None:
        """Note a request and return the first rule whose action is to be taken."""
        with self.lock:
            self.requests.append(Request(method, path))
            self.payloads.append(payload)
            return next((rule for rule in self.rules if rule.takes(method, path, payload)), None)

    def count(self, path: str, payload: str = "") -> int:
        """Return how many requests to a path carried something that matches."""
        with self.lock:
            return sum(
                re.search(path, request.path) is not None and re.search(payload, text) is not None
                for request, text in zip(self.requests, self.payloads, strict=True)
            )

    def expect(self, *rules: Rule) -> None:
        """Begin anew: with these rules alone, and nothing counted."""
        with self.lock:
            self.rules[:] = rules
            self.requests.clear()
            self.payloads.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultingProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", proxy.port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that give up are what this proxy is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing; `requests` tells."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rule = self.server.proxy.rule_for(self.command, self.path, _payload_of(body))
        match rule.action if rule else None:
            case Canned(status, answer, headers):
                self._send(status, {"Content-Type": "application/problem+json", **headers}, answer)
            case Together(Canned(status, answer, headers), meeting):
                meeting.wait(SECONDS_FOR_A_MEETING)
                self._send(status, {"Content-Type": "application/problem+json", **headers}, answer)
            case Reset():
                self._reset()
            case Hang():
                self.server.proxy.is_stopped.wait()
                self._reset()
            case action:
                self._pass_on(body, action)

    def _pass_on(self, body: bytes, action: Action | None) -> None:
        status, headers, answer = self._ask(body)
        match action:
            case DropAfter():
                self._reset()
                return
            case Truncate(length, announce_whole):
                headers["Content-Length"] = str(len(answer) if announce_whole else length)
                answer = answer[:length]
                self.close_connection = True
            case Substitute(pattern, replacement, changed):
                answer = re.sub(pattern, replacement, answer)
                headers = {**headers, **changed}
            case Rewrite(change):
                answer = change(answer)
            case Remake(remade):
                status, headers, answer = remade(status, headers, answer)
            case Late(release, is_done):
                is_done.set()
                release.wait()
            case Drip(pause_seconds):
                self._send(status, headers | {"Content-Length": str(len(answer))}, b"")
                self._drip(answer, pause_seconds)
                return
        self._send(status, headers, answer)

    def _drip(self, body: bytes, pause_seconds: float) -> None:
        for byte in body:
            time.sleep(pause_seconds)
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        proxy = self.server.proxy
        upstream = http.client.HTTPSConnection(
            "localhost", proxy.pebble.port, context=proxy.upstream_tls, timeout=30
        )
        try:
            upstream.request(self.command, self.path, body or None, dict(self.headers.items()))
            answer = upstream.getresponse()
            headers = {name: value for name, value in answer.getheaders() if name not in _OURS}
            links = answer.headers.get_all("Link") or []
            return answer.status, {**headers, "Link": ", ".join(links)}, answer.read()
        finally:
            upstream.close()

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()

    def _reset(self) -> None:
        self.close_connection = True
        linger_zero = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        socket.socket.close(self.connection)


def _payload_of(body: bytes) -> str:
    """Return what a JWS carries, as text; empty where the body is none."""
    try:
        text = str(json.loads(body)["payload"])
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (ValueError, KeyError, TypeError):
        return ""


_OURS = frozenset({"Content-Length", "Transfer-Encoding", "Connection", "Date"})
