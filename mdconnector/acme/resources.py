"""RFC 8555's resources as records, and the requests that make and read them.

Rules: what a CA answers becomes a frozen record at once; a wrong type or an unknown status is a
CaProtocolError. newOrder and finalize are never repeated blindly: after a lost answer the CA is
asked what became of it. Nothing here touches a disk; the caller saves each record before the next
request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mdconnector.acme.advice import (
    ACCOUNT_DOES_NOT_EXIST,
    BAD_NONCE,
    EXTERNAL_ACCOUNT_REQUIRED,
    MALFORMED,
    ORDER_NOT_READY,
    UNAUTHORIZED,
    Purpose,
)
from mdconnector.acme.answers import Directory, JsonObject, Response, in_utc, problem_error
from mdconnector.acme.jws import der_text, external_account_binding
from mdconnector.acme.session import LONGEST_RETRY_WAIT_SECONDS, Session
from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    MAX_CHAIN_CERTIFICATES,
    UNREADABLE,
    split_chain,
)
from mdconnector.errors import (
    CaError,
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    CertificateError,
    ConfigurationError,
)
from mdconnector.keys import PrivateKey
from mdconnector.managed_domain import ExternalAccount
from mdconnector.printable import printable

# What is there at once is seen at once; what is not takes seconds, and is not asked for meanwhile.
FIRST_POLL_SECONDS = 0.1
SECOND_POLL_SECONDS = 1.0
LONGEST_POLL_SECONDS = 10.0
# What a CA that names a waiting time gets at least; some name a day for a certificate that is there
# in minutes.
POLITE_POLL_SECONDS = 3.0
MAX_ORDER_PAGES = 20
MAX_ORDERS_READ = 30
# Sectigo's words, in the detail of a `malformed`.
_BINDING_IS_USED = "not awaiting external account binding"

_Status = TypeVar("_Status", bound=StrEnum)


class OrderStatus(StrEnum):
    """RFC 8555 §7.1.6."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


class AuthorizationStatus(StrEnum):
    """RFC 8555 §7.1.6."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"


# Not RFC 8555's words for an order, but seen (Pebble): like `invalid`, nothing will come of it.
_DEAD_ORDERS = frozenset({"deactivated", "expired", "revoked"})


class Account(NamedTuple):
    """An account at one CA: its URL is the `kid` of every request, its key signs them."""

    url: str
    key: PrivateKey
    status: str = "valid"
    contact: tuple[str, ...] = ()
    orders_url: str | None = None
    registration: Mapping[str, object] = MappingProxyType({})
    """the CA's account object as it came, for account.json; empty where it was not asked"""

    def __repr__(self) -> str:
        return f"Account({self.url!r}, {self.status!r})"


class Order(NamedTuple):
    """An order (RFC 8555 §7.1.3)."""

    url: str
    status: OrderStatus
    names: tuple[str, ...]
    """its DNS identifiers, lower case"""
    authorizations: tuple[str, ...] = ()
    finalize: str | None = None
    certificate: str | None = None
    """always there where `status` is valid"""
    expires: datetime | None = None
    error: CaProblemError | None = None
    retry_after_seconds: float | None = None


class Challenge(NamedTuple):
    """A challenge of any type (RFC 8555 §7.1.5, §8); some CAs' own types lack URL and token."""

    type: str
    url: str | None
    token: str | None
    status: str
    error: CaProblemError | None = None


class Authorization(NamedTuple):
    """The CA's question whether the account controls a name (RFC 8555 §7.1.4)."""

    url: str
    name: str
    """the DNS identifier, without `*.`"""
    status: AuthorizationStatus
    wildcard: bool = False
    challenges: tuple[Challenge, ...] = ()
    expires: datetime | None = None


class NoOrderError(CaProtocolError):
    """What the CA has at an order's address is no order."""


class Chain(NamedTuple):
    """A chain as delivered, and where the CA keeps other ones of the same certificate."""

    pem: bytes
    alternates: tuple[str, ...] = ()


def register_account(
    session: Session,
    key: PrivateKey,
    *,
    contact: str | None,
    terms_agreed: bool,
    eab: ExternalAccount | None,
) -> Account:
    """Register the key at the CA, or find its account: the same key gives the same account (§7.3).

    The key must be durable before. `contact` is a URI. A binding may be good for one use, so after
    a lost answer, or one that calls it used, the key's account is looked for. Raises
    ConfigurationError, before anything is sent, where the CA asks for what is not configured.
    """

    def payload(directory: Directory) -> dict[str, object]:
        require_what_ca_asks(directory, terms_agreed=terms_agreed, eab=eab)
        members: dict[str, object] = {}
        if contact:
            members["contact"] = [contact]
        if directory.terms_of_service is not None:
            members["termsOfServiceAgreed"] = True
        if eab is not None:
            members["externalAccountBinding"] = external_account_binding(
                key, kid=eab.kid, hmac=eab.hmac, url=directory.new_account
            )
        return members

    if eab is None:
        return _new_account(session, key, payload, Purpose.ACCOUNT)
    try:
        return _bind(session, key, payload)
    except CaUnreachableError as error:
        if not error.request_sent:
            raise
    return find_account(session, key) or _bind(session, key, payload)


def find_account(session: Session, key: PrivateKey) -> Account | None:
    """Ask for the key's account without making one (§7.3.1); None where the CA knows none."""
    try:
        return _new_account(
            session, key, lambda _: {"onlyReturnExisting": True}, Purpose.FIND_ACCOUNT
        )
    except CaProblemError as error:
        # A CA that demands a binding before it looks for the key does not have it either.
        if error.type in (ACCOUNT_DOES_NOT_EXIST, EXTERNAL_ACCOUNT_REQUIRED):
            return None
        raise


def update_contact(session: Session, account: Account, contact: str) -> Account:
    """Tell the CA another contact (§7.3.2)."""
    response = session.post(
        account.url,
        {"contact": [contact]},
        key=account.key,
        kid=account.url,
        purpose=Purpose.ACCOUNT,
    )
    return account_in(response, account.url, account.key)


def new_order(
    session: Session,
    account: Account,
    names: tuple[str, ...],
    *,
    profile: str | None = None,
    replaces: str | None = None,
    known_orders: Callable[[], Collection[str]] = tuple,
) -> Order:
    """Place an order (§7.4).

    `profile` and `replaces` are sent only to a CA that offers them. After a lost answer an open
    order of the account for exactly these names, none of `known_orders()`, is taken for ours
    (§7.1.2.1); where the CA lists none, the order is placed once more, unless the CA has asked for
    a longer pause.
    """
    directory = session.directory()
    request: dict[str, object] = {"identifiers": [{"type": "dns", "value": name} for name in names]}
    spelling = directory.profile_named(profile) if profile is not None else None
    if spelling is not None:
        request["profile"] = spelling
    if replaces is None or directory.renewal_info is None:
        return _place_order(session, account, request, names, known_orders)
    try:
        return _place_order(session, account, request | {"replaces": replaces}, names, known_orders)
    except CaProblemError as error:
        # Several CAs answer an empty `malformed` to it, so no other type is told apart.
        if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.type == BAD_NONCE:
            raise
        return _place_order(session, account, request, names, known_orders)


def fetch_order(session: Session, account: Account, url: str) -> Order:
    """Read an order (POST-as-GET, §7.4). Raises NoOrderError where something else is there."""
    try:
        response = _read(session, account, url, Purpose.READ)
        response.json("order").text("status")
    except CaProtocolError as error:
        raise NoOrderError(error.message, url=error.url, hint=error.hint) from error
    return _order(session, response, url)


def require_order_for(order: Order, names: tuple[str, ...]) -> Order:
    """Return an order that is for exactly these names. Raises NoOrderError for any other."""
    if set(order.names) != {name.lower() for name in names}:
        raise NoOrderError(
            f"the CA made an order for other names: {printable(', '.join(order.names))} "
            f"instead of {', '.join(names)}",
            url=order.url,
        )
    return order


def fetch_authorization(session: Session, account: Account, url: str) -> Authorization:
    """Read an authorization (§7.5)."""
    response = _read(session, account, url, Purpose.AUTHORIZATION)
    return _authorization(session, response.json("authorization"), url)


def answer_challenge(session: Session, account: Account, url: str) -> Challenge:
    """Tell the CA that a challenge may be validated now (§7.5.1).

    After a lost answer the challenge is read, and answered again only if it is still pending.
    """
    try:
        response = _answer(session, account, url)
    except CaUnreachableError as error:
        if not error.request_sent:
            raise
        response = _read(session, account, url, Purpose.CHALLENGE)
        if _challenge(session, response.json("challenge")).status == "pending":
            response = _answer(session, account, url)
    return _challenge(session, response.json("challenge"))


def finalize(session: Session, account: Account, order: Order, csr_der: bytes) -> Order:
    """Hand in the CSR of a ready order, once (§7.4).

    After a lost answer, or one that says it was done before, the order is read and returned as it
    stands. Where it is still `ready`, or cannot be read, the error of the lost answer is raised, a
    CaUnreachableError with `request_sent`: the CA may be at work on it, so read the order again
    before another try. Any other error means that nothing was finalized.
    """
    if order.status in (OrderStatus.PROCESSING, OrderStatus.VALID):
        return order
    if order.finalize is None:
        raise CaProtocolError("the CA's order has no 'finalize'", url=order.url)
    try:
        response = session.post(
            order.finalize,
            {"csr": der_text(csr_der)},
            key=account.key,
            kid=account.url,
            purpose=Purpose.FINALIZE,
            repeatable=False,
        )
        found = _order(session, response, order.url)
    except CaUnreachableError as error:
        if not error.request_sent:
            raise
        return _order_after_lost_finalize(session, account, order, error)
    except CaProtocolError as error:
        return _order_after_lost_finalize(session, account, order, error)
    except CaProblemError as error:
        # "Order's status (valid) is not acceptable for finalization" is success.
        if error.type not in (ORDER_NOT_READY, MALFORMED):
            raise
        found = fetch_order(session, account, order.url)
        if found.status in (OrderStatus.PROCESSING, OrderStatus.VALID):
            return found
        raise
    return _at_its_address(session, account, found, response.location)


def fetch_chain(session: Session, account: Account, order: Order) -> bytes:
    """Fetch the certificate of a valid order with its chain, as PEM (§7.4.2)."""
    if order.certificate is None:
        raise CaProtocolError("the CA's order has no 'certificate' yet", url=order.url)
    return fetch_certificate(session, account, order.certificate).pem


def fetch_certificate(session: Session, account: Account, url: str) -> Chain:
    """Fetch one chain by its URL; a cut or garbled one is fetched once more.

    What the CA calls its content does not matter, PEM and DER are told apart by what they are. A
    single certificate is completed by its `up` links (mod_md: md_acme_drive.c, get_chain).
    """
    try:
        return _certificate(session, account, url)
    except CertificateError:
        return _certificate(session, account, url)


def list_orders(session: Session, account: Account) -> tuple[str, ...]:
    """Return the URLs of the account's orders; empty where the CA keeps no list (§7.1.2.1)."""
    url = account.orders_url
    found: list[str] = []
    for _ in range(MAX_ORDER_PAGES):
        if url is None:
            break
        page = _read(session, account, url, Purpose.READ)
        found += page.json("list of orders").texts("orders")
        url = next(iter(page.related("next")), None)
    return tuple(found)


def explain_invalid(session: Session, account: Account, order: Order) -> CaProblemError:
    """Say why an order became invalid: the challenge that failed, with its name, else what it says.

    An order repeats the failed challenge's error, but without the name; its `unauthorized` means a
    wrong answer to the challenge, not an account without rights.
    """
    try:
        found = _failed_validation(session, account, order)
    except (CaProblemError, CaProtocolError):
        found = None
    if found is not None:
        return found
    return order.error or _invalid(session, order, "the order became invalid without a reason")


def poll_delay_seconds(retry_after_seconds: float | None, polls_so_far: int) -> float:
    """Return how long to wait before an order is read again.

    The interval doubles from the second on, up to 10 s; a CA's Retry-After is kept to as far as it
    lies below that, because some name a day for a certificate that is there in minutes.
    """
    growing = FIRST_POLL_SECONDS
    if polls_so_far:
        growing = min(SECOND_POLL_SECONDS * 2.0 ** min(polls_so_far - 1, 30), LONGEST_POLL_SECONDS)
    if retry_after_seconds is None:
        return growing
    polite = max(growing, POLITE_POLL_SECONDS)
    return max(min(retry_after_seconds, polite), FIRST_POLL_SECONDS)


def require_what_ca_asks(
    directory: Directory, *, terms_agreed: bool, eab: ExternalAccount | None
) -> None:
    if not terms_agreed:
        terms = directory.terms_of_service
        raise ConfigurationError(
            "MDCertificateAgreement is not set, so no account can be registered",
            hint="write 'MDCertificateAgreement accepted'"
            + (f" once you agree to {printable(terms)}" if terms else ""),
        )
    if directory.external_account_required and eab is None:
        raise ConfigurationError(
            "the CA asks for an external account binding, and none is configured",
            hint="set MDExternalAccountBinding with the key ID and HMAC key that the CA gave you",
        )


_PayloadFor = Callable[[Directory], Mapping[str, object]]


def _bind(session: Session, key: PrivateKey, payload: _PayloadFor) -> Account:
    """Register with a binding, once; one that was used with this very key has its account."""
    try:
        return _new_account(session, key, payload, Purpose.ACCOUNT, repeatable=False)
    except CaProblemError as error:
        if _BINDING_IS_USED not in error.detail.lower():
            raise
        with suppress(CaProblemError):
            found = find_account(session, key)
            if found is not None:
                return found
        raise


def _new_account(
    session: Session,
    key: PrivateKey,
    payload: _PayloadFor,
    purpose: Purpose,
    *,
    repeatable: bool = True,
) -> Account:
    response = ask_directory(
        session,
        lambda directory: session.post(
            directory.new_account,
            payload(directory),
            key=key,
            kid=None,
            purpose=purpose,
            repeatable=repeatable,
        ),
    )
    if response.location is None:
        raise CaProtocolError(
            "the CA's answer to newAccount has no header Location", url=response.url
        )
    account = account_in(response, response.location, key)
    if account.status != "valid":
        raise problem_error(
            JsonObject(
                {"type": UNAUTHORIZED, "detail": f"the account is {account.status}"},
                what="account",
                url=account.url,
            ),
            url=account.url,
            status=response.status,
            host=session.host,
            purpose=purpose,
        )
    return account


def ask_directory(session: Session, request: Callable[[Directory], Response]) -> Response:
    """Send a request to an address of the directory; a remembered one may have moved."""
    directory = session.directory()
    try:
        return request(directory)
    except CaProblemError as error:
        moved = error.status in (
            HTTPStatus.NOT_FOUND,
            HTTPStatus.METHOD_NOT_ALLOWED,
            HTTPStatus.GONE,
        )
        if moved and error.type != ACCOUNT_DOES_NOT_EXIST and session.has_moved_from(directory):
            return request(session.directory())
        raise


def account_in(response: Response, url: str, key: PrivateKey) -> Account:
    """Read an account object (§7.1.2)."""
    # Some CAs answer with no body where the account exists already.
    document = response.document("account") if response.body.strip() else {}
    members = JsonObject(document, what="account", url=response.url)
    return Account(
        url=url,
        key=key,
        status=members.text_or_none("status") or "valid",
        contact=members.texts("contact"),
        orders_url=members.text_or_none("orders"),
        registration=document if isinstance(document, dict) else {},
    )


def _place_order(
    session: Session,
    account: Account,
    request: Mapping[str, object],
    names: tuple[str, ...],
    known_orders: Callable[[], Collection[str]],
) -> Order:
    def post(directory: Directory) -> Response:
        return session.post(
            directory.new_order,
            request,
            key=account.key,
            kid=account.url,
            purpose=Purpose.NEW_ORDER,
            repeatable=False,
        )

    try:
        response = ask_directory(session, post)
    except CaUnreachableError as error:
        asked = error.retry_after_seconds or 0.0
        if not error.request_sent or asked > LONGEST_RETRY_WAIT_SECONDS:
            raise
        lost = find_lost_order(session, account, names, known_orders())
        if lost is not None:
            return lost
        response = ask_directory(session, post)
    if response.location is None:
        raise CaProtocolError(
            "the CA's answer to newOrder has no header Location", url=response.url
        )
    session.refuse_foreign(response.location)
    return require_order_for(_order(session, response, response.location), names)


def find_lost_order(
    session: Session, account: Account, names: tuple[str, ...], known: Collection[str]
) -> Order | None:
    """Look for an open order for exactly these names that is none of `known` (§7.1.2.1).

    None where there is none, or where the CA keeps no list.
    """
    try:
        if account.orders_url is None:
            account = find_account(session, account.key) or account
        urls = [url for url in list_orders(session, account) if url not in known]
    except (CaProblemError, CaProtocolError):
        # A list that cannot be had is no list: few CAs keep one.
        return None
    for url in urls[: -MAX_ORDERS_READ - 1 : -1]:
        order = fetch_open_order(session, account, url, names)
        if order is not None:
            return order
    return None


def fetch_open_order(
    session: Session, account: Account, url: str, names: tuple[str, ...]
) -> Order | None:
    """Read an order that may be one for exactly these names, not finalized yet; else None."""
    try:
        order = require_order_for(fetch_order(session, account, url), names)
    except (CaProblemError, CaProtocolError):
        return None
    return order if order.status in (OrderStatus.PENDING, OrderStatus.READY) else None


def _at_its_address(
    session: Session, account: Account, order: Order, elsewhere: str | None
) -> Order:
    """Find out which of two addresses is the order's, where newOrder and finalize gave two."""
    if elsewhere is None or elsewhere == order.url:
        return order
    for url in (order.url, elsewhere):
        with suppress(CaError):
            return require_order_for(fetch_order(session, account, url), order.names)
    return order


def _order_after_lost_finalize(
    session: Session, account: Account, order: Order, lost: CaError
) -> Order:
    try:
        found = fetch_order(session, account, order.url)
    except CaError:
        # What the reading met says nothing about the finalize, which may be under way.
        raise lost from None
    if found.status is OrderStatus.READY:
        raise lost
    return found


def _answer(session: Session, account: Account, url: str) -> Response:
    return session.post(
        url, {}, key=account.key, kid=account.url, purpose=Purpose.CHALLENGE, repeatable=False
    )


def _read(session: Session, account: Account, url: str, purpose: Purpose) -> Response:
    return session.post(url, None, key=account.key, kid=account.url, purpose=purpose)


def _order(session: Session, response: Response, url: str) -> Order:
    members = response.json("order")
    status = members.text("status")
    order = Order(
        url=url,
        status=_status(OrderStatus, "invalid" if status in _DEAD_ORDERS else status, "order", url),
        names=_names(members, url),
        authorizations=members.texts("authorizations"),
        finalize=members.text_or_none("finalize"),
        certificate=members.text_or_none("certificate"),
        expires=_date(members.text_or_none("expires")),
        error=_embedded_error(session, members, url, Purpose.FINALIZE),
        retry_after_seconds=response.retry_after_seconds,
    )
    if order.status is OrderStatus.VALID and order.certificate is None:
        raise CaProtocolError("the CA's order is valid but has no 'certificate'", url=url)
    return order


def _names(members: JsonObject, url: str) -> tuple[str, ...]:
    names = []
    for identifier in members.objects("identifiers"):
        kind = identifier.text("type")
        if kind != "dns":
            raise CaProtocolError(
                f"the CA's order has an identifier of type '{printable(kind, 40)}'", url=url
            )
        names.append(identifier.text("value").lower())
    return tuple(names)


def _authorization(session: Session, members: JsonObject, url: str) -> Authorization:
    identifier = members.object_or_none("identifier")
    if identifier is None:
        raise CaProtocolError("the CA's authorization has no 'identifier'", url=url)
    name = identifier.text("value").lower()
    return Authorization(
        url=url,
        name=name.removeprefix("*."),
        status=_status(AuthorizationStatus, members.text("status"), "authorization", url),
        wildcard=members.truth("wildcard") or name.startswith("*."),
        challenges=tuple(_challenge(session, each) for each in members.objects("challenges")),
        expires=_date(members.text_or_none("expires")),
    )


def _challenge(session: Session, members: JsonObject) -> Challenge:
    url = members.text_or_none("url")
    return Challenge(
        type=members.text("type"),
        url=url,
        token=members.text_or_none("token"),
        status=members.text_or_none("status") or "pending",
        error=_embedded_error(session, members, url or session.directory_url, Purpose.VALIDATION),
    )


def _embedded_error(
    session: Session, members: JsonObject, url: str, purpose: Purpose
) -> CaProblemError | None:
    document = members.object_or_none("error")
    if document is None:
        return None
    return problem_error(
        document,
        url=url,
        status=document.whole_number("status") or HTTPStatus.FORBIDDEN,
        host=session.host,
        purpose=purpose,
    )


def _failed_validation(session: Session, account: Account, order: Order) -> CaProblemError | None:
    for url in order.authorizations:
        authorization = fetch_authorization(session, account, url)
        if authorization.status is AuthorizationStatus.VALID:
            continue
        for challenge in authorization.challenges:
            if challenge.error is not None:
                return _about_name(challenge.error, authorization.name)
        if order.error is None and authorization.status is not AuthorizationStatus.PENDING:
            detail = f"the authorization of {authorization.name} is {authorization.status}"
            return _invalid(session, order, detail)
    return None


def _about_name(error: CaProblemError, name: str) -> CaProblemError:
    return CaProblemError(
        url=error.url,
        status=error.status,
        type=error.type,
        detail=f"{printable(name, 255)}: {error.detail}",
        subproblems=error.subproblems,
        hint=error.hint,
        error_class=error.error_class,
    )


def _invalid(session: Session, order: Order, detail: str) -> CaProblemError:
    return problem_error(
        JsonObject({"type": UNAUTHORIZED, "detail": detail}, what="order", url=order.url),
        url=order.url,
        status=HTTPStatus.FORBIDDEN,
        host=session.host,
        purpose=Purpose.VALIDATION,
    )


def _status(kind: type[_Status], word: str, what: str, url: str) -> _Status:
    try:
        return kind(word)
    except ValueError:
        raise CaProtocolError(
            f"the CA's {what} has the unknown status '{printable(word, 40)}'", url=url
        ) from None


def _date(text: str | None) -> datetime | None:
    """Read an RFC 3339 date; nothing depends on it, so nonsense is none."""
    if text is None:
        return None
    try:
        return in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


_BEGIN = b"-----BEGIN CERTIFICATE-----"


def _certificate(session: Session, account: Account, url: str) -> Chain:
    first = _read_certificate(session, account, url)
    blocks = _certificate_blocks(first)
    issuers = first.related("up") if len(blocks) == 1 else ()
    if len(blocks) == 1 and not issuers and not first.has_declared_end:
        raise CertificateError(
            "the CA's answer holds one certificate alone and did not announce its length, so the "
            "rest of the chain may have been cut off"
        )
    while issuers and len(blocks) < MAX_CHAIN_CERTIFICATES:
        issuer = _read_certificate(session, account, issuers[0])
        blocks += _certificate_blocks(issuer)
        issuers = issuer.related("up")
    pem = b"".join(block + b"\n" for block in blocks)
    return Chain(pem=pem, alternates=first.related("alternate"))


def _read_certificate(session: Session, account: Account, url: str) -> Response:
    return session.post(
        url,
        None,
        key=account.key,
        kid=account.url,
        purpose=Purpose.CERTIFICATE,
        max_bytes=MAX_CHAIN_BYTES,
    )


def _certificate_blocks(response: Response) -> tuple[bytes, ...]:
    begun = response.body.count(_BEGIN)
    if response.body.count(b"-----BEGIN ") != begun:
        raise CertificateError("the CA's answer holds other PEM blocks than certificates")
    if begun == 0:
        return (_pem_of_der(response.body),)
    blocks = split_chain(response.body)
    if len(blocks) != begun:
        raise CertificateError("the CA's answer holds a chain that is cut off or garbled")
    return blocks


def _pem_of_der(body: bytes) -> bytes:
    try:
        certificate = x509.load_der_x509_certificate(body)
    except UNREADABLE as error:
        raise CertificateError("the CA's answer holds no certificate") from error
    return certificate.public_bytes(serialization.Encoding.PEM).rstrip(b"\n")
