"""What enroll or renew did. Pure."""

from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import UnsafeStoreError
from mdconnector.managed_domain import Finding
from mdconnector.outcomes import EXIT_DONE, EXIT_FAILED, EXIT_NOT_THERE_YET, EXIT_UNSAFE_STORE
from mdconnector.renewal import LastError, Reason

UNSAFE_STORE = UnsafeStoreError.default_type


class Ordered(StrEnum):
    """What enroll or renew did about one domain."""

    RENEWED = "renewed"
    ENROLLED = "enrolled"
    CURRENT = "current"
    STAGED = "staged"
    PENDING = "pending"
    BACKING_OFF = "backing-off"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


class OrderOutcome(NamedTuple):
    """One domain's line of enroll or renew."""

    name: str
    outcome: Ordered
    detail: str
    """what a person reads after the name and the outcome; for a failure its message"""
    reasons: tuple[Reason, ...] = ()
    certificates: tuple[CertificateFacts, ...] = ()
    renew_at: datetime | None = None
    next_try: datetime | None = None
    error: LastError | None = None
    is_comfortable: bool = True
    """what is served may wait for the next run"""
    is_news: bool = True
    """to be told under -q: not a failure that was told within the last day"""
    error_group: str = ""
    """domains whose failure has one cause outside of them share this word, and one line"""

    @property
    def has_failed(self) -> bool:
        """Say whether this outcome makes the run exit 1."""
        waits = self.outcome in {Ordered.PENDING, Ordered.BACKING_OFF, Ordered.SKIPPED}
        return self.outcome is Ordered.FAILED or (waits and not self.is_comfortable)

    @property
    def is_change(self) -> bool:
        """Say whether something new lies in staging now, or at the CA."""
        return self.outcome in {Ordered.RENEWED, Ordered.ENROLLED}


class NotLive(NamedTuple):
    """How many staged sets are not live after a run, and since when the oldest waits."""

    sets: int
    oldest: datetime | None
    is_old: bool
    """older than a day: told even under -q"""


class BrokenFile(NamedTuple):
    """An error in a configuration file that is no managed domain's own."""

    finding: Finding
    is_news: bool = True


class OrderRun(NamedTuple):
    """The result of enroll or renew."""

    command: Literal["enroll", "renew"]
    domains: tuple[OrderOutcome, ...]
    not_live: NotLive
    by_name: bool
    """NAMEs were given"""
    repairs: tuple[str, ...] = ()
    broken_files: tuple[BrokenFile, ...] = ()
    """what stands in these files may be managed domains, and cannot be told"""
    mended: tuple[str, ...] = ()
    """what was told as failing before, and is no more"""

    @property
    def exit_code(self) -> int:
        """3 an account is damaged; 1 a domain or file failed; 5 a named one not there; else 0."""
        if any(one.error and one.error.type == UNSAFE_STORE for one in self.domains):
            return EXIT_UNSAFE_STORE
        if any(domain.has_failed for domain in self.domains):
            return EXIT_FAILED
        if self.broken_files and not self.by_name:
            return EXIT_FAILED
        waits = {Ordered.PENDING, Ordered.SKIPPED}
        if self.by_name and any(domain.outcome in waits for domain in self.domains):
            return EXIT_NOT_THERE_YET
        return EXIT_DONE
