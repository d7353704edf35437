"""A small, strict CA in the test process, behind httpx.MockTransport, and faults put before it.

Rules: it refuses what RFC 8555 forbids (signatures, nonces, URLs, bindings, states) and knows
nothing of mdconnector. It counts what must not happen twice: bindings, orders, finalizations.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

BASE = "https://ca.example"
DIRECTORY_URL = f"{BASE}/directory"
ACME = "urn:ietf:params:acme:error:"

Handle = Callable[[], httpx.Response]
Fault = Callable[[Handle], httpx.Response]


class Chunks(httpx.SyncByteStream):
    """A body that httpx has not read yet, as from a socket."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks


class ProblemError(Exception):
    """An answer of the CA that says no."""

    def __init__(self, status: int, word: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.type, self.detail = status, ACME + word, detail


@dataclass(slots=True)
class FakeOrder:
    """One order, and how often it is still `processing` when it is read."""

    id: int
    account: str
    names: tuple[str, ...]
    status: str
    request: dict[str, Any]
    polls_left: int = 0
    csr: x509.CertificateSigningRequest | None = None


@dataclass(slots=True)
class FakeCa:
    """The CA; `faults` are taken in order, each by the first request whose path it matches."""

    bindings: dict[str, bytes] = field(default_factory=dict)
    binding_required: bool = False
    binding_once: bool = False
    orders_come: str = "ready"
    polls_of_processing: int = 0
    lists_orders: bool = True
    directory_extra: dict[str, Any] = field(default_factory=dict)
    terms: str | None = "https://ca.example/terms"
    bad_nonces: int = 0
    """so many good nonces are refused"""
    challenges: tuple[dict[str, Any], ...] | None = None
    """what each authorization offers; None: http-01 and dns-01"""

    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    accounts: dict[str, rsa.RSAPublicKey] = field(default_factory=dict)
    used_bindings: list[str] = field(default_factory=list)
    orders: dict[int, FakeOrder] = field(default_factory=dict)
    finalized: list[int] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    _faults: list[tuple[re.Pattern[str], Fault]] = field(default_factory=list)
    _nonces: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def fault(self, path: str, *faults: Fault) -> None:
        """Let the next requests to a path meet these faults, one each."""
        self._faults += [(re.compile(path), fault) for fault in faults]

    def count(self, path: str, method: str | None = None) -> int:
        """Return how many requests a path has had."""
        return sum(
            re.search(path, seen) is not None and method in (None, how)
            for how, seen in self.requests
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        with self._lock:
            path = request.url.raw_path.decode()
            self.requests.append((request.method, path))
            self.bodies.append(request.content)
            for number, (pattern, fault) in enumerate(self._faults):
                if pattern.search(path):
                    del self._faults[number]
                    return fault(lambda: self._answer(request, path))
            return self._answer(request, path)

    def _answer(self, request: httpx.Request, path: str) -> httpx.Response:
        if str(request.url.copy_with(raw_path=b"/")) != BASE + "/":
            raise AssertionError(f"a request went to {request.url}")
        if request.headers["Accept-Encoding"] != "identity":
            raise AssertionError("a compressed answer was asked for")
        try:
            status, body, headers = self._route(request, path)
        except ProblemError as error:
            return self._respond(
                error.status,
                {"type": error.type, "detail": error.detail, "status": error.status},
                {"Content-Type": "application/problem+json"},
            )
        return self._respond(status, body, headers)

    def _respond(
        self, status: int, body: Mapping[str, Any] | bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        content = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        return httpx.Response(
            status,
            headers={
                "Replay-Nonce": self._new_nonce(),
                "Content-Length": str(len(content)),
                **headers,
            },
            stream=Chunks(content),
        )

    def _route(
        self, request: httpx.Request, path: str
    ) -> tuple[int, Mapping[str, Any] | bytes | None, dict[str, str]]:
        if path == "/directory":
            return 200, self._directory(), {}
        if path == "/new-nonce":
            return 200, None, {}
        if request.method != "POST":
            raise ProblemError(405, "malformed", "only POST")
        header, payload = self._verified(request)
        if path == "/new-account":
            return self._new_account(header, payload)
        account = self._account_of(header)
        kind, _, number = path.strip("/").partition("/")
        match kind:
            case "new-order":
                return self._new_order(account, payload)
            case "orders":
                urls = [self._url(o) for o in self.orders.values() if o.account == account]
                return 200, {"orders": urls}, {}
            case "order":
                return 200, self._read_order(self._order(number, account)), {}
            case "finalize":
                return self._finalize(self._order(number, account), payload)
            case "authorization":
                return 200, self._authorization(number), {}
            case "challenge":
                return 200, self._challenge(number, payload), {}
            case "certificate":
                return (
                    200,
                    self._chain(self._order(number, account)),
                    {
                        "Content-Type": "application/pem-certificate-chain",
                        "Link": f'<{BASE}/certificate/{number}/other>;rel="alternate"',
                    },
                )
        raise ProblemError(404, "malformed", f"there is nothing at {path}")

    def _directory(self) -> dict[str, Any]:
        meta: dict[str, Any] = {"externalAccountRequired": self.binding_required}
        if self.terms:
            meta["termsOfService"] = self.terms
        return {
            "newNonce": f"{BASE}/new-nonce",
            "newAccount": f"{BASE}/new-account",
            "newOrder": f"{BASE}/new-order",
            "meta": meta,
            **self.directory_extra,
        }

    def _new_nonce(self) -> str:
        nonce = f"nonce-{next(self._numbers)}"
        self._nonces.add(nonce)
        return nonce

    def _verified(self, request: httpx.Request) -> tuple[dict[str, Any], dict[str, Any] | None]:
        if request.headers["Content-Type"] != "application/jose+json":
            raise ProblemError(415, "malformed", "not application/jose+json")
        message = json.loads(request.content)
        if set(message) != {"protected", "payload", "signature"}:
            raise ProblemError(400, "malformed", "not a flattened JWS")
        header = json.loads(decoded(message["protected"]))
        if header.get("url") != str(request.url):
            raise ProblemError(401, "unauthorized", "the signed URL is another")
        if ("jwk" in header) == ("kid" in header):
            raise ProblemError(400, "malformed", "either jwk or kid")
        key = public_key(header["jwk"]) if "jwk" in header else self.accounts.get(header["kid"])
        if key is None:
            raise ProblemError(400, "accountDoesNotExist", "no such account")
        signed = f"{message['protected']}.{message['payload']}".encode()
        try:
            key.verify(decoded(message["signature"]), signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise ProblemError(400, "malformed", "the signature is wrong") from None
        self._use_nonce(header.get("nonce"))
        payload = decoded(message["payload"])
        return header, json.loads(payload) if payload else None

    def _use_nonce(self, nonce: object) -> None:
        if not isinstance(nonce, str) or nonce not in self._nonces:
            raise ProblemError(400, "badNonce", "not a nonce of mine")
        self._nonces.remove(nonce)
        if self.bad_nonces:
            self.bad_nonces -= 1
            raise ProblemError(400, "badNonce", "today I don't like it")

    def _account_of(self, header: Mapping[str, Any]) -> str:
        if "kid" not in header:
            raise ProblemError(400, "malformed", "kid is missing")
        return str(header["kid"])

    def _new_account(
        self, header: Mapping[str, Any], payload: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if "jwk" not in header or payload is None:
            raise ProblemError(400, "malformed", "jwk is missing")
        key = public_key(header["jwk"])
        for url, known in self.accounts.items():
            if known.public_numbers() == key.public_numbers():
                return 200, self._account(), {"Location": url}
        if payload.get("onlyReturnExisting"):
            raise ProblemError(400, "accountDoesNotExist", "no such account")
        if self.terms and payload.get("termsOfServiceAgreed") is not True:
            raise ProblemError(403, "userActionRequired", "agree to the terms")
        self._use_binding(payload.get("externalAccountBinding"), header["jwk"])
        url = f"{BASE}/account/{len(self.accounts) + 1}"
        self.accounts[url] = key
        return 201, self._account(), {"Location": url}

    def _account(self) -> dict[str, Any]:
        members = {"status": "valid", "contact": ["mailto:admin@example.org"]}
        return members | ({"orders": f"{BASE}/orders/1"} if self.lists_orders else {})

    def _use_binding(self, binding: Mapping[str, str] | None, jwk: object) -> None:
        if binding is None:
            if self.binding_required:
                raise ProblemError(403, "externalAccountRequired", "a binding is needed")
            return
        header = json.loads(decoded(binding["protected"]))
        secret = self.bindings.get(header["kid"])
        if secret is None:
            raise ProblemError(403, "unauthorized", "the field 'kid' references a key unknown here")
        if header != {"alg": "HS256", "kid": header["kid"], "url": f"{BASE}/new-account"}:
            raise ProblemError(400, "malformed", "the binding's header is wrong")
        signed = f"{binding['protected']}.{binding['payload']}".encode()
        if not hmac.compare_digest(
            hmac.digest(secret, signed, "sha256"), decoded(binding["signature"])
        ):
            raise ProblemError(403, "unauthorized", "external account binding: wrong MAC")
        if json.loads(decoded(binding["payload"])) != jwk:
            raise ProblemError(400, "malformed", "the binding is for another key")
        if self.binding_once and header["kid"] in self.used_bindings:
            raise ProblemError(
                400,
                "malformed",
                "[External Account Binding] The account is not awaiting external account binding",
            )
        self.used_bindings.append(header["kid"])

    def _new_order(
        self, account: str, payload: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if payload is None:
            raise ProblemError(400, "malformed", "no order")
        if "replaces" in payload and "renewalInfo" not in self.directory_extra:
            raise ProblemError(400, "malformed", "")
        names = tuple(one["value"] for one in payload["identifiers"] if one["type"] == "dns")
        number = len(self.orders) + 1
        order = FakeOrder(number, account, names, self.orders_come, payload)
        self.orders[number] = order
        return 201, self._show(order), {"Location": self._url(order)}

    def _order(self, number: str, account: str) -> FakeOrder:
        order = self.orders.get(int(number.partition("/")[0]))
        if order is None:
            raise ProblemError(404, "malformed", "no such order")
        if order.account != account:
            raise ProblemError(401, "unauthorized", "the order of another account")
        return order

    def _read_order(self, order: FakeOrder) -> dict[str, Any]:
        if order.status == "processing":
            if order.polls_left == 0:
                order.status = "valid"
            order.polls_left -= 1
        return self._show(order)

    def _show(self, order: FakeOrder) -> dict[str, Any]:
        return {
            "status": order.status,
            "expires": (datetime.now(UTC) + timedelta(days=7)).isoformat(),
            "identifiers": [{"type": "dns", "value": name} for name in order.names],
            "authorizations": [
                f"{BASE}/authorization/{order.id}-{number}" for number, _ in enumerate(order.names)
            ],
            "finalize": f"{BASE}/finalize/{order.id}",
            **(
                {"certificate": f"{BASE}/certificate/{order.id}"} if order.status == "valid" else {}
            ),
        }

    def _finalize(
        self, order: FakeOrder, payload: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        if order.status != "ready" or payload is None:
            raise ProblemError(
                403,
                "orderNotReady",
                f"Order's status ({order.status}) is not acceptable for finalization",
            )
        csr = x509.load_der_x509_csr(decoded(payload["csr"]))
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if set(names.get_values_for_type(x509.DNSName)) != set(order.names):
            raise ProblemError(400, "badCSR", "the CSR has other names")
        self.finalized.append(order.id)
        order.csr = csr
        order.polls_left = self.polls_of_processing
        order.status = "processing" if self.polls_of_processing else "valid"
        return 200, self._show(order), {"Location": self._url(order)}

    def _authorization(self, number: str) -> dict[str, Any]:
        order, _, index = number.partition("-")
        name = self.orders[int(order)].names[int(index)]
        pending = self.orders[int(order)].status == "pending"
        offered = self.challenges
        if offered is None:
            offered = ({"type": "http-01"}, {"type": "dns-01"})
        return {
            "status": "pending" if pending else "valid",
            "identifier": {"type": "dns", "value": name.removeprefix("*.")},
            **({"wildcard": True} if name.startswith("*.") else {}),
            "challenges": [
                {
                    "url": f"{BASE}/challenge/{number}-{one['type']}",
                    "token": "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0",
                    "status": "pending",
                    **one,
                }
                for one in offered
            ],
        }

    def _challenge(self, number: str, payload: dict[str, Any] | None) -> dict[str, Any]:
        order = self.orders[int(number.partition("-")[0])]
        if payload is not None:
            self.answered.append(number)
            order.status = "ready"
        return {
            "type": number.split("-", 2)[2],
            "url": f"{BASE}/challenge/{number}",
            "token": "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0",
            "status": "valid" if number in self.answered else "pending",
        }

    def _chain(self, order: FakeOrder) -> bytes:
        if order.csr is None:
            raise ProblemError(404, "malformed", "no certificate")
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake CA")])
        leaf = self._sign(issuer, x509.Name([]), order.csr.public_key(), order.names)
        root = self._sign(issuer, issuer, self._key.public_key(), ())
        return leaf + root

    def _sign(
        self, issuer: x509.Name, subject: x509.Name, key: Any, names: tuple[str, ...]
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
        )
        if names:
            sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(sans, critical=True)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    @staticmethod
    def _url(order: FakeOrder) -> str:
        return f"{BASE}/order/{order.id}"


def decoded(text: str) -> bytes:
    """Decode base64url without padding, strictly."""
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ProblemError(400, "malformed", "not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_key(jwk: Mapping[str, str]) -> rsa.RSAPublicKey:
    """Read a public RSA key; anything private in it is an error."""
    if set(jwk) != {"kty", "n", "e"} or jwk["kty"] != "RSA":
        raise ProblemError(400, "badPublicKey", "not a public RSA key")
    n, e = (int.from_bytes(decoded(jwk[name])) for name in ("n", "e"))
    return rsa.RSAPublicNumbers(n=n, e=e).public_key()


def lost(handle: Handle) -> httpx.Response:
    """Let the CA do it; the answer never comes."""
    handle()
    raise httpx.ReadTimeout("no answer")


def reset(_: Handle) -> httpx.Response:
    """Cut the connection after the request went out and before the CA has it."""
    raise httpx.ReadError("[Errno 104] Connection reset by peer")


def refused(_: Handle) -> httpx.Response:
    """Refuse the connection."""
    raise httpx.ConnectError("[Errno 111] Connection refused")


def answered(status: int, body: Any = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer this in the CA's place."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def fault(_: Handle) -> httpx.Response:
        length = {"Content-Length": str(len(content))}
        return httpx.Response(status, headers=length | dict(headers or {}), stream=Chunks(content))

    return fault


def problem(status: int, word: str, detail: str, **members: Any) -> Fault:
    """Answer a problem document in the CA's place."""
    return answered(status, {"type": ACME + word, "detail": detail, **members})


def changed(**members: Any) -> Fault:
    """Let the CA answer, and change members of its JSON; Ellipsis takes one out."""

    def fault(handle: Handle) -> httpx.Response:
        response = handle()
        document = json.loads(b"".join(response.stream))  # type: ignore[arg-type]  # sync here
        document |= members
        document = {name: value for name, value in document.items() if value is not ...}
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=Chunks(json.dumps(document).encode()),
        )

    return fault


def with_headers(**headers: str | None) -> Fault:
    """Let the CA answer, and set headers (underscores are hyphens); None takes one out."""

    def fault(handle: Handle) -> httpx.Response:
        response = handle()
        for name, value in headers.items():
            key = name.replace("_", "-")
            response.headers.pop(key, None)
            if value is not None:
                raw = [*response.headers.raw, (key.encode(), value.encode("latin-1"))]
                response.headers = httpx.Headers(raw)
        return response

    return fault
