"""The store as a tree: where its groups are, whose they are, and whether it may be used at all.

Rules: modes and owners are mod_md's (md_store_fs.c), with one folder of ours, mdconnector/, that
mod_md passes over. What makes the whole store unusable is found when it is opened and is an
UnsafeStoreError; what is wrong with one domain's folder is found when that folder is, and is a
StoreError. Without root nothing changes owner.
"""

from __future__ import annotations

import errno
import grp
import os
import stat
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

from mdconnector.errors import StoreError, UnsafeStoreError
from mdconnector.managed_domain import Finding, Severity, is_dns_name
from mdconnector.store.folder import Folder, store_error
from mdconnector.store.lock import store_lock
from mdconnector.store.records import (
    MAX_RECORD_BYTES,
    PASSPHRASE_BYTES,
    RecordError,
    parse_store,
    render_store,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE_FILE = "md_store.json"
OWN_FOLDER = "mdconnector"
OWN_MODE = 0o700
NEW_BASE_MODE = 0o750
NEW_PARENT_MODE = 0o755
MIN_FREE_INODES = 1000

GROUP_MODES = {
    "accounts": 0o755,
    "challenges": 0o755,
    "staging": 0o755,
    "domains": 0o700,
    "archive": 0o700,
    "tmp": 0o700,
    "ocsp": 0o755,
}
"""mod_md: md_store_fs.c, md_store_fs_init"""

FILE_MODES = {
    "accounts": 0o644,
    "challenges": 0o644,
    "staging": 0o644,
    "domains": 0o600,
    "archive": 0o600,
}
"""of everything but a key in clear, which is 0600 everywhere"""

HTTPD_GROUPS = frozenset({"challenges", "staging", "ocsp"})
"""groups that belong to Apache's User where mod_md is loaded (mod_md: mod_md.c, store_file_ev)"""

_MADE_AT_ONCE = ("accounts", "challenges", "staging")


class StoreOwners(NamedTuple):
    """Who may own what in the store."""

    store_uid: int
    """the base folder's owner"""
    httpd_uid: int | None
    """Apache's User where mod_md is loaded; None otherwise"""
    httpd_gid: int | None

    @property
    def trusted(self) -> frozenset[int]:
        """Whose files are taken without a question: the store's owner's and root's."""
        return frozenset({0, self.store_uid})

    @property
    def staging(self) -> frozenset[int]:
        """Whose files in staging/ and challenges/ are looked at."""
        return self.trusted if self.httpd_uid is None else self.trusted | {self.httpd_uid}


class Store:
    """An open store; close it, or use it as a context manager."""

    def __init__(self, path: Path, base: Folder, owners: StoreOwners, *, read_only: bool) -> None:
        self.path = path
        self.base = base
        self.owners = owners
        self.read_only = read_only
        self.numbering = threading.Lock()
        """held while the number of a new account is claimed: two CAs of one host want the same"""
        self._passphrase: bytes | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        httpd_user_uid: int | None,
        httpd_group_gid: int | None,
        mod_md_loaded: bool,
        create: bool,
        read_only: bool = False,
    ) -> Store | None:
        """Open the store; None where there is none and `create` is false.

        With `create` a missing one is made as mod_md would, but not readable by everybody. With
        `read_only` nothing is made or checked; what this user may not read raises StoreError with
        `unreadable` when it is read. Raises UnsafeStoreError where it must not be written to.
        """
        if create:
            _make_base(path, httpd_group_gid)
        elif not _exists(path):
            return None
        with _unsafe(path):
            base = Folder.open_base(path)
            store_uid = base.status().st_uid
        base.new_uid = store_uid if os.geteuid() == 0 and store_uid != 0 else -1
        owners = StoreOwners(store_uid, httpd_user_uid if mod_md_loaded else None, httpd_group_gid)
        store = cls(path, base, owners, read_only=read_only)
        if not read_only:
            store._prepare(create=create)
        return store

    def close(self) -> None:
        """Give the handle back."""
        self.base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def passphrase(self) -> bytes:
        """Return the 48 bytes that encrypt keys in accounts/ and staging/."""
        if self._passphrase is None:
            self._passphrase = self._read_passphrase()
        return self._passphrase

    def staging(self) -> Folder | None:
        """Open staging/; None where it is absent."""
        return self.group("staging")

    def domains(self) -> Folder | None:
        """Open domains/; None where it is absent."""
        return self.group("domains")

    def archive(self) -> Folder | None:
        """Open archive/; None where it is absent."""
        return self.group("archive")

    def accounts(self) -> Folder | None:
        """Open accounts/; None where it is absent."""
        return self.group("accounts")

    def challenges(self) -> Folder | None:
        """Open challenges/; None where it is absent."""
        return self.group("challenges")

    def tmp(self) -> Folder | None:
        """Open tmp/; None where it is absent."""
        return self.group("tmp")

    def group(self, name: str) -> Folder | None:
        """Open one of mod_md's groups with a new handle; None where it is absent."""
        folder = self.base.open(name)
        if folder is not None:
            folder.new_uid = self.uid_for(name)
        return folder

    def make_group(self, name: str) -> Folder:
        """Open one of mod_md's groups to write in it, made where it is absent.

        It gets mod_md's mode, as with each of mod_md's own writes (md_store_fs.c, mk_group_dir): a
        new accounts/ of mod_md is closed to Apache's User, who could not use the accounts in it.
        """
        folder = self.base.make(name, GROUP_MODES[name], uid=self.uid_for(name))
        folder.new_uid = self.uid_for(name)
        folder.set_mode(GROUP_MODES[name])
        return folder

    def make_in_group(self, group: str, name: str) -> Folder:
        """Open a folder in a group to write in it, made where it is absent, with mod_md's mode."""
        with self.make_group(group) as folder:
            made = folder.make(name, GROUP_MODES[group])
        made.set_mode(GROUP_MODES[group])
        return made

    def uid_for(self, group: str) -> int:
        """Return the owner for what is made in a group or in mdconnector/; -1: leave it."""
        if os.geteuid() != 0:
            return -1
        if group in HTTPD_GROUPS and self.owners.httpd_uid is not None:
            return self.owners.httpd_uid
        return self.base.new_uid

    def own(self, *parts: str) -> Folder | None:
        """Open mdconnector/ or a folder below it; None where it is absent."""
        folder = self.base
        for part in (OWN_FOLDER, *parts):
            found = folder.open(part)
            if found is None:
                return None
            folder = found
        return folder

    def make_own(self, *parts: str) -> Folder:
        """Open mdconnector/ or a folder below it, made where it is absent."""
        folder = self.base
        for part in (OWN_FOLDER, *parts):
            folder = folder.make(part, OWN_MODE)
        return folder

    def check_space(self, bytes_needed: int, inodes_needed: int = MIN_FREE_INODES) -> None:
        """Raise StoreError unless that much can be stored."""
        status = self.base.file_system()
        is_root = os.geteuid() == 0
        blocks = status.f_bfree if is_root else status.f_bavail
        inodes = status.f_ffree if is_root else status.f_favail
        # a file system without inodes to count (btrfs) reports none at all
        if blocks * status.f_frsize < bytes_needed or (status.f_files and inodes < inodes_needed):
            raise store_error(
                OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
                str(self.path),
                "no new certificate fits",
            )

    def findings(self) -> tuple[Finding, ...]:
        """Return what is odd about the store but does not keep it from being used."""
        return tuple(self._findings())

    def _findings(self) -> Iterator[Finding]:
        if self.base.stat(STORE_FILE) is not None:
            try:
                self.passphrase()
            except StoreError as error:
                if not error.unreadable:
                    message = f"{error.message}; Apache with mod_md does not start"
                    hint = error.hint or _HINT_RESTORE
                    yield Finding("store", Severity.ERROR, error.path, message, hint)
        if self.base.status().st_mode & stat.S_IRWXO:
            group = self.owners.httpd_gid
            owner = f"chgrp {_group_name(group)} {self.path} && " if group is not None else ""
            yield Finding(
                "store-readable-by-all",
                Severity.WARNING,
                str(self.path),
                "every user can read the store's accounts, which hold the EAB's HMAC",
                f"{owner}chmod 0750 {self.path}",
            )
        for name, mode in (
            (STORE_FILE, 0o600),
            ("domains", 0o700),
            ("archive", 0o700),
            (OWN_FOLDER, OWN_MODE),
        ):
            status = self.base.stat(name)
            if status is not None and stat.S_IMODE(status.st_mode) & ~mode & 0o077:
                yield Finding(
                    "store-too-open",
                    Severity.WARNING,
                    str(self.path / name),
                    "others than the store's owner may read it, and private keys depend on it",
                    f"chmod {mode:04o} {self.path / name}",
                )

    def _read_passphrase(self) -> bytes:
        path = str(self.path / STORE_FILE)
        text = self.base.read(STORE_FILE, max_bytes=MAX_RECORD_BYTES)
        if text is None:
            raise UnsafeStoreError(
                "the file that makes this a store is missing",
                path=path,
                hint=f"{_HINT_RESTORE}; 'mdconnector renew --all' makes one where none ever was",
            )
        try:
            return parse_store(text)
        except RecordError as error:
            raise UnsafeStoreError(
                f"it cannot be used: {error}", path=path, hint=_HINT_RESTORE
            ) from None

    def _prepare(self, *, create: bool) -> None:
        self._check_owner()
        with _unsafe(self.path):
            if create:
                self._make_store_file()
            self._check_parts()
            if create:
                for group in _MADE_AT_ONCE:
                    self.make_group(group).close()
            self.make_own().close()
            self.passphrase()

    def _check_owner(self) -> None:
        euid, owner = os.geteuid(), self.owners.store_uid
        if euid not in (0, owner):
            raise UnsafeStoreError(
                f"the store belongs to uid {owner}, and this is uid {euid}",
                path=str(self.path),
                hint="run it as the store's owner, or with sudo",
            )
        if self.base.file_system().f_flag & os.ST_RDONLY:
            raise _as_unsafe(
                store_error(
                    OSError(errno.EROFS, os.strerror(errno.EROFS)),
                    str(self.path),
                    "cannot be written",
                )
            )
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=self.base.fd, effective_ids=True):
            raise UnsafeStoreError(
                "the store cannot be written to",
                path=str(self.path),
                hint=f"chmod u+rwx {self.path}, or run it with sudo",
            )

    def _make_store_file(self) -> None:
        if self.base.stat(STORE_FILE) is not None:
            return
        if self._has_encrypted_keys():
            raise UnsafeStoreError(
                f"{STORE_FILE} is missing, and the keys in accounts/ can only be read with it",
                path=str(self.path),
                hint=f"{_HINT_RESTORE}; or move accounts/ away, and new accounts are registered",
            )
        passphrase = os.urandom(PASSPHRASE_BYTES)
        # two first runs meet here: the run lock lies in a folder that is yet to be made
        with store_lock(self):
            self.base.create(STORE_FILE, render_store(passphrase), 0o600)
            self.base.sync()

    def _has_encrypted_keys(self) -> bool:
        accounts = self.accounts()
        if accounts is None:
            return False
        for name in accounts.names():
            status = accounts.stat(name)
            if status is not None and stat.S_ISDIR(status.st_mode):
                folder = accounts.open(name)
                if folder is not None and folder.stat("account.pem") is not None:
                    return True
        return False

    def _check_parts(self) -> None:
        device = self.base.status().st_dev
        for name in (*GROUP_MODES, OWN_FOLDER):
            folder = self.base.open(name)
            if folder is None:
                continue
            with folder:
                status = folder.status()
            if status.st_dev != device:
                raise UnsafeStoreError(
                    "it is on another file system than the rest of the store",
                    path=str(self.path / name),
                    hint="put all of the store on one file system: sets are renamed within it",
                )
            if name == OWN_FOLDER:
                self._check_own(status)

    def _check_own(self, status: os.stat_result) -> None:
        path = str(self.path / OWN_FOLDER)
        if status.st_uid != self.owners.store_uid:
            raise UnsafeStoreError(
                f"it belongs to uid {status.st_uid}, not to the store's owner",
                path=path,
                hint=f"chown -R {self.owners.store_uid} {path}",
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode != OWN_MODE:
            raise UnsafeStoreError(
                f"its mode is {mode:04o}; keys in it may have been read or replaced",
                path=path,
                hint=f"see who could, then: chmod 0700 {path}",
            )


def folder_name(domain_name: str) -> str:
    """Return the folder of a managed domain in staging/, domains/ and archive/: its name, verbatim.

    Raises StoreError for what is no DNS name: only such a name may ever become a path.
    """
    if not is_dns_name(domain_name):
        raise StoreError(
            "only a DNS name can be the name of a managed domain's folder", path=repr(domain_name)
        )
    return domain_name


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


_HINT_RESTORE = "restore md_store.json from a backup"


class _unsafe:  # noqa: N801 - reads as a statement: with _unsafe(path)
    """Make every StoreError inside one about the whole store."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, StoreError) and not isinstance(error, UnsafeStoreError):
            raise _as_unsafe(error) from error


def _as_unsafe(error: StoreError) -> UnsafeStoreError:
    return UnsafeStoreError(
        error.message, path=error.path, hint=error.hint, unreadable=error.unreadable
    )


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _as_unsafe(store_error(error, str(path), "cannot be opened")) from error
    return True


def _make_base(path: Path, httpd_gid: int | None) -> None:
    if _exists(path):
        return
    gid = httpd_gid if httpd_gid is not None and os.geteuid() == 0 else -1
    missing = [path.name]
    ancestor = path.parent
    while not _exists(ancestor):
        missing.insert(0, ancestor.name)
        ancestor = ancestor.parent
    with _unsafe(path):
        folder = Folder.open_base(ancestor)
        for name in missing[:-1]:
            folder = folder.make(name, NEW_PARENT_MODE)
        folder.make(path.name, NEW_BASE_MODE, gid=gid).close()
