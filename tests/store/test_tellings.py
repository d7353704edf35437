"""What is remembered of failures that were told, so that -q does not repeat itself."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mdconnector.store.tellings import TOLD, About, Tellings
from mdconnector.store.tree import Store

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
FILE = "/etc/apache2/sites-enabled/shop.conf"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    made = Store.open(
        tmp_path / "md",
        httpd_user_uid=None,
        httpd_group_gid=None,
        mod_md_loaded=False,
        create=True,
    )
    assert made is not None
    with made:
        yield made


def note(store: Store) -> Path:
    return store.path / "mdconnector" / TOLD


def tell(store: Store, key: str, at: datetime, about: About = About.FILES) -> bool:
    """Ask in a run of its own whether a failure is news."""
    tellings = Tellings.load(store)
    is_news = tellings.is_news(about, FILE, key, at)
    tellings.save()
    return is_news


def test_what_begins_is_news_and_what_lasts_is_not_for_a_day(store: Store) -> None:
    assert tell(store, "unclosed", NOW)
    assert not tell(store, "unclosed", NOW + HOUR)
    assert not tell(store, "unclosed", NOW + 23 * HOUR)
    assert tell(store, "unclosed", NOW + 24 * HOUR)
    assert not tell(store, "unclosed", NOW + 25 * HOUR)


def test_another_reason_is_news(store: Store) -> None:
    assert tell(store, "unclosed", NOW)
    assert tell(store, "no such file", NOW + HOUR)
    assert not tell(store, "no such file", NOW + 2 * HOUR)


def test_files_and_domains_of_one_name_are_told_apart(store: Store) -> None:
    assert tell(store, "same", NOW, About.FILES)
    assert tell(store, "same", NOW, About.DOMAINS)


def test_what_has_ended_is_said_once_and_is_news_when_it_begins_again(store: Store) -> None:
    tell(store, "unclosed", NOW)
    tellings = Tellings.load(store)
    assert tellings.forget(About.FILES, lambda file: file == FILE) == (FILE,)
    tellings.save()
    assert Tellings.load(store).forget(About.FILES, lambda _: True) == ()
    assert tell(store, "unclosed", NOW + HOUR)


def test_only_what_is_asked_for_is_forgotten(store: Store) -> None:
    tell(store, "unclosed", NOW)
    tellings = Tellings.load(store)
    assert tellings.forget(About.DOMAINS, lambda _: True) == ()
    assert tellings.forget(About.FILES, lambda _: False) == ()
    assert not tell(store, "unclosed", NOW + HOUR)


def test_nothing_is_written_where_nothing_has_changed(store: Store) -> None:
    Tellings.load(store).save()
    assert not note(store).exists()
    tell(store, "unclosed", NOW)
    before = note(store).stat()
    tell(store, "unclosed", NOW + HOUR)
    after = note(store).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_note_is_for_the_owner_alone(store: Store) -> None:
    tell(store, "unclosed", NOW)
    assert stat.S_IMODE(note(store).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"files": 7}', '{"files": [{"subject": "x"}]}', '{"files": [{"subject": 1}]}'],
)
def test_a_damaged_note_is_a_warning_and_all_is_news_again(
    store: Store, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    tell(store, "unclosed", NOW)
    note(store).write_text(content)
    with caplog.at_level(logging.WARNING):
        assert tell(store, "unclosed", NOW + HOUR)
    assert f"{note(store)}: damaged" in caplog.text
    assert not tell(store, "unclosed", NOW + 2 * HOUR)


def test_a_note_that_cannot_be_written_is_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    note(store).mkdir()
    with caplog.at_level(logging.WARNING):
        assert tell(store, "unclosed", NOW)
    assert "will be told again" in caplog.text
