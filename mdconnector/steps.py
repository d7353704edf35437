"""How far a run has come with each domain: plain events, handed to one callable. Pure.

Rule: whoever takes them must be quick and raise nothing; they come from several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple


class Phase(Enum):
    """Whose turn it is with a domain."""

    QUEUED = "queued"
    AT_WORK = "at-work"
    WAITING = "waiting"
    """for the CA"""
    DONE = "done"


class Step(NamedTuple):
    """A domain has come to another step."""

    name: str
    words: str
    """what is being done, or what came of it"""
    phase: Phase = Phase.AT_WORK
    has_failed: bool = False


Steps = Callable[[Step], None]


def unheard(_step: Step) -> None:
    """Tell nobody."""
