"""ACME accounts: found as mod_md finds them, stored where mod_md finds ours.

    accounts/ACME-<host>-<NNNN>/account.json, account.pem   registered; shared with mod_md
    mdconnector/accounts/<hash>/key.pem, note.json          a key whose registration is under way
    staging/<name>/account.json, account.pem                mod_md's, until it activates the set

Rules: a key is durable before a CA hears of it, and stays until its account is stored, because a CA
may take an external binding only once. account.json is made exclusively and claims the number. A
stored account is never overwritten by what lies in staging, which Apache's user can write to. An
account that cannot be read is passed over with a warning where another one serves; where none
does, nothing is registered in its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from mdconnector.errors import CertificateError, StoreError, UnsafeStoreError
from mdconnector.keys import key_from_pem, key_to_pem, label_of_key, public_bytes
from mdconnector.store.folder import Folder, UnsafeEntryError
from mdconnector.store.records import (
    MAX_RECORD_BYTES,
    RecordError,
    StoredAccount,
    parse_account,
    render_account,
)
from mdconnector.store.tree import FILE_MODES, Store
from mdconnector.warning import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mdconnector.keys import PrivateKey
    from mdconnector.managed_domain import ExternalAccount

GROUP = "accounts"
ACCOUNT_FILE = "account.json"
KEY_FILE = "account.pem"
MAX_ACCOUNTS = 1000
MAX_MERGED = 100
"""with that many, none is taken from staging any more: Apache's user could fill the store"""

_PENDING_KEY = "key.pem"
_PENDING_NOTE = "note.json"
_MAX_KEY_BYTES = 64 * 1024
_MAX_HOST = 16
_BEGUN = re.compile(r"[0-9a-f]{32}")
_URL_WITH_HOST = re.compile(r"(?i:https?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?=[:/?]|$)")

AccountWithKey = tuple[StoredAccount, "PrivateKey"]


def find_accounts(
    store: Store, ca_url: str, eab: ExternalAccount | None
) -> tuple[AccountWithKey, ...]:
    """Return the valid accounts that may be used for this CA and binding, best first.

    Those in accounts/ come first, by number, then those that mod_md left in staging, which have no
    id yet: `save_account` gives them one. Each has still to be confirmed by the CA. Raises
    UnsafeStoreError where there is none but a damaged one.
    """
    damaged: list[StoreError] = []
    stored = list(_stored_accounts(store, ca_url, eab, damaged))
    urls = {account.url for account, _ in stored}
    staged = [found for found in _staged_accounts(store) if found[0].url not in urls]
    usable = tuple(
        (account, key)
        for account, key in (*stored, *staged)
        if account.status == "valid" and account.matches(ca_url, eab)
    )
    if damaged and not usable:
        first = damaged[0]
        raise UnsafeStoreError(first.message, path=first.path, hint=first.hint) from first
    for error in damaged:
        warn(f"{error}; it is passed over")
    return usable


def begin_account(
    store: Store, ca_url: str, eab: ExternalAccount | None, make_key: Callable[[], PrivateKey]
) -> PrivateKey:
    """Return the key to register with: durable now, new or left by a run that did not finish."""
    with store.make_own(GROUP, _pending_name(ca_url, eab.kid if eab else None)) as folder:
        pem = folder.read(_PENDING_KEY, max_bytes=_MAX_KEY_BYTES)
        if pem is not None:
            return _pending_key(folder, pem)
        key = make_key()
        note = {"ca_url": ca_url, "kid": eab.kid if eab else None}
        folder.write(_PENDING_NOTE, json.dumps(note, indent=2).encode() + b"\n", 0o600)
        folder.write(_PENDING_KEY, key_to_pem(key), 0o600)
        folder.sync()
        return key


def save_account(store: Store, account: StoredAccount, key: PrivateKey) -> StoredAccount:
    """Store a registered account in accounts/ and return it with its id; its pending key goes.

    An account of the same URL that is there already is completed, not doubled.
    """
    with store.numbering:
        saved = _known_account(store, account) or _claim(store, account)
    with store.make_in_group(GROUP, saved.id) as folder:
        folder.write(ACCOUNT_FILE, render_account(saved), FILE_MODES[GROUP])
        folder.write(KEY_FILE, key_to_pem(key, store.passphrase()), FILE_MODES[GROUP])
        folder.sync()
    _drop_pending(store, account, key)
    return saved


def drop_registered_keys(store: Store) -> None:
    """Drop keys that a killed run left beside their stored account, and folders without a key."""
    begun = store.own(GROUP)
    if begun is None:
        return
    with begun:
        names = [name for name in begun.names() if _BEGUN.fullmatch(name)]
        stored = _stored_keys(store) if names else frozenset()
        for name in names:
            folder = begun.open(name)
            if folder is None:
                continue
            with folder:
                pem = folder.read(_PENDING_KEY, max_bytes=_MAX_KEY_BYTES)
                is_worthless = pem is None or public_bytes(_pending_key(folder, pem)) in stored
            if is_worthless:
                begun.remove_tree(name)
                begun.sync()


def _stored_keys(store: Store) -> frozenset[bytes]:
    found = (load_account(store, account_id) for account_id in account_ids(store))
    return frozenset(public_bytes(key) for _, key in filter(None, found))


def mark_account(store: Store, account: StoredAccount, status: str) -> StoredAccount:
    """Store another status (`deactivated`, `revoked`, `unknown`), so that it is not used again."""
    marked = account._replace(status=status)
    if account.id:
        with store.make_in_group(GROUP, account.id) as folder:
            folder.write(ACCOUNT_FILE, render_account(marked), FILE_MODES[GROUP])
            folder.sync()
    return marked


def merge_staged_account(store: Store, folder: Folder) -> StoredAccount | None:
    """Take an account that mod_md left in a staging folder into accounts/; None where none is.

    Where mod_md would overwrite the first account of the same CA and binding, it gets a number of
    its own here: it may have been put into staging by Apache's user.
    """
    try:
        found = _read_account(store, folder, "", owners=store.owners.staging)
    except (UnsafeEntryError, RecordError, CertificateError) as error:
        warn(f"{folder.path}: the account in it cannot be used: {error}")
        return None
    if found is None or _host_of(found[0].ca_url) is None:
        return None
    account, key = found
    known = _known_account(store, account)
    if known is not None and _has_key(store, known):
        return known
    if len(account_ids(store)) >= MAX_MERGED:
        warn(f"{folder.path}: the account in it is not kept: there are too many")
        return None
    return save_account(store, account, key)


def staged_copies(store: Store, url: str) -> tuple[str, ...]:
    """Return the paths of copies of an account that mod_md left in staging."""
    return tuple(
        str(store.path / "staging" / name)
        for name, (account, _) in _staged_by_name(store)
        if account.url == url
    )


def account_ids(store: Store) -> tuple[str, ...]:
    """Return the ids of all stored accounts."""
    accounts = store.accounts()
    if accounts is None:
        return ()
    with accounts:
        return tuple(name for name in accounts.names() if name.startswith("ACME-"))


def load_account(store: Store, account_id: str) -> AccountWithKey | None:
    """Return one stored account; None where it is absent or incomplete.

    Raises StoreError where it is damaged.
    """
    accounts = store.accounts()
    if accounts is None:
        return None
    with accounts:
        folder = accounts.open(account_id)
    if folder is None:
        return None
    with folder:
        try:
            return _read_account(store, folder, account_id)
        except (RecordError, CertificateError) as error:
            name = ACCOUNT_FILE if isinstance(error, RecordError) else KEY_FILE
            raise StoreError(
                f"the account cannot be read: {error}",
                path=folder.path_of(name),
                hint="restore it from a backup, or move its folder away to register anew, for "
                "which the CA may want a new external account binding",
            ) from error


def _stored_accounts(
    store: Store, ca_url: str, eab: ExternalAccount | None, damaged: list[StoreError]
) -> Iterator[AccountWithKey]:
    """Yield the accounts that can be read, and collect the errors of those that may be meant."""
    prefix = account_prefix(ca_url)
    for account_id in account_ids(store):
        if not account_id.startswith(prefix):
            continue
        try:
            found = load_account(store, account_id)
        except StoreError as error:
            if error.unreadable:
                raise
            if _may_be_meant(store, account_id, ca_url, eab):
                damaged.append(error)
            continue
        if found is not None:
            yield found


def _may_be_meant(store: Store, account_id: str, ca_url: str, eab: ExternalAccount | None) -> bool:
    """Say whether a damaged account may be the one for this CA and binding."""
    accounts = store.accounts()
    if accounts is None:
        return False
    try:
        with accounts:
            folder = accounts.open(account_id)
        if folder is None:
            return False
        with folder:
            text = folder.read(ACCOUNT_FILE, max_bytes=MAX_RECORD_BYTES)
        account = None if text is None else parse_account(text)
    except (StoreError, RecordError):
        return True
    return account is None or (account.status == "valid" and account.matches(ca_url, eab))


def _staged_accounts(store: Store) -> Iterator[AccountWithKey]:
    return (found for _, found in _staged_by_name(store))


def _staged_by_name(store: Store) -> Iterator[tuple[str, AccountWithKey]]:
    staging = store.staging()
    if staging is None:
        return
    with staging:
        for name in staging.names():
            try:
                folder = staging.open(name, owners=store.owners.staging)
                if folder is None:
                    continue
                with folder:
                    found = _read_account(store, folder, "", owners=store.owners.staging)
            except (UnsafeEntryError, RecordError, CertificateError):
                continue
            if found is not None:
                yield name, found


def _read_account(
    store: Store, folder: Folder, account_id: str, *, owners: frozenset[int] | None = None
) -> AccountWithKey | None:
    """Read account.json and account.pem; None unless both are there, as in mod_md."""
    text = folder.read(ACCOUNT_FILE, max_bytes=MAX_RECORD_BYTES, owners=owners)
    pem = folder.read(KEY_FILE, max_bytes=_MAX_KEY_BYTES, owners=owners)
    if text is None or pem is None:
        return None
    account = parse_account(text, account_id)
    key = key_from_pem(pem, store.passphrase())
    if not label_of_key(key).startswith("rsa"):
        raise CertificateError("the account key is not RSA, and mod_md can use no other")
    return account, key


def _known_account(store: Store, account: StoredAccount) -> StoredAccount | None:
    """Return the account with the id under which it is stored already, whether complete or not."""
    accounts = store.accounts()
    if accounts is None:
        return None
    with accounts:
        for account_id in account_ids(store):
            if _is_account(accounts, account_id, account):
                return account._replace(id=account_id)
    return None


def _is_account(accounts: Folder, account_id: str, account: StoredAccount) -> bool:
    try:
        folder = accounts.open(account_id)
        if folder is None:
            return False
        with folder:
            text = folder.read(ACCOUNT_FILE, max_bytes=MAX_RECORD_BYTES)
        stored = None if text is None else parse_account(text)
    except (UnsafeEntryError, RecordError):
        return False
    return stored is not None and (stored.url, stored.ca_url) == (account.url, account.ca_url)


def _has_key(store: Store, account: StoredAccount) -> bool:
    try:
        return load_account(store, account.id) is not None
    except StoreError:
        return False


def _claim(store: Store, account: StoredAccount) -> StoredAccount:
    """Take the lowest free number, by making account.json (mod_md: md_acme_acct_save)."""
    prefix = account_prefix(account.ca_url)
    for number in range(MAX_ACCOUNTS):
        claimed = account._replace(id=f"{prefix}{number:04d}")
        try:
            folder = store.make_in_group(GROUP, claimed.id)
        except UnsafeEntryError:
            continue
        with folder:
            if folder.create(ACCOUNT_FILE, render_account(claimed), FILE_MODES[GROUP]):
                return claimed
    raise StoreError(
        f"there are {MAX_ACCOUNTS} accounts of this CA already",
        path=str(store.path / GROUP),
        hint="move accounts that are no longer valid away",
    )


def account_prefix(ca_url: str) -> str:
    """Return `ACME-<host>-`, the host cut to its last 16 characters (mod_md: md_acme.c)."""
    host = _host_of(ca_url)
    if host is None:
        raise StoreError(f"no account can be named after the CA {ca_url!r}", path=GROUP)
    return f"ACME-{host[-_MAX_HOST:]}-"


def _host_of(ca_url: str) -> str | None:
    match = _URL_WITH_HOST.match(ca_url)
    return match and (match[1] or match[2])


def _pending_name(ca_url: str, kid: str | None) -> str:
    return hashlib.sha256(json.dumps([ca_url, kid]).encode()).hexdigest()[:32]


def _pending_key(folder: Folder, pem: bytes) -> PrivateKey:
    try:
        return key_from_pem(pem)
    except CertificateError as error:
        raise StoreError(
            f"the account key that was being registered is damaged: {error}",
            path=folder.path_of(_PENDING_KEY),
            hint="move the folder away, and a new key is registered (the CA may want a new EAB)",
        ) from error


def _drop_pending(store: Store, account: StoredAccount, key: PrivateKey) -> None:
    name = _pending_name(account.ca_url, account.eab_kid)
    pending = store.own(GROUP)
    if pending is None:
        return
    with pending:
        folder = pending.open(name)
        if folder is None:
            return
        with folder:
            pem = folder.read(_PENDING_KEY, max_bytes=_MAX_KEY_BYTES)
            if pem is not None and public_bytes(_pending_key(folder, pem)) != public_bytes(key):
                # another account of the same CA was saved; this key may still be registered
                return
        pending.remove_tree(name)
        pending.sync()
