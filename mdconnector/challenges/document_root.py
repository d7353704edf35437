"""A challenge's file below a vhost's DocumentRoot, for an Apache without mod_md.

Rules: the folder may belong to anybody, so a child process that has taken its owner's rights does
all the work (document_root_writer); links below the DocumentRoot are not followed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mdconnector.challenges import document_root_writer
from mdconnector.challenges.traces import DocumentRootFile
from mdconnector.errors import ChallengeError
from mdconnector.hooks import Account, HookOutcome, run_as
from mdconnector.printable import printable

_TIMEOUT_SECONDS = 30.0


def trace_of(document_root: str, token: str, answer: str) -> DocumentRootFile:
    """Return what `write` is about to leave there."""
    outer, inner = (Path(document_root, *parts) for parts in document_root_writer.FOLDERS_BELOW)
    absent = 2 if not _is_there(outer) else 1 if not _is_there(inner) else 0
    return DocumentRootFile(document_root, token, answer, absent)


def write(trace: DocumentRootFile) -> None:
    """Make the file and the folders that lead to it. Raises ChallengeError."""
    _run("write", trace, _owner_of(trace.document_root))


def remove(trace: DocumentRootFile) -> None:
    """Remove the file if it holds what we wrote, and the folders we made if they are empty."""
    if _is_there(Path(trace.document_root)):
        _run("remove", trace, _owner_of(trace.document_root))


def _run(task: str, trace: DocumentRootFile, owner: Account) -> None:
    root, made = trace.document_root, str(trace.made_folders)
    rights = ",".join(map(str, (owner.uid, owner.gid, *owner.groups)))
    words = (sys.executable, "-I", "-S", "-", rights, task, root, trace.token, trace.content, made)
    program = Path(document_root_writer.__file__).read_bytes()
    result = run_as(Account.own(), words, stdin=program, timeout_seconds=_TIMEOUT_SECONDS)
    if result.outcome is not HookOutcome.OK:
        raise ChallengeError(
            f"{printable(root)}: {result.output or result.reason} (as user {owner.name})",
            hint=f"let {owner.name} write to {root}/.well-known/acme-challenge, or load mod_md",
        )


def _owner_of(document_root: str) -> Account:
    try:
        uid = Path(document_root).stat().st_uid
    except OSError as error:
        raise ChallengeError(
            f"DocumentRoot {printable(document_root)}: {error.strerror}"
        ) from error
    owner = Account.of(uid) if os.geteuid() == 0 else Account.own()
    if owner is None:
        raise ChallengeError(
            f"DocumentRoot {printable(document_root)} belongs to uid {uid}, no user of this system"
        )
    return owner


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
