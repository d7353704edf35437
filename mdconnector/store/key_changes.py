"""A stored account's new key, from before its CA hears of it until it is the account's.

    mdconnector/accounts/<account id>/key.pem     the new key, in clear, 0600

Rules: the new key is durable before the CA is asked, and account.pem is replaced whole, so at any
time one of the two files holds the account's key; which one it is the CA tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import key_from_pem, key_to_pem
from mdconnector.store.accounts import GROUP, KEY_FILE
from mdconnector.store.pairs import MAX_KEY_BYTES
from mdconnector.store.tree import FILE_MODES, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdconnector.keys import PrivateKey

_NEW_KEY = "key.pem"


def begin_key_change(
    store: Store, account_id: str, make_key: Callable[[], PrivateKey]
) -> tuple[PrivateKey, bool]:
    """Return the account's next key, durable now, and whether it was made just now.

    One that a run left which did not finish is taken up: the CA may know it already.
    """
    known = new_key_of(store, account_id)
    if known is not None:
        return known, False
    key = make_key()
    with store.make_own(GROUP, account_id) as folder:
        folder.write(_NEW_KEY, key_to_pem(key), 0o600)
        folder.sync()
    return key, True


def has_new_key(store: Store, account_id: str) -> bool:
    """Say whether a change of the account's key was begun and not finished."""
    folder = store.own(GROUP, account_id)
    if folder is None:
        return False
    with folder:
        return folder.stat(_NEW_KEY) is not None


def new_key_of(store: Store, account_id: str) -> PrivateKey | None:
    """Return the key that may be the account's already; None where no change was begun."""
    folder = store.own(GROUP, account_id)
    if folder is None:
        return None
    with folder:
        pem = folder.read(_NEW_KEY, max_bytes=MAX_KEY_BYTES)
        try:
            return None if pem is None else key_from_pem(pem)
        except CertificateError as error:
            raise StoreError(
                f"the account's new key is damaged: {error}",
                path=folder.path_of(_NEW_KEY),
                hint="restore it from a backup: the account may have no other key",
            ) from error


def finish_key_change(store: Store, account_id: str, key: PrivateKey) -> None:
    """Put the new key in the old one's place, durably."""
    with store.make_in_group(GROUP, account_id) as folder:
        folder.write(KEY_FILE, key_to_pem(key, store.passphrase()), FILE_MODES[GROUP])
        folder.sync()
    drop_key_change(store, account_id)


def drop_key_change(store: Store, account_id: str) -> None:
    """Forget a new key: it is in account.pem now, or the CA did not take it."""
    pending = store.own(GROUP)
    if pending is not None:
        with pending:
            pending.remove_tree(account_id)
            pending.sync()
