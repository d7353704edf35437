"""A challenge's file below a vhost's DocumentRoot, for an Apache without mod_md.

Rules: the folder may belong to anybody, so a child process that has taken its owner's rights does
all the work (document_root_writer); links below the DocumentRoot are not followed.
"""

from __future__ import annotations

import pwd
import sys
from pathlib import Path

from mdconnector.challenges import document_root_writer
from mdconnector.challenges.traces import DocumentRootFile
from mdconnector.errors import ChallengeError
from mdconnector.hooks import HookOutcome, run_as
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


def _run(task: str, trace: DocumentRootFile, owner: pwd.struct_passwd) -> None:
    # The real interpreter: others may not search the folder of a virtual environment. The program
    # comes by stdin for the same reason.
    interpreter = str(Path(sys.executable).resolve())
    root, made = trace.document_root, str(trace.made_folders)
    words = (
        interpreter,
        "-I",
        "-S",
        "-",
        task,
        root,
        str(owner.pw_uid),
        trace.token,
        trace.content,
    )
    program = Path(document_root_writer.__file__).read_bytes()
    result = run_as(owner, (*words, made), stdin=program, timeout_seconds=_TIMEOUT_SECONDS)
    if result.outcome is not HookOutcome.OK:
        raise ChallengeError(
            f"{printable(root)}: {result.output or result.reason} (as user {owner.pw_name})",
            hint=f"let {owner.pw_name} write to {root}/.well-known/acme-challenge, or load mod_md",
        )


def _owner_of(document_root: str) -> pwd.struct_passwd:
    try:
        uid = Path(document_root).stat().st_uid
        return pwd.getpwuid(uid)
    except OSError as error:
        raise ChallengeError(
            f"DocumentRoot {printable(document_root)}: {error.strerror}"
        ) from error
    except KeyError:
        raise ChallengeError(
            f"DocumentRoot {printable(document_root)} belongs to no user of this system"
        ) from None


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
