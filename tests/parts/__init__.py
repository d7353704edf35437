"""Real servers on loopback for tests, benchmark and demo: Pebble, its DNS, Apache, proxies.

Rules: every server takes a folder for its files and logs, listens on free ports of 127.0.0.1 only,
is ready when `start` returns, and is ended by its own process id. Nothing here knows pytest or
mdconnector.
"""

from tests.parts.apache import Apache
from tests.parts.authority import ThrowAwayAuthority
from tests.parts.challtestsrv import Challtestsrv
from tests.parts.forward_proxy import ForwardProxy
from tests.parts.handshake import names_of, served_certificate
from tests.parts.pebble import Pebble, Request
from tests.parts.ports import free_port
from tests.parts.processes import ServerProcess, wait_until
from tests.parts.programs import (
    MissingProgramError,
    find_debian_configuration,
    find_manual,
    find_program,
)
from tests.parts.proxy import (
    Canned,
    Drip,
    DropAfter,
    FaultingProxy,
    Hang,
    Late,
    Remake,
    Reset,
    Rewrite,
    Rule,
    Substitute,
    Together,
    Truncate,
)

__all__ = [
    "Apache",
    "Canned",
    "Challtestsrv",
    "Drip",
    "DropAfter",
    "FaultingProxy",
    "ForwardProxy",
    "Hang",
    "Late",
    "MissingProgramError",
    "Pebble",
    "Remake",
    "Request",
    "Reset",
    "Rewrite",
    "Rule",
    "ServerProcess",
    "Substitute",
    "ThrowAwayAuthority",
    "Together",
    "Truncate",
    "find_debian_configuration",
    "find_manual",
    "find_program",
    "free_port",
    "names_of",
    "served_certificate",
    "wait_until",
]
