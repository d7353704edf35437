"""Promotions of twenty sets while somebody else reloads Apache every 0.3 seconds.

Rules: Apache opens a chain and its key by two look-ups, so a swap between them ends it; even trials
are done on an Apache that opens files of domains/ by its own lines, odd ones with mod_md, which
activates from staging what it finds there first. A promotion counts when a reload began meanwhile.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from unittest import mock

from mdconnector.httpd import process, reloading
from mdconnector.store.folder import Folder
from mdconnector.store.pairs import is_sound
from tests.parts import Apache
from tests.parts.processes import is_alive, wait_until
from tests.torture.disks import workshop
from tests.torture.figure import Figure, Tally, Task
from tests.torture.fleet import Fleet, require

NAMES = tuple(f"site{number:02}.example" for number in range(20))
RELOAD_EVERY_SECONDS = 0.3
REST_SECONDS = 0.15
TRIES = 4
"""for a promotion beside which there was no reload, or no moment of rest"""


class Colleague:
    """Reloads an Apache again and again, and notes when.

    Where a reload takes longer than that, the next comes a little after it: an httpd that never
    rests is left alone, and the promotion waits.
    """

    def __init__(self, apache: Apache) -> None:
        self.reloads: list[float] = []
        self._apache = apache
        self._parent = apache.pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._reload_on)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let him reload meanwhile."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()

    def _reload_on(self) -> None:
        while not self._is_over.wait(REST_SECONDS) and is_alive(self._parent):
            before = self._apache.generation
            self.reloads.append(time.monotonic())
            os.kill(self._parent, signal.SIGUSR1)
            if self._is_over.wait(RELOAD_EVERY_SECONDS - REST_SECONDS):
                return
            wait_until(partial(self._is_reloaded, before), "the reload", seconds=60)

    def _is_reloaded(self, before: int) -> bool:
        return not is_alive(self._parent) or self._apache.generation != before


class _Shift:
    """One Apache for the trials of a task that are to be done on its kind."""

    def __init__(self, fleet: Fleet, tally: Tally, without: str) -> None:
        self.fleet = fleet
        self.tally = tally
        self._without = without
        self._swaps: list[float] = []

    def work(self, trials: int) -> None:
        """Do so many trials; an Apache that ended is a violation, and the end."""
        self.fleet.put_live(self.fleet.sets())
        last = self.tally.done + trials
        colleague = Colleague(self.fleet.apache)
        with colleague.at_work(), self._watched():
            for _ in range(trials * TRIES):
                if self.tally.done == last:
                    break
                self._promote(colleague)
                if not self.fleet.apache.is_running:
                    log = self.fleet.apache.error_log()
                    words = [line for line in log.splitlines() if "emerg" in line]
                    self.tally.violations.append(f"httpd ended: {' '.join(words)}")
                    break
        self.tally.counts["reloads by somebody else"] += len(colleague.reloads)

    def _promote(self, colleague: Colleague) -> None:
        self.fleet.stage(self.fleet.sets())
        self._swaps.clear()
        reloads, begun = len(colleague.reloads), time.monotonic()
        done = self.fleet.promote()
        self.tally.peak("seconds for a promotion", time.monotonic() - begun)
        outcomes = Counter(one["outcome"] for one in done.json["domains"])
        self.tally.counts["sets that we made live"] += outcomes["promoted"]
        self.tally.counts["sets that mod_md activated first"] += outcomes["nothing-staged"]
        if (done.exit_code, outcomes["waiting"]) != (0, 0):
            if done.exit_code != 4 or outcomes["failed"] or outcomes["promoted"]:
                failed = [one["detail"] for one in done.json["domains"] if one["error"]]
                self.tally.violations.append(f"exit code {done.exit_code}: {failed}")
            self.tally.counts["promotions that found no rest within 10 s, so nothing was done"] += 1
        self._expect_sound()
        if outcomes["promoted"] and len(colleague.reloads) > reloads:
            self.tally.hit(self._phase(colleague))

    def _phase(self, colleague: Colleague) -> str:
        kind = "mod_md" if self.fleet.apache.has_mod_md else "plain"
        swapped = self._swaps[-1] if self._swaps else 0
        since = min((swapped - at for at in colleague.reloads if at <= swapped), default=0)
        return f"{kind}, swapped {since * 100:.0f}0 ms after a reload was asked for"

    def _expect_sound(self) -> None:
        with Folder.open_base(self.fleet.apache.store / "domains") as domains:
            for name in NAMES:
                try:
                    # mod_md, too, may be at a swap, and its own has a gap
                    wait_until(partial(_is_sound, domains, name), f"{name} to be sound", seconds=2)
                except TimeoutError as error:
                    self.tally.violations.append(str(error))

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Note when sets are swapped; in the control that is while the parent is at work."""
        asked = reloading.is_idle_now

        def is_idle_now(running: process.RunningHttpd) -> bool:
            is_idle = asked(running) != (self._without == "idle-wait")
            if is_idle:
                self._swaps.append(time.monotonic())
            else:
                self.tally.counts["looks at a parent that was at work"] += 1
            return is_idle

        with ExitStack() as patches:
            patches.enter_context(mock.patch.object(reloading, "is_idle_now", is_idle_now))
            if self._without:
                lasts = mock.patch.object(reloading.Stillness, "lasts", return_value=True)
                patches.enter_context(lasts)
            yield


def _is_sound(domains: Folder, name: str) -> bool:
    folder = domains.open(name)
    if folder is None:
        return False
    with folder:
        return is_sound(folder)


def promote_beside_reloads(task: Task) -> Tally:
    """Promote twenty sets again and again beside somebody who reloads all the time."""
    require("apache2")
    tally = Tally()
    for is_odd in (False, True):
        trials = sum(number % 2 == is_odd for number in task.trials)
        if not trials or (task.without and tally.violations):
            continue
        task.say(f"{trials} promotions {'with' if is_odd else 'without'} mod_md")
        with workshop() as folder:
            fleet = Fleet(folder / "apache", NAMES, mod_md=is_odd)
            try:
                _Shift(fleet, tally, task.without).work(trials)
            finally:
                fleet.apache.stop()
    return tally


FOREIGN_RELOADS = Figure(
    "foreign-reloads",
    "Promotions of 20 sets beside a reload every 0.3 s",
    500,
    promote_beside_reloads,
    50,
    {"idle-wait": "a swap comes while httpd's parent is at work, not while it rests"},
)
