"""Which sets may go live: bytes that were verified, from where nobody else could change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mdconnector.candidates import Candidate, nothing_at_all, sort_out
from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import StoreError
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.outcomes.promote import Promoted, PromotionOutcome
from mdconnector.stock import WAS_REVOKED, Stock, take_stock
from mdconnector.store.attempts import RollbackNote, load_attempt, save_attempt
from mdconnector.store.pending import Pending
from mdconnector.store.promotion import Swapped as SwappedSet
from mdconnector.store.promotion import prepare, put_back, swap
from mdconnector.store.records import StoredAccount, render_account
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, RSA_SPEC
from tests.store.credentials import (
    ACCOUNT_ID,
    CA,
    CA_URL,
    DOMAIN,
    NAME,
    NAMES,
    NEW,
    NOW,
    OLD,
    aged,
    leaves,
    live,
    open_store,
    put_set,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store beside an Apache without mod_md, in which an old set is live."""
    with open_store(tmp_path / "md") as opened:
        put_set(opened, "domains", NAME, OLD)
        yield opened


def stock_of(store: Store, domain: ManagedDomain = DOMAIN) -> Stock:
    (stock,) = take_stock(store, [domain], NOW, failover=13)
    return stock


def obtain(store: Store, credential: Credential = NEW) -> None:
    """Have a set of our own, in pending/ and in staging/."""
    pending = Pending.load(store, DOMAIN)
    pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    pending.save_key(EC_SPEC, credential.key)
    pending.save_chain(EC_SPEC, chain_to_pem(credential.chain))
    put_staged(store, credential)


def put_staged(store: Store, *credentials: Credential) -> Path:
    stage(store, DOMAIN, credentials, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
    return store.path / "staging" / NAME


def candidate_of(store: Store, stock: Stock, *, force: bool = False) -> Candidate:
    found = sort_out(store, stock, force=force)
    assert isinstance(found, Candidate), found
    return found


def outcome_of(store: Store, stock: Stock, *, force: bool = False) -> PromotionOutcome:
    found = sort_out(store, stock, force=force)
    assert isinstance(found, PromotionOutcome), found
    return found


def promoted(store: Store, candidate: Candidate) -> tuple[str, ...] | None:
    """Make a candidate live, and return the leaves that are."""
    prepare(
        store,
        DOMAIN,
        candidate.credentials,
        ca_url=candidate.ca_url,
        account_id=candidate.account_id,
        now=NOW,
    )
    assert swap(store, [candidate.name])
    return live(store)


def test_matrix_p5_own_set_is_read_from_pending_whatever_staging_holds_by_then(
    store: Store,
) -> None:
    obtain(store)
    stock = stock_of(store)
    put_staged(store, aged(0))
    candidate = candidate_of(store, stock)
    assert candidate.fingerprints == leaves(NEW)
    assert (candidate.ca_url, candidate.account_id) == (CA_URL, ACCOUNT_ID)
    assert promoted(store, candidate) == leaves(NEW)


def test_matrix_p5_foreign_set_that_changes_after_it_was_verified_goes_live_as_verified(
    store: Store,
) -> None:
    staged = put_staged(store, NEW)
    candidate = candidate_of(store, stock_of(store))
    for name in ("privkey.secp256r1.pem", "pubcert.secp256r1.pem"):
        (staged / name).write_bytes(b"something else")
    assert promoted(store, candidate) == leaves(NEW)


def test_matrix_p5_foreign_set_that_changes_before_it_is_read_is_verified_as_it_is_then(
    store: Store,
) -> None:
    put_staged(store, NEW)
    stock = stock_of(store)
    put_staged(store, CA.credential(("other.example",)))
    outcome = outcome_of(store, stock)
    assert outcome.outcome is Promoted.FAILED
    assert "it does not cover" in outcome.detail


def test_set_of_somebody_else_is_promoted_with_what_its_record_says(store: Store) -> None:
    put_staged(store, NEW)
    candidate = candidate_of(store, stock_of(store))
    assert (candidate.ca_url, candidate.account_id) == (CA_URL, ACCOUNT_ID)
    assert candidate.facts == (NEW.facts,)


def test_pair_that_was_copied_there_has_the_configured_ca_and_no_account(store: Store) -> None:
    (put_staged(store, NEW) / "md.json").unlink()
    candidate = candidate_of(store, stock_of(store))
    assert (candidate.ca_url, candidate.account_id) == (DOMAIN.effective_ca_urls[0], None)


def test_account_that_lies_beside_a_foreign_set_is_kept_and_named(store: Store) -> None:
    put_staged(store, NEW)
    account = StoredAccount(id="", url="https://ca.example/acct/1", ca_url=CA_URL, contact=())
    rsa = CA.credential(NAMES, RSA_SPEC)
    with store.make_in_group("staging", NAME) as folder:
        folder.write("account.json", render_account(account), 0o644)
        folder.write("account.pem", key_to_pem(rsa.key, store.passphrase()), 0o644)
    candidate = candidate_of(store, stock_of(store))
    assert candidate.account_id == "ACME-ca.example-0000"
    assert (store.path / "accounts" / "ACME-ca.example-0000" / "account.json").exists()


def test_staging_that_is_emptied_meanwhile_has_nothing_to_promote(store: Store) -> None:
    put_staged(store, NEW)
    stock = stock_of(store)
    for path in (store.path / "staging" / NAME).iterdir():
        path.unlink()
    (store.path / "staging" / NAME).rmdir()
    assert outcome_of(store, stock).outcome is Promoted.NOTHING_STAGED
    (store.path / "staging").rmdir()
    assert outcome_of(store, stock).outcome is Promoted.NOTHING_STAGED


def test_what_is_no_set_says_how_to_get_rid_of_it(store: Store) -> None:
    staged = put_staged(store, NEW)
    (staged / "privkey.secp256r1.pem").write_bytes(b"")
    outcome = outcome_of(store, stock_of(store))
    assert outcome.outcome is Promoted.FAILED
    assert outcome.detail.startswith(str(staged / "pubcert.secp256r1.pem"))
    assert outcome.error is not None
    assert outcome.error.hint == f"'mdconnector renew {NAME}' sets it aside and orders anew"


def test_set_that_does_not_verify_is_refused_with_why(store: Store) -> None:
    put_staged(store, CA.credential(("other.example",)))
    stock = stock_of(store)
    outcome = outcome_of(store, stock)
    assert outcome.detail.startswith("the staged set is refused: ")
    assert outcome.error is not None
    assert outcome.error.hint == f"'mdconnector renew {NAME}' orders anew"


def test_own_set_whose_copy_is_damaged_is_that_domains_failure(store: Store) -> None:
    obtain(store)
    stock = stock_of(store)
    (store.path / "mdconnector/pending" / NAME / EC_SPEC.privkey_name).write_bytes(b"")
    assert outcome_of(store, stock).outcome is Promoted.FAILED


def test_trouble_of_the_store_is_that_domains_failure(store: Store) -> None:
    error = StoreError("it is not a folder", path="/md/domains/a.example")
    outcome = outcome_of(store, stock_of(store)._replace(trouble=error))
    assert (outcome.outcome, outcome.error is not None) == (Promoted.FAILED, True)
    assert "it is not a folder" in outcome.detail


def test_set_that_apache_refused_is_promoted_again_by_force_alone(store: Store) -> None:
    obtain(store)
    note = RollbackNote(NOW, "httpd ended", leaves(NEW), leaves(OLD))
    save_attempt(store, NAME, load_attempt(store, NAME)._replace(rollback=note))
    outcome = outcome_of(store, stock_of(store))
    assert outcome.detail == "Apache refused this set before: httpd ended"
    assert outcome.error is not None
    assert outcome.error.hint == f"mend it, then: mdconnector promote {NAME} --reload --force"
    assert candidate_of(store, stock_of(store), force=True).fingerprints == leaves(NEW)


def test_set_that_was_put_back_is_found_by_force_alone(store: Store) -> None:
    obtain(store)
    candidate = candidate_of(store, stock_of(store))
    assert promoted(store, candidate) == leaves(NEW)
    swapped = SwappedSet(NAME, leaves(NEW), leaves(OLD))
    assert put_back(store, [swapped], reason="httpd ended", now=NOW) == {NAME: None}
    assert outcome_of(store, stock_of(store)).outcome is Promoted.NOTHING_STAGED
    again = candidate_of(store, stock_of(store), force=True)
    assert again.fingerprints == leaves(NEW)
    assert again.ca_url == DOMAIN.effective_ca_urls[0]


def test_set_that_was_put_back_is_not_offered_once_a_newer_one_serves(store: Store) -> None:
    put_set(store, "domains", "tmp.example", aged(5)).rename(store.make_own("refused").path / NAME)
    put_set(store, "domains", NAME, NEW)
    outcome = outcome_of(store, stock_of(store), force=True)
    assert outcome.outcome is Promoted.NOTHING_STAGED
    assert outcome.certificates == (NEW.facts,)


@pytest.mark.parametrize("force", [False, True])
def test_nothing_staged_says_what_is_live(store: Store, force: bool) -> None:
    outcome = outcome_of(store, stock_of(store), force=force)
    assert (outcome.outcome, outcome.is_missing) == (Promoted.NOTHING_STAGED, False)
    assert outcome.detail.startswith("nothing is staged; secp256r1 is live, valid until ")
    assert outcome.certificates == (OLD.facts,)


def test_nothing_staged_and_nothing_live_says_how_to_obtain_it(tmp_path: Path) -> None:
    with open_store(tmp_path / "new") as store:
        outcome = outcome_of(store, stock_of(store))
    assert (outcome.outcome, outcome.is_missing) == (Promoted.NOTHING_STAGED, True)
    assert outcome.detail == nothing_at_all(NAME)
    assert outcome.detail.endswith(f"obtain it: mdconnector renew {NAME}")


def test_foreign_set_that_is_exchanged_for_a_revoked_one_is_refused(store: Store) -> None:
    save_attempt(store, NAME, load_attempt(store, NAME).with_revoked(leaves(NEW), NOW))
    put_staged(store, aged(1))
    stock = stock_of(store)
    put_staged(store, NEW)
    outcome = outcome_of(store, stock)
    assert outcome.outcome is Promoted.FAILED
    assert outcome.detail == f"the set is refused: {WAS_REVOKED}"
    assert outcome.error is not None
    assert outcome.error.hint == f"'mdconnector renew {NAME}' orders anew"


def test_own_set_whose_note_is_damaged_meanwhile_is_refused(store: Store) -> None:
    obtain(store)
    stock = stock_of(store)
    (store.path / "mdconnector/pending" / NAME / "set.json").write_bytes(b"")
    outcome = outcome_of(store, stock)
    assert outcome.outcome is Promoted.FAILED
    assert outcome.detail.startswith("the staged set is refused: ")
