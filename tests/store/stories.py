"""What happens to a store, story by story, for the tests that stop it in the middle.

Rules: a story says what is there, what is done to it, and what may be live afterwards; its keys,
save those that it is there to drop, survive whatever is done to it. All of it happens to one
domain, as the runs of a command do it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mdconnector.certificates import chain_to_pem
from mdconnector.errors import StoreError
from mdconnector.keys import generate_key, key_to_pem, public_bytes
from mdconnector.store.accounts import begin_account, save_account
from mdconnector.store.attempts import Run, load_attempt, save_attempt
from mdconnector.store.directories import save_directory
from mdconnector.store.lock import run_lock
from mdconnector.store.pending import OrderNote, Pending
from mdconnector.store.promotion import Swapped, finish, prepare, put_back, swap
from mdconnector.store.records import StoredAccount, render_account
from mdconnector.store.recovery import recover, repair
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import (
    ACCOUNT_ID,
    CA_URL,
    DOMAIN,
    NAME,
    NEW,
    NOW,
    OLD,
    aged,
    keys_in,
    leaves,
    live,
    open_store,
    put_set,
)
from tests.store.kill_points import changes_of

ARCHIVED = [aged(days) for days in (100, 200, 300, 350, 380)]
WORK = "mdconnector/work"
ACCOUNT_KEY = generate_key(RSA_SPEC)
ACCOUNT = StoredAccount(id="", url="https://ca.example/acct/1", ca_url=CA_URL)


def obtain(store: Store) -> None:
    """Go through an order from its beginning to its chain."""
    pending = Pending.load(store, DOMAIN)
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    order = OrderNote(None, CA_URL, ACCOUNT_ID, DOMAIN.names, EC_SPEC.label, NOW)
    if pending.load_key(EC_SPEC) is None:
        pending.save_key(EC_SPEC, NEW.key, csr=b"csr", order=order)
    else:
        pending.save_order(EC_SPEC, order)
    pending.save_order(EC_SPEC, order._replace(url="https://ca.example/order/1"))
    pending.save_chain(EC_SPEC, chain_to_pem(NEW.chain))


def stage_new(store: Store) -> None:
    """Stage what is pending."""
    credentials = Pending.load(store, DOMAIN).credentials()
    stage(store, DOMAIN, credentials, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)


def promote(store: Store) -> Swapped:
    """Promote what is pending, up to the reload."""
    credentials = Pending.load(store, DOMAIN).credentials()
    prepare(store, DOMAIN, credentials, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    result = (swap(store, [NAME]) or {})[NAME]
    if isinstance(result, StoreError):
        raise result
    finish(store, [NAME])
    return result


def roll_back(store: Store) -> None:
    """Undo a promotion that is live."""
    put_back(store, [Swapped(NAME, leaves(NEW), leaves(OLD))], reason="Apache ended", now=NOW)


def roll_back_first(store: Store) -> None:
    """Undo a promotion that is live, where nothing was before."""
    put_back(store, [Swapped(NAME, leaves(NEW), ())], reason="Apache ended", now=NOW)


def drop(store: Store) -> None:
    """Drop what is pending."""
    Pending.load(store, DOMAIN).drop()


def mend(store: Store) -> None:
    """Do what every run begins with."""
    recover(store, [DOMAIN], NOW)
    repair(store, DOMAIN, NOW)


def register(store: Store) -> None:
    """Go through the registration of an account."""
    key = begin_account(store, CA_URL, None, lambda: ACCOUNT_KEY)
    save_account(store, ACCOUNT, key)


def remember(store: Store) -> None:
    """Note what a run did, and what a CA told, under the lock."""
    with run_lock(store, wait_seconds=0, command="renew", on_wait=print):
        _remember(store)


def _remember(store: Store) -> None:
    run = Run(NOW, "renew", "failed", "the CA is away")
    save_attempt(store, NAME, load_attempt(store, NAME).with_run(run))
    save_directory(store, CA_URL, {"newOrder": "https://ca.example/new-order"}, NOW)


def with_account_begun(store: Store) -> None:
    """An old set is live, and an account is being registered."""
    with_old(store)
    begin_account(store, CA_URL, None, lambda: ACCOUNT_KEY)


def with_account_in_staging(store: Store) -> None:
    """As before an order is staged, and mod_md has left an account in staging."""
    with_old(store)
    obtain(store)
    with store.make_in_group("staging", NAME) as folder:
        folder.write("account.json", render_account(ACCOUNT), 0o644)
        folder.write("account.pem", key_to_pem(ACCOUNT_KEY, store.passphrase()), 0o644)


def with_old(store: Store) -> None:
    """An old set is live."""
    put_set(store, "domains", NAME, OLD)


def with_staged(store: Store) -> None:
    """An old set is live, the new one obtained and staged."""
    with_old(store)
    obtain(store)
    stage_new(store)


def with_first(store: Store) -> None:
    """Nothing is live yet, the new set obtained and staged."""
    obtain(store)
    stage_new(store)


def with_full_archive(store: Store) -> None:
    """As with_staged, and the archive holds as many sets as it may."""
    with_staged(store)
    for number, pair in enumerate(ARCHIVED, start=1):
        put_set(store, "archive", f"{NAME}.{number}", pair)


def with_promoted(store: Store) -> None:
    """The new set is live, the old one in the archive."""
    with_staged(store)
    promote(store)


def with_first_promoted(store: Store) -> None:
    """The new set is live, and nothing was before."""
    with_first(store)
    promote(store)


def with_damaged(store: Store) -> None:
    """What is live was cut off by a power cut; a good set is in the archive."""
    folder = put_set(store, "domains", NAME, NEW)
    (folder / EC_SPEC.privkey_name).write_bytes(b"")
    put_set(store, "archive", f"{NAME}.1", OLD)


def with_damaged_and_pending(store: Store) -> None:
    """What is live was cut off, and the set that it was is still pending."""
    with_damaged(store)
    obtain(store)


@dataclass(frozen=True, slots=True)
class Story:
    """What is there, what is done to it, and what may be live afterwards."""

    given: Callable[[Store], None]
    act: Callable[[Store], object]
    may_be_live: tuple[tuple[str, ...] | None, ...]
    is_live_in_the_end: tuple[str, ...] | None
    can_exchange: bool = True


_OLD, _NEW = leaves(OLD), leaves(NEW)
STORIES = {
    "obtain": Story(with_old, obtain, (_OLD,), _OLD),
    "register": Story(with_account_begun, register, (_OLD,), _OLD),
    "remember": Story(with_old, remember, (_OLD,), _OLD),
    "drop": Story(with_staged, drop, (_OLD,), _OLD),
    "stage": Story(with_staged, stage_new, (_OLD,), _OLD),
    "stage-first": Story(obtain, stage_new, (None,), None),
    "stage-over-account": Story(with_account_in_staging, stage_new, (_OLD,), _OLD),
    "stage-by-renames": Story(with_staged, stage_new, (_OLD,), _OLD, can_exchange=False),
    "promote": Story(with_staged, promote, (_OLD, _NEW), _NEW),
    "promote-first": Story(with_first, promote, (None, _NEW), _NEW),
    "promote-by-renames": Story(with_staged, promote, (_OLD, _NEW), _NEW, can_exchange=False),
    "promote-full-archive": Story(with_full_archive, promote, (_OLD, _NEW), _NEW),
    "put-back": Story(with_promoted, roll_back, (_OLD, _NEW), _OLD),
    "put-back-by-renames": Story(with_promoted, roll_back, (_OLD, _NEW), _OLD, can_exchange=False),
    "put-back-first": Story(with_first_promoted, roll_back_first, (None, _NEW), None),
    "repair": Story(with_damaged, mend, (_OLD,), _OLD),
    "repair-from-pending": Story(with_damaged_and_pending, mend, (_NEW,), _NEW),
    "repair-by-renames": Story(with_damaged, mend, (_OLD,), _OLD, can_exchange=False),
}


def given(room: Path, story: Story) -> Path:
    """Make the store that a story begins with."""
    path = room / "given"
    with open_store(path) as store:
        story.given(store)
    return path


def copy_of(path: Path) -> Path:
    """Make a fresh copy of a store."""
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, symlinks=True)
    return copy


def act_in(path: Path, act: Callable[[Store], object]) -> None:
    """Do something as a run of its own."""
    with open_store(path) as store:
        act(store)


def changes_in(path: Path, act: Callable[[Store], object], story: Story) -> int:
    """Do something as a run of its own, to its end, and count its changes."""
    return changes_of(partial(act_in, path, act), can_exchange=story.can_exchange)


def assert_mended(path: Path, story: Story, keys: set[bytes]) -> None:
    """Mend a store and look whether all is well; the second time there is nothing to mend."""
    with open_store(path) as store:
        assert recover(store, [DOMAIN], NOW).failures == {}
        repair(store, DOMAIN, NOW)
        assert live(store) in story.may_be_live
        assert keys_in(store) >= keys
        assert list((store.path / WORK).glob("*/*")) == []
        assert recover(store, [DOMAIN], NOW).lines == ()
        assert repair(store, DOMAIN, NOW) is None


def keys_that_must_survive(path: Path, story: Story) -> set[bytes]:
    """The keys of all that is sound before the story begins, save what it is there to drop."""
    if story.act is drop:
        return {public_bytes(OLD.key)}
    newest_archived = ARCHIVED[0].key
    pairs = {public_bytes(key) for key in (OLD.key, NEW.key, newest_archived, ACCOUNT_KEY)}
    with open_store(path) as store:
        return keys_in(store) & pairs


def live_or_damaged(store: Store) -> tuple[str, ...] | str | None:
    """Return what is live, or that the story began with a damaged set."""
    try:
        return live(store)
    except AssertionError:
        return "damaged"
