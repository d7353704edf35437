"""The requests after which something is over: revocation, another account key, deactivation.

Rules: as in `resources`. What a lost answer leaves open is asked for, never assumed: an account is
whose key its CA says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mdconnector.acme.advice import ALREADY_REVOKED, Purpose, says_deactivated
from mdconnector.acme.answers import Directory, Response
from mdconnector.acme.jws import der_text, key_change
from mdconnector.acme.resources import Account, account_in, ask_directory, find_account
from mdconnector.acme.session import Session
from mdconnector.certificates import RevocationReason
from mdconnector.errors import CaProblemError, CaProtocolError, CaUnreachableError, ErrorClass
from mdconnector.keys import PrivateKey


def revoke_certificate(
    session: Session, der: bytes, *, reason: RevocationReason, signer: Account | PrivateKey
) -> bool:
    """Have a certificate revoked (§7.6); False where it was revoked before.

    `signer` is an account that may do so, or the certificate's own key.
    """
    payload: dict[str, object] = {"certificate": der_text(der)}
    if reason is not RevocationReason.UNSPECIFIED:
        # RFC 5280 §5.3.1: a reason is left out rather than called unspecified
        payload["reason"] = int(reason)
    key, kid = (signer.key, signer.url) if isinstance(signer, Account) else (signer, None)
    try:
        _post(
            session,
            lambda directory: directory.revoke_cert,
            lambda _: payload,
            what="revocation",
            key=key,
            kid=kid,
            purpose=Purpose.REVOCATION,
        )
    except CaProblemError as error:
        if error.type == ALREADY_REVOKED:
            return False
        raise
    return True


def fetch_account(session: Session, account: Account) -> Account:
    """Read an account (POST-as-GET, §7.3); a deactivated one has that status."""
    try:
        response = session.post(
            account.url, None, key=account.key, kid=account.url, purpose=Purpose.READ_ACCOUNT
        )
    except CaProblemError as error:
        if says_deactivated(error.detail):
            return account._replace(status="deactivated")
        raise
    return account_in(response, account.url, account.key)


def require_key_change(session: Session) -> None:
    """Raise CaProtocolError where the CA lets no account change its key."""
    directory = session.directory()
    if directory.key_change is None and session.has_moved_from(directory):
        directory = session.directory()
    if directory.key_change is None:
        raise _not_offered(session, _KEY_CHANGE)


def change_key(session: Session, account: Account, new_key: PrivateKey) -> Account:
    """Give an account another key (§7.3.5), and return it with that key.

    The new key must be durable before. Sent once; a lost answer is settled by asking whose the
    account is. Raises the lost answer's error where the old key is still the account's.
    """
    try:
        _post(
            session,
            lambda directory: directory.key_change,
            lambda url: key_change(new_key, old_key=account.key, account_url=account.url, url=url),
            what=_KEY_CHANGE,
            key=account.key,
            kid=account.url,
            purpose=Purpose.KEY_CHANGE,
            repeatable=False,
        )
    except CaUnreachableError as error:
        if not error.request_sent or not is_key_of(session, new_key, account.url):
            raise
    return account._replace(key=new_key)


def is_key_of(session: Session, key: PrivateKey, account_url: str) -> bool:
    """Ask the CA whether a key is this account's."""
    found = find_account(session, key)
    return found is not None and found.url == account_url


def deactivate_account(session: Session, account: Account) -> bool:
    """End an account for ever (§7.3.6); False where it was ended before."""
    try:
        session.post(
            account.url,
            {"status": "deactivated"},
            key=account.key,
            kid=account.url,
            purpose=Purpose.DEACTIVATION,
        )
    except CaProblemError as error:
        if says_deactivated(error.detail):
            return False
        raise
    return True


def _post(
    session: Session,
    address: Callable[[Directory], str | None],
    payload: Callable[[str], Mapping[str, object]],
    *,
    what: str,
    key: PrivateKey,
    kid: str | None,
    purpose: Purpose,
    repeatable: bool = True,
) -> Response:
    """Send a request to an address that a CA may offer or not."""

    def send(directory: Directory) -> Response:
        url = address(directory)
        if url is None:
            raise _not_offered(session, what)
        return session.post(
            url, payload(url), key=key, kid=kid, purpose=purpose, repeatable=repeatable
        )

    return ask_directory(session, send)


_KEY_CHANGE = "change of an account's key"


def _not_offered(session: Session, what: str) -> CaProtocolError:
    return CaProtocolError(
        f"{session.host} offers no {what} over ACME",
        url=session.directory_url,
        hint="do it in the CA's portal",
        error_class=ErrorClass.NEEDS_HUMAN,
    )
