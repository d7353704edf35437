"""The child's program: make or remove one challenge file below a DocumentRoot.

Rules: it is handed to a Python of its own by stdin and imports nothing of ours. Below the
DocumentRoot each folder is opened from the one before; a link is never followed. It says on one
line what failed. It is started with our rights, since the owner may not be allowed to read Python,
and gives them up before it does anything.

Arguments: the owner's uid, gid and groups, write|remove, DocumentRoot, token, content, number of
absent folders.
"""

import contextlib
import os
import sys

FOLDERS = (".well-known", "acme-challenge")
FOLDERS_BELOW = (FOLDERS[:1], FOLDERS)
MAX_CONTENT_BYTES = 1024
TRIES = 3
"""another domain's tear-down may remove an empty folder just before we use it"""


def open_folder(parent: int, name: str) -> int:
    """Open a folder in an open one."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=parent)
    except NotADirectoryError:
        raise NotADirectoryError(0, "it is a link or no folder", name) from None


def make_file(root: int, token: str, content: bytes) -> None:
    """Make the folders where they are absent, and the file; ours of an earlier run may be there."""
    folder = root
    for name in FOLDERS:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)
        folder = open_folder(folder, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(token, flags, 0o644, dir_fd=folder)
    except FileExistsError:
        if read_file(folder, token) != content:
            raise FileExistsError(0, "something else lies there already", token) from None
        return
    try:
        written = os.write(fd, content)
    finally:
        os.close(fd)
    if written != len(content):
        raise OSError(0, "the disk is full", token)


def read_file(folder: int, name: str) -> bytes | None:
    """Read a small file; None where it is absent, a link, or something else."""
    try:
        fd = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
        return os.read(fd, MAX_CONTENT_BYTES)
    except OSError:
        return None


def remove_file(root: int, token: str, content: bytes, absent: int) -> None:
    """Remove the file if it is ours, and the folders that were absent before if they are empty."""
    try:
        outer = open_folder(root, FOLDERS[0])
        inner = open_folder(outer, FOLDERS[1])
    except OSError:
        return
    if read_file(inner, token) == content:
        os.unlink(token, dir_fd=inner)
    try:
        if absent >= 1:
            os.rmdir(FOLDERS[1], dir_fd=outer)
        if absent >= 2:
            os.rmdir(FOLDERS[0], dir_fd=root)
    except OSError:
        return


def open_root(root: str, uid: int, gid: int, groups: list[int]) -> int:
    """Become the DocumentRoot's owner for good, if we are root, and open it.

    A link in its own path is the administrator's and is followed.
    """
    was_root = os.geteuid() == 0
    if was_root:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if was_root and os.fstat(fd).st_uid != uid:
        raise PermissionError(0, "it has just changed its owner", root)
    return fd


def main(owner: list[str], task: str, root: str, token: str, content: str, absent: str) -> None:
    """Do the one task."""
    uid, gid, *groups = (int(number) for number in owner)
    fd = open_root(root, uid, gid, groups)
    if task == "remove":
        remove_file(fd, token, content.encode("ascii"), int(absent))
        return
    for attempt in range(TRIES):
        try:
            make_file(fd, token, content.encode("ascii"))
        except FileNotFoundError:
            if attempt == TRIES - 1:
                raise
        else:
            return


if __name__ == "__main__":
    try:
        main(sys.argv[1].split(","), *sys.argv[2:])
    except OSError as error:
        sys.exit(f"{error.filename or sys.argv[3]}: {error.strerror}")
