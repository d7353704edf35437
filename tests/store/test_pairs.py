"""What a set in a folder is worth: damage to it is seen, and want of handles is no damage."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mdconnector.certificates import chain_to_pem
from mdconnector.errors import StoreError
from mdconnector.store.folder import ExhaustedError, Folder
from mdconnector.store.pairs import (
    NOTHING,
    Standing,
    Worth,
    credentials_in,
    examined,
    fingerprints_in,
    is_sound,
    serves,
    standing_of,
)
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import DOMAIN, NAME, NEW, NOW, leaves, open_store, put_set
from tests.store.kill_points import refusing

CHAIN, KEY = EC_SPEC.pubcert_name, EC_SPEC.privkey_name


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store with a live set."""
    with open_store(tmp_path / "md") as opened:
        put_set(opened, "domains", NAME, NEW)
        yield opened


@pytest.fixture
def folder(store: Store) -> Iterator[Folder]:
    """The folder of the live set."""
    with store.make_in_group("domains", NAME) as opened:
        yield opened


def test_good_set_serves_and_is_as_new_as_its_leaf(folder: Folder) -> None:
    assert standing_of(folder, DOMAIN, NOW) == Standing(Worth.SERVING, NEW.facts.not_before)
    assert standing_of(folder, None, NOW) == Standing(Worth.SOUND, NEW.facts.not_before)
    assert examined(folder) == ((NEW.facts,), True)


def test_set_without_its_key_is_damaged(folder: Folder) -> None:
    folder.remove(KEY)
    assert not is_sound(folder)
    assert not serves(folder, DOMAIN, NOW)
    assert standing_of(folder, DOMAIN, NOW) == NOTHING
    assert examined(folder) == ((NEW.facts,), False)
    with pytest.raises(StoreError, match="its counterpart is there") as caught:
        credentials_in(folder, (EC_SPEC,))
    assert caught.value.path == folder.path_of(KEY)


def test_set_whose_leaf_cannot_be_read_is_damaged_though_the_key_is_its_own(folder: Folder) -> None:
    name = DOMAIN.names[-1].encode()
    der = NEW.chain[0].public_bytes(serialization.Encoding.DER)
    leaf = x509.load_der_x509_certificate(der.replace(name, b"\xff" * len(name)))
    folder.write(CHAIN, chain_to_pem((leaf, *NEW.chain[1:])), 0o600)
    assert not is_sound(folder)
    assert examined(folder) == ((), False)


def test_key_type_that_is_not_there_at_all_is_left_out(folder: Folder) -> None:
    assert leaves(*credentials_in(folder, (RSA_SPEC, EC_SPEC))) == leaves(NEW)


def test_link_in_place_of_a_key_is_damage_that_is_not_followed(folder: Folder) -> None:
    folder.remove(KEY)
    Path(folder.path_of(KEY)).symlink_to("/etc/passwd")
    assert examined(folder) == ((NEW.facts,), False)
    assert standing_of(folder, DOMAIN, NOW) == NOTHING


def test_chain_that_vanishes_while_it_is_looked_for_is_left_out(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Folder.names
    monkeypatch.setattr(Folder, "names", lambda one: [*real(one), RSA_SPEC.pubcert_name])
    assert fingerprints_in(folder) == leaves(NEW)


@pytest.mark.parametrize("look", [is_sound, fingerprints_in, lambda one: serves(one, DOMAIN, NOW)])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_want_of_handles_or_memory_is_an_error_not_damage(
    folder: Folder, look: Callable[[Folder], object], number: int
) -> None:
    with (
        refusing("open-to-read", number, of=CHAIN) as was_refused,
        pytest.raises(ExhaustedError),
    ):
        look(folder)
    assert was_refused()
