"""What is odd about a store as it lies on the disk: owners, modes, leftovers, too many old sets.

Rules: reads only, and looks at names and statuses, never into files. What this user may not look at
is told in one finding. A kind of finding that is there many times is told a few times.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from mdconnector.errors import StoreError
from mdconnector.managed_domain import Finding, Severity
from mdconnector.store.folder import Folder
from mdconnector.store.tree import (
    FILE_MODES,
    GROUP_MODES,
    HTTPD_GROUPS,
    OWN_FOLDER,
    STORE_FILE,
    Store,
)

MAX_TOLD = 5
MANY_ARCHIVES = 900
"""mod_md numbers them up to 999, and then activates nothing any more"""
LEFT_OVER_SECONDS = 3600.0
"""older than any activation takes"""

_JUDGED_BY_TREE = frozenset({"domains", "archive"})
"""whose own modes Store.findings is about"""


def inspect(store: Store, now: datetime) -> tuple[Finding, ...]:
    """Return what is odd about a store, whether or not it can be used as it is."""
    found = list(store.findings())
    denied: list[str] = []
    for look in (_parts, _domains, _other_groups, _left_over_tmp, _archives):
        try:
            found += look(store, now)
        except StoreError as error:
            denied.append(f"{error.path}: {error.message}")
    if denied:
        found.append(
            Finding(
                "store-not-inspected",
                Severity.INFO,
                str(store.path),
                f"parts of the store cannot be looked at by uid {os.geteuid()}: {denied[0]}",
                "run it with sudo, or as the store's owner",
            )
        )
    return tuple(a_few_of_each(found))


def a_few_of_each(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings; of a code that is there too often the first, and how many more there are."""
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    for code, alike in by_code.items():
        yield from alike[:MAX_TOLD]
        left = len(alike) - MAX_TOLD
        if left > 0:
            worst = min(alike[MAX_TOLD:], key=lambda one: list(Severity).index(one.severity))
            yield Finding(code, worst.severity, None, f"and {left} more like these", worst.hint)


# The groups themselves


def _parts(store: Store, _now: datetime) -> Iterator[Finding]:
    device = store.base.status().st_dev
    yield from _shared_base(store)
    yield from _wrong_owner(store, "", STORE_FILE, store.base.stat(STORE_FILE), None)
    for name in (*GROUP_MODES, OWN_FOLDER):
        status = store.base.stat(name)
        if status is None:
            continue
        if status.st_dev != device:
            yield Finding(
                "store-split",
                Severity.ERROR,
                str(store.path / name),
                "it is on another file system than the rest of the store",
                "put all of the store on one file system: sets are renamed within it",
            )
        yield from _wrong_owner(store, name, name, status, None)
        if name in GROUP_MODES and name not in _JUDGED_BY_TREE:
            yield from _too_open(store, name, status, GROUP_MODES[name], None)


def _shared_base(store: Store) -> Iterator[Finding]:
    status = store.base.status()
    mode = stat.S_IMODE(status.st_mode)
    if not _is_open_to_httpd(store, status):
        yield Finding(
            "store-wrong-owner",
            Severity.WARNING,
            str(store.path),
            f"its group is {_group(status.st_gid)}, so that Apache's children cannot enter it: "
            "mod_md answers no challenge",
            f"chgrp {_group(store.owners.httpd_gid or 0)} {store.path} && chmod g+x {store.path}",
        )
    if mode & 0o022:
        yield Finding(
            "store-too-open",
            Severity.ERROR,
            str(store.path),
            "others than the store's owner may write to the store's folder",
            f"chmod go-w {store.path}",
        )


def _is_open_to_httpd(store: Store, status: os.stat_result) -> bool:
    """Say whether Apache's children may enter the base, as far as its mode tells."""
    uid, gid = store.owners.httpd_uid, store.owners.httpd_gid
    if uid is None or gid is None or uid in (0, status.st_uid) or status.st_mode & stat.S_IXOTH:
        return True
    return bool(status.st_mode & stat.S_IXGRP) and status.st_gid in {gid, *_groups_of(uid, gid)}


def _groups_of(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return []


# What lies in them


def _domains(store: Store, _now: datetime) -> Iterator[Finding]:
    yield from _entries(store, "domains")
    yield from _live_files(store)


def _other_groups(store: Store, _now: datetime) -> Iterator[Finding]:
    for group in ("accounts", "staging", "challenges"):
        yield from _entries(store, group)


def _entries(store: Store, group: str) -> Iterator[Finding]:
    folder = store.group(group)
    if folder is None:
        return
    with folder:
        for name in folder.names():
            status = folder.stat(name)
            if status is None or not stat.S_ISDIR(status.st_mode):
                continue
            path = f"{group}/{name}"
            wrong = tuple(_wrong_owner(store, group, path, status, name))
            yield from wrong
            if not wrong and group in HTTPD_GROUPS and _owner_of(store, group) is not None:
                yield from _strange_file(store, folder, group, name)
            yield from _too_open(store, path, status, GROUP_MODES[group], name)


def _strange_file(store: Store, parent: Folder, group: str, name: str) -> Iterator[Finding]:
    """Look for a file that lies in the right folder and is nobody's whom we believe."""
    folder = parent.open(name, owners=store.owners.staging)
    if folder is None:
        return
    with folder:
        for file in folder.names():
            status = folder.stat(file)
            if status is not None and status.st_uid not in store.owners.staging:
                yield from _wrong_owner(store, group, f"{group}/{name}/{file}", status, name)
                return


def _live_files(store: Store) -> Iterator[Finding]:
    domains = store.domains()
    if domains is None:
        return
    with domains:
        for name in domains.names():
            status = domains.stat(name)
            if status is None or not stat.S_ISDIR(status.st_mode):
                continue
            folder = domains.open(name)
            if folder is not None:
                with folder:
                    yield from _files_of(store, name, folder)


def _files_of(store: Store, name: str, folder: Folder) -> Iterator[Finding]:
    for file in folder.names():
        status = folder.stat(file)
        if status is not None:
            path = f"domains/{name}/{file}"
            yield from _wrong_owner(store, "domains", path, status, name)
            yield from _too_open(store, path, status, FILE_MODES["domains"], name)


# Judgements


def _wrong_owner(
    store: Store, group: str, path: str, status: os.stat_result | None, domain: str | None
) -> Iterator[Finding]:
    expected = _owner_of(store, group)
    if status is None or expected is None or status.st_uid == expected:
        return
    place, option = path, "-R " if stat.S_ISDIR(status.st_mode) else ""
    if not option and group in HTTPD_GROUPS:
        place, option = path.rpartition("/")[0], "-R "  # where one file is strange, all are
    yield Finding(
        "store-wrong-owner",
        Severity.WARNING,
        str(store.path / path),
        f"it belongs to {_user(status.st_uid)}, not to {_user(expected)}",
        f"chown {option}{_user(expected)} {store.path / place}",
        domain,
    )


def _owner_of(store: Store, group: str) -> int | None:
    """Return who has to own what lies in a group; None where that may be one or the other."""
    owners = store.owners
    if group not in HTTPD_GROUPS:
        return owners.store_uid
    # a server that was not started by root gives nothing away (mod_md: md_mod_os.c, md_try_chown)
    if owners.store_uid != 0 or owners.httpd_uid is None:
        return None
    return owners.httpd_uid


def _too_open(
    store: Store, path: str, status: os.stat_result, expected: int, domain: str | None
) -> Iterator[Finding]:
    mode = stat.S_IMODE(status.st_mode)
    excess = mode & ~expected & 0o077
    if not excess or stat.S_ISLNK(status.st_mode):
        return
    may_write = bool(excess & 0o022)
    yield Finding(
        "store-too-open",
        Severity.ERROR if may_write else Severity.WARNING,
        str(store.path / path),
        f"its mode is {mode:04o}: others may {'write to' if may_write else 'read'} it",
        f"chmod {expected:04o} {store.path / path}",
        domain,
    )


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


# Leftovers


def _left_over_tmp(store: Store, now: datetime) -> Iterator[Finding]:
    folder = store.tmp()
    if folder is None:
        return
    with folder:
        for name in folder.names():
            status = folder.stat(name)
            if status is None or now.timestamp() - status.st_mtime < LEFT_OVER_SECONDS:
                continue
            path = store.path / "tmp" / name
            yield Finding(
                "tmp-left-over",
                Severity.WARNING,
                str(path),
                "an activation by mod_md did not come to its end, and left private keys here",
                f"see that {name} is served as it should be, then: rm -r {path}",
            )


def _archives(store: Store, _now: datetime) -> Iterator[Finding]:
    folder = store.archive()
    if folder is None:
        return
    with folder:
        names = folder.names()
    counted = Counter(stem for stem, dot, number in map(_numbered, names) if dot and number)
    for stem, number in counted.items():
        if number > MANY_ARCHIVES:
            yield Finding(
                "archive-nearly-full",
                Severity.WARNING,
                str(store.path / "archive"),
                f"there are {number} old sets of {stem}; with 999 mod_md activates no new one",
                f"remove the oldest of {store.path / 'archive' / stem}.*",
                stem,
            )


def _numbered(name: str) -> tuple[str, str, str]:
    stem, dot, number = name.rpartition(".")
    return stem, dot, number if number.isdecimal() else ""
