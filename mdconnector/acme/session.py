"""One conversation with one CA: nonces, retries, and what an answer may be.

Rules: the only module that speaks HTTP, and the only one that repeats a request. HTTPS only, save
for loopback hosts; no redirects; nothing is sent to an origin that neither the directory's address
nor the directory itself names. Answers are read under caps, never decompressed. A request that must
not happen twice is repeated only where no byte of it can have left this machine. A session is
shared by threads.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from http import HTTPStatus
from secrets import SystemRandom
from typing import Self, TypeVar

import httpx

from mdconnector import __version__
from mdconnector.acme.advice import Purpose, stops_account
from mdconnector.acme.answers import (
    Directory,
    Response,
    parse_directory,
    problem_error,
    problem_word,
    read_response,
    status_phrase,
)
from mdconnector.acme.jws import sign_request
from mdconnector.acme.origins import Origin, directory_origin, may_follow, origin_of, parsed_url
from mdconnector.acme.transport import limit_request, make_punctual, make_transport
from mdconnector.errors import (
    CaError,
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
)
from mdconnector.keys import PrivateKey
from mdconnector.printable import printable

CONNECT_TIMEOUT_SECONDS = 15.0
# Sectigo answers newOrder after 15 s and finalize after 45 s and more.
READ_TIMEOUT_SECONDS = 180.0
REQUEST_DEADLINE_SECONDS = 240.0
MAX_JSON_BYTES = 256 * 1024
MAX_TRIES = 3
MAX_BAD_NONCES = 10
RETRY_WAITS_SECONDS = (1.0, 3.0)
LONGEST_RETRY_WAIT_SECONDS = 10.0
# A CA that goes silent in the middle of a run is left alone for a while after this many requests in
# a row, so that a thousand domains do not each wait for it.
MAX_UNANSWERED_REQUESTS = 3
SILENCE_SECONDS = 60.0
_MAX_KEPT_NONCES = 64
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Accept-Language": "en",
    "Connection": "keep-alive",
    "User-Agent": f"mdconnector/{__version__}",
}
_PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY")


class CaUntrustedError(CaUnreachableError):
    """The CA's server could not prove who it is; it is not asked again in this run."""

    default_type = "tls"


class Session:
    """One CA, by its directory URL, for one run and any number of threads.

    `ca_certificates` replaces the system's trust store (MDCACertificateFile); `remembered` saves
    the request for the directory; `transport` and `sleep` are for tests.
    """

    def __init__(
        self,
        directory_url: str,
        *,
        ca_certificates: str | None = None,
        proxy_url: str | None = None,
        proxy_ca_certificates: str | None = None,
        remembered: Directory | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory_url = directory_url
        self.directory_is_fresh = False
        self.requests_sent = 0
        self._origin = directory_origin(directory_url)
        self._sleep = sleep
        self._clock = clock
        self._proxy_url = proxy_url
        self._ca_certificates = ca_certificates
        self._remembered = remembered
        self._directory: Directory | None = None
        self._origins = frozenset({self._origin})
        self._nonces: list[str] = []
        self._failure: CaError | None = None
        self._has_answered = False
        self._date: datetime | None = None
        self._unanswered_requests = 0
        self._silence: CaUnreachableError | None = None
        self._silence_ends_at = 0.0
        self._stopped_accounts: dict[str, CaProblemError] = {}
        self._lock = threading.Lock()
        self._contact_lock = threading.RLock()
        self._jitter = SystemRandom()
        self._timeouts = httpx.Timeout(
            READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS
        ).as_dict()
        # Not httpx.Client: its cookies, redirects and merged URLs are not for a CA.
        self._transport = transport or make_transport(
            ca_certificates, proxy_url=proxy_url, proxy_ca_certificates=proxy_ca_certificates
        )

    @property
    def host(self) -> str:
        """The host of the directory URL, as messages name the CA."""
        return self._origin[1]

    @property
    def is_plain_http(self) -> bool:
        """Say whether requests go unencrypted, which only a loopback host may ask for."""
        return self._origin[0] == "http"

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def directory(self) -> Directory:
        """Return what the CA offers: remembered, or read once.

        A CA whose directory cannot be had is asked at most three times; from then on the same error
        is raised to everybody.
        """
        with self._contact_lock:
            if self._directory is None:
                if self._failure is not None:
                    raise self._failure
                self._directory = self._remembered_directory() or self._fetch_directory()
            return self._directory

    def has_moved_from(self, used: Directory) -> bool:
        """Read the directory anew if it was a remembered one; say whether it differs from `used`.

        For answers that make one think that the CA's addresses have changed.
        """
        with self._contact_lock:
            if self._remembered is not None:
                self._remembered = self._directory = None
            return self.directory() != used

    def get(self, url: str, *, purpose: Purpose) -> Response:
        """Send an unsigned GET: the directory, and renewal information (RFC 9773)."""
        if purpose is not Purpose.DIRECTORY:
            self.directory()
            self.refuse_foreign(url)
        return self._repeated(
            lambda: self._accepted(self._exchange("GET", url, purpose=purpose), purpose),
            repeatable=True,
        )

    def post(
        self,
        url: str,
        payload: Mapping[str, object] | None,
        *,
        key: PrivateKey,
        kid: str | None,
        purpose: Purpose,
        repeatable: bool = True,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> Response:
        """Send a signed request; without `payload` a POST-as-GET.

        One that is not `repeatable` is sent again only where nothing of it can have left this
        machine; else CaUnreachableError tells by `request_sent` that its fate is unknown. Once the
        CA has called the account suspended, every further request of it raises that error; and a CA
        that went silent is left alone for a minute.
        """
        self._respect_stop(kid)
        self._respect_silence()
        self.directory()
        self.refuse_foreign(url)

        def send() -> Response:
            nonce = self._take_nonce()
            for _ in range(1 + MAX_BAD_NONCES):
                self._respect_stop(kid)
                body = sign_request(payload, key=key, url=url, nonce=nonce, kid=kid)
                answer = self._exchange(
                    "POST", url, purpose=purpose, body=body, max_bytes=max_bytes
                )
                if not answer.is_bad_nonce:
                    break
                nonce = answer.nonce or self._take_nonce()
            self._keep_nonce(answer.nonce)
            return self._accepted(answer, purpose, kid=kid)

        return self._repeated(send, repeatable=repeatable)

    def refuse_foreign(self, url: str) -> None:
        """Raise CaProtocolError for an address that the CA's directory does not vouch for."""
        origin = origin_of(url)
        if origin is None or origin not in self._origins:
            raise CaProtocolError(
                f"the CA points to where its directory does not: {printable(url, 200)}",
                url=self.directory_url,
                hint="nothing was sent there; ask the CA whether this address is its own",
            )

    def ca_time(self) -> datetime | None:
        """Return what time it is by the CA's clock, None where it does not say.

        It costs no request: a nonce is fetched where no answer has come yet, and kept.
        """
        if self._date is None:
            self._keep_nonce(self._take_nonce())
        return self._date

    def _remembered_directory(self) -> Directory | None:
        if self._remembered is None:
            return None
        try:
            self._allow_origins_of(self._remembered)
        except CaProtocolError:
            self._remembered = None
            return None
        return self._remembered

    def _fetch_directory(self) -> Directory:
        try:
            response = self.get(self.directory_url, purpose=Purpose.DIRECTORY)
            directory = parse_directory(response.document("directory"), url=self.directory_url)
            self._allow_origins_of(directory)
        except CaError as error:
            self._failure = error
            raise
        self._keep_nonce(response.nonce)
        self.directory_is_fresh = True
        return directory

    def _allow_origins_of(self, directory: Directory) -> None:
        """Let requests go where the directory points, if that is as safe as where it was found."""
        urls = (
            directory.new_nonce,
            directory.new_account,
            directory.new_order,
            directory.revoke_cert,
            directory.key_change,
            directory.renewal_info,
        )
        found = {self._origin_of_ca(url) for url in urls if url is not None}
        self._origins = frozenset({self._origin, *found})

    def _origin_of_ca(self, url: str) -> Origin:
        origin = origin_of(url)
        if origin is None or not may_follow(self._origin, origin):
            raise CaProtocolError(
                f"the CA names an address that is not safe to follow: {printable(url, 200)}",
                url=self.directory_url,
                hint="only https is followed, and to this host only from a CA on this host",
            )
        return origin

    def _take_nonce(self) -> str:
        with self._lock:
            if self._nonces:
                return self._nonces.pop()
        if self._has_answered:
            return self._new_nonce()
        with self._contact_lock:
            if self._failure is not None:
                raise self._failure
            if self._has_answered:
                return self._new_nonce()
            try:
                return self._repeated(self._new_nonce, repeatable=True)
            except CaUnreachableError as error:
                self._failure = error
                raise

    def _new_nonce(self) -> str:
        directory = self.directory()
        url = directory.new_nonce
        try:
            answer = self._accepted(
                self._exchange("HEAD", url, purpose=Purpose.NONCE), Purpose.NONCE
            )
        except CaUnreachableError as error:
            # The request that the nonce was for has not been sent, whatever became of this one.
            error.request_sent = False
            raise
        except CaProblemError:
            if self.has_moved_from(directory):
                return self._new_nonce()
            raise
        if answer.nonce is None:
            raise CaProtocolError("the CA gave no usable nonce (header Replay-Nonce)", url=url)
        return answer.nonce

    def _keep_nonce(self, nonce: str | None) -> None:
        with self._lock:
            if nonce is not None and len(self._nonces) < _MAX_KEPT_NONCES:
                self._nonces.append(nonce)

    def _repeated(self, send: Callable[[], _Answer], *, repeatable: bool) -> _Answer:
        tries = 0
        while True:
            try:
                return send()
            except CaError as error:
                tries += 1
                wait = self._wait_before_retry(error, tries, repeatable=repeatable)
                if wait is None:
                    self._note_failure(error)
                    raise
            self._sleep(wait)

    def _note_failure(self, error: CaError) -> None:
        if not isinstance(error, CaUnreachableError) or error is self._failure:
            return
        with self._lock:
            self._unanswered_requests += 1
            if self._unanswered_requests >= MAX_UNANSWERED_REQUESTS:
                self._silence = CaUnreachableError(
                    error.message, url=error.url, hint=error.hint, request_sent=False
                )
                self._silence_ends_at = self._clock() + SILENCE_SECONDS

    def _respect_stop(self, kid: str | None) -> None:
        if kid is not None and kid in self._stopped_accounts:
            raise self._stopped_accounts[kid]

    def _respect_silence(self) -> None:
        with self._lock:
            if self._silence is not None and self._clock() < self._silence_ends_at:
                raise self._silence

    def _wait_before_retry(self, error: CaError, tries: int, *, repeatable: bool) -> float | None:
        """Return how long to wait before the request is sent again, None where it must not be."""
        if tries >= MAX_TRIES or error is self._failure:
            return None
        match error:
            case CaUntrustedError():
                return None
            case CaUnreachableError():
                if error.request_sent and not repeatable:
                    return None
            case CaProblemError(status=HTTPStatus.TOO_MANY_REQUESTS):
                if error.retry_after_seconds is None:
                    return None
            case _:
                return None
        asked = error.retry_after_seconds or 0.0
        if asked > LONGEST_RETRY_WAIT_SECONDS:
            return None
        wait = max(RETRY_WAITS_SECONDS[tries - 1], asked)
        return wait * (1 + 0.25 * self._jitter.random())

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        purpose: Purpose,
        body: bytes | None = None,
        max_bytes: int = MAX_JSON_BYTES,
    ) -> Response:
        """Send one request once and read its answer, whatever its status."""
        with self._lock:
            self.requests_sent += 1
        content_type = {"Content-Type": "application/jose+json"} if body is not None else {}
        limit_request(REQUEST_DEADLINE_SECONDS)
        ends_at = self._clock() + REQUEST_DEADLINE_SECONDS
        try:
            request = httpx.Request(
                method,
                parsed_url(url),
                content=body,
                headers=_HEADERS | content_type,
                extensions={"timeout": self._timeouts, "trace": make_punctual},
            )
            answer = self._transport.handle_request(request)
            answer.request = request
            try:
                content = self._read(answer, max_bytes=max_bytes, ends_at=ends_at)
            finally:
                answer.close()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._unreachable(error, url=url, purpose=purpose) from error
        if answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._has_answered = True
            self._unanswered_requests = 0
        fields: dict[str, list[str]] = {}
        for name, value in answer.headers.multi_items():
            fields.setdefault(name, []).append(value)
        response = read_response(
            url=url,
            status=answer.status_code,
            headers=fields,
            body=content,
        )
        if method != "GET":
            # A directory may come from a cache, with the date of the day it went in.
            self._date = response.date or self._date
        return response

    def _read(self, answer: httpx.Response, *, max_bytes: int, ends_at: float) -> bytes:
        url = str(answer.request.url)
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise CaProtocolError(
                f"the CA's answer is compressed unasked ({printable(encoding, 40)})",
                url=url,
            )
        content = bytearray()
        for chunk in answer.iter_raw():
            content += chunk
            if len(content) > max_bytes:
                raise CaProtocolError(f"the CA's answer has more than {max_bytes} bytes", url=url)
            if self._clock() > ends_at:
                raise httpx.ReadTimeout("the answer did not end", request=answer.request)
        return bytes(content)

    def _accepted(self, answer: Response, purpose: Purpose, *, kid: str | None = None) -> Response:
        """Return an answer that says yes; raise the error that any other stands for."""
        status = answer.status
        if 200 <= status < 300:
            return answer
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._server_trouble(answer, purpose)
        if status < HTTPStatus.BAD_REQUEST:
            to = f" to {printable(answer.location, 200)}" if answer.location else ""
            raise CaProtocolError(
                f"the CA redirects {printable(answer.url, 200)}{to}, which is not followed",
                url=answer.url,
                hint="if that is the CA's address now, write it into MDCertificateAuthority",
            )
        error = problem_error(
            answer.problem_document(),
            url=answer.url,
            status=status,
            host=self.host,
            purpose=purpose,
            retry_after_seconds=answer.retry_after_seconds,
        )
        if kid is not None and stops_account(error.detail):
            self._stopped_accounts[kid] = error
        raise error

    def _server_trouble(self, answer: Response, purpose: Purpose) -> CaUnreachableError:
        detail = problem_word(answer.problem_document(), "detail")
        words = printable(detail) if detail else status_phrase(answer.status)
        return CaUnreachableError(
            f"{self.host} answered HTTP {answer.status} while {purpose}: {words}",
            url=answer.url,
            hint="nothing to do: the CA has trouble, the next run tries again",
            retry_after_seconds=answer.retry_after_seconds,
        )

    def _unreachable(self, error: Exception, *, url: str, purpose: Purpose) -> CaUnreachableError:
        untrusted = _cause(error, ssl.SSLCertVerificationError)
        if untrusted is not None:
            return CaUntrustedError(
                f"{self.host} is not trusted: {printable(untrusted.verify_message)}",
                url=url,
                hint=self._trust_hint(),
                request_sent=False,
            )
        return CaUnreachableError(
            f"no answer from {self.host} while {purpose}: {_reason(error)}",
            url=url,
            hint=self._connection_hint(),
            request_sent=not isinstance(error, _BEFORE_THE_REQUEST),
        )

    def _trust_hint(self) -> str:
        if self._ca_certificates is None:
            return (
                "if it is the right server, name a file with its root certificate in "
                "MDCACertificateFile (it then replaces the system's trust store)"
            )
        return (
            f"{self._ca_certificates}, which MDCACertificateFile names, must hold its root "
            "certificate; the system's trust store is not asked besides"
        )

    def _connection_hint(self) -> str:
        if self._proxy_url is not None:
            return "it goes through the proxy that MDHttpProxy names: see that it allows this host"
        variables = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
        if variables:
            return (
                f"the environment's {', '.join(variables)} is not used; if this host needs a "
                "proxy, name it in MDHttpProxy"
            )
        return f"see that this host can reach {self.host}; a proxy is named in MDHttpProxy"


_Answer = TypeVar("_Answer")
_BEFORE_THE_REQUEST = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
    httpx.LocalProtocolError,
)


_Error = TypeVar("_Error", bound=BaseException)


def _cause(error: BaseException, kind: type[_Error]) -> _Error | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    system = _cause(error, OSError)
    if system is not None and system.strerror:
        return printable(system.strerror)
    return printable(str(error)) or type(error).__name__
