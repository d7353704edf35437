"""Apache's user plays with staging/ and challenges/ while root enrolls, renews and promotes there.

Rules: he swaps folders and files for links to what is root's, for FIFOs, hard links, huge files,
deep trees and sets that no configuration asks for. He may hold a run up, and bring it to refuse;
he may never make it write outside the store, wait for ever, or promote what is his.
"""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from mdconnector.certificates import chain_to_pem
from mdconnector.keys import key_to_pem
from mdconnector.store import folder
from tests.authority import EC_SPEC, Authority
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.e2e.command import Finished
from tests.e2e.estate import leaf_in
from tests.e2e.snapshot import snapshot
from tests.torture.bench import open_bench
from tests.torture.figure import CannotRunError, Figure, Tally, Task

HTTPD = "www-data"
ROUND_LIMIT_SECONDS = 60
ROUNDS = (
    ("renew", PROVEN, "--force"),
    ("promote", "--all"),
    ("enroll", PROVEN),
    ("promote", "--all", "--reload"),
    ("renew", "--all"),
)
OUTCOMES = frozenset({0, 1, 5})
"""that a round under attack may have: done, refused, or an order that is still open"""

_ADVERSARY = """
import os, shutil, sys, itertools, random, time
uid, gid, seed, victim, desk, *targets = sys.argv[1:]
os.setgroups([]); os.setresgid(*[int(gid)] * 3); os.setresuid(*[int(uid)] * 3)
dice = random.Random(int(seed))
def link(path): os.symlink(victim, path)
def link_to_file(path): os.symlink(victim + "/readable", path)
def hard(path): os.link(victim + "/readable", path)
def deep(path): os.makedirs(path + "/a" * 40)
def full(path): open(path, "w").write("x" * 3000000)
def foreign(path): shutil.copytree(desk, path)
def part(path): shutil.copytree(desk, path); os.unlink(path + "/" + dice.choice(os.listdir(path)))
makers = (link, link, link, os.mkdir, os.mkdir, link_to_file, os.mkfifo, hard, full, deep)
makers += (foreign, part)
done = 0
print("ready", flush=True)
for number in itertools.count():
    target, make = dice.choice(targets), dice.choice(makers)
    try:
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        elif os.path.lexists(target):
            os.unlink(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        make(target)
        done += 1
    except OSError:
        pass
    if number % 20 == 0:
        print(done, flush=True)
    # now and then a run comes further than its first look
    if dice.random() < 0.2:
        time.sleep(dice.random() * 0.2)
"""


@dataclass(frozen=True, slots=True)
class Victim:
    """What is root's and no run may touch, and what the adversary has to offer."""

    folder: Path
    desk: Path
    before: dict[str, tuple[object, ...]]

    @classmethod
    def make(cls, place: Path, authority: Authority) -> Victim:
        """Lay out files under the names that the store has, and a set for another name."""
        folder, desk = place / "victim", place / "desk"
        for one in (folder, desk):
            one.mkdir()
        for name in ("acme-http-01.txt", "readable", "md.json", "job.json", EC_SPEC.privkey_name):
            (folder / name).write_text("precious")
        foreign = authority.credential(("evil.example",))
        (desk / EC_SPEC.privkey_name).write_bytes(key_to_pem(foreign.key))
        (desk / EC_SPEC.pubcert_name).write_bytes(chain_to_pem(foreign.chain))
        return cls(folder, desk, _traits(folder))

    def changes(self) -> list[str]:
        """Return what has become of it; access times and link counts are the adversary's."""
        now = _traits(self.folder)
        return [name for name in {*now, *self.before} if now.get(name) != self.before.get(name)]


def _traits(folder: Path) -> dict[str, tuple[object, ...]]:
    """Mode, owner, group, size and content; links may be added by anybody who can read."""
    chosen = (0, 1, 2, 5, 6, 8)
    found = snapshot(folder)
    return {name: tuple(traits[number] for number in chosen) for name, traits in found.items()}


class Adversary:
    """A process with the rights of Apache's user."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def is_alive(self) -> bool:
        """Whether he is still at work."""
        return self._process.poll() is None

    def tricks(self) -> int:
        """Return how many tricks he has done, as his last word says."""
        out = self._process.stdout
        last = 0
        if out is not None:
            os.set_blocking(out.fileno(), False)
            with suppress(BlockingIOError, TypeError):
                for line in out:
                    last = int(line)
        return last


@contextmanager
def adversary(victim: Victim, seed: int, targets: list[Path]) -> Iterator[Adversary]:
    """Let him play with the targets meanwhile."""
    httpd = pwd.getpwnam(HTTPD)
    words = map(str, (httpd.pw_uid, httpd.pw_gid, seed, victim.folder, victim.desk, *targets))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ADVERSARY, *words], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise AssertionError("the adversary did not come")
            yield Adversary(process)
        finally:
            process.kill()


def run_beside_adversary(task: Task) -> Tally:
    """Renew and promote in turn while Apache's user plays with what is his; a round is one run."""
    if os.geteuid() != 0:
        raise CannotRunError("only root has an adversary")
    tally = Tally()
    with open_bench(authz_reuse=0) as bench:
        victim = Victim.make(bench.folder, Authority())
        sites = bench.copy(bench.with_account("played-with"))
        configuration = _traits(sites.sites)
        with adversary(victim, task.seed + task.first, _targets(sites)) as player:
            for number in task.told("rounds"):
                if task.without and tally.violations:
                    break
                _round(ROUNDS[number % len(ROUNDS)], sites, victim, tally, task.without)
            tally.counts["tricks of the adversary"] += player.tricks()
            if not player.is_alive:
                tally.violations.append("the adversary has ended")
        if _traits(sites.sites) != configuration:
            tally.violations.append("a file beside the store was changed")
        _expect_healed(sites, tally)
    return tally


def _targets(sites: SitesBehindProxy) -> list[Path]:
    staged, challenge = sites.store / "staging" / PROVEN, sites.store / "challenges" / PROVEN
    return [
        staged,
        staged / "md.json",
        staged / EC_SPEC.privkey_name,
        staged / EC_SPEC.pubcert_name,
        challenge,
        challenge / "acme-http-01.txt",
    ]


def _round(
    words: tuple[str, ...], sites: SitesBehindProxy, victim: Victim, tally: Tally, without: str
) -> None:
    begun = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_limit(ROUND_LIMIT_SECONDS))
        if without:
            stack.enter_context(_trusting())
        try:
            done = sites.here(*words)
        except Exception:  # noqa: BLE001 - a traceback for whatever he does is what is looked for
            tally.violations.append(f"{' '.join(words)}: {traceback.format_exc()}")
            return
    tally.peak("seconds for a run", time.monotonic() - begun)
    tally.hit(f"{words[0]}: exit code {done.exit_code}")
    tally.violations += (f"{' '.join(words)}: {what}" for what in _wrongs(done, sites, victim))


def _wrongs(done: Finished, sites: SitesBehindProxy, victim: Victim) -> Iterator[str]:
    if done.exit_code not in OUTCOMES:
        yield f"exit code {done.exit_code}: {done.output}"
    for name in victim.changes():
        yield f"victim/{name} was changed, removed or made"
    live = sites.store / "domains" / PROVEN
    for path in live.iterdir() if live.exists() else ():
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o077:
            yield f"domains/{PROVEN}/{path.name} is {stat.filemode(status.st_mode)}"
    chain = live / EC_SPEC.pubcert_name
    if chain.exists() and "Pebble" not in leaf_in(live, chain.name).issuer.rfc4514_string():
        yield "a certificate of the adversary's is live"


def _expect_healed(sites: SitesBehindProxy, tally: Tally) -> None:
    for name in ("staging", "challenges"):
        with folder.Folder.open_base(sites.store / name) as group:
            group.remove_tree(PROVEN)
    for words in (("renew", PROVEN, "--force"), ("promote", "--all")):
        done = sites.here(*words)
        if done.exit_code != 0:
            tally.violations.append(f"without him, {' '.join(words)}: {done.output}")


@contextmanager
def _trusting() -> Iterator[None]:
    """Follow links in the store, and look at nobody's owner."""
    with ExitStack() as stack:
        for name in ("_FOLDER_FLAGS", "_READ_FLAGS"):
            changed = getattr(folder, name) & ~os.O_NOFOLLOW
            stack.enter_context(mock.patch.object(folder, name, changed))
        opens = folder.Folder.open

        def open_(self: folder.Folder, name: str, **_: object) -> folder.Folder | None:
            return opens(self, name)

        stack.enter_context(mock.patch.object(folder.Folder, "open", open_))
        yield


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in whatever this thread waits for."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


ADVERSARY = Figure(
    "adversary",
    "Runs while Apache's user plays with staging and challenges",
    1000,
    run_beside_adversary,
    100,
    {"handles": "links in the store are followed, whoever owns what they lead to"},
)
