"""Sets on their way to staging/<name>/, where mod_md finds them, and out of it.

Rules: a set is assembled in mdconnector/work/staging/, where Apache's user cannot reach it, and
appears in one step; staging only ever holds complete sets of ours. Whatever comes out again is
looked through for an account of mod_md's before it goes, and removed by handles, because Apache's
user may have put anything there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import StoreError
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.accounts import merge_staged_account
from mdconnector.store.folder import EntryExistsError, Folder, UnsafeEntryError
from mdconnector.store.records import render_finished_job, render_md
from mdconnector.store.set_aside import set_aside_entry
from mdconnector.store.tree import FILE_MODES, GROUP_MODES, Store, folder_name

STAGING = "staging"
WORK_STAGING = ("work", "staging")
WORK_REPLACED = ("work", "replaced")
"""where the file system cannot exchange: what lay in staging, between two renames"""

_TRIES = 5


def stage(
    store: Store,
    domain: ManagedDomain,
    credentials: tuple[Credential, ...],
    *,
    ca_url: str,
    account_id: str | None,
    now: datetime,
    told: Mapping[str, datetime] = MappingProxyType({}),
) -> None:
    """Put a verified set into staging/<name>, durably, in place of whatever lies there.

    `told` are events that programs of the administrator's know of, and mod_md need not repeat.
    """
    name = folder_name(domain.name)
    md = render_md(domain, ca_url=ca_url, account_id=account_id)
    with store.make_own(*WORK_STAGING) as work, store.make_group(STAGING) as staging:
        _throw_away(store, work, name)
        uid = store.uid_for(STAGING)
        with work.make(name, GROUP_MODES[STAGING], uid=uid, durable=False) as folder:
            files = dict(_files(store, name, credentials, now, told))
            # last, because mod_md takes it as the sign that a set is complete
            files["md.json"] = md
            folder.write_all(files, FILE_MODES[STAGING], uid=uid)
            folder.sync()
        _put_in(store, work, staging, name)
        staging.sync()
        work.sync()
        _throw_away(store, work, name)
    _empty(store, WORK_REPLACED, name)


def clear_staged(store: Store, name: str) -> bool:
    """Take away what lies in staging/<name>; False where nothing does."""
    staging = store.staging()
    if staging is None or staging.stat(name) is None:
        return False
    with staging, store.make_own(*WORK_STAGING) as work:
        _throw_away(store, work, name)
        # out of Apache's reach in one step: a set that is half removed is never seen
        try:
            staging.move(name, work, name)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            # mod_md has activated it meanwhile, and taken it away itself
            return False
        staging.sync()
        work.sync()
        _throw_away(store, work, name)
    return True


def set_aside(store: Store, group: str, name: str, reason: str) -> Path:
    """Move what lies in <group>/<name> to mdconnector/set-aside/, and return where it is now."""
    folder = store.group(group)
    if folder is None:
        raise StoreError("there is nothing to set aside", path=str(store.path / group / name))
    with folder:
        if group == STAGING:
            _merge_account(store, folder, name)
        return set_aside_entry(store, folder, name, reason)


def recover_staging(store: Store) -> Iterator[tuple[str, StoreError | None]]:
    """Take away what killed runs left half-done; yields whose it was, and what went wrong."""
    for place in (WORK_STAGING, WORK_REPLACED):
        with _own(store, place) as work:
            if work is None:
                continue
            for name in work.names():
                try:
                    _throw_away(store, work, name)
                except StoreError as error:
                    yield name, error
                else:
                    yield name, None


def _files(
    store: Store,
    name: str,
    credentials: tuple[Credential, ...],
    now: datetime,
    told: Mapping[str, datetime],
) -> Iterator[tuple[str, bytes]]:
    for credential in credentials:
        spec = credential.spec
        yield spec.privkey_name, key_to_pem(credential.key, store.passphrase())
        yield spec.pubcert_name, chain_to_pem(credential.chain)
    valid_from = max((one.facts.not_before for one in credentials), default=now)
    yield "job.json", render_finished_job(name, now=now, valid_from=valid_from, told=told)


def _put_in(store: Store, work: Folder, staging: Folder, name: str) -> None:
    """Move the set in; what lay there takes its place in `work`, or lies in work/replaced."""
    for _ in range(_TRIES):
        # a watchdog of mod_md's may make or remove the folder between any two of these
        if staging.stat(name) is None:
            try:
                work.move(name, staging, name)
            except EntryExistsError:
                continue
            return
        try:
            if work.exchange(name, staging, name):
                return
            _move_out(store, staging, name)
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise StoreError(
        "it changes all the time; is an Apache at work on it?", path=staging.path_of(name)
    )


def _move_out(store: Store, staging: Folder, name: str) -> None:
    with store.make_own(*WORK_REPLACED) as replaced:
        _throw_away(store, replaced, name)
        staging.move(name, replaced, name)
        replaced.sync()


def _empty(store: Store, place: tuple[str, ...], name: str) -> None:
    with _own(store, place) as folder:
        if folder is not None:
            _throw_away(store, folder, name)


def _throw_away(store: Store, folder: Folder, name: str) -> None:
    if folder.stat(name) is None:
        return
    _merge_account(store, folder, name)
    folder.remove_tree(name)
    folder.sync()


def _merge_account(store: Store, folder: Folder, name: str) -> None:
    try:
        entry = folder.open(name, owners=store.owners.staging)
    except UnsafeEntryError:
        # a link, a file, a folder of somebody else: no account of mod_md's is in it
        return
    if entry is not None:
        with entry:
            merge_staged_account(store, entry)


@contextmanager
def _own(store: Store, place: tuple[str, ...]) -> Iterator[Folder | None]:
    folder = store.own(*place)
    if folder is None:
        yield None
        return
    with folder:
        yield folder
