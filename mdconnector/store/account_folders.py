"""What lies in accounts/ as it is, whole or not, and keys that are being registered.

Rules: reads only, but for the account.json that is written where it was lost or says something
else than the CA; a damaged one is set aside first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import PrivateKey, key_from_pem
from mdconnector.store.accounts import ACCOUNT_FILE, GROUP, KEY_FILE, account_ids
from mdconnector.store.folder import Folder, UnsafeEntryError
from mdconnector.store.notes import DamagedNoteError, read_note
from mdconnector.store.pairs import MAX_KEY_BYTES
from mdconnector.store.records import (
    MAX_RECORD_BYTES,
    RecordError,
    StoredAccount,
    parse_account,
    render_account,
)
from mdconnector.store.set_aside import set_aside_entry
from mdconnector.store.tree import FILE_MODES, Store


class AccountFolder(NamedTuple):
    """One folder of accounts/: what of an account is in it, and what keeps it from being one."""

    id: str
    account: StoredAccount | None
    key: PrivateKey | None
    fault: StoreError | None
    """why it cannot be used; None where both files are good"""


class PendingRegistration(NamedTuple):
    """A key whose registration was begun."""

    ca_url: str
    kid: str | None
    key: PrivateKey


def account_folders(store: Store) -> tuple[AccountFolder, ...]:
    """Return all folders of accounts/ that have an account's name."""
    return tuple(account_folder(store, account_id) for account_id in account_ids(store))


def account_folder(store: Store, account_id: str) -> AccountFolder:
    """Return one of them."""
    try:
        with _opened(store, account_id) as folder:
            return _read(store, folder, account_id)
    except StoreError as error:
        if error.unreadable:
            raise
        return AccountFolder(account_id, None, None, error)


def restore_account(store: Store, account: StoredAccount) -> None:
    """Write the account.json of an account whose key is there; a damaged one is set aside."""
    with _opened(store, account.id) as folder:
        known = _read(store, folder, account.id)
        if known.account is None and folder.stat(ACCOUNT_FILE) is not None:
            set_aside_entry(store, folder, ACCOUNT_FILE, "damaged; the CA knew the account")
        folder.write(ACCOUNT_FILE, render_account(account), FILE_MODES[GROUP])
        folder.sync()


def _opened(store: Store, account_id: str) -> Folder:
    accounts = store.accounts()
    folder = None
    if accounts is not None:
        with accounts:
            folder = accounts.open(account_id)
    if folder is None:
        raise StoreError("there is no such account", path=str(store.path / GROUP / account_id))
    return folder


def _read(store: Store, folder: Folder, account_id: str) -> AccountFolder:
    account, key, faults = None, None, []
    try:
        text = folder.read(ACCOUNT_FILE, max_bytes=MAX_RECORD_BYTES)
        account = None if text is None else parse_account(text, account_id)
        if text is None:
            faults.append(_fault(folder, ACCOUNT_FILE, "it is missing", _RECOVER))
    except RecordError as error:
        faults.append(_fault(folder, ACCOUNT_FILE, f"damaged: {error}", _RECOVER))
    try:
        pem = folder.read(KEY_FILE, max_bytes=MAX_KEY_BYTES)
        key = None if pem is None else key_from_pem(pem, store.passphrase())
        if pem is None:
            faults.append(_fault(folder, KEY_FILE, "it is missing", _RESTORE))
        elif not isinstance(key, rsa.RSAPrivateKey):
            faults.append(_fault(folder, KEY_FILE, "it is not RSA, and mod_md can use no other"))
    except CertificateError as error:
        faults.append(_fault(folder, KEY_FILE, error.message, _RESTORE))
    # a key that is gone is the worse news
    return AccountFolder(account_id, account, key, faults[-1] if faults else None)


_RECOVER = "'mdconnector account recover' asks the CA whose key it is"
_RESTORE = "restore it from a backup; without its key the account is lost"


def _fault(folder: Folder, name: str, why: str, hint: str | None = None) -> StoreError:
    return StoreError(why, path=folder.path_of(name), hint=hint)


def pending_registrations(store: Store) -> tuple[PendingRegistration, ...]:
    """Return the keys that are being registered; one that cannot be read is passed over."""
    return tuple(_pending_registrations(store))


def _pending_registrations(store: Store) -> Iterator[PendingRegistration]:
    pending = store.own(GROUP)
    if pending is None:
        return
    with pending:
        for name in pending.names():
            try:
                folder = pending.open(name)
                if folder is None:
                    continue
                with folder:
                    note = read_note(folder, "note.json")
                    pem = folder.read("key.pem", max_bytes=MAX_KEY_BYTES)
                if note is not None and pem is not None:
                    ca_url, kid = note.text("ca_url"), note.optional_text("kid")
                    yield PendingRegistration(ca_url, kid, key_from_pem(pem))
            except (UnsafeEntryError, DamagedNoteError, CertificateError, ValueError):
                continue
