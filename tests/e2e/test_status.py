"""`status` as a real process: for people, for monitoring, for Prometheus."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from mdconnector.this_host import host_id
from tests.e2e.command import run
from tests.e2e.estate import managed_site
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.e2e.pseudo_terminal import run_on_a_terminal
from tests.parts import Apache, Pebble

MakeApache = Callable[..., Apache]
NAME, OTHER = "one.example.org", "two.example.org"


@pytest.fixture
def missing(tmp_path: Path) -> PlainSites:
    """One managed domain on an SSL vhost, and nothing in the store."""
    sites = PlainSites(tmp_path)
    sites.write("one", ssl_site(NAME, {}))
    return sites


@pytest.fixture(scope="module")
def live(session_folder: Path, counting_ca: Pebble) -> PlainSites:
    """One that is live, and never was served."""
    sites = PlainSites(session_folder / "live-for-status")
    sites.write("one", ssl_site(NAME, settings_for(counting_ca)))
    assert sites.run("enroll", "--all").exit_code == 0
    assert sites.run("promote", "--all").exit_code == 0
    return sites


# --- status --check ------------------------------------------------------------------------------


def test_a_missing_certificate_is_critical(missing: PlainSites) -> None:
    done = missing.run("status", "--check")
    assert (done.exit_code, done.stderr) == (2, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("MDCONNECTOR CRITICAL - 1 critical of 1 managed domain; ")
    assert second == f"CRITICAL {NAME}: rsa2048 is missing"


def test_status_itself_exits_0_all_the_same(missing: PlainSites) -> None:
    assert missing.run("status").exit_code == 0


@pytest.mark.pebble
def test_all_well_is_0(live: PlainSites) -> None:
    done = live.run("status", "--check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"MDCONNECTOR OK - 1 managed domain, the first to expire is {NAME} in (89|90) days"
        r"\|domains=1;;;0 .* days_left=\S+\n",
        done.stdout,
    )


@pytest.mark.parametrize("words", [("--check",), ("-q", "--check")])
def test_quiet_or_not_a_plug_in_always_says_its_line(
    missing: PlainSites, words: tuple[str, ...]
) -> None:
    assert missing.run("status", *words).stdout.startswith("MDCONNECTOR CRITICAL")


def test_nothing_managed_is_unknown(tmp_path: Path) -> None:
    done = PlainSites(tmp_path).run("status", "--check")
    assert done.exit_code == 3
    assert done.stdout.startswith("MDCONNECTOR UNKNOWN - no managed domain is declared")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sites", "/nonexistent"), "/nonexistent"),
        (("--nonsense",), "--nonsense"),
        (("nobody.example.org",), "nobody.example.org"),
    ],
    ids=["no such folder", "usage", "no such name"],
)
def test_every_error_of_a_check_is_3_and_a_line_on_stdout(
    missing: PlainSites, words: tuple[str, ...], said: str
) -> None:
    place = () if "--sites" in words else ("--sites", missing.sites)
    done = run("status", "--check", *words, *place)
    assert (done.exit_code, done.stderr) == (3, "")
    assert re.fullmatch(r"MDCONNECTOR UNKNOWN - [^\n]+\n", done.stdout)
    assert said in done.stdout


def test_the_check_in_json_has_the_same_exit_code_and_tells_why(missing: PlainSites) -> None:
    done = missing.run("status", "--check", "--json")
    assert done.exit_code == 2
    judged = {"level": "critical", "reasons": ["rsa2048 is missing"]}
    assert done.domain(NAME)["check"] == judged


def test_an_error_in_json_is_3_too(missing: PlainSites) -> None:
    done = run("status", "--check", "--json", "--sites", "/nonexistent")
    assert done.exit_code == 3
    assert done.json["error"]["type"] == "configuration"


def test_only_the_named_are_judged(missing: PlainSites) -> None:
    unused = f"<MDomainSet {OTHER}>\nMDRenewMode manual\n</MDomainSet>\n"
    missing.write("two", unused)
    assert missing.run("status", "--check").exit_code == 2
    assert missing.run("status", OTHER, "--check").exit_code == 0


@pytest.mark.pebble
def test_what_apache_did_not_take_up_is_a_warning(live: PlainSites, parts_folder: Path) -> None:
    copy = live.copy_to(parts_folder / "copy")
    serial = copy.run("status", "--json").domain(NAME)["certificates"][0]["serial"]
    note = copy.store / "mdconnector" / "attempts" / f"{NAME}.json"
    at = '"at": "2026-01-01T00:00:00Z"'
    missed = f'"missed": ["{serial}"], "missed_at": "2026-01-02T00:00:00Z"'
    served = f'"served": {{"{host_id()}": {{"serials": ["1f"], {at}, {missed}}}}}'
    text = note.read_text()
    assert text.count('"served": {}') == 1
    note.write_text(text.replace('"served": {}', served))
    done = copy.run("status", "--check")
    assert done.exit_code == 1
    assert "Apache did not serve it when asked 2026-01-02 00:00 UTC" in done.stdout
    assert copy.run("status", "--json").domain(NAME)["served_equals_stored"] is False


# --- status --prometheus -------------------------------------------------------------------------


def test_the_page_goes_to_stdout(missing: PlainSites) -> None:
    done = missing.run("status", "--prometheus")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f'mdconnector_domain_state{{name="{NAME}",state="missing"}} 1\n' in done.stdout


def test_the_page_replaces_a_file_that_all_may_read(missing: PlainSites) -> None:
    place = missing.folder / "textfile" / "mdconnector.prom"
    place.parent.mkdir()
    place.write_text("old")
    before = place.stat().st_ino
    done = missing.run("status", "--prometheus", "--output", place)
    assert (done.exit_code, done.output) == (0, "")
    assert "mdconnector_domains 1\n" in place.read_text()
    assert stat.S_IMODE(place.stat().st_mode) == 0o644
    assert place.stat().st_ino != before, "it was replaced, not written over"
    assert list(place.parent.iterdir()) == [place]


def test_a_link_in_its_place_is_replaced_and_not_followed(missing: PlainSites) -> None:
    target = missing.folder / "target"
    target.write_text("untouched")
    place = missing.folder / "mdconnector.prom"
    place.symlink_to(target)
    assert missing.run("status", "--prometheus", "--output", place).exit_code == 0
    assert target.read_text() == "untouched"
    assert not place.is_symlink()


def test_a_page_that_cannot_be_written_is_2_and_leaves_nothing(missing: PlainSites) -> None:
    place = missing.folder / "taken"
    place.mkdir()
    before = sorted(missing.folder.iterdir())
    done = missing.run("status", "--prometheus", "--output", place)
    assert done.exit_code == 2
    assert f"cannot write {place}" in done.stderr
    assert sorted(missing.folder.iterdir()) == before


def test_a_folder_that_is_not_there_is_2(missing: PlainSites) -> None:
    place = missing.folder / "absent" / "x.prom"
    done = missing.run("status", "--prometheus", "--output", place)
    assert done.exit_code == 2
    assert "hint: " in done.stderr


def test_one_run_writes_the_page_and_checks(missing: PlainSites) -> None:
    place = missing.folder / "x.prom"
    done = missing.run("status", "--prometheus", "--output", place, "--check")
    assert done.exit_code == 2
    assert done.stdout.startswith("MDCONNECTOR CRITICAL")
    assert place.exists()


@pytest.mark.parametrize("words", [("--output", "/tmp/x"), ("--prometheus", "--json")])
def test_options_that_do_not_go_together_are_usage_errors(
    missing: PlainSites, words: tuple[str, ...]
) -> None:
    assert missing.run("status", *words).exit_code == 2


@pytest.mark.pebble
def test_the_dates_of_the_page_are_those_of_the_json(live: PlainSites) -> None:
    domain = live.run("status", "--json").domain(NAME)
    page = live.run("status", "--prometheus").stdout
    found = dict(
        re.findall(
            r"^mdconnector_certificate_(\w+)_timestamp_seconds\{.*\} (\d+)$", page, re.MULTILINE
        )
    )
    told = {
        "not_after": domain["not_after"],
        "renewal": domain["renew_at"],
        "warning": domain["warn_at"],
    }
    for kind, moment in told.items():
        assert int(found[kind]) == int(_seconds(moment)), kind
    last_success = re.search(r"^mdconnector_domain_last_success\S+ (\d+)$", page, re.MULTILINE)
    assert last_success
    assert int(last_success[1]) == _seconds(domain["last_success"])


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


# --- status NAME ---------------------------------------------------------------------------------


@pytest.mark.pebble
def test_a_named_domain_is_told_in_full(live: PlainSites) -> None:
    done = live.run("status", NAME, "--json")
    domain = done.domain(NAME)
    full = domain["in_full"]
    (certificate,) = domain["certificates"]
    (chain,) = full["chains"]
    assert (chain["key_spec"], chain["names"]) == ("secp256r1", [NAME])
    leaf, *above = chain["links"]
    assert leaf["sha256"] == certificate["sha256"]
    assert above
    assert leaf["issuer"] == above[0]["subject"]
    assert full["account"]["kid"] == "kid-1"
    assert full["account"]["id"].startswith("ACME-")
    assert [run["outcome"] for run in full["runs"]] == ["promoted", "enrolled"]
    assert full["next"]["at"] == domain["renew_at"]
    # no Apache runs, so nobody is to blame for the silence
    assert {one["equals_stored"] for one in full["shown"]} == {None}
    assert domain["served_equals_stored"] is None
    assert "shows no certificate: no connection" in domain["served"]


@pytest.mark.pebble
def test_a_named_domain_in_a_pipe_is_plain_aligned_lines(live: PlainSites) -> None:
    done = live.run("status", NAME)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.isascii()
    head, *lines = done.stdout.splitlines()
    assert re.fullmatch(rf"{NAME}: valid, (89|90) days left", head)
    assert "secp256r1" in lines
    (serial,) = [line for line in lines if line.startswith("    serial ")]
    (until,) = [line for line in lines if line.startswith("    valid until ")]
    assert serial.rindex("  ") == until.rindex("  ")


@pytest.mark.pebble
def test_all_domains_have_no_particulars_and_ask_nobody(live: PlainSites) -> None:
    assert live.run("status", "--json").domain(NAME)["in_full"] is None


def test_without_a_store_a_named_domain_is_a_row(missing: PlainSites) -> None:
    domain = missing.run("status", NAME, "--json").domain(NAME)
    assert (domain["state"], domain["in_full"]) == ("missing", None)
    assert missing.run("status", NAME).stdout.startswith("NAME ")


@pytest.mark.apache
@pytest.mark.pebble
def test_apache_is_asked_what_it_serves(make_apache: MakeApache, trusting_ca: Pebble) -> None:
    apache = make_apache(main_extra=trusting_ca.directives())
    site = apache.write_site("shop", managed_site(NAME, keys="RSA 2048"))
    apache.start()
    assert run("enroll", NAME, config=apache.config).exit_code == 0
    assert run("promote", NAME, config=apache.config).exit_code == 0

    before = run("status", NAME, "--json", config=apache.config).domain(NAME)
    assert before["served_equals_stored"] is False
    assert before["in_full"]["next"]["detail"].endswith("mdconnector promote --all --reload")
    assert {one["equals_stored"] for one in before["in_full"]["shown"]} == {False}

    assert run("promote", NAME, "--reload", config=apache.config).exit_code == 0
    after = run("status", NAME, "--json", config=apache.config).domain(NAME)
    assert after["served_equals_stored"] is True
    shown = after["in_full"]["shown"]
    assert {one["serial"] for one in shown} == {after["certificates"][0]["serial"]}
    assert {one["declared_at"].split(":")[0] for one in shown} == {str(site)}
    plain = run("status", NAME, config=apache.config).stdout
    assert "served  Apache serves it (asked just now)" in plain
    assert ", as in the store" in plain


# --- on a terminal -------------------------------------------------------------------------------

COLOUR = re.compile(r"\x1b\[(\d+;)*[39][0-7](;\d+)*m")


def on_a_terminal(sites: PlainSites, *words: str, **environment: str) -> str:
    code, told = run_on_a_terminal("status", *words, "--sites", str(sites.sites), **environment)
    assert code == 0, told
    return told


@pytest.mark.pebble
def test_on_a_terminal_there_are_bars_signs_and_colours(live: PlainSites) -> None:
    told = on_a_terminal(live)
    assert "\u2713 valid" in told
    assert "\u25cf" in told
    assert COLOUR.search(told)


@pytest.mark.pebble
@pytest.mark.parametrize(
    ("words", "environment"),
    [(("--no-color",), {}), ((), {"NO_COLOR": "1"})],
    ids=["--no-color", "NO_COLOR"],
)
def test_colours_can_be_left_out(
    live: PlainSites, words: tuple[str, ...], environment: dict[str, str]
) -> None:
    told = on_a_terminal(live, *words, **environment)
    assert "\u2713 valid" in told
    assert not COLOUR.search(told)


def test_a_dumb_terminal_gets_the_lines_of_a_pipe(missing: PlainSites) -> None:
    told = on_a_terminal(missing, TERM="dumb")
    assert told.replace("\r\n", "\n") == missing.run("status").stdout


def test_a_terminal_without_unicode_gets_ascii(missing: PlainSites) -> None:
    told = on_a_terminal(missing, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert told.isascii()
    assert "x missing" in told


@pytest.mark.parametrize("words", [("--check",), ("--prometheus",), ("--json",)])
def test_what_machines_read_is_the_same_on_a_terminal(
    missing: PlainSites, words: tuple[str, ...]
) -> None:
    _, told = run_on_a_terminal("status", *words, "--sites", str(missing.sites))
    assert "\x1b" not in told
    assert len(told.splitlines()) == len(missing.run("status", *words).stdout.splitlines())


# --- what it costs -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--check",), ("--prometheus",), ("--json",)])
def test_in_a_pipe_nothing_is_loaded_that_is_not_needed(
    missing: PlainSites, words: tuple[str, ...]
) -> None:
    code = (
        "import sys\n"
        "from mdconnector.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    command = (sys.executable, "-c", code)
    done = run("status", *words, "--sites", missing.sites, command=command)
    loaded = set(done.stderr.split())
    assert "mdconnector.commands.status" in loaded
    heavy = {"rich", "httpx", "josepy", "h11", "ssl", "mdconnector.inquiry"}
    assert not heavy & loaded
    if not words:
        assert not {"mdconnector.check", "mdconnector.particulars", "mdconnector.steps"} & loaded
