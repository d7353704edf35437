"""pebble-challtestsrv as a DNS server only: every name is 127.0.0.1, TXT records can be set."""

from __future__ import annotations

import json
import socket
import struct
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.parts.ports import free_port
from tests.parts.processes import ServerProcess, accepts, minimal_environment
from tests.parts.programs import find_program

_TXT_IN = struct.pack(">2H", 16, 1)


class Challtestsrv:
    """One DNS server on loopback for Pebble's `dns_server`, with its management interface."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.dns_port, self.management_port = free_port(), free_port()
        self._process = ServerProcess(
            [
                find_program("pebble-challtestsrv"),
                *("-dns01", self.dns_server),
                *("-management", f"127.0.0.1:{self.management_port}"),
                *("-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""),
                *("-http01", "", "-https01", "", "-tlsalpn01", ""),
            ],
            log=folder / "challtestsrv.log",
            environment=minimal_environment(),
            folder=folder,
        )

    @property
    def dns_server(self) -> str:
        """Its address, as Pebble wants it."""
        return f"127.0.0.1:{self.dns_port}"

    @property
    def management_url(self) -> str:
        """The URL of its management interface, for a dns-01 command."""
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._process.pid

    def start(self) -> Self:
        """Start it and return when it answers."""
        self._process.start(lambda: accepts(self.management_port) and accepts(self.dns_port))
        return self

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def set_txt(self, name: str, value: str) -> None:
        """Add a TXT record."""
        self.post("/set-txt", host=_absolute(name), value=value)

    def clear_txt(self, name: str) -> None:
        """Remove all TXT records of a name."""
        self.post("/clear-txt", host=_absolute(name))

    def txt_records(self, name: str) -> set[str]:
        """Ask it, as a CA does, for the TXT records of a name."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            udp.connect(("127.0.0.1", self.dns_port))
            udp.send(question + _TXT_IN)
            answer = udp.recv(4096)
        return set(_txt_values(answer, len(question) + len(_TXT_IN)))

    def dns_requests(self, name: str) -> list[dict[str, object]]:
        """Return the questions asked about a name."""
        answer = self.post("/dns-request-history", host=name.rstrip("."))
        return list(json.loads(answer or b"null") or [])

    def set_address(self, name: str, address: str) -> None:
        """Let a name have this IPv4 address instead of 127.0.0.1."""
        self.post("/add-a", host=_absolute(name), addresses=[address])

    def post(self, path: str, **members: object) -> bytes:
        """Send one command to the management interface (/add-a, /set-servfail, …)."""
        request = urllib.request.Request(  # noqa: S310 - the URL is ours
            self.management_url + path, data=json.dumps(members).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the URL is ours
            return bytes(answer.read())


def _txt_values(answer: bytes, at: int) -> Iterator[str]:
    """Read the records of an answer; each repeats its name in full."""
    for _ in range(int.from_bytes(answer[6:8])):
        at = answer.index(b"\0", at) + 1
        length = int.from_bytes(answer[at + 8 : at + 10])
        yield answer[at + 11 : at + 10 + length].decode()
        at += 10 + length


def _absolute(name: str) -> str:
    return name.rstrip(".") + "."
