"""Finish what killed runs left: first thing in every run that writes, under the run lock.

Rules: what lies in work/ says by its place what is to become of it. Of the sets of one domain the
best becomes or stays the live one (mdconnector.store.pairs), one that a rollback noted never does,
and all others are archived; no set is deleted but those that were never complete. All of this may
be killed too, and begun again. Where nothing is left to do, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from mdconnector.certificates import MAX_CHAIN_BYTES, verify_set
from mdconnector.errors import CertificateError, StoreError, UnsafeStoreError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.accounts import drop_registered_keys
from mdconnector.store.archive import WORK_SCRATCH, Archive
from mdconnector.store.attempts import AttemptRecord, load_attempt
from mdconnector.store.folder import ExhaustedError, Folder, UnsafeEntryError
from mdconnector.store.lock import store_lock
from mdconnector.store.pairs import (
    NOTHING,
    Standing,
    chain_suffixes,
    credentials_in,
    fingerprints_in,
    standing_of,
)
from mdconnector.store.pending import PENDING, Pending
from mdconnector.store.promotion import (
    WORK_DOMAINS,
    WORK_OUTGOING,
    WORK_ROLLBACK,
    Places,
    fingerprints_at,
    finish_rollbacks,
    keep_refused,
    open_places,
    opened,
    prepare,
    prepare_files,
    put_live,
    swap,
)
from mdconnector.store.staging import clear_staged, recover_staging
from mdconnector.store.tree import Store, folder_name

_PAIR = ("privkey", "pubcert")


class Recovery(NamedTuple):
    """What was mended, a line each, and what could not be, by domain."""

    lines: tuple[str, ...] = ()
    failures: Mapping[str, StoreError] = MappingProxyType({})


def recover(store: Store, domains: Iterable[ManagedDomain], now: datetime) -> Recovery:
    """Finish or undo what earlier runs left half-done, for whatever domain it was."""
    sweep(store)
    # a damaged key or account is told by whoever needs it
    with suppress(StoreError):
        drop_registered_keys(store)
    if store.own("work") is None:
        return Recovery()
    run = _Run(store, {domain.name: domain for domain in domains}, now, [], {})
    run.finish_rollbacks()
    run.empty_scratch()
    run.settle_sets()
    run.empty_staging_work()
    run.clear_staged_twins()
    return Recovery(tuple(run.lines), run.failures)


def sweep(store: Store) -> None:
    """Remove temporary files of killed writes, which may never be written again."""
    # what stays because the disk fails is swept next time
    with suppress(StoreError):
        store.base.remove_temporaries()
        for folder in _written_folders(store):
            with folder:
                folder.remove_temporaries()


def repair(store: Store, domain: ManagedDomain, now: datetime) -> str | None:
    """Replace a live set that Apache could not open; None where it can, or nothing better is here.

    The set comes from pending/, else it is the best in the archive. Returns a line for people.
    """
    name = folder_name(domain.name)
    # looked at twice, because a disk may stumble once, and what is archived is older
    damage = _damage(store, domain) and _damage(store, domain)
    if damage is None:
        return None
    origin = _prepare_replacement(store, domain, load_attempt(store, name), now)
    if origin is None:
        return None
    result = (swap(store, [name]) or {}).get(name)
    if isinstance(result, StoreError):
        raise result
    with open_places(store) as places, Archive.open(store) as archive:
        for place in places.waiting():
            if place.stat(name) is not None:
                archive.add(place, name)
    return f"{name}: the live set was damaged ({damage}); {origin} took its place"


class _Run(NamedTuple):
    """One recovery; what fails for one domain does not keep the others from theirs."""

    store: Store
    domains: Mapping[str, ManagedDomain]
    now: datetime
    lines: list[str]
    failures: dict[str, StoreError]

    def finish_rollbacks(self) -> None:
        """Go on with what `put_back` had begun."""
        names = _names(self.store, WORK_ROLLBACK)
        if not names:
            return
        for name, problem in finish_rollbacks(self.store, names).items():
            if problem is None:
                self.lines.append(f"{name}: finished an interrupted rollback")
            else:
                self.failures[name] = problem

    def empty_scratch(self) -> None:
        """Delete sets that were never complete, or on their way out."""
        for name in _names(self.store, WORK_SCRATCH):
            with self._guard(name), self.store.make_own(*WORK_SCRATCH) as scratch:
                scratch.remove_tree(name)
                self.lines.append(f"{name}: removed a half-made set of an interrupted run")

    def settle_sets(self) -> None:
        """Finish promotions that were interrupted."""
        names = {*_names(self.store, WORK_DOMAINS), *_names(self.store, WORK_OUTGOING)}
        if not names:
            return
        with open_places(self.store) as places, Archive.open(self.store) as archive:
            for name in sorted(names):
                with self._guard(name):
                    self.lines.append(self._settle(places, archive, name))

    def empty_staging_work(self) -> None:
        """Delete sets that were not staged in time; an account of mod_md's in them is kept."""
        for name, problem in recover_staging(self.store):
            if problem is None:
                self.lines.append(f"{name}: removed what an interrupted run left beside staging")
            else:
                self.failures[name] = problem

    def clear_staged_twins(self) -> None:
        """Clear staging where it holds what is live already."""
        staging, domains = self.store.staging(), self.store.domains()
        if staging is None or domains is None:
            return
        with staging, domains:
            for name in staging.names():
                if name not in self.domains:
                    continue
                with self._guard(name):
                    staged = fingerprints_at(staging, name)
                    if staged and staged == fingerprints_at(domains, name):
                        clear_staged(self.store, name)
                        self.lines.append(f"{name}: cleared staging of the set that is live")

    @contextmanager
    def _guard(self, name: str) -> Iterator[None]:
        try:
            yield
        except UnsafeStoreError:
            raise
        except StoreError as error:
            self.failures[name] = error

    def _settle(self, places: Places, archive: Archive, name: str) -> str:
        record = load_attempt(self.store, name)
        best = self._best(places, name, record)
        line = f"{name}: finished an interrupted promotion"
        if best is not None and best is not places.domains:
            with store_lock(self.store):
                put_live(places, best, name)
                places.sync()
            line = f"{name}: an interrupted promotion had not made the better set live; it is now"
        for place in places.waiting():
            if place.stat(name) is None:
                continue
            if record.refuses(fingerprints_at(place, name)):
                keep_refused(places, place, name)
            else:
                archive.add(place, name)
        return line

    def _best(self, places: Places, name: str, record: AttemptRecord) -> Folder | None:
        """Return where the set lies that is to be live; what is live stays on a tie."""
        best, found = NOTHING, None
        for place in (places.domains, *places.waiting()):
            if place.stat(name) is None:
                continue
            standing = self._standing(place, name, record)
            if place is places.domains or standing > best:
                best, found = standing, place
        return found

    def _standing(self, place: Folder, name: str, record: AttemptRecord) -> Standing:
        with opened(place, name) as folder:
            if folder is None or record.refuses(fingerprints_in(folder)):
                return NOTHING
            return standing_of(folder, self.domains.get(name), self.now)


def _damage(store: Store, domain: ManagedDomain) -> str | None:
    domains = store.domains()
    if domains is None:
        return None
    with domains:
        live = domains.open(domain.name, owners=store.owners.trusted)
    if live is None:
        return None
    with live:
        try:
            credentials_in(live, domain.key_specs)
        except CertificateError as error:
            return str(error)
        except StoreError as error:
            if error.unreadable or isinstance(error, ExhaustedError):
                # it says nothing about what Apache can read, which is root
                raise
            return str(error)
    return None


def _prepare_replacement(
    store: Store, domain: ManagedDomain, record: AttemptRecord, now: datetime
) -> str | None:
    pending = Pending.load(store, domain)
    note = pending.note
    if note is not None and pending.is_complete(domain):
        credentials = pending.credentials()
        refused = record.refuses(one.facts.sha256 for one in credentials)
        if not refused and not verify_set(domain, credentials, live=(), now=now).refusals:
            prepare(
                store,
                domain,
                credentials,
                ca_url=note.ca_url,
                account_id=note.account_id,
                now=now,
            )
            return "the set in pending"
    with Archive.open(store) as archive:
        best, origin, files = NOTHING, None, {}
        for entry, folder in archive.entries(domain.name):
            standing = standing_of(folder, domain, now)
            if standing > best and not record.refuses(fingerprints_in(folder)):
                best, origin, files = standing, f"archive/{entry}", _files_of(folder)
    if origin is not None:
        prepare_files(store, domain.name, files)
    return origin


def _files_of(folder: Folder) -> dict[str, bytes]:
    """Read an archived set: its pairs and mod_md's records."""
    names = [f"{kind}{suffix}.pem" for suffix in chain_suffixes(folder) for kind in _PAIR]
    contents = {
        name: folder.read(name, max_bytes=MAX_CHAIN_BYTES)
        for name in (*names, "md.json", "job.json")
    }
    return {name: content for name, content in contents.items() if content is not None}


def _written_folders(store: Store) -> Iterator[Folder]:
    """Yield the folders in which files are written that are not replaced as a whole."""
    for parent in (store.own(), store.accounts(), store.own("accounts"), store.own(PENDING)):
        if parent is None:
            continue
        for name in parent.names():
            with suppress(UnsafeEntryError):
                folder = parent.open(name)
                if folder is not None:
                    yield folder
        yield parent


def _names(store: Store, place: tuple[str, ...]) -> list[str]:
    folder = store.own(*place)
    if folder is None:
        return []
    with folder:
        return folder.names()
