"""Managed domains in every state, as values: for tests, and for the picture in docs/."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import Finding, Severity
from mdconnector.outcomes.status import (
    DomainStatus,
    Lifetime,
    PendingSummary,
    ServedSummary,
    StagedSummary,
    StatusResult,
)
from mdconnector.particulars import (
    AccountInUse,
    ChainLink,
    LiveChain,
    NextStep,
    Particulars,
    PastRun,
    Shown,
)
from mdconnector.renewal import LastError, State

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
RSA = KeySpec("RSA", bits=2048)
EC = KeySpec("EC", curve="secp256r1")
CA = "https://acme.sectigo.com/v2/OV"
ISSUER = "Sectigo Public Server Authentication CA OV R36"
REFUSED = LastError(
    "urn:ietf:params:acme:error:unauthorized",
    "the CA has not validated mail.example.org: the pre-validation has expired",
    "renew it in SCM under Domains; then: mdconnector renew mail.example.org",
    NOW - timedelta(days=2),
)


def facts(
    *,
    left: float,
    life: float = 90,
    spec: KeySpec = RSA,
    serial: int = 0x3ABC,
    name: str = "a.example",
) -> CertificateFacts:
    """Return a certificate with some days left of a life of days."""
    end = NOW + timedelta(days=left)
    return CertificateFacts(
        spec.label,
        (name,),
        end - timedelta(days=life),
        end,
        serial,
        f"{serial:064x}",
        ISSUER,
        False,
    )


def lifetime(one: CertificateFacts) -> Lifetime:
    """Return its dates by mod_md's windows: 33% and 10%."""
    life = one.not_after - one.not_before
    renew_at, warn_at = one.not_after - life * 0.33, one.not_after - life * 0.1
    return Lifetime(one.key_label, one.not_before, renew_at, warn_at, one.not_after)


def standing(
    name: str = "a.example",
    state: State = State.VALID,
    *,
    left: float | None = 58,
    life: float = 90,
    specs: tuple[KeySpec, ...] = (RSA,),
    **more: Any,
) -> DomainStatus:
    """Return a domain; `left` None is one without certificates."""
    found = (
        ()
        if left is None
        else tuple(
            facts(left=left, life=life, spec=spec, serial=0x3ABC + n, name=name)
            for n, spec in enumerate(specs)
        )
    )
    live = tuple(
        InstalledCertificate(spec, found[n] if found else None) for n, spec in enumerate(specs)
    )
    lifetimes = tuple(lifetime(one) for one in found)
    given: dict[str, Any] = {
        "names": (name,),
        "detail": "",
        "live": live,
        "not_after": min((one.not_after for one in lifetimes), default=None),
        "renew_at": min((one.renew_at for one in lifetimes), default=None),
        "staged": None,
        "pending": None,
        "last_error": None,
        "next_try": None,
        "errors": 0,
        "ca_url": CA,
        "lifetimes": lifetimes,
        "used_by_ssl": True,
    }
    return DomainStatus(name=name, state=state, **(given | more))


FAILING = standing(
    "mail.example.org",
    State.FAILING,
    left=6.4,
    last_error=REFUSED,
    errors=7,
    failing_since=NOW - timedelta(days=2, hours=3),
    next_try=NOW + timedelta(hours=3),
)
STAGED = standing(
    "wiki.example.org",
    State.STAGED,
    left=28,
    staged=StagedSummary(NOW - timedelta(minutes=40), (facts(left=89.9),)),
)
PENDING = standing(
    "ev.example.org",
    State.PENDING,
    left=25,
    life=199,
    pending=PendingSummary(NOW - timedelta(hours=5), f"{CA}/order/81"),
)
UNSERVED = standing(
    "shop.example.org",
    left=75,
    specs=(RSA, EC),
    served=ServedSummary(False, "Apache was not reloaded since it went live 2026-06-01 11:20 UTC"),
)
SERVED = standing(
    "www.example.org",
    left=81,
    specs=(RSA, EC),
    served=ServedSummary(True, "Apache serves it (seen 2026-05-23 03:10 UTC)", NOW),
    last_success=NOW - timedelta(days=9),
)
UNREADABLE = standing(
    "intern.example.org",
    State.UNKNOWN,
    left=None,
    detail="not readable by uid 1000; try sudo",
)

HIDING = Finding(
    "unclosed-section", Severity.ERROR, "/etc/b.conf:3", "it is not closed", "add </Directory>"
)
ALL = StatusResult(
    (
        standing(
            "pay.example.org",
            State.ERROR,
            left=20,
            detail="/etc/apache2/sites-enabled/pay.conf:4: MDExternalAccountBinding needs two "
            "values, or the path of a JSON file",
        ),
        standing("old.example.org", State.EXPIRED, left=-2.2),
        standing("neu.example.org", State.MISSING, left=None, specs=(EC,)),
        FAILING,
        PENDING,
        STAGED,
        standing("blog.example.org", State.EXPIRING, left=8),
        standing("lists.example.org", State.DUE, left=21),
        standing("*.dev.example.org", State.VALID, left=4.6, life=6, specs=(EC,)),
        UNSERVED,
        SERVED,
    ),
    NOW,
)


def chain_of(one: CertificateFacts, name: str) -> LiveChain:
    """Return a chain as Sectigo's are."""
    root = "CN=Sectigo Public Server Authentication Root R46,O=Sectigo Limited,C=GB"
    middle = f"CN={ISSUER},O=Sectigo Limited,C=GB"
    return LiveChain(
        one.key_label,
        (name,),
        (
            ChainLink(f"CN={name}", middle, one.not_after, one.sha256),
            ChainLink(middle, root, NOW + timedelta(days=3579), f"{7:064x}"),
        ),
    )


def shown(label: str | None, one: CertificateFacts | None, *, is_stored: bool = True) -> Shown:
    """Return what an address of www.example.org shows."""
    return Shown(
        "127.0.0.1",
        443,
        "www.example.org",
        "/etc/apache2/sites-enabled/www.conf:9",
        label,
        serial=f"{one.serial:x}" if one else None,
        sha256=one.sha256 if one else None,
        is_stored=is_stored if one else None,
        fault=None if one else "no handshake: no shared cipher",
    )


WWW_RSA, WWW_EC = (one.facts for one in SERVED.live)
assert WWW_RSA
assert WWW_EC
IN_FULL = SERVED._replace(
    names=("www.example.org", "example.org"),
    served=ServedSummary(True, "Apache serves it (asked just now)", NOW),
    in_full=Particulars(
        chains=tuple(chain_of(one, "www.example.org") for one in (WWW_RSA, WWW_EC)),
        account=AccountInUse(
            "ACME-acme.sectigo.com-0000",
            "https://acme.sectigo.com/v2/OV/account/Fqz8cXh1",
            CA,
            "b7c1c1f0e5f14a9e",
        ),
        next_step=NextStep(
            "the next 'mdconnector renew --all' from then on renews it", SERVED.renew_at
        ),
        runs=(
            PastRun(
                NOW - timedelta(days=9),
                "promote",
                "promoted",
                "rsa2048 + secp256r1, valid until 2026-08-21 12:00 UTC",
            ),
            PastRun(
                NOW - timedelta(days=9, minutes=1),
                "renew",
                "renewed",
                "rsa2048 + secp256r1, 2 names, valid until 2026-08-21 12:00 UTC; staged",
            ),
            PastRun(
                NOW - timedelta(days=9, hours=7),
                "renew",
                "failed",
                "the CA did not answer within 30 s",
            ),
        ),
        shown=(
            shown(None, WWW_EC),
            shown("rsa2048", WWW_RSA),
            shown("secp256r1", WWW_EC),
        ),
    ),
)
ALONE = StatusResult((IN_FULL,), NOW)
