"""How a connection to a CA is made: by which trust, through which proxy, and for how long.

Rules: the system's trust store, or the file of MDCACertificateFile alone; the environment's proxies
are not used. No socket waits longer than the request that its thread is at may take in all.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx

from mdconnector.acme.origins import PORTS
from mdconnector.errors import ConfigurationError

# Shorter than the idle time-outs of common front ends, so that few requests meet a closing
# connection.
_KEEPALIVE_SECONDS = 5.0

_this_request = threading.local()


def limit_request(seconds: float) -> None:
    """Let the request that this thread is about to send end after so many seconds."""
    _this_request.ends_at = time.monotonic() + seconds


def make_transport(
    ca_certificates: str | None, *, proxy_url: str | None, proxy_ca_certificates: str | None
) -> httpx.HTTPTransport:
    """Return what carries requests. Raises ConfigurationError for files and URLs of no use."""
    return httpx.HTTPTransport(
        verify=_trust(ca_certificates, directive="MDCACertificateFile"),
        proxy=_proxy(proxy_url, proxy_ca_certificates),
        trust_env=False,
        limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS),
    )


def _trust(ca_certificates: str | None, *, directive: str) -> ssl.SSLContext:
    """Trust the system's store, or the file alone, as libcurl does for mod_md."""
    try:
        context = ssl.create_default_context(cafile=ca_certificates)
    except OSError as error:
        reason = (
            "it holds no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
        )
        raise ConfigurationError(
            f"{directive} {ca_certificates} cannot be used: {reason}",
            hint=f"name a PEM file with the root certificate in {directive}",
        ) from error
    # As libcurl: an intermediate in the file is trust enough, and roots need no perfect extensions.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.sslsocket_class = _PunctualSocket
    return context


def _proxy(url: str | None, ca_certificates: str | None) -> httpx.Proxy | None:
    if url is None:
        return None
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in PORTS or not parsed.host:
        # Without the value, which may hold a password.
        raise ConfigurationError(
            "MDHttpProxy is not an http or https URL", hint="write 'MDHttpProxy http://host:port'"
        )
    if parsed.scheme == "http":
        return httpx.Proxy(parsed)
    trust = _trust(ca_certificates, directive="MDHttpProxyCACertificateFile")
    return httpx.Proxy(parsed, ssl_context=trust)


def make_punctual(event: str, info: Mapping[str, Any]) -> None:
    """Bound a connection from its first byte on; for the extension `trace` of a request.

    A proxy's answer to CONNECT comes before there is any TLS.
    """
    if event == "connection.connect_tcp.complete":
        connected = info["return_value"].get_extra_info("socket")
        if type(connected) is socket.socket:
            # httpx makes it, and lets nobody else do so
            connected.__class__ = _PunctualTcpSocket


def _bounded(wanted: float | None) -> float | None:
    """Return a time-out that ends with the request: httpx bounds reads, not their sum."""
    ends_at: float = getattr(_this_request, "ends_at", math.inf)
    left = ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError("the request took too long")
    bounded = min(left, math.inf if wanted is None else wanted)
    return None if math.isinf(bounded) else bounded


class _PunctualTcpSocket(socket.socket):
    """A TCP socket whose time-outs end with the request."""

    __slots__ = ()

    def settimeout(self, value: float | None) -> None:
        super().settimeout(_bounded(value))


class _PunctualSocket(ssl.SSLSocket):
    """A TLS socket whose time-outs end with the request."""

    def settimeout(self, value: float | None) -> None:
        super().settimeout(_bounded(value))
