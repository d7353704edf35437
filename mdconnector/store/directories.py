"""What is remembered about CAs: what their directory offers, and when an account may ask again.

Rule: this memory only saves requests; a damaged file reads as an absent one.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from mdconnector.errors import StoreError
from mdconnector.renewal import AccountHold, LastError
from mdconnector.store.notes import Fields, read_note, time_text, write_note
from mdconnector.store.tree import Store

DIRECTORIES = "directories"
MAX_AGE = timedelta(hours=24)


def load_directory(store: Store, url: str, now: datetime) -> dict[str, object] | None:
    """Return what the CA's directory offered at most a day ago; None where it has to be asked."""
    fields = _load(store, _directory_name(url))
    if fields is None:
        return None
    try:
        read_at, directory = fields.time("read_at"), fields.part("directory")
        if fields.text("url") != url or directory is None:
            return None
    except ValueError:
        return None
    # a time to come means that a clock was wrong, then or now
    return directory.members() if read_at <= now < read_at + MAX_AGE else None


def is_known_to_offer(store: Store, url: str, resource: str) -> bool:
    """Say whether the CA offered a resource when its directory was last read, however long ago."""
    fields = _load(store, _directory_name(url))
    try:
        directory = fields.part("directory") if fields is not None else None
        return directory is not None and directory.optional_text(resource) is not None
    except ValueError:
        return False


def save_directory(store: Store, url: str, directory: dict[str, object], now: datetime) -> None:
    """Remember what the CA's directory offers."""
    with store.make_own(DIRECTORIES) as folder:
        note = {"url": url, "read_at": time_text(now), "directory": directory}
        write_note(folder, _directory_name(url), note)


def forget_directory(store: Store, url: str) -> None:
    """Forget a directory that turned out to be out of date."""
    folder = store.own(DIRECTORIES)
    if folder is not None:
        with folder:
            folder.remove(_directory_name(url))


def load_hold(store: Store, url: str, kid: str | None) -> AccountHold | None:
    """Return until when this account is not to ask again, where the CA said so, and why."""
    fields = _load(store, _account_name(url, kid))
    try:
        if fields is None or fields.text("url") != url:
            return None
        why = LastError(
            fields.text("type"),
            fields.text("detail"),
            fields.optional_text("hint"),
            fields.time("at"),
        )
        return AccountHold(fields.time("not_before"), why)
    except ValueError:
        return None


def save_hold(store: Store, url: str, kid: str | None, hold: AccountHold) -> None:
    """Remember that the CA asked this account to wait."""
    why = hold.error
    note = {
        "url": url,
        "kid": kid,
        "not_before": time_text(hold.until),
        "type": why.type,
        "detail": why.detail,
        "hint": why.hint,
        "at": time_text(why.at),
    }
    with store.make_own(DIRECTORIES) as folder:
        write_note(folder, _account_name(url, kid), note)


def _load(store: Store, name: str) -> Fields | None:
    folder = store.own(DIRECTORIES)
    if folder is None:
        return None
    with folder:
        try:
            return read_note(folder, name)
        except StoreError as error:
            if error.unreadable:
                raise
            return None


def _directory_name(url: str) -> str:
    return f"{_digest(url)}.json"


def _account_name(url: str, kid: str | None) -> str:
    # one file for each account: two threads never rewrite one another's
    return f"{_digest(url)}.{_digest(kid or '')}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
