"""What a CA's answers are made of: JSON by type, links, the directory, problem documents.

Rules: pure. A member of the wrong type is a CaProtocolError that names it; a problem document is
read as far as it makes sense. All words of a CA that people will see pass `printable`.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urljoin

from mdconnector.acme.advice import ACME_ERROR, BAD_NONCE, NO_TYPE, Purpose, advise
from mdconnector.errors import CaProblemError, CaProtocolError, Subproblem
from mdconnector.printable import printable

LONGEST_RETRY_AFTER_SECONDS = 7 * 24 * 3600.0
_MAX_SUBPROBLEMS = 100
_MAX_LINK_CHARACTERS = 16 * 1024
_COMPOUND = ACME_ERROR + "compound"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,512}")
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_RELATION = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


class Directory(NamedTuple):
    """What a CA offers (RFC 8555 §7.1.1)."""

    new_nonce: str
    new_account: str
    new_order: str
    revoke_cert: str | None = None
    key_change: str | None = None
    renewal_info: str | None = None
    terms_of_service: str | None = None
    external_account_required: bool = False
    profiles: tuple[str, ...] = ()

    def profile_named(self, name: str) -> str | None:
        """Return the CA's spelling of a profile, None where it has none of that name."""
        return next((word for word in self.profiles if word.lower() == name.lower()), None)

    def to_json(self) -> dict[str, object]:
        """Return it as the CA would write it, for remembering; `parse_directory` reads it."""
        document: dict[str, object] = {
            json_name: value
            for json_name, value in (
                ("newNonce", self.new_nonce),
                ("newAccount", self.new_account),
                ("newOrder", self.new_order),
                ("revokeCert", self.revoke_cert),
                ("keyChange", self.key_change),
                ("renewalInfo", self.renewal_info),
            )
            if value is not None
        }
        meta: dict[str, object] = {"externalAccountRequired": self.external_account_required}
        if self.terms_of_service is not None:
            meta["termsOfService"] = self.terms_of_service
        if self.profiles:
            meta["profiles"] = dict.fromkeys(self.profiles, "")
        return document | {"meta": meta}


def parse_directory(document: object, *, url: str) -> Directory:
    """Read a directory object, the CA's or a remembered one. Raises CaProtocolError."""
    members = JsonObject(document, what="directory", url=url)
    meta = members.object_or_none("meta") or JsonObject({}, what="directory's meta", url=url)
    profiles = meta.object_or_none("profiles")
    return Directory(
        new_nonce=members.text("newNonce"),
        new_account=members.text("newAccount"),
        new_order=members.text("newOrder"),
        revoke_cert=members.text_or_none("revokeCert"),
        key_change=members.text_or_none("keyChange"),
        renewal_info=members.text_or_none("renewalInfo"),
        terms_of_service=meta.text_or_none("termsOfService"),
        external_account_required=meta.truth("externalAccountRequired"),
        profiles=profiles.names() if profiles else (),
    )


class JsonObject:
    """A JSON object of the CA's, whose members are taken out by type. Raises CaProtocolError."""

    __slots__ = ("_members", "_url", "_what")

    def __init__(self, value: object, *, what: str, url: str) -> None:
        if not isinstance(value, dict):
            raise CaProtocolError(f"the CA's {what} is not a JSON object", url=url)
        self._members: dict[str, object] = value
        self._what = what
        self._url = url

    def text(self, name: str) -> str:
        """Return a member that must be there and be a string."""
        value = self.text_or_none(name)
        if value is None:
            raise CaProtocolError(f"the CA's {self._what} has no '{name}'", url=self._url)
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a member that must be a string where it is there; null counts as absent."""
        value = self._members.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _is_sound(value):
            raise self._wrong(name, "a string")
        return value

    def truth(self, name: str) -> bool:
        """Return a member that must be true or false where it is there; absent is false."""
        value = self._members.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def whole_number(self, name: str) -> int | None:
        """Return a member that must be a whole number where it is there."""
        value = self._members.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "a whole number")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a member that must be an array of strings where it is there; absent is empty."""
        value = self._members.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self._wrong(name, "an array of strings")
        texts = tuple(item for item in value if isinstance(item, str) and _is_sound(item))
        if len(texts) != len(value):
            raise self._wrong(name, "an array of strings")
        return texts

    def object_or_none(self, name: str) -> JsonObject | None:
        """Return a member that must be an object where it is there."""
        value = self._members.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return JsonObject(value, what=f"{self._what}'s {name}", url=self._url)

    def objects(self, name: str) -> tuple[JsonObject, ...]:
        """Return a member that must be an array of objects where it is there; absent is empty."""
        value = self._members.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "an array of objects")
        return tuple(
            JsonObject(item, what=f"{self._what}'s {name}", url=self._url) for item in value
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of all members."""
        return tuple(name for name in self._members if _is_sound(name))

    def _wrong(self, name: str, wanted: str) -> CaProtocolError:
        return CaProtocolError(
            f"the CA's {self._what} has a '{name}' that is not {wanted}", url=self._url
        )


def _is_sound(text: str) -> bool:
    # json.loads lets half of a surrogate pair through, which no file and no request can carry.
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


class Response(NamedTuple):
    """One answer, read whole."""

    url: str
    status: int
    body: bytes
    location: str | None
    """absolute"""
    links: tuple[tuple[str, str], ...]
    """(relation, absolute URL) of each Link header"""
    nonce: str | None
    retry_after_seconds: float | None
    has_declared_end: bool = True
    """its length was announced: it cannot have been cut off without a word"""
    date: datetime | None = None
    """the CA's clock"""

    def json(self, what: str) -> JsonObject:
        """Return the body as a JSON object. Raises CaProtocolError."""
        return JsonObject(self.document(what), what=what, url=self.url)

    def related(self, relation: str) -> tuple[str, ...]:
        """Return the URLs that the answer links to by `rel`."""
        return tuple(url for name, url in self.links if name == relation)

    def document(self, what: str) -> object:
        """Return the body as JSON of whatever kind. Raises CaProtocolError."""
        try:
            parsed: object = json.loads(self.body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise CaProtocolError(f"the CA's {what} is not JSON", url=self.url) from error
        return parsed

    @property
    def is_bad_nonce(self) -> bool:
        """Say whether the CA refused the request for its nonce alone (RFC 8555 §6.5)."""
        if self.status != HTTPStatus.BAD_REQUEST:
            return False
        return problem_word(self.problem_document(), "type") == BAD_NONCE

    def problem_document(self) -> JsonObject | None:
        """Return the body as a problem document, None where it is none."""
        try:
            return self.json("problem document")
        except CaProtocolError:
            return None


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def problem_error(
    document: JsonObject | None,
    *,
    url: str,
    status: int,
    host: str,
    purpose: Purpose,
    retry_after_seconds: float | None = None,
) -> CaProblemError:
    """Make the error that a problem document stands for, with what to do about it.

    `host` is the CA's: its portal is named by what the CA calls it.
    """
    subproblems = _subproblems(document)
    kind = problem_word(document, "type") or NO_TYPE
    detail = printable(problem_word(document, "detail") or problem_word(document, "title") or "")
    to_judge = subproblems[0].type if kind == _COMPOUND and subproblems else kind
    found = advise(kind=to_judge, status=status, detail=detail, host=host, purpose=purpose)
    instance = problem_word(document, "instance")
    hint = f"{found.hint} (see {printable(instance)})" if instance else found.hint
    return CaProblemError(
        url=url,
        status=status,
        type=printable(kind, 200),
        detail=detail or (status_phrase(status) if kind == NO_TYPE else ""),
        subproblems=subproblems,
        hint=hint,
        error_class=found.error_class,
        retry_after_seconds=retry_after_seconds,
    )


def read_response(
    *, url: str, status: int, headers: Mapping[str, list[str]], body: bytes
) -> Response:
    """Make a Response of raw parts; header names are in lower case. Raises CaProtocolError."""

    def header(name: str) -> str | None:
        values = headers.get(name)
        return values[0] if values else None

    locations = set(headers.get("location", ()))
    if len(locations) > 1:
        raise CaProtocolError("the CA's answer has several headers Location", url=url)
    nonce = header("replay-nonce")
    return Response(
        url=url,
        status=status,
        body=body,
        location=_absolute(url, locations.pop()) if locations else None,
        links=_links(headers.get("link", []), url=url),
        # RFC 8555 §6.5.1: an invalid one is ignored.
        nonce=nonce if nonce is not None and _BASE64URL.fullmatch(nonce) else None,
        retry_after_seconds=parse_retry_after(
            header("retry-after"), now=_date_or_now(header("date"))
        ),
        date=_http_date(header("date") or ""),
        has_declared_end="content-length" in headers or "transfer-encoding" in headers,
    )


def _absolute(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference.strip())
    except ValueError as error:
        raise CaProtocolError("the CA's answer has a header that is no URL", url=base) from error


def _links(headers: list[str], *, url: str) -> tuple[tuple[str, str], ...]:
    found = []
    for target, parameters in _LINK.findall(", ".join(headers)[:_MAX_LINK_CHARACTERS]):
        relation = _RELATION.search(parameters)
        if relation is None:
            continue
        words = (relation[1] or relation[2] or "").lower().split()
        found += [(word, _absolute(url, target)) for word in words]
    return tuple(found)


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most 7 days; None for nonsense."""
    if text is None:
        return None
    word = text.strip()
    if word.isascii() and word.isdigit():
        return min(float(word[:12]), LONGEST_RETRY_AFTER_SECONDS)
    until = _http_date(word)
    if until is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _date_or_now(header: str | None) -> datetime:
    """Return the CA's clock where it tells it: its dates are meant by it."""
    return (_http_date(header) if header else None) or datetime.now(UTC)


def _http_date(text: str) -> datetime | None:
    try:
        return in_utc(email.utils.parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def in_utc(date: datetime) -> datetime:
    """Return a date in UTC, as one without a zone is meant. Raises OverflowError."""
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def problem_word(document: JsonObject | None, name: str) -> str | None:
    """Return a member of a problem document, None where it is absent or no text."""
    if document is None:
        return None
    try:
        return document.text_or_none(name)
    except CaProtocolError:
        return None


def _subproblems(document: JsonObject | None) -> tuple[Subproblem, ...]:
    if document is None:
        return ()
    try:
        members = document.objects("subproblems")[:_MAX_SUBPROBLEMS]
        return tuple(
            Subproblem(
                type=printable(problem_word(member, "type") or NO_TYPE, 200),
                detail=printable(problem_word(member, "detail") or ""),
                identifier=_identifier(member),
            )
            for member in members
        )
    except CaProtocolError:
        return ()


def _identifier(member: JsonObject) -> str | None:
    value = problem_word(member.object_or_none("identifier"), "value")
    return None if value is None else printable(value, 255)


def status_phrase(status: int) -> str:
    """Return the words that belong to an HTTP status."""
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "no reason given"
