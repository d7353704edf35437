"""Revoke certificates of one name: by the account that ordered them, else by their own keys.

Rules: what is to be revoked was chosen and shown before; only that is revoked. A certificate that
is revoked already is success. What a CA has revoked is noted in attempts/ at once, so that renew
orders anew; a staged set with such a certificate is set aside, because any reload would take it in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme.advice import ACCOUNT_DOES_NOT_EXIST, UNAUTHORIZED, fill_name
from mdconnector.acme.lifecycle import revoke_certificate
from mdconnector.acme.resources import Account
from mdconnector.acme.session import Session
from mdconnector.authorities import Sessions, with_true_key
from mdconnector.certificates import RevocationReason
from mdconnector.errors import (
    CaProblemError,
    ConfigurationError,
    MdConnectorError,
    StoreError,
)
from mdconnector.keys import PrivateKey
from mdconnector.managed_domain import CaAccess, ManagedDomain
from mdconnector.outcomes.revoke import RevocationOutcome, Revoked
from mdconnector.printable import printable
from mdconnector.renewal import LastError
from mdconnector.stock import WAS_REVOKED
from mdconnector.store.accounts import find_accounts, load_account
from mdconnector.store.attempts import Run, load_attempt, save_attempt
from mdconnector.store.holdings import Holding, Place
from mdconnector.store.staging import STAGING, set_aside
from mdconnector.store.tree import Store

_NOT_THIS_SIGNER = frozenset({401, 403})


class Target(NamedTuple):
    """Whose certificates are revoked, and how their CA is reached."""

    name: str
    domain: ManagedDomain | None
    """None where it is not configured any more"""
    access: CaAccess


class _Signer(NamedTuple):
    """Who may ask for a revocation, and what a person is told of it."""

    credentials: Account | PrivateKey
    words: str


def revoke(
    target: Target,
    holdings: Sequence[Holding],
    *,
    reason: RevocationReason,
    store: Store,
    sessions: Sessions,
    now: datetime,
) -> RevocationOutcome:
    """Have each certificate revoked, and note those that are; one failure stops no other."""
    done: list[Holding] = []
    words: list[str] = []
    failure: MdConnectorError | None = None
    for holding in holdings:
        try:
            words.append(_revoke_one(target, holding, reason, store, sessions))
        except MdConnectorError as error:
            failure = failure or error
            words.append(f"{_named(holding)}: not revoked: {printable(str(error), 500)}")
        else:
            done.append(holding)
            _note(store, target, holding, words[-1], now)
    if any(one.place is Place.STAGED for one in done):
        set_aside(store, STAGING, target.name, WAS_REVOKED)
        words.append("the staged set was set aside")
    return RevocationOutcome(
        target.name,
        Revoked.REVOKED if failure is None else Revoked.FAILED,
        "; ".join(words),
        certificates=tuple(one.facts for one in done),
        error=None if failure is None else _last_error(failure, target, now),
        next_step=_next_step(target, done),
    )


def _revoke_one(
    target: Target,
    holding: Holding,
    reason: RevocationReason,
    store: Store,
    sessions: Sessions,
) -> str:
    """Try each signer until the CA takes one; return what was done, in words."""
    ca_url = _ca_of(target, holding)
    session = sessions.session_at(ca_url, target.access)
    der = holding.certificate.public_bytes(serialization.Encoding.DER)
    refusal: CaProblemError | None = None
    for signer in _signers(target, holding, ca_url, store, session):
        try:
            is_new = revoke_certificate(session, der, reason=reason, signer=signer.credentials)
        except CaProblemError as error:
            if error.status not in _NOT_THIS_SIGNER and error.type not in (
                ACCOUNT_DOES_NOT_EXIST,
                UNAUTHORIZED,
            ):
                raise
            refusal = refusal or error
            continue
        how = f"revoked ({reason.label}), signed by {signer.words}"
        return f"{_named(holding)}: {how if is_new else 'was revoked before'}"
    if refusal is not None:
        raise refusal
    raise ConfigurationError(
        f"no account for {ca_url} is stored, and the certificate's own key is not at hand",
        hint="revoke it in the CA's portal",
    )


def _ca_of(target: Target, holding: Holding) -> str:
    """Return the CA that made a certificate, as far as the store tells.

    What lies in staging may have been written by Apache's user, and names no CA of its own.
    """
    configured = target.domain.effective_ca_urls if target.domain else ()
    known = holding.ca_url
    if known is not None and (holding.place is not Place.STAGED or known in configured):
        return known
    if configured:
        return configured[0]
    raise ConfigurationError(
        "nothing in the store says which CA made it", hint="revoke it in the CA's portal"
    )


def _signers(
    target: Target, holding: Holding, ca_url: str, store: Store, session: Session
) -> Iterator[_Signer]:
    """Yield who may revoke, best first: the account that ordered it, another one, its own key."""
    seen = set()
    for account_id, account in _accounts(target, holding, ca_url, store):
        if account.url not in seen:
            seen.add(account.url)
            true = with_true_key(store, session, account_id, account) if account_id else account
            yield _Signer(true, f"account {account_id or 'in staging'}")
    if holding.key is not None:
        yield _Signer(holding.key, "its own key")


def _accounts(
    target: Target, holding: Holding, ca_url: str, store: Store
) -> Iterator[tuple[str, Account]]:
    found = []
    # a damaged account is told of by `account list`; another signer may do
    with suppress(StoreError):
        if holding.account_id:
            found.append(load_account(store, holding.account_id))
    with suppress(StoreError):
        if target.domain is not None:
            found += find_accounts(store, ca_url, target.domain.eab)
    for one in found:
        if one is None:
            continue
        stored, key = one
        if stored.ca_url == ca_url and isinstance(key, rsa.RSAPrivateKey):
            yield stored.id, Account(url=stored.url, key=key)


def _note(store: Store, target: Target, holding: Holding, words: str, now: datetime) -> None:
    record = load_attempt(store, target.name)
    run = Run(now, "revoke", Revoked.REVOKED, words)
    save_attempt(store, target.name, record.with_revoked([holding.facts.sha256], now).with_run(run))


def _named(holding: Holding) -> str:
    return f"{holding.facts.key_label} {holding.facts.serial:x}"


def _next_step(target: Target, done: Sequence[Holding]) -> str:
    """Return what has to be done now that a certificate is revoked; "" where nothing."""
    is_live = any(one.place is Place.LIVE for one in done)
    if not is_live:
        return ""
    if target.domain is None or target.domain.renewed_by is None:
        return "Apache may still serve it: see which virtual host names it"
    return (
        f"Apache still serves it: mdconnector renew {target.name}; "
        f"then: mdconnector promote {target.name} --reload"
    )


def _last_error(error: MdConnectorError, target: Target, now: datetime) -> LastError:
    hint = error.hint
    if hint and target.domain is not None:
        hint = target.domain.locate(hint)
    filled = fill_name(hint, target.name) if hint else None
    return LastError(error.type, printable(str(error), 1000), filled, now)
