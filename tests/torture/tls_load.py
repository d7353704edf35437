"""Promotions, each with a reload, of a real Apache that TLS clients ask all the time.

Rules: every handshake verifies chain and name, so a wrong or a self-signed certificate is a failed
handshake. A set that is neither the newest nor the one before it is a wrong one, too: workers that
are about to end may still show the one before.
"""

from __future__ import annotations

import hashlib
import itertools
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cryptography.hazmat.primitives.serialization import Encoding

from mdconnector.certificates import Credential
from tests.parts import Apache
from tests.torture.disks import workshop
from tests.torture.figure import Figure, Tally, Task
from tests.torture.fleet import Fleet, require

NAMES = ("one.example", "two.example", "three.example")
CLIENTS = 4
PAUSE_SECONDS = 0.01
"""of each client between two handshakes: without it httpd would not get to its reload"""
HANDSHAKE_LIMIT_SECONDS = 10


class Load:
    """Clients that ask for all names in turn, and what they saw."""

    def __init__(self, apache: Apache, names: Sequence[str], roots_pem: str) -> None:
        self.failures: list[str] = []
        self.shown: Counter[str] = Counter()
        self.longest = 0.0
        self._apache = apache
        self._names = names
        self._allowed: dict[str, list[str]] = {name: [] for name in names}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._tls = ssl.create_default_context(cadata=roots_pem)
        # Python 3.13 asks for key identifiers, which the sets of these trials do without
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]

    def allow(self, sets: dict[str, Credential]) -> None:
        """Let new sets be shown from now on, and the ones before them, but none that is older."""
        with self._lock:
            for name, credential in sets.items():
                self._allowed[name] = [*self._allowed[name][-1:], credential.facts.sha256]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the clients ask meanwhile."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join()

    def _ask_on(self) -> None:
        for name in itertools.cycle(self._names):
            self._ask(name)
            if self._is_over.wait(PAUSE_SECONDS):
                return

    def _ask(self, name: str) -> None:
        with self._lock:
            before = self._allowed[name]
        begun = time.monotonic()
        try:
            shown = self._shown(name)
        except (OSError, ssl.SSLError) as error:
            shown = f"{type(error).__name__}: {error}"
        with self._lock:
            allowed = [*before, *self._allowed[name]]
            self.longest = max(self.longest, time.monotonic() - begun)
            if shown in allowed:
                self.shown["newest" if shown == self._allowed[name][-1] else "the one before"] += 1
            else:
                self.failures.append(f"{name}: {shown}")

    def _shown(self, name: str) -> str:
        address = (self._apache.address, self._apache.ssl_port)
        with (
            socket.create_connection(address, timeout=HANDSHAKE_LIMIT_SECONDS) as plain,
            self._tls.wrap_socket(plain, server_hostname=name) as connection,
        ):
            der = connection.getpeercert(binary_form=True)
        return hashlib.sha256(der or b"").hexdigest()


def promote_under_load(task: Task) -> Tally:
    """Promote new sets for all names and reload, again and again, while clients ask for them."""
    require("apache2")
    tally = Tally()
    with workshop() as folder:
        fleet = Fleet(folder / "apache", NAMES, mod_md=True)
        root = fleet.authority.root.public_bytes(Encoding.PEM).decode()
        load = Load(fleet.apache, NAMES, root)
        sets = fleet.sets()
        load.allow(sets)
        fleet.put_live(sets)
        try:
            with load.running():
                for _ in task.told("cycles"):
                    _cycle(fleet, load, tally, task.without)
        finally:
            fleet.apache.stop()
        tally.violations += load.failures
        tally.counts.update({f"handshakes that showed {what}": n for what, n in load.shown.items()})
        tally.peak("seconds for a handshake", load.longest)
    return tally


def _cycle(fleet: Fleet, load: Load, tally: Tally, without: str) -> None:
    parent, generation = fleet.apache.pid, fleet.apache.generation
    seen = load.shown.total()
    sets = fleet.sets()
    load.allow(sets)
    fleet.stage(sets)
    begun = time.monotonic()
    done = fleet.promote(*(_hard_reload(fleet.apache) if without == "graceful" else ["--reload"]))
    tally.peak("seconds for a promotion with its reload", time.monotonic() - begun)
    served = {one["name"]: one["served"] for one in done.json["domains"]}
    if (done.exit_code, served) != (0, dict.fromkeys(NAMES, "new")):
        tally.violations.append(f"exit code {done.exit_code}: {done.output}")
    if not fleet.apache.is_running or fleet.apache.pid != parent:
        tally.violations.append(f"httpd {parent} ended\n{fleet.apache.error_log()[-2000:]}")
    if fleet.apache.generation != generation and load.shown.total() > seen:
        tally.hit(f"{len(NAMES)} names")


def _hard_reload(apache: Apache) -> list[str]:
    """Return the options for a reload that stops httpd and starts it again."""
    script = apache.root / "stop-and-start"
    script.write_text(
        f"#!/bin/sh\npid=$(cat {apache.pid_file})\nkill -TERM $pid\n"
        f"while kill -0 $pid 2>/dev/null; do sleep 0.02; done\n"
        f"exec {apache.binary} -d {apache.root} -f {apache.config} -k start\n"
    )
    script.chmod(0o755)
    return ["--reload-command", str(script)]


TLS_LOAD = Figure(
    "tls-load",
    "Promotions with a reload of a real Apache under TLS load",
    500,
    promote_under_load,
    50,
    {"graceful": "the reload is a stop and a start"},
)
