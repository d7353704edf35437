"""Bad input of every kind: what is said, with which exit code, and that nothing else suffers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, Finished, run
from tests.e2e.estate import live_leaf, managed_site, served_leaf
from tests.e2e.plain_sites import PlainSites, line_of, settings_for, ssl_site
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, Pebble, free_port

pytestmark = pytest.mark.pebble

LIVE, GOOD = "live.example.org", "good.example.org"
HANDS_OFF = ("domains", "accounts", "archive", "md_store.json")
"""what no run that only orders may touch"""
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture(scope="module")
def established(session_folder: Path, counting_ca: Pebble) -> PlainSites:
    """One domain that is live, with an account at the CA."""
    place = PlainSites(session_folder / "established")
    place.write("live", ssl_site(LIVE, settings_for(counting_ca)))
    assert place.run("enroll", LIVE).exit_code == 0
    assert place.run("promote", LIVE).exit_code == 0
    return place


@pytest.fixture
def place(parts_folder: Path, established: PlainSites) -> PlainSites:
    """A copy of it for one test."""
    return established.copy_to(parts_folder / "place")


def untouchable(place: PlainSites) -> dict[str, object]:
    """Return everything about what must not change; a folder's link count, inode and all."""
    seen = snapshot(place.store)
    return {path: seen[path] for path in seen if path.split("/")[0] in HANDS_OFF}


def assert_speaks_plainly(done: Finished) -> None:
    assert "Traceback" not in done.output
    for line in done.stderr.splitlines():
        assert "Error(" not in line, "the class of an exception is nothing for people"


# --- mistakes in what one domain is configured with ---------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one domain, and what must be said of it."""

    name: str
    says: tuple[str, ...]
    changes: Mapping[str, str | None] = field(default_factory=dict)
    inside: tuple[str, ...] = ()
    blames: str | None = None
    """the directive whose file:line must be named"""
    asks_ca: bool = False
    """only the CA can know that it is wrong"""

    @property
    def domain(self) -> str:
        return f"{self.name}.example.org"


EAB, OTHER_EAB = "MDExternalAccountBinding", "kid-2 {kid-2}"
MISTAKES = (
    Mistake(
        "eab-missing",
        ("asks for an external account binding", "set MDExternalAccountBinding", "put it beside"),
        {EAB: None},
        blames="MDCertificateAuthority",
        asks_ca=True,
    ),
    Mistake(
        "kid-unknown",
        ("does not know the key ID", "mdconnector renew kid-unknown.example.org"),
        {EAB: "kid-9 {kid-1}"},
        blames=EAB,
        asks_ca=True,
    ),
    Mistake(
        "hmac-wrong",
        ("does not belong to the key ID", "mdconnector renew hmac-wrong.example.org"),
        {EAB: "kid-2 {kid-1}"},
        blames=EAB,
        asks_ca=True,
    ),
    Mistake(
        "hmac-garbled",
        ("the HMAC is not base64url", "copy it again"),
        {EAB: "kid-1 ab+/cd=="},
        blames=EAB,
    ),
    Mistake(
        "eab-file-missing",
        ("/nonexistent/eab.json: no such file", "check the path"),
        {EAB: "/nonexistent/eab.json"},
        blames=EAB,
    ),
    Mistake(
        "eab-file-garbled",
        ("garbled.json", '{"kid": "...", "hmac": "..."}'),
        {EAB: "{folder}/garbled.json"},
        blames=EAB,
    ),
    Mistake(
        "eab-without-ca",
        ("no MDCertificateAuthority", "it would go to Let's Encrypt", "name the CA"),
        {"MDCertificateAuthority": None},
        blames=EAB,
    ),
    Mistake(
        "no-contact",
        ("no contact address", "write 'MDContactEmail hostmaster@example.org'"),
        {"MDContactEmail": None, EAB: OTHER_EAB},
        blames="<MDomainSet",
        asks_ca=True,
    ),
    Mistake(
        "no-agreement",
        ("MDCertificateAgreement is not set", "write 'MDCertificateAgreement accepted'"),
        {"MDCertificateAgreement": None, EAB: OTHER_EAB},
        blames="MDCertificateAuthority",
        asks_ca=True,
    ),
    Mistake(
        "key-type-unknown",
        ("'ED25519' is not a kind of key", "use RSA 2048"),
        {"MDPrivateKeys": "ED25519"},
        blames="MDPrivateKeys",
    ),
    Mistake(
        "key-too-small",
        ("'1024' is not a size", "use 2048, 3072 or 4096"),
        {"MDPrivateKeys": "RSA 1024"},
        blames="MDPrivateKeys",
    ),
    Mistake(
        "ca-url-garbled",
        ("'ftp://ca/dir' is neither a URL", "write the CA's directory URL"),
        {"MDCertificateAuthority": "ftp://ca/dir"},
        blames="MDCertificateAuthority",
    ),
    Mistake(
        "ca-untrusted",
        ("localhost is not trusted", "MDCACertificateFile", "put it beside"),
        {"MDCACertificateFile": None},
        blames="MDCertificateAuthority",
        asks_ca=True,
    ),
    Mistake(
        "inside-vhost",
        (
            "MDMustStaple in a <VirtualHost> has no effect in mod_md",
            "move it above <VirtualHost>, or into <MDomain inside-vhost.example.org>",
        ),
        inside=("MDMustStaple on",),
        blames="MDMustStaple",
    ),
)
DOWN = ("down-1.example.org", "down-2.example.org", "down-3.example.org")


@dataclass(frozen=True)
class Estate:
    """Many sites with one mistake each beside good ones, and what became of them in one run."""

    place: PlainSites
    plain: Finished
    as_json: Finished
    orders: int
    before: dict[str, object]
    after: dict[str, object]

    def file(self, name: str) -> Path:
        return self.place.sites / f"{name}.conf"

    def line(self, start: str) -> str:
        """Return the one line of stderr that begins so."""
        (found,) = [line for line in self.plain.stderr.splitlines() if line.startswith(start)]
        return found


@pytest.fixture(scope="module")
def estate(session_folder: Path, counting_ca: Pebble, established: PlainSites) -> Estate:
    place = established.copy_to(session_folder / "estate")
    (place.folder / "garbled.json").write_text("{kid: no-json}")
    values = {"{folder}": str(place.folder)} | {
        f"{{{kid}}}": key for kid, key in counting_ca.eab_keys.items()
    }
    for mistake in MISTAKES:
        changes = {name: _fill(value, values) for name, value in mistake.changes.items()}
        settings = settings_for(counting_ca, changes)
        place.write(mistake.name, ssl_site(mistake.domain, settings, inside=mistake.inside))
    nowhere = {"MDCertificateAuthority": f"https://localhost:{free_port()}/dir"}
    for name in DOWN:
        place.write(name, ssl_site(name, settings_for(counting_ca, nowhere)))
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    other = place.copy_to(session_folder / "estate-json")
    before, orders = untouchable(place), counting_ca.orders
    plain = place.run("renew", "--all")
    orders = counting_ca.orders - orders
    after = untouchable(place)
    return Estate(place, plain, other.run("renew", "--all", "--json"), orders, before, after)


def _fill(value: str | None, values: Mapping[str, str]) -> str | None:
    for placeholder, text in values.items():
        value = value and value.replace(placeholder, text)
    return value


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_one_line_with_the_domain_the_place_and_what_to_do(
    estate: Estate, mistake: Mistake
) -> None:
    line = estate.line(f"{mistake.domain}: failed: ")
    for words in mistake.says:
        assert words in line
    if mistake.blames:
        assert line_of(estate.file(mistake.name), mistake.blames) in line


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_an_error_in_json_too(estate: Estate, mistake: Mistake) -> None:
    entry = estate.as_json.domain(mistake.domain)
    assert entry["outcome"] == "failed"
    told = f"{entry['error']['detail']}; {entry['error']['hint']}"
    for words in mistake.says:
        assert words in told


def test_matrix_x5_many_mistakes_are_exit_1_and_all_other_domains_are_done(estate: Estate) -> None:
    for done in (estate.plain, estate.as_json):
        assert done.exit_code == 1
        assert_speaks_plainly(done)
    assert f"{GOOD}: enrolled: " in estate.plain.stdout
    assert f"{LIVE}: current: " in estate.plain.stdout
    assert estate.as_json.domain(GOOD)["outcome"] == "enrolled"
    assert (estate.place.store / "staging" / GOOD / "pubcert.secp256r1.pem").exists()
    assert estate.orders == 1, "one for the good domain, none for any of the others"
    failed = len(estate.plain.stderr.splitlines())
    assert failed == len(MISTAKES) + 1, "a line for each, and one for the CA that is down"


def test_many_mistakes_change_nothing_that_was_there(estate: Estate) -> None:
    assert estate.before, "there is a live set and an account to lose"
    assert any("privkey" in path for path in estate.before)
    assert estate.after == estate.before


def test_a_ca_that_is_down_is_one_line_for_all_its_domains(estate: Estate) -> None:
    line = estate.line(f"{DOWN[0]} and 2 more: failed: ")
    assert "no answer from localhost while reading the CA's directory" in line
    assert "see that this host can reach localhost" in line
    assert not any(name in estate.plain.stderr for name in DOWN[1:])
    for name in DOWN:
        assert estate.as_json.domain(name)["error"]["type"] == "connection"


def test_a_mistake_in_the_directives_costs_no_request(estate: Estate, counting_ca: Pebble) -> None:
    names = [mistake.domain for mistake in MISTAKES if not mistake.asks_ca]
    with counting_ca.recorded() as requests:
        done = estate.place.run("enroll", *names)
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == len(names)
    assert requests == []


def test_a_missing_binding_is_never_sent_to_a_ca_that_nobody_named(estate: Estate) -> None:
    error = estate.as_json.domain("eab-without-ca.example.org")["error"]
    assert error["type"] == "configuration"
    assert "letsencrypt.org" not in estate.plain.output


# --- errors in a file that may hide domains -----------------------------------------------------

UNCLOSED = "# nothing above is wrong\n<VirtualHost *:443>\nServerName hidden.example.org\n"


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read to its end, and the line to blame."""

    text: str
    line: int
    says: tuple[str, ...]


BROKEN = {
    "unclosed section": Broken(UNCLOSED, 2, ("<VirtualHost> is not closed", "add </VirtualHost>")),
    "tag that closes nothing": Broken("\n</VirtualHost>\n", 2, ("VirtualHost", "close")),
    "Include of what is not there": Broken(
        "Include /nonexistent/*.inc\n", 1, ("/nonexistent", "IncludeOptional")
    ),
    "Error directive": Broken("\n\nError not yet configured\n", 3, ("not yet configured",)),
    "address that is none": Broken(
        "<VirtualHost *:x>\nServerName b.example.org\n</VirtualHost>\n", 1, ("'*:x'", "*:443")
    ),
    "managed domain without a name": Broken("MDomain\n", 1, ("MDomain", "name")),
    "managed domain that is a path": Broken(
        "MDomain ../../etc/passwd\n", 1, ("'../../etc/passwd' cannot be in a certificate",)
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_matrix_a2_an_error_that_hides_domains_is_told_and_counts_while_all_others_are_done(
    place: PlainSites, counting_ca: Pebble, broken: Broken
) -> None:
    file = place.write("broken", broken.text)
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    before = untouchable(place)

    done = place.run("renew", "--all")

    assert done.exit_code == 1
    assert_speaks_plainly(done)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{file}:{broken.line}: ")
    for words in broken.says:
        assert words in line
    assert f"{GOOD}: enrolled: " in done.stdout
    assert untouchable(place) == before


@pytest.mark.parametrize("command", ["enroll", "renew", "promote"])
def test_an_error_that_hides_domains_is_a_finding_in_the_json_of_every_command_that_works(
    place: PlainSites, command: str
) -> None:
    file = place.write("broken", UNCLOSED)
    done = place.run(command, "--all", "--json")
    assert done.exit_code == 1
    (finding,) = done.json["findings"]
    assert finding["at"] == f"{file}:2"
    assert (finding["code"], finding["severity"]) == ("unclosed-section", "error")
    assert done.stderr == ""
    assert [one["name"] for one in done.json["domains"]] == [LIVE]


def test_an_error_elsewhere_does_not_fail_what_was_asked_for_by_name(place: PlainSites) -> None:
    file = place.write("broken", UNCLOSED)
    done = place.run("enroll", LIVE)
    assert done.exit_code == 0
    assert done.stderr.startswith(f"{file}:2: "), "it is told all the same"


def test_a_name_that_is_not_found_tells_which_error_may_hide_it(place: PlainSites) -> None:
    file = place.write("broken", UNCLOSED)
    done = place.run("enroll", "hidden-too.example.org")
    assert done.exit_code == 2
    assert f"it may be hidden by {file}:2: <VirtualHost> is not closed" in done.stderr


def test_an_error_within_a_domain_s_own_lines_is_that_domain_s_failure(
    place: PlainSites, counting_ca: Pebble
) -> None:
    name = "half.example.org"
    text = ssl_site(name, settings_for(counting_ca)).replace("</VirtualHost>\n", "")
    file = place.write("half", text)
    done = place.run("renew", "--all")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}: failed: {line_of(file, '<VirtualHost')}: ")


def test_status_tells_of_a_file_that_may_hide_domains_and_the_check_warns(
    place: PlainSites,
) -> None:
    assert place.run("status", "--check").exit_code == 0
    file = place.write("broken", UNCLOSED)
    done = place.run("status")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"{file}:2: <VirtualHost> is not closed")
    checked = place.run("status", "--check")
    assert checked.exit_code == 1
    assert checked.stdout.startswith("MDCONNECTOR WARNING - ")
    assert f"WARNING {file}:2: <VirtualHost> is not closed" in checked.stdout
    named = place.run("status", LIVE, "--check")
    assert (named.exit_code, named.stderr) == (0, ""), "with NAMEs only these are judged"


def test_quiet_tells_a_broken_file_when_it_begins_when_it_changes_and_when_it_ends(
    place: PlainSites,
) -> None:
    def quiet(command: str = "renew") -> tuple[int, str]:
        done = place.run("-q", command, "--all")
        return done.exit_code, done.output

    assert quiet() == (0, "")
    file = place.write("broken", UNCLOSED)
    code, told = quiet()
    assert code == 1
    assert told.startswith(f"{file}:2: <VirtualHost> is not closed")
    before = snapshot(place.store)
    assert quiet() == (1, ""), "it lasts, and is still a failure"
    assert quiet("promote") == (1, ""), "the other half of the cron line knows that it was told"
    assert snapshot(place.store) == before, "what is not told again is not written again"

    place.write("broken", f"\n{UNCLOSED}")
    assert quiet()[1].startswith(f"{file}:3: ")
    file.unlink()
    assert quiet() == (0, f"{file}: mended: it can be read again\n")
    assert quiet() == (0, "")


def test_quiet_tells_a_broken_file_again_after_a_day(place: PlainSites) -> None:
    place.write("broken", UNCLOSED)
    assert place.run("-q", "renew", "--all").stderr
    assert not place.run("-q", "renew", "--all").stderr
    note = place.store / "mdconnector" / "told.json"
    told = json.loads(note.read_text())
    told["files"][0]["at"] = "2020-01-01T00:00:00Z"
    note.write_text(json.dumps(told))
    assert place.run("-q", "renew", "--all").stderr
    assert not place.run("-q", "renew", "--all").stderr


def test_quiet_tells_a_mistake_of_a_domain_once_and_when_it_is_mended(
    place: PlainSites, counting_ca: Pebble
) -> None:
    wrong = settings_for(counting_ca, {"MDPrivateKeys": "ED25519"})
    place.write("live", ssl_site(LIVE, wrong))
    first = place.run("-q", "renew", "--all")
    assert (first.exit_code, first.stderr.startswith(f"{LIVE}: failed: ")) == (1, True)
    again = place.run("-q", "renew", "--all")
    assert (again.exit_code, again.output) == (1, "")
    place.write("live", ssl_site(LIVE, settings_for(counting_ca)))
    mended = place.run("-q", "renew", "--all")
    assert (mended.exit_code, mended.output) == (
        0,
        f"{LIVE}: mended: it can be worked on again\n",
    )


def test_a_damaged_memory_of_what_was_told_stops_nothing(place: PlainSites) -> None:
    place.write("broken", UNCLOSED)
    (place.store / "mdconnector" / "told.json").write_text('{"files": 7}')
    done = place.run("-q", "renew", "--all")
    assert done.exit_code == 1
    assert "told.json: damaged" in done.stderr
    assert "<VirtualHost> is not closed" in done.stderr


# --- what cannot even begin: exit 2 -------------------------------------------------------------

UNMANAGED = "plain.example.org"


@dataclass(frozen=True)
class Refused:
    """A command line that asks for what cannot be."""

    arguments: tuple[str, ...]
    says: tuple[str, ...]
    kind: str = "usage"


REFUSED = {
    "no such domain": Refused(
        ("enroll", "liwe.example.org"),
        ("there is no managed domain 'liwe.example.org'", f"the nearest are {LIVE}"),
    ),
    "one of several names": Refused(
        ("renew", LIVE, "zzz.test"), ("there is no managed domain 'zzz.test'", "mdconnector scan")
    ),
    "promote": Refused(("promote", "zzz.test"), ("no managed domain 'zzz.test'",)),
    "status": Refused(("status", "zzz.test"), ("no managed domain 'zzz.test'",)),
    "scan": Refused(("scan", "zzz.test"), ("no managed domain 'zzz.test'",)),
    "a path": Refused(("enroll", "../../etc/passwd"), ("'../../etc/passwd' is not a name",)),
    "an absolute path": Refused(("promote", "/etc/shadow"), ("'/etc/shadow' is not a name",)),
    "dots": Refused(("renew", ".."), ("'..' is not a name", "mdconnector scan")),
    "nothing": Refused(("renew", ""), ("'' is not a name",)),
    "control characters": Refused(("enroll", "a\x1b[31m.org"), ("is not a name",)),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_name_that_is_none_is_exit_2_and_nothing_is_done(
    place: PlainSites, counting_ca: Pebble, refused: Refused, as_json: bool
) -> None:
    before = snapshot(place.folder)
    with counting_ca.recorded() as requests:
        done = place.run(*refused.arguments, *(["--json"] if as_json else []))
    assert done.exit_code == 2
    assert_error(done, "usage", refused.says, as_json=as_json)
    assert requests == []
    assert snapshot(place.folder) == before
    assert "\x1b" not in done.output


def assert_error(
    done: Finished, kind: str, says: tuple[str, ...], *, as_json: bool = False
) -> None:
    """Look for the one error of a run: two lines on stderr, or one JSON object without domains."""
    assert_speaks_plainly(done)
    if as_json:
        assert done.stderr == ""
        assert set(done.json) == {"version", "command", "error"}
        assert (done.json["error"]["type"], done.json["command"]) == (kind, done.arguments[0])
        told = f"{done.json['error']['detail']} {done.json['error']['hint']}"
    else:
        assert done.stdout == ""
        assert done.stderr.startswith("mdconnector: error: ")
        assert "\nmdconnector: hint: " in done.stderr
        told = done.stderr
    for words in says:
        assert words in told


@pytest.mark.parametrize("command", ["scan", "enroll", "renew", "promote", "status"])
def test_a_name_that_is_served_but_not_managed_says_which_line_to_add(
    place: PlainSites, command: str
) -> None:
    text = (
        f"# a site\n\n<VirtualHost *:443>\nServerName {UNMANAGED}\nSSLEngine on\n</VirtualHost>\n"
    )
    file = place.write("shop", text)
    done = place.run(command, UNMANAGED, "--json")
    assert done.exit_code == 2
    error = done.json["error"]
    assert f"{error['detail']}; {error['hint']}" == (
        f"{UNMANAGED} is served by {file}:3 but not managed; add 'MDomain {UNMANAGED}' above it"
    )


@pytest.mark.parametrize("as_json", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize("command", ["scan", "enroll", "renew", "promote", "status"])
def test_matrix_a1_a_configuration_that_is_not_there_is_exit_2(
    parts_folder: Path, command: str, as_json: bool
) -> None:
    place = PlainSites(parts_folder / "empty")
    selection = ["--all"] if command in {"enroll", "renew", "promote"} else []
    more = ["--json"] if as_json else []
    missing = parts_folder / "nothing.conf"
    done = place.run(command, *selection, *more, config=missing)
    assert done.exit_code == 2
    assert_error(done, "configuration", (f"{missing}: no such file",), as_json=as_json)
    assert not place.store.exists()


@pytest.mark.parametrize("what", ["missing", "a file", "a folder"])
def test_matrix_a1_a_beginning_of_the_wrong_kind_is_exit_2_with_its_path(
    parts_folder: Path, what: str
) -> None:
    place = PlainSites(parts_folder / "empty")
    if what == "a folder":
        done = place.run("renew", "--all", config=place.sites)
        assert_error(done, "configuration", (str(place.sites),))
    else:
        place.sites = parts_folder / "wrong"
        if what == "a file":
            place.sites.write_text("")
        done = place.run("renew", "--all")
        assert_error(done, "configuration", (str(place.sites),))
    assert done.exit_code == 2


@as_root
def test_matrix_a1_a_configuration_that_may_not_be_read_is_exit_2(parts_folder: Path) -> None:
    place = PlainSites(parts_folder / "secret")
    config = parts_folder / "secret.conf"
    config.write_text("")
    config.chmod(0o600)
    done = place.run("scan", config=config, user=NOBODY)
    assert done.exit_code == 2
    assert_error(done, "configuration", (f"{config}: ", "who may read it"))


@as_root
def test_a_site_that_may_not_be_read_is_told_with_its_path(place: PlainSites) -> None:
    file = place.write("secret", ssl_site("secret.example.org", {}))
    file.chmod(0o600)
    place.give_to(NOBODY, but=file)
    done = place.run("renew", "--all", user=NOBODY)
    assert done.exit_code == 1
    assert f"cannot include {file}" in done.stderr
    assert f"{LIVE}: current: " in done.stdout


# --- stores that must not be used: exit 3 -------------------------------------------------------


def _not_writable(store: Path) -> None:
    store.chmod(0o550)


def _of_another_user(store: Path) -> None:
    os.chown(store, 0, 0)
    store.chmod(0o755)


def _unreadable_key(store: Path) -> None:
    (store / "md_store.json").chmod(0)


def _broken_key(store: Path) -> None:
    (store / "md_store.json").write_text("{")


def _key_is_gone(store: Path) -> None:
    (store / "md_store.json").unlink()


def _unknown_version(store: Path) -> None:
    file = store / "md_store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "store": {"version": 9.0}}))


def _is_a_file(store: Path) -> None:
    shutil.rmtree(store)
    store.write_text("no store")


def _is_a_dangling_link(store: Path) -> None:
    shutil.rmtree(store)
    store.symlink_to("/nonexistent/store")


def _own_folder_is_a_link(store: Path) -> None:
    (store / "mdconnector").rename(store / "elsewhere")
    (store / "mdconnector").symlink_to("elsewhere")


def _own_folder_is_open(store: Path) -> None:
    (store / "mdconnector").chmod(0o777)


def _domains_is_a_file(store: Path) -> None:
    (store / "domains").rename(store / "was-domains")
    (store / "domains").write_text("")


Damage = Callable[[Path], None]
UNSAFE: dict[str, tuple[Damage, str, tuple[str, ...]]] = {
    "not writable": (_not_writable, "", ("the store cannot be written to", "chmod u+rwx")),
    "another user's": (_of_another_user, "", ("belongs to uid 0", "sudo")),
    "md_store.json not readable": (_unreadable_key, "/md_store.json", ("denied",)),
    "md_store.json broken": (_broken_key, "/md_store.json", ("no JSON", "restore", "backup")),
    "md_store.json gone": (_key_is_gone, "", ("missing", "restore md_store.json from a backup")),
    "unknown version": (_unknown_version, "/md_store.json", ("its version is 9.0, newer than 3",)),
    "a file": (_is_a_file, "", ("it is not a folder", "MDStoreDir")),
    "own folder a link": (_own_folder_is_a_link, "/mdconnector", ("folder",)),
    "own folder open to others": (_own_folder_is_open, "/mdconnector", ("0777", "chmod 0700")),
    "a group a file": (_domains_is_a_file, "/domains", ("folder",)),
}


@as_root
@pytest.mark.parametrize(("damage", "path", "says"), UNSAFE.values(), ids=UNSAFE)
def test_a_store_that_must_not_be_used_is_exit_3_before_any_request(
    place: PlainSites, counting_ca: Pebble, damage: Damage, path: str, says: tuple[str, ...]
) -> None:
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    place.give_to(NOBODY)
    damage(place.store)
    before = snapshot(place.folder)
    with counting_ca.recorded() as requests:
        for command in ("renew", "promote"):
            done = place.run(command, "--all", user=NOBODY)
            assert (command, done.exit_code) == (command, 3)
            assert_error(done, "unsafe-store", (f"error: {place.store}{path}", *says))
            assert snapshot(place.folder) == before
        done = place.run("status", "--json", user=NOBODY)
    assert_speaks_plainly(done)
    assert done.exit_code == 0
    assert done.domain(LIVE)["state"] in {"valid", "unknown", "error"}
    assert snapshot(place.folder) == before
    assert requests == []


def test_a_store_that_must_not_be_used_is_one_object_in_json(place: PlainSites) -> None:
    _broken_key(place.store)
    for command in ("enroll", "renew", "promote"):
        done = place.run(command, "--all", "--json")
        assert (command, done.exit_code) == (command, 3)
        assert_error(done, "unsafe-store", ("no JSON", "restore"), as_json=True)


@pytest.mark.parametrize("damage", [_is_a_file, _broken_key], ids=["a file", "broken key"])
def test_scan_tells_of_a_store_that_must_not_be_used(place: PlainSites, damage: Damage) -> None:
    damage(place.store)
    before = snapshot(place.folder)
    done = place.run("scan", "--json")
    assert_speaks_plainly(done)
    assert [one["name"] for one in done.json["domains"]] == [LIVE]
    assert done.exit_code == 1
    assert [one["code"] for one in done.json["findings"] if one["severity"] == "error"] == ["store"]
    assert snapshot(place.folder) == before


@as_root
def test_what_may_not_be_read_is_unknown_and_never_missing(place: PlainSites) -> None:
    place.store.chmod(0o700)
    done = place.run("status", user=NOBODY)
    assert done.exit_code == 0
    assert f"not readable by uid {NOBODY}; try sudo" in done.stdout
    shown = place.run("status", "--json", user=NOBODY)
    assert shown.domain(LIVE)["state"] == "unknown"


@as_root
def test_scan_of_a_store_and_a_binding_that_may_not_be_read_tells_so(place: PlainSites) -> None:
    place.store.chmod(0o700)
    binding = place.folder / "secret" / "eab.json"
    binding.parent.mkdir(mode=0o700)
    place.write("binding", f"MDExternalAccountBinding {binding}\n")
    done = place.run("scan", "--json", user=NOBODY)
    assert_speaks_plainly(done)
    assert done.exit_code == 1
    assert {"store", "bad-eab-file"} <= {one["code"] for one in done.json["findings"]}


@as_root
def test_sites_below_a_folder_that_may_not_be_searched_are_told_with_their_path(
    place: PlainSites,
) -> None:
    place.folder.chmod(0o700)
    done = place.run("scan", user=NOBODY)
    assert_speaks_plainly(done)
    assert f"{place.sites}: permission denied" in done.stderr


@as_root
def test_account_key_in_a_folder_that_may_not_be_read_is_told_with_its_path(
    place: PlainSites,
) -> None:
    key = place.folder / "secret" / "account.pem"
    key.parent.mkdir(mode=0o700)
    done = place.run("account", "import", key, user=NOBODY)
    assert_speaks_plainly(done)
    assert f"{key}: cannot be read: Permission denied" in done.stderr


@as_root
def test_a_folder_that_the_store_cannot_be_made_in_is_exit_3(
    parts_folder: Path, counting_ca: Pebble
) -> None:
    place = PlainSites(parts_folder / "fresh")
    place.write("good", ssl_site(GOOD, settings_for(counting_ca)))
    with counting_ca.recorded() as requests:
        done = place.run("enroll", "--all", user=NOBODY)
    assert done.exit_code == 3
    assert_error(done, "unsafe-store", (str(place.store.parent), "denied"))
    assert requests == []
    assert not place.store.exists()


def test_a_store_that_is_a_link_into_nowhere_is_exit_3(
    place: PlainSites, counting_ca: Pebble
) -> None:
    _is_a_dangling_link(place.store)
    with counting_ca.recorded() as requests:
        done = place.run("renew", "--all")
    assert done.exit_code == 3
    assert_error(done, "unsafe-store", (str(place.store),))
    assert requests == []


@as_root
def test_matrix_w3_a_file_system_that_is_read_only_is_exit_3_even_for_root(
    place: PlainSites, counting_ca: Pebble
) -> None:
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    mounted = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    alone = ("unshare", "--mount", "sh", "-c", mounted, str(place.store))
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount of one's own is not allowed here")
    before = snapshot(place.folder)
    with counting_ca.recorded() as requests:
        for command in ("renew", "promote"):
            done = place.run(command, "--all", command=(*alone, *COMMAND))
            assert (command, done.exit_code) == (command, 3)
            assert_error(done, "unsafe-store", (str(place.store), "Read-only file system"))
    assert requests == []
    assert snapshot(place.folder) == before


# --- a damaged folder of one domain: that domain's failure --------------------------------------


def _live_is_a_link(place: PlainSites, name: str) -> Path:
    live = place.store / "domains" / name
    live.rename(place.folder / "moved")
    live.symlink_to(place.folder / "moved")
    return live


def _live_is_a_file(place: PlainSites, name: str) -> Path:
    live = place.store / "domains" / name
    live.rename(place.folder / "moved")
    live.write_text("no folder")
    return live


@pytest.mark.parametrize("damage", [_live_is_a_link, _live_is_a_file], ids=["a link", "a file"])
def test_matrix_p8_a_damaged_folder_of_one_domain_fails_that_domain_alone(
    place: PlainSites, counting_ca: Pebble, damage: Callable[[PlainSites, str], Path]
) -> None:
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    path = damage(place, LIVE)
    before, outside = untouchable(place), _outside(place)
    orders = counting_ca.orders

    done = place.run("renew", "--all")

    assert done.exit_code == 1
    assert_speaks_plainly(done)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{LIVE}: failed: {path}: ")
    assert "; " in line, "and what to do"
    assert f"{GOOD}: enrolled: " in done.stdout
    assert counting_ca.orders - orders == 1
    assert untouchable(place) == before

    promoted = place.run("promote", "--all")
    assert promoted.exit_code == 1
    assert f"{GOOD}: promoted: " in promoted.stdout
    assert (place.store / "domains" / GOOD / "privkey.secp256r1.pem").exists()
    assert promoted.stderr.startswith(f"{LIVE}: failed: {path}: ")
    assert place.run("status", "--json").domain(LIVE)["state"] == "error"
    assert _outside(place) == outside, "links are never followed"


def test_matrix_w7_a_link_in_staging_is_never_followed(
    place: PlainSites, counting_ca: Pebble
) -> None:
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    assert place.run("enroll", GOOD).exit_code == 0
    outside = place.folder / "outside"
    outside.mkdir()
    (outside / "pubcert.pem").write_text("not ours")
    staged = place.store / "staging" / LIVE
    staged.symlink_to(outside)
    before, there = untouchable(place), _outside(place)

    promoted = place.run("promote", "--all")
    assert promoted.exit_code == 1
    assert promoted.stderr.startswith(f"{LIVE}: failed: {staged}: ")
    assert f"mdconnector renew {LIVE}" in promoted.stderr
    assert f"{GOOD}: promoted: " in promoted.stdout
    seen = untouchable(place)
    assert {path: seen[path] for path in before if LIVE in path} == {
        path: before[path] for path in before if LIVE in path
    }

    renewed = place.run("renew", "--all")
    assert renewed.exit_code == 0
    assert "set aside as" in renewed.stderr
    assert not staged.is_symlink()
    assert _outside(place) == there


def _outside(place: PlainSites) -> dict[str, object]:
    seen = snapshot(place.folder)
    return {path: seen[path] for path in seen if path.split("/")[0] in {"moved", "outside"}}


def test_quiet_tells_a_damaged_folder_once_in_both_halves_of_the_cron_line(
    place: PlainSites,
) -> None:
    path = _live_is_a_link(place, LIVE)
    first = place.run("-q", "renew", "--all")
    assert first.stderr.startswith(f"{LIVE}: failed: {path}: ")
    for command in ("promote", "renew", "promote"):
        done = place.run("-q", command, "--all")
        assert (command, done.exit_code, done.output) == (command, 1, "")


# --- --dry-run ----------------------------------------------------------------------------------


def test_a_dry_run_orders_nothing_and_writes_nothing(
    place: PlainSites, counting_ca: Pebble
) -> None:
    place.write("zz-good", ssl_site(GOOD, settings_for(counting_ca)))
    place.write("broken", UNCLOSED)
    before, orders = snapshot(place.folder), counting_ca.orders
    with counting_ca.recorded() as requests:
        done = place.run("renew", "--all", "--dry-run", "--json")
    assert done.domain(GOOD)["outcome"] == "planned"
    assert done.domain(LIVE)["outcome"] == "current"
    assert done.exit_code == 1, "the broken file is a failure of the real run too"
    assert len(done.json["findings"]) == 1
    assert counting_ca.orders == orders
    assert not {"/order-plz", "/finalize-order"} & {one.resource for one in requests}
    assert {one.resource for one in requests} <= {"/dir", "/nonce-plz", "/sign-me-up"}
    assert snapshot(place.folder) == before


def test_a_dry_run_without_a_store_makes_none_and_registers_nobody(
    parts_folder: Path, counting_ca: Pebble
) -> None:
    place = PlainSites(parts_folder / "fresh")
    place.write("good", ssl_site(GOOD, settings_for(counting_ca)))
    with counting_ca.recorded() as requests:
        done = place.run("enroll", "--all", "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{GOOD}: planned: would order at {counting_ca.directory_url}" in done.stdout
    assert "as a new account, bound to kid-1" in done.stdout
    assert [one.resource for one in requests] == ["/dir"]
    assert not place.store.exists()


@as_root
def test_a_dry_run_tells_a_mistake_without_writing(place: PlainSites, counting_ca: Pebble) -> None:
    file = place.write(
        "bad", ssl_site("bad.example.org", settings_for(counting_ca, {"MDPrivateKeys": "DSA"}))
    )
    before = snapshot(place.folder)
    done = place.run("renew", "--all", "--dry-run")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"bad.example.org: failed: {line_of(file, 'MDPrivateKeys')}: ")
    assert snapshot(place.folder) == before


# --- with a real Apache -------------------------------------------------------------------------


@pytest.mark.apache
def test_matrix_a2_x5_the_others_are_served_whatever_is_wrong_with_one(
    make_apache: Callable[..., Apache], counting_ca: Pebble
) -> None:
    bad = "MDExternalAccountBinding kid-9 c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0\n"
    sites = {
        "a-bad": managed_site("bad.example", settings=bad),
        "b-good": managed_site("good.example"),
    }
    apache = make_apache(sites=sites, main_extra=counting_ca.directives()).start()

    renewed = run("renew", "--all", config=apache.config)
    assert renewed.exit_code == 1
    assert renewed.stderr.startswith("bad.example: failed: the CA refused")
    assert f"MDExternalAccountBinding ({apache.sites_folder}/a-bad.conf:3)" in renewed.stderr
    promoted = run("promote", "--all", "--reload", config=apache.config)
    assert promoted.exit_code == 0, promoted.output
    good = live_leaf(apache, "good.example")
    assert served_leaf(apache, "good.example") == good

    broken = apache.write_site("c-broken", "<VirtualHost *:1>\nServerName c.example\n")
    apache.write_site("d-later", managed_site("later.example"))
    renewed = run("renew", "--all", config=apache.config)
    assert renewed.exit_code == 1
    assert f"{broken}:1: <VirtualHost> is not closed" in renewed.stderr
    assert "later.example: enrolled: " in renewed.stdout
    promoted = run("promote", "--all", "--reload", config=apache.config)
    assert promoted.exit_code == 4, "it comes before 1"
    assert "later.example: waiting: " in promoted.stderr
    assert promoted.stderr.count(f"{broken}:1: ") >= 2, "by Apache's own test, and by us"
    assert apache.is_running
    assert served_leaf(apache, "good.example") == good

    broken.unlink()
    promoted = run("promote", "--all", "--reload", config=apache.config)
    assert promoted.exit_code == 0, promoted.output
    assert f"{broken}: mended" in promoted.stdout
    assert served_leaf(apache, "later.example") == live_leaf(apache, "later.example")
