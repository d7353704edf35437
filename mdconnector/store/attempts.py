"""What the last runs left for one domain: mdconnector/attempts/<name>.json.

Rule: this memory only saves work and shows history, so a damaged file reads as an empty one, with a
warning; a store that may not be read is still an error.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple, Self

from mdconnector.errors import StoreError
from mdconnector.renewal import Attempt, LastError, RenewalInfo
from mdconnector.store.folder import ExhaustedError, UnsafeEntryError
from mdconnector.store.notes import (
    DamagedNoteError,
    Fields,
    damaged,
    read_note,
    time_text,
    write_note,
)
from mdconnector.store.tree import Store, folder_name
from mdconnector.warning import warn

ATTEMPTS = "attempts"
MAX_RUNS = 20
MAX_REVOKED = 100
MAX_HOSTS = 1000
_MAX_FILE_NAME = 255


class Run(NamedTuple):
    """One run that did something for the domain, in the words of its outcome."""

    at: datetime
    command: str
    outcome: str
    detail: str = ""


class Served(NamedTuple):
    """What Apache on one host was last seen to serve: serials in lower-case hexadecimal."""

    serials: tuple[str, ...]
    at: datetime
    missed: tuple[str, ...] = ()
    """of a later live set that it was asked for and did not show"""
    missed_at: datetime | None = None

    @property
    def last_asked(self) -> datetime:
        """When the last answer came that was worth remembering."""
        return max(self.at, self.missed_at or self.at)


class RollbackNote(NamedTuple):
    """A promotion that is undone, noted before a set moves; leaves as SHA-256 fingerprints."""

    at: datetime
    reason: str
    refused: tuple[str, ...]
    """the set that goes to refused/"""
    replaced: tuple[str, ...]
    """the set that comes back; empty where nothing was live before"""


class Told(NamedTuple):
    """The failure that `-q` last told of, and when."""

    key: str
    at: datetime


class UntoldRenewal(NamedTuple):
    """A staged set of which a program of the administrator's would not hear, and why."""

    errors: int
    next_try: datetime
    why: str


class AttemptRecord(NamedTuple):
    """All that is remembered for one domain."""

    attempt: Attempt = Attempt()
    runs: tuple[Run, ...] = ()
    """newest first, at most MAX_RUNS"""
    served: Mapping[str, Served] = MappingProxyType({})
    """by the host's name and machine, because hosts may share a store"""
    rollback: RollbackNote | None = None
    told: Told | None = None
    renewal_info: Mapping[str, RenewalInfo] = MappingProxyType({})
    """by the ARI id of each live certificate"""
    messages: Mapping[str, datetime] = MappingProxyType({})
    """when MDMessageCmd and MDNotifyCmd were last told of an event"""
    untold: UntoldRenewal | None = None
    settled_digest: str = ""
    """of a configuration whose MDMustStaple the CA did not heed"""
    settled_window: str = ""
    """a MDRenewWindow that was open already when the last set came"""
    last_success: datetime | None = None
    """when a new set last came"""
    revoked: Mapping[str, datetime] = MappingProxyType({})
    """certificates of the domain that `mdconnector revoke` had revoked, by SHA-256, and when"""

    def with_run(self, run: Run) -> Self:
        """Return the record with one run more."""
        return self._replace(runs=(run, *self.runs)[:MAX_RUNS])

    def with_served(self, host: str, served: Served) -> Self:
        """Return the record with what `host` serves now; the hosts heard of last are kept."""
        hosts = {name: one for name, one in self.served.items() if name != host}
        newest = sorted(hosts.items(), key=lambda one: one[1].last_asked, reverse=True)
        kept = dict(newest[: MAX_HOSTS - 1])
        return self._replace(served=MappingProxyType({**kept, host: served}))

    def with_revoked(self, fingerprints: Iterable[str], at: datetime) -> Self:
        """Return the record with certificates more that are revoked; the newest are kept."""
        revoked = {**self.revoked, **dict.fromkeys(fingerprints, at)}
        newest = sorted(revoked.items(), key=lambda one: one[1], reverse=True)[:MAX_REVOKED]
        return self._replace(revoked=MappingProxyType(dict(newest)))

    def refuses(self, fingerprints: Iterable[str]) -> bool:
        """Say whether this is the set that a rollback took out again."""
        return self.rollback is not None and set(fingerprints) == set(self.rollback.refused)


def load_attempt(store: Store, name: str) -> AttemptRecord:
    """Return what is remembered for a domain; empty where nothing is or the file is damaged."""
    return _load(store, name, is_lenient=True)


def load_rollback(store: Store, name: str) -> RollbackNote | None:
    """Return the rollback that was noted for a domain; None where none was.

    Raises StoreError while the disk does not give the file: a harmful set must not stay for that.
    """
    return _load(store, name, is_lenient=False).rollback


def _load(store: Store, name: str, *, is_lenient: bool) -> AttemptRecord:
    folder = store.own(ATTEMPTS)
    if folder is None:
        return AttemptRecord()
    with folder:
        try:
            fields = read_note(folder, _file_name(name))
            return AttemptRecord() if fields is None else _parse(fields)
        except ValueError as error:
            _lose(name, damaged(folder, _file_name(name), error))
        except (DamagedNoteError, UnsafeEntryError) as error:
            _lose(name, error)
        except StoreError as error:
            if not is_lenient or error.unreadable or isinstance(error, ExhaustedError):
                raise
            _lose(name, error)
    return AttemptRecord()


def save_attempt(store: Store, name: str, record: AttemptRecord) -> None:
    """Remember `record` for a domain; durable when it returns."""
    with store.make_own(ATTEMPTS) as folder:
        write_note(folder, _file_name(name), {"name": name, **_render(record)})


def _lose(name: str, error: StoreError) -> None:
    warn(f"{name}: {error}; what was remembered is lost")


def _file_name(name: str) -> str:
    stem = folder_name(name)
    if len(stem) + len(".json") > _MAX_FILE_NAME:
        # a DNS name may have 253 bytes; none begins with a hyphen, so this is no other domain's
        stem = f"-{hashlib.sha256(stem.encode()).hexdigest()}"
    return f"{stem}.json"


def _render(record: AttemptRecord) -> dict[str, object]:
    attempt, error = record.attempt, record.attempt.last_error
    rollback, told, untold = record.rollback, record.told, record.untold
    return {
        "errors": attempt.errors,
        "failing_since": time_text(attempt.failing_since),
        "next_try": time_text(attempt.next_try),
        "digest": attempt.digest,
        "ca_url": attempt.ca_url,
        "step_ms": attempt.step // timedelta(milliseconds=1),
        "last_error": error
        and {
            "type": error.type,
            "detail": error.detail,
            "hint": error.hint,
            "at": time_text(error.at),
        },
        "rollback": rollback
        and {
            "at": time_text(rollback.at),
            "reason": rollback.reason,
            "refused": list(rollback.refused),
            "replaced": list(rollback.replaced),
        },
        "told": told and {"key": told.key, "at": time_text(told.at)},
        "messages": {event: time_text(at) for event, at in record.messages.items()},
        "untold": untold
        and {
            "errors": untold.errors,
            "next_try": time_text(untold.next_try),
            "why": untold.why,
        },
        "settled_digest": record.settled_digest,
        "settled_window": record.settled_window,
        "last_success": time_text(record.last_success),
        "revoked": {sha256: time_text(at) for sha256, at in record.revoked.items()},
        "renewal_info": {
            ari_id: {
                "ask_again": time_text(info.ask_again),
                "start": time_text(info.start),
                "end": time_text(info.end),
                "chosen": time_text(info.chosen),
                "explanation": info.explanation,
            }
            for ari_id, info in record.renewal_info.items()
        },
        "served": {
            host: {
                "serials": list(served.serials),
                "at": time_text(served.at),
                "missed": list(served.missed),
                "missed_at": time_text(served.missed_at),
            }
            for host, served in record.served.items()
        },
        "runs": [
            {
                "at": time_text(run.at),
                "command": run.command,
                "outcome": run.outcome,
                "detail": run.detail,
            }
            for run in record.runs
        ],
    }


def _parse(fields: Fields) -> AttemptRecord:
    error, rollback, told = (fields.part(key) for key in ("last_error", "rollback", "told"))
    served = fields.part("served")
    return AttemptRecord(
        attempt=Attempt(
            errors=fields.number("errors"),
            failing_since=fields.optional_time("failing_since"),
            next_try=fields.optional_time("next_try"),
            digest=fields.text("digest"),
            last_error=None if error is None else _parse_error(error),
            ca_url=fields.optional_text("ca_url") or "",
            step=timedelta(milliseconds=fields.number("step_ms", 0)),
        ),
        runs=tuple(_parse_run(run) for run in fields.parts("runs")),
        served=MappingProxyType({} if served is None else _parse_served(served)),
        rollback=None if rollback is None else _parse_rollback(rollback),
        told=None if told is None else Told(told.text("key"), told.time("at")),
        renewal_info=MappingProxyType(_parse_renewal_info(fields.part("renewal_info"))),
        messages=MappingProxyType(_parse_times(fields.part("messages"))),
        untold=_parse_untold(fields.part("untold")),
        settled_digest=fields.optional_text("settled_digest") or "",
        settled_window=fields.optional_text("settled_window") or "",
        last_success=fields.optional_time("last_success"),
        revoked=MappingProxyType(_parse_times(fields.part("revoked"))),
    )


def _parse_error(error: Fields) -> LastError:
    return LastError(
        type=error.text("type"),
        detail=error.text("detail"),
        hint=error.optional_text("hint"),
        at=error.time("at"),
    )


def _parse_rollback(note: Fields) -> RollbackNote:
    return RollbackNote(
        at=note.time("at"),
        reason=note.text("reason"),
        refused=note.texts("refused"),
        replaced=note.texts("replaced"),
    )


def _parse_run(run: Fields) -> Run:
    return Run(run.time("at"), run.text("command"), run.text("outcome"), run.text("detail"))


def _parse_renewal_info(by_certificate: Fields | None) -> dict[str, RenewalInfo]:
    parsed = {}
    for ari_id, value in by_certificate.members().items() if by_certificate else ():
        info = Fields(value)
        parsed[ari_id] = RenewalInfo(
            info.time("ask_again"),
            info.optional_time("start"),
            info.optional_time("end"),
            info.optional_time("chosen"),
            info.text("explanation"),
        )
    return parsed


def _parse_times(fields: Fields | None) -> dict[str, datetime]:
    return {event: fields.time(event) for event in fields.members()} if fields else {}


def _parse_untold(fields: Fields | None) -> UntoldRenewal | None:
    if fields is None:
        return None
    return UntoldRenewal(fields.number("errors"), fields.time("next_try"), fields.text("why"))


def _parse_served(hosts: Fields) -> dict[str, Served]:
    parsed = {}
    for host, value in hosts.members().items():
        served = Fields(value)
        parsed[host] = Served(
            served.texts("serials"),
            served.time("at"),
            served.texts("missed"),
            served.optional_time("missed_at"),
        )
    return parsed
