"""What a CA offers is remembered for a day, and how long it asked an account to wait."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mdconnector.errors import StoreError
from mdconnector.renewal import AccountHold, LastError
from mdconnector.store.directories import (
    forget_directory,
    is_known_to_offer,
    load_directory,
    load_hold,
    save_directory,
    save_hold,
)
from mdconnector.store.tree import Store
from tests.store.credentials import CA_URL, NOW, open_store

HOLD = AccountHold(NOW, LastError("rateLimited", "too many", "wait", NOW))
LONGER = HOLD._replace(until=NOW + timedelta(hours=1))
OTHER_URL = "https://other.example/dir"
DIRECTORY: dict[str, object] = {
    "newNonce": "https://ca.example/nonce",
    "meta": {"externalAccountRequired": True},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        pytest.param(timedelta(), DIRECTORY, id="now"),
        pytest.param(timedelta(hours=23, minutes=59), DIRECTORY, id="within a day"),
        pytest.param(timedelta(hours=24), None, id="after a day"),
        pytest.param(timedelta(hours=-1), None, id="from the future"),
    ],
)
def test_directory_is_remembered_for_a_day(
    store: Store, age: timedelta, expected: dict[str, object] | None
) -> None:
    save_directory(store, CA_URL, DIRECTORY, NOW)
    assert load_directory(store, CA_URL, NOW + age) == expected


def test_directories_are_kept_apart_by_url(store: Store) -> None:
    save_directory(store, CA_URL, DIRECTORY, NOW)
    assert load_directory(store, OTHER_URL, NOW) is None


def test_forgotten_directory_has_to_be_asked_again(store: Store) -> None:
    save_directory(store, CA_URL, DIRECTORY, NOW)
    forget_directory(store, CA_URL)
    assert load_directory(store, CA_URL, NOW) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 1}', b'{"read_at": "x", "directory": 1}'])
def test_damaged_file_reads_as_nothing_remembered(store: Store, content: bytes) -> None:
    save_directory(store, CA_URL, DIRECTORY, NOW)
    save_hold(store, CA_URL, "kid", HOLD)
    for path in (store.path / "mdconnector/directories").iterdir():
        path.write_bytes(content)
    assert load_directory(store, CA_URL, NOW) is None
    assert load_hold(store, CA_URL, "kid") is None


def test_waiting_time_is_remembered_for_each_account(store: Store) -> None:
    save_hold(store, CA_URL, "kid", HOLD)
    save_hold(store, CA_URL, None, LONGER)
    assert load_hold(store, CA_URL, "kid") == HOLD
    assert load_hold(store, CA_URL, None) == LONGER
    assert load_hold(store, CA_URL, "other") is None


def test_nothing_is_made_by_looking(store: Store) -> None:
    load_directory(store, CA_URL, NOW)
    load_hold(store, CA_URL, "kid")
    forget_directory(store, CA_URL)
    assert not (store.path / "mdconnector/directories").exists()


def test_what_a_ca_offers_is_known_however_long_ago(store: Store) -> None:
    save_directory(store, CA_URL, DIRECTORY | {"renewalInfo": "https://ca.example/ari"}, NOW)
    assert is_known_to_offer(store, CA_URL, "renewalInfo")
    assert not is_known_to_offer(store, CA_URL, "revokeCert")
    assert not is_known_to_offer(store, OTHER_URL, "renewalInfo")


@pytest.mark.parametrize(
    "note",
    [
        {"url": CA_URL, "directory": []},
        {"url": CA_URL, "directory": {"renewalInfo": 5}},
        {"url": CA_URL, "read_at": NOW.isoformat()},
        {"url": OTHER_URL, "read_at": NOW.isoformat(), "directory": DIRECTORY},
        {"url": CA_URL, "read_at": 5, "directory": DIRECTORY},
    ],
)
def test_note_that_says_something_else_offers_nothing(
    store: Store, note: dict[str, object]
) -> None:
    save_directory(store, CA_URL, DIRECTORY, NOW)
    (file,) = (store.path / "mdconnector/directories").iterdir()
    file.write_text(json.dumps(note))
    assert load_directory(store, CA_URL, NOW) is None
    assert not is_known_to_offer(store, CA_URL, "renewalInfo")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_memory_that_may_not_be_read_is_an_error_not_empty(parts_folder: Path) -> None:
    with open_store(parts_folder / "md") as store:
        save_directory(store, CA_URL, DIRECTORY, NOW)
        own = store.path / "mdconnector"
        for path in (store.path, own, own / "directories"):
            path.chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError) as caught:
                load_directory(store, CA_URL, NOW)
        finally:
            os.seteuid(0)
    assert caught.value.unreadable
