"""Power cuts: at every change of the disk, and for a while after a run has said that it is done.

Rules: a run in a child is killed at its Nth change, and the power is cut at that moment: what the
file system had not written is gone. A run that was not killed has said that it is done, so the cut
may take nothing of it. The next run is an ordinary one, on what the cut has left.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from mdconnector.errors import MdConnectorError
from mdconnector.keys import public_bytes
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.store.credentials import (
    CA_URL,
    NAME,
    NEW,
    OLD,
    keys_in,
    leaves,
    open_store,
    set_in,
)
from tests.store.kill_points import Call, changes_of, killed_at, watched
from tests.torture.bench import Bench, open_bench
from tests.torture.disks import Disk, available, made, workshop
from tests.torture.figure import Figure, Tally, Task

FINALIZE_HAS_ENDED = timedelta(minutes=5)
"""a run that follows sooner waits for one that may be under way"""
LATER_CUTS_SECONDS = (0, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 35, 40)
COMMIT_SECONDS = (None, 1, 30)
RECOVERIES = 4
"""at so many points promotions are killed whose recovery is cut"""
CA_OF_NOBODY = {"MDCertificateAuthority": CA_URL}
_NEVER = 1_000_000


class WrongError(Exception):
    """What a cut must never do."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A run that changes the store, begun on a copy of `template`.

    The checks raise WrongError: `is_sound` for whatever a cut has left, `is_done` for what it has
    left of a run that said it was done, `heals` does the next run.
    """

    name: str
    template: Path
    words: tuple[str, ...]
    is_sound: Callable[[SitesBehindProxy], None]
    is_done: Callable[[SitesBehindProxy], None]
    heals: Callable[[SitesBehindProxy], None]


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run is cut: at its Nth change, on a kind of file system."""

    kind: str
    flow: str
    number: int

    def __str__(self) -> str:
        where = "done" if self.number == _NEVER else f"change {self.number}"
        return f"{self.kind}, {self.flow}, {where}"


def cut_power(task: Task) -> Tally:
    """Cut the power at every change that a first enrollment, a promotion and recoveries make."""
    systems, missing = available()
    tally = Tally()
    tally.counts.update(f"{kind} not run, {why}" for kind, why in missing.items())
    with open_bench() as bench:
        runs = (_first(bench), _promotion(bench), *_recoveries(bench))
        flows = {flow.name: flow for flow in runs}
        points = _points(flows, list(systems), bench, task)
        for kind, system in systems.items():
            with workshop() as folder, made(system, folder) as disk:
                for point in [one for one in points if one.kind == kind]:
                    _cut_at(point, flows[point.flow], disk, bench, tally, task)
    return tally


def cut_power_later(task: Task) -> Tally:
    """Cut the power again and again in the 40 seconds after a promotion has said that it is done.

    A trial is one file system with one commit interval; all of a task run side by side.
    """
    systems, _ = available()
    kinds = [
        (system, seconds)
        for system in systems.values()
        for seconds in (COMMIT_SECONDS if system.has_commit_interval else (None,))
    ]
    chosen = [kinds[number] for number in task.trials if number < len(kinds)]
    tally = Tally()
    with ExitStack() as stack:
        bench = stack.enter_context(open_bench())
        place = stack.enter_context(workshop())
        flow = _promotion(bench)
        promoted = []
        for system, seconds in chosen:
            disk = stack.enter_context(made(system, place, commit_seconds=seconds))
            sites = bench.set_out(flow.template, disk)
            killed_at(_NEVER, partial(_act, flow, sites, task.without))
            label = f"{system.kind}, commit interval {seconds or 'default'}"
            promoted.append((disk, sites, label, time.monotonic()))
        for after in LATER_CUTS_SECONDS:
            for disk, sites, label, done in promoted:
                time.sleep(max(done + after - time.monotonic(), 0))
                with disk.cut() as platter:
                    there = bench.sites(platter / sites.folder.name)
                    _judge(tally, f"{label}, {after} s after done", there, flow, is_done=True)
    return tally


# --- one cut ----------------------------------------------------------------------------------


def _points(flows: dict[str, Flow], kinds: list[str], bench: Bench, task: Task) -> list[Point]:
    points = []
    for flow in flows.values():
        sites = bench.copy(flow.template)
        changes = changes_of(partial(_act, flow, sites, ""))
        numbers = [_NEVER] if task.without else [*range(1, changes + 1), _NEVER]
        points += [Point(kind, flow.name, number) for kind in kinds for number in numbers]
    random.Random(task.seed).shuffle(points)  # noqa: S311 - an order, no secret
    return [points[number] for number in task.trials if number < len(points)]


def _cut_at(point: Point, flow: Flow, disk: Disk, bench: Bench, tally: Tally, task: Task) -> None:
    sites = bench.set_out(flow.template, disk)
    certificates = bench.proxy.pebble.certificates
    was_killed = killed_at(point.number, partial(_act, flow, sites, task.without))
    with disk.cut() as platter:
        tally.counts["cuts that took something away"] += _digest(disk.folder) != _digest(platter)
        there = bench.sites(platter / sites.folder.name)
        _judge(tally, str(point), there, flow, is_done=not was_killed)
    if flow.name == "enroll" and bench.proxy.pebble.certificates - certificates != 1:
        tally.violations.append(f"{point}: a certificate was lost and issued twice")
    shutil.rmtree(sites.folder)
    if tally.done % 25 == 0:
        task.say(f"{tally.done} cuts")


def _act(flow: Flow, sites: SitesBehindProxy, without: str) -> None:
    with ExitStack() as stack:
        if without == "fsync":
            stack.enter_context(mock.patch.object(os, "fsync"))
        done = sites.here(*flow.words)
    if done.exit_code != 0:
        raise AssertionError(done.output)


def _judge(tally: Tally, point: str, sites: SitesBehindProxy, flow: Flow, *, is_done: bool) -> None:
    tally.hit(point)
    tally.counts["cuts after a run was done"] += is_done
    try:
        _expect_nothing_torn(sites.store)
        flow.is_sound(sites)
        if is_done:
            flow.is_done(sites)
        flow.heals(sites)
        _expect_nothing_torn(sites.store)
    except (WrongError, AssertionError, MdConnectorError) as error:
        tally.violations.append(f"{point}: {type(error).__name__}: {error}")


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in folder.rglob("*")
    }


# --- what must be there -----------------------------------------------------------------------


def _require(truth: bool, what: str) -> None:
    if not truth:
        raise WrongError(what)


def _expect_nothing_torn(store: Path) -> None:
    """No file under its own name is empty or half there, but for sets that are being assembled."""
    for path in store.rglob("*"):
        inside = path.relative_to(store).parts
        if not path.is_file() or path.name.startswith(".new-") or path.name.endswith(".lock"):
            continue
        if inside[:2] == ("mdconnector", "work"):
            continue
        content = path.read_bytes()
        _require(content != b"", f"{path.relative_to(store)} is empty")
        if path.suffix == ".json":
            json.loads(content)
        if path.suffix == ".pem":
            _require(b"-----END " in content[-60:], f"{path.relative_to(store)} is cut short")


# --- a first enrollment -----------------------------------------------------------------------


def _first(bench: Bench) -> Flow:
    """A first certificate: account, order and staged set, in a store that is yet to be made."""
    template = bench.without_store("enroll")
    return Flow(
        "enroll",
        template,
        ("renew", "--all"),
        is_sound=lambda _: None,
        is_done=_is_staged,
        heals=_enrolls,
    )


def _is_staged(sites: SitesBehindProxy) -> None:
    folder = sites.store / "staging" / PROVEN
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    wanted = {"md.json", "job.json", "privkey.secp256r1.pem", "pubcert.secp256r1.pem"}
    _require(names == wanted, f"staging holds {sorted(names)}")
    _require(len(list((sites.store / "accounts").iterdir())) == 1, "the account is not there")


def _enrolls(sites: SitesBehindProxy) -> None:
    done = sites.here("renew", "--all", later=FINALIZE_HAS_ENDED)
    _require(done.exit_code == 0, f"the next run ended with {done.exit_code}: {done.output}")
    _is_staged(sites)
    live = sites.here("promote", "--all")
    _require(live.exit_code == 0, f"it cannot be promoted: {live.output}")
    _require((sites.store / "domains" / PROVEN / "pubcert.secp256r1.pem").exists(), "not live")


# --- a promotion, and what finishes one that was killed ---------------------------------------


def _promotion(bench: Bench) -> Flow:
    """A promotion of our own staged set over an old one."""
    template = bench.with_staged_set("promote")
    return _flow_of_promotion("promote", template)


def _flow_of_promotion(name: str, template: Path) -> Flow:
    return Flow(
        name,
        template,
        ("promote", "--all", "--reload"),
        is_sound=_is_old_or_new,
        is_done=_is_new,
        heals=_promotes,
    )


def _recoveries(bench: Bench) -> Iterator[Flow]:
    """What the next run does after promotions that were killed about the swap."""
    begun = bench.with_staged_set("begun")
    swap = _number_of_the_exchange(bench.copy(begun))
    for number in range(swap, swap + 2 * RECOVERIES, 2):
        template = bench.folder / f"recover-{number - swap}"
        sites = bench.sites(begun).copy(template)
        if not killed_at(number, partial(_act, _flow_of_promotion("killed", begun), sites, "")):
            raise AssertionError(f"the promotion was done before its change {number}")
        yield _flow_of_promotion(template.name, template)


def _number_of_the_exchange(sites: SitesBehindProxy) -> int:
    seen: list[bool] = []

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        seen.append(name == "renameat2" and args[-1] == 2)
        return original(*args, **kwargs)

    with watched(watch):
        _act(_flow_of_promotion("counted", sites.folder), sites, "")
    return seen.index(True) + 1


def _live(sites: SitesBehindProxy) -> tuple[str, ...] | None:
    with open_store(sites.store) as store:
        return set_in(store, "domains", NAME)


def _is_old_or_new(sites: SitesBehindProxy) -> None:
    _require(_live(sites) in (leaves(OLD), leaves(NEW)), f"live is {_live(sites)}")
    with open_store(sites.store) as store:
        lost = {public_bytes(OLD.key), public_bytes(NEW.key)} - keys_in(store)
    _require(not lost, f"{len(lost)} of 2 keys are lost")


def _is_new(sites: SitesBehindProxy) -> None:
    _require(_live(sites) == leaves(NEW), "the set that was promoted is not live")


def _promotes(sites: SitesBehindProxy) -> None:
    done = sites.here("promote", "--all", "--reload")
    _require(done.exit_code == 0, f"the next run ended with {done.exit_code}: {done.output}")
    _is_new(sites)
    with open_store(sites.store) as store:
        archived = set_in(store, "archive", f"{NAME}.1")
    _require(archived == leaves(OLD), "the old set is not in the archive")
    left = [str(path) for path in (sites.store / "mdconnector" / "work").glob("*/*")]
    left += [str(path) for path in (sites.store / "staging").iterdir()]
    _require(not left, f"the next run left {left}")


POWER_CUTS = Figure(
    "power-cuts",
    "Power cuts at every change of the disk, and at the end",
    300,
    cut_power,
    50,
    {"fsync": "no fsync does anything"},
)
POWER_CUTS_LATER = Figure(
    "power-cuts-later",
    "Power cuts up to 40 s after a promotion is done",
    len(LATER_CUTS_SECONDS) * 7,
    cut_power_later,
    7,
    {"fsync": "no fsync does anything"},
)
