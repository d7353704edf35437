"""mod_md's JSON files as values: md_store.json, md.json, job.json, account.json.

Rules: what is written has mod_md's keys in mod_md's order and jansson's form (two spaces, UTF-8 as
it is, no newline at the end). What is read may hold unknown keys; a member of the wrong type is an
error. Nothing here touches a file.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TypeVar

_T = TypeVar("_T")

STORE_VERSION = 3.0
PASSPHRASE_BYTES = 48
MAX_RECORD_BYTES = 256 * 1024


class RecordError(ValueError):
    """A JSON file does not say what it has to say; the text tells what is wrong, never a value."""


def render_store(passphrase: bytes) -> bytes:
    """Write md_store.json for a new store (mod_md: md_store_fs.c, init_store_file)."""
    return _render({"store": {"version": STORE_VERSION}, "key": _to_base64url(passphrase)})


def parse_store(text: bytes) -> bytes:
    """Return the 48 bytes that encrypt keys in accounts/ and staging/. Raises RecordError."""
    record = _parse(text)
    version = _member(record, "store", dict).get("version")
    if not isinstance(version, int | float) or isinstance(version, bool) or version <= 0:
        raise RecordError("it names no version")
    if version > STORE_VERSION:
        raise RecordError(f"its version is {version}, newer than {STORE_VERSION}")
    if version < STORE_VERSION:
        raise RecordError(
            f"its version is {version}; Apache's mod_md makes it {STORE_VERSION} at its next start"
        )
    passphrase = _from_base64url(_member(record, "key", str))
    if len(passphrase) != PASSPHRASE_BYTES:
        raise RecordError(f"its key has not {PASSPHRASE_BYTES} bytes")
    return passphrase


def _render(record: dict[str, object]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode()


def _parse(text: bytes) -> dict[str, object]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise RecordError("it is no JSON") from None
    if not isinstance(record, dict):
        raise RecordError("it is no JSON object")
    return record


def _member(record: dict[str, object], key: str, kind: type[_T]) -> _T:
    value = record.get(key)
    if not isinstance(value, kind):
        raise RecordError(f"its member '{key}' is missing or of the wrong type")
    return value


def _to_base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _from_base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise RecordError("its key is not base64url") from None
