"""mdconnector.challenges.document_root: a folder that may belong to anybody."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mdconnector.challenges import document_root, document_root_writer
from mdconnector.challenges.traces import DocumentRootFile
from mdconnector.errors import ChallengeError
from tests.challenges.conftest import ANSWER, TOKEN

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take others' rights")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def root(parts_folder: Path) -> Path:
    """A DocumentRoot; where we are root it belongs to somebody else."""
    folder = parts_folder / "htdocs"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    return folder


def trace_of(root: Path) -> DocumentRootFile:
    return document_root.trace_of(str(root), TOKEN, ANSWER)


def challenge(root: Path) -> Path:
    return root / ".well-known" / "acme-challenge" / TOKEN


def test_file_and_folders_are_made_and_removed_again(root: Path) -> None:
    trace = trace_of(root)
    document_root.write(trace)
    assert challenge(root).read_text() == ANSWER
    assert challenge(root).stat().st_mode & 0o7777 == 0o644
    assert challenge(root).parent.stat().st_mode & 0o7777 == 0o755
    document_root.remove(trace)
    assert list(root.iterdir()) == []


@needs_root
def test_what_is_made_belongs_to_the_folder_s_owner(root: Path) -> None:
    document_root.write(trace_of(root))
    for path in (challenge(root), challenge(root).parent, root / ".well-known"):
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid)


@needs_root
def test_folder_that_its_owner_may_not_write_to_is_an_error(root: Path) -> None:
    root.chmod(0o555)
    with pytest.raises(ChallengeError) as caught:
        document_root.write(trace_of(root))
    assert str(caught.value) == f"{root}: .well-known: Permission denied (as user nobody)"
    assert caught.value.hint is not None
    assert "let nobody write to" in caught.value.hint


@needs_root
def test_folder_of_root_inside_is_not_written_to_with_the_owner_s_rights(root: Path) -> None:
    (root / ".well-known" / "acme-challenge").mkdir(parents=True)
    with pytest.raises(ChallengeError, match="Permission denied"):
        document_root.write(trace_of(root))


@needs_root
def test_our_own_groups_are_given_up(root: Path) -> None:
    (root / ".well-known").mkdir()
    (root / ".well-known").chmod(0o775)
    before = os.getgroups()
    os.setgroups([0])
    try:
        with pytest.raises(ChallengeError, match="Permission denied"):
            document_root.write(trace_of(root))
    finally:
        os.setgroups(before)


@pytest.mark.parametrize("link", [".well-known", ".well-known/acme-challenge"])
def test_linked_folder_is_not_followed(root: Path, parts_folder: Path, link: str) -> None:
    elsewhere = parts_folder / "elsewhere"
    (elsewhere / "acme-challenge").mkdir(parents=True, mode=0o777)
    elsewhere.chmod(0o777)
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(elsewhere)
    with pytest.raises(ChallengeError, match="it is a link or no folder"):
        document_root.write(trace_of(root))
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []


def test_linked_document_root_is_the_administrator_s_and_is_followed(
    root: Path, parts_folder: Path
) -> None:
    current = parts_folder / "current"
    current.symlink_to(root)
    document_root.write(trace_of(current))
    assert challenge(root).read_text() == ANSWER


@pytest.mark.parametrize("kind", ["file", "link", "fifo", "folder"])
def test_what_lies_there_is_neither_overwritten_nor_removed(
    root: Path, parts_folder: Path, kind: str
) -> None:
    precious = parts_folder / "precious"
    precious.write_text("precious")
    document_root.write(trace_of(root))
    there = challenge(root)
    there.unlink()
    match kind:
        case "file":
            there.write_text("theirs")
        case "link":
            there.symlink_to(precious)
        case "fifo":
            os.mkfifo(there)
        case _:
            there.mkdir()
    trace = trace_of(root)
    with pytest.raises(ChallengeError, match="something else lies there already"):
        document_root.write(trace)
    document_root.remove(trace)
    assert os.path.lexists(there)
    assert precious.read_text() == "precious"


def test_own_file_of_a_killed_run_is_taken_up(root: Path) -> None:
    first = trace_of(root)
    document_root.write(first)
    document_root.write(trace_of(root))
    document_root.remove(first)
    assert list(root.iterdir()) == []


def test_folders_that_were_there_before_stay(root: Path) -> None:
    (root / ".well-known").mkdir(mode=0o777)
    (root / ".well-known").chmod(0o777)
    trace = trace_of(root)
    assert trace.made_folders == 1
    document_root.write(trace)
    document_root.remove(trace)
    assert list(root.iterdir()) == [root / ".well-known"]
    assert list((root / ".well-known").iterdir()) == []


def test_folder_with_files_of_others_stays(root: Path) -> None:
    trace = trace_of(root)
    document_root.write(trace)
    (challenge(root).parent / "theirs").write_text("x")
    document_root.remove(trace)
    assert [path.name for path in challenge(root).parent.iterdir()] == ["theirs"]


def test_removing_from_a_folder_that_is_gone_is_fine(root: Path) -> None:
    trace = trace_of(root)
    document_root.write(trace)
    for path in (challenge(root), challenge(root).parent, root / ".well-known", root):
        path.rmdir() if path.is_dir() else path.unlink()
    document_root.remove(trace)


def test_absent_document_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ChallengeError, match="No such file or directory"):
        document_root.write(trace_of(tmp_path / "absent"))


@needs_root
def test_owner_that_is_no_user_of_this_system_is_an_error(root: Path) -> None:
    os.chown(root, 54321, -1)
    with pytest.raises(ChallengeError, match="belongs to uid 54321"):
        document_root.write(trace_of(root))


def test_writer_needs_nothing_but_the_standard_library() -> None:
    source = Path(document_root_writer.__file__).read_bytes()
    assert b"mdconnector" not in source
    assert len(source) < 1 << 16, "a pipe must take it whole"
