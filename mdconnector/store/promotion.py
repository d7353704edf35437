"""Verified sets become the live ones in domains/: prepared, swapped, finished, or put back.

    mdconnector/work/scratch/<name>    being assembled; worth nothing
    mdconnector/work/domains/<name>    complete, on the disk, waiting for the swap; after the swap,
                                       the set that was live, waiting for the archive
    mdconnector/work/outgoing/<name>   where the file system cannot exchange: the set that was live,
                                       between the two renames and until the archive
    mdconnector/work/rollback/<name>   a promotion is being undone; attempts/ says which
    mdconnector/refused/<name>[.<n>]   a set that was put back

Rules: the folder in which a set lies is the record of what is to become of it, so that a killed run
is finished by looking (mdconnector.store.recovery). Only the swap changes what Apache may read, it
does nothing but rename, and it holds mod_md's lock.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import NamedTuple

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import StoreError
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.archive import WORK_SCRATCH, Archive
from mdconnector.store.attempts import RollbackNote, load_attempt, load_rollback, save_attempt
from mdconnector.store.folder import EntryExistsError, Folder, UnsafeEntryError
from mdconnector.store.lock import store_lock
from mdconnector.store.pairs import (
    NOTHING,
    Worth,
    credentials_in,
    examined,
    fingerprints_in,
    standing_of,
)
from mdconnector.store.pending import drop_pending
from mdconnector.store.records import render_finished_job, render_md
from mdconnector.store.set_aside import move_numbered, numbered_stem, set_aside_entry
from mdconnector.store.staging import clear_staged
from mdconnector.store.tree import FILE_MODES, GROUP_MODES, Store, folder_name

DOMAINS = "domains"
CHALLENGES = "challenges"
REFUSED = "refused"
WORK_DOMAINS = ("work", "domains")
WORK_OUTGOING = ("work", "outgoing")
WORK_ROLLBACK = ("work", "rollback")

MAX_CARRIED_BYTES = 1024 * 1024
_OURS = re.compile(r"(privkey|pubcert|fallback-).*|md\.json|job\.json|\.new-.*|.*\.tmp")
_LABEL = "security.selinux"
_TRIES = 5


class Prepared(NamedTuple):
    """A set that is ready for the swap.

    `left_behind` are entries of the live folder that cannot be copied (links, folders, huge files);
    they go to the archive with the old set.
    """

    name: str
    fingerprints: tuple[str, ...]
    left_behind: tuple[str, ...] = ()


class Swapped(NamedTuple):
    """What the swap did: fingerprints of the leaves that are live now, and of those before."""

    name: str
    live: tuple[str, ...]
    replaced: tuple[str, ...]


class Places(NamedTuple):
    """The open folders between which sets move."""

    store: Store
    domains: Folder
    work: Folder
    outgoing: Folder

    def waiting(self) -> tuple[Folder, Folder]:
        """Return the folders of ours in which a set may lie."""
        return self.work, self.outgoing

    def sync(self) -> None:
        """Make all renames durable, those that Apache sees first."""
        for folder in (self.domains, self.work, self.outgoing):
            folder.sync()


@contextmanager
def open_places(store: Store) -> Iterator[Places]:
    """Open the folders between which sets move, made where they are absent."""
    with ExitStack() as stack:
        yield Places(
            store,
            stack.enter_context(store.make_group(DOMAINS)),
            stack.enter_context(store.make_own(*WORK_DOMAINS)),
            stack.enter_context(store.make_own(*WORK_OUTGOING)),
        )


def prepare(
    store: Store,
    domain: ManagedDomain,
    credentials: tuple[Credential, ...],
    *,
    ca_url: str,
    account_id: str | None,
    now: datetime,
) -> Prepared:
    """Assemble a verified set beside domains/, complete and on the disk; nothing is live yet.

    Whoever prepares a set that was put back has decided to: it is no longer refused.
    """
    valid_from = max((one.facts.not_before for one in credentials), default=now)
    files = dict(_credential_files(credentials))
    files["job.json"] = render_finished_job(domain.name, now=now, valid_from=valid_from)
    files["md.json"] = render_md(domain, ca_url=ca_url, account_id=account_id)
    _forget_refusal(store, domain.name, [one.facts.sha256 for one in credentials])
    return prepare_files(store, domain.name, files)


def prepare_files(store: Store, domain_name: str, files: Mapping[str, bytes]) -> Prepared:
    """Assemble a set from the contents of its files, together with what is kept of the live one."""
    name = folder_name(domain_name)
    with open_places(store) as places, store.make_own(*WORK_SCRATCH) as scratch:
        if any(place.stat(name) is not None for place in places.waiting()):
            raise StoreError(
                "an earlier promotion is not finished",
                path=places.work.path_of(name),
                hint="run the command again; it first finishes what was interrupted",
            )
        live = places.domains.open(name, owners=store.owners.trusted)
        scratch.remove_tree(name)
        with scratch.make(name, GROUP_MODES[DOMAINS], durable=False) as folder:
            _keep_label(live or places.domains, folder)
            left_behind = () if live is None else tuple(_carry_over(live, folder))
            folder.write_all(files, FILE_MODES[DOMAINS])
            folder.sync()
            fingerprints = fingerprints_in(folder)
        # its place need not last until the swap: without it, the set is only prepared once more
        scratch.move(name, places.work, name)
    return Prepared(name, fingerprints, left_behind)


def discard(store: Store, prepared: Iterable[Prepared]) -> None:
    """Take away sets that were prepared and must not be swapped after all."""
    with open_places(store) as places, store.make_own(*WORK_SCRATCH) as scratch:
        for one in prepared:
            if fingerprints_at(places.work, one.name) == one.fingerprints:
                scratch.remove_tree(one.name)
                places.work.move(one.name, scratch, one.name)
                places.work.sync()
                scratch.remove_tree(one.name)


def _always() -> bool:
    return True


def swap(
    store: Store,
    names: Iterable[str],
    *,
    is_idle: Callable[[], bool] = _always,
    is_still: Callable[[], bool] = _always,
) -> dict[str, Swapped | StoreError] | None:
    """Make prepared sets live, all in one burst under store.lock; durable when it returns.

    `is_idle` is asked once more under the lock; None: it said no, nothing was swapped, and the sets
    wait for another swap or for `discard`. So do those that are not in the result: `is_still`,
    asked before each, said no, because this process may itself be held up between two of them.
    One that cannot be swapped is discarded. What was live before waits in work/ for `finish` or
    `put_back`.
    """
    names = tuple(names)
    with open_places(store) as places, ExitStack() as lock:
        try:
            lock.enter_context(store_lock(store))
        except StoreError as error:
            _withdraw(places, names)
            return dict.fromkeys(names, error)
        if not is_idle():
            return None
        names, failures = _burst(places, names, is_still)
        if not names:
            return None
        try:
            places.sync()
        except StoreError as error:
            # swapped, but not for certain: the next run finishes it
            return {name: failures.get(name, error) for name in names}
        lock.close()
        _withdraw(places, failures)
        return {name: failures.get(name) or _swapped(places, name) for name in names}


def finish(store: Store, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Clear staging and challenges of swapped sets and archive the old ones.

    The promotion stands whatever happens here; returns by name what could not be done, for the next
    run to do.
    """
    with open_places(store) as places, Archive.open(store) as archive:
        return {name: tuple(_finish(places, archive, name)) for name in names}


def put_back(
    store: Store, swapped: Iterable[Swapped], *, reason: str, now: datetime
) -> dict[str, StoreError | None]:
    """Undo promotions that harmed Apache, before or after `finish`; those sets go to refused/.

    Noted durably first: a killed run is finished by the next one. Returns by name what went wrong.
    """
    problems: dict[str, StoreError | None] = {}
    for one in swapped:
        note = RollbackNote(at=now, reason=reason, refused=one.live, replaced=one.replaced)
        try:
            _note_rollback(store, one.name, note)
            problems[one.name] = None
        except StoreError as error:
            problems[one.name] = error
    return problems | finish_rollbacks(store, [name for name in problems if not problems[name]])


def finish_rollbacks(store: Store, names: Iterable[str]) -> dict[str, StoreError | None]:
    """Go on with rollbacks that were noted, from wherever they were left."""
    notes: dict[str, RollbackNote | None] = {}
    problems: dict[str, StoreError | None] = {}
    for name in names:
        try:
            notes[name], problems[name] = load_rollback(store, name), None
        except StoreError as error:
            problems[name] = error
    try:
        with open_places(store) as places, Archive.open(store) as archive:
            _exchange_back(places, archive, notes, problems)
            for name, note in notes.items():
                if problems[name] is None:
                    problems[name] = _close_rollback(places, name, note)
    except StoreError as error:
        return {name: problem or error for name, problem in problems.items()}
    return problems


def refused_credentials(
    store: Store, domain: ManagedDomain, now: datetime
) -> tuple[Credential, ...]:
    """Return the newest set that was put back and verifies, for a promotion by force."""
    refused = store.own(REFUSED)
    if refused is None:
        return ()
    best = NOTHING
    found: tuple[Credential, ...] = ()
    with refused:
        for entry in refused.names():
            if entry != domain.name and entry.rpartition(".")[0] != numbered_stem(domain.name):
                continue
            with opened(refused, entry) as folder:
                standing = standing_of(folder, domain, now)
                if folder is not None and standing.worth is Worth.SERVING and standing > best:
                    best, found = standing, credentials_in(folder, domain.key_specs)
    return found


def put_live(places: Places, source: Folder, name: str) -> None:
    """Make a complete set that lies in `source` the live one; nothing is synced.

    The set that was live takes its place, or lies in the other folder of ours where the file system
    cannot exchange. Then there is a moment without a live set, and `source` still says which it is.
    Where it fails, both are where they were.
    """
    parking = places.outgoing if source is places.work else places.work
    try:
        _put_live(places, source, parking, name)
    except StoreError:
        if places.domains.stat(name) is None and parking.stat(name) is not None:
            parking.move(name, places.domains, name)
        raise


def _put_live(places: Places, source: Folder, parking: Folder, name: str) -> None:
    for _ in range(_TRIES):
        try:
            if places.domains.stat(name) is None:
                source.move(name, places.domains, name)
                return
            if source.exchange(name, places.domains, name):
                return
            _park(places, name, parking)
        except EntryExistsError:
            # mod_md made the folder anew between the two renames: its self-signed fallback
            continue
        except StoreError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise StoreError(
        "it changes all the time; is an Apache restarting?", path=places.domains.path_of(name)
    )


def keep_refused(places: Places, source: Folder, name: str) -> None:
    """Move a set that was put back to refused/, durably."""
    with places.store.make_own(REFUSED) as refused:
        try:
            source.move(name, refused, name)
        except EntryExistsError:
            move_numbered(source, name, refused)
        refused.sync()
        source.sync()


def fingerprints_at(folder: Folder, name: str) -> tuple[str, ...]:
    """Return the fingerprints of the leaves in a set; empty where it is absent or no folder."""
    with opened(folder, name) as entry:
        return () if entry is None else fingerprints_in(entry)


def clear_challenges(store: Store, name: str) -> None:
    """Remove what was left for challenges under a domain's own name, as mod_md does."""
    challenges = store.challenges()
    if challenges is not None:
        with challenges:
            challenges.remove_tree(name)


def _burst(
    places: Places, names: Iterable[str], is_still: Callable[[], bool] = _always
) -> tuple[tuple[str, ...], dict[str, StoreError]]:
    """Put sets live while it is still; returns those it was tried with, and what went wrong."""
    tried = []
    failures = {}
    for name in names:
        if not is_still():
            break
        tried.append(name)
        try:
            put_live(places, places.work, name)
        except StoreError as error:
            failures[name] = error
    return tuple(tried), failures


def _withdraw(places: Places, names: Iterable[str]) -> None:
    """Take prepared sets away that were not swapped, so that no recovery makes them live."""
    with places.store.make_own(*WORK_SCRATCH) as scratch:
        for name in names:
            # what stays because the disk fails is what recovery is for
            with suppress(StoreError):
                scratch.remove_tree(name)
                places.work.move(name, scratch, name)
                places.work.sync()
                scratch.remove_tree(name)


def _note_rollback(store: Store, name: str, note: RollbackNote) -> None:
    with store.make_own(*WORK_ROLLBACK) as rollback:
        # this alone means nothing yet; the note does, and without this nobody looks for it
        rollback.make(name, 0o700).close()
    save_attempt(store, name, load_attempt(store, name)._replace(rollback=note))


def _exchange_back(
    places: Places,
    archive: Archive,
    notes: Mapping[str, RollbackNote | None],
    problems: dict[str, StoreError | None],
) -> None:
    ready = []
    for name, note in notes.items():
        try:
            if note is not None and _bring_near(places, archive, name, note):
                ready.append(name)
        except StoreError as error:
            problems[name] = error
    if ready:
        with store_lock(places.store):
            problems |= _burst(places, ready)[1]
            places.sync()


def _swapped(places: Places, name: str) -> Swapped:
    replaced = [fingerprints_at(place, name) for place in places.waiting()]
    return Swapped(name, fingerprints_at(places.domains, name), replaced[0] or replaced[1])


def _park(places: Places, name: str, parking: Folder) -> None:
    if parking.stat(name) is not None:
        reason = "it appeared while a set was being promoted"
        set_aside_entry(places.store, places.domains, name, reason)
    else:
        places.domains.move(name, parking, name)


def _finish(places: Places, archive: Archive, name: str) -> Iterator[str]:
    steps: list[Callable[[], object]] = [
        lambda: clear_staged(places.store, name),
        lambda: clear_challenges(places.store, name),
        # last, because what waits here is what makes the next run finish all of this
        *(partial(archive.add, place, name) for place in places.waiting() if place.stat(name)),
    ]
    for step in steps:
        try:
            step()
        except StoreError as error:
            yield str(error)


def _bring_near(places: Places, archive: Archive, name: str, note: RollbackNote) -> bool:
    """Get the old set into work/domains/; False where there is nothing to exchange."""
    if not note.refused or _leaves_at(places.domains, name) != note.refused:
        return False
    if places.work.stat(name) is None and places.outgoing.stat(name) is not None:
        places.outgoing.move(name, places.work, name)
        places.work.sync()
    if places.work.stat(name) is not None:
        if fingerprints_at(places.work, name) == note.replaced:
            return True
        raise StoreError(
            "another set than the one to put back lies here",
            path=places.work.path_of(name),
            hint="run the command again; it first finishes what was interrupted",
        )
    if not note.replaced:
        return False
    for entry, folder in archive.entries(name):
        if fingerprints_in(folder) == note.replaced:
            archive.take(entry, places.work, name)
            return True
    raise StoreError(
        "the set that was live before is not in the archive any more",
        path=places.domains.path_of(name),
        hint=f"the one that is live harms Apache: {note.reason}; order another: "
        f"mdconnector renew {name} --force",
    )


def _leaves_at(folder: Folder, name: str) -> tuple[str, ...]:
    """Return what `fingerprints_at` does, but raise StoreError while the disk gives no answer.

    Else a harmful set that cannot be read now would pass for another one, and stay live.
    """
    with opened(folder, name) as entry:
        leaves = () if entry is None else examined(entry)[0]
    return tuple(sorted(leaf.sha256 for leaf in leaves))


def _close_rollback(places: Places, name: str, note: RollbackNote | None) -> StoreError | None:
    store = places.store
    try:
        if note is not None and note.refused:
            for place in (places.domains, *places.waiting()):
                is_first = place is places.domains and note.replaced
                if not is_first and _leaves_at(place, name) == note.refused:
                    keep_refused(places, place, name)
            staging = store.staging()
            if staging is not None and fingerprints_at(staging, name) == note.refused:
                clear_staged(store, name)
            drop_pending(store, name, note.refused)
        with store.make_own(*WORK_ROLLBACK) as rollback:
            rollback.remove_tree(name)
            rollback.sync()
    except StoreError as error:
        return error
    return None


def _credential_files(credentials: Iterable[Credential]) -> Iterator[tuple[str, bytes]]:
    for credential in credentials:
        yield credential.spec.privkey_name, key_to_pem(credential.key)
        yield credential.spec.pubcert_name, chain_to_pem(credential.chain)


def _forget_refusal(store: Store, name: str, fingerprints: Iterable[str]) -> None:
    record = load_attempt(store, name)
    if record.refuses(fingerprints):
        save_attempt(store, name, record._replace(rollback=None))


def _keep_label(source: Folder, target: Folder) -> None:
    """Give a new folder the security label of the one whose place it takes; files inherit it."""
    with suppress(OSError):
        os.setxattr(target.fd, _LABEL, os.getxattr(source.fd, _LABEL))


def _carry_over(live: Folder, folder: Folder) -> Iterator[str]:
    """Copy what somebody keeps beside the live set; yield what cannot be copied."""
    for name in live.names():
        if _OURS.fullmatch(name):
            continue
        status = live.stat(name)
        if status is None:
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CARRIED_BYTES:
            yield name
            continue
        content = live.read(name, max_bytes=MAX_CARRIED_BYTES)
        if content is not None:
            owner = (status.st_uid, status.st_gid) if os.geteuid() == 0 else (-1, -1)
            mode = stat.S_IMODE(status.st_mode)
            folder.write(name, content, mode, uid=owner[0], gid=owner[1])


@contextmanager
def opened(folder: Folder, name: str) -> Iterator[Folder | None]:
    """Open a folder for a while; None where it is absent or something else."""
    try:
        entry = folder.open(name)
    except UnsafeEntryError:
        entry = None
    if entry is None:
        yield None
        return
    with entry:
        yield entry


def make_durable(store: Store, domain_name: str) -> None:
    """Make durable what somebody else has put into domains/: mod_md never syncs anything."""
    domains = store.domains()
    if domains is None:
        return
    with domains, opened(domains, folder_name(domain_name)) as folder:
        if folder is not None:
            for name in folder.names():
                folder.sync_file(name)
            folder.sync()
        domains.sync()
