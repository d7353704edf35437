"""How domains stand: what status found. Pure."""

from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.managed_domain import Finding
from mdconnector.outcomes import EXIT_DONE
from mdconnector.renewal import LastError, State

if TYPE_CHECKING:
    from mdconnector.particulars import Particulars


class StagedSummary(NamedTuple):
    """What waits in staging."""

    since: datetime
    certificates: tuple[CertificateFacts, ...]


class PendingSummary(NamedTuple):
    """An order that is open at the CA."""

    since: datetime
    order_url: str


class ServedSummary(NamedTuple):
    """What Apache on this host serves of a domain, as far as it is known."""

    is_stored: bool | None
    """whether it is what the store holds; None where nobody could tell"""
    words: str
    at: datetime | None = None
    """when Apache was asked"""


class Lifetime(NamedTuple):
    """When a live certificate begins, is renewed, is warned about (MDWarnWindow), and ends."""

    key_label: str
    not_before: datetime
    renew_at: datetime
    warn_at: datetime
    not_after: datetime


class DomainStatus(NamedTuple):
    """One domain's line of status."""

    name: str
    names: tuple[str, ...]
    state: State
    detail: str
    """why the state is what it is, where that is not plain"""
    live: tuple[InstalledCertificate, ...]
    not_after: datetime | None
    renew_at: datetime | None
    staged: StagedSummary | None
    pending: PendingSummary | None
    last_error: LastError | None
    next_try: datetime | None
    errors: int
    ca_url: str
    served: ServedSummary | None = None
    """None where Apache was never asked about it"""
    lifetimes: tuple[Lifetime, ...] = ()
    """of the live certificates"""
    used_by_ssl: bool = False
    is_renewed: bool = True
    """by anybody, us or mod_md: static files are not"""
    failing_since: datetime | None = None
    last_success: datetime | None = None
    """when new certificates last came"""
    in_full: "Particulars | None" = None
    """where it was asked for by name"""


class StatusResult(NamedTuple):
    """The result of status, most urgent first; `now` is what days are counted from."""

    domains: tuple[DomainStatus, ...]
    now: datetime
    findings: tuple[Finding, ...] = ()
    """errors in files that may hide managed domains"""

    command: Literal["status"] = "status"

    @property
    def exit_code(self) -> int:
        """Always 0: status tells, `status --check` judges."""
        return EXIT_DONE
