"""Which sets are to be promoted: staged ones that are verified once more, their bytes in memory.

Rules: our own set is read from its root-only copy in pending/, never from staging; one that is not
ours is read once, through folder handles. What Apache refused before is promoted by --force only.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from mdconnector.certificates import CertificateFacts, Credential, verify_set
from mdconnector.errors import CertificateError, HttpdError, MdConnectorError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes.promote import Promoted, PromotionOutcome
from mdconnector.planning import news, told_key
from mdconnector.printable import printable
from mdconnector.renewal import LastError
from mdconnector.stock import WAS_REVOKED, Stock, describe_keys, local_time
from mdconnector.store import promotion
from mdconnector.store.accounts import merge_staged_account
from mdconnector.store.pending import Pending
from mdconnector.store.staged import read_staged_credentials
from mdconnector.store.tree import Store


class Candidate(NamedTuple):
    """A staged set that may go live, its bytes in memory."""

    stock: Stock
    credentials: tuple[Credential, ...]
    ca_url: str
    account_id: str | None
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The managed domain's name."""
        return self.stock.domain.name

    @property
    def facts(self) -> tuple[CertificateFacts, ...]:
        """The new certificates."""
        return tuple(credential.facts for credential in self.credentials)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The SHA-256 of the new leaves."""
        return tuple(facts.sha256 for facts in self.facts)


def sort_out(store: Store, stock: Stock, *, force: bool) -> Candidate | PromotionOutcome:
    """Return the set to promote, or the outcome of a domain that has none."""
    name = stock.domain.name
    if stock.trouble is not None:
        return failed(stock, stock.trouble)
    if stock.rubbish is not None:
        why = f"{stock.rubbish.path}: {stock.rubbish.why}"
        hint = f"'mdconnector renew {name}' sets it aside and orders anew"
        return failed(stock, CertificateError(why, hint=hint))
    if stock.found is None:
        refused = _refused_candidate(store, stock) if force else None
        if refused is None or _is_revoked(stock, refused):
            return _nothing_staged(stock)
        return refused
    if stock.found.staged.fault is not None:
        why = f"the staged set is refused: {stock.found.staged.fault}"
        hint = f"'mdconnector renew {name}' orders anew"
        return failed(stock, CertificateError(why, hint=hint))
    try:
        candidate = _candidate(store, stock)
    except MdConnectorError as error:
        return failed(stock, error)
    if candidate is None:
        return _nothing_staged(stock)
    if _is_revoked(stock, candidate):
        hint = f"'mdconnector renew {name}' orders anew"
        return failed(stock, CertificateError(f"the set is refused: {WAS_REVOKED}", hint=hint))
    if stock.record.refuses(candidate.fingerprints) and not force:
        reason = stock.record.rollback.reason if stock.record.rollback else ""
        hint = f"mend it, then: mdconnector promote {name} --reload --force"
        return failed(stock, HttpdError(f"Apache refused this set before: {reason}", hint=hint))
    return candidate


def _is_revoked(stock: Stock, candidate: Candidate) -> bool:
    return any(sha256 in stock.record.revoked for sha256 in candidate.fingerprints)


def _candidate(store: Store, stock: Stock) -> Candidate | None:
    """Read the set to promote: ours from its root-only copy, any other once by handles.

    None where mod_md has activated it meanwhile.
    """
    domain, found = stock.domain, stock.found
    ca_url = domain.effective_ca_urls[0]
    account_id: str | None = None
    if found is not None and found.staged.is_ours:
        pending = Pending.load(store, domain)
        credentials = pending.credentials()
        if pending.note is not None:
            ca_url, account_id = pending.note.ca_url, pending.note.account_id
    else:
        account_id = _merge_account(store, domain)
        credentials = read_staged_credentials(store, domain)
        if not credentials:
            return None
        if found is not None and found.md is not None:
            ca_url = found.md.ca_url or ca_url
            account_id = account_id or found.md.account_id
    verdict = verify_set(domain, credentials, live=stock.serving, now=stock.now)
    if verdict.refusals:
        raise CertificateError(f"the staged set is refused: {'; '.join(verdict.refusals)}")
    return Candidate(stock, credentials, ca_url, account_id, verdict.warnings)


def _refused_candidate(store: Store, stock: Stock) -> Candidate | None:
    """Return the set that Apache refused before, which --force promotes once more.

    None where a newer one has come meanwhile and serves.
    """
    domain = stock.domain
    credentials = promotion.refused_credentials(store, domain, stock.now)
    verdict = verify_set(domain, credentials, live=stock.serving, now=stock.now)
    if verdict.refusals:
        return None
    return Candidate(stock, credentials, domain.effective_ca_urls[0], None, verdict.warnings)


def _merge_account(store: Store, domain: ManagedDomain) -> str | None:
    staging = store.staging()
    if staging is None:
        return None
    with staging:
        folder = staging.open(domain.name, owners=store.owners.staging)
    if folder is None:
        return None
    with folder:
        account = merge_staged_account(store, folder)
    return account.id if account else None


def nothing_at_all(name: str) -> str:
    """Say that a domain has neither a staged set nor a live one that fits."""
    return f"nothing is staged, and nothing live fits; obtain it: mdconnector renew {name}"


def _nothing_staged(stock: Stock) -> PromotionOutcome:
    facts = stock.serving
    if not facts:
        detail = nothing_at_all(stock.domain.name)
        return PromotionOutcome(stock.domain.name, Promoted.NOTHING_STAGED, detail, is_missing=True)
    until = local_time(min(one.not_after for one in facts))
    detail = f"nothing is staged; {describe_keys(facts)} is live, valid until {until}"
    return PromotionOutcome(stock.domain.name, Promoted.NOTHING_STAGED, detail, certificates=facts)


def failed(stock: Stock, error: MdConnectorError) -> PromotionOutcome:
    """Return the outcome of a domain whose set cannot be promoted."""
    last = last_error_of(error, stock.now)
    is_news, _ = news(stock.record, told_key(last), stock.now)
    return PromotionOutcome(
        stock.domain.name, Promoted.FAILED, last.detail, error=last, is_news=is_news
    )


def last_error_of(error: MdConnectorError, now: datetime) -> LastError:
    """Return an error as it is kept and shown."""
    return LastError(error.type, printable(str(error), 1000), error.hint, now)
