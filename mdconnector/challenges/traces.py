"""What a challenge leaves on this host until it is torn down, and its form in JSON.

Rules: a trace is written down by the caller before anything of it is made, so that after a kill the
next run removes exactly that. Removing looks at what is there: only our own content goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mdconnector.errors import ChallengeError


class ChallengeFiles(NamedTuple):
    """Files of ours in `<store>/challenges/<identifier>/`, answered by mod_md."""

    identifier: str
    digests: tuple[tuple[str, str], ...]
    """(file name, SHA-256 of its content in hexadecimal)"""
    made_folder: bool


class DocumentRootFile(NamedTuple):
    """A file of ours in `<DocumentRoot>/.well-known/acme-challenge/`, answered by a vhost."""

    document_root: str
    token: str
    content: str
    made_folders: int
    """how many of its two folders were absent: 2 both, 1 the inner one"""


class DnsRecord(NamedTuple):
    """A TXT record that an administrator's command has made."""

    command: str
    version: int
    domain: str
    value: str


Trace = ChallengeFiles | DocumentRootFile | DnsRecord

_KINDS: dict[str, type[Trace]] = {
    "challenge-files": ChallengeFiles,
    "document-root-file": DocumentRootFile,
    "dns-record": DnsRecord,
}


def traces_to_json(traces: Sequence[Trace]) -> list[dict[str, object]]:
    """Return the traces as a JSON array."""
    names = {kind: name for name, kind in _KINDS.items()}
    return [{"kind": names[type(trace)], **trace._asdict()} for trace in traces]


def traces_from_json(value: object) -> tuple[Trace, ...]:
    """Read what `traces_to_json` made. Raises ChallengeError for anything else."""
    if not isinstance(value, list):
        raise _damaged()
    try:
        return tuple(_trace(entry) for entry in value)
    except (TypeError, ValueError) as error:
        raise _damaged() from error


def _damaged() -> ChallengeError:
    return ChallengeError(
        "the note of what was set up for a challenge is damaged",
        hint="look for what is left in the challenges folder and in DNS",
    )


def _trace(entry: dict[str, object]) -> Trace:
    match entry:
        case {
            "kind": "challenge-files",
            "identifier": str(identifier),
            "digests": list(digests),
            "made_folder": bool(made_folder),
        }:
            pairs = tuple((str(name), str(digest)) for name, digest in digests)
            return ChallengeFiles(identifier, pairs, made_folder)
        case {
            "kind": "document-root-file",
            "document_root": str(document_root),
            "token": str(token),
            "content": str(content),
            "made_folders": int(made_folders),
        }:
            return DocumentRootFile(document_root, token, content, made_folders)
        case {
            "kind": "dns-record",
            "command": str(command),
            "version": int(version),
            "domain": str(name),
            "value": str(value),
        }:
            return DnsRecord(command, version, name, value)
        case _:
            raise ValueError("unknown kind")
