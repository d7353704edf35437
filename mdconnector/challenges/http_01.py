"""http-01 (RFC 8555 §8.3): through mod_md's folder, else through the DocumentRoot of a vhost.

Rules: where mod_md is loaded it answers for every host on every vhost. What was set up is then
asked for on the vhost's own address, never by DNS; only another text with status 200 stops the
challenge, since a proxy, a firewall or a redirect may make it look different from outside.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from mdconnector.challenges import challenge_files, document_root
from mdconnector.challenges.challenge_files import ChallengeFile
from mdconnector.challenges.offers import ChallengeSite
from mdconnector.challenges.traces import Trace
from mdconnector.errors import ChallengeError
from mdconnector.managed_domain import VirtualHost
from mdconnector.printable import printable
from mdconnector.store.tree import Store

FILE_NAME = "acme-http-01.txt"
CHECK_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_MAX_REPLY_BYTES = 64 * 1024
_ANY_HOST = frozenset({"*", "_default_", "0.0.0.0", "::"})  # noqa: S104 - compared, never bound
_LOOPBACKS = ("127.0.0.1", "127.0.0.2", "::1")
_NUMERIC = re.compile(r"[0-9]+(\.[0-9]+){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


class _Reply(NamedTuple):
    status: int
    body: bytes


def prepare(
    identifier: str, token: str, answer: str, site: ChallengeSite, store: Store
) -> tuple[Trace, Callable[[], tuple[str, ...]]]:
    """Return the file to be made, and the function that makes it and then asks Apache for it.

    Raises ChallengeError where mod_md is not loaded and no vhost could answer.
    """
    vhost = answering_vhost(site, identifier)
    addresses = () if vhost is None else addresses_to_ask(site, vhost)
    trace, write = (
        _by_mod_md(identifier, answer, store)
        if site.mod_md_loaded
        else _by_document_root(vhost, token, answer, site)
    )

    def make() -> tuple[str, ...]:
        write()
        return _check(identifier, token, answer, addresses)

    return trace, make


def answering_vhost(site: ChallengeSite, name: str) -> VirtualHost | None:
    """Return the vhost that answers a name on the http port: the first of that name, or of all.

    The base server answers where no vhost has the port; None where Apache does not listen on it.
    """
    if not site.listens_on(site.http_port):
        return None
    on_port = [
        vhost
        for vhost in site.vhosts
        if not vhost.is_base and not vhost.ssl and _hosts_on(vhost, site.http_port)
    ]
    named = [vhost for vhost in on_port if _answers_to(vhost, name)]
    base = [vhost for vhost in site.vhosts if vhost.is_base]
    return next(iter((*named, *on_port, *base)), None)


def addresses_to_ask(site: ChallengeSite, vhost: VirtualHost) -> tuple[tuple[str, int], ...]:
    """Return the numeric local addresses on which a vhost answers the http port."""
    port = site.http_port
    if port is None:
        return ()
    hosts = ("*",) if vhost.is_base else _hosts_on(vhost, port)
    found = [host for host in hosts if _NUMERIC.fullmatch(host) and host not in _ANY_HOST]
    if any(host in _ANY_HOST for host in hosts):
        taken = {host for other in site.vhosts for host in _hosts_on(other, port)} - set(hosts)
        found += (host for host in _listening_hosts(site, port) if host not in taken)
    return tuple((host, port) for host in dict.fromkeys(found))


def _by_mod_md(identifier: str, answer: str, store: Store) -> tuple[Trace, Callable[[], None]]:
    files = (ChallengeFile(FILE_NAME, answer.encode("ascii")),)
    trace = challenge_files.trace_of(store, identifier, files)
    return trace, lambda: challenge_files.write(store, identifier, files)


def _by_document_root(
    vhost: VirtualHost | None, token: str, answer: str, site: ChallengeSite
) -> tuple[Trace, Callable[[], None]]:
    if vhost is None:
        raise ChallengeError(f"no vhost answers on port {site.http_port}")
    if vhost.document_root is None:
        raise ChallengeError(f"the vhost at {vhost.declared_at} has no DocumentRoot")
    trace = document_root.trace_of(vhost.document_root, token, answer)
    return trace, lambda: document_root.write(trace)


def _hosts_on(vhost: VirtualHost, port: int | None) -> tuple[str, ...]:
    return tuple(address.host for address in vhost.addresses if address.port in (None, port))


def _listening_hosts(site: ChallengeSite, port: int) -> list[str]:
    hosts = [address.host for address in site.listens if address.port == port]
    return [near for host in hosts for near in (_LOOPBACKS if host in _ANY_HOST else (host,))]


def _answers_to(vhost: VirtualHost, name: str) -> bool:
    if vhost.server_name.lower() == name:
        return True
    return any(_matches(alias.lower(), name) for alias in vhost.aliases)


def _matches(pattern: str, name: str) -> bool:
    """Say whether a ServerAlias matches, with `*` and `?` for any characters, as httpd has it."""
    wanted = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wanted, name) is not None


def _check(
    identifier: str, token: str, answer: str, addresses: tuple[tuple[str, int], ...]
) -> tuple[str, ...]:
    """Ask the first address that takes a connection; return what looked odd."""
    path = f"/.well-known/acme-challenge/{token}"
    for host, port in addresses:
        asked = f"http://{identifier}{path} on {f'[{host}]' if ':' in host else host}:{port}"
        try:
            connection = socket.create_connection((host, port), _CONNECT_SECONDS)
        except OSError:
            continue
        with connection:
            reply = _ask(connection, identifier, path)
        if reply is None:
            return (f"{asked} gets no answer",)
        if reply.status != 200:
            return (f"{asked} is answered with status {reply.status}",)
        if reply.body.rstrip() == answer.encode("ascii"):
            return ()
        found = printable(reply.body.decode("utf-8", "replace"), 80)
        raise ChallengeError(f"{asked} is answered by something else: '{found}'")
    return (f"Apache could not be asked for http://{identifier}{path}",) if addresses else ()


def _ask(connection: socket.socket, host: str, path: str) -> _Reply | None:
    """Send one request and read until the end, a limit of size or of time."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: mdconnector\r\n\r\n"
    deadline = time.monotonic() + CHECK_SECONDS
    received = b""
    try:
        connection.sendall(request.encode("ascii"))
        while len(received) < _MAX_REPLY_BYTES and (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            chunk = connection.recv(_MAX_REPLY_BYTES - len(received))
            if not chunk:
                break
            received += chunk
    except OSError:
        return None
    head, _, body = received.partition(b"\r\n\r\n")
    status = _STATUS_LINE.match(head)
    return None if status is None else _Reply(int(status[1]), body)
