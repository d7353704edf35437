"""Paths and wildcards as the Apache Portable Runtime understands them. Pure.

A path is joined and cleaned as text; a wildcard matches within one component, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_PATH_BYTES = 4096


def to_bytes(path: str) -> bytes:
    """Return the bytes that `path` was decoded from."""
    return path.encode("utf-8", "surrogateescape")


def merge_path(root: str, path: str) -> str | None:
    """Make `path` absolute and clean it; None if it is too long (APR: apr_filepath_merge)."""
    if len(to_bytes(root)) + len(to_bytes(path)) + 4 > MAX_PATH_BYTES:
        return None
    merged = "/" if path.startswith("/") else root.rstrip("/") + "/"
    segments = path.split("/")
    for number, segment in enumerate(segments, 1):
        if segment in {"", "."}:
            continue
        if segment == "..":
            merged = merged[: merged.rstrip("/").rfind("/") + 1] or "/"
        else:
            merged += segment + ("/" if number < len(segments) else "")
    return merged


def join_path(folder: str, name: str) -> str:
    """Append `name` to `folder` with one slash between."""
    return folder + name if folder.endswith("/") else f"{folder}/{name}"


def has_wildcard(pattern: str) -> bool:
    """Say whether there is `*`, `?`, or `]` after `[` (APR: apr_fnmatch_test)."""
    bracket = False
    characters = iter(pattern)
    for character in characters:
        if character in "*?" or (character == "]" and bracket):
            return True
        if character == "[":
            bracket = True
        elif character == "\\" and next(characters, None) is None:
            return False
    return False


def name_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of names; a leading dot must be in the pattern (APR: apr_fnmatch)."""
    if pattern.startswith("*.") and not re.search(r"[*?\[\\]", pattern[2:]):
        suffix = pattern[1:]
        return lambda name: name.endswith(suffix) and not name.startswith(".")
    matches = re.compile(_expression(to_bytes(pattern)), re.DOTALL).fullmatch
    dotted = pattern.startswith((".", "\\."))
    return lambda name: (dotted or not name.startswith(".")) and bool(matches(to_bytes(name)))


def _expression(pattern: bytes) -> bytes:
    parts = []
    position = 0
    while position < len(pattern):
        character = pattern[position : position + 1]
        position += 1
        if character == b"*":
            parts.append(b".*")
        elif character == b"?":
            parts.append(b".")
        elif character == b"[" and (found := _bracket(pattern, position)):
            expression, position = found
            parts.append(expression)
        else:
            if character == b"\\" and position < len(pattern):
                character = pattern[position : position + 1]
                position += 1
            parts.append(re.escape(character))
    return b"".join(parts)


def _bracket(pattern: bytes, start: int) -> tuple[bytes, int] | None:
    position = start
    negated = pattern[position : position + 1] in {b"!", b"^"}
    position += negated
    first = position
    members: set[int] = set()
    while position < len(pattern):
        if pattern[position] == ord("]") and position != first:
            return _character_class(members, negated=negated), position + 1
        if pattern[position] == ord("\\"):
            position += 1
        low = position
        if pattern[low + 1 : low + 2] == b"-" and pattern[low + 2 : low + 3] != b"]":
            position += 3 if pattern[low + 2 : low + 3] == b"\\" else 2
        if position >= len(pattern):
            break
        members |= _byte_range(pattern[low], pattern[position])
        position += 1
    return None


def _byte_range(low: int, high: int) -> set[int]:
    # bytes above 127 count as negative, as in C with signed characters
    if low == high:
        return {low}
    return {byte for byte in range(256) if _signed(low) <= _signed(byte) <= _signed(high)}


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _character_class(members: set[int], *, negated: bool) -> bytes:
    wanted = set(range(256)) - members if negated else members
    if not wanted:
        return b"(?!)"
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(wanted)) + b"]"
