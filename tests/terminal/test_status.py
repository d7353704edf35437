"""Status on a terminal: bars, signs, widths, and the picture in docs/."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from mdconnector.outcomes.status import StatusResult
from mdconnector.renewal import State
from mdconnector.terminal.status import (
    ASCII,
    SHOWN_DOMAINS,
    SHOWN_NOTES,
    STYLES,
    UNICODE,
    bar,
    show_status,
)
from tests.standings import (
    ALL,
    ALONE,
    FAILING,
    NOW,
    SERVED,
    UNREADABLE,
    UNSERVED,
    facts,
    lifetime,
    standing,
)

CLONE = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("utc")
EVERY_STATE = StatusResult(
    (*ALL.domains, UNREADABLE, standing("spare.example.org", State.UNUSED)), NOW
)


def shown(result: StatusResult, width: int, *, encoding: str = "utf-8", color: bool = False) -> str:
    """Return what a terminal of that width gets."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(
        file=file,
        width=width,
        force_terminal=True,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    show_status(console, result)
    file.flush()
    return raw.getvalue().decode(encoding)


def plain(result: StatusResult, width: int, *, encoding: str = "utf-8") -> str:
    """Return it without any sequence for bold or dim."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown(result, width, encoding=encoding))


def drawn(*, left: float, life: float = 100, width: int = 10) -> str:
    return bar(lifetime(facts(left=left, life=life)), NOW, width, ASCII, "").plain


# --- bars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "line"),
    [
        pytest.param(100, "O-----...:", id="begins now"),
        pytest.param(101, "O-----...:", id="not valid yet"),
        pytest.param(50, "=====O...:", id="half way"),
        pytest.param(25, "=======O.:", id="in the renewal window"),
        pytest.param(5, "=========O", id="in the warn window"),
        pytest.param(0, "=========X", id="over now"),
        pytest.param(-300, "=========X", id="over for long"),
    ],
)
def test_a_bar_shows_what_is_gone_now_and_both_windows(left: float, line: str) -> None:
    # the window of 33% begins at 67 of 100 days: in the seventh cell of ten
    assert drawn(left=left) == line


@pytest.mark.parametrize("width", [1, 2, 3, 17, 200])
@pytest.mark.parametrize("left", [-1, 0, 0.001, 33, 99.999, 100, 500])
def test_a_bar_has_its_width_and_one_now_or_end(width: int, left: float) -> None:
    line = drawn(left=left, width=width)
    assert len(line) == width
    assert line.count("O") + line.count("X") == 1


def test_a_certificate_without_any_life_is_over() -> None:
    assert drawn(left=-1, life=0) == "=========X"


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for result in (EVERY_STATE, ALONE):
        for line in plain(result, width).splitlines():
            assert cell_len(line) <= width, line


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_name_is_folded_and_not_cut(width: int) -> None:
    name = ".".join(["a" * 60] * 4)
    text = plain(StatusResult((standing(name),), NOW), width)
    assert "".join(re.findall(r"^(?:[a.]+)", text, re.MULTILINE)) == name
    assert "58 d" in text


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_state_has_its_sign_and_its_word_without_any_colour(
    width: int, encoding: str
) -> None:
    signs = UNICODE if encoding == "utf-8" else ASCII
    lines = plain(EVERY_STATE, width, encoding=encoding).splitlines()
    seen = set()
    for domain in EVERY_STATE.domains:
        (row, *_) = [line for line in lines if line.startswith(f"{domain.name} ")]
        assert f" {signs.by_state[domain.state]} {domain.state} " in f"{row} "
        seen.add(domain.state)
    assert seen == set(State)


def test_no_colour_means_no_colour() -> None:
    colours = re.compile(r"\x1b\[(\d+;)*[39][0-7](;\d+)*m")
    assert colours.search(shown(EVERY_STATE, 120, color=True))
    assert not colours.search(shown(EVERY_STATE, 120))
    assert set(STYLES) == set(State)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert plain(EVERY_STATE, 120, encoding="ascii").isascii()
    assert plain(ALONE, 80, encoding="ascii").isascii()


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (40, ["NAME", "STATE", "LEFT"]),
        (60, ["NAME", "STATE", "LIFETIME", "LEFT"]),
        (80, ["NAME", "STATE", "LIFETIME", "LEFT", "RENEWED"]),
        (100, ["NAME", "STATE", "LIFETIME", "LEFT", "RENEWED", "KEYS"]),
        (120, ["NAME", "STATE", "LIFETIME", "LEFT", "RENEWED", "VALID UNTIL", "KEYS"]),
        (160, ["NAME", "STATE", "LIFETIME", "LEFT", "RENEWED", "VALID UNTIL", "KEYS", "ISSUER"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(width: int, headings: list[str]) -> None:
    assert re.split(r" {2,}", plain(ALL, width).splitlines()[0].strip()) == headings


def test_each_certificate_has_its_own_bar_and_days() -> None:
    two = SERVED._replace(lifetimes=(lifetime(facts(left=50)), lifetime(facts(left=7))))
    text = plain(StatusResult((two,), NOW), 120)
    assert text.count(UNICODE.now) == 2 + 1, "one in the legend"
    assert re.search(r"50 d.*\n.* 7 d", text)


def test_sentences_stand_below_the_table_with_what_to_do() -> None:
    text = plain(StatusResult((FAILING,), NOW), 80)
    table, _, below = text.partition("1 managed domain")
    assert "pre-validation" not in table
    assert "the pre-validation has expired" in " ".join(below.split())
    assert "→ renew it in SCM under Domains" in below


def test_a_valid_certificate_that_is_not_served_has_a_sign_below() -> None:
    assert "\n! shop.example.org\n  Apache was not reloaded" in plain(
        StatusResult((UNSERVED,), NOW), 100
    )


def test_a_thousand_sentences_are_cut_short() -> None:
    many = tuple(FAILING._replace(name=f"n{number}.example") for number in range(SHOWN_NOTES + 5))
    text = plain(StatusResult(many, NOW), 100)
    assert text.count("the pre-validation has expired") == SHOWN_NOTES
    assert "\nand 5 more; see 'mdconnector status NAME'" in text


def test_of_very_many_domains_the_most_urgent_are_shown() -> None:
    many = tuple(standing(f"n{number}.example") for number in range(SHOWN_DOMAINS + 3))
    text = plain(StatusResult((FAILING, *many), NOW), 100)
    assert text.count(" ✓ valid ") == SHOWN_DOMAINS - 1
    assert "\nand 4 less urgent; all: mdconnector status | less\n" in text
    assert f"✓ {SHOWN_DOMAINS + 3} valid" in text


def test_foreign_text_is_no_markup() -> None:
    odd = FAILING._replace(detail="[red]x[/red] :warning:")
    assert "[red]x[/red] :warning:" in plain(StatusResult((odd,), NOW), 100)


def test_nothing_managed_is_said() -> None:
    assert "no managed domain is declared" in plain(StatusResult((), NOW), 80)


def test_what_is_left_is_hours_when_it_is_short() -> None:
    text = plain(StatusResult((standing(left=1.5, life=6),), NOW), 80)
    assert "36 h" in text


# --- one domain ----------------------------------------------------------------------------------


def test_a_named_domain_is_shown_in_full() -> None:
    text = " ".join(plain(ALONE, 100).split())
    for words in (
        "✓ www.example.org: valid, 81 days left",
        "2026-07-22 19:12 UTC: the next 'mdconnector renew --all' from then on renews it",
        "subject CN=www.example.org",
        "issued by CN=Sectigo Public Server Authentication Root R46",
        "serial 3abc",
        f"sha256 {0x3ABC:064x}",
        "secp256r1 www.example.org at 127.0.0.1:443: serial 3abd, as in the store",
        "kid b7c1c1f0e5f14a9e",
        "renew: failed: the CA did not answer within 30 s",
    ):
        assert words in text


def test_a_domain_that_fails_says_why_and_what_to_do() -> None:
    assert ALONE.domains[0].in_full
    named = FAILING._replace(in_full=ALONE.domains[0].in_full._replace(shown=(), chains=()))
    text = " ".join(plain(StatusResult((named,), NOW), 100).split())
    assert "failing, 6 days left, 7 failed runs in a row" in text
    assert "what to do renew it in SCM" in text
    assert f"failing since {(NOW - timedelta(days=2, hours=3)):%Y-%m-%d %H:%M} UTC" in text


# --- the picture ---------------------------------------------------------------------------------


def words_in(svg: str) -> list[str]:
    return [unescape(text).replace("\xa0", " ") for text in re.findall(r">([^<>]+)</text>", svg)]


def test_the_picture_in_docs_is_what_status_looks_like() -> None:
    code = "import pictures; print(pictures.draw())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{CLONE}/docs:{CLONE}", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    kept = words_in((CLONE / "docs" / "status.svg").read_text(encoding="utf-8"))
    assert "pay.example.org" in kept
    assert words_in(done.stdout) == kept, "type 'make pictures'"
