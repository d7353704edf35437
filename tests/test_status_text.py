"""Status as plain lines: the table, and all about one domain, to the letter."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from mdconnector.certificates import CertificateFacts, InstalledCertificate
from mdconnector.outcomes.status import DomainStatus, StagedSummary, StatusResult
from mdconnector.particulars import (
    AccountInUse,
    ChainLink,
    LiveChain,
    NextStep,
    Particulars,
    PastRun,
    Shown,
)
from mdconnector.renewal import LastError, State
from mdconnector.status_text import (
    SHOWN_RUNS,
    days_left,
    in_full_lines,
    local,
    sections,
    state_words,
    status_cells,
    status_lines,
    time_left,
)
from tests.standings import (
    ALONE,
    EC,
    FAILING,
    ISSUER,
    NOW,
    PENDING,
    REFUSED,
    RSA,
    SERVED,
    STAGED,
    UNREADABLE,
    UNSERVED,
    facts,
    standing,
)

pytestmark = pytest.mark.usefixtures("utc")


# --- the table -----------------------------------------------------------------------------------


def test_the_table_is_aligned_and_its_lines_end_where_their_text_ends() -> None:
    result = StatusResult((UNSERVED, standing("b.example", State.MISSING, left=None)), NOW)
    assert [line[:75] for line in status_lines(result)] == [
        "NAME              STATE    KEYS               VALID UNTIL           DAYS  R",
        "shop.example.org  valid    rsa2048,secp256r1  2026-08-15 12:00 UTC  75    2",
        "b.example         missing  rsa2048            -                     -     -",
    ]
    assert not any(line.endswith(" ") for line in status_lines(result))


def test_the_table_has_a_head_of_eight_columns() -> None:
    head = status_lines(StatusResult((SERVED,), NOW))[0]
    assert head.split("  ")[0] == "NAME"
    assert head.replace("VALID UNTIL", "VALID_UNTIL").replace("RENEWS AT", "RENEWS_AT").split() == [
        *("NAME", "STATE", "KEYS", "VALID_UNTIL", "DAYS", "RENEWS_AT", "ISSUER", "NOTE")
    ]


def test_without_a_domain_it_says_where_to_look() -> None:
    assert status_lines(StatusResult((), NOW)) == [
        "no managed domain is declared; see 'mdconnector scan'"
    ]


def test_the_row_of_a_domain() -> None:
    assert status_cells(SERVED, NOW) == (
        "www.example.org",
        "valid",
        "rsa2048,secp256r1",
        "2026-08-21 12:00 UTC",
        "81",
        "2026-07-22 19:12 UTC",
        ISSUER,
        "",
    )
    assert status_cells(standing(left=None), NOW)[3:] == ("-", "-", "-", "-", "")


def issued_by(name: str) -> InstalledCertificate:
    one = facts(left=58)
    return InstalledCertificate(
        RSA,
        CertificateFacts(
            one.key_label,
            one.names,
            one.not_before,
            one.not_after,
            one.serial,
            one.sha256,
            name,
            False,
        ),
    )


def test_each_issuer_is_named_once_and_not_too_long() -> None:
    both = standing(live=(issued_by("B CA"), issued_by("A CA"), issued_by("B CA")))
    assert status_cells(both, NOW)[6] == "A CA, B CA"
    assert status_cells(standing(live=(issued_by("x" * 61),)), NOW)[6] == "x" * 59 + "…"


ALL_AT_ONCE = (
    "one; staged since 2026-06-01 11:20 UTC; ordered 2026-06-01 07:00 UTC, the CA is still at "
    f"work; {REFUSED.detail}; next try 2026-06-01 12:00 UTC"
)


@pytest.mark.parametrize(
    ("domain", "note"),
    [
        (standing(detail="static files"), "static files"),
        (STAGED, "staged since 2026-06-01 11:20 UTC"),
        (PENDING, "ordered 2026-06-01 07:00 UTC, the CA is still at work"),
        (FAILING, f"{REFUSED.detail}; next try 2026-06-01 15:00 UTC"),
        (UNSERVED, "Apache was not reloaded since it went live 2026-06-01 11:20 UTC"),
        (SERVED, ""),
        (UNREADABLE, "not readable by uid 1000; try sudo"),
        (standing(state=State.UNKNOWN, last_error=REFUSED, detail="try sudo"), "try sudo"),
        (
            standing(
                detail="one",
                staged=STAGED.staged,
                pending=PENDING.pending,
                last_error=REFUSED,
                next_try=NOW,
            ),
            ALL_AT_ONCE,
        ),
    ],
)
def test_the_note_tells_what_waits_and_what_went_wrong(domain: DomainStatus, note: str) -> None:
    assert status_cells(domain, NOW)[7] == note


# --- words for times -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=58, hours=23), "58 days left"),
        (timedelta(days=2), "2 days left"),
        (timedelta(days=2) - timedelta(seconds=1), "47 hours left"),
        (timedelta(hours=1), "1 hour left"),
        (timedelta(minutes=59), "0 hours left"),
        (timedelta(0), "expired 0 hours ago"),
        (-timedelta(hours=1), "expired 1 hour ago"),
        (-timedelta(days=3), "expired 3 days ago"),
    ],
)
def test_time_left_in_words(left: timedelta, words: str) -> None:
    assert time_left(NOW + left, NOW) == words


def test_days_left_are_whole_days_and_negative_afterwards() -> None:
    assert days_left(NOW + timedelta(days=1, hours=23), NOW) == 1
    assert days_left(NOW - timedelta(hours=1), NOW) == -1
    assert (local(NOW), local(None)) == ("2026-06-01 12:00 UTC", "-")


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        (0, "valid, 58 days left"),
        (1, "valid, 58 days left, 1 failed run in a row"),
        (2, "valid, 58 days left, 2 failed runs in a row"),
    ],
)
def test_the_state_is_told_with_time_and_failures(errors: int, words: str) -> None:
    assert state_words(standing(errors=errors), NOW) == words
    assert state_words(standing(left=None), NOW) == "valid"


# --- all about one domain ------------------------------------------------------------------------


def test_all_about_a_domain() -> None:
    middle = f"CN={ISSUER},O=Sectigo Limited,C=GB (valid until 2036-03-19 12:00 UTC)"
    root = "CN=Sectigo Public Server Authentication Root R46,O=Sectigo Limited,C=GB"
    dates = [
        "    valid from    2026-05-23 12:00 UTC",
        "    renewed from  2026-07-22 19:12 UTC",
        "    MDWarnWindow  from 2026-08-12 12:00 UTC",
        "    valid until   2026-08-21 12:00 UTC",
    ]
    chain = [
        "    names         www.example.org",
        "    subject       CN=www.example.org",
        f"    issued by     {middle}",
        f"    issued by     {root}",
    ]
    both, until = "rsa2048 + secp256r1", "valid until 2026-08-21 12:00 UTC"
    renews = "the next 'mdconnector renew --all' from then on renews it"
    assert list(in_full_lines(ALONE)) == [
        "www.example.org: valid, 81 days left",
        "    also    example.org",
        f"    next    2026-07-22 19:12 UTC: {renews}",
        "    served  Apache serves it (asked just now)",
        *("rsa2048", *dates, "    serial        3abc", f"    sha256        {0x3ABC:064x}", *chain),
        *(
            "secp256r1",
            *dates,
            "    serial        3abd",
            f"    sha256        {0x3ABD:064x}",
            *chain,
        ),
        "what Apache shows now",
        "    any key    www.example.org at 127.0.0.1:443: serial 3abd, as in the store",
        "    rsa2048    www.example.org at 127.0.0.1:443: serial 3abc, as in the store",
        "    secp256r1  www.example.org at 127.0.0.1:443: serial 3abd, as in the store",
        "account at the CA",
        "    CA         https://acme.sectigo.com/v2/OV",
        "    URL        https://acme.sectigo.com/v2/OV/account/Fqz8cXh1",
        "    kid        b7c1c1f0e5f14a9e",
        "    stored as  ACME-acme.sectigo.com-0000",
        "last runs that did something",
        f"    2026-05-23 12:00 UTC  promote: promoted: {both}, {until}",
        f"    2026-05-23 11:59 UTC  renew: renewed: {both}, 2 names, {until}; staged",
        "    2026-05-23 05:00 UTC  renew: failed: the CA did not answer within 30 s",
    ]


def test_domains_are_parted_by_an_empty_line() -> None:
    lines = list(in_full_lines(StatusResult((FAILING, STAGED, PENDING, UNREADABLE), NOW)))
    assert [lines[0], *(lines[n + 1] for n, line in enumerate(lines) if not line)] == [
        "mail.example.org: failing, 6 days left, 7 failed runs in a row",
        "wiki.example.org: staged, 28 days left",
        "ev.example.org: pending, 25 days left",
        "intern.example.org: unknown",
    ]


def rows(domain: DomainStatus, heading: str = "") -> tuple[tuple[str, str], ...]:
    """Return the rows of the first section, or of the one with that heading."""
    found = list(sections(domain, NOW))
    return next(one.rows for one in found if not heading or one.heading == heading)


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        (standing(), []),
        (standing(names=("a.example",)), []),
        (
            standing(names=("a.example", "b.example", "c.example")),
            [("also", "b.example, c.example")],
        ),
        (UNREADABLE, [("note", "not readable by uid 1000; try sudo")]),
        (
            STAGED,
            [("staged", "since 2026-06-01 11:20 UTC, valid until 2026-08-30 09:36 UTC")],
        ),
        (
            standing(staged=StagedSummary(NOW, (facts(left=50), facts(left=40)))),
            [("staged", "since 2026-06-01 12:00 UTC, valid until 2026-07-11 12:00 UTC")],
        ),
        (
            standing(staged=StagedSummary(NOW, ())),
            [("staged", "since 2026-06-01 12:00 UTC, valid until -")],
        ),
        (
            PENDING,
            [("ordered", "2026-06-01 07:00 UTC, https://acme.sectigo.com/v2/OV/order/81")],
        ),
        (
            FAILING,
            [
                ("failing since", "2026-05-30 09:00 UTC"),
                ("last error", REFUSED.detail),
                ("what to do", REFUSED.hint),
            ],
        ),
        (
            standing(last_error=LastError("ca", "no", None, NOW)),
            [("last error", "no")],
        ),
        (standing(state=State.UNKNOWN, last_error=REFUSED), []),
        (
            UNSERVED,
            [("served", "Apache was not reloaded since it went live 2026-06-01 11:20 UTC")],
        ),
    ],
)
def test_what_is_told_of_a_domain_s_standing(
    domain: DomainStatus, told: list[tuple[str, str]]
) -> None:
    assert list(rows(domain)) == told


def with_particulars(**more: Any) -> DomainStatus:
    given: dict[str, Any] = {"chains": (), "account": None, "next_step": NextStep("nothing is due")}
    return standing(in_full=Particulars(**(given | more)))


def test_a_next_step_that_is_no_matter_of_time_has_none() -> None:
    assert rows(with_particulars()) == (("next", "nothing is due"),)


ACCOUNT = "account at the CA"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, [("", "none yet: the first order registers one")]),
        ({"account_trouble": "its key cannot be read"}, [("", "its key cannot be read")]),
        (
            {"account": AccountInUse("", "https://ca/a/1", "https://ca", None)},
            [
                ("CA", "https://ca"),
                ("URL", "https://ca/a/1"),
                ("stored as", "mod_md's, in staging"),
            ],
        ),
    ],
)
def test_what_is_told_of_the_account(more: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert list(rows(with_particulars(**more), ACCOUNT)) == told


def at(address: str = "192.0.2.7", **more: Any) -> Shown:
    given: dict[str, Any] = {
        "address": address,
        "port": 443,
        "server_name": "a.example",
        "vhost_at": "a.conf:1",
        "key_label": "rsa2048",
    }
    return Shown(**(given | more))


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        (
            at(serial="1f", is_stored=True),
            ("rsa2048", "a.example at 192.0.2.7:443: serial 1f, as in the store"),
        ),
        (
            at(serial="1f", is_stored=False),
            ("rsa2048", "a.example at 192.0.2.7:443: serial 1f, not what the store holds"),
        ),
        (
            at("2001:db8::1", key_label=None, fault="no handshake"),
            ("any key", "a.example at [2001:db8::1]:443: no handshake"),
        ),
        (at(), ("rsa2048", "a.example at 192.0.2.7:443: no certificate")),
        (at("", fault="its address has no port"), ("not asked", "its address has no port")),
        (at(""), ("not asked", "")),
    ],
)
def test_what_is_told_of_an_address(shown: Shown, told: tuple[str, str]) -> None:
    assert rows(with_particulars(shown=(shown,)), "what Apache shows now") == (told,)


def test_only_the_last_runs_are_told() -> None:
    runs = tuple(PastRun(NOW, "renew", "failed", f"{number}") for number in range(SHOWN_RUNS + 1))
    found = rows(with_particulars(runs=runs), "last runs that did something")
    assert found == tuple(
        ("2026-06-01 12:00 UTC", f"renew: failed: {number}") for number in range(10)
    )


def test_a_leaf_without_a_subject_says_so_and_a_chain_of_one_names_its_issuer() -> None:
    leaf = facts(left=58)
    link = ChainLink("", "CN=some CA", leaf.not_after, leaf.sha256)
    domain = with_particulars(chains=(LiveChain("rsa2048", ("a.example",), (link,)),))
    assert rows(domain, "rsa2048")[-2:] == (("subject", "(none)"), ("issued by", "CN=some CA"))


def test_what_is_told_of_certificates_belongs_to_their_kind_of_key() -> None:
    one = standing(specs=(RSA, EC))
    first, *both = sections(one, NOW)
    assert (first.heading, first.lifetime) == ("a.example: valid, 58 days left", None)
    assert [(part.heading, part.lifetime) for part in both] == [
        ("rsa2048", one.lifetimes[0]),
        ("secp256r1", one.lifetimes[1]),
    ]
    missing = standing(left=None, specs=(RSA, EC))
    assert len(list(sections(missing, NOW))) == 1


def test_names_of_a_certificate_are_cut_when_they_are_too_many() -> None:
    names: Iterator[str] = (f"n{number}.example" for number in range(200))
    one = facts(left=58)
    many = CertificateFacts(
        *("rsa2048", tuple(names), one.not_before, one.not_after, 1, "ff", "CA", False)
    )
    told = dict(rows(standing(live=(InstalledCertificate(RSA, many),)), "rsa2048"))
    assert told["names"].startswith("n0.example, n1.example, ")
    assert len(told["names"]) == 1000
