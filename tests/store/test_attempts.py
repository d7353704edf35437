"""What is remembered for a domain comes back as it was, and damage to it costs only the memory."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from mdconnector.errors import StoreError
from mdconnector.renewal import Attempt, LastError, RenewalInfo
from mdconnector.store.attempts import (
    MAX_HOSTS,
    MAX_REVOKED,
    MAX_RUNS,
    AttemptRecord,
    RollbackNote,
    Run,
    Served,
    Told,
    UntoldRenewal,
    load_attempt,
    save_attempt,
)
from mdconnector.store.tree import Store
from tests.store.credentials import NAME, NOW, open_store
from tests.store.kill_points import refusing

FULL = (
    AttemptRecord(
        attempt=Attempt(
            errors=3,
            failing_since=NOW - timedelta(days=2),
            next_try=NOW + timedelta(hours=5),
            digest="d" * 64,
            last_error=LastError("ca", "the CA refused: café", "ask it", NOW),
            ca_url="https://second.example/dir",
            step=timedelta(hours=6),
        ),
        rollback=RollbackNote(NOW, "Apache ended", ("aa",), ("bb", "cc")),
        told=Told("ca", NOW),
        revoked={"ab" * 32: NOW},
        renewal_info={
            "a.b": RenewalInfo(NOW, NOW, NOW + timedelta(days=2), NOW, "https://ca.example/why"),
            "a.c": RenewalInfo(NOW),
        },
    )
    .with_run(Run(NOW, "renew --all", "failed", "refused"))
    .with_served("web1", Served(("1f", "2e"), NOW))
    .with_served("web2", Served((), NOW))
)


def test_of_a_thousand_hosts_those_heard_of_last_are_kept() -> None:
    record = AttemptRecord()
    for number in range(MAX_HOSTS):
        record = record.with_served(f"web{number}", Served(("1f",), NOW + timedelta(hours=number)))
    later = NOW + timedelta(days=900)
    record = record.with_served("web0", Served(("1f",), NOW, missed=("2e",), missed_at=later))
    record = record.with_served("new", Served(("2e",), NOW))
    assert len(record.served) == MAX_HOSTS
    assert {"new", "web0", "web2"} <= set(record.served)
    assert "web1" not in record.served, "it was heard of first"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with open_store(tmp_path / "md") as opened:
        yield opened


def file_of(store: Store) -> Path:
    return store.path / "mdconnector/attempts" / f"{NAME}.json"


def test_record_comes_back_as_it_was_saved(store: Store) -> None:
    save_attempt(store, NAME, FULL)
    assert load_attempt(store, NAME) == FULL


def test_domain_that_was_never_tried_has_an_empty_record_and_no_file(store: Store) -> None:
    assert load_attempt(store, NAME) == AttemptRecord()
    assert not file_of(store).parent.exists()


def test_file_is_for_the_owner_alone(store: Store) -> None:
    save_attempt(store, NAME, FULL)
    assert stat.S_IMODE(file_of(store).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b'{"errors": "three", "digest": ""}', id="wrong type"),
        pytest.param(b'{"errors": -1, "digest": ""}', id="negative count"),
        pytest.param(b'{"errors": 0, "digest": "", "next_try": "soon"}', id="no time"),
        pytest.param(
            b'{"errors": 0, "digest": "", "next_try": "2026-01-01T00:00:00"}', id="no zone"
        ),
        pytest.param(b'{"errors": 0, "digest": "", "runs": {}}', id="no list"),
        pytest.param(b'{"errors": 0, "digest": "", "served": {"h": 1}}', id="host without facts"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_damaged_file_reads_as_empty_with_one_warning(
    store: Store, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    save_attempt(store, NAME, FULL)
    file_of(store).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_attempt(store, NAME) == AttemptRecord()
    assert [str(file_of(store)) in record.getMessage() for record in caplog.records] == [True]


def test_damaged_file_is_replaced_by_the_next_save(store: Store) -> None:
    save_attempt(store, NAME, FULL)
    file_of(store).write_bytes(b"{")
    save_attempt(store, NAME, FULL)
    assert load_attempt(store, NAME) == FULL


def test_last_twenty_runs_are_kept_newest_first() -> None:
    record = AttemptRecord()
    for number in range(MAX_RUNS + 5):
        record = record.with_run(Run(NOW, "renew", str(number)))
    assert [run.outcome for run in record.runs] == [str(24 - number) for number in range(20)]


def test_name_as_long_as_dns_allows_has_a_file_of_its_own(store: Store) -> None:
    long = ".".join(["a" * 61] * 4) + ".info"
    other = ".".join(["a" * 61] * 4) + ".mobi"
    assert len(f"{long}.json") > 255
    save_attempt(store, long, FULL)
    assert load_attempt(store, long) == FULL
    assert load_attempt(store, other) == AttemptRecord()


def test_only_the_newest_of_many_revoked_certificates_are_kept() -> None:
    record = AttemptRecord()
    for number in range(MAX_REVOKED + 5):
        record = record.with_revoked([f"{number:064x}"], NOW + timedelta(seconds=number))
    assert len(record.revoked) == MAX_REVOKED
    assert f"{4:064x}" not in record.revoked
    assert f"{5:064x}" in record.revoked


def test_set_that_was_put_back_is_refused_and_no_other() -> None:
    assert FULL.refuses(["aa"])
    assert not FULL.refuses(["aa", "bb"])
    assert not AttemptRecord().refuses([])


def test_renewal_that_nobody_would_hear_of_is_remembered(store: Store) -> None:
    record = FULL._replace(untold=UntoldRenewal(3, NOW, "the program ended with 1"))
    save_attempt(store, NAME, record)
    assert load_attempt(store, NAME) == record


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_record_that_may_not_be_read_is_an_error_not_empty(parts_folder: Path) -> None:
    with open_store(parts_folder / "md") as store:
        save_attempt(store, NAME, FULL)
        for path in (store.path, store.path / "mdconnector", store.path / "mdconnector/attempts"):
            path.chmod(0o755)
        os.seteuid(65534)
        try:
            with pytest.raises(StoreError) as caught:
                load_attempt(store, NAME)
        finally:
            os.seteuid(0)
    assert caught.value.unreadable


def test_record_that_the_disk_does_not_give_reads_as_empty_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    save_attempt(store, NAME, FULL)
    with caplog.at_level(logging.WARNING), refusing("read", errno.EIO) as was_refused:
        assert load_attempt(store, NAME) == AttemptRecord()
    assert was_refused()
    assert str(file_of(store)) in caplog.text
    assert load_attempt(store, NAME) == FULL
