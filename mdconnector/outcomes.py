"""What a run did, as values: the report, the journal and the exit code are made from them. Pure.

The words are those of JSON and of the tables alike. Exit codes: 3 (an UnsafeStoreError) comes
before all of these, then 4, 1, 5, 0.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import UnsafeStoreError
from mdconnector.managed_domain import (
    Finding,
    ManagedDomain,
    Severity,
    SourceLine,
    VirtualHost,
)
from mdconnector.renewal import InstalledCertificate, LastError, Reason, State

if TYPE_CHECKING:
    from mdconnector.particulars import Particulars

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_UNSAFE_STORE = 3
EXIT_NOT_SERVED = 4
EXIT_NOT_THERE_YET = 5
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


class TreeEntry(NamedTuple):
    """One directive or section that is in force."""

    name: str
    """as written; of a section without `<`"""
    args: str
    """expanded, not split into words"""
    words: tuple[str, ...]
    at: SourceLine
    is_section: bool
    children: tuple[TreeEntry, ...]


class Paste(NamedTuple):
    """Lines to put into a virtual host."""

    domain: str
    vhost_at: str
    lines: tuple[str, ...]


class ScanResult(NamedTuple):
    """The result of scan."""

    domains: tuple[ManagedDomain, ...]
    findings: tuple[Finding, ...]
    assumptions: tuple[str, ...]
    who_renews: str
    """one sentence: mdconnector alone, or beside mod_md's watchdog"""
    store_path: str
    candidates: tuple[VirtualHost, ...] = ()
    """vhosts that could be managed, where nothing is"""
    pastes: tuple[Paste, ...] = ()
    """what vhosts lack that would serve a managed domain without mod_md"""
    tree: tuple[TreeEntry, ...] | None = None
    """what Apache reads, where that was asked for"""
    agrees: bool | None = None
    """whether Apache itself reads the same; None where it was not asked"""

    command: Literal["scan"] = "scan"

    @property
    def exit_code(self) -> int:
        """1 if a finding is an error, else 0."""
        errors = any(finding.severity is Severity.ERROR for finding in self.findings)
        return EXIT_FAILED if errors else EXIT_DONE


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
    in_full: Particulars | None = None
    """where it was asked for by name"""


class StatusResult(NamedTuple):
    """The result of status, most urgent first; `now` is what days are counted from."""

    domains: tuple[DomainStatus, ...]
    now: datetime

    command: Literal["status"] = "status"

    @property
    def exit_code(self) -> int:
        """Always 0: status tells, `status --check` judges."""
        return EXIT_DONE


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


class AccountAction(StrEnum):
    """What account is asked to do."""

    LIST = "list"
    SHOW = "show"
    ROLLOVER = "rollover"
    DEACTIVATE = "deactivate"
    RECOVER = "recover"
    IMPORT = "import"


class AccountOutcome(NamedTuple):
    """One account's line of account."""

    id: str
    """its folder in accounts/; "" where it has none"""
    ca_url: str = ""
    url: str = ""
    kid: str | None = None
    """of the external account binding; never its HMAC"""
    status: str = ""
    """RFC 8555's word for it: as it is stored, or as the CA has just said; "" where not known"""
    key_label: str = ""
    contact: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """the managed domains that use it"""
    detail: str = ""
    error: LastError | None = None
    is_change: bool = False
    """something is different now, here or at the CA"""


class AccountRun(NamedTuple):
    """The result of account."""

    action: AccountAction
    accounts: tuple[AccountOutcome, ...]

    command: Literal["account"] = "account"

    @property
    def exit_code(self) -> int:
        """1 something went wrong with an account, else 0."""
        return EXIT_FAILED if any(one.error for one in self.accounts) else EXIT_DONE


Result = ScanResult | OrderRun | PromoteRun | StatusResult | RevocationRun | AccountRun
