"""What promote did. Pure."""

from enum import StrEnum
from typing import Literal, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.outcomes import EXIT_DONE, EXIT_FAILED, EXIT_NOT_SERVED, EXIT_NOT_THERE_YET
from mdconnector.outcomes.order import BrokenFile
from mdconnector.renewal import LastError


class Promoted(StrEnum):
    """What promote did about one domain."""

    PROMOTED = "promoted"
    WAITING = "waiting"
    NOTHING_STAGED = "nothing-staged"
    ROLLED_BACK = "rolled-back"
    FAILED = "failed"


class Served(StrEnum):
    """What Apache shows for one domain after the reload."""

    NEW = "new"
    OLD = "old"
    NONE = "none"
    UNCHECKED = "unchecked"


class Reload(StrEnum):
    """What became of the one reload of a run."""

    RELOADED = "reloaded"
    NOT_NEEDED = "not-needed"
    NOT_REQUESTED = "not-requested"
    NOT_RUNNING = "not-running"
    REFUSED = "refused"
    FAILED = "failed"


class PromotionOutcome(NamedTuple):
    """One domain's line of promote."""

    name: str
    outcome: Promoted
    detail: str
    certificates: tuple[CertificateFacts, ...] = ()
    served: Served = Served.UNCHECKED
    error: LastError | None = None
    is_missing: bool = False
    """nothing staged, and nothing live that fits"""
    is_news: bool = True

    @property
    def is_not_served(self) -> bool:
        """Say whether a new certificate waits, was put back, or is not what Apache shows."""
        harmed = self.outcome in {Promoted.WAITING, Promoted.ROLLED_BACK}
        return harmed or self.served in {Served.OLD, Served.NONE}


class PromoteRun(NamedTuple):
    """The result of promote."""

    domains: tuple[PromotionOutcome, ...]
    reload: Reload
    by_name: bool
    reload_detail: str = ""
    """why the reload was refused or failed, and what to do"""
    reload_is_news: bool = True
    repairs: tuple[str, ...] = ()
    broken_files: tuple[BrokenFile, ...] = ()
    mended: tuple[str, ...] = ()

    command: Literal["promote"] = "promote"

    @property
    def exit_code(self) -> int:
        """4 a new one is not served; 1 a domain or file failed; 5 a named one not there; else 0."""
        if self.reload in {Reload.REFUSED, Reload.FAILED}:
            return EXIT_NOT_SERVED
        if any(domain.is_not_served for domain in self.domains):
            return EXIT_NOT_SERVED
        if any(domain.outcome is Promoted.FAILED for domain in self.domains):
            return EXIT_FAILED
        if self.broken_files and not self.by_name:
            return EXIT_FAILED
        if self.by_name and any(domain.is_missing for domain in self.domains):
            return EXIT_NOT_THERE_YET
        return EXIT_DONE
