"""What a figure is: its goal, the function that does its trials, and what it counts.

Rules: trial N of a figure is the same in every run with the same seed, so that a run can be cut
into parts. A figure that cannot run on this machine raises CannotRunError and never passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


class CannotRunError(Exception):
    """A figure needs what this machine does not have; the message says what."""


@dataclass(frozen=True, slots=True)
class Task:
    """The trials to do: `amount` of them, from number `first` on.

    `without` names the protection that a control removes; empty: none. `say` tells of progress.
    """

    amount: int
    first: int = 0
    seed: int = 5
    without: str = ""
    say: Callable[[str], object] = lambda _: None

    @property
    def trials(self) -> range:
        """The numbers of the trials."""
        return range(self.first, self.first + self.amount)

    def told(self, what: str, every: int = 50) -> Iterator[int]:
        """Yield the numbers of the trials, telling now and then how far it is."""
        for number in self.trials:
            yield number
            if (number + 1) % every == 0:
                self.say(f"{number + 1} {what}")


@dataclass(slots=True)
class Tally:
    """What was done, at how many different points, and what went wrong.

    `counts` are further numbers for the report, by what they count; parts of a run add them up.
    `peaks` are such numbers whose highest value counts.
    """

    done: int = 0
    points: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    peaks: dict[str, float] = field(default_factory=dict)

    def hit(self, point: str) -> None:
        """Count one fault that is proven to have happened."""
        self.done += 1
        self.points.add(point)

    def peak(self, what: str, value: float) -> None:
        """Remember a value if it is the highest so far."""
        self.peaks[what] = max(value, self.peaks.get(what, value))

    def add(self, other: Tally) -> None:
        """Add another part of the same figure."""
        self.done += other.done
        self.points |= other.points
        self.violations += other.violations
        self.counts += other.counts
        for what, value in other.peaks.items():
            self.peak(what, value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    `run` does the trials of a task; it may do fewer where there are no more of its kind, and says
    so with `done`. `part`: how many trials are done at a time, after which they are noted.
    `controls`: by name, what is removed.
    """

    name: str
    title: str
    goal: int
    run: Callable[[Task], Tally]
    part: int
    controls: Mapping[str, str]
