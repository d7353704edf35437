"""An account's end and its other key, at a CA that offers them late, not at all, or refuses."""

from __future__ import annotations

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme.answers import Directory
from mdconnector.acme.lifecycle import deactivate_account, require_key_change
from mdconnector.acme.resources import Account, register_account
from mdconnector.acme.session import Session
from mdconnector.errors import CaProblemError, CaProtocolError, ErrorClass
from tests.acme.fake_ca import BASE, DIRECTORY_URL, FakeCa, answered, problem

REMEMBERED = Directory(f"{BASE}/new-nonce", f"{BASE}/new-account", f"{BASE}/new-order")


@pytest.fixture(scope="module")
def account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def session_with(ca: FakeCa, remembered: Directory | None = None) -> Session:
    return Session(DIRECTORY_URL, transport=httpx.MockTransport(ca), remembered=remembered)


def registered(session: Session, key: rsa.RSAPrivateKey) -> Account:
    return register_account(session, key, contact=None, terms_agreed=True, eab=None)


def test_key_change_that_the_ca_offers_since_its_directory_was_remembered_is_found() -> None:
    ca = FakeCa(directory_extra={"keyChange": f"{BASE}/key-change"})
    session = session_with(ca, REMEMBERED)
    require_key_change(session)
    assert session.directory().key_change == f"{BASE}/key-change"
    assert ca.count("/directory") == 1


def test_ca_without_key_change_is_told_by_its_name() -> None:
    with pytest.raises(CaProtocolError, match="offers no change of an account's key") as caught:
        require_key_change(session_with(FakeCa()))
    assert caught.value.error_class is ErrorClass.NEEDS_HUMAN
    assert caught.value.hint == "do it in the CA's portal"


def test_account_is_ended_once_and_that_it_was_before_is_no_error(
    account_key: rsa.RSAPrivateKey,
) -> None:
    ca = FakeCa()
    session = session_with(ca)
    account = registered(session, account_key)
    ca.fault("/account/1", answered(200, {"status": "deactivated"}))
    assert deactivate_account(session, account)
    ca.fault("/account/1", problem(403, "unauthorized", "the account is deactivated"))
    assert not deactivate_account(session, account)


def test_refusal_to_end_an_account_is_not_taken_for_its_end(
    account_key: rsa.RSAPrivateKey,
) -> None:
    ca = FakeCa()
    session = session_with(ca)
    account = registered(session, account_key)
    ca.fault("/account/1", problem(403, "unauthorized", "not you"))
    with pytest.raises(CaProblemError, match="not you"):
        deactivate_account(session, account)
