"""What is odd about a store on the disk: each finding where it is, and a good store without any."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mdconnector.managed_domain import Finding, Severity
from mdconnector.store.folder import Folder
from mdconnector.store.inspection import a_few_of_each, inspect
from mdconnector.store.tree import Store
from tests.store.credentials import NAME, NEW, open_store, put_set

NOW = datetime.now(UTC)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a good store with a live set, beside a mod_md."""
    path = tmp_path / "md"
    with open_store(path, mod_md_loaded=True) as made:
        put_set(made, "domains", NAME, NEW)
        made.make_in_group("staging", NAME).close()
        made.make_in_group("tmp", NAME).close()
        made.make_group("archive").close()
    return path


def look_at(path: Path, *, user: int = 33, group: int | None = None) -> Store:
    """Open a store as scan does: nothing is mended."""
    opened = Store.open(
        path,
        httpd_user_uid=user if os.geteuid() == 0 else os.geteuid(),
        httpd_group_gid=group,
        mod_md_loaded=True,
        create=False,
        read_only=True,
    )
    assert opened is not None
    return opened


def found(path: Path, now: datetime = NOW) -> list[tuple[str, str, str | None]]:
    with look_at(path) as opened:
        return [
            (one.code, one.severity, one.at and str(Path(one.at).relative_to(path)))
            for one in inspect(opened, now)
        ]


def test_a_good_store_has_no_finding(store: Path) -> None:
    assert found(store) == []


@pytest.mark.parametrize(
    ("entry", "mode", "code", "severity"),
    [
        (".", 0o770, "store-too-open", "error"),
        ("staging", 0o777, "store-too-open", "error"),
        ("accounts", 0o775, "store-too-open", "error"),
        (f"staging/{NAME}", 0o757, "store-too-open", "error"),
        ("tmp", 0o755, "store-too-open", "warning"),
        (f"domains/{NAME}", 0o755, "store-too-open", "warning"),
        (f"domains/{NAME}/privkey.secp256r1.pem", 0o640, "store-too-open", "warning"),
        (f"domains/{NAME}/privkey.secp256r1.pem", 0o602, "store-too-open", "error"),
        ("domains", 0o750, "store-too-open", "warning"),
    ],
)
def test_what_others_may_read_or_write(
    store: Path, entry: str, mode: int, code: str, severity: str
) -> None:
    (store / entry).chmod(mode)

    assert found(store) == [(code, severity, entry)]


@needs_root
@pytest.mark.parametrize(
    ("entry", "uid"),
    [
        ("md_store.json", 33),
        ("domains", 33),
        ("staging", 0),
        (f"staging/{NAME}", 0),
        ("challenges", 1),
        (f"domains/{NAME}", 33),
        (f"domains/{NAME}/md.json", 33),
    ],
)
def test_what_belongs_to_somebody_else(store: Path, entry: str, uid: int) -> None:
    os.chown(store / entry, uid, -1)

    assert found(store) == [("store-wrong-owner", "warning", entry)]


@needs_root
@pytest.mark.parametrize("entry", ["staging", f"staging/{NAME}", f"staging/{NAME}/md.json"])
def test_the_line_that_is_told_mends_what_came_from_another_host(store: Path, entry: str) -> None:
    (store / "staging" / NAME / "md.json").write_text("{}")
    for path in (store / entry, *(store / entry).rglob("*")):
        os.chown(path, 4711, -1)
    with look_at(store) as opened:
        finding, *_ = inspect(opened, NOW)
    assert finding.code == "store-wrong-owner"
    assert finding.at == str(store / entry)
    subprocess.run(shlex.split(finding.hint), check=True)
    owned = [store / "staging" / NAME, store / "staging" / NAME / "md.json"]
    assert [path.stat().st_uid for path in owned] == [33, 33]
    assert found(store) == []


@needs_root
def test_a_file_of_the_store_s_owner_in_staging_is_no_stranger_s(store: Path) -> None:
    (store / "staging" / NAME / "pubcert.pem").write_text("")
    assert found(store) == []


@needs_root
@pytest.mark.parametrize(
    ("group", "mode", "is_told"),
    [(33, 0o750, False), (4711, 0o750, True), (33, 0o700, True), (4711, 0o751, False)],
)
def test_a_store_that_apache_s_children_cannot_enter(
    store: Path, group: int, mode: int, *, is_told: bool
) -> None:
    os.chown(store, 0, group)
    store.chmod(mode)
    with look_at(store, group=33) as opened:
        told = [one for one in inspect(opened, NOW) if one.code == "store-wrong-owner"]
        assert bool(told) is is_told
        if told:
            subprocess.run(["/bin/sh", "-c", told[0].hint], check=True)
            assert inspect(opened, NOW) == ()


@needs_root
def test_groups_of_a_user_that_this_host_does_not_know_are_those_of_the_configuration(
    store: Path,
) -> None:
    os.chown(store, 0, 33)
    with look_at(store, user=4711, group=33) as opened:
        assert all(one.at != str(store) for one in inspect(opened, NOW))


@needs_root
def test_without_mod_md_staging_need_not_be_its_user_s(tmp_path: Path) -> None:
    with open_store(tmp_path / "md") as made:
        made.make_in_group("staging", NAME).close()
        assert inspect(made, NOW) == ()


def test_what_mod_md_left_in_tmp_is_told_once_it_is_old(store: Path) -> None:
    assert found(store, NOW + timedelta(hours=2)) == [("tmp-left-over", "warning", f"tmp/{NAME}")]


def test_old_sets_are_told_before_mod_md_runs_out_of_numbers(store: Path) -> None:
    for number in range(1, 901):
        (store / "archive" / f"{NAME}.{number}").mkdir()
    assert found(store) == []

    (store / "archive" / f"{NAME}.901").mkdir()

    assert found(store) == [("archive-nearly-full", "warning", "archive")]


def test_a_part_on_another_file_system(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.stat

    def stat_elsewhere(path: str, **options: Any) -> os.stat_result:
        status = list(original(path, **options))
        if path == "archive":
            status[stat.ST_DEV] += 1
        return os.stat_result(status)

    with look_at(store) as opened:
        monkeypatch.setattr(os, "stat", stat_elsewhere)
        findings = inspect(opened, NOW)

    assert [(one.code, one.at) for one in findings] == [("store-split", str(store / "archive"))]


@needs_root
def test_what_may_not_be_looked_at_is_told_once(store: Path) -> None:
    store.chmod(0o755)
    with look_at(store) as opened:
        os.seteuid(65534)
        try:
            codes = [one.code for one in inspect(opened, NOW)]
        finally:
            os.seteuid(0)

    assert codes == ["store-readable-by-all", "store-not-inspected"]


def test_of_many_alike_the_first_are_told_and_how_many_more() -> None:
    many = [
        Finding("odd", Severity.ERROR if n == 9 else Severity.INFO, f"f{n}", "", "")
        for n in range(12)
    ]
    told = list(a_few_of_each([*many, Finding("other", Severity.INFO, "g", "", "")]))

    assert [one.at for one in told] == ["f0", "f1", "f2", "f3", "f4", None, "g"]
    assert (told[5].message, told[5].severity) == ("and 7 more like these", "error")


def test_what_is_no_folder_among_the_domains_is_passed_over(store: Path) -> None:
    (store / "domains" / "README").write_text("x")
    (store / "staging" / "link").symlink_to("/etc")
    assert found(store) == []


def test_entries_that_vanish_while_they_are_looked_at_are_passed_over(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_names, real_open = Folder.names, Folder.open

    def names(folder: Folder) -> list[str]:
        return [*real_names(folder), "gone.example"]

    def opened(folder: Folder, name: str, **options: Any) -> Folder | None:
        is_gone = folder.path.name in {"domains", "staging"} and name == NAME
        return None if is_gone else real_open(folder, name, **options)

    monkeypatch.setattr(Folder, "names", names)
    monkeypatch.setattr(Folder, "open", opened)
    assert found(store) == []


def test_store_that_lacks_its_parts_has_nothing_to_look_at(store: Path) -> None:
    for part in ("domains", "staging", "tmp", "archive", "accounts", "challenges"):
        shutil.rmtree(store / part)
    assert found(store) == []


@needs_root
def test_owner_without_a_name_is_told_by_his_number(store: Path) -> None:
    os.chown(store / "domains" / NAME, 4_000_000, -1)
    with look_at(store) as opened:
        (finding,) = inspect(opened, NOW)
    assert "belongs to 4000000, not to root" in finding.message


def test_a_file_that_vanishes_while_it_is_looked_at_is_passed_over(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Folder.names

    def names(folder: Folder) -> list[str]:
        return [*real(folder), "gone.pem"] if folder.path.name == NAME else real(folder)

    monkeypatch.setattr(Folder, "names", names)
    assert found(store) == []
    (store / "domains" / NAME / NEW.spec.privkey_name).chmod(0o644)
    assert [code for code, _, _ in found(store)] == ["store-too-open"]
