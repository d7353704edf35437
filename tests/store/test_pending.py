"""A set that is being obtained survives everything: each step is on the disk before the next."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mdconnector.certificates import chain_to_pem
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, key_to_pem, public_bytes
from mdconnector.store.folder import Folder
from mdconnector.store.pending import OrderNote, Pending, drop_pending, open_order_urls
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import ACCOUNT_ID, CA, CA_URL, DOMAIN, NAME, NAMES, NEW, NOW, leaves
from tests.store.credentials import open_store as open_store_at
from tests.store.disk import unsynced
from tests.store.kill_points import Call, watched

ORDER = OrderNote(
    url="https://ca.example/order/1",
    ca_url=CA_URL,
    account_id=ACCOUNT_ID,
    names=NAMES,
    key_label=EC_SPEC.label,
    created=NOW,
    eab_kid_digest="ab" * 32,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store_at(tmp_path / "md") as opened:
        yield opened


def begun(store: Store) -> Pending:
    """Begin a set."""
    pending = Pending.load(store, DOMAIN)
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    return pending


def complete(store: Store) -> Pending:
    """Obtain a whole set."""
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key, csr=b"csr")
    pending.save_order(EC_SPEC, ORDER)
    pending.save_chain(EC_SPEC, chain_to_pem(NEW.chain))
    return pending


def folder_of(store: Store) -> Path:
    return store.path / "mdconnector/pending" / NAME


def test_domain_without_a_set_has_none_and_no_folder(store: Store) -> None:
    pending = Pending.load(store, DOMAIN)
    assert pending.note is None
    assert not pending.is_for(DOMAIN)
    assert (pending.load_key(EC_SPEC), pending.load_order(EC_SPEC)) == (None, None)
    assert (pending.credentials(), pending.fingerprints(), pending.load_traces()) == ((), (), [])
    assert not folder_of(store).exists()


def test_every_step_is_found_by_the_next_run(store: Store) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key, csr=b"csr")
    pending.save_order(EC_SPEC, ORDER)
    found = Pending.load(store, DOMAIN)
    key = found.load_key(EC_SPEC)
    assert key is not None
    assert public_bytes(key) == public_bytes(NEW.key)
    assert found.load_csr(EC_SPEC) == b"csr"
    assert found.load_order(EC_SPEC) == ORDER
    assert found.open_orders() == (ORDER,)
    assert not found.is_complete(DOMAIN)


def test_every_step_is_on_the_disk_when_it_returns(store: Store) -> None:
    with unsynced() as dirty:
        pending = begun(store)
        assert not dirty()
        pending.save_key(EC_SPEC, NEW.key, csr=b"csr")
        assert not dirty()
        pending.save_order(EC_SPEC, ORDER._replace(finalize_sent_at=NOW))
        assert not dirty()


def test_key_request_and_order_appear_after_what_they_are_for(store: Store) -> None:
    pending = begun(store)
    assert not folder_of(store).exists()
    placed: list[object] = []

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        if name == "rename":
            placed.append(args[1])
        return original(*args, **kwargs)

    with watched(watch), unsynced() as dirty:
        pending.save_key(EC_SPEC, NEW.key, csr=b"csr", order=ORDER._replace(url=None))
        assert not dirty()
    assert placed == [
        "set.json",
        "request.secp256r1.csr",
        "privkey.secp256r1.pem",
        "order.secp256r1.json",
    ]
    assert Pending.load(store, DOMAIN).load_order(EC_SPEC) == ORDER._replace(url=None)


def test_what_a_set_is_for_is_written_once(store: Store) -> None:
    pending = complete(store)
    before = (folder_of(store) / "set.json").stat()
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW + timedelta(days=1))
    pending.save_order(EC_SPEC, ORDER)
    assert (folder_of(store) / "set.json").stat().st_ino == before.st_ino
    pending.begin(DOMAIN, ca_url=CA_URL, account_id="other", now=NOW + timedelta(days=1))
    pending.save_order(EC_SPEC, ORDER)
    found = Pending.load(store, DOMAIN).note
    assert found is not None
    assert (found.since, found.account_id) == (NOW, "other")


def test_chain_completes_the_set_and_ends_the_order(store: Store) -> None:
    complete(store)
    found = Pending.load(store, DOMAIN)
    assert found.is_complete(DOMAIN)
    assert found.open_orders() == ()
    assert leaves(*found.credentials()) == leaves(NEW) == found.fingerprints()


def test_order_goes_only_once_its_chain_is_on_the_disk(store: Store) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key, csr=b"csr", order=ORDER)
    seen = []

    def look(name: str, dirty: set[str]) -> None:
        seen.append((name, dirty, Pending.load(store, DOMAIN).is_complete(DOMAIN)))

    with unsynced(before_removal=look):
        pending.save_chain(EC_SPEC, chain_to_pem(NEW.chain))
    assert seen == [("order.secp256r1.json", set(), True)]


def test_keys_are_for_the_owner_alone(store: Store) -> None:
    complete(store)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder_of(store).iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(folder_of(store).stat().st_mode) == 0o700


def test_beginning_again_for_the_same_configuration_goes_on(store: Store) -> None:
    complete(store)
    again = Pending.load(store, DOMAIN)
    again.begin(DOMAIN, ca_url=CA_URL, account_id="other", now=NOW + timedelta(days=1))
    assert again.is_complete(DOMAIN)
    assert again.note is not None
    assert (again.note.since, again.note.account_id) == (NOW, "other")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"names": (*NAMES, "new.a.example")}, id="another name"),
        pytest.param({"configured_key_specs": (EC_SPEC, RSA_SPEC)}, id="another key type"),
        pytest.param({"configured_key_specs": (KeySpec("RSA", 4096),)}, id="other key type"),
        pytest.param({"must_staple": True}, id="must-staple"),
        pytest.param({"profile": "short"}, id="profile"),
        pytest.param({"ca_urls": ("https://other.example/dir",)}, id="another CA"),
    ],
)
def test_set_for_another_configuration_is_seen_and_dropped(
    store: Store, change: dict[str, object]
) -> None:
    complete(store)
    changed = DOMAIN._replace(**change)  # type: ignore[arg-type] # the table names fields only
    pending = Pending.load(store, changed)
    assert not pending.is_for(changed)
    assert not pending.is_complete(changed)
    pending.begin(changed, ca_url=changed.ca_urls[0], account_id=ACCOUNT_ID, now=NOW)
    assert pending.load_key(EC_SPEC) is None
    pending.save_key(EC_SPEC, NEW.key)
    assert Pending.load(store, changed).is_for(changed)


def test_second_of_the_configured_cas_begins_a_set_of_its_own(store: Store) -> None:
    second = "https://second.example/dir"
    both = DOMAIN._replace(ca_urls=(CA_URL, second))
    complete(store)
    pending = Pending.load(store, both)
    assert pending.is_for(both)
    pending.begin(both, ca_url=second, account_id=ACCOUNT_ID, now=NOW)
    assert pending.credentials() == ()


def test_key_without_a_note_that_can_be_read_is_set_aside_not_deleted(store: Store) -> None:
    complete(store)
    (folder_of(store) / "set.json").write_bytes(b"{")
    pending = Pending.load(store, DOMAIN)
    assert pending.note is None
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    aside = store.path / "mdconnector/set-aside" / f"{NAME}.1"
    assert (aside / EC_SPEC.privkey_name).read_bytes() == key_to_pem(NEW.key)
    assert pending.load_key(EC_SPEC) is None


def test_damaged_order_is_an_error_with_its_path(store: Store) -> None:
    pending = begun(store)
    pending.save_order(EC_SPEC, ORDER)
    path = folder_of(store) / "order.secp256r1.json"
    path.write_bytes(b'{"url": 5}')
    with pytest.raises(StoreError) as caught:
        pending.load_order(EC_SPEC)
    assert caught.value.path == str(path)


def test_damaged_key_makes_the_set_incomplete(store: Store) -> None:
    pending = complete(store)
    (folder_of(store) / EC_SPEC.privkey_name).write_bytes(b"")
    assert not pending.is_complete(DOMAIN)
    with pytest.raises(CertificateError):
        pending.credentials()


def test_chain_of_another_key_makes_the_set_incomplete(store: Store) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key)
    pending.save_chain(EC_SPEC, chain_to_pem(CA.credential(NAMES).chain))
    assert not pending.is_complete(DOMAIN)


def test_set_is_complete_only_with_every_key_type(store: Store) -> None:
    both = DOMAIN._replace(configured_key_specs=(EC_SPEC, RSA_SPEC))
    pending = Pending.load(store, both)
    pending.begin(both, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    pending.save_key(EC_SPEC, NEW.key)
    pending.save_chain(EC_SPEC, chain_to_pem(NEW.chain))
    assert not pending.is_complete(both)
    rsa = CA.credential(NAMES, RSA_SPEC)
    pending.save_key(RSA_SPEC, rsa.key)
    pending.save_chain(RSA_SPEC, chain_to_pem(rsa.chain))
    assert pending.is_complete(both)


def test_dropped_order_keeps_the_key(store: Store) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key)
    pending.save_order(EC_SPEC, ORDER)
    pending.drop_order(EC_SPEC)
    assert pending.load_order(EC_SPEC) is None
    assert pending.load_key(EC_SPEC) is not None


def test_traces_are_kept_until_they_are_taken_down(store: Store) -> None:
    pending = begun(store)
    pending.save_traces([{"kind": "dns-01", "name": NAME}])
    assert Pending.load(store, DOMAIN).load_traces() == [{"kind": "dns-01", "name": NAME}]
    pending.save_traces(())
    assert Pending.load(store, DOMAIN).load_traces() == []


def test_dropped_set_leaves_nothing(store: Store) -> None:
    complete(store).drop()
    assert not folder_of(store).exists()
    assert Pending.load(store, DOMAIN).note is None


def test_what_makes_a_set_count_goes_first_and_for_good(store: Store) -> None:
    pending = complete(store)
    calls: list[tuple[str, object]] = []

    def watch(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], original: Call) -> Any:
        calls.append((name, args[0] if name == "unlink" else None))
        return original(*args, **kwargs)

    with watched(watch):
        pending.drop()
    assert calls[:2] == [("unlink", "set.json"), ("fsync", None)]


def test_only_the_named_set_is_dropped_by_its_leaves(store: Store) -> None:
    complete(store)
    drop_pending(store, NAME, leaves(CA.credential(NAMES)))
    assert Pending.load(store, DOMAIN).is_complete(DOMAIN)
    drop_pending(store, NAME, leaves(NEW))
    assert not folder_of(store).exists()


def test_wildcard_domain_has_a_folder_of_its_name(store: Store) -> None:
    wildcard = DOMAIN._replace(name="*.a.example", names=("*.a.example",))
    pending = Pending.load(store, wildcard)
    pending.begin(wildcard, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    pending.save_key(EC_SPEC, NEW.key)
    assert (store.path / "mdconnector/pending/*.a.example/set.json").exists()


def test_no_key_is_shown_by_repr(store: Store) -> None:
    pending = complete(store)
    assert "PRIVATE" not in repr(pending) + repr(pending.note) + repr(pending.credentials())


def test_key_that_the_ca_does_not_take_is_forgotten_with_its_order(store: Store) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key, csr=b"csr")
    pending.save_order(EC_SPEC, ORDER)
    pending.drop_key(EC_SPEC)
    assert [path.name for path in folder_of(store).iterdir()] == ["set.json"]
    assert Pending.load(store, DOMAIN).is_for(DOMAIN)


def test_nothing_begun_has_nothing_to_forget_or_to_keep(store: Store) -> None:
    pending = Pending.load(store, DOMAIN)
    pending.drop_key(EC_SPEC)
    pending.drop_order(EC_SPEC)
    pending.save_traces([{"kind": "dns-01"}])
    pending.drop()
    drop_pending(store, NAME, leaves(NEW))
    assert open_order_urls(store) == ()
    assert not folder_of(store).parent.exists()


def test_no_traces_to_take_down_change_nothing(store: Store) -> None:
    pending = begun(store)
    pending.save_traces(())
    assert not folder_of(store).exists()
    pending.save_key(EC_SPEC, NEW.key)
    before = folder_of(store).stat()
    pending.save_traces(())
    assert folder_of(store).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("content", [b"{}", b'{"traces": {}}', b'{"traces": "x"}'])
def test_damaged_traces_are_an_error_with_their_path(store: Store, content: bytes) -> None:
    pending = begun(store)
    pending.save_key(EC_SPEC, NEW.key)
    path = folder_of(store) / "traces.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is no list") as caught:
        pending.load_traces()
    assert caught.value.path == str(path)


def test_note_with_a_member_of_the_wrong_type_counts_as_none(store: Store) -> None:
    complete(store)
    good = (folder_of(store) / "set.json").read_bytes()
    path = folder_of(store) / "set.json"
    for member in ({"names": 5}, {"must_staple": "no"}):
        path.write_text(json.dumps(json.loads(good) | member))
        assert Pending.load(store, DOMAIN).note is None
    path.write_bytes(good)
    assert Pending.load(store, DOMAIN).note is not None


def test_folder_without_a_note_or_a_key_is_cleared(store: Store) -> None:
    folder_of(store).mkdir(parents=True)
    (folder_of(store) / "set.json").write_bytes(b"{")
    (folder_of(store) / "request.secp256r1.csr").write_bytes(b"csr")
    begun(store)
    assert not folder_of(store).exists()
    assert not (store.path / "mdconnector/set-aside").exists()


def test_set_of_another_domain_is_neither_cleared_nor_dropped(store: Store) -> None:
    complete(store)
    other = DOMAIN._replace(name="b.example")
    Pending.load(store, other).drop()
    Pending.load(store, other).begin(other, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    drop_pending(store, "c.example", leaves(NEW))
    assert Pending.load(store, DOMAIN).is_complete(DOMAIN)


def test_half_done_set_is_not_dropped_by_no_leaves(store: Store) -> None:
    begun(store).save_key(EC_SPEC, NEW.key)
    drop_pending(store, NAME, ())
    assert Pending.load(store, DOMAIN).load_key(EC_SPEC) is not None


def test_urls_of_all_open_orders_are_known_whatever_lies_between(store: Store) -> None:
    pending = begun(store)
    pending.save_order(EC_SPEC, ORDER)
    pending.save_order(RSA_SPEC, ORDER._replace(url=None))
    other = DOMAIN._replace(name="b.example")
    damaged = Pending.load(store, other)
    damaged.begin(other, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    damaged.save_order(EC_SPEC, ORDER)
    (folder_of(store).parent / "b.example" / "order.secp256r1.json").write_bytes(b"{")
    assert open_order_urls(store) == (ORDER.url,)


def test_folder_that_vanishes_while_orders_are_listed_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(store).save_order(EC_SPEC, ORDER)
    real = Folder.names

    def names(folder: Folder) -> list[str]:
        return [*real(folder), "gone.example"] if folder.path.name == "pending" else real(folder)

    monkeypatch.setattr(Folder, "names", names)
    assert open_order_urls(store) == (ORDER.url,)
