"""What a hostile CA makes of a good answer; the same for the same dice."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

EVIL = "https://evil.example"
_ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x07",
    "\u202eevil",
    "\ud800",
    "$(touch /tmp/evil); `id`",
    "../../../etc/passwd",
    "x" * 10_000,
    "[/red]",
    "%s%n",
    "--force",
    f"{EVIL}/x",
    "http://ca.example/x",
    "https://ca.example:8443/x",
    "https://user@evil.example/x",
    "//evil.example/x",
    "file:///etc/passwd",
    "https://ca.example\r\nHost: evil.example/",
    "https://[::1",
    "valid",
    "processing",
    "revoked",
    "urn:ietf:params:acme:error:badNonce",
    "urn:ietf:params:acme:error:rateLimited",
    "urn:ietf:params:acme:error:accountDoesNotExist",
)
_ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**300,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"": {}},
    [{"type": "dns"}] * 50,
    ["a"] * 500,
)
_HEADERS = ("Replay-Nonce", "Location", "Link", "Retry-After", "Content-Type", "Date")
_ODD_HEADERS = (
    "",
    " ",
    "-1",
    "0",
    "9" * 400,
    "1e999",
    "Mon, 99 Foo 2099 99:99:99 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "nonce with spaces",
    "n" * 20_000,
    "/relative",
    f"{EVIL}/x",
    "http://ca.example/x",
    f"<{EVIL}/x>;rel=alternate",
    "<" * 5000,
    "text/html",
    "\x1b[31m",
    "\xff\xfe",
)
_STATUSES = (
    *(200, 201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 409),
    *(410, 415, 418, 421, 429, 451, 500, 501, 502, 503, 504, 520, 599, 799, 999),
)


class Answer(NamedTuple):
    """One answer of a CA."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


def mutated(answer: Answer, dice: random.Random) -> tuple[str, Answer]:
    """Return a hostile answer in place of a good one, and what was done."""
    kinds = _OF_PEM if b"-----BEGIN" in answer.body else _OF_JSON
    chosen = dice.choice(kinds + _OF_ALL)
    changed = chosen(answer, dice)
    if dice.random() < 0.2:
        changed = dice.choice(_OF_ALL)(changed, dice)
    return chosen.__name__.strip("_").replace("_", " "), changed


def _with_body(answer: Answer, body: bytes) -> Answer:
    return answer._replace(body=body)


# --- members of JSON ---------------------------------------------------------------------------


def _odd_value(dice: random.Random) -> Any:
    if dice.random() < 0.6:
        return dice.choice(_ODD_TEXTS)
    return dice.choice(_ODD_VALUES)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all members and elements."""
    found: list[tuple[Any, ...]] = []
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        found.append((*path, key))
        found += _places(value[key], (*path, key))
    return found


def _changed(answer: Answer, dice: random.Random, change: Callable[[Any, Any], None]) -> Answer:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return _with_body(answer, b"{}")
    places = _places(document)
    if not places:
        return _with_body(answer, json.dumps(_odd_value(dice)).encode())
    *path, last = dice.choice(places)
    holder = document
    for key in path:
        holder = holder[key]
    change(holder, last)
    return _with_body(answer, json.dumps(document).encode("utf-8", "surrogatepass"))


def _odd_member(answer: Answer, dice: random.Random) -> Answer:
    def change(holder: Any, key: Any) -> None:
        holder[key] = _odd_value(dice)

    return _changed(answer, dice, change)


def _missing_member(answer: Answer, dice: random.Random) -> Answer:
    def change(holder: Any, key: Any) -> None:
        del holder[key]

    return _changed(answer, dice, change)


def _listed_member(answer: Answer, dice: random.Random) -> Answer:
    def change(holder: Any, key: Any) -> None:
        holder[key] = [holder[key]] * dice.choice((1, 2, 300))

    return _changed(answer, dice, change)


def _added_member(answer: Answer, dice: random.Random) -> Answer:
    names = ("error", "subproblems", "certificate", "status", "expires", "wildcard", "type", "\x1b")

    def change(holder: Any, _: Any) -> None:
        if isinstance(holder, dict):
            holder[dice.choice(names)] = _odd_value(dice)
        else:
            holder.append(_odd_value(dice))

    return _changed(answer, dice, change)


def _repeated_member(answer: Answer, dice: random.Random) -> Answer:
    name, value = dice.choice(("status", "type", "identifiers")), json.dumps(_odd_value(dice))
    body = answer.body.rstrip().removesuffix(b"}")
    return _with_body(answer, body + f', "{name}": {value}}}'.encode("utf-8", "replace"))


def _other_kind_of_document(answer: Answer, dice: random.Random) -> Answer:
    return _with_body(answer, json.dumps(_odd_value(dice)).encode("utf-8", "replace"))


def _deep_nesting(answer: Answer, dice: random.Random) -> Answer:
    depth = dice.choice((100, 1_000, 1_000, 5_000, 100_000))
    opening, closing = dice.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return _with_body(answer, opening * depth + b"1" + closing * depth)


def _long_number(answer: Answer, dice: random.Random) -> Answer:
    return _with_body(
        answer, b'{"status": ' + b"9" * dice.choice((400, 5_000, 5_000, 100_000)) + b"}"
    )


# --- chains ------------------------------------------------------------------------------------


_BLOCK = re.compile(rb"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)


def _blocks(answer: Answer) -> list[bytes]:
    return _BLOCK.findall(answer.body)


def _shuffled_blocks(answer: Answer, dice: random.Random) -> Answer:
    blocks = _blocks(answer) * dice.choice((1, 1, 2, 50))
    dice.shuffle(blocks)
    return _with_body(answer, b"".join(blocks))


def _fewer_blocks(answer: Answer, dice: random.Random) -> Answer:
    blocks = _blocks(answer)
    return _with_body(answer, b"".join(blocks[dice.randrange(len(blocks)) :]))


def _junk_between_blocks(answer: Answer, dice: random.Random) -> Answer:
    junk = dice.choice((b"\x00" * 50, b"\xef\xbb\xbf", b"subject=/CN=x\n", b"\x1b[2J", b"-----\n"))
    return _with_body(answer, junk + junk.join(_blocks(answer)) + junk)


def _private_key_in_the_chain(answer: Answer, dice: random.Random) -> Answer:
    label = dice.choice((b"PRIVATE KEY", b"EC PRIVATE KEY", b"CERTIFICATE REQUEST", b"X509 CRL"))
    key = b"-----BEGIN " + label + b"-----\nMC4CAQ==\n-----END " + label + b"-----\n"
    blocks = [*_blocks(answer), key]
    dice.shuffle(blocks)
    return _with_body(answer, b"".join(blocks))


def _damaged_base64(answer: Answer, dice: random.Random) -> Answer:
    body = bytearray(answer.body)
    for _ in range(dice.choice((1, 5, 100))):
        body[dice.randrange(len(body))] = dice.choice(b"ABCxyz+/=\n \x00-")
    return _with_body(answer, bytes(body))


def _flipped_bytes_of_a_certificate(answer: Answer, dice: random.Random) -> Answer:
    """Change what a certificate says, in a block that is well-formed still."""
    blocks = _blocks(answer)
    at = dice.randrange(len(blocks))
    label, *lines, end = blocks[at].splitlines()
    der = bytearray(base64.b64decode(b"".join(lines)))
    for _ in range(dice.choice((1, 1, 3, 10))):
        der[dice.randrange(len(der))] = dice.randrange(256)
    blocks[at] = label + b"\n" + base64.encodebytes(bytes(der)) + end + b"\n"
    return _with_body(answer, b"".join(blocks))


def _endless_dashes(answer: Answer, dice: random.Random) -> Answer:
    return _with_body(answer, b"-----BEGIN CERTIFICATE-----\n" * dice.choice((100, 10_000)))


# --- bytes and headers -------------------------------------------------------------------------


def _truncated(answer: Answer, dice: random.Random) -> Answer:
    return _with_body(answer, answer.body[: dice.randrange(len(answer.body) + 1)])


def _flipped_bytes(answer: Answer, dice: random.Random) -> Answer:
    body = bytearray(answer.body or b"{}")
    for _ in range(dice.choice((1, 3, 20))):
        body[dice.randrange(len(body))] = dice.randrange(256)
    return _with_body(answer, bytes(body))


def _inserted_bytes(answer: Answer, dice: random.Random) -> Answer:
    at = dice.randrange(len(answer.body) + 1)
    junk = dice.choice((b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\xed\xa0\x80", dice.randbytes(30)))
    return _with_body(answer, answer.body[:at] + junk + answer.body[at:])


def _other_text(answer: Answer, dice: random.Random) -> Answer:
    pages = (b"", b"<html><body>Bad Gateway</body></html>", b"null", b"OK\n", b"{", b"[]", b'"x"')
    return _with_body(answer, dice.choice(pages))


def _huge(answer: Answer, dice: random.Random) -> Answer:
    filler = dice.choice((b" ", b"A", b"[", b"-----BEGIN CERTIFICATE-----\n"))
    return _with_body(
        answer,
        filler * (dice.choice((270_000, 270_000, 270_000, 270_000, 2_000_000)) // len(filler)),
    )


def _compressed(answer: Answer, dice: random.Random) -> Answer:
    body = gzip.compress(answer.body or b" " * 1_000_000, compresslevel=1)
    encoding = dice.choice(("gzip", "deflate", "br", "identity", "gzip, gzip", "x-unknown"))
    return Answer(answer.status, body, dict(answer.headers) | {"Content-Encoding": encoding})


def _other_status(answer: Answer, dice: random.Random) -> Answer:
    return answer._replace(status=dice.choice(_STATUSES))


def _problem(answer: Answer, dice: random.Random) -> Answer:
    document = {
        "type": _odd_value(dice),
        "detail": _odd_value(dice),
        "status": _odd_value(dice),
        "subproblems": _odd_value(dice),
    }
    headers = dict(answer.headers) | {"Content-Type": "application/problem+json"}
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    return Answer(dice.choice((400, 401, 403, 404, 429, 500, 503)), body, headers)


def _redirect(answer: Answer, dice: random.Random) -> Answer:
    target = dice.choice((f"{EVIL}/x", "/elsewhere", "http://ca.example/x", "//evil.example"))
    status = dice.choice((301, 302, 303, 307, 308))
    return Answer(status, answer.body, dict(answer.headers) | {"Location": target})


def _odd_header(answer: Answer, dice: random.Random) -> Answer:
    odd = {dice.choice(_HEADERS): dice.choice(_ODD_HEADERS)}
    return answer._replace(headers=dict(answer.headers) | odd)


def _false_location(answer: Answer, dice: random.Random) -> Answer:
    """Name another address of the CA's for what was made, or one that leads nowhere."""
    places = (" ", "/none", "/dir", "/order-plz", "/sign-me-up", "/my-account/none", "/my-order/0")
    return answer._replace(headers=dict(answer.headers) | {"Location": dice.choice(places)})


def _missing_header(answer: Answer, dice: random.Random) -> Answer:
    gone = dice.choice([*answer.headers, "Replay-Nonce"])
    kept = {name: value for name, value in answer.headers.items() if name != gone}
    return answer._replace(headers=kept)


_OF_JSON: tuple[Callable[[Answer, random.Random], Answer], ...] = (
    _odd_member,
    _odd_member,
    _odd_member,
    _missing_member,
    _listed_member,
    _added_member,
    _repeated_member,
    _other_kind_of_document,
    _deep_nesting,
    _long_number,
    _false_location,
)
_OF_PEM: tuple[Callable[[Answer, random.Random], Answer], ...] = (
    _shuffled_blocks,
    _fewer_blocks,
    _junk_between_blocks,
    _private_key_in_the_chain,
    _damaged_base64,
    _flipped_bytes_of_a_certificate,
    _flipped_bytes_of_a_certificate,
    _endless_dashes,
)
_OF_ALL: tuple[Callable[[Answer, random.Random], Answer], ...] = (
    _truncated,
    _flipped_bytes,
    _inserted_bytes,
    _other_text,
    _huge,
    _compressed,
    _other_status,
    _problem,
    _redirect,
    _odd_header,
    _missing_header,
)
