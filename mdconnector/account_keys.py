"""Accounts and their keys: shown, changed, ended, found again, taken over from other clients.

Rules: an account is whose key its CA says it is; nothing is stored that the CA has not confirmed. A
new key is durable before the CA hears of it. Only RSA keys are stored, because mod_md can use no
other. What goes wrong with one account is its outcome and stops no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.account_overview import described, error_of, stored_outcome, users_of
from mdconnector.acme.lifecycle import (
    change_key,
    deactivate_account,
    fetch_account,
    is_key_of,
    require_key_change,
)
from mdconnector.acme.resources import Account, find_account
from mdconnector.acme.session import Session
from mdconnector.authorities import Sessions, with_true_key
from mdconnector.errors import (
    CaProblemError,
    CertificateError,
    ConfigurationError,
    MdConnectorError,
    StoreError,
    UnsafeStoreError,
)
from mdconnector.foreign_accounts import ForeignAccount
from mdconnector.keys import MIN_RSA_BITS, PrivateKey, generate_account_key, label_of_key
from mdconnector.managed_domain import CaAccess, ExternalAccount, ManagedDomain
from mdconnector.outcomes.account import AccountOutcome
from mdconnector.store.account_folders import (
    AccountFolder,
    PendingRegistration,
    pending_registrations,
    restore_account,
)
from mdconnector.store.accounts import (
    account_prefix,
    begin_account,
    find_accounts,
    mark_account,
    save_account,
    staged_copies,
)
from mdconnector.store.key_changes import (
    begin_key_change,
    drop_key_change,
    finish_key_change,
)
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store


class Desk(NamedTuple):
    """What work on accounts needs: where they lie, who uses them, how their CAs are reached."""

    store: Store
    sessions: Sessions
    domains: tuple[ManagedDomain, ...]
    access: CaAccess
    """the main server's, for a CA that no domain uses"""
    now: datetime

    def session(self, ca_url: str) -> Session:
        """Return the session with a CA, reached as the first domain that uses it says."""
        users = (domain for domain in self.domains if ca_url in domain.effective_ca_urls)
        first = next(users, None)
        return self.sessions.session_at(ca_url, first.ca_access if first else self.access)


def show(desk: Desk, folder: AccountFolder) -> AccountOutcome:
    """Ask the CA how it sees an account; nothing is changed, here or there."""
    outcome = stored_outcome(desk.store, folder, desk.domains, desk.now)

    def ask() -> AccountOutcome:
        stored, account = _whole(folder)
        session = desk.session(stored.ca_url)
        found = fetch_account(session, with_true_key(desk.store, session, stored.id, account))
        seen = stored._replace(status=found.status, contact=found.contact or stored.contact)
        shown = described(outcome, seen, outcome.domains)
        if found.status == stored.status:
            return shown
        return shown._replace(detail=f"stored here as {stored.status}")

    return _with_error(desk, outcome, ask)


def roll_over(desk: Desk, folder: AccountFolder) -> AccountOutcome:
    """Give an account a new key, at the CA and in the store."""
    outcome = stored_outcome(desk.store, folder, desk.domains, desk.now)

    def work() -> AccountOutcome:
        stored, account = _whole(folder)
        copies = staged_copies(desk.store, stored.url)
        if copies:
            raise StoreError(
                "mod_md left a copy of the account there, with its old key, and would put it back",
                path=copies[0],
                hint="promote that set first: mdconnector promote --all --reload",
            )
        session = desk.session(stored.ca_url)
        require_key_change(session)
        key, is_new = begin_key_change(desk.store, stored.id, generate_account_key)
        if is_new or not is_key_of(session, key, stored.url):
            _change(desk, session, account, key, stored.id if is_new else "")
        finish_key_change(desk.store, stored.id, key)
        words = "its key was changed; the old one is of no use any more"
        return outcome._replace(key_label=label_of_key(key), detail=words, is_change=True)

    return _with_error(desk, outcome, work)


def _change(
    desk: Desk, session: Session, account: Account, key: PrivateKey, forgotten: str
) -> None:
    """Change an account's key; one that the CA refuses is `forgotten`, by the account's id.

    What an earlier run has sent may still arrive, so its key is kept.
    """
    try:
        change_key(session, account, key)
    except CaProblemError:
        if is_key_of(session, key, account.url):
            return
        if forgotten:
            drop_key_change(desk.store, forgotten)
        raise


def deactivate(desk: Desk, folder: AccountFolder) -> AccountOutcome:
    """End an account at the CA, and mark it here so that nobody uses it again."""
    outcome = stored_outcome(desk.store, folder, desk.domains, desk.now)

    def work() -> AccountOutcome:
        stored, account = _whole(folder)
        session = desk.session(stored.ca_url)
        account = with_true_key(desk.store, session, stored.id, account)
        is_new = deactivate_account(session, account)
        marked = mark_account(desk.store, stored, "deactivated")
        words = "it is deactivated for ever" if is_new else "it was deactivated before"
        return described(outcome, marked, outcome.domains)._replace(detail=words, is_change=True)

    return _with_error(desk, outcome, work)


# --- recover -------------------------------------------------------------------------------------


def recover_folder(
    desk: Desk, folder: AccountFolder, users: Sequence[ManagedDomain]
) -> AccountOutcome:
    """Find out whose account a stored key is, and write its account.json anew.

    One whose CA and binding are lost too is stored for the domains that are to use it.
    """
    outcome = stored_outcome(desk.store, folder, desk.domains, desk.now)

    def work() -> AccountOutcome:
        if folder.key is None or not isinstance(folder.key, rsa.RSAPrivateKey):
            raise folder.fault or StoreError("it is no folder of an account", path=folder.id)
        known = folder.account
        urls = [known.ca_url] if known else _ca_urls(users, folder.id)
        if not urls:
            raise ConfigurationError(
                f"no managed domain uses a CA that {folder.id} may be an account of",
                hint="write its MDCertificateAuthority, then try again",
            )
        ca_url, found = _find(desk, urls, folder.key)
        if known:
            bound = ExternalAccount(known.eab_kid, known.eab_hmac or "") if known.eab_kid else None
        else:
            bound = _binding(users, ca_url)
        account = _stored(folder.id, ca_url, found, bound)
        if known:
            account = account._replace(agreement=known.agreement)
        restore_account(desk.store, account)
        words = "found at the CA by its key, and stored again"
        found_outcome = outcome._replace(detail=words, error=None, is_change=True)
        return described(found_outcome, account, users_of(desk.domains, account))

    return _with_error(desk, outcome, work)


def recover_registration(desk: Desk, pending: PendingRegistration) -> AccountOutcome:
    """Find out whether a key whose registration was cut short has its account; store that."""
    outcome = AccountOutcome(
        "", ca_url=pending.ca_url, kid=pending.kid, key_label=label_of_key(pending.key)
    )

    def work() -> AccountOutcome:
        found = find_account(desk.session(pending.ca_url), pending.key)
        if found is None:
            words = "not registered yet; the next order does it"
            return outcome._replace(detail=words)
        bound = _binding(desk.domains, pending.ca_url, kid=pending.kid, is_kid_known=True)
        account = save_account(desk.store, _stored("", pending.ca_url, found, bound), pending.key)
        words = "what was begun with its key was cut short; found at the CA, and stored"
        done = outcome._replace(detail=words, is_change=True)
        return described(done, account, users_of(desk.domains, account))

    return _with_error(desk, outcome, work)


def _ca_urls(users: Sequence[ManagedDomain], account_id: str) -> list[str]:
    """Return the domains' CAs whose accounts are called like this one."""
    urls = dict.fromkeys(url for domain in users for url in domain.effective_ca_urls)
    return [url for url in urls if account_id.startswith(account_prefix(url))]


# --- import --------------------------------------------------------------------------------------


def take_over(
    desk: Desk,
    foreign: ForeignAccount,
    *,
    users: Sequence[ManagedDomain],
    changes_key: bool,
) -> AccountOutcome:
    """Store another client's account for the domains that are to use it.

    With `changes_key` it gets a new key at the CA first, and the other client has none any more.
    """
    outcome = AccountOutcome("", key_label=label_of_key(foreign.key))

    def work() -> AccountOutcome:
        if not changes_key:
            _require_fit_key(foreign.key)
        ca_urls = _ca_urls_for(users, foreign)
        begun = _begun(desk, ca_urls) if changes_key else None
        if begun is not None:
            return begun
        ca_url, found = _find(desk, ca_urls, foreign.key)
        bound = _binding(users, ca_url, kid=foreign.kid)
        key = _with_new_key(desk, ca_url, found, bound) if changes_key else foreign.key
        account = save_account(desk.store, _stored("", ca_url, found, bound), key)
        notes = list(_notes_on_import(desk, foreign, account, bound, changes_key=changes_key))
        done = outcome._replace(
            key_label=label_of_key(key),
            detail="; ".join(["confirmed by the CA, and stored", *notes]),
            is_change=True,
        )
        return described(done, account, users_of(desk.domains, account))

    return _with_error(desk, outcome, work)


def _begun(desk: Desk, ca_urls: Sequence[str]) -> AccountOutcome | None:
    """Finish an import that was cut short after the account's key had been changed."""
    for pending in pending_registrations(desk.store):
        if pending.ca_url in ca_urls:
            outcome = recover_registration(desk, pending)
            if outcome.is_change:
                return outcome
    return None


def _require_fit_key(key: PrivateKey) -> None:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= MIN_RSA_BITS:
        return
    why = "mod_md can use RSA keys alone"
    if isinstance(key, rsa.RSAPrivateKey):
        why = f"fewer than {MIN_RSA_BITS} bits are too weak"
    raise CertificateError(
        f"the account's key is {label_of_key(key)}, and {why}",
        hint="add --change-key: the account gets a new RSA key at the CA, and the client that "
        "has the old one cannot use the account any more",
    )


def _ca_urls_for(users: Sequence[ManagedDomain], foreign: ForeignAccount) -> list[str]:
    urls = list(dict.fromkeys(url for domain in users for url in domain.effective_ca_urls))
    if foreign.ca_url is None:
        return urls
    if foreign.ca_url not in urls:
        raise ConfigurationError(
            f"no managed domain uses the account's CA {foreign.ca_url}",
            hint=f"write 'MDCertificateAuthority {foreign.ca_url}', or name the key file alone",
        )
    return [foreign.ca_url]


def _with_new_key(
    desk: Desk, ca_url: str, found: Account, bound: ExternalAccount | None
) -> PrivateKey:
    """Change the key of an account that is not stored yet.

    The new key waits where one that is being registered does: whatever happens, the next order or
    the next import finds the account by it.
    """
    session = desk.session(ca_url)
    require_key_change(session)
    key = begin_account(desk.store, ca_url, bound, generate_account_key)
    change_key(session, found, key)
    return key


def _notes_on_import(
    desk: Desk,
    foreign: ForeignAccount,
    account: StoredAccount,
    bound: ExternalAccount | None,
    *,
    changes_key: bool,
) -> Iterator[str]:
    first, *_ = find_accounts(desk.store, account.ca_url, bound)
    if first[0].id != account.id:
        yield f"{first[0].id} is of the same CA and binding, and is used before it"
    if changes_key:
        yield f"its key was changed, so {foreign.path} is of no use any more"
    elif foreign.is_open:
        yield (
            f"others may have read {foreign.path}: "
            f"mdconnector account rollover {account.id} gives it a new key"
        )


# --- what several of them do ---------------------------------------------------------------------


def _whole(folder: AccountFolder) -> tuple[StoredAccount, Account]:
    """Return an account that has both its files. Raises what is wrong with it."""
    if folder.fault is not None:
        raise folder.fault
    if folder.account is None or folder.key is None:
        raise StoreError("it is no folder of an account", path=folder.id)
    return folder.account, Account(url=folder.account.url, key=folder.key)


def _find(desk: Desk, ca_urls: Sequence[str], key: PrivateKey) -> tuple[str, Account]:
    """Ask each CA for the key's account, and return the first that has it."""
    failure: MdConnectorError | None = None
    for ca_url in ca_urls:
        try:
            found = find_account(desk.session(ca_url), key)
        except MdConnectorError as error:
            failure = failure or error
            continue
        if found is not None:
            return ca_url, found
    if failure is not None:
        raise failure
    raise CertificateError(
        f"no account has this key at {', '.join(ca_urls)}",
        hint="compare MDCertificateAuthority with the directory that the account was made at",
    )


def _binding(
    domains: Sequence[ManagedDomain],
    ca_url: str,
    *,
    kid: str | None = None,
    is_kid_known: bool = False,
) -> ExternalAccount | None:
    """Return the binding that the domains have at a CA: the account is stored with it.

    No CA says which binding an account was made with. Raises ConfigurationError where the domains
    have several.
    """
    bindings = list(
        dict.fromkeys(domain.eab for domain in domains if ca_url in domain.effective_ca_urls)
    )
    same = [eab for eab in bindings if (eab.kid if eab else None) == kid]
    if same and (kid is not None or is_kid_known):
        return same[0]
    if len(bindings) > 1:
        raise ConfigurationError(
            f"managed domains have several bindings at {ca_url}, and the account is for one",
            hint="say for which domain it is: --for NAME",
        )
    return bindings[0] if bindings else None


def _stored(
    account_id: str, ca_url: str, found: Account, bound: ExternalAccount | None
) -> StoredAccount:
    return StoredAccount(
        id=account_id,
        url=found.url,
        ca_url=ca_url,
        status=found.status,
        contact=found.contact,
        orders=found.orders_url,
        eab_kid=bound.kid if bound else None,
        eab_hmac=bound.hmac if bound else None,
    )


def _with_error(
    desk: Desk, outcome: AccountOutcome, work: Callable[[], AccountOutcome]
) -> AccountOutcome:
    try:
        return work()
    except UnsafeStoreError:
        raise
    except MdConnectorError as error:
        return outcome._replace(error=error_of(error, desk.now))
