"""The command line itself: options and their places, help, usage errors, JSON as documented."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mdconnector import __version__
from tests.e2e.command import CLONE, clean_environment, run
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.parts import Pebble

COMMANDS = ("scan", "enroll", "renew", "promote", "status", "revoke", "account")
NAME, OTHER = "one.example.org", "two.example.org"


def write_site(folder: Path, name: str) -> Path:
    """Make a folder of sites with one managed domain that needs no CA to be looked at."""
    sites = folder / "sites-enabled"
    sites.mkdir(parents=True)
    (sites / "site.conf").write_text(ssl_site(name, {}))
    return sites


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A folder of sites with the domain NAME."""
    return write_site(tmp_path / "first", NAME)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another one, with OTHER."""
    return write_site(tmp_path / "second", OTHER)


def names_in(*arguments: str | Path, **environment: str) -> list[str]:
    """Return whose domains a run shows."""
    done = run(*arguments, "--json", environment=environment)
    assert done.exit_code == 0, done.output
    return [domain["name"] for domain in done.json["domains"]]


# --- options before and after the subcommand, and the environment -------------------------------


def test_a_global_option_may_stand_before_the_subcommand(sites: Path) -> None:
    assert names_in("--sites", sites, "status") == [NAME]


def test_a_global_option_may_stand_after_the_subcommand(sites: Path) -> None:
    assert names_in("status", "--sites", sites) == [NAME]


def test_what_stands_after_the_subcommand_wins(sites: Path, other: Path) -> None:
    assert names_in("--sites", sites, "status", "--sites", other) == [OTHER]


def test_different_options_may_stand_in_both_places(sites: Path, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere"
    done = run("--store", store, "-v", "scan", "--sites", sites)
    assert f"store: {store}" in done.stdout


def test_the_environment_names_the_sites(sites: Path) -> None:
    assert names_in("status", MDCONNECTOR_SITES=str(sites)) == [NAME]


@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_an_option_wins_over_the_environment(sites: Path, other: Path, before: bool) -> None:
    words = ["--sites", str(other), "status"] if before else ["status", "--sites", str(other)]
    assert names_in(*words, MDCONNECTOR_SITES=str(sites)) == [OTHER]


def test_the_environment_names_the_main_file(sites: Path, tmp_path: Path) -> None:
    main = tmp_path / "httpd.conf"
    main.write_text(f"IncludeOptional {sites}/*.conf\n")
    assert names_in("status", MDCONNECTOR_CONFIG=str(main)) == [NAME]
    assert names_in("status", "--config", main) == [NAME]


def test_the_environment_names_the_store(sites: Path, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere"
    environment = {"MDCONNECTOR_STORE": str(store), "MDCONNECTOR_SITES": str(sites)}
    assert f"store: {store}" in run("scan", environment=environment).stdout


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_is_quiet_in_both_places(sites: Path, flag: str, place: str) -> None:
    words = (flag, "status") if place == "before" else ("status", flag)
    assert run("status", "--sites", sites).stdout
    assert run(*words, "--sites", sites).output == ""


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_says_what_was_assumed_in_both_places(sites: Path, place: str) -> None:
    words = ("-v", "status") if place == "before" else ("status", "-v")
    assert "assumed: " not in run("status", "--sites", sites).output
    assert "mdconnector: assumed: ServerRoot " in run(*words, "--sites", sites).stderr


# --- help and version ---------------------------------------------------------------------------


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="no process may dump a core here"
)
def test_no_core_is_dumped() -> None:
    """It would hold the keys; a run that a signal ends with one shows it by its exit status."""
    code = """
import os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from mdconnector import cli
try:
    cli.main()
except SystemExit:
    os.kill(os.getpid(), signal.SIGSEGV)
"""
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code, "--version"], clean_environment()
    )
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)


def run_and_tell_modules(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line; on stderr stand the modules that it has loaded."""
    code = (
        "import sys\n"
        "from mdconnector.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=clean_environment(),
        cwd=CLONE,
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_imports_nothing_but_click() -> None:
    done = run_and_tell_modules("--version")
    assert (done.returncode, done.stdout) == (0, f"mdconnector, version {__version__}\n")
    loaded = set(done.stderr.split())
    ours = {module for module in loaded if module.split(".")[0] == "mdconnector"}
    assert ours == {"mdconnector", "mdconnector.cli", "mdconnector.errors", "mdconnector.output"}
    foreign = {"cryptography", "josepy", "httpx", "rich", "h11", "ssl"}
    assert not foreign & {module.split(".")[0] for module in loaded}
    assert "click" in loaded


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("scan", {"outcomes.scan", "scan_text"}),
        # which of the runs that are remembered has brought certificates is told in renew's words
        ("status", {"outcomes.order", "outcomes.status", "status_text"}),
    ],
)
def test_what_other_commands_tell_is_not_loaded(
    sites: Path, command: str, needed: set[str]
) -> None:
    done = run_and_tell_modules(command, "--sites", sites)
    ours = {one.removeprefix("mdconnector.") for one in done.stderr.split()}
    assert {one for one in ours if one.startswith("outcomes.") or one.endswith("_text")} == needed
    assert "logging" not in ours, "it takes long to load, and there is nothing to warn of"


def test_scan_does_not_load_what_decides_about_renewal(sites: Path) -> None:
    loaded = set(run_and_tell_modules("scan", "--sites", sites).stderr.split())
    assert "mdconnector.store.live" in loaded
    assert not {"mdconnector.renewal", "mdconnector.store.staged"} & loaded


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_subcommand_and_the_exit_codes(flag: str) -> None:
    done = run(flag)
    assert (done.exit_code, done.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)
    for words in ("Exit codes:", "75 another run", "--version"):
        assert words in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_and_every_option(command: str) -> None:
    done = run(command, "-h")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"\n    mdconnector {command} " in done.stdout, "an example to copy"
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", done.stdout))
    assert {*_OPTIONS["all"], *_OPTIONS[command]} <= shown
    for line in done.stdout.splitlines():
        assert len(line) <= 100


_ORDERING = {"--all", "--force", "--dry-run", "--wait", "--jobs", "--lock-wait"}
_OPTIONS = {
    "all": {
        *("--config", "--sites", "--store", "--httpd", "--quiet", "--verbose", "--no-color"),
        *("--help", "--json"),
    },
    "scan": set(),
    "enroll": _ORDERING,
    "renew": {*_ORDERING, "--splay"},
    "promote": {"--all", "--reload", "--reload-command", "--force", "--lock-wait"},
    "status": set(),
    "revoke": {"--serial", "--reason", "--yes", "--lock-wait"},
    "account": set(),
}


def test_no_subcommand_at_all_is_the_help_and_exit_2() -> None:
    done = run()
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == run("-h").stdout


def test_help_reads_no_configuration(tmp_path: Path) -> None:
    nowhere = {"MDCONNECTOR_CONFIG": str(tmp_path / "nothing.conf")}
    for command in COMMANDS:
        assert run(command, "-h", environment=nowhere).exit_code == 0


# --- usage errors -------------------------------------------------------------------------------

WRONG = {
    "no such subcommand": (("renow",), "renow", "mdconnector -h"),
    "no such option": (("renew", "--frob"), "--frob", "mdconnector renew -h"),
    "no such global option": (("--frob", "renew"), "--frob", "mdconnector -h"),
    "an option without its value": (("scan", "--store"), "--store", "mdconnector -h"),
    "a wait that is no number": (("renew", "--wait", "x"), "--wait", "mdconnector renew -h"),
    "a wait below zero": (("renew", "--wait", "-1"), "--wait", "mdconnector renew -h"),
    "no jobs": (("enroll", "--jobs", "0"), "--jobs", "mdconnector enroll -h"),
    "too many jobs": (("enroll", "--jobs", "65"), "--jobs", "mdconnector enroll -h"),
    "a lock wait below zero": (
        ("promote", "--lock-wait", "-1"),
        "--lock-wait",
        "mdconnector promote -h",
    ),
    "enroll neither NAMEs nor --all": (
        ("enroll",),
        "enroll takes NAMEs, or --all",
        "mdconnector enroll -h",
    ),
    "renew neither NAMEs nor --all": (("renew",), "renew takes NAMEs", "mdconnector renew -h"),
    "promote neither NAMEs nor --all": (
        ("promote", "--reload"),
        "promote takes NAMEs",
        "mdconnector promote -h",
    ),
    "NAMEs and --all": (
        ("renew", NAME, "--all"),
        "renew takes either NAMEs or --all, not both",
        "mdconnector renew -h",
    ),
    "--force with --all": (
        ("renew", "--all", "--force"),
        "--force works with NAMEs only",
        "mdconnector renew NAME --force",
    ),
}


@pytest.mark.parametrize(("arguments", "says", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_usage_is_exit_2_with_what_is_wrong_and_where_to_look(
    sites: Path, arguments: tuple[str, ...], says: str, hint: str
) -> None:
    done = run(*arguments, environment={"MDCONNECTOR_SITES": str(sites)})
    assert (done.exit_code, done.stdout) == (2, "")
    error, line = done.stderr.splitlines()
    assert error.startswith("mdconnector: error: ")
    assert says in error
    assert line == f"mdconnector: hint: type '{hint}'"
    assert not (sites.parent / "md").exists()


IN_JSON = {title: wrong for title, wrong in WRONG.items() if wrong[1] != "--store"}
"""but where --json would be taken for the missing value"""


@pytest.mark.parametrize(("arguments", "says", "hint"), IN_JSON.values(), ids=IN_JSON)
def test_wrong_usage_is_one_object_in_json(
    sites: Path, arguments: tuple[str, ...], says: str, hint: str
) -> None:
    done = run(*arguments, "--json", environment={"MDCONNECTOR_SITES": str(sites)})
    assert (done.exit_code, done.stderr) == (2, "")
    assert set(done.json) == {"version", "command", "error"}
    assert done.json["version"] == 1
    assert done.json["command"] == next((one for one in arguments if one in COMMANDS), None)
    error = done.json["error"]
    assert (error["type"], error["hint"]) == ("usage", f"type '{hint}'")
    assert says in error["detail"]


def test_a_reader_that_goes_away_is_no_error_of_ours(sites: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "mdconnector", "scan", "--sites", str(sites)],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 0


def test_a_pipe_gets_plain_lines(sites: Path) -> None:
    for command in (("scan",), ("status",)):
        done = run(*command, "--sites", sites)
        assert done.stdout.isascii()
        assert "\x1b" not in done.stdout


def test_module_and_entry_point_are_one_command(sites: Path) -> None:
    by_code = [sys.executable, "-c", "from mdconnector.cli import main; main()"]
    first = run("status", "--sites", sites)
    second = run("status", "--sites", sites, command=by_code)
    assert (first.stdout, first.exit_code) == (second.stdout, second.exit_code)


# --- JSON, key by key ---------------------------------------------------------------------------

FACTS = {"key_spec", "not_before", "not_after", "serial", "sha256", "issuer"}
FINDING = {"code", "severity", "at", "message", "hint", "domain"}
ERROR = {"type", "detail", "hint"}
TIMES = {"not_before", "not_after", "renew_at", "next_try", "since"}
SECTIONS = {"scan": "scan", "enroll": "enroll, renew", "renew": "enroll, renew"}


def documented_keys(command: str) -> set[str]:
    """Return the keys of `domains[]` that docs/json.md has a row for."""
    text = (CLONE / "docs" / "json.md").read_text()
    heading = SECTIONS.get(command, command)
    (section,) = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    table = section.split("| key of `domains[]` | |", 1)[1].split("\n\n", 1)[0]
    first_cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    return {key for cell in first_cells for key in re.findall(r"`([a-z_]+)(?:\[\])?`", cell)}


def documented_words(command: str, key: str) -> set[str]:
    """Return the words that docs/json.md lists in the row of a key."""
    text = (CLONE / "docs" / "json.md").read_text()
    section = text.split(f"## {SECTIONS.get(command, command)}\n", 1)[1]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `{key}` |")][:1]
    return set(re.findall(r"`([a-z-]+)`", row.split("|", 2)[2]))


def every_member(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield key, member
            yield from every_member(member)
    elif isinstance(value, list):
        for member in value:
            yield from every_member(member)


def assert_well_formed(document: dict[str, Any], command: str, *more: str) -> None:
    """Check what holds for every document: the head, the keys of each domain, times, numbers."""
    assert set(document) == {"version", "command", "domains", *more}
    assert (document["version"], document["command"]) == (1, command)
    for domain in document["domains"]:
        assert set(domain) == documented_keys(command)
    for key, member in every_member(document):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", key)
        if key in TIMES and member is not None:
            datetime.strptime(member, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if key in {"error", "last_error"} and member is not None:
            assert set(member) == ERROR
        if key == "certificates":
            assert all(set(one) == FACTS for one in member)
        if key == "serial":
            assert re.fullmatch(r"[1-9a-f][0-9a-f]*", member)
        if key == "sha256":
            assert re.fullmatch(r"[0-9a-f]{64}", member)
        if key == "findings":
            assert all(set(one) == FINDING for one in member)


@pytest.fixture(scope="module")
def place(session_folder: Path, counting_ca: Pebble) -> PlainSites:
    """One domain that is live, one that is staged, one that fails, and one broken file."""
    made = PlainSites(session_folder / "documented")
    made.write("live", ssl_site("live.example.org", settings_for(counting_ca)))
    assert made.run("enroll", "--all").exit_code == 0
    assert made.run("promote", "--all").exit_code == 0
    made.write("staged", ssl_site("staged.example.org", settings_for(counting_ca)))
    assert made.run("enroll", "--all").exit_code == 0
    refused = settings_for(
        counting_ca, {"MDExternalAccountBinding": f"kid-9 {counting_ca.eab_keys['kid-1']}"}
    )
    made.write("failing", ssl_site("failing.example.org", refused))
    made.write("zz", "<VirtualHost *:443>\nServerName hidden.example.org\n")
    return made


@pytest.mark.pebble
def test_the_json_of_scan_is_as_documented(place: PlainSites) -> None:
    done = place.run("scan", "--json")
    assert_well_formed(done.json, "scan", "store", "findings")
    assert done.json["store"] == str(place.store)
    domain = done.domain("live.example.org")
    assert domain["names"] == ["live.example.org"]
    assert domain["key_specs"] == ["secp256r1"]
    assert (domain["has_eab"], domain["used"], domain["static"]) == (True, True, False)
    assert domain["renew_mode"] in documented_words("scan", "renew_mode")
    assert domain["renewed_by"] == "mdconnector"
    assert re.fullmatch(r"/.*/live\.conf:1", domain["declared_at"])
    (vhost,) = domain["vhosts"]
    assert set(vhost) == {"server_name", "addresses", "ssl", "declared_at"}
    assert vhost["addresses"] == ["*:443"]
    severities = {one["severity"] for one in done.json["findings"]}
    assert "error" in severities <= {"error", "warning", "info"}


@pytest.mark.pebble
@pytest.mark.parametrize("command", ["enroll", "renew"])
def test_the_json_of_enroll_and_renew_is_as_documented(place: PlainSites, command: str) -> None:
    done = place.run(command, "--all", "--json")
    assert done.exit_code == 1
    assert_well_formed(done.json, command, "findings")
    assert [one["code"] for one in done.json["findings"]] == ["unclosed-section"]
    outcomes = {one["name"]: one["outcome"] for one in done.json["domains"]}
    assert outcomes["live.example.org"] == "current"
    assert outcomes["staged.example.org"] == "staged"
    assert outcomes["failing.example.org"] in {"failed", "backing-off"}
    assert set(outcomes.values()) <= documented_words(command, "outcome")
    assert done.domain("live.example.org")["certificates"][0]["key_spec"] == "secp256r1"
    failing = done.domain("failing.example.org")
    assert failing["error"]["type"].startswith("urn:ietf:params:acme:error:")
    assert failing["next_try"] is not None
    assert set(failing["reasons"]) <= documented_words(command, "reasons[]")


@pytest.mark.pebble
def test_the_json_of_status_is_as_documented(place: PlainSites) -> None:
    place.run("renew", "--all")
    done = place.run("status", "--json")
    assert done.exit_code == 0
    assert_well_formed(done.json, "status", "findings")
    assert [one["code"] for one in done.json["findings"]] == ["unclosed-section"]
    states = {one["name"]: one["state"] for one in done.json["domains"]}
    assert states["live.example.org"] == "valid"
    assert set(states.values()) <= documented_words("status", "state") | {"unknown"}
    live = done.domain("live.example.org")
    assert live["days_left"] in {89, 90}
    assert live["staged"] is live["pending"] is live["last_error"] is None
    staged = done.domain("staged.example.org")["staged"]
    assert set(staged) == {"since", "certificates"}
    assert set(staged["certificates"][0]) == FACTS
    failing = done.domain("failing.example.org")
    assert failing["errors"] >= 1
    assert failing["last_error"]["hint"]


@pytest.mark.pebble
def test_the_json_of_promote_is_as_documented(place: PlainSites, parts_folder: Path) -> None:
    copy = place.copy_to(parts_folder / "copy")
    done = copy.run("promote", "--all", "--json")
    assert done.exit_code == 1, "for the broken file alone"
    assert_well_formed(done.json, "promote", "reload", "findings")
    outcomes = {one["name"]: one["outcome"] for one in done.json["domains"]}
    assert outcomes["staged.example.org"] == "promoted"
    assert set(outcomes.values()) <= documented_words("promote", "outcome")
    assert {one["served"] for one in done.json["domains"]} <= documented_words("promote", "served")
    assert done.json["reload"] == "not-requested"


@pytest.mark.pebble
def test_the_json_of_a_dry_run_is_that_of_the_real_one(place: PlainSites) -> None:
    done = place.run("enroll", "failing.example.org", "--dry-run", "--json")
    assert_well_formed(done.json, "enroll", "findings")
    assert done.domain("failing.example.org")["outcome"] == "planned"


@pytest.mark.pebble
def test_json_is_all_that_stands_on_stdout_even_under_quiet(place: PlainSites) -> None:
    plain = place.run("status", "--json")
    quiet = place.run("-q", "status", "--json")
    assert json.loads(quiet.stdout) == json.loads(plain.stdout)
    assert plain.stderr == quiet.stderr == ""
