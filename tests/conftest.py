"""Fixtures that all tests share: folders Apache's user can search, and real servers on loopback.

Rules: a server that costs a start is shared by the session unless a test needs it for itself.
Where a program is missing its tests are skipped with the command that installs it; with
MDCONNECTOR_REQUIRE_PARTS=1 they fail. No test talks to anything but loopback.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.parts import (
    Apache,
    Challtestsrv,
    MissingProgramError,
    Pebble,
    find_debian_configuration,
    find_manual,
    find_program,
    free_port,
)

# A busy machine is no failure: nothing is judged by how long an example takes to make or to try.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
_FUZZ_EXAMPLES = os.environ.get("MDCONNECTOR_FUZZ_EXAMPLES")
if _FUZZ_EXAMPLES:
    settings.register_profile(
        "fuzz", settings.get_profile("patient"), max_examples=int(_FUZZ_EXAMPLES), print_blob=True
    )
settings.load_profile("fuzz" if _FUZZ_EXAMPLES else "patient")

_PROGRAMS = {
    "apache": ("apache2",),
    "pebble": ("pebble", "pebble-challtestsrv"),
    "strace": ("strace",),
    "rsync": ("rsync",),
    "manual": ("manual",),
    "debian": ("debian",),
    "ansible": ("ansible-playbook", "ansible-lint"),
    "sshd": ("sshd",),
}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""})  # noqa: S104 - refused elsewhere


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where parts are required, a test whose real program is missing."""
    for marker, programs in _PROGRAMS.items():
        if item.get_closest_marker(marker):
            for program in programs:
                _require(program)


def _require(program: str) -> None:
    try:
        if program == "manual":
            find_manual()
        elif program == "debian":
            find_debian_configuration()
        else:
            find_program(program)
    except MissingProgramError as error:
        if os.environ.get("MDCONNECTOR_REQUIRE_PARTS") == "1":
            pytest.fail(f"{program} is missing: {error}", pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection of this process that would leave the machine."""
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process be in UTC, so that local times can be compared with a text."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _guarded(original: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise AssertionError(f"a test tried to reach {address[0]}, which is not loopback")
        return original(self, address)

    return connect


def _is_loopback(host: str) -> bool:
    return host in _LOOPBACK or host.startswith("127.")


def _make_folder() -> Path:
    """Make a folder that Apache's user can search, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-test-"))
    folder.chmod(0o755)
    return folder


def _remove_folder(folder: Path) -> None:
    if os.environ.get("MDCONNECTOR_KEEP_PARTS") != "1":
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def parts_folder() -> Iterator[Path]:
    """An empty folder below /tmp, mode 0755; kept with MDCONNECTOR_KEEP_PARTS=1."""
    folder = _make_folder()
    yield folder
    _remove_folder(folder)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """The same for servers that the session shares."""
    folder = _make_folder()
    yield folder
    _remove_folder(folder)


@dataclass(frozen=True, slots=True)
class WebPorts:
    """The ports of the Apache under test, which the shared CAs come to for validation."""

    http: int
    ssl: int


@pytest.fixture(scope="session")
def web_ports() -> WebPorts:
    """The ports on which this worker's Apaches listen, one after the other."""
    return WebPorts(http=free_port(), ssl=free_port())


@pytest.fixture(scope="session")
def dns(session_folder: Path) -> Iterator[Challtestsrv]:
    """A DNS server that the session shares; use names of your own in TXT records."""
    _require("pebble-challtestsrv")
    with Challtestsrv(session_folder / "dns") as server:
        yield server


@pytest.fixture(scope="session")
def trusting_ca(session_folder: Path, web_ports: WebPorts) -> Iterator[Pebble]:
    """A shared CA: EAB required, 20 % of good nonces refused, every challenge taken as answered."""
    _require("pebble")
    folder = session_folder / "trusting-ca"
    with Pebble(folder, always_valid=True, http_port=web_ports.http, tls_port=web_ports.ssl) as ca:
        yield ca


@pytest.fixture(scope="session")
def counting_ca(session_folder: Path, web_ports: WebPorts) -> Iterator[Pebble]:
    """The same without refused nonces, for tests that count requests (see `Pebble.recorded`)."""
    _require("pebble")
    with Pebble(
        session_folder / "counting-ca",
        always_valid=True,
        nonce_reject=0,
        http_port=web_ports.http,
        tls_port=web_ports.ssl,
    ) as ca:
        yield ca


@pytest.fixture(scope="session")
def validating_ca(session_folder: Path, web_ports: WebPorts, dns: Challtestsrv) -> Iterator[Pebble]:
    """A shared CA that really validates: at the Apache of `make_apache`, and in `dns`."""
    _require("pebble")
    with Pebble(
        session_folder / "validating-ca",
        dns_server=dns.dns_server,
        http_port=web_ports.http,
        tls_port=web_ports.ssl,
        blocklist=["refused.example"],
    ) as ca:
        yield ca


@pytest.fixture
def make_pebble(parts_folder: Path) -> Iterator[Callable[..., Pebble]]:
    """Make Pebbles of the test's own, started; see `Pebble` for the knobs."""
    _require("pebble")
    with ExitStack() as stack:
        made: list[Pebble] = []

        def make(**knobs: Any) -> Pebble:
            made.append(Pebble(parts_folder / f"pebble-{len(made)}", **knobs))
            return stack.enter_context(made[-1])

        yield make


@pytest.fixture
def make_apache(
    parts_folder: Path, web_ports: WebPorts, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Apache]]:
    """Make Apaches, not started, ended with the test; the first has the ports of `web_ports`."""
    _require("apache2")
    made: list[Apache] = []

    def make(**settings: Any) -> Apache:
        ports = {"http_port": web_ports.http, "ssl_port": web_ports.ssl} if not made else {}
        folder = settings.pop("folder", parts_folder / f"apache-{len(made)}")
        made.append(Apache(folder, **(ports | settings)))
        return made[-1]

    yield make
    for apache in made:
        apache.stop()
        request.node.add_report_section("teardown", f"Apache {apache.root}", apache.error_log())
