"""The only place that touches files of the store: one open folder, and what can be done in it.

Rules: every path is one name below an open handle, and links are never followed, because staging/
and challenges/ belong to Apache's user. A file appears whole or not at all: a new one is written
under a temporary name that belongs to its final name, fsynced, and renamed; a temporary file that a
killed run left is replaced by the next write, or swept away by recovery. A failed fsync condemns
the temporary file. No buffered files: closing one writes its buffer again after an error. Every
OSError becomes a StoreError that says what to do.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mdconnector.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_REMOVED_ENTRIES = 200_000

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
_REMOVAL_CHUNK = 1000
_TEMPORARY_TRIES = 3
_TEMPORARY = re.compile(r"\.new-[0-9a-f]{16}")


class EntryExistsError(StoreError):
    """Something lies already where a new entry was to appear; nothing was changed."""


class ExhaustedError(StoreError):
    """Handles or memory are wanting, or NFS's are stale: it says nothing about what lies there."""


class UnsafeEntryError(StoreError):
    """Something is not what it may be here: a link, no regular file, too big, of another owner."""


class Folder:
    """An open folder; close it, or use it as a context manager.

    `path` is for messages only: what is done goes through the handle `fd`. `new_uid` owns whatever
    is made in it and below it, unless a call names another; -1: whoever runs this.
    """

    __slots__ = ("_path", "fd", "new_uid")

    def __init__(self, fd: int, path: str, new_uid: int = -1) -> None:
        self.fd = fd
        self._path = path
        self.new_uid = new_uid

    @classmethod
    def open_base(cls, path: Path) -> Folder:
        """Open a folder that the administrator named; links in its path are followed."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), str(path))
        except NotADirectoryError:
            raise StoreError(
                "it is not a folder",
                path=str(path),
                hint="name the store's folder with --store or MDStoreDir",
            ) from None
        except OSError as error:
            raise store_error(error, str(path), "cannot be opened") from error

    @property
    def path(self) -> Path:
        """Where the folder was when it was opened."""
        return Path(self._path)

    def path_of(self, name: str) -> str:
        """Return the path of an entry, for messages."""
        return f"{self._path}/{name}"

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # as io.FileIO does: one forgotten handle per domain must not end a run over 10,000 of them
        self.close()

    def __repr__(self) -> str:
        return f"Folder({self._path!r})"

    def open(self, name: str, *, owners: frozenset[int] | None = None) -> Folder | None:
        """Open a folder in this one; None where nothing lies there.

        Raises StoreError for anything but a folder, and for one whose owner is not in `owners`.
        """
        self._check(name)
        try:
            fd = os.open(name, _FOLDER_FLAGS, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise self._not_a("folder", name) from None
            raise store_error(error, self.path_of(name), "cannot be opened") from error
        folder = Folder(fd, self.path_of(name), self.new_uid)
        if owners is not None and (owner := folder.status().st_uid) not in owners:
            folder.close()
            raise _wrong_owner(self.path_of(name), owner, owners)
        return folder

    def make(
        self, name: str, mode: int, *, uid: int = -1, gid: int = -1, durable: bool = True
    ) -> Folder:
        """Open a folder in this one, made with exactly this mode and owner where it is absent.

        A folder that is there already keeps its mode and owner. A new one is durable, but for one
        that is only assembled here and moved to where it counts.
        """
        present = self.open(name)
        if present is not None:
            return present
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            return self._present(name)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be made") from error
        try:
            fd = self._open_new(name)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be opened") from error
        folder = Folder(fd, self.path_of(name), self.new_uid)
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise StoreError("it was replaced while it was made", path=self.path_of(name))
            os.fchmod(fd, mode)
            _chown(fd, self.new_uid if uid == -1 else uid, gid)
            # the folder itself is synced with what is put into it
            if durable:
                os.fsync(self.fd)
        except OSError as error:
            folder.close()
            raise store_error(error, self.path_of(name), "cannot be made") from error
        return folder

    def set_mode(self, mode: int) -> None:
        """Give the folder itself this mode, where it has another."""
        try:
            if stat.S_IMODE(os.fstat(self.fd).st_mode) != mode:
                os.fchmod(self.fd, mode)
        except OSError as error:
            raise store_error(error, self._path, "cannot be given its mode") from error

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        try:
            # a handle of its own: two threads that list one folder would share its position
            fd = os.open(".", _FOLDER_FLAGS, dir_fd=self.fd)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise store_error(error, self._path, "cannot be listed") from error

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of an entry itself, even if it is a link; None where nothing is."""
        self._check(name)
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be looked at") from error

    def status(self) -> os.stat_result:
        """Return the status of the folder itself."""
        try:
            return os.fstat(self.fd)
        except OSError as error:
            raise store_error(error, self._path, "cannot be looked at") from error

    def file_system(self) -> os.statvfs_result:
        """Return the status of the file system that the folder lies on."""
        try:
            return os.fstatvfs(self.fd)
        except OSError as error:
            raise store_error(error, self._path, "cannot be looked at") from error

    def read(
        self, name: str, *, max_bytes: int, owners: frozenset[int] | None = None
    ) -> bytes | None:
        """Read a regular file of at most `max_bytes`; None where nothing lies there. Never waits.

        With `owners`, for folders that others can write to: the file's owner must be among them,
        and it must have no second name. Raises StoreError otherwise.
        """
        self._check(name)
        try:
            fd = os.open(name, _READ_FLAGS, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise self._not_a("regular file", name) from None
            raise store_error(error, self.path_of(name), "cannot be read") from error
        try:
            status = os.fstat(fd)
            self._check_file(name, status, max_bytes, owners)
            return self._read_all(name, fd, status.st_size, max_bytes)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be read") from error
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes, mode: int, *, uid: int = -1, gid: int = -1) -> None:
        """Put a file in place whole, whatever lay there; its name is durable after `sync`."""

        def put(temporary: str) -> None:
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

        self._put(name, data, mode, uid=uid, gid=gid, put=put)

    def write_all(
        self, files: Mapping[str, bytes], mode: int, *, uid: int = -1, gid: int = -1
    ) -> None:
        """Put several files in place, each whole; their contents are durable, names after `sync`.

        All are written before the first is synced: a journal then takes them in one go.
        """
        handles: dict[str, int] = {}
        try:
            for name, data in files.items():
                self._check(name)
                handles[name] = self._create_temporary(_temporary_name(name))
                _fill(handles[name], data, mode, self.new_uid if uid == -1 else uid, gid)
            for fd in handles.values():
                os.fsync(fd)
            while handles:
                os.close(handles.popitem()[1])
            for name in files:
                os.rename(_temporary_name(name), name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            for name in files:
                self._discard(_temporary_name(name))
            raise store_error(
                error, self.path_of(next(iter(files))), "cannot be written"
            ) from error
        finally:
            for fd in handles.values():
                with suppress(OSError):
                    os.close(fd)

    def create(self, name: str, data: bytes, mode: int, *, uid: int = -1, gid: int = -1) -> bool:
        """Put a file in place whole, unless something lies there; False if so."""

        def put(temporary: str) -> None:
            if not _renameat2(self.fd, temporary, self.fd, name, _RENAME_NOREPLACE):
                os.link(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                os.unlink(temporary, dir_fd=self.fd)

        if self.stat(name) is not None:
            return False
        try:
            self._put(name, data, mode, uid=uid, gid=gid, put=put)
        except EntryExistsError:
            return False
        return True

    def open_lock(self, name: str, mode: int) -> int:
        """Open a lock file for reading and writing, made where it is absent; its handle is yours.

        It keeps the mode that it has; nothing but a regular file is opened.
        """
        self._check(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, mode, dir_fd=self.fd)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be opened") from error
        try:
            self._check_lock(name, fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_lock(self, name: str, fd: int) -> None:
        try:
            status = os.fstat(fd)
            if self.new_uid not in (-1, status.st_uid) and stat.S_ISREG(status.st_mode):
                os.fchown(fd, self.new_uid, -1)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be opened") from error
        if not stat.S_ISREG(status.st_mode):
            raise self._not_a("regular file", name)

    def sync(self) -> None:
        """Make the names in this folder durable."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise store_error(error, self._path, "cannot be written to the disk") from error

    def sync_file(self, name: str) -> None:
        """Make the content of a file durable that somebody else has written."""
        self._check(name)
        try:
            fd = os.open(name, _READ_FLAGS, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be opened") from error
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fsync(fd)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be written to the disk") from error
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove one entry that is no folder; an absent one is fine."""
        self._check(name)
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be removed") from error

    def remove_temporaries(self) -> None:
        """Remove the temporary files of killed writes; nobody else may be writing here."""
        for name in self.names():
            if _TEMPORARY.fullmatch(name):
                self.remove(name)

    def remove_tree(self, name: str) -> None:
        """Remove an entry and all below it, whatever it is; an absent one is fine.

        Raises StoreError where more than MAX_REMOVED_ENTRIES lie in it, or somebody keeps adding.
        """
        self._check(name)
        try:
            if _unlink_or_is_folder(self.fd, name):
                self._remove_folder(name)
        except OSError as error:
            if error.errno == errno.ENOENT and self.stat(name) is None:
                return
            raise store_error(error, self.path_of(name), "cannot be removed") from error

    def move(self, name: str, to: Folder, to_name: str) -> None:
        """Rename an entry to where nothing lies yet. Raises EntryExistsError otherwise."""
        self._check(name)
        to._check(to_name)
        try:
            if _renameat2(self.fd, name, to.fd, to_name, _RENAME_NOREPLACE):
                return
            _rename_to_free_name(self.fd, name, to.fd, to_name)
        except FileExistsError as error:
            raise EntryExistsError(
                "something lies there already", path=to.path_of(to_name)
            ) from error
        except OSError as error:
            raise store_error(
                error, self.path_of(name), f"cannot be moved to {to.path_of(to_name)}"
            ) from error

    def exchange(self, name: str, other: Folder, other_name: str) -> bool:
        """Let two entries change places in one step; False where the file system cannot."""
        self._check(name)
        other._check(other_name)
        try:
            return _renameat2(self.fd, name, other.fd, other_name, _RENAME_EXCHANGE)
        except OSError as error:
            raise store_error(
                error, self.path_of(name), f"cannot be exchanged with {other.path_of(other_name)}"
            ) from error

    def _check(self, name: str) -> None:
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise StoreError(f"{name!r} cannot be the name of a file", path=self._path)

    def _present(self, name: str) -> Folder:
        folder = self.open(name)
        if folder is None:
            raise StoreError("it vanished while it was opened", path=self.path_of(name))
        return folder

    def _open_new(self, name: str) -> int:
        try:
            return os.open(name, _FOLDER_FLAGS, dir_fd=self.fd)
        except PermissionError:
            # a umask that takes away our own rights: mend the mode through a handle that needs none
            fd = os.open(name, _FOLDER_FLAGS | os.O_PATH, dir_fd=self.fd)
            try:
                os.chmod(f"/proc/self/fd/{fd}", 0o700)
            finally:
                os.close(fd)
            return os.open(name, _FOLDER_FLAGS, dir_fd=self.fd)

    def _not_a(self, kind: str, name: str) -> UnsafeEntryError:
        status = self.stat(name)
        found = (
            " but a symbolic link" if status is not None and stat.S_ISLNK(status.st_mode) else ""
        )
        return UnsafeEntryError(
            f"it is not a {kind}{found}",
            path=self.path_of(name),
            hint="find out who put it there, and move it away",
        )

    def _check_file(
        self, name: str, status: os.stat_result, max_bytes: int, owners: frozenset[int] | None
    ) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._not_a("regular file", name)
        if owners is not None and status.st_uid not in owners:
            raise _wrong_owner(self.path_of(name), status.st_uid, owners)
        if owners is not None and status.st_nlink != 1:
            raise UnsafeEntryError(
                "the file has a second name elsewhere (hard link)", path=self.path_of(name)
            )
        if status.st_size > max_bytes:
            raise _too_big(self.path_of(name), max_bytes)

    def _read_all(self, name: str, fd: int, size: int, max_bytes: int) -> bytes:
        content = os.read(fd, size + 1)
        if len(content) == size:
            return content
        while len(content) <= max_bytes and (more := os.read(fd, max_bytes + 1 - len(content))):
            content += more
        if len(content) > max_bytes:
            raise _too_big(self.path_of(name), max_bytes)
        return content

    def _put(
        self, name: str, data: bytes, mode: int, *, uid: int, gid: int, put: Callable[[str], None]
    ) -> None:
        self._check(name)
        temporary = _temporary_name(name)
        try:
            fd = self._create_temporary(temporary)
        except OSError as error:
            raise store_error(error, self.path_of(name), "cannot be written") from error
        try:
            try:
                _fill(fd, data, mode, self.new_uid if uid == -1 else uid, gid)
                os.fsync(fd)
            finally:
                os.close(fd)
            put(temporary)
        except BaseException as error:
            self._discard(temporary)
            if isinstance(error, FileExistsError):
                raise EntryExistsError(
                    "something lies there already", path=self.path_of(name)
                ) from error
            if isinstance(error, OSError):
                raise store_error(error, self.path_of(name), "cannot be written") from error
            raise

    def _create_temporary(self, temporary: str) -> int:
        for _ in range(_TEMPORARY_TRIES):
            try:
                return os.open(temporary, _NEW_FLAGS, 0o600, dir_fd=self.fd)
            except FileExistsError:
                self.remove_tree(temporary)
        return os.open(temporary, _NEW_FLAGS, 0o600, dir_fd=self.fd)

    def _discard(self, temporary: str) -> None:
        try:
            os.unlink(temporary, dir_fd=self.fd)
        except OSError:
            # it is overwritten by the next write; the first error is the one to tell
            return

    def _remove_folder(self, name: str) -> None:
        """Empty and remove a folder with two handles, however deep: what is deeper is moved up."""
        top = self._present(name)
        removed = 0
        with top:
            while names := _some_names(top.fd):
                for entry in names:
                    removed += 1 + _remove_shallow(top, entry)
                    if removed > MAX_REMOVED_ENTRIES:
                        raise StoreError(
                            f"it holds more than {MAX_REMOVED_ENTRIES} entries",
                            path=self.path_of(name),
                            hint="find out who fills it, and remove it",
                        )
        os.rmdir(name, dir_fd=self.fd)


def store_error(error: OSError, path: str, what: str) -> StoreError:
    """Make a StoreError of an OSError, with what to do about it."""
    kind = ExhaustedError if error.errno in _EXHAUSTED else StoreError
    return kind(
        f"{what}: {os.strerror(error.errno) if error.errno else error}",
        path=path,
        hint=_hint(error.errno),
        unreadable=error.errno in (errno.EACCES, errno.EPERM),
    )


def _hint(number: int | None) -> str | None:
    if number in (errno.EACCES, errno.EPERM):
        if os.geteuid() == 0:
            return (
                "root is kept out: an NFS export needs no_root_squash; else see lsattr and SELinux"
            )
        return f"not allowed for uid {os.geteuid()}; run it as the store's owner, or with sudo"
    if number == errno.EROFS:
        return "the file system is mounted read-only; mount it for writing, or change MDStoreDir"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free space or inodes on the file system of the store (df, df -i, quota)"
    if number == errno.EIO:
        return "the disk reports an error; look at the kernel's log (dmesg)"
    if number in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    if number == errno.ENOMEM:
        return "the machine, or what limits this process, is out of memory (free, ulimit -v)"
    if number == errno.EBUSY:
        return "something is mounted there, or in use"
    if number == errno.ESTALE:
        return "the NFS server does not know it any more; run it again, else mount the share anew"
    return None


def _wrong_owner(path: str, owner: int, owners: frozenset[int]) -> UnsafeEntryError:
    allowed = " or ".join(str(uid) for uid in sorted(owners))
    return UnsafeEntryError(
        f"it belongs to uid {owner}, not to uid {allowed}",
        path=path,
        hint="find out who put it there, and move it away",
    )


def _too_big(path: str, max_bytes: int) -> UnsafeEntryError:
    return UnsafeEntryError(
        f"the file has more than {max_bytes} bytes",
        path=path,
        hint="find out who put it there, and move it away",
    )


def _temporary_name(name: str) -> str:
    # of fixed length, because a domain's name may already be as long as a file's may
    return f".new-{hashlib.blake2s(os.fsencode(name), digest_size=8).hexdigest()}"


def _fill(fd: int, data: bytes, mode: int, uid: int, gid: int) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.fchmod(fd, mode)
    _chown(fd, uid, gid)


def _chown(fd: int, uid: int, gid: int) -> None:
    if uid != -1 or gid != -1:
        os.fchown(fd, uid, gid)


def _unlink_or_is_folder(fd: int, name: str) -> bool:
    try:
        os.unlink(name, dir_fd=fd)
    except (IsADirectoryError, PermissionError):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise
        return True
    return False


def _remove_shallow(parent: Folder, name: str) -> int:
    """Remove an entry, or some of what is in it; folders in it are moved up into the parent."""
    if not _unlink_or_is_folder(parent.fd, name):
        return 0
    removed = 0
    with Folder(os.open(name, _FOLDER_FLAGS, dir_fd=parent.fd), parent.path_of(name)) as folder:
        for entry in _some_names(folder.fd):
            removed += 1
            if _unlink_or_is_folder(folder.fd, entry):
                raised = f".removing-{os.urandom(8).hex()}"
                os.rename(entry, raised, src_dir_fd=folder.fd, dst_dir_fd=parent.fd)
    try:
        os.rmdir(name, dir_fd=parent.fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    return removed


def _rename_to_free_name(from_fd: int, name: str, to_fd: int, to_name: str) -> None:
    """Rename on a file system without RENAME_NOREPLACE; only for folders that we alone write to."""
    try:
        os.stat(to_name, dir_fd=to_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, to_name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _some_names(fd: int) -> list[str]:
    own = os.open(".", _FOLDER_FLAGS, dir_fd=fd)
    try:
        with os.scandir(own) as entries:
            return [entry.name for entry in islice(entries, _REMOVAL_CHUNK)]
    finally:
        os.close(own)


@functools.cache
def _libc_renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    import ctypes  # here, because an idle run renames nothing

    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    )
    function.restype = ctypes.c_int

    def call(from_fd: int, from_name: bytes, to_fd: int, to_name: bytes, flags: int) -> int:
        if function(from_fd, from_name, to_fd, to_name, flags) == 0:
            return 0
        return ctypes.get_errno()

    return call


def _renameat2(from_fd: int, from_name: str, to_fd: int, to_name: str, flags: int) -> bool:
    """Call renameat2(2), which Python does not offer; False where kernel or file system lack it."""
    call = _libc_renameat2()
    if call is None:
        return False
    number = call(from_fd, os.fsencode(from_name), to_fd, os.fsencode(to_name), flags)
    if number in _UNSUPPORTED:
        return False
    if number:
        raise OSError(number, os.strerror(number))
    return True
