"""account: the ACME accounts in the store, and what can be done with them.

Rules: list and show only read, and take no lock; the others hold it. list contacts nobody, so what
talks to a CA is imported by the others alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mdconnector.account_overview import stored_outcome
from mdconnector.commands.loading import Clock, Say, open_store, select
from mdconnector.commands.mending import waiting
from mdconnector.errors import UsageError
from mdconnector.httpd.configuration import Configuration
from mdconnector.outcomes.account import AccountAction, AccountOutcome, AccountRun
from mdconnector.printable import printable
from mdconnector.store.account_folders import (
    AccountFolder,
    account_folder,
    account_folders,
    pending_registrations,
)
from mdconnector.store.accounts import account_ids
from mdconnector.store.lock import run_lock
from mdconnector.store.tree import Store

if TYPE_CHECKING:
    from mdconnector.account_keys import Desk


class Lock(NamedTuple):
    """How long another run is waited for, and where that is told."""

    wait_seconds: float
    say: Say


def stored_ids(configuration: Configuration) -> tuple[str, ...]:
    """Return the ids of all stored accounts."""
    with open_store(configuration, read_only=True) as store:
        return account_ids(store) if store else ()


def list_accounts(configuration: Configuration, clock: Clock) -> AccountRun:
    """Return what the store knows of every account."""
    with open_store(configuration, read_only=True) as store:
        if store is None:
            return AccountRun(AccountAction.LIST, ())
        outcomes = [
            stored_outcome(store, folder, configuration.domains, clock())
            for folder in account_folders(store)
        ]
        return AccountRun(AccountAction.LIST, tuple(outcomes))


def show_accounts(configuration: Configuration, ids: Sequence[str], clock: Clock) -> AccountRun:
    """Ask the CA of each account, or of those that are named, how it stands."""
    with open_store(configuration, read_only=True) as store:
        if store is None:
            if ids:
                raise _unknown(None, ids[0])
            return AccountRun(AccountAction.SHOW, ())
        folders = [_folder(store, one) for one in ids] or account_folders(store)
        with _desk(configuration, store, clock) as desk:
            from mdconnector.account_keys import show

            return AccountRun(AccountAction.SHOW, tuple(show(desk, one) for one in folders))


def look_at_account(configuration: Configuration, account_id: str, clock: Clock) -> AccountOutcome:
    """Return what the store knows of one account, before something is done to it."""
    with open_store(configuration) as store:
        if store is None:
            raise _unknown(None, account_id)
        folder = _folder(store, account_id)
        return stored_outcome(store, folder, configuration.domains, clock())


def roll_over_account(
    configuration: Configuration, account_id: str, *, lock: Lock, clock: Clock
) -> AccountRun:
    """Give an account a new key."""
    with _at_work(configuration, lock, clock, "account rollover") as desk:
        from mdconnector.account_keys import roll_over

        outcome = roll_over(desk, _folder(desk.store, account_id))
        return AccountRun(AccountAction.ROLLOVER, (outcome,))


def deactivate_account(
    configuration: Configuration, account_id: str, *, lock: Lock, clock: Clock
) -> AccountRun:
    """End an account."""
    with _at_work(configuration, lock, clock, "account deactivate") as desk:
        from mdconnector.account_keys import deactivate

        outcome = deactivate(desk, _folder(desk.store, account_id))
        return AccountRun(AccountAction.DEACTIVATE, (outcome,))


def recover_accounts(
    configuration: Configuration,
    ids: Sequence[str],
    *,
    for_name: str | None,
    lock: Lock,
    clock: Clock,
) -> AccountRun:
    """Find the accounts of keys whose account.json is lost, or not valid, and of those named."""
    users = select(configuration, [for_name] if for_name else [])
    with _at_work(configuration, lock, clock, "account recover") as desk:
        from mdconnector.account_keys import recover_folder, recover_registration

        if ids:
            folders = tuple(_folder(desk.store, one) for one in ids)
            return AccountRun(
                AccountAction.RECOVER, tuple(recover_folder(desk, one, users) for one in folders)
            )
        outcomes = [
            recover_folder(desk, one, users) for one in account_folders(desk.store) if _is_lost(one)
        ]
        outcomes += [recover_registration(desk, one) for one in pending_registrations(desk.store)]
        return AccountRun(AccountAction.RECOVER, tuple(outcomes))


def import_account(
    configuration: Configuration,
    path: Path,
    *,
    for_name: str | None,
    changes_key: bool,
    lock: Lock,
    clock: Clock,
) -> AccountRun:
    """Take over another client's account, for the domains of its CA or for one of them."""
    from mdconnector.foreign_accounts import read_foreign_account

    users = select(configuration, [for_name] if for_name else [])
    if not users:
        raise UsageError(
            "no managed domain is declared, so nothing says at which CA the account is",
            hint="see 'mdconnector scan'",
        )
    foreign = read_foreign_account(path)
    with _at_work(configuration, lock, clock, "account import", create=True) as desk:
        from mdconnector.account_keys import take_over

        outcome = take_over(desk, foreign, users=users, changes_key=changes_key)
        return AccountRun(AccountAction.IMPORT, (outcome,))


def _is_lost(folder: AccountFolder) -> bool:
    """Say whether the CA may tell more of an account than the store does."""
    return folder.fault is not None or (
        folder.account is not None and folder.account.status not in {"valid", "deactivated"}
    )


def _folder(store: Store, account_id: str) -> AccountFolder:
    if account_id not in account_ids(store):
        raise _unknown(store, account_id)
    return account_folder(store, account_id)


def _unknown(store: Store | None, account_id: str) -> UsageError:
    known = account_ids(store) if store else ()
    return UsageError(
        f"there is no account '{printable(account_id, 80)}'",
        hint=f"there are: {', '.join(known[:20])}" if known else "no account is stored",
    )


@contextmanager
def _at_work(
    configuration: Configuration, lock: Lock, clock: Clock, command: str, *, create: bool = False
) -> Iterator[Desk]:
    with open_store(configuration, create=create) as store:
        if store is None:
            raise UsageError("there is no store yet, and so no account")
        with (
            run_lock(
                store,
                wait_seconds=lock.wait_seconds,
                command=command,
                on_wait=waiting(lock.say),
            ),
            _desk(configuration, store, clock) as desk,
        ):
            yield desk


@contextmanager
def _desk(configuration: Configuration, store: Store, clock: Clock) -> Iterator[Desk]:
    from mdconnector.account_keys import Desk
    from mdconnector.authorities import Sessions

    sessions = Sessions(store, clock)
    try:
        yield Desk(store, sessions, configuration.domains, configuration.ca_access, clock())
    finally:
        sessions.close()
