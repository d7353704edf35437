"""A forward proxy that knows CONNECT alone, spoken to in clear or by TLS; one kind opens the TLS.

It notes whom it was asked for. One that opens TLS, as some companies' do, shows a certificate of
its own and so reads along.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Self

from tests.parts.ports import free_port


class ForwardProxy:
    """One proxy on loopback.

    With a `certificate` (and its key) it is spoken to by TLS. With `opens_with` it opens the TLS of
    its clients by that pair, and trusts the servers that `trusts` has signed.
    """

    def __init__(
        self,
        certificate: tuple[Path, Path] | None = None,
        *,
        opens_with: tuple[Path, Path] | None = None,
        trusts: Path | None = None,
    ) -> None:
        self.asked_for: list[str] = []
        self.read = b""
        self.port = free_port()
        self._tls = None if certificate is None else _server_side(certificate)
        self._opening = None if opens_with is None else _server_side(opens_with)
        self._upstream = ssl.create_default_context(cafile=trusts)
        self._server = _Server(("127.0.0.1", self.port), _Tunnel)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """What MDHttpProxy is to name."""
        return f"{'http' if self._tls is None else 'https'}://localhost:{self.port}"

    def secured(self, connection: socket.socket) -> socket.socket:
        """Return a client's connection, by TLS where this proxy speaks it."""
        return connection if self._tls is None else self._tls.wrap_socket(connection, True)

    def opened(
        self, client: socket.socket, upstream: socket.socket, host: str
    ) -> tuple[socket.socket, socket.socket]:
        """Return both ends, each by TLS of its own where this proxy opens it."""
        if self._opening is None:
            return client, upstream
        return (
            self._opening.wrap_socket(client, server_side=True),
            self._upstream.wrap_socket(upstream, server_hostname=host),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    proxy: ForwardProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may not trust this proxy."""


class _Tunnel(StreamRequestHandler):
    server: _Server

    def setup(self) -> None:
        self.request = self.server.proxy.secured(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def handle(self) -> None:
        method, target, _ = self.rfile.readline(1000).decode().split()
        while self.rfile.readline(1000).strip():
            pass
        self.server.proxy.asked_for.append(f"{method} {target}")
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as plain:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.request, upstream = self.server.proxy.opened(self.request, plain, host)
            with upstream, suppress(OSError):
                self._relay(upstream)

    def _relay(self, upstream: socket.socket) -> None:
        ways = {self.request: upstream, upstream: self.request}
        while True:
            for source in select.select(list(ways), [], [])[0]:
                data = _arrived(source)
                if data is None:
                    continue
                if not data:
                    return
                if source is self.request:
                    self.server.proxy.read += data
                ways[source].sendall(data)


def _arrived(source: socket.socket) -> bytes | None:
    """Return what a readable end has for the other: b"" once it has closed, None if nothing yet.

    Never wait: TLS has messages of its own, as the tickets after a handshake, and the other end may
    have a request to be passed on first.
    """
    source.setblocking(False)
    try:
        data = source.recv(1 << 16)
        while isinstance(source, ssl.SSLSocket) and source.pending():
            data += source.recv(source.pending())
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    finally:
        source.setblocking(True)
    return data


def _server_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context
