"""What a CA's error means and what to do about it, for RFC 8555's types and the texts of known CAs.

Rules: pure. A hint that ends in a command has the placeholder NAME in it, which `fill_name`
replaces: the protocol does not know the managed domain. Texts of a CA are matched before types,
because several CAs put very different things under `malformed` and `unauthorized`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from mdconnector.errors import ErrorClass

ACME_ERROR = "urn:ietf:params:acme:error:"
ACCOUNT_DOES_NOT_EXIST = ACME_ERROR + "accountDoesNotExist"
ALREADY_REPLACED = ACME_ERROR + "alreadyReplaced"
ALREADY_REVOKED = ACME_ERROR + "alreadyRevoked"
BAD_CSR = ACME_ERROR + "badCSR"
BAD_NONCE = ACME_ERROR + "badNonce"
EXTERNAL_ACCOUNT_REQUIRED = ACME_ERROR + "externalAccountRequired"
INVALID_CONTACT = ACME_ERROR + "invalidContact"
MALFORMED = ACME_ERROR + "malformed"
ORDER_NOT_READY = ACME_ERROR + "orderNotReady"
RATE_LIMITED = ACME_ERROR + "rateLimited"
UNAUTHORIZED = ACME_ERROR + "unauthorized"
UNSUPPORTED_CONTACT = ACME_ERROR + "unsupportedContact"
NO_TYPE = "about:blank"
"""RFC 7807 §4.2: the HTTP status says it all"""

_A_PORTAL = "the CA's portal"
_THEN = "; then: mdconnector renew NAME"


class Purpose(StrEnum):
    """What a request is for: the step that a message names, and half of what an error means."""

    DIRECTORY = "reading the CA's directory"
    NONCE = "asking for a nonce"
    ACCOUNT = "registering the account"
    FIND_ACCOUNT = "looking for the account"
    NEW_ORDER = "placing the order"
    READ = "reading the order"
    AUTHORIZATION = "reading the authorization"
    CHALLENGE = "answering the challenge"
    VALIDATION = "validating the name"
    FINALIZE = "finalizing the order"
    CERTIFICATE = "fetching the certificate"
    RENEWAL_INFO = "asking when to renew"
    REVOCATION = "revoking the certificate"
    READ_ACCOUNT = "reading the account"
    KEY_CHANGE = "changing the account's key"
    DEACTIVATION = "deactivating the account"


_NOT_FOR_ORDERS = frozenset(
    {Purpose.REVOCATION, Purpose.READ_ACCOUNT, Purpose.KEY_CHANGE, Purpose.DEACTIVATION}
)
"""what no renewal follows"""


class Advice(NamedTuple):
    """Who can mend an error, and how."""

    error_class: ErrorClass
    hint: str
    stops_account: bool = False
    """nothing that this account asks for will work before somebody has mended it"""


def fill_name(hint: str, name: str) -> str:
    """Put the managed domain's name into the command that a hint ends with."""
    return hint.replace("NAME", name)


def is_sectigo(host: str) -> bool:
    """Say whether a CA's host belongs to Sectigo, where accounts and domains are kept in SCM."""
    return host == "sectigo.com" or host.endswith(".sectigo.com")


def name_portal(hint: str, host: str) -> str:
    """Call a CA's portal in a hint by its name, where it is known."""
    return hint.replace(_A_PORTAL, "SCM") if is_sectigo(host) else hint


def stops_account(detail: str) -> bool:
    """Say whether a CA's words mean that the account as a whole is out of service."""
    return any(known.stops_account and pattern.search(detail) for pattern, known in _BY_TEXT)


def says_deactivated(detail: str) -> bool:
    """Say whether a CA's words mean that the account was deactivated."""
    return _DEACTIVATED.search(detail) is not None


def advise(*, kind: str, status: int, detail: str, host: str, purpose: Purpose) -> Advice:
    """Say what a problem document of type `kind` means and what to do."""
    found = _advise(kind=kind, status=status, detail=detail, host=host, purpose=purpose)
    if purpose in _NOT_FOR_ORDERS:
        return found._replace(hint=found.hint.removesuffix(_THEN))
    return found


def _advise(*, kind: str, status: int, detail: str, host: str, purpose: Purpose) -> Advice:
    portal = name_portal(_A_PORTAL, host)
    for pattern, known_text in _BY_TEXT:
        if pattern.search(detail):
            return _in(portal, known_text)
    if kind == MALFORMED and not detail and purpose is Purpose.NEW_ORDER:
        return _in(portal, _EMPTY_MALFORMED)
    if kind.startswith("urn:sectigo:params:acme:error:"):
        return _in(portal, _SUBSCRIPTION)
    word = kind.removeprefix(ACME_ERROR)
    if word == "unauthorized":
        return _in(portal, _UNAUTHORIZED.get(purpose, _UNAUTHORIZED_OTHERWISE))
    return _in(portal, _BY_TYPE.get(word) or _by_status(status))


def _in(portal: str, advice: Advice) -> Advice:
    return Advice(
        advice.error_class,
        advice.hint.replace("PORTAL", portal),
        advice.stops_account,
    )


def _human(hint: str, *, stops_account: bool = False) -> Advice:
    return Advice(ErrorClass.NEEDS_HUMAN, hint + _THEN, stops_account)


def _configuration(hint: str) -> Advice:
    return Advice(ErrorClass.CONFIGURATION, hint + _THEN)


def _transient(hint: str) -> Advice:
    return Advice(ErrorClass.TRANSIENT, hint)


def _by_status(status: int) -> Advice:
    if status in (408, 425, 429) or status >= 500:
        return _transient("nothing to do: the next run tries again")
    if status in (404, 405, 410):
        return _configuration(
            "compare MDCertificateAuthority with the directory URL that PORTAL shows"
        )
    return _human("ask the CA what it means; 'mdconnector status NAME' keeps its words")


_SUBSCRIPTION = _human(
    "the CA's subscription does not allow it: see balance, credit limit, expiry and the domains of "
    "the plan in PORTAL",
)
_EMPTY_MALFORMED = _human("the CA gave no reason: see in PORTAL whether the account may order it")

_DEACTIVATED = re.compile(
    r"account (is|has been|was) (deactivated|revoked)|deactivated account", re.IGNORECASE
)
_BY_TEXT: tuple[tuple[re.Pattern[str], Advice], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (
            r"not awaiting external account binding",
            _human(
                "this external account binding was used before, with another account key: create a "
                "new ACME account in PORTAL and put its key ID and HMAC key into "
                "MDExternalAccountBinding, or copy the old account into this store",
            ),
        ),
        (
            r"key identifier was not recognized|['\"]?kid['\"]? references a key",
            _configuration(
                "the CA does not know the key ID: compare MDExternalAccountBinding and "
                "MDCertificateAuthority with the ACME account in PORTAL (each endpoint, DV, OV or "
                "EV, has its own accounts)"
            ),
        ),
        (
            r"external account binding.*(verif|signature|mac)|eab.*(verif|signature|mac)",
            _configuration(
                "the HMAC key does not belong to the key ID: copy both again from PORTAL into "
                "MDExternalAccountBinding"
            ),
        ),
        (
            r"must include a value for the \W*externalAccountBinding",
            _configuration(
                "set MDExternalAccountBinding with the key ID and HMAC key of the ACME account in "
                "PORTAL, and see that MDContactEmail is set"
            ),
        ),
        (
            r"has not been delegated",
            _human(
                "the domain is not delegated to the organisation of this ACME account: PORTAL > "
                "Domains > Delegate (for a wildcard both example.org and *.example.org)"
            ),
        ),
        (
            r"preauthorized subject organization",
            _human(
                "the names belong to several organisations: give each organisation's names an "
                "MDomain of its own, or move the domains to one organisation in PORTAL"
            ),
        ),
        (
            r"account is currently suspended",
            _human(
                "the whole account is suspended, so nothing more is asked of it in this run: see "
                "PORTAL > ACME accounts, and the CA's status page",
                stops_account=True,
            ),
        ),
        (
            _DEACTIVATED.pattern,
            _human(
                "the account is deactivated at the CA: create a new ACME account in PORTAL and put "
                "its values into MDExternalAccountBinding",
                stops_account=True,
            ),
        ),
        (
            r"no suitable certificate product",
            _human(
                "the account has no certificate product that fits the order: see the certificate "
                "profile of the ACME account in PORTAL, and MDProfile"
            ),
        ),
        (
            r"not acceptable for finalization",
            _transient("nothing to do: the order is read again by the next run"),
        ),
    )
)

_UNAUTHORIZED_OTHERWISE = _human(
    "the CA does not let this account do it: see in PORTAL that the account is active and that "
    "every name is validated and assigned to it"
)
_UNAUTHORIZED = {
    Purpose.REVOCATION: _human(
        "the CA does not let this account, or this key, revoke it: revoke it in PORTAL"
    ),
    Purpose.READ_ACCOUNT: _human(
        "the CA does not let this account in: see in PORTAL whether it is active"
    ),
    Purpose.ACCOUNT: _configuration(
        "the CA refused the account: compare key ID and HMAC key in MDExternalAccountBinding with "
        "the ACME account in PORTAL"
    ),
    Purpose.VALIDATION: _transient(
        "the CA found something else than the challenge's answer: see that each name reaches this "
        "Apache, by IPv4 and by IPv6"
    ),
}

_VALIDATION_BY_HAND = "validate the domain in PORTAL, or see which challenges MDCAChallenges allows"

_BY_TYPE: dict[str, Advice] = {
    "accountDoesNotExist": _transient(
        "nothing to do: the account is registered again with the same key"
    ),
    "alreadyReplaced": _transient("nothing to do: the order is placed again without 'replaces'"),
    "alreadyRevoked": _human("the certificate is revoked already"),
    "agreementRequired": _configuration("write 'MDCertificateAgreement accepted'"),
    "badCSR": _human(
        "the CA does not take this certificate request: see MDPrivateKeys, MDMustStaple and the "
        "names, and the key types that the certificate profile in PORTAL allows"
    ),
    "badNonce": _transient("nothing to do: the next run tries again"),
    "badPublicKey": _configuration("the CA does not take this kind of key: see MDPrivateKeys"),
    "badRevocationReason": _human("choose another reason for the revocation"),
    "badSignatureAlgorithm": _human("the CA does not accept RS256 from ACME accounts"),
    "caa": _human(
        "a CAA record of the domain forbids this CA: add one with its name ('dig CAA' shows them)"
    ),
    "connection": _transient(
        "the CA could not connect to the host: see DNS, the firewall, and that port 80 (http-01) "
        "or 443 (tls-alpn-01) reaches this Apache"
    ),
    "dns": _transient("the CA could not look up a name: see its DNS records and name servers"),
    "externalAccountRequired": _configuration(
        "set MDExternalAccountBinding with the key ID and HMAC key of the ACME account in PORTAL"
    ),
    "incorrectResponse": _transient(
        "the CA found something else than the challenge's answer: see that each name reaches this "
        "Apache, by IPv4 and by IPv6, and that no other record or server answers"
    ),
    "invalidContact": _configuration("the CA does not take the address: see MDContactEmail"),
    "invalidProfile": _configuration("the CA does not offer this profile: see MDProfile"),
    "malformed": _human("compare the names and MD directives with what PORTAL allows"),
    "orderNotReady": _transient("nothing to do: the order is read again by the next run"),
    "rateLimited": _transient("nothing to do: it is tried again when the CA allows it"),
    "rejectedIdentifier": _human(
        "the CA does not issue for this name: see in PORTAL that it is validated and assigned to "
        "this account, or take it out of the MDomain"
    ),
    "serverInternal": _transient("nothing to do: the CA has trouble, the next run tries again"),
    "tls": _transient(
        "the CA's TLS connection to the host failed: see that port 443 reaches this Apache"
    ),
    "unsupportedContact": _configuration("the CA does not take the address: see MDContactEmail"),
    "unsupportedIdentifier": _configuration(
        "the CA does not issue for this kind of name: take it out of the MDomain"
    ),
    "userActionRequired": _human(
        "the CA asks for something to be done in person, as a rule to agree to its new terms"
    ),
}
