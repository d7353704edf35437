"""kill -9 at every call by which the real command changes its store, and then the next plain run.

Rules: each death is strace's, of a process of its own against a real CA, and is proven
(tests.torture.system_calls). What it leaves is judged as Apache would find it at that moment: a
live pair that fits, the old one or the new. The next plain run then has to end well, with every key
that was there, one account, one certificate, and no order that could have been taken up again; the
one after that finds nothing to do. Trials come in blocks, each with one case and a store of its
own.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mdconnector.certificates import chain_to_pem
from mdconnector.errors import CertificateError, MdConnectorError
from mdconnector.keys import key_from_pem, key_to_pem, public_bytes
from mdconnector.store.folder import _temporary_name
from mdconnector.store.pending import Pending
from mdconnector.store.staging import stage
from tests.authority import DAY, EC_SPEC
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.e2e.command import clean_environment
from tests.e2e.snapshot import snapshot
from tests.parts import FaultingProxy, MissingProgramError, Pebble
from tests.store.credentials import (
    ACCOUNT_ID,
    CA,
    CA_URL,
    DOMAIN,
    NAME,
    NEW,
    NOW,
    OLD,
    open_store,
    put_set,
)
from tests.torture.figure import CannotRunError, Figure, Tally, Task
from tests.torture.system_calls import Call, Run, calls_of, died_at

BLOCK = 25
"""so many trials share one undisturbed run, in which their points are counted"""
WORKERS = 2
FINALIZE_HAS_ENDED = timedelta(minutes=5)
"""a run that follows sooner waits for one that may be under way"""
NO_EXCHANGE = "renameat2:error=EINVAL"
_HASH = re.compile(r"\b[0-9a-f]{32}\b")
_PATCHES = {
    "exchange": """
from mdconnector.store.folder import Folder
def exchange(self, name, other, other_name):
    other.remove_tree(other_name)
    self.move(name, other, other_name)
    return True
Folder.exchange = exchange
""",
    "temporary": """
from mdconnector.store import folder
def create(self, name, data, mode, **owner):
    if self.stat(name) is None:
        self.write(name, data, mode, **owner)
        return True
    return False
folder._temporary_name = lambda name: name
folder.Folder.create = create
""",
}


class WrongError(Exception):
    """What a death must never leave."""


@dataclass(frozen=True, slots=True)
class Case:
    """A run that is killed: on which store, with which words, and what comes next."""

    name: str
    given: Callable[[Bench], SitesBehindProxy]
    words: tuple[str, ...]
    next_words: tuple[str, ...]
    failing: str = ""
    is_ordered: bool = True
    """whether the run orders a certificate"""


class Bench:
    """One worker's CA, and the stores of its trials, always at the same place."""

    def __init__(self, folder: Path, proxy: FaultingProxy, without: str) -> None:
        self.folder = folder
        self.proxy = proxy
        self.without = without
        self.name = NAME
        """of the domain of this trial"""
        self._trials = 0

    @property
    def log(self) -> Path:
        """Where strace writes."""
        return self.folder / "trace.txt"

    def empty(self) -> SitesBehindProxy:
        """Make sites with no store, and with a name that the CA has never heard of."""
        self._trials += 1
        self.name = f"k{os.getpid() % 1000:03}-{self._trials:05}.example.org"
        sites = self._fresh()
        sites.add(self.name)
        return sites

    def with_account(self) -> SitesBehindProxy:
        """Make the same with an account, and a live set that is due."""
        template = self.folder / "with-account"
        if not template.exists():
            self._make_account(template)
        sites = self.empty()
        shutil.copytree(template / "md", sites.store, symlinks=True)
        due = CA.credential((self.name,), not_before=NOW - 80 * DAY)
        with (
            open_store(sites.store) as store,
            store.make_in_group("domains", self.name) as folder,
        ):
            folder.write(EC_SPEC.privkey_name, key_to_pem(due.key), 0o600)
            folder.write(EC_SPEC.pubcert_name, chain_to_pem(due.chain), 0o600)
        return sites

    def with_staged(self) -> SitesBehindProxy:
        """Make a store with an old set live and a new one staged, of ours."""
        self.name = NAME
        sites = self._fresh()
        sites.add(NAME, {"MDCertificateAuthority": CA_URL}, more=" ".join(DOMAIN.names[1:]))
        with open_store(sites.store) as store:
            put_set(store, "domains", NAME, OLD)
            pending = Pending.load(store, DOMAIN)
            pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
            pending.save_key(NEW.spec, NEW.key)
            pending.save_chain(NEW.spec, chain_to_pem(NEW.chain))
            stage(store, DOMAIN, (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
        return sites

    def with_foreign(self) -> SitesBehindProxy:
        """Make the same, but the staged set is somebody else's."""
        sites = self.with_staged()
        shutil.rmtree(sites.store / "mdconnector" / "pending")
        return sites

    def run(self, case: Case, sites: SitesBehindProxy) -> Run:
        """Return the real command of a case, with what a control removes removed."""
        words = [word.replace("{name}", self.name) for word in case.words]
        how = ["-m", "mdconnector"]
        if self.without:
            how = ["-c", f"{_PATCHES[self.without]}\nfrom mdconnector.cli import main\nmain()"]
        return Run(
            (sys.executable, *how, *words, "--sites", str(sites.sites)),
            clean_environment(),
            case.failing,
        )

    def _fresh(self) -> SitesBehindProxy:
        shutil.rmtree(self.folder / "sites", ignore_errors=True)
        return SitesBehindProxy(self.folder / "sites", self.proxy)

    def _make_account(self, template: Path) -> None:
        sites = SitesBehindProxy(template, self.proxy)
        sites.add(PROVEN)
        done = sites.here("enroll", PROVEN)
        assert done.exit_code == 0, done.output
        shutil.rmtree(sites.store / "staging" / PROVEN)
        for name in ("pending", "attempts"):
            shutil.rmtree(sites.store / "mdconnector" / name)


ENROLL = Case("enroll", Bench.empty, ("enroll", "{name}"), ("renew", "--all"))
RENEW = Case("renew", Bench.with_account, ("renew", "--all"), ("renew", "--all"))
PROMOTE = Case(
    "promote", Bench.with_staged, ("promote", "--all"), ("promote", "--all"), is_ordered=False
)
FOREIGN = Case(
    "promote what somebody else staged",
    Bench.with_foreign,
    ("promote", "--all"),
    ("promote", "--all"),
    is_ordered=False,
)
BY_RENAMES = Case(
    "promote without exchange",
    Bench.with_staged,
    ("promote", "--all"),
    ("promote", "--all"),
    failing=NO_EXCHANGE,
    is_ordered=False,
)


@dataclass(frozen=True, slots=True)
class Block:
    """Some trials of one case; a `first` case dies somewhere before each of them."""

    number: int
    case: Case
    trials: range
    seed: int
    without: str
    first: Case | None = None
    of: str = ""
    """what the path of a call must have in it to be tried"""


_SCHEDULE: tuple[tuple[Case, Case | None], ...] = (
    (ENROLL, None),
    (PROMOTE, None),
    (RENEW, None),
    (PROMOTE, PROMOTE),
    (ENROLL, None),
    (BY_RENAMES, None),
    (PROMOTE, FOREIGN),
    (RENEW, None),
    (FOREIGN, None),
    (RENEW, ENROLL),
    (ENROLL, None),
    (PROMOTE, PROMOTE),
    (RENEW, RENEW),
    (PROMOTE, BY_RENAMES),
)
"""the case of each block and, for recoveries, the one whose death it recovers from"""


def kill(task: Task) -> Tally:
    """Kill the command at so many of its calls."""
    blocks = list(_blocks(task))
    tally = Tally()
    if len(blocks) == 1:
        tally.add(run_block(blocks[0]))
        return tally
    context = get_context("spawn")
    with ProcessPoolExecutor(min(WORKERS, os.cpu_count() or 1), context) as pool:
        for done in pool.map(run_block, blocks):
            tally.add(done)
            task.say(f"{tally.done} kills, {len(tally.violations)} violations")
    return tally


def run_block(block: Block) -> Tally:
    """Do the trials of one block."""
    memory = Path("/dev/shm")
    folder = Path(
        tempfile.mkdtemp(prefix="mdconnector-kills-", dir=memory if memory.is_dir() else None)
    )
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            ca = stack.enter_context(
                Pebble(
                    folder / "ca",
                    always_valid=True,
                    nonce_reject=0,
                    authz_reuse=0,
                    orders_per_page=1000,
                )
            )
        except MissingProgramError as error:
            raise CannotRunError(str(error)) from None
        proxy = stack.enter_context(FaultingProxy(folder, ca))
        return _Trials(Bench(folder, proxy, block.without), block).tally()


def _blocks(task: Task) -> Iterator[Block]:
    first = task.first
    while first < task.first + task.amount:
        number = first // BLOCK
        end = min((number + 1) * BLOCK, task.first + task.amount)
        case, before = _SCHEDULE[number % len(_SCHEDULE)]
        yield Block(number, case, range(first, end), task.seed, task.without, before)
        first = end


class _Trials:
    """The trials of one block."""

    def __init__(self, bench: Bench, block: Block) -> None:
        self._bench = bench
        self._block = block
        self._tally = Tally()

    def tally(self) -> Tally:
        """Count the calls of an undisturbed run, then kill runs at them."""
        first = self._first_call()
        sites = self._given(first)
        run = self._bench.run(self._block.case, sites)
        calls, hidden = calls_of(run, below=sites.store, log=self._bench.log)
        self._tally.peak("calls that another thread hides", hidden)
        name = self._bench.name
        order = [call for call in calls if self._block.of in call.path]
        random.Random(f"{self._block.seed} {self._block.case.name}").shuffle(order)  # noqa: S311 - an order, no secret
        earlier = sum(
            BLOCK
            for number in range(self._block.number)
            if _SCHEDULE[number % len(_SCHEDULE)] == (self._block.case, self._block.first)
        )
        for trial in self._block.trials:
            call = order[(earlier + trial % BLOCK) % len(order)]
            self._try(first, call, name)
        return self._tally

    def _first_call(self) -> tuple[Call, str] | None:
        """Choose where the run dies that this block recovers from."""
        if self._block.first is None:
            return None
        sites = self._block.first.given(self._bench)
        run = self._bench.run(self._block.first, sites)
        calls, _ = calls_of(run, below=sites.store, log=self._bench.log)
        chosen = random.Random(f"{self._block.seed} {self._block.number}").choice(calls)  # noqa: S311 - a point, no secret
        return chosen, self._bench.name

    def _given(self, first: tuple[Call, str] | None) -> SitesBehindProxy:
        """Make the store of a trial; where another run is to die before, it does."""
        case = self._block.first or self._block.case
        sites = case.given(self._bench)
        if first is not None:
            call = _renamed(first[0], first[1], self._bench.name)
            if not died_at(self._bench.run(case, sites), call, self._bench.log):
                raise WrongError(f"the first run was not killed at {call}")
            self._tally.hit(self._label(case, call, None))
        return sites

    def _try(self, first: tuple[Call, str] | None, call: Call, name: str) -> None:
        ca = self._bench.proxy.pebble
        before = (ca.accounts, ca.orders, ca.certificates)
        case = self._block.case
        sites = self._given(first)
        keys = _keys_in(sites.store)
        there = _renamed(call, name, self._bench.name)
        point = self._label(case, there, first)
        try:
            if not died_at(self._bench.run(case, sites), there, self._bench.log):
                self._tally.counts["runs that did not come to the call"] += 1
                return
        except AssertionError as error:
            # no fault of the command's, and no proof either: it does not count
            self._tally.counts["runs that did not die as they should"] += 1
            self._tally.counts[str(error)] += 1
            return
        self._tally.hit(point)
        self._tally.counts[f"kills of: {case.name}{' again' if first else ''}"] += 1
        try:
            self._judge(sites, keys, before)
        except (WrongError, AssertionError, MdConnectorError, OSError) as error:
            self._tally.violations.append(f"{point}: {type(error).__name__}: {error}")

    def _judge(
        self, sites: SitesBehindProxy, keys: set[bytes], before: tuple[int, int, int]
    ) -> None:
        ca, case, name = self._bench.proxy.pebble, self._block.case, self._bench.name
        begins = self._block.first or case
        _expect_sound(sites.store, name, may_be_absent=begins in (ENROLL, BY_RENAMES))
        _expect(_keys_in(sites.store) >= keys, "a key is lost")
        orders, is_resumable = ca.orders, _has_open_order(sites, name)
        done = sites.here(*case.next_words, later=FINALIZE_HAS_ENDED)
        _expect(done.exit_code == 0, f"the next run ended with {done.exit_code}: {done.output}")
        _expect_sound(sites.store, name, may_be_absent=begins == ENROLL)
        _expect(_keys_in(sites.store) >= keys, "a key is lost by the next run")
        more = ca.orders - orders
        _expect(more <= 1, f"{more} more orders")
        self._tally.counts["next runs with one order more"] += more
        if is_resumable:
            self._tally.counts["orders that could be taken up, and were"] += 1
            _expect(more == 0, "an order that could be taken up was made anew")
        if begins.is_ordered:
            _expect(ca.certificates - before[2] == 1, "a certificate was lost or issued twice")
            _expect(ca.accounts - before[0] == int(begins == ENROLL), "an account key was lost")
            _expect_staged(sites, name)
        else:
            _expect_promoted(sites)
        _expect_no_leftovers(sites.store)
        end = snapshot(sites.store)
        again = sites.here(*case.next_words, later=FINALIZE_HAS_ENDED)
        _expect(again.exit_code == 0, f"the run after it ended with {again.exit_code}")
        _expect(snapshot(sites.store) == end, "the next run left something to be cleared away")

    def _label(self, case: Case, call: Call, first: tuple[Call, str] | None) -> str:
        path = call.path.removeprefix(f"{self._bench.folder}/sites/")
        path = _HASH.sub("<hash>", path.replace(self._bench.name, "<name>"))
        path = path.replace(_temporary_name(f"{self._bench.name}.json"), ".new-<name>")
        after = ""
        if first is not None and self._block.first is not None:
            begun = _renamed(first[0], first[1], self._bench.name)
            after = f" after {self._label(self._block.first, begun, None)}"
        return f"{case.name}: {call.name} {call.number} of {path}{after}"


def _renamed(call: Call, old: str, new: str) -> Call:
    """Return the same call of a run for another domain: its name is in paths, or hashed there."""
    path = call.path.replace(old, new)
    for name in (f"{old}.json", old):
        path = path.replace(_temporary_name(name), _temporary_name(name.replace(old, new)))
    return Call(call.name, path, call.number, call.of_all)


# --- what must be there -----------------------------------------------------------------------


def _expect(truth: bool, what: str) -> None:
    if not truth:
        raise WrongError(what)


def _expect_sound(store: Path, name: str, *, may_be_absent: bool) -> None:
    """No live pair is broken, no staged one half there, no key in clear for anybody else."""
    live = store / "domains" / name
    if live.exists() or not may_be_absent:
        _expect_pair(live)
    staged = store / "staging" / name
    if staged.exists():
        wanted = {"md.json", "job.json", EC_SPEC.privkey_name, EC_SPEC.pubcert_name}
        found = {path.name for path in staged.iterdir()}
        _expect(found == wanted, f"staging holds {sorted(found)}")
    for path in store.rglob("*"):
        if path.is_file() and b"-----BEGIN PRIVATE KEY" in path.read_bytes():
            mode = stat.S_IMODE(path.stat().st_mode)
            _expect(mode == 0o600, f"{path.relative_to(store)} has mode {mode:o}")


def _expect_pair(folder: Path) -> None:
    key, chain = folder / EC_SPEC.privkey_name, folder / EC_SPEC.pubcert_name
    _expect(key.exists() and chain.exists(), f"there is no pair in {folder.name}")
    leaf = x509.load_pem_x509_certificates(chain.read_bytes())[0]
    try:
        public = public_bytes(key_from_pem(key.read_bytes()))
    except CertificateError as error:
        raise WrongError(f"the key of {folder.name} cannot be read: {error}") from error
    _expect(public == _spki(leaf), "key and certificate of the live set do not fit")


def _spki(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _expect_staged(sites: SitesBehindProxy, name: str) -> None:
    chain = sites.store / "staging" / name / EC_SPEC.pubcert_name
    _expect(chain.exists(), "nothing is staged in the end")
    _expect(len(x509.load_pem_x509_certificates(chain.read_bytes())) == 2, "the chain is cut")


def _expect_promoted(sites: SitesBehindProxy) -> None:
    live = sites.store / "domains" / NAME / EC_SPEC.pubcert_name
    archived = sites.store / "archive" / f"{NAME}.1" / EC_SPEC.pubcert_name
    _expect(live.read_bytes() == chain_to_pem(NEW.chain), "the new set is not live in the end")
    _expect(archived.exists(), "the old set is not in the archive")
    _expect(archived.read_bytes() == chain_to_pem(OLD.chain), "another set is in the archive")
    _expect(not (sites.store / "staging" / NAME).exists(), "staging was not cleared")


def _expect_no_leftovers(store: Path) -> None:
    own = store / "mdconnector"
    left = [*own.glob("work/*/*"), *own.glob("accounts/*"), *store.rglob(".new-*")]
    left += [path for path in (store / "challenges").rglob("*") if path.is_file()]
    _expect(not left, f"left over: {[str(path.relative_to(store)) for path in left]}")


def _has_open_order(sites: SitesBehindProxy, name: str) -> bool:
    """Say whether an order at the CA is known and its certificate not here yet."""
    note = sites.note(name, "order.secp256r1.json")
    if not note.exists() or not sites.note(name, "set.json").exists():
        return False
    return json.loads(note.read_text())["url"] is not None


def _keys_in(store: Path) -> set[bytes]:
    """Return the public halves of the keys in clear of all sets that are whole."""
    found = set()
    for path in store.rglob("privkey*.pem"):
        if path.parent.parent.name == "staging":
            continue
        with suppress(CertificateError):
            found.add(public_bytes(key_from_pem(path.read_bytes())))
    return found


KILLS = Figure(
    "kills",
    "kill -9 at every call by which the command changes its store, under strace",
    1000,
    kill,
    BLOCK * 4,
    {
        "exchange": "the live set is removed, and the new one renamed to its place",
        "temporary": "files are written in their place, not beside it and renamed",
    },
)
