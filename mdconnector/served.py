"""Asks Apache by TLS handshakes which certificates it serves, and judges what a reload has changed.

Rules: only this host's own addresses are asked, each vhost on its own; no byte of application data
is sent; nothing is verified, because the question is which certificate is shown and not whether it
is good. What cannot be asked is `unchecked`; only what was seen counts as proof.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from cryptography import x509

from mdconnector.certificates import UNREADABLE
from mdconnector.errors import HttpdError
from mdconnector.httpd.programs import find_program, run_program
from mdconnector.managed_domain import Address, ManagedDomain, VirtualHost, name_covers
from mdconnector.outcomes.promote import Served
from mdconnector.printable import printable

HANDSHAKE_SECONDS = 5.0
SETTLE_SECONDS = 10.0
THREADS = 8

_ANY_HOSTS = frozenset({"*", "_default_", "0.0.0.0", "::", ""})  # noqa: S104 - read, not bound
_CIPHERS = {"rsa": "aRSA:@SECLEVEL=0", "ec": "aECDSA:@SECLEVEL=0"}
_SIGNATURES = {
    "rsa": "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "RSA+SHA256:RSA+SHA384:RSA+SHA512",
    "ec": "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512",
}
_CERTIFICATE_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----"
)
_LOOPBACKS_TRIED = 8
_PAUSE_SECONDS = 0.2


class Endpoint(NamedTuple):
    """One address on which a vhost serves a domain; an `obstacle` says why it can't be asked."""

    address: str
    port: int
    server_name: str
    at: str
    """`file:line` of the vhost"""
    key_labels: tuple[str, ...] = ()
    """the key types to ask for: `rsa2048`, `secp256r1`"""
    obstacle: str | None = None
    override_at: str | None = None
    """`file:line` of an SSLCertificateFile in the vhost, which may be served instead"""

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.server_name} at {host}:{self.port}"


class Answer(NamedTuple):
    """What one handshake showed: the leaf, or in `fault` why none was seen."""

    endpoint: Endpoint
    key_label: str | None
    """the key type that was asked for; None: no preference"""
    sha256: str | None = None
    """lower-case hexadecimal"""
    serial: str | None = None
    """lower-case hexadecimal without leading zeros"""
    certificate: bytes | None = None
    """DER"""
    fault: str | None = None


Answers = Mapping[Endpoint, tuple[Answer, ...]]


class Comparison(NamedTuple):
    """What a domain's endpoints showed before and after a reload, judged."""

    served: Served
    harmed: tuple[Endpoint, ...] = ()
    """they completed handshakes before and complete none now: proof enough to undo"""
    stale: tuple[Answer, ...] = ()
    """they show another certificate than the expected ones"""
    lost: tuple[Answer, ...] = ()
    """a key type, or an endpoint, that shows no certificate"""
    obstacles: tuple[Endpoint, ...] = ()
    """they could not be asked"""


class Places:
    """Where httpd listens, and which addresses its vhosts have for themselves."""

    def __init__(self, listens: Iterable[Address], vhosts: Iterable[VirtualHost] = ()) -> None:
        self._hosts_by_port: dict[int | None, list[str]] = {}
        for listen in listens:
            self._hosts_by_port.setdefault(listen.port, []).append(listen.host)
        self._claimed = {
            (address.host, address.port)
            for vhost in vhosts
            for address in vhost.addresses
            if address.host not in _ANY_HOSTS
        }
        self._found: dict[Address, tuple[str, ...]] = {}
        self._local: dict[str, bool] = {}

    def ports(self, address: Address) -> tuple[int, ...]:
        """Return the ports of a vhost's address; `*` stands for all that are listened on."""
        if address.port is not None:
            return (address.port,)
        return tuple(port for port in self._hosts_by_port if port is not None) or (443,)

    def hosts(self, address: Address, port: int) -> tuple[str, ...]:
        """Return the addresses to connect to for a vhost's address; empty where nobody listens."""
        place = Address(address.host, port)
        if place not in self._found:
            self._found[place] = tuple(dict.fromkeys(self._look_up(place.host, port)))
        return self._found[place]

    def is_local(self, host: str) -> bool:
        """Say whether an address is this host's."""
        if host not in self._local:
            self._local[host] = _is_local(host)
        return self._local[host]

    def _look_up(self, host: str, port: int) -> Iterator[str]:
        if host not in _ANY_HOSTS:
            yield from _resolve(host)
            return
        for listened in self._hosts_by_port.get(port, ()) if self._hosts_by_port else ("*",):
            if listened not in _ANY_HOSTS:
                yield from _resolve(listened)
            else:
                yield from self._free_loopback("::1" if listened == "::" else "127.0.0.1", port)

    def _free_loopback(self, first: str, port: int) -> Iterator[str]:
        """Find a loopback address that leads to wildcard vhosts: all of 127/8 is this host's."""
        for host in (first, *(f"127.0.0.{number}" for number in range(2, _LOOPBACKS_TRIED))):
            if (host, port) not in self._claimed and (host, None) not in self._claimed:
                yield host
                return


def endpoints_for(domain: ManagedDomain, places: Places) -> tuple[Endpoint, ...]:
    """Return where to ask for a domain: each address of each SSL vhost that serves it.

    A wildcard address is asked on loopback, on an address that no vhost has for itself.
    """
    labels = _labels_by_kind(domain)
    found: dict[tuple[str, int, str], Endpoint] = {}
    for vhost in domain.vhosts:
        if vhost.ssl:
            for endpoint in _endpoints_of(vhost, domain, labels, places):
                key = (endpoint.address, endpoint.port, endpoint.server_name)
                found.setdefault(key, endpoint)
    if not found:
        at = str(domain.declared_at)
        return (Endpoint("", 0, domain.name, at, obstacle="no SSL vhost uses it"),)
    return tuple(found.values())


def ask(
    endpoints: Iterable[Endpoint],
    *,
    limit_seconds: float = HANDSHAKE_SECONDS,
    threads: int = THREADS,
) -> dict[Endpoint, tuple[Answer, ...]]:
    """Ask every endpoint once without a preference and once for each of its key types.

    Each handshake gets at most `limit_seconds`; an endpoint that is silent is asked only once.
    """
    distinct = tuple(dict.fromkeys(endpoints))
    if len(distinct) < 2:
        return {endpoint: _ask_endpoint(endpoint, limit_seconds) for endpoint in distinct}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(threads, len(distinct))) as pool:
        answers = pool.map(lambda endpoint: _ask_endpoint(endpoint, limit_seconds), distinct)
        return dict(zip(distinct, answers, strict=True))


def ask_until_new(
    expected: Mapping[Endpoint, Collection[str]],
    *,
    before: Answers,
    limit_seconds: float = SETTLE_SECONDS,
    threads: int = THREADS,
) -> dict[Endpoint, tuple[Answer, ...]]:
    """Ask until every endpoint shows nothing but its expected leaves, or the limit is over.

    `expected` maps endpoints to SHA-256 fingerprints. Children of the former generation may answer
    for a moment after a reload; only what they answered, and what answers no more, is asked again.
    """
    deadline = time.monotonic() + limit_seconds
    answers: dict[Endpoint, tuple[Answer, ...]] = {}
    open_questions = tuple(expected)
    while open_questions:
        answers |= ask(open_questions, threads=threads)
        open_questions = tuple(
            endpoint
            for endpoint in open_questions
            if not _is_settled(answers[endpoint], before.get(endpoint, ()), expected[endpoint])
        )
        if not open_questions or time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE_SECONDS)
    return answers


def compare(
    endpoints: Iterable[Endpoint], *, before: Answers, after: Answers, expected: Collection[str]
) -> Comparison:
    """Judge what a domain's endpoints show after a reload; `expected` are the leaves' SHA-256.

    One endpoint that shows another certificate makes it `old`; one that shows none any more, or a
    key type that is gone, makes it `none`; an endpoint that was silent before too decides only when
    all others are.
    """
    harmed: list[Endpoint] = []
    stale: list[Answer] = []
    lost: list[Answer] = []
    silent: list[Answer] = []
    obstacles: list[Endpoint] = []
    seen_new = False
    for endpoint in endpoints:
        if endpoint.obstacle is not None:
            obstacles.append(endpoint)
            continue
        past = {answer.key_label for answer in before.get(endpoint, ()) if answer.sha256}
        now = after.get(endpoint, ())
        stale += (answer for answer in now if answer.sha256 and answer.sha256 not in expected)
        seen_new = seen_new or any(answer.sha256 in expected for answer in now)
        lost += (answer for answer in now if not answer.sha256 and answer.key_label in past)
        if not any(answer.sha256 for answer in now):
            silent += now[:1]
            if past:
                harmed.append(endpoint)
    if stale:
        served = Served.OLD
    elif harmed or lost:
        served = Served.NONE
    elif seen_new:
        served = Served.NEW
    else:
        served = Served.NONE if silent else Served.UNCHECKED
    return Comparison(
        served,
        harmed=tuple(harmed),
        stale=tuple(stale),
        lost=tuple(dict.fromkeys((*lost, *silent))),
        obstacles=tuple(obstacles),
    )


def _is_settled(
    answers: tuple[Answer, ...], before: tuple[Answer, ...], expected: Collection[str]
) -> bool:
    """Say whether asking again can tell nothing more."""
    missed = {answer.key_label for answer in answers if answer.sha256 is None}
    if any(answer.sha256 and answer.key_label in missed for answer in before):
        return False
    return all(answer.sha256 in expected for answer in answers if answer.sha256)


def _labels_by_kind(domain: ManagedDomain) -> tuple[str, ...]:
    """Return one label for each of RSA and EC: OpenSSL keeps one certificate of each."""
    labels: dict[str, str] = {}
    for spec in domain.key_specs:
        labels.setdefault(_kind(spec.label), spec.label)
    return tuple(labels.values())


def _kind(label: str) -> str:
    return "rsa" if label.startswith("rsa") else "ec"


def _endpoints_of(
    vhost: VirtualHost, domain: ManagedDomain, labels: tuple[str, ...], places: Places
) -> Iterator[Endpoint]:
    name = _server_name(vhost, domain)
    override = vhost.certificate_pairs
    for address in vhost.addresses:
        for port in places.ports(address):
            hosts = places.hosts(address, port)
            for host in hosts or (address.host,):
                yield Endpoint(
                    host,
                    port,
                    name or domain.name,
                    str(vhost.declared_at),
                    labels,
                    obstacle=_obstacle(vhost, name, host if hosts else None, port, places),
                    override_at=str(override[0].declared_at) if override else None,
                )


def _obstacle(
    vhost: VirtualHost, name: str | None, host: str | None, port: int, places: Places
) -> str | None:
    if name is None:
        return "it has no name to ask for, only wildcards"
    if vhost.proxy_protocol:
        return "it expects the PROXY protocol"
    if host is None:
        return f"nothing of this host listens for it on port {port}"
    if not places.is_local(host):
        return f"{host} is not an address of this host"
    return None


def _server_name(vhost: VirtualHost, domain: ManagedDomain) -> str | None:
    """Return a name that leads to the vhost and that the domain's certificate covers."""
    written = tuple(name.lower() for name in (vhost.server_name, *vhost.aliases) if name)
    for name in written:
        if not _is_pattern(name) and any(name_covers(own, name) for own in domain.names):
            return name
    for name in domain.names:
        if not _is_pattern(name) and any(name_covers(pattern, name) for pattern in written):
            return name
    return None


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _resolve(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_local(address: str) -> bool:
    """Say whether an address is this host's: to its own addresses a host speaks from them.

    Binding would not tell: `ip_nonlocal_bind`, which keepalived asks for, allows any address.
    """
    try:
        if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            return True
    except ValueError:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]).partition("%")[0] == address.partition("%")[0]
    except OSError:
        return False


class _SilentError(Exception):
    """Nobody answers there, so that no further question makes sense."""


def _ask_endpoint(endpoint: Endpoint, limit_seconds: float) -> tuple[Answer, ...]:
    if endpoint.obstacle is not None:
        return (Answer(endpoint, None, fault=endpoint.obstacle),)
    answers: list[Answer] = []
    for label in (None, *endpoint.key_labels):
        try:
            answers.append(_ask_once(endpoint, label, limit_seconds))
        except _SilentError as error:
            answers.append(Answer(endpoint, label, fault=str(error)))
            break
    return tuple(answers)


def _ask_once(endpoint: Endpoint, label: str | None, limit_seconds: float) -> Answer:
    """Make one handshake; where Python's fails by an alert, openssl asks again.

    Only openssl can ask for a key type by TLS 1.3, and show the certificate of a handshake that
    ends because the client has none.
    """
    try:
        der = _handshake(endpoint, label, limit_seconds)
    except ssl.SSLError as error:
        reason = str(error.reason or error)
        shown = _ask_openssl(endpoint, label, limit_seconds) if "ALERT" in reason else None
        if shown is None:
            fault = f"no handshake: {printable(reason).lower().replace('_', ' ')}"
            return Answer(endpoint, label, fault=fault)
        der = shown
    return Answer(
        endpoint,
        label,
        sha256=hashlib.sha256(der).hexdigest(),
        serial=_serial(der),
        certificate=der,
    )


def _handshake(endpoint: Endpoint, label: str | None, limit_seconds: float) -> bytes:
    deadline = time.monotonic() + limit_seconds
    try:
        plain = socket.create_connection((endpoint.address, endpoint.port), limit_seconds)
    except OSError as error:
        raise _SilentError(f"no connection: {error.strerror or 'timed out'}".lower()) from error
    with plain:
        plain.settimeout(max(deadline - time.monotonic(), _PAUSE_SECONDS))
        try:
            with _context(label).wrap_socket(plain, server_hostname=endpoint.server_name) as secure:
                return secure.getpeercert(binary_form=True) or b""
        except ssl.SSLError:
            raise
        except TimeoutError as error:
            raise _SilentError(f"no handshake within {limit_seconds:.0f} s") from error
        except (OSError, ValueError) as error:
            raise _SilentError(f"no handshake: {printable(str(error))}".lower()) from error


def _context(label: str | None) -> ssl.SSLContext:
    """Return a context that takes any certificate, of one key type if asked for (by TLS 1.2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    if label is None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS[_kind(label)])
    return context


def _ask_openssl(endpoint: Endpoint, label: str | None, limit_seconds: float) -> bytes | None:
    program = find_program("openssl")
    if program is None:
        return None
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    arguments = [program, "s_client", "-connect", f"{host}:{endpoint.port}"]
    arguments += ["-servername", endpoint.server_name]
    if label is not None:
        kind = _kind(label)
        arguments += ["-sigalgs", _SIGNATURES[kind], "-cipher", _CIPHERS[kind]]
    try:
        finished = run_program(arguments, limit_seconds=limit_seconds)
    except HttpdError:
        return None
    block = _CERTIFICATE_BLOCK.search(finished.output)
    return ssl.PEM_cert_to_DER_cert(block[0]) if block else None


def _serial(der: bytes) -> str | None:
    try:
        return f"{x509.load_der_x509_certificate(der).serial_number:x}"
    except UNREADABLE:
        return None
