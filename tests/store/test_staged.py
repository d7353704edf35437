"""What is read from staging/: sets that wait, their faults, and rubbish."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, generate_key, key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store import staged
from mdconnector.store.live import read_live
from mdconnector.store.pending import Pending
from mdconnector.store.records import render_finished_job, render_md
from mdconnector.store.staged import (
    FoundSet,
    NothingStaged,
    StagedRubbish,
    Staging,
    order_of_mod_md,
    read_sets,
    read_staged_credentials,
    staging_changed_at,
)
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.parts import Apache, Pebble, wait_until
from tests.store.credentials import open_store
from tests.store.sets import (
    BOTH,
    CA,
    DAMAGES,
    DAY,
    DIRECTORY,
    DOMAIN,
    EC_PAIR,
    NAME,
    NAMES,
    NOW,
    RSA_PAIR,
    TRAPS,
    put_live,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change owners")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md", mod_md_loaded=True) as opened:
        yield opened


def put_staged(
    store: Store, *credentials: Credential, md: ManagedDomain | None = DOMAIN, clear: bool = False
) -> Path:
    """Stage a set as mod_md and we do; without `md` as a person who copies files does."""
    passphrase = None if clear else store.passphrase()
    with store.make_in_group("staging", NAME) as folder:
        for one in credentials:
            folder.write(one.spec.privkey_name, key_to_pem(one.key, passphrase), 0o644)
            folder.write(one.spec.pubcert_name, chain_to_pem(one.chain), 0o644)
        if md is not None:
            text = render_md(md, ca_url=DIRECTORY, account_id="ACME-ca.example-0000")
            folder.write("md.json", text, 0o644)
            job = render_finished_job(NAME, now=NOW, valid_from=NOW)
            folder.write("job.json", job, 0o644)
    return store.path / "staging" / NAME


def staging_of(store: Store, domain: ManagedDomain = DOMAIN) -> Staging:
    """Read staging beside what is live."""
    return read_sets(store, domain, now=NOW)[1]


def found_in(store: Store, domain: ManagedDomain = DOMAIN) -> FoundSet:
    """Read staging, where there is a set."""
    staging = staging_of(store, domain)
    assert isinstance(staging, FoundSet), staging
    return staging


def rubbish_in(store: Store, domain: ManagedDomain = DOMAIN) -> StagedRubbish:
    """Read staging, where there is rubbish."""
    staging = staging_of(store, domain)
    assert isinstance(staging, StagedRubbish), staging
    return staging


def test_set_that_mod_md_takes_away_file_by_file_is_no_rubbish(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_staged(store, EC_PAIR)
    (folder / EC_SPEC.privkey_name).unlink()
    looks = []

    def meanwhile(seconds: float) -> None:
        looks.append(seconds)
        shutil.rmtree(folder)

    monkeypatch.setattr(time, "sleep", meanwhile)
    assert staging_of(store) == NothingStaged()
    assert len(looks) == 1


def test_rubbish_that_stays_is_looked_at_twice_while_it_is_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_staged(store, EC_PAIR)
    (folder / EC_SPEC.privkey_name).unlink()
    looks: list[float] = []
    monkeypatch.setattr(time, "sleep", looks.append)
    rubbish_in(store)
    assert len(looks) == 1
    later = time.time() + 10
    monkeypatch.setattr(time, "time", lambda: later)
    rubbish_in(store)
    assert len(looks) == 1, "it has been there for long"


def test_set_that_is_activated_between_two_looks_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_staged(store, EC_PAIR)

    def then_activate(look: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*arguments: Any) -> Any:
            seen = look(*arguments)
            put_live(store, EC_PAIR)
            shutil.rmtree(folder, ignore_errors=True)
            return seen

        return looked

    for name in ("read_live", "_staged_content"):
        monkeypatch.setattr(staged, name, then_activate(getattr(staged, name)))
    (installed,), found = staged.read_sets(store, DOMAIN, now=NOW)
    waits = isinstance(found, FoundSet) and found.staged.certificates == (EC_PAIR.facts,)
    assert waits or installed.facts == EC_PAIR.facts


def test_empty_staging_has_nothing(store: Store) -> None:
    assert staging_of(store) == NothingStaged()
    store.make_in_group("staging", NAME).close()
    assert staging_of(store) == NothingStaged()


def test_complete_set_is_found_and_fits(store: Store) -> None:
    put_staged(store, EC_PAIR)
    found = found_in(store)
    assert found.staged.fault is None
    assert found.staged.certificates == (EC_PAIR.facts,)
    assert abs(found.staged.since - datetime.now(UTC)) < timedelta(minutes=5)
    assert found.md is not None
    assert found.md.ca_url == DIRECTORY


@pytest.mark.parametrize("clear", [True, False])
def test_pair_without_md_json_is_found_with_its_key_encrypted_or_in_clear(
    store: Store, clear: bool
) -> None:
    put_staged(store, EC_PAIR, md=None, clear=clear)
    found = found_in(store)
    assert found.staged.fault is None
    assert found.md is None


def test_set_that_was_obtained_here_is_ours(store: Store) -> None:
    put_staged(store, EC_PAIR)
    assert not found_in(store).staged.is_ours
    pending = Pending.load(store, DOMAIN)
    pending.begin(DOMAIN, ca_url=DIRECTORY, account_id="ACME-ca.example-0000", now=NOW)
    pending.save_key(EC_SPEC, EC_PAIR.key)
    pending.save_chain(EC_SPEC, chain_to_pem(EC_PAIR.chain))
    assert found_in(store).staged.is_ours


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        (CA.credential((NAME,)), "does not cover www.a.example"),
        (CA.credential(NAMES, not_before=NOW - 100 * DAY), "expired"),
        (CA.credential(NAMES, not_before=NOW + 2 * DAY), "not valid before"),
    ],
)
def test_set_that_does_not_fit_is_found_with_its_fault(
    store: Store, pair: Credential, fault: str
) -> None:
    put_staged(store, pair)
    assert fault in (found_in(store).staged.fault or "")


def test_set_that_is_older_than_the_serving_one_has_a_fault(store: Store) -> None:
    put_live(store, CA.credential(NAMES, not_before=NOW - timedelta(hours=2)))
    put_staged(store, EC_PAIR)
    assert "older than the live set" in (found_in(store).staged.fault or "")


def test_older_set_that_serves_better_than_the_live_one_has_none(store: Store) -> None:
    put_live(store, CA.credential((NAME,), not_before=NOW - timedelta(hours=2)))
    put_staged(store, EC_PAIR)
    assert found_in(store).staged.fault is None


def test_self_made_certificate_is_a_warning(store: Store) -> None:
    key = generate_key(EC_SPEC)
    leaf = CA.leaf(NAMES, key, self_signed=True, ca=True)
    put_staged(store, EC_PAIR._replace(key=key, chain=(leaf,)), md=None)
    found = found_in(store)
    assert found.staged.fault is None
    assert any("self-signed" in warning for warning in found.warnings)


def test_set_for_other_key_types_than_are_configured_now_does_not_fit(store: Store) -> None:
    put_staged(store, EC_PAIR)
    wants_rsa = DOMAIN._replace(configured_key_specs=(RSA_SPEC,))
    assert "no rsa2048 certificate" in (found_in(store, wants_rsa).staged.fault or "")


def test_pair_that_nobody_asks_for_has_no_say(store: Store) -> None:
    expired = CA.credential(NAMES, RSA_SPEC, not_before=NOW - 100 * DAY)
    put_staged(store, EC_PAIR, expired)
    assert found_in(store).staged.certificates == (EC_PAIR.facts,)


def test_first_of_two_pairs_is_mod_md_at_work(store: Store) -> None:
    put_staged(store, RSA_PAIR, md=BOTH)
    assert staging_of(store, BOTH) == NothingStaged()


@pytest.mark.parametrize(
    "names", [("md.json",), ("job.json",), ("md.json", "job.json"), ("md.json", "order.json")]
)
def test_files_without_a_pair_are_nothing_staged(store: Store, names: tuple[str, ...]) -> None:
    folder = put_staged(store)
    for name in ("md.json", "job.json"):
        if name not in names:
            (folder / name).unlink()
    if "order.json" in names:
        (folder / "order.json").write_text("{}")
    assert staging_of(store) == NothingStaged()


def test_key_without_a_chain_is_mod_md_at_work(store: Store) -> None:
    folder = put_staged(store, EC_PAIR)
    (folder / EC_SPEC.pubcert_name).unlink()
    assert staging_of(store) == NothingStaged()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_pair_in_staging_is_rubbish_with_its_path(
    store: Store, damage: Callable[[Path], None]
) -> None:
    folder = put_staged(store, EC_PAIR)
    damage(folder)
    assert rubbish_in(store).path == str(folder / EC_SPEC.pubcert_name)


def test_half_of_what_was_copied_by_hand_is_rubbish(store: Store) -> None:
    folder = put_staged(store, RSA_PAIR, md=None)
    rubbish = rubbish_in(store, BOTH)
    assert rubbish == StagedRubbish(str(folder), "there is no secp256r1 pair in it")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "b.example"}'])
def test_md_json_that_says_something_else_is_rubbish(store: Store, text: str) -> None:
    folder = put_staged(store, EC_PAIR)
    (folder / "md.json").write_text(text)
    assert rubbish_in(store).path == str(folder / "md.json")


def _link(folder: Path) -> None:
    chain = folder / EC_SPEC.pubcert_name
    chain.rename(folder / "elsewhere")
    chain.symlink_to("elsewhere")


def _hard_link(folder: Path) -> None:
    (folder.parent / "second").hardlink_to(folder / EC_SPEC.privkey_name)


def _huge(folder: Path) -> None:
    with (folder / EC_SPEC.pubcert_name).open("wb") as file:
        file.truncate(1 << 40)


HOSTILE = [_link, _hard_link, _huge, *TRAPS]


@pytest.mark.parametrize("damage", HOSTILE, ids=lambda damage: damage.__name__)
def test_matrix_w7_trap_in_staging_is_rubbish_and_is_never_taken(
    store: Store, damage: Callable[[Path], None]
) -> None:
    damage(put_staged(store, EC_PAIR))
    rubbish_in(store)
    with pytest.raises(StoreError):
        read_staged_credentials(store, DOMAIN)


@as_root
@pytest.mark.parametrize("owner", [33, 65534])
@pytest.mark.parametrize("mod_md_loaded", [True, False])
def test_owner_decides_who_may_stage(tmp_path: Path, owner: int, mod_md_loaded: bool) -> None:
    with open_store(tmp_path / "md", mod_md_loaded=mod_md_loaded) as store:
        folder = put_staged(store, EC_PAIR)
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner, -1)
        is_taken = isinstance(staging_of(store), FoundSet)
    assert is_taken is (mod_md_loaded and owner == 33)


@as_root
def test_roots_set_is_taken_wherever_it_lies(store: Store) -> None:
    folder = put_staged(store, EC_PAIR)
    for path in (folder, *folder.iterdir()):
        os.chown(path, 0, -1)
    assert found_in(store).staged.fault is None


def test_staged_pair_is_returned_for_promotion(store: Store) -> None:
    put_staged(store, EC_PAIR)
    (credential,) = read_staged_credentials(store, DOMAIN)
    assert credential.facts == EC_PAIR.facts


def test_nothing_staged_is_nothing_to_promote(store: Store) -> None:
    assert read_staged_credentials(store, DOMAIN) == ()


def test_private_key_that_cannot_sign_is_not_promoted(store: Store) -> None:
    good = RSA_PAIR.key
    assert isinstance(good, rsa.RSAPrivateKey)
    numbers = good.private_numbers()
    forged = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d ^ 2,
        dmp1=numbers.dmp1 ^ 2,
        dmq1=numbers.dmq1 ^ 2,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    wants_rsa = DOMAIN._replace(configured_key_specs=(RSA_SPEC,))
    put_staged(store, RSA_PAIR._replace(key=forged), md=wants_rsa)
    with pytest.raises(CertificateError, match="cannot sign"):
        read_staged_credentials(store, wants_rsa)


SITE = """\
MDomain {name}
MDPrivateKeys RSA 2048 secp256r1
<VirtualHost *:${{HTTPS_PORT}}>
    ServerName {name}
    SSLEngine on
</VirtualHost>
"""


@pytest.mark.apache
@pytest.mark.pebble
def test_set_of_the_real_mod_md_is_found_in_staging_and_then_live(
    make_apache: Callable[..., Apache], trusting_ca: Pebble
) -> None:
    name = "read-back.example"
    specs = (KeySpec("RSA", 2048), EC_SPEC)
    domain = DOMAIN._replace(name=name, names=(name,), configured_key_specs=specs)
    apache = make_apache(
        sites={"a": SITE.format(name=name)}, main_extra=trusting_ca.directives(), renew_mode="auto"
    )
    with apache, open_store(apache.store, mod_md_loaded=True) as store:
        staged = apache.store / "staging" / name
        wait_until((staged / EC_SPEC.pubcert_name).exists, "a staged set")
        wait_until(lambda: not (staged / "order.json").exists(), "the end of the order")
        found = found_in(store, domain)
        assert found.staged.fault is None
        assert not found.staged.is_ours
        apache.graceful()
        live = apache.store / "domains" / name / EC_SPEC.pubcert_name
        wait_until(live.exists, "mod_md to activate the set")
        assert tuple(one.facts for one in read_live(store, domain)) == found.staged.certificates
        assert staging_of(store, domain) == NothingStaged()


def test_time_of_the_last_change_in_staging_is_the_newest_of_its_entries(store: Store) -> None:
    assert staging_changed_at(store, NAME) is None
    path = put_staged(store, EC_PAIR)
    os.utime(path / "md.json", (0, 0))
    newest = max(one.lstat().st_ctime for one in (path, *path.iterdir()))
    assert staging_changed_at(store, NAME) == datetime.fromtimestamp(newest, UTC)


def test_staging_that_is_absent_or_a_trap_was_never_changed(store: Store) -> None:
    (store.path / "staging" / NAME).symlink_to("/etc")
    assert staging_changed_at(store, NAME) is None
    (store.path / "staging" / NAME).unlink()
    (store.path / "staging").rmdir()
    assert staging_changed_at(store, NAME) is None
    _, found = read_sets(store, DOMAIN, now=NOW)
    assert isinstance(found, NothingStaged)


def test_rubbish_is_not_promoted_and_named_with_its_path(store: Store) -> None:
    path = put_staged(store, EC_PAIR, md=None)
    (path / EC_SPEC.privkey_name).write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        read_staged_credentials(store, DOMAIN)
    assert caught.value.path == str(path / EC_SPEC.pubcert_name)
    assert caught.value.hint


def test_both_key_types_are_tried_by_signing(store: Store) -> None:
    put_staged(store, RSA_PAIR, EC_PAIR, md=BOTH)
    assert len(read_staged_credentials(store, BOTH)) == 2


def test_rsa_key_that_would_take_minutes_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_rsa = DOMAIN._replace(configured_key_specs=(RSA_SPEC,))
    put_staged(store, RSA_PAIR, md=only_rsa)
    monkeypatch.setattr("mdconnector.store.staged._MAX_RSA_BITS", 2047)
    with pytest.raises(CertificateError, match="more than 2047 bits"):
        read_staged_credentials(store, only_rsa)


def test_order_that_mod_md_noted_is_known_by_its_url(store: Store) -> None:
    assert order_of_mod_md(store, NAME) is None
    path = put_staged(store, EC_PAIR)
    assert order_of_mod_md(store, NAME) is None
    (path / "order.json").write_text('{"url": "https://ca.example/order/1"}')
    assert order_of_mod_md(store, NAME) == "https://ca.example/order/1"


def test_order_of_mod_md_that_is_damaged_or_a_trap_is_none(store: Store) -> None:
    path = put_staged(store, EC_PAIR)
    (path / "order.json").write_text("{")
    assert order_of_mod_md(store, NAME) is None
    (path / "order.json").unlink()
    (path / "order.json").symlink_to("/etc/passwd")
    assert order_of_mod_md(store, NAME) is None
    shutil.rmtree(store.path / "staging")
    assert order_of_mod_md(store, NAME) is None
