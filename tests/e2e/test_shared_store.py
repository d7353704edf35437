"""Two hosts with one store: each has its own name, its own Apache and its own cron line.

A host is an Apache with a ServerRoot, ports and a pid file of its own, and the command in a UTS
namespace, where the machine has another name. A cluster file system is not to be had here: the
store lies on a local one, whose flock is as good between two processes as theirs between two hosts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.e2e.command import Finished, clean_environment, run
from tests.e2e.estate import live_leaf, managed_site, served_leaf
from tests.e2e.snapshot import snapshot
from tests.e2e.test_lock import silent_ca
from tests.parts import Apache, Pebble, wait_until

pytestmark = [
    pytest.mark.apache,
    pytest.mark.pebble,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has a second host name"),
]

NAME = "shop.example"
PROMOTE = ("promote", "--all", "--reload")
_HEAD = "import socket, sys\nsocket.sethostname(sys.argv.pop(1))\n"
_TAIL = "from mdconnector.cli import main\nmain()\n"
# NFS makes flock of a lock on all bytes, whose owner is the open file, as F_OFD_SETLK does.
_FLOCK_OF_NFS = """
import fcntl, struct
def flock(fd, how):
    kind = fcntl.F_UNLCK if how & fcntl.LOCK_UN else fcntl.F_WRLCK
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
fcntl.flock = flock
"""


class Host:
    """One of the hosts: what it is called, and its Apache."""

    def __init__(self, name: str, apache: Apache, preamble: str = "") -> None:
        self.name = name
        self.apache = apache
        unshare = shutil.which("unshare") or "unshare"
        script = f"{_HEAD}{preamble}{_TAIL}"
        self.command = (unshare, "--uts", sys.executable, "-c", script, name)

    def run(self, *arguments: str) -> Finished:
        """Run the command on this host."""
        return run(*arguments, config=self.apache.config, command=self.command)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command on this host and return while it runs."""
        return subprocess.Popen(
            [*self.command, *arguments, "--config", str(self.apache.config)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def served(self) -> x509.Certificate:
        """What its Apache shows in a handshake."""
        return served_leaf(self.apache, NAME)

    @property
    def live(self) -> x509.Certificate:
        """What is live in the store."""
        return live_leaf(self.apache, NAME)

    @contextmanager
    def reloaded(self, times: int) -> Iterator[None]:
        """Expect so many reloads of its Apache."""
        said = "resuming normal operations"
        before = self.apache.error_log().count(said)
        yield
        assert self.apache.error_log().count(said) - before == times


Hosts = tuple[Host, Host]


@pytest.fixture(scope="module")
def started(session_folder: Path, trusting_ca: Pebble) -> Iterator[Hosts]:
    """Two hosts, started; both have seen that their Apache serves the live set."""
    store = session_folder / "shared" / "md"
    settings = trusting_ca.directives()
    apaches = [
        Apache(session_folder / "shared" / name, main_extra=settings, store=store)
        for name in ("web-a", "web-b")
    ]
    with apaches[0], apaches[1]:
        hosts = Host("web-a", apaches[0]), Host("web-b", apaches[1])
        for host in hosts:
            host.apache.write_site("shop", managed_site(NAME))
        renew(hosts[0])
        promoted(hosts[0], "promoted", "reloaded")
        promoted(hosts[1], "nothing-staged", "reloaded")
        yield hosts


@pytest.fixture
def hosts(started: Hosts) -> Iterator[Hosts]:
    """The two hosts; what a test does to their sites and processes is undone."""
    yield started
    for host in started:
        for site in host.apache.sites_folder.glob("test-*.conf"):
            site.unlink()
        if not host.apache.is_running:
            host.apache.start()


def renew(host: Host) -> None:
    """Get a new set on a host, and stage it."""
    words = ("--force",) if (host.apache.store / "domains" / NAME / "md.json").exists() else ()
    done = host.run("renew", NAME, *words)
    assert done.exit_code == 0, done.output


def promoted(host: Host, outcome: str, reload: str) -> None:
    """Promote and reload on a host, and look whether its Apache serves what is live."""
    done = host.run(*PROMOTE, "--json")
    assert (done.exit_code, done.json["reload"]) == (0, reload), done.output
    assert done.domain(NAME)["outcome"] == outcome
    assert host.served == host.live


def remembered(host: Host) -> dict[str, Any]:
    """Return what is remembered of what each host serves, by host name."""
    file = host.apache.store / "mdconnector" / "attempts" / f"{NAME}.json"
    served = json.loads(file.read_text())["served"]
    return {key.partition("/")[0]: seen["serials"] for key, seen in served.items()}


# --- one renews, every one reloads ---------------------------------------------------------------


def test_each_host_reloads_its_own_apache_once_for_what_one_of_them_has_renewed(
    hosts: Hosts, trusting_ca: Pebble
) -> None:
    first, second = hosts
    old = first.live
    renew(first)
    with first.reloaded(times=1), second.reloaded(times=0):
        promoted(first, "promoted", "reloaded")
    assert first.live != old
    assert second.served == old, "nobody has reloaded it yet"
    seen = remembered(first)
    assert seen["web-a"] == [f"{first.live.serial_number:x}"]
    assert seen["web-b"] == [f"{old.serial_number:x}"]

    with first.reloaded(times=0), second.reloaded(times=1):
        promoted(second, "nothing-staged", "reloaded")
    assert remembered(first)["web-b"] == [f"{first.live.serial_number:x}"]

    before = snapshot(first.apache.store)
    with first.reloaded(times=0), second.reloaded(times=0), trusting_ca.recorded() as requests:
        for host in hosts:
            done = host.run("-q", *PROMOTE)
            assert (done.exit_code, done.output) == (0, "")
    assert requests == []
    assert snapshot(first.apache.store) == before


def test_a_host_whose_apache_was_down_serves_the_new_set_from_its_start(hosts: Hosts) -> None:
    first, second = hosts
    second.apache.stop()
    renew(first)
    promoted(first, "promoted", "reloaded")
    done = second.run(*PROMOTE, "--json")
    assert done.exit_code == 0, done.output
    assert not second.apache.is_running, "promote starts nobody"

    second.apache.start()
    assert second.served == second.live
    with second.reloaded(times=0):
        promoted(second, "nothing-staged", "not-needed")


# --- locks --------------------------------------------------------------------------------------


def test_a_run_on_another_host_is_named_with_its_host_and_frees_the_lock_when_killed(
    hosts: Hosts,
) -> None:
    first, second = hosts
    lock = first.apache.store / "mdconnector" / "run.lock"
    with silent_ca() as url:
        slow = f"MDCertificateAuthority {url}\n"
        first.apache.write_site("test-slow", managed_site("slow.example", settings=slow))
        holder = first.begin("renew", "--all")
        try:
            wait_until(lambda: '"web-a"' in lock.read_text(), "the run to begin")
            named = f"pid {json.loads(lock.read_text())['pid']} on web-a, renew, since "
            done = second.run(*PROMOTE)
            assert (done.exit_code, done.stdout) == (75, "")
            assert f"mdconnector: error: another run holds the lock: {named}" in done.stderr
            assert done.stderr.endswith("see what it does with ps on web-a\n")

            waiting = second.begin("promote", NAME)
            assert waiting.stderr is not None
            assert waiting.stderr.readline().startswith(f"mdconnector: waiting for {named}")
            holder.send_signal(signal.SIGKILL)
            out, err = waiting.communicate(timeout=60)
            assert waiting.returncode == 0, out + err
        finally:
            holder.kill()
            holder.communicate()


def test_hosts_that_renew_and_promote_at_once_order_once_and_serve_the_same(
    hosts: Hosts, trusting_ca: Pebble
) -> None:
    new, orders = "at-once.example", trusting_ca.orders
    for host in hosts:
        host.apache.write_site("test-new", managed_site(new))
    for words in (("renew", "--all"), PROMOTE):
        runs = [host.begin(*words, "--lock-wait", "60") for host in hosts]
        for one in runs:
            out, err = one.communicate(timeout=120)
            assert one.returncode == 0, out + err
    assert trusting_ca.orders - orders == 1
    live = live_leaf(hosts[0].apache, new)
    assert [served_leaf(host.apache, new) for host in hosts] == [live, live]


def test_a_store_whose_flock_locks_bytes_as_that_of_nfs_is_promoted_and_served(
    hosts: Hosts,
) -> None:
    first, second = (Host(f"nfs-{host.name}", host.apache, _FLOCK_OF_NFS) for host in hosts)
    renew(first)
    promoted(first, "promoted", "reloaded")
    promoted(second, "nothing-staged", "reloaded")


# --- what the times cannot tell ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web-b", "new-here"])
def test_a_host_whose_clock_is_fast_reloads_once_all_the_same(hosts: Hosts, name: str) -> None:
    first, second = hosts[0], Host(name, hosts[1].apache)
    assert (name in remembered(first)) is (name == "web-b")
    file = second.apache.pid_file
    moment = file.stat().st_mtime + 600
    os.utime(file, (moment, moment))
    renew(first)
    promoted(first, "promoted", "reloaded")

    with second.reloaded(times=1):
        promoted(second, "nothing-staged", "reloaded")
        promoted(second, "nothing-staged", "not-needed")


def test_a_host_that_took_up_a_set_which_another_put_back_takes_up_the_old_one_again(
    hosts: Hosts, parts_folder: Path
) -> None:
    first, second = hosts
    old = first.live
    promoted(second, "nothing-staged", "not-needed")
    assert remembered(second)["web-b"] == [f"{old.serial_number:x}"]
    script, mark = parts_folder / "reload", parts_folder / "mark"
    broken = first.apache.sites_folder / "test-broken.conf"
    # Somebody reloads the second host; then a mistake ends the first one's Apache, and is mended.
    script.write_text(
        f"#!/bin/sh\ntouch {mark}; kill -USR1 $(cat {second.apache.pid_file})\n"
        f"until [ {second.apache.pid_file} -nt {mark} ]; do sleep 0.05; done\n"
        f"echo NoSuchDirective >{broken}; kill -USR1 {first.apache.pid}\n"
        f"while grep -q '^State:.[^Z]' /proc/{first.apache.pid}/status; do sleep 0.05; done\n"
        f"rm {broken}\n"
    )
    script.chmod(0o755)
    renew(first)
    done = first.run("promote", "--all", "--reload-command", str(script), "--json")
    assert done.domain(NAME)["outcome"] == "rolled-back", done.output
    assert (first.live, first.served) == (old, old)
    wait_until(lambda: second.served != old, "the other to take up what was put back")

    with second.reloaded(times=1):
        promoted(second, "nothing-staged", "reloaded")
        promoted(second, "nothing-staged", "not-needed")
    assert second.served == old


# --- challenges ---------------------------------------------------------------------------------


def test_a_challenge_is_answered_by_whichever_host_the_ca_asks(
    make_apache: Callable[..., Apache], validating_ca: Pebble
) -> None:
    settings = validating_ca.directives()
    asked = make_apache(sites={"shop": managed_site(NAME)}, main_extra=settings).start()
    ordering = make_apache(
        sites={"shop": managed_site(NAME)}, main_extra=settings, store=asked.store
    ).start()
    renew(Host("web-b", ordering))
    answered = [apache.error_log().count("loading challenge") for apache in (asked, ordering)]
    assert answered[0] > 0, "the CA was to ask the other one"
    assert answered[1] <= 1, "that was our own look, before the CA is told"
    promoted(Host("web-a", asked), "promoted", "reloaded")
