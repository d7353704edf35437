"""What revoke did. Pure."""

from enum import StrEnum
from typing import Literal, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.outcomes import EXIT_DONE, EXIT_FAILED
from mdconnector.renewal import LastError


class Revoked(StrEnum):
    """What revoke did about one domain."""

    REVOKED = "revoked"
    FAILED = "failed"


class RevocationOutcome(NamedTuple):
    """One domain's line of revoke."""

    name: str
    outcome: Revoked
    detail: str
    certificates: tuple[CertificateFacts, ...] = ()
    """those that are revoked now"""
    error: LastError | None = None
    next_step: str = ""
    """what is to be done now that they are"""


class RevocationRun(NamedTuple):
    """The result of revoke."""

    domains: tuple[RevocationOutcome, ...]

    command: Literal["revoke"] = "revoke"

    @property
    def exit_code(self) -> int:
        """1 a certificate is not revoked, else 0."""
        failed = any(domain.outcome is Revoked.FAILED for domain in self.domains)
        return EXIT_FAILED if failed else EXIT_DONE
