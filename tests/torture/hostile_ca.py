"""A hostile CA end to end: the command in a child, a proxy that remakes what a real CA answers.

Rules: a trial is one scenario at one step of a first enrollment. What the child connects to, starts
and writes is seen by Python's audit hook; memory is what the kernel counts. The next run, with the
proxy out of the way, has to end well.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from mdconnector.acme.session import Session
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.e2e.snapshot import snapshot
from tests.parts import Drip, DropAfter, Hang, Remake, Reset, Rule, Substitute, Truncate
from tests.parts.proxy import Action
from tests.torture.bench import Bench, open_bench
from tests.torture.figure import Figure, Tally, Task
from tests.torture.mutations import EVIL, Answer, mutated

STEPS = (
    ("directory", r"^/dir$"),
    ("nonce", r"^/nonce-plz$"),
    ("account", r"^/sign-me-up$"),
    ("new order", r"^/order-plz$"),
    ("order", r"^/my-order/"),
    ("authorization", r"^/authZ/"),
    ("challenge", r"^/chalZ/"),
    ("finalize", r"^/finalize-order/"),
    ("certificate", r"^/certZ/"),
)
WITHOUT_ACCOUNT = frozenset({"account"})
SECONDS_FOR_A_RUN = 90
MOST_MEMORY_MEGABYTES = 64
LONGEST_OUTPUT = 20_000
RENEW = ("renew", "--all", "--wait", "2")
NEXT_DAY = timedelta(hours=21)
HTTP_PORT = 80
OWN_ADDRESSES = frozenset({"127.0.0.1", "127.0.0.2", "::1"})
"""that the self-check of http-01 asks"""
_BROKEN = 99
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"})


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of a run, and what it did beside the store."""

    exit_code: int
    output: str
    wrongs: tuple[str, ...]
    megabytes: float
    seconds: float


def face_hostile_ca(task: Task) -> Tally:
    """Let a first enrollment meet one scenario at one step, then none."""
    tally = Tally()
    with open_bench(authz_reuse=0) as bench:
        templates = {True: bench.without_store("new"), False: bench.with_account("warm")}
        for number in task.told("scenarios", every=20):
            step, path = STEPS[number % len(STEPS)]
            template = templates[step in WITHOUT_ACCOUNT]
            _try_scenario(number, (step, path), bench.copy(template), bench, tally, task)
    return tally


def _try_scenario(
    number: int,
    step: tuple[str, str],
    sites: SitesBehindProxy,
    bench: Bench,
    tally: Tally,
    task: Task,
) -> None:
    name, path = step
    dice = random.Random(f"{task.seed}-{number}")  # noqa: S311 - the same in every run
    made, action = _action(number, dice) if not task.without else _elsewhere()
    rule = Rule(action, path=path, nth=dice.choice((1, None)))
    bench.proxy.expect(rule)
    account, outside = _account_keys(sites), _outside(sites)
    trace = _run_apart(sites, task.without)
    bench.proxy.expect()
    wrongs = list(trace.wrongs)
    wrongs += [f"exit code {trace.exit_code}"] if trace.exit_code not in (0, 1) else []
    wrongs += ["a traceback"] if "Traceback" in trace.output else []
    wrongs += ["output that controls the terminal"] if not _is_plain(trace.output) else []
    wrongs += ["too much output"] if len(trace.output) > LONGEST_OUTPUT else []
    wrongs += [f"{trace.megabytes:.0f} MB"] if trace.megabytes > MOST_MEMORY_MEGABYTES else []
    wrongs += ["a file beside the store was changed"] if _outside(sites) != outside else []
    wrongs += ["the account key was lost"] if not account <= _account_keys(sites) else []
    wrongs += _heal(sites, bench)
    what = made[0] if made else "not reached"
    label = f"scenario {number}, {name}, {what}"
    tally.violations += (f"{label}: {one}: {trace.output[-300:]}" for one in wrongs)
    tally.peak("MB more memory in a run", trace.megabytes)
    tally.peak("seconds for a run", trace.seconds)
    tally.counts[f"runs with exit code {trace.exit_code}"] += 1
    if rule.hits:
        tally.hit(f"{name}: {what}")
    shutil.rmtree(sites.folder)


def _action(number: int, dice: random.Random) -> tuple[list[str], Action]:
    """Return what the network does in every sixth scenario, what the CA does in the others.

    The list tells what it was, once it was done.
    """
    of_network: tuple[Action, ...] = (
        Reset(),
        DropAfter(),
        Truncate(dice.choice((0, 1, 40, 400))),
        Truncate(dice.choice((1, 40, 400)), announce_whole=False),
        Hang(),
        Drip(0.001),
    )
    if (number // len(STEPS)) % 6 == 5:
        action = dice.choice(of_network)
        return [type(action).__name__.lower()], action
    made: list[str] = []

    def remade(
        status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        what, hostile = mutated(Answer(status, body, headers), dice)
        made.append(what)
        kept = {k: v.replace("\r", " ").replace("\n", " ") for k, v in hostile.headers.items()}
        return hostile.status, kept, hostile.body

    return made, Remake(remade)


def _elsewhere() -> tuple[list[str], Action]:
    """Return what the control does: every address in an answer is somebody else's."""
    return ["addresses of others"], Substitute(rb"https://localhost:\d+/", f"{EVIL}/".encode())


def _account_keys(sites: SitesBehindProxy) -> set[bytes]:
    return {content for name, content in sites.account().items() if name.endswith("account.pem")}


def _outside(sites: SitesBehindProxy) -> dict[str, tuple[object, ...]]:
    return snapshot(sites.sites)


def _is_plain(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def _heal(sites: SitesBehindProxy, bench: Bench) -> list[str]:
    orders = bench.proxy.pebble.orders
    done = sites.here("renew", "--all", later=NEXT_DAY)
    wrongs = []
    if done.exit_code != 0:
        wrongs.append(f"the next run ended with {done.exit_code}: {done.output}")
    if not (sites.store / "staging" / PROVEN / "pubcert.secp256r1.pem").exists():
        wrongs.append("the next run has staged nothing")
    if bench.proxy.pebble.orders - orders > 1:
        wrongs.append("the next run ordered more than once")
    return wrongs


# --- the child ---------------------------------------------------------------------------------


def _run_apart(sites: SitesBehindProxy, without: str) -> Trace:
    result = sites.folder / "result.json"
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            _run(sites, result, without)
        except BaseException:  # noqa: BLE001 - a child that goes on would do the parent's trials
            result.write_text(json.dumps([_BROKEN, traceback.format_exc(), [], 0]))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0:
        return Trace(code, f"the run ended with {code}", (), 0, time.monotonic() - begun)
    exit_code, output, wrongs, megabytes = json.loads(result.read_text())
    return Trace(exit_code, output, tuple(wrongs), megabytes, time.monotonic() - begun)


def _run(sites: SitesBehindProxy, result: Path, without: str) -> None:
    wrongs: list[str] = []
    sys.addaudithook(partial(_audit, wrongs, sites.proxy.port, str(sites.folder)))
    signal.alarm(SECONDS_FOR_A_RUN)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    with mock.patch.object(Session, "refuse_foreign") if without else mock.MagicMock():
        done = sites.here(*RENEW)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    megabytes = (peak - pages * resource.getpagesize()) / 2**20
    result.write_text(json.dumps([done.exit_code, done.output, wrongs, megabytes]))


def _audit(wrongs: list[str], port: int, folder: str, event: str, arguments: Any) -> None:
    """Note a connection to another than the CA, a program, and a file written elsewhere."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host, to = arguments[1][:2]
        if not (to == port or (to == HTTP_PORT and host in OWN_ADDRESSES)):
            wrongs.append(f"a connection to {arguments[1][:2]}")
    elif event == "socket.getaddrinfo":
        if arguments[0] not in {"localhost", b"localhost", *OWN_ADDRESSES}:
            wrongs.append(f"a look-up of {arguments[0]!r}")
    elif event in _STARTS:
        wrongs.append(f"a program: {arguments[:2]}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        path = str(arguments[0])
        if path.startswith("/") and not path.startswith((folder, "/dev/")):
            wrongs.append(f"a file elsewhere: {path}")


HOSTILE_CA = Figure(
    "hostile-ca",
    "A hostile CA, end to end",
    600,
    face_hostile_ca,
    90,
    {"origins": "a URL of the CA's is followed wherever it leads"},
)
