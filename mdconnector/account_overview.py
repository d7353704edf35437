"""Say in one line how a stored account stands, and who uses it; contacts nobody.

Rule: the HMAC of a binding is never part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from mdconnector.errors import MdConnectorError
from mdconnector.keys import label_of_key
from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes.account import AccountOutcome
from mdconnector.printable import printable
from mdconnector.renewal import LastError
from mdconnector.store.account_folders import AccountFolder
from mdconnector.store.key_changes import has_new_key
from mdconnector.store.records import StoredAccount
from mdconnector.store.tree import Store

_THEN = "; then: mdconnector renew NAME"
"""what hints about orders end with"""


def stored_outcome(
    store: Store, folder: AccountFolder, domains: Iterable[ManagedDomain], now: datetime
) -> AccountOutcome:
    """Return what the store knows of an account."""
    account, detail = folder.account, ""
    if has_new_key(store, folder.id):
        detail = f"a change of its key is not finished: mdconnector account rollover {folder.id}"
    outcome = AccountOutcome(
        folder.id,
        key_label=label_of_key(folder.key) if folder.key else "",
        detail=detail,
        error=error_of(folder.fault, now) if folder.fault else None,
    )
    return outcome if account is None else described(outcome, account, users_of(domains, account))


def described(
    outcome: AccountOutcome, account: StoredAccount, users: tuple[str, ...]
) -> AccountOutcome:
    """Return an outcome with what account.json says; foreign words are made safe to print."""
    return AccountOutcome(
        account.id,
        printable(account.ca_url, 500),
        printable(account.url, 500),
        None if account.eab_kid is None else printable(account.eab_kid, 200),
        printable(account.status, 40),
        outcome.key_label,
        tuple(printable(one, 200) for one in account.contact),
        users,
        outcome.detail,
        outcome.error,
        outcome.is_change,
    )


def users_of(domains: Iterable[ManagedDomain], account: StoredAccount) -> tuple[str, ...]:
    """Return the managed domains that may use an account: by CA and binding, as in mod_md."""
    return tuple(
        domain.name
        for domain in domains
        if any(account.matches(url, domain.eab) for url in domain.effective_ca_urls)
    )


def error_of(error: MdConnectorError, now: datetime) -> LastError:
    """Return an error as it is shown: no order follows from what is done to an account."""
    hint = error.hint.removesuffix(_THEN) if error.hint else None
    return LastError(error.type, printable(str(error), 1000), hint, now)
