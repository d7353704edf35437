"""Looks for secrets in bytes, in every way in which they may have been written there.

Rules: a part counts as the whole; line breaks and case of hexadecimal digits do not matter. Every
command that a test of tests/e2e runs has its output searched for the bindings of Pebble.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

PART_BYTES = 18
"""of each end of a secret; as base64 24 characters, whatever follows"""
_SPACE = re.compile(rb"\s+|\\n|\\r")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Secrets:
    """What must not be found, by what it is."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def add_text(self, label: str, text: str) -> Self:
        """Add a secret that is written as text: a binding's HMAC."""
        for part in (text[:24], text[-24:]):
            self._needles[part.encode()] = f"{label} as text"
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return self.add_bytes(label, raw)

    def add_bytes(self, label: str, raw: bytes) -> Self:
        """Add a secret that is bytes: raw, hexadecimal, and base64 wherever it begins."""
        for part in (raw[:PART_BYTES], raw[-PART_BYTES:]):
            self._needles[part] = f"{label} raw"
            self._needles[part.hex().encode()] = f"{label} in hexadecimal"
            for padding in range(3):
                # the first and the last characters depend on what stands beside
                encoded = base64.b64encode(b"\0" * padding + part)
                whole = encoded[(padding * 8 + 5) // 6 : (padding + len(part)) * 8 // 6]
                self._needles[whole] = f"{label} in base64"
                self._needles[whole.translate(bytes.maketrans(b"+/", b"-_"))] = f"{label} base64url"
        return self

    def add_key(self, label: str, key: PrivateKey) -> Self:
        """Add a private key by the numbers that nobody may know; every encoding holds them."""
        numbers = key.private_numbers()
        if isinstance(numbers, rsa.RSAPrivateNumbers):
            secret = {"d": numbers.d, "p": numbers.p, "q": numbers.q}
        else:
            secret = {"d": numbers.private_value}
        for name, number in secret.items():
            self.add_bytes(f"{label} {name}", number.to_bytes((number.bit_length() + 7) // 8))
        return self

    def found_in(self, data: bytes | str) -> list[str]:
        """Return what is found, by label; empty is what a test hopes for."""
        raw = data.encode() if isinstance(data, str) else data
        joined = _SPACE.sub(b"", raw)
        lower = joined.lower()
        return sorted(
            {
                label
                for needle, label in self._needles.items()
                if needle in raw
                or needle in joined
                or (label.endswith("hexadecimal") and needle in lower)
            }
        )


class ProcessWatch:
    """Reads argument lists and environments of all processes, again and again, while it is open."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._seen: set[tuple[bytes, bytes]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def leaks(self, secrets: Secrets) -> set[str]:
        """Return what was found so far, and in which process."""
        return {
            f"{label} in the {where} of {arguments.split(bytes(1))[:3]!r}"
            for arguments, environment in self._seen.copy()
            for where, data in (("arguments", arguments), ("environment", environment))
            for label in secrets.found_in(data)
        }

    def has_seen(self, word: str) -> bool:
        """Say whether a process had a word among its arguments."""
        return any(word.encode() in one.split(bytes(1)) for one, _ in self._seen.copy())

    def _watch(self) -> None:
        while not self._end.wait(0.002):
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    self._look(folder)

    def _look(self, folder: Path) -> None:
        try:
            shown = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            return
        self._seen.add(shown)


def files_with(secrets: Secrets, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield every file below a folder that holds a secret."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found = secrets.found_in(path.read_bytes())
            if found:
                yield path, found


def others_can_read(path: Path, top: Path, owner: int) -> bool:
    """Say whether anybody but `owner` can read a file, by its mode and its folders' up to `top`."""
    status = path.stat()
    if status.st_uid == owner and not status.st_mode & 0o044:
        return False
    for folder in path.parents:
        status = folder.stat()
        if status.st_uid == owner and not status.st_mode & 0o011:
            return False
        if folder == top:
            return True
    return True
