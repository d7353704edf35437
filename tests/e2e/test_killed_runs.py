"""The fault matrix, rows C1, E1, F4 and G1: a run that is killed at a system call.

strace kills the real command with SIGKILL at its Nth call of a kind, from the first account to the
staged set; the next run must end as if nothing had been.
"""

from __future__ import annotations

import collections
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.e2e.command import clean_environment
from tests.e2e.snapshot import snapshot
from tests.parts import FaultingProxy, find_program

pytestmark = [pytest.mark.pebble, pytest.mark.strace]

FSYNC = "fsync"
RENAME = "rename,renameat,renameat2"
POINTS = [(FSYNC, number, 6) for number in range(6)] + [(RENAME, number, 3) for number in range(3)]
SECONDS_FOR_A_RUN = 60
FINALIZE_HAS_ENDED = timedelta(minutes=5)
"""a run that follows sooner waits for one that may be under way"""


def traced(sites: SitesBehindProxy, log: Path, *options: str) -> int:
    """Run `renew --all` below strace; return how it ended."""
    return below_strace(
        sites, log, *options, command=(sys.executable, "-m", "mdconnector")
    ).returncode


def below_strace(
    sites: SitesBehindProxy, log: Path, *options: str, command: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run `renew --all` below strace."""
    done = subprocess.run(
        [
            *(find_program("strace"), "-f", "-qq", "-o", str(log), *options),
            *(*command, "renew", "--all", "--sites", str(sites.sites)),
        ],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_FOR_A_RUN,
    )
    if "ptrace" in done.stderr:
        pytest.fail(f"strace may not trace here: {done.stderr}")
    return done


@dataclass(frozen=True)
class Calls:
    """How many calls of each kind the busiest thread makes in one whole run."""

    most: dict[str, int]


@pytest.fixture(scope="module")
def calls(session_folder: Path, shared_proxy: FaultingProxy) -> Calls:
    """Count the calls of a run that nobody kills: strace, too, counts them thread by thread."""
    shared_proxy.expect()
    sites = SitesBehindProxy(session_folder / "counted-calls", shared_proxy)
    sites.add("counted.example.org")
    log = session_folder / "counted-calls.txt"
    most = {}
    for kind in (FSYNC, RENAME):
        assert traced(sites, log, "-e", f"trace={kind}") == 0
        threads = re.findall(r"^(\d+) +\w+\(", log.read_text(), re.MULTILINE)
        most[kind] = max(collections.Counter(threads).values())
        shutil.rmtree(sites.store)
    return Calls(most)


@pytest.mark.parametrize(
    ("kind", "number", "of"), POINTS, ids=[f"{kind[:6]} {n + 1} of {of}" for kind, n, of in POINTS]
)
def test_matrix_c1_e1_f4_g1_run_killed_at_a_system_call_is_taken_up_by_the_next(
    new_sites: SitesBehindProxy,
    proxy: FaultingProxy,
    parts_folder: Path,
    calls: Calls,
    kind: str,
    number: int,
    of: int,
) -> None:
    name = f"killed-{kind[:5]}-{number}.example.org"
    new_sites.rename(name)
    ca = proxy.pebble
    orders, certificates = ca.orders, ca.certificates
    when = 1 + calls.most[kind] * number // of
    kill = f"inject={kind}:signal=SIGKILL:when={when}"
    code = traced(new_sites, parts_folder / "trace.txt", "-e", kill)
    assert code in {-signal.SIGKILL, 128 + signal.SIGKILL}, "it was not killed"
    assert "killed by SIGKILL" in (parts_folder / "trace.txt").read_text()
    keys = {one for one in new_sites.account() if one.endswith((".pem", "key.pem"))}
    assert ca.orders == orders or keys, "an order without a durable account key"

    done = new_sites.here("renew", "--all", later=FINALIZE_HAS_ENDED)
    assert done.exit_code == 0, done.output
    assert ca.certificates - certificates == 1
    assert ca.orders - orders <= 2
    (account,) = (new_sites.store / "accounts").iterdir()
    assert {one.name for one in account.iterdir()} == {"account.json", "account.pem"}
    assert not [one for one in (new_sites.store / "challenges").rglob("*") if one.is_file()]
    chain = new_sites.store / "staging" / name / "pubcert.secp256r1.pem"
    assert len(x509.load_pem_x509_certificates(chain.read_bytes())) == 2

    before = snapshot(new_sites.store)
    assert new_sites.here("renew", "--all", later=FINALIZE_HAS_ENDED).exit_code == 0
    assert snapshot(new_sites.store) == before, "something was left to be cleared away"


CALLS_OF_A_THREAD = 20
COUNTABLE = f"""
import os, threading
run = threading.Thread.run
def run_later(thread):
    for _ in range({CALLS_OF_A_THREAD}):
        os.getrandom(1)
    run(thread)
threading.Thread.run = run_later
from mdconnector.cli import main
main()"""
"""the command, whose threads ask for random numbers more often than the first one ever does"""


def test_matrix_g1_key_that_cannot_be_made_without_random_numbers_costs_one_line(
    sites: SitesBehindProxy, proxy: FaultingProxy, parts_folder: Path
) -> None:
    log = parts_folder / "trace.txt"
    command = (sys.executable, "-c", COUNTABLE)
    whole = sites.copy(parts_folder / "whole")
    assert below_strace(whole, log, "-e", "trace=getrandom", command=command).returncode == 0
    by_thread = collections.defaultdict(list)
    for thread, call in re.findall(r"^(\d+) +(getrandom\(.*)", log.read_text(), re.MULTILINE):
        by_thread[thread].append(call)
    first, working = by_thread.values()
    assert len(first) < CALLS_OF_A_THREAD
    # OpenSSL's seed: that of TLS comes first, that of the keys last
    seeds = [number for number, call in enumerate(working, 1) if ", 48, 0) = " in call]

    orders = proxy.pebble.orders
    refuse = f"inject=getrandom:error=EIO:when={seeds[-1]}+"
    done = below_strace(sites, log, "-e", refuse, command=command)
    assert "INJECTED" in log.read_text()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{PROVEN}: failed: no private key can be made or used: ")
    assert (done.returncode, proxy.pebble.orders) == (1, orders)
    assert not list(sites.note(PROVEN).glob("privkey*"))
    sites.heals()
