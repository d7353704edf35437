"""The set that is being obtained for one domain: mdconnector/pending/<name>/, ours alone.

    set.json                 what it was begun for; without it nothing else in the folder counts
    privkey[.curve].pem      the new key, in clear, 0600
    request[.curve].csr      the CSR that was or will be sent for it
    order[.curve].json       the order at the CA, from before it is made until its chain is here
    pubcert[.curve].pem      the chain, leaf first
    traces.json              what was set up for challenges and is to be taken down

Rules: each step is durable before the caller tells the CA; nothing here is dropped before the set
is durable in domains/, unless the configuration has changed and a new order begins.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Self

from mdconnector.certificates import MAX_CHAIN_BYTES, Credential, make_credential
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, PrivateKey, key_from_pem, key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.folder import Folder
from mdconnector.store.notes import (
    DamagedNoteError,
    Fields,
    damaged,
    read_note,
    render_note,
    time_text,
)
from mdconnector.store.pairs import MAX_KEY_BYTES, fingerprints_in
from mdconnector.store.set_aside import set_aside_entry
from mdconnector.store.tree import Store, folder_name

PENDING = "pending"
_SET = "set.json"
_TRACES = "traces.json"
_MODE = 0o600


class PendingNote(NamedTuple):
    """What a set was begun for."""

    names: tuple[str, ...]
    key_specs: tuple[str, ...]
    must_staple: bool
    profile: str | None
    ca_url: str
    account_id: str
    since: datetime

    def fits(self, domain: ManagedDomain) -> bool:
        """Say whether the configuration still asks for this set, from one of its CAs."""
        return (
            self.ca_url in domain.effective_ca_urls
            and self.names == domain.names
            and self.key_specs == _labels(domain)
            and self.must_staple == domain.must_staple
            and self.profile == domain.profile
        )


class OrderNote(NamedTuple):
    """An order at a CA. `url` is None from before newOrder is sent until its answer is here."""

    url: str | None
    ca_url: str
    account_id: str
    names: tuple[str, ...]
    key_label: str
    created: datetime
    finalize_sent_at: datetime | None = None
    """when the CSR was handed in, where the CA has not refused it"""
    eab_kid_digest: str | None = None


class Pending:
    """What lies in pending/ for one domain; every `save` is durable when it returns."""

    def __init__(self, store: Store, domain: ManagedDomain, note: PendingNote | None) -> None:
        self._store = store
        self._domain = domain
        self._name = folder_name(domain.name)
        self._note = self._kept_note = note

    @classmethod
    def load(cls, store: Store, domain: ManagedDomain) -> Self:
        """Read what was begun. Where that cannot be told any more, nothing was."""
        folder = store.own(PENDING, folder_name(domain.name))
        if folder is None:
            return cls(store, domain, None)
        with folder:
            try:
                note = _read_set(folder)
            except DamagedNoteError:
                note = None
        return cls(store, domain, note)

    @property
    def note(self) -> PendingNote | None:
        """What the set was begun for; None where none was begun."""
        return self._note

    def is_for(self, domain: ManagedDomain) -> bool:
        """Say whether a set was begun, for what the configuration asks for now."""
        return self._note is not None and self._note.fits(domain)

    def begin(self, domain: ManagedDomain, *, ca_url: str, account_id: str, now: datetime) -> None:
        """Begin a set, or go on with the one that was begun for the same configuration and CA.

        Any other one is dropped; one that cannot be told what it was for is set aside. What this
        one is for is kept together with the first that is saved of it.
        """
        self._domain = domain
        if self.is_for(domain) and self._note is not None and self._note.ca_url == ca_url:
            since = self._note.since
        else:
            self._clear()
            since = now
        self._note = PendingNote(
            names=domain.names,
            key_specs=_labels(domain),
            must_staple=domain.must_staple,
            profile=domain.profile,
            ca_url=ca_url,
            account_id=account_id,
            since=since,
        )

    def save_key(
        self,
        spec: KeySpec,
        key: PrivateKey,
        *,
        csr: bytes | None = None,
        order: OrderNote | None = None,
    ) -> None:
        """Keep a new key, its CSR (DER) and the order to be placed, before any of them is used."""
        files = {} if csr is None else {_request_name(spec): csr}
        files[spec.privkey_name] = key_to_pem(key)
        if order is not None:
            files[_order_name(spec)] = render_note(_render_order(order))
        self._save(files)

    def load_key(self, spec: KeySpec) -> PrivateKey | None:
        """Return the key; None where none was made. Raises CertificateError for a damaged one."""
        pem = self._read(spec.privkey_name, MAX_KEY_BYTES)
        return None if pem is None else key_from_pem(pem)

    def load_csr(self, spec: KeySpec) -> bytes | None:
        """Return the CSR (DER) that was kept with the key."""
        return self._read(_request_name(spec), MAX_KEY_BYTES)

    def save_order(self, spec: KeySpec, order: OrderNote) -> None:
        """Keep an order: before newOrder with no URL, after it, and before finalize."""
        self._save({_order_name(spec): render_note(_render_order(order))})

    def load_order(self, spec: KeySpec) -> OrderNote | None:
        """Return the open order; None where there is none. Raises StoreError for a damaged one."""
        with self._open() as folder:
            return None if folder is None else _read_order(folder, _order_name(spec))

    def drop_order(self, spec: KeySpec) -> None:
        """Forget an order that came to nothing; the key stays."""
        with self._open() as folder:
            if folder is not None:
                folder.remove(_order_name(spec))
                folder.sync()

    def drop_key(self, spec: KeySpec) -> None:
        """Forget a key that the CA does not take, with its order and CSR."""
        with self._open() as folder:
            if folder is not None:
                for name in (_order_name(spec), _request_name(spec), spec.privkey_name):
                    folder.remove(name)
                folder.sync()

    def save_chain(self, spec: KeySpec, pem: bytes) -> None:
        """Keep the chain; the order has done its work then."""
        self._save({spec.pubcert_name: pem})
        self.drop_order(spec)

    def load_chain(self, spec: KeySpec) -> bytes | None:
        """Return the chain as PEM; None where it is not here yet."""
        return self._read(spec.pubcert_name, MAX_CHAIN_BYTES)

    def save_traces(self, traces: Sequence[object]) -> None:
        """Keep what is about to be set up for challenges, as JSON values; none: nothing is."""
        if self._note is None:
            return
        if traces:
            self._save({_TRACES: render_note({"traces": list(traces)})})
            return
        with self._open() as folder:
            if folder is not None:
                # not synced: what comes back after a power cut is taken down once more
                folder.remove(_TRACES)

    def load_traces(self) -> list[object]:
        """Return what was kept by `save_traces`. Raises StoreError for a damaged file."""
        with self._open() as folder:
            fields = None if folder is None else read_note(folder, _TRACES)
            traces = [] if fields is None else fields.members().get("traces")
            if folder is not None and not isinstance(traces, list):
                raise damaged(folder, _TRACES, "its member 'traces' is no list")
            return traces if isinstance(traces, list) else []

    def open_orders(self) -> tuple[OrderNote, ...]:
        """Return the orders that wait at the CA, for any key type of the domain."""
        orders = (self.load_order(spec) for spec in self._domain.key_specs)
        return tuple(order for order in orders if order is not None)

    def is_complete(self, domain: ManagedDomain) -> bool:
        """Say whether keys and chains for all that the configuration asks for are here."""
        if not self.is_for(domain):
            return False
        try:
            return len(self.credentials()) == len(domain.key_specs)
        except CertificateError:
            return False

    def credentials(self) -> tuple[Credential, ...]:
        """Return the pairs that are here, in the order of the key types.

        Raises CertificateError for a pair that is damaged.
        """
        return tuple(self._credentials())

    def fingerprints(self) -> tuple[str, ...]:
        """Return the SHA-256 of every leaf that is here and readable, sorted."""
        with self._open() as folder:
            return () if folder is None else fingerprints_in(folder)

    def drop(self) -> None:
        """Drop it all: the set is live, or of no use any more."""
        with self._pending() as pending:
            if pending is not None:
                _remove(pending, self._name)
        self._note = self._kept_note = None

    def _save(self, files: Mapping[str, bytes]) -> None:
        """Write files, all durable when it returns; with the first also what the set is for."""
        note = self._note
        if note is not None and note != self._kept_note:
            # first, because without it nothing else in the folder counts
            files = {_SET: render_note(_render_set(note)), **files}
        with self._store.make_own(PENDING, self._name) as folder:
            folder.write_all(files, _MODE)
            folder.sync()
        self._kept_note = note

    def _credentials(self) -> Iterator[Credential]:
        if self._note is None:
            return
        for spec in self._domain.key_specs:
            key, chain = self.load_key(spec), self.load_chain(spec)
            if key is not None and chain is not None:
                yield make_credential(spec, key, chain)

    def _clear(self) -> None:
        """Make room for another set."""
        self._kept_note = None
        with self._pending() as pending:
            if pending is None:
                return
            if self._note is None and _holds_keys(pending, self._name):
                set_aside_entry(
                    self._store, pending, self._name, "nothing says what this key was made for"
                )
            else:
                _remove(pending, self._name)

    def _read(self, name: str, max_bytes: int) -> bytes | None:
        with self._open() as folder:
            return None if folder is None else folder.read(name, max_bytes=max_bytes)

    @contextmanager
    def _open(self) -> Iterator[Folder | None]:
        folder = None if self._note is None else self._store.own(PENDING, self._name)
        if folder is None:
            yield None
            return
        with folder:
            yield folder

    @contextmanager
    def _pending(self) -> Iterator[Folder | None]:
        folder = self._store.own(PENDING)
        if folder is None:
            yield None
            return
        with folder:
            yield folder


def drop_pending(store: Store, name: str, fingerprints: tuple[str, ...]) -> None:
    """Drop a set whose leaves are exactly these; another one, or one half-done, stays."""
    pending = store.own(PENDING)
    if pending is None:
        return
    with pending:
        folder = pending.open(name)
        if folder is None:
            return
        with folder:
            is_it = fingerprints_in(folder) == fingerprints
        if is_it and fingerprints:
            _remove(pending, name)


def open_order_urls(store: Store) -> tuple[str, ...]:
    """Return the URLs of all orders that wait at any CA, for whatever domain."""
    return tuple(_open_order_urls(store))


def _open_order_urls(store: Store) -> Iterator[str]:
    pending = store.own(PENDING)
    if pending is None:
        return
    with pending:
        for name in pending.names():
            folder = pending.open(name)
            if folder is None:
                continue
            with folder:
                for file_name in folder.names():
                    if file_name.startswith("order") and (url := _url_of(folder, file_name)):
                        yield url


def _url_of(folder: Folder, file_name: str) -> str | None:
    try:
        order = _read_order(folder, file_name)
    except StoreError:
        return None
    return order.url if order else None


def _remove(pending: Folder, name: str) -> None:
    folder = pending.open(name)
    if folder is None:
        return
    with folder:
        # first what makes the rest count, so that a run killed here leaves nothing that looks begun
        folder.remove(_SET)
        folder.sync()
    pending.remove_tree(name)
    pending.sync()


def _holds_keys(pending: Folder, name: str) -> bool:
    folder = pending.open(name)
    if folder is None:
        return False
    with folder:
        return _SET in (names := folder.names()) and any(one.startswith("privkey") for one in names)


def _labels(domain: ManagedDomain) -> tuple[str, ...]:
    return tuple(f"{spec.label}{spec.file_suffix}" for spec in domain.key_specs)


def _order_name(spec: KeySpec) -> str:
    return f"order{spec.file_suffix}.json"


def _request_name(spec: KeySpec) -> str:
    return f"request{spec.file_suffix}.csr"


def _read_set(folder: Folder) -> PendingNote | None:
    fields = read_note(folder, _SET)
    try:
        return None if fields is None else _parse_set(fields)
    except ValueError as error:
        raise damaged(folder, _SET, error) from None


def _parse_set(fields: Fields) -> PendingNote:
    return PendingNote(
        names=fields.texts("names"),
        key_specs=fields.texts("key_specs"),
        must_staple=fields.flag("must_staple"),
        profile=fields.optional_text("profile"),
        ca_url=fields.text("ca_url"),
        account_id=fields.text("account_id"),
        since=fields.time("since"),
    )


def _render_set(note: PendingNote) -> dict[str, object]:
    return {
        "names": list(note.names),
        "key_specs": list(note.key_specs),
        "must_staple": note.must_staple,
        "profile": note.profile,
        "ca_url": note.ca_url,
        "account_id": note.account_id,
        "since": time_text(note.since),
    }


def _read_order(folder: Folder, name: str) -> OrderNote | None:
    fields = read_note(folder, name)
    try:
        return None if fields is None else _parse_order(fields)
    except ValueError as error:
        raise damaged(folder, name, error) from None


def _parse_order(fields: Fields) -> OrderNote:
    return OrderNote(
        url=fields.optional_text("url"),
        ca_url=fields.text("ca_url"),
        account_id=fields.text("account_id"),
        names=fields.texts("names"),
        key_label=fields.text("key_label"),
        created=fields.time("created"),
        finalize_sent_at=fields.optional_time("finalize_sent_at"),
        eab_kid_digest=fields.optional_text("eab_kid_digest"),
    )


def _render_order(order: OrderNote) -> dict[str, object]:
    return {
        "url": order.url,
        "ca_url": order.ca_url,
        "account_id": order.account_id,
        "names": list(order.names),
        "key_label": order.key_label,
        "created": time_text(order.created),
        "finalize_sent_at": time_text(order.finalize_sent_at),
        "eab_kid_digest": order.eab_kid_digest,
    }
