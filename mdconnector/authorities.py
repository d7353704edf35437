"""The CAs of one run: a session with each, their remembered directories, and our accounts there.

Rules: one registration at a time for a directory URL and binding. The key is durable before the CA
hears of it, and every stored account is looked at first: a binding may be good for one use only.
An account that the CA has stopped, refused or asked to wait is not used again in the run; it stays
stored as it is, because another key would need another binding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http import HTTPStatus

from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme import resources
from mdconnector.acme.advice import (
    ACCOUNT_DOES_NOT_EXIST,
    INVALID_CONTACT,
    UNSUPPORTED_CONTACT,
    stops_account,
)
from mdconnector.acme.answers import Directory, parse_directory
from mdconnector.acme.jws import decode_hmac
from mdconnector.acme.lifecycle import is_key_of
from mdconnector.acme.resources import Account
from mdconnector.acme.session import Session
from mdconnector.errors import (
    CaError,
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    CertificateError,
    ConfigurationError,
    StoreError,
)
from mdconnector.keys import generate_account_key
from mdconnector.managed_domain import CaAccess, ExternalAccount, ManagedDomain
from mdconnector.printable import printable
from mdconnector.renewal import MAX_HOLD, AccountHold, LastError
from mdconnector.store import accounts as account_files
from mdconnector.store import directories, key_changes
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store
from mdconnector.warning import warn

Clock = Callable[[], datetime]


class Sessions:
    """The sessions with all CAs; without a store, or with one to read, nothing is remembered."""

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._store = store
        self.clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str, CaAccess], Session] = {}

    def session_for(self, domain: ManagedDomain, ca_url: str) -> Session:
        """Return the session with a CA by the proxy and the trust that the domain asks for."""
        return self.session_at(ca_url, domain.ca_access)

    def session_at(self, ca_url: str, access: CaAccess) -> Session:
        """Return the session with a CA that is reached this way."""
        key = (ca_url, access)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(
                    ca_url,
                    ca_certificates=access.ca_certificates,
                    proxy_url=access.proxy_url,
                    proxy_ca_certificates=access.proxy_ca_certificates,
                    remembered=self._remembered(ca_url),
                )
            return self._sessions[key]

    def close(self) -> None:
        """Remember what the directories offered, and close all connections."""
        for session in self._sessions.values():
            if session.directory_is_fresh:
                self._remember(session)
            session.close()

    def _remember(self, session: Session) -> None:
        store = self._store
        if store is None or store.read_only:
            return
        url, offered = session.directory_url, session.directory().to_json()
        try:
            directories.save_directory(store, url, offered, self.clock())
        except StoreError as error:
            warn(f"what {session.host} offers is not remembered: {error}")

    def _remembered(self, ca_url: str) -> Directory | None:
        if self._store is None:
            return None
        kept = directories.load_directory(self._store, ca_url, self.clock())
        try:
            return parse_directory(kept, url=ca_url) if kept else None
        except CaProtocolError:
            # Whatever it was that got into the store, the CA will tell.
            return None


class Accounts:
    """Our accounts at the CAs: stored ones, and those that this run registers.

    `domains` are all that the configuration declares: an account keeps the contact of any of them.
    """

    def __init__(
        self, store: Store, sessions: Sessions, domains: Iterable[ManagedDomain] = ()
    ) -> None:
        self.sessions = sessions
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[_Key, tuple[StoredAccount, Account]] = {}
        self._registering: dict[tuple[str, str | None], threading.Lock] = {}
        self._registered_again: set[_Key] = set()
        self._sought: dict[_Key, Account | None] = {}
        """what the CA said when it was asked for an account by its key"""
        self._stopped: dict[_Key, CaError] = {}
        self._remarks: dict[_Key, str] = {}
        self._contacts: dict[_Key, set[str]] = {}
        for domain in domains:
            for url in domain.effective_ca_urls if domain.contact else ():
                self._contacts.setdefault(_key(domain, url), set()).add(domain.contact or "")

    def account_for(self, domain: ManagedDomain, ca_url: str) -> tuple[str, Account]:
        """Return the account's id and the account: a stored one, else a new registration.

        Raises the error that stopped the account in this run, without a request.
        """
        key = _key(domain, ca_url)
        with self._lock:
            registering = self._registering.setdefault((ca_url, _kid(domain)), threading.Lock())
        with registering:
            if key in self._stopped:
                raise self._stopped[key]
            if key not in self._known:
                self._known[key] = self._found(domain, ca_url)
            stored, account = self._known[key]
            return stored.id, account

    def note_failure(self, domain: ManagedDomain, ca_url: str, error: CaError) -> CaError:
        """Let an error that concerns the whole account stop its work in this run.

        Returns the error to tell: where the account had been stopped meanwhile, the one that
        stopped it, so that there is one message for all its domains. Where the CA says how long it
        wants to be left alone, later runs are told too.
        """
        wish = wish_to_wait(error)
        is_refused = isinstance(error, CaProblemError) and stops_account(error.detail)
        if wish is None and not is_refused:
            return error
        with self._lock:
            first = self._stopped.setdefault(_key(domain, ca_url), error)
            first.stops_account = True
        if first is error and wish is not None:
            self._hold(domain, ca_url, error, wish)
        return first

    def _hold(self, domain: ManagedDomain, ca_url: str, error: CaError, wish: timedelta) -> None:
        now = self.sessions.clock()
        why = LastError(error.type, printable(str(error), 1000), error.hint, now)
        hold = AccountHold(now + min(wish, MAX_HOLD), why)
        try:
            directories.save_hold(self._store, ca_url, _kid(domain), hold)
        except StoreError as unnoted:
            warn(f"that the CA asked to wait is not remembered: {unnoted}")

    def remarks_on(self, domain: ManagedDomain, ca_url: str) -> tuple[str, ...]:
        """Return what went wrong with the account without stopping anything."""
        remark = self._remarks.get(_key(domain, ca_url))
        return (remark,) if remark else ()

    def _found(self, domain: ManagedDomain, ca_url: str) -> tuple[StoredAccount, Account]:
        stored = self._stored(domain, ca_url)
        if stored is not None:
            return self._with_contact(domain, ca_url, *stored)
        with self._stopping(domain, ca_url):
            return self._register(domain, ca_url)

    @contextmanager
    def _stopping(self, domain: ManagedDomain, ca_url: str) -> Iterator[None]:
        """Let a registration that has failed be the only one of the account in this run."""
        try:
            yield
        except (CaProblemError, CaUnreachableError) as error:
            # All others would be told the same, unless it is about this domain's own address.
            if error.type not in (INVALID_CONTACT, UNSUPPORTED_CONTACT):
                error.stops_account = True
                self._stopped[_key(domain, ca_url)] = error
            raise

    def _with_contact(
        self, domain: ManagedDomain, ca_url: str, stored: StoredAccount, account: Account
    ) -> tuple[StoredAccount, Account]:
        """Tell the CA another contact where no domain has the old one any more."""
        key, contact = _key(domain, ca_url), domain.contact
        if contact is None or ({contact} | self._contacts.get(key, set())) & set(stored.contact):
            return stored, account
        session = self.sessions.session_for(domain, ca_url)
        try:
            resources.update_contact(session, account, contact)
        except CaProblemError as error:
            if stops_account(error.detail):
                raise
            if error.type != ACCOUNT_DOES_NOT_EXIST:
                self._remarks[key] = f"the account's contact is still the old one: {error}"
            return stored, account
        except (CaProtocolError, CaUnreachableError) as error:
            self._remarks[key] = f"the account's contact may still be the old one: {error}"
            return stored, account
        changed = stored._replace(contact=(contact,))
        return account_files.save_account(self._store, changed, account.key), account

    def look_again(
        self, domain: ManagedDomain, ca_url: str, doubted: Account, doubt: CaError
    ) -> Account | None:
        """Ask the CA for the account by its key, once in a run; None where it knows none.

        Where it calls the account by another URL, that is stored and used from now on. Raises
        `doubt` where the CA does not say.
        """
        key = _key(domain, ca_url)
        with self._registering[ca_url, _kid(domain)]:
            if key in self._stopped:
                raise self._stopped[key]
            stored, known = self._known[key]
            if known.url != doubted.url:
                return known
            if key not in self._sought:
                session = self.sessions.session_for(domain, ca_url)
                try:
                    found = resources.find_account(session, known.key)
                except CaError:
                    raise doubt from None
                self._sought[key] = found
                if found is not None and found.url != known.url:
                    self._put_in_place(domain, ca_url, stored, found)
            return self._sought[key]

    def replace_lost(
        self, domain: ManagedDomain, ca_url: str, lost: Account, error: CaProblemError
    ) -> None:
        """Put another account in the place of one that the CA does not know by its URL.

        That is the same one by the URL that the CA has for its key, else a stored one that the CA
        knows, else a new one with the same key; once in a run. Raises the error that stopped the
        account without a request; `error` where the CA knows the account, or it was in vain.
        """
        found = self.look_again(domain, ca_url, lost, error)
        if found is not None:
            if found.url == lost.url:
                raise error
            return
        key = _key(domain, ca_url)
        with self._registering[ca_url, _kid(domain)]:
            if key in self._stopped:
                raise self._stopped[key]
            stored, known = self._known[key]
            if known.url != lost.url:
                return
            if key in self._registered_again:
                error.stops_account = True
                self._stopped[key] = error
                raise error
            self._registered_again.add(key)
            other = self._other_known(domain, ca_url, stored)
            if other is not None:
                self._known[key] = other
                return
            with self._stopping(domain, ca_url):
                account = self._announce(domain, ca_url, lost)
            self._put_in_place(domain, ca_url, stored, account)

    def _put_in_place(
        self, domain: ManagedDomain, ca_url: str, lost: StoredAccount, account: Account
    ) -> None:
        stored = lost
        if account.url != lost.url:
            account_files.mark_account(self._store, lost, "unknown")
            stored = self._save(account, domain, ca_url)
        self._known[_key(domain, ca_url)] = (stored, account)

    def _other_known(
        self, domain: ManagedDomain, ca_url: str, lost: StoredAccount
    ) -> tuple[StoredAccount, Account] | None:
        """Look for another stored account that the CA knows: registering may cost a binding."""
        session = self.sessions.session_for(domain, ca_url)
        for stored, kept in _usable_accounts(self._store, ca_url, domain.eab):
            if stored.url == lost.url:
                continue
            account = with_true_key(self._store, session, stored.id, kept) if stored.id else kept
            if not _is_known(session, account):
                continue
            account_files.mark_account(self._store, lost, "unknown")
            if not stored.id:
                stored = account_files.save_account(self._store, stored, account.key)  # noqa: PLW2901
            return stored, account
        return None

    def _stored(self, domain: ManagedDomain, ca_url: str) -> tuple[StoredAccount, Account] | None:
        for stored, account in _usable_accounts(self._store, ca_url, domain.eab):
            if not stored.id:
                return account_files.save_account(self._store, stored, account.key), account
            session = self.sessions.session_for(domain, ca_url)
            return stored, with_true_key(self._store, session, stored.id, account)
        return None

    def _register(self, domain: ManagedDomain, ca_url: str) -> tuple[StoredAccount, Account]:
        _require_contact(domain)
        if domain.eab is not None:
            decode_hmac(domain.eab.hmac)  # raises before a key is made and the CA is asked
        made: list[rsa.RSAPrivateKey] = []

        def make_key() -> rsa.RSAPrivateKey:
            made.append(generate_account_key())
            return made[-1]

        key = account_files.begin_account(self._store, ca_url, domain.eab, make_key)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise CertificateError("the account key that was being registered is not RSA")
        # The key of a run that was killed may have its account already: no binding is spent then.
        session = self.sessions.session_for(domain, ca_url)
        account = None if made else resources.find_account(session, key)
        account = account or self._announce(domain, ca_url, Account(url="", key=key))
        return self._save(account, domain, ca_url), account

    def _save(self, account: Account, domain: ManagedDomain, ca_url: str) -> StoredAccount:
        eab = domain.eab
        stored = StoredAccount(
            id="",
            url=account.url,
            ca_url=ca_url,
            status=account.status,
            # what was told where the CA does not repeat it, so that it is not told again
            contact=account.contact or ((domain.contact,) if domain.contact else ()),
            orders=account.orders_url,
            eab_kid=eab.kid if eab else None,
            eab_hmac=eab.hmac if eab else None,
        )
        return account_files.save_account(self._store, stored, account.key)

    def _announce(self, domain: ManagedDomain, ca_url: str, account: Account) -> Account:
        return resources.register_account(
            self.sessions.session_for(domain, ca_url),
            account.key,
            contact=domain.contact,
            terms_agreed=domain.agreement is not None,
            eab=domain.eab,
        )


def look_for_account(
    store: Store | None, sessions: Sessions, domain: ManagedDomain, ca_url: str
) -> str:
    """Ask the CA, changing nothing there or here; return as whom an order would be placed.

    Raises what the order would run into: a CA that cannot be reached or trusted, and what is
    missing for a new account.
    """
    session = sessions.session_for(domain, ca_url)
    directory = session.directory()
    known = () if store is None else _usable_accounts(store, ca_url, domain.eab)
    for stored, kept in known:
        where = stored.id or "an account that mod_md left in staging"
        account = kept
        if stored.id and store is not None:
            account = with_true_key(store, session, stored.id, kept)
        if resources.find_account(session, account.key) is not None:
            return f"as {where}, which the CA knows"
        return f"the CA does not know {where} any more, so its key would be registered again"
    _require_contact(domain)
    resources.require_what_ca_asks(
        directory, terms_agreed=domain.agreement is not None, eab=domain.eab
    )
    bound = f", bound to {printable(domain.eab.kid, 80)}" if domain.eab else ""
    return f"as a new account{bound}"


def _is_known(session: Session, account: Account) -> bool:
    try:
        return resources.find_account(session, account.key) is not None
    except CaProblemError:
        # known perhaps, but not to be used
        return False


def with_true_key(store: Store, session: Session, account_id: str, account: Account) -> Account:
    """Return a stored account with the key that is its own by the CA's word.

    Where a change of its key was begun and not finished, the CA is asked, and the change finished
    if it took place.
    """
    new_key = key_changes.new_key_of(store, account_id)
    if new_key is None or not is_key_of(session, new_key, account.url):
        return account
    if not store.read_only:
        key_changes.finish_key_change(store, account_id, new_key)
    return account._replace(key=new_key)


def _usable_accounts(
    store: Store, ca_url: str, eab: ExternalAccount | None
) -> Iterable[tuple[StoredAccount, Account]]:
    """Yield the stored accounts that fit, best first; the keys of all of mod_md's are RSA."""
    for stored, key in account_files.find_accounts(store, ca_url, eab):
        if isinstance(key, rsa.RSAPrivateKey):
            yield stored, Account(url=stored.url, key=key, orders_url=stored.orders)


_Key = tuple[str, ExternalAccount | None]
"""kid and HMAC: another HMAC is another account to mod_md, and one of the two is wrong"""


def _key(domain: ManagedDomain, ca_url: str) -> _Key:
    return ca_url, domain.eab


def _kid(domain: ManagedDomain) -> str | None:
    return domain.eab.kid if domain.eab else None


def wish_to_wait(error: CaError) -> timedelta | None:
    """Return how long the CA wants to be left alone by this account, where it says so."""
    is_asked = isinstance(error, CaUnreachableError) or (
        isinstance(error, CaProblemError) and error.status == HTTPStatus.TOO_MANY_REQUESTS
    )
    if not is_asked or not error.retry_after_seconds:
        return None
    return timedelta(seconds=error.retry_after_seconds)


def _require_contact(domain: ManagedDomain) -> None:
    if domain.contact is None:
        raise ConfigurationError(
            "no contact address is configured, so no account can be registered",
            at=str(domain.declared_at),
            hint="write 'MDContactEmail hostmaster@example.org' with your address",
        )
