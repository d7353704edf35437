"""Pebble, Let's Encrypt's test CA, with its knobs as arguments.

Rules: every knob that Pebble announces in its log is looked for there when it starts, because
Pebble passes over unknown knobs without a word. A stopped Pebble has forgotten everything:
accounts, orders and its root.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.parts.authority import ThrowAwayAuthority
from tests.parts.ports import free_port
from tests.parts.processes import ServerProcess, minimal_environment
from tests.parts.programs import find_program

NINETY_DAYS = 90 * 24 * 3600
EAB_KEYS = {
    "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
    "kid-2": "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH",
}
_REQUEST_LINE = re.compile(
    r"^Pebble \S+ \S+ (GET|HEAD|POST) (\S+) -> calling handler\(\)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request that reached Pebble, as its log tells; one with a refused nonce counts too."""

    method: str
    path: str

    @property
    def resource(self) -> str:
        """The path without what is an identifier: /order-plz, /finalize-order, /chalZ."""
        return "/" + self.path.split("/")[1].partition("?")[0]


class Pebble:
    """One Pebble on loopback.

    `ca_file` is what a client must trust to talk to it (MDCACertificateFile); `root_pem()` signs.
    `http_port` and `tls_port` are where it comes to validate: those of the Apache under test.
    """

    def __init__(
        self,
        folder: Path,
        *,
        eab_keys: Mapping[str, str] | None = None,
        eab_required: bool = True,
        va_nosleep: bool = True,
        va_sleep_seconds: int = 5,
        always_valid: bool = False,
        nonce_reject: int = 20,
        authz_reuse: int = 0,
        validity_seconds: int = NINETY_DAYS,
        blocklist: Sequence[str] = (),
        http_port: int | None = None,
        tls_port: int | None = None,
        dns_server: str | None = None,
        chain_length: int = 1,
        alternate_roots: int = 0,
        orders_per_page: int = 3,
        strict: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.eab_keys = dict(EAB_KEYS if eab_keys is None else eab_keys)
        self.eab_required = eab_required
        self.http_port = http_port or free_port()
        self.tls_port = tls_port or free_port()
        self.port, self.management_port = free_port(), free_port()
        authority = ThrowAwayAuthority(folder)
        self.ca_file = authority.ca_file
        self._tls = ssl.create_default_context(cafile=str(self.ca_file))
        self._folder = folder
        self._configuration = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": eab_required,
            "externalAccountMACKeys": self.eab_keys,
            "domainBlocklist": list(blocklist),
            "certificateValidityPeriod": validity_seconds,
        }
        self._knobs = {
            "PEBBLE_VA_NOSLEEP": str(int(va_nosleep)),
            "PEBBLE_VA_SLEEPTIME": str(va_sleep_seconds),
            "PEBBLE_VA_ALWAYS_VALID": str(int(always_valid)),
            "PEBBLE_WFE_NONCEREJECT": str(nonce_reject),
            "PEBBLE_AUTHZREUSE": str(authz_reuse),
            "PEBBLE_CHAIN_LENGTH": str(chain_length),
            "PEBBLE_ALTERNATE_ROOTS": str(alternate_roots),
            "PEBBLE_WFE_ORDERS_PER_PAGE": str(orders_per_page),
        }
        self._announcements = [
            f"certificate validity period of {validity_seconds} seconds",
            f"Configured to reject {nonce_reject}% of good nonces",
            f"authz reuse for each identifier {authz_reuse}% of the time",
            f"Configured to show {orders_per_page} orders per page",
            "Disabling random VA sleeps"
            if va_nosleep
            else f"Setting maximum random VA sleep time to {va_sleep_seconds} seconds",
            *(["VA always returns valid"] if always_valid else []),
            *(
                [f"Using custom DNS resolver for ACME challenges: {dns_server}"]
                if dns_server
                else []
            ),
        ]
        self._process = self._make_process(authority, dns_server, strict=strict)

    @property
    def directory_url(self) -> str:
        """The URL for MDCertificateAuthority."""
        return f"https://localhost:{self.port}/dir"

    @property
    def pid(self) -> int:
        """The process id of the running Pebble."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether Pebble lives."""
        return self._process.is_running

    def start(self) -> Self:
        """Start Pebble and return when it answers; raise if a knob is not in force."""
        self._begin = len(self.log_text())
        self._process.start(self._is_ready)
        log = self.log_text()[self._begin :]
        missing = [words for words in self._announcements if words not in log]
        if missing:
            self.stop()
            raise RuntimeError(f"Pebble did not announce {missing}\n{log}")
        return self

    def stop(self) -> None:
        """End Pebble; it forgets accounts, orders and its root."""
        self._process.stop()

    def kill(self) -> None:
        """End Pebble with SIGKILL."""
        self._process.kill()

    def restart(self) -> None:
        """End Pebble and start it anew at the same address, with nothing remembered."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let Pebble hang: connections are accepted, TLS never answers."""
        self._process.pause()

    def resume(self) -> None:
        """Let a paused Pebble go on."""
        self._process.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def root_pem(self, chain: int = 0) -> str:
        """Return the root that its certificates lead to; new after each start."""
        return self.management(f"/roots/{chain}").decode()

    def management(self, path: str) -> bytes:
        """Return what its management interface answers (/intermediates/0, …)."""
        url = f"https://localhost:{self.management_port}{path}"
        with urllib.request.urlopen(url, context=self._tls, timeout=10) as answer:
            return bytes(answer.read())

    def requests(self) -> tuple[Request, ...]:
        """Return all requests since Pebble was first started, in order."""
        return tuple(Request(*found) for found in _REQUEST_LINE.findall(self.log_text()))

    @property
    def accounts(self) -> int:
        """How many accounts it has registered since it was first started."""
        return self.log_text().count(" accounts in memory")

    @property
    def orders(self) -> int:
        """How many orders it has made since it was first started, refused nonces not counted."""
        return self.log_text().count('Added order "')

    @property
    def certificates(self) -> int:
        """How many certificates it has issued since it was first started."""
        return self.log_text().count("Issued certificate serial ")

    @contextmanager
    def recorded(self) -> Iterator[list[Request]]:
        """Collect the requests made meanwhile; the list is filled when the block ends."""
        seen: list[Request] = []
        before = len(self.requests())
        yield seen
        seen.extend(self.requests()[before:])

    def log_text(self) -> str:
        """Return Pebble's whole log."""
        return self._process.log_text()

    def directives(self, kid: str | None = "kid-1") -> str:
        """Return the mod_md directives, for the main server, that make everybody use this CA."""
        lines = [
            f"MDCertificateAuthority {self.directory_url}",
            f'MDCACertificateFile "{self.ca_file}"',
            "MDCertificateAgreement accepted",
            "MDContactEmail hostmaster@example.org",
        ]
        if kid is not None:
            lines.append(f"MDExternalAccountBinding {kid} {self.eab_keys[kid]}")
        return "\n".join(lines) + "\n"

    def _is_ready(self) -> bool:
        return "ACME directory available at" in self.log_text()[self._begin :] and self._answers()

    def _answers(self) -> bool:
        url = f"https://localhost:{self.management_port}/roots/0"
        try:
            with urllib.request.urlopen(url, context=self._tls, timeout=5):
                return True
        except OSError:
            return False

    def _make_process(
        self, authority: ThrowAwayAuthority, dns_server: str | None, *, strict: bool
    ) -> ServerProcess:
        certificate, key = authority.issue()
        self._configuration |= {"certificate": str(certificate), "privateKey": str(key)}
        file = self._folder / "pebble.json"
        file.write_text(json.dumps({"pebble": self._configuration}, indent=2))
        arguments = [find_program("pebble"), "-config", str(file)]
        if strict:
            arguments.append("-strict")
        if dns_server:
            arguments += ["-dnsserver", dns_server]
        return ServerProcess(
            arguments,
            log=self._folder / "pebble.log",
            environment=minimal_environment(**self._knobs),
            folder=self._folder,
        )
