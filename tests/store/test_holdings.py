"""Every certificate of a name is found wherever it lies, and damage to one hides no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mdconnector.store.folder import Folder
from mdconnector.store.holdings import Place, holdings_of
from mdconnector.store.tree import Store
from tests.store.credentials import CA, NAME, NEW, NOW, OLD, aged, open_store, put_set


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


def found(store: Store, name: str = NAME) -> list[tuple[Place, int]]:
    return [(one.place, one.facts.serial) for one in holdings_of(store, name)]


def test_each_certificate_is_found_once_live_ones_first(store: Store) -> None:
    first, second = aged(200), aged(300)
    put_set(store, "archive", f"{NAME}.2", second)
    put_set(store, "archive", f"{NAME}.1", first)
    put_set(store, "archive", f"{NAME}.3", NEW)
    put_set(store, "domains", NAME, NEW)
    put_set(store, "staging", NAME, OLD)
    assert found(store) == [
        (Place.LIVE, NEW.facts.serial),
        (Place.STAGED, OLD.facts.serial),
        (Place.ARCHIVED, first.facts.serial),
        (Place.ARCHIVED, second.facts.serial),
    ]


def test_other_names_are_not_taken_for_it(store: Store) -> None:
    other = CA.credential(("www.a.example",), not_before=NOW - timedelta(days=1))
    put_set(store, "archive", "www.a.example.1", other)
    put_set(store, "archive", f"{NAME}.old", OLD)
    assert found(store) == []
    assert found(store, "www.a.example") == [(Place.ARCHIVED, other.facts.serial)]


def test_a_key_that_is_missing_or_another_ones_is_none(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (known,) = holdings_of(store, NAME)
    assert known.key is not None
    (folder / NEW.spec.privkey_name).unlink()
    (without,) = holdings_of(store, NAME)
    assert without.key is None
    other = put_set(store, "archive", f"{NAME}.1", OLD)
    (other / OLD.spec.privkey_name).rename(folder / NEW.spec.privkey_name)
    live, _ = holdings_of(store, NAME)
    assert live.key is None


def test_a_key_that_lies_beside_a_copy_is_taken_from_there(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / NEW.spec.privkey_name).unlink()
    put_set(store, "archive", f"{NAME}.1", NEW)
    (known,) = holdings_of(store, NAME)
    assert (known.place, known.key is not None) == (Place.LIVE, True)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"x" * 2_000_000])
def test_a_damaged_chain_hides_no_other(store: Store, content: bytes) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / NEW.spec.pubcert_name).write_bytes(content)
    put_set(store, "archive", f"{NAME}.1", OLD)
    assert found(store) == [(Place.ARCHIVED, OLD.facts.serial)]


@pytest.mark.parametrize("group", ["domains", "staging", "archive"])
def test_a_link_in_place_of_a_folder_is_passed_over(store: Store, group: str) -> None:
    aside = put_set(store, "domains", "elsewhere.example", NEW)
    name = f"{NAME}.1" if group == "archive" else NAME
    with store.make_group(group):
        (store.path / group / name).symlink_to(aside)
    assert found(store) == []


def test_what_md_json_says_of_ca_and_account_is_known_unless_it_is_damaged(store: Store) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / "md.json").write_text(
        f'{{"name": "{NAME}", "ca": {{"url": "https://ca.example/dir", "account": "ACME-x"}}}}'
    )
    (known,) = holdings_of(store, NAME)
    assert (known.ca_url, known.account_id) == ("https://ca.example/dir", "ACME-x")
    (folder / "md.json").write_text("{")
    (unknown,) = holdings_of(store, NAME)
    assert (unknown.ca_url, unknown.account_id) == (None, None)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"x" * 2_000_000])
def test_a_damaged_key_is_none(store: Store, content: bytes) -> None:
    folder = put_set(store, "domains", NAME, NEW)
    (folder / NEW.spec.privkey_name).write_bytes(content)
    (known,) = holdings_of(store, NAME)
    assert (known.facts, known.key) == (NEW.facts, None)


def test_a_chain_that_vanishes_meanwhile_hides_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_set(store, "domains", NAME, NEW)
    real = Folder.names
    monkeypatch.setattr(Folder, "names", lambda folder: ["pubcert.pem", *real(folder)])
    assert found(store) == [(Place.LIVE, NEW.facts.serial)]
