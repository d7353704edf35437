"""The CAs of one run: a session with each, their remembered directories, and our accounts there.

Rules: one registration at a time for a directory URL and binding. The key is durable before the CA
hears of it, and every stored account is looked at first: a binding may be good for one use only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme import resources
from mdconnector.acme.answers import Directory, parse_directory
from mdconnector.acme.resources import Account
from mdconnector.acme.session import Session
from mdconnector.errors import CaProtocolError, CertificateError, ConfigurationError
from mdconnector.keys import generate_account_key
from mdconnector.managed_domain import ExternalAccount, ManagedDomain
from mdconnector.printable import printable
from mdconnector.store import accounts as account_files
from mdconnector.store import directories
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store

Clock = Callable[[], datetime]


class Sessions:
    """The sessions with all CAs; without a store, or with one to read, nothing is remembered."""

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[tuple[str | None, ...], Session] = {}

    def session_for(self, domain: ManagedDomain, ca_url: str) -> Session:
        """Return the session with a CA by the proxy and the trust that the domain asks for."""
        key = (ca_url, domain.ca_certificates, domain.proxy_url, domain.proxy_ca_certificates)
        with self._lock:
            if key not in self._sessions:
                self._sessions[key] = Session(
                    ca_url,
                    ca_certificates=domain.ca_certificates,
                    proxy_url=domain.proxy_url,
                    proxy_ca_certificates=domain.proxy_ca_certificates,
                    remembered=self._remembered(ca_url),
                )
            return self._sessions[key]

    def close(self) -> None:
        """Remember what the directories offered, and close all connections."""
        store = self._store
        for session in self._sessions.values():
            if session.directory_is_fresh and store is not None and not store.read_only:
                url, offered = session.directory_url, session.directory().to_json()
                directories.save_directory(store, url, offered, self._clock())
            session.close()

    def _remembered(self, ca_url: str) -> Directory | None:
        if self._store is None:
            return None
        kept = directories.load_directory(self._store, ca_url, self._clock())
        try:
            return parse_directory(kept, url=ca_url) if kept else None
        except CaProtocolError:
            # Whatever it was that got into the store, the CA will tell.
            return None


class Accounts:
    """Our accounts at the CAs: stored ones, and those that this run registers."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        self.sessions = sessions
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str | None], tuple[StoredAccount, Account]] = {}
        self._registering: dict[tuple[str, str | None], threading.Lock] = {}

    def account_for(self, domain: ManagedDomain, ca_url: str) -> tuple[str, Account]:
        """Return the account's id and the account: a stored one, else a new registration."""
        key = _key(domain, ca_url)
        with self._lock:
            registering = self._registering.setdefault(key, threading.Lock())
        with registering:
            if key not in self._known:
                self._known[key] = self._stored(ca_url, domain.eab) or self._register(
                    domain, ca_url
                )
            stored, account = self._known[key]
            return stored.id, account

    def register_again(self, domain: ManagedDomain, ca_url: str, lost: Account) -> Account:
        """Register the key of an account that the CA does not know any more."""
        key = _key(domain, ca_url)
        with self._registering[key]:
            stored, known = self._known[key]
            if known.url != lost.url:
                return known
            account = self._announce(domain, ca_url, lost)
            if account.url != lost.url:
                account_files.mark_account(self._store, stored, "unknown")
                stored = self._save(account, ca_url, domain.eab)
            self._known[key] = (stored, account)
            return account

    def _stored(
        self, ca_url: str, eab: ExternalAccount | None
    ) -> tuple[StoredAccount, Account] | None:
        for stored, account in _usable_accounts(self._store, ca_url, eab):
            if not stored.id:
                return account_files.save_account(self._store, stored, account.key), account
            return stored, account
        return None

    def _register(self, domain: ManagedDomain, ca_url: str) -> tuple[StoredAccount, Account]:
        _require_contact(domain)
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
        return self._save(account, ca_url, domain.eab), account

    def _save(self, account: Account, ca_url: str, eab: ExternalAccount | None) -> StoredAccount:
        stored = StoredAccount(
            id="",
            url=account.url,
            ca_url=ca_url,
            status=account.status,
            contact=account.contact,
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
    for stored, account in known:
        where = stored.id or "an account that mod_md left in staging"
        if resources.find_account(session, account.key) is not None:
            return f"as {where}, which the CA knows"
        return f"the CA does not know {where} any more, so its key would be registered again"
    _require_contact(domain)
    resources.require_what_ca_asks(
        directory, terms_agreed=domain.agreement is not None, eab=domain.eab
    )
    bound = f", bound to {printable(domain.eab.kid, 80)}" if domain.eab else ""
    return f"as a new account{bound}"


def _usable_accounts(
    store: Store, ca_url: str, eab: ExternalAccount | None
) -> Iterable[tuple[StoredAccount, Account]]:
    """Yield the stored accounts that fit, best first; the keys of all of mod_md's are RSA."""
    for stored, key in account_files.find_accounts(store, ca_url, eab):
        if isinstance(key, rsa.RSAPrivateKey):
            yield stored, Account(url=stored.url, key=key, orders_url=stored.orders)


def _key(domain: ManagedDomain, ca_url: str) -> tuple[str, str | None]:
    return ca_url, domain.eab.kid if domain.eab else None


def _require_contact(domain: ManagedDomain) -> None:
    if domain.contact is None:
        raise ConfigurationError(
            "no contact address is configured, so no account can be registered",
            at=str(domain.declared_at),
            hint="write 'MDContactEmail hostmaster@example.org' with your address",
        )
