"""The fault matrix, rows A, B, P, W, X and Z: what files, locks and the machine may do to a run.

Each test names its row, and proves that its fault was really there. Rows that are tested elsewhere
are found by their names: `grep -r test_matrix_x2 tests`.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdconnector.httpd.configuration import load_configuration
from tests.authority import EC_SPEC
from tests.bench.measuring import measure
from tests.e2e.command import COMMAND, Finished, clean_environment
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.e2e.snapshot import snapshot
from tests.parts import Pebble, wait_until

pytestmark = pytest.mark.pebble

LIVE, GOOD = "live.example.org", "good.example.org"


@pytest.fixture(scope="module")
def established(session_folder: Path, counting_ca: Pebble) -> PlainSites:
    """One domain that is live, and whose set is in the archive too."""
    place = PlainSites(session_folder / "established-for-the-machine")
    place.write("live", ssl_site(LIVE, settings_for(counting_ca)))
    for options in ((), ("--force",)):
        assert place.run("renew", LIVE, *options).exit_code == 0
        assert place.run("promote", LIVE).exit_code == 0
    return place


@pytest.fixture
def place(parts_folder: Path, established: PlainSites) -> PlainSites:
    """A copy of it for one test."""
    return established.copy_to(parts_folder / "place")


def live_pair(place: PlainSites) -> tuple[bytes, bytes]:
    folder = place.store / "domains" / LIVE
    return (folder / EC_SPEC.privkey_name).read_bytes(), (
        folder / EC_SPEC.pubcert_name
    ).read_bytes()


def speaks_plainly(done: Finished) -> bool:
    return "Traceback" not in done.output and "Error:" not in done.output


# --- A: what lies in sites-enabled --------------------------------------------------------------


def _line_of_ten_megabytes(file: Path) -> None:
    file.write_bytes(b"ServerAdmin " + b"x" * 10_000_000 + b"\n<VirtualHost *:443>\n")


def _includes_itself(file: Path) -> None:
    file.write_text(f"Include {file}\n")


HOSTILE_FILES: dict[str, Callable[[Path], object]] = {
    "syntax": lambda file: file.write_text("<VirtualHost\n"),
    "unclosed": lambda file: file.write_text("<VirtualHost *:443>\nServerName a.example\n"),
    "long line": _line_of_ten_megabytes,
    "NUL": lambda file: file.write_bytes(b"MDomain a\0b.example\n"),
    "invalid UTF-8": lambda file: file.write_bytes(b"MDomain caf\xe9.example\n"),
    "include loop": _includes_itself,
    "FIFO": os.mkfifo,
    "device": lambda file: file.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", HOSTILE_FILES.values(), ids=HOSTILE_FILES)
def test_matrix_a2_hostile_site_is_told_with_its_place_and_the_others_are_done(
    place: PlainSites, make: Callable[[Path], object]
) -> None:
    file = place.sites / "hostile.conf"
    make(file)
    done = place.run("renew", "--all", timeout=60)
    assert done.exit_code == 1
    assert speaks_plainly(done)
    assert str(file) in done.stderr
    assert f"{LIVE}: current: " in done.stdout
    assert all(len(line) < 2000 for line in done.output.splitlines())


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda file: file.symlink_to("/nowhere")], ids=["folder", "dangling link"]
)
def test_matrix_a2_what_is_only_named_like_a_site_stops_nothing(
    place: PlainSites, make: Callable[[Path], object]
) -> None:
    make(place.sites / "folder.conf")
    done = place.run("renew", "--all")
    assert done.exit_code in {0, 1}
    assert speaks_plainly(done)
    assert f"{LIVE}: current: " in done.stdout


NO_NAMES = {
    "a variable": "${NOWHERE}.example",
    "an address": "192.0.2.1",
    "not ASCII": "bücher.example",
    "too long": ".".join(["a" * 60] * 5),
    "a long label": f"{'a' * 64}.example",
    "a path": "../x.example",
    "a folder": "a/b.example",
    "encoded": "a%2fb.example",
    "a port": "a.example:443",
    "an empty label": "a..example",
    "a hyphen first": "-a.example",
}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_matrix_a3_name_that_is_none_is_told_and_never_a_path(
    place: PlainSites, counting_ca: Pebble, name: str
) -> None:
    file = place.write("odd", ssl_site(name, settings_for(counting_ca)))
    before = {path for path in place.folder.rglob("*") if path != file}
    with counting_ca.recorded() as requests:
        done = place.run("renew", "--all")
    assert done.exit_code == 1
    assert speaks_plainly(done)
    assert f"{file}:1" in done.stderr
    assert f"{LIVE}: current: " in done.stdout
    assert requests == []
    made = {path for path in place.folder.rglob("*") if path != file} - before
    assert {path.parent.name for path in made} <= {"attempts", "mdconnector"}


@pytest.mark.parametrize("name", ["UPPER.example.org", "dot.example.org.", "*.wild.example.org"])
def test_matrix_a3_name_that_is_written_oddly_is_one_name(
    place: PlainSites, counting_ca: Pebble, name: str
) -> None:
    place.write("odd", ssl_site(name, settings_for(counting_ca)))
    names = {one["name"] for one in place.run("scan", "--json").json["domains"]}
    assert LIVE in names
    assert names - {LIVE} <= {name.lower().rstrip("."), name.lower()}


def names_read(place: PlainSites, file: Path | None = None, content: bytes = b"") -> frozenset[str]:
    """Return the managed domains that the sites declare, one file with this content."""
    if file is not None:
        file.write_bytes(content)
    found = load_configuration(config=None, sites=place.sites, store=None, environment={})
    return frozenset(domain.name for domain in found.domains)


def test_matrix_a4_site_that_changes_while_it_is_read_is_read_whole_or_told(
    place: PlainSites,
) -> None:
    """An editor writes in place: what is read is what the file held at one moment."""
    file = place.sites / "live.conf"
    whole = file.read_bytes()
    sizes = range(0, len(whole), 7)
    held = {names_read(place, file, whole[:size]) for size in sizes} | {frozenset({LIVE})}
    end = threading.Event()

    def write() -> None:
        for size in itertools.cycle(sizes):
            if end.is_set():
                break
            file.write_bytes(whole[:size])
            file.write_bytes(whole)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        read = {names_read(place) for _ in range(60)}
    finally:
        end.set()
        writer.join()
    assert read <= held
    file.write_bytes(whole)
    assert place.run("renew", "--all").exit_code == 0


def test_matrix_a5_two_thousand_vhosts_need_little_memory(parts_folder: Path) -> None:
    place = PlainSites(parts_folder / "many")
    settings = {"MDCertificateAuthority": "https://ca.example/dir"}
    for number in range(2000):
        place.write(f"{number:04}", ssl_site(f"shop-{number}.example.org", settings))
    assert len(place.run("scan", "--json").json["domains"]) == 2000
    used = measure([*COMMAND, "scan", "--json", "--sites", str(place.sites)])
    assert used.peak_mebibytes < 150


# --- B: locks -----------------------------------------------------------------------------------


@contextmanager
def store_lock_held(place: PlainSites) -> Iterator[None]:
    """Hold mod_md's lock, as an Apache does that activates on another host."""
    with (place.store / "store.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_matrix_b4_store_lock_that_another_host_holds_lets_the_old_set_serve(
    place: PlainSites,
) -> None:
    assert place.run("renew", LIVE, "--force").exit_code == 0
    before = live_pair(place)
    with store_lock_held(place):
        done = place.run("promote", "--all")
    assert done.exit_code == 4
    assert (
        f"{LIVE}: waiting: the set waits in staging: {place.store}/store.lock: "
        "another process holds it"
    ) in done.stderr
    assert live_pair(place) == before
    assert (place.store / "mdconnector" / "pending" / LIVE / "set.json").exists()

    assert place.run("promote", "--all").exit_code == 0
    assert live_pair(place) != before


def test_matrix_b5_file_system_without_locks_is_an_error_of_the_store(place: PlainSites) -> None:
    refusing = (
        "import errno, fcntl, os\n"
        "def flock(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))\n"
        "fcntl.flock = flock\n"
        "from mdconnector.cli import main\nmain()"
    )
    before = snapshot(place.store / "domains")
    done = place.run("promote", "--all", command=(sys.executable, "-c", refusing))
    assert done.exit_code == 3
    assert "run.lock: cannot be locked: No locks available" in done.stderr
    assert speaks_plainly(done)
    assert snapshot(place.store / "domains") == before


def test_matrix_b6_store_lock_is_free_during_orders_and_during_the_reload(
    place: PlainSites,
) -> None:
    noted = place.folder / "noted"
    script = place.folder / "look"
    script.write_text(
        f"#!/bin/sh\nflock -n {place.store}/store.lock echo free >>{noted} || echo held >>{noted}\n"
    )
    script.chmod(0o755)
    place.write("01-message", f"MDMessageCmd {script}\n")
    assert place.run("renew", LIVE, "--force").exit_code == 0
    events = len(noted.read_text().splitlines())
    assert events, "the program was called during the order"
    done = place.run("promote", "--all", "--reload-command", str(script))
    assert f"{LIVE}: promoted: " in done.output
    told = noted.read_text().splitlines()
    assert len(told) > events
    assert set(told) == {"free"}


# --- P: what is found live ----------------------------------------------------------------------


@pytest.mark.parametrize("file", [EC_SPEC.privkey_name, EC_SPEC.pubcert_name])
def test_matrix_p9_damaged_live_pair_is_repaired_and_told(place: PlainSites, file: str) -> None:
    (place.store / "domains" / LIVE / file).write_bytes(b"")
    done = place.run("renew", "--all")
    assert done.exit_code == 0, done.output
    (line,) = [one for one in done.stderr.splitlines() if "was damaged" in one]
    assert line.startswith(f"{LIVE}: the live set was damaged")
    assert "took its place" in line
    assert all(live_pair(place))
    assert place.run("renew", "--all").stderr == ""


# --- X: the machine -----------------------------------------------------------------------------

ENVIRONMENTS = {
    "no stdin": 'exec "$@" <&-',
    "no stdout": 'exec "$@" >&-',
    "no stderr": 'exec "$@" 2>&-',
    "nothing open": 'exec "$@" <&- >&- 2>&-',
    "full device": 'exec "$@" >/dev/full 2>/dev/full',
    "LANG=C": 'LC_ALL= LANG=C exec "$@"',
    "unknown LANG": 'LC_ALL=xx_YY.nothing exec "$@"',
    "no HOME": 'unset HOME; exec "$@"',
    "no PATH": 'unset PATH; exec "$@"',
    "no environment": 'exec env -i PYTHONPATH="$PYTHONPATH" "$@"',
    "deleted folder": 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$@"',
    "16 handles": 'ulimit -n 16; exec "$@"',
    "nice 19": 'exec nice -n 19 "$@"',
    "256 MB": 'ulimit -v 262144; exec "$@"',
    "umask 777": 'umask 777; exec "$@"',
    "a proxy": 'https_proxy=http://127.0.0.1:1 HTTPS_PROXY=http://127.0.0.1:1 exec "$@"',
    "other trust": 'SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/nowhere exec "$@"',
}


@pytest.mark.parametrize("how", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_matrix_x2_odd_environment_is_borne_or_a_clean_error(
    place: PlainSites, counting_ca: Pebble, how: str, request: pytest.FixtureRequest
) -> None:
    name = f"env-{request.node.callspec.id.lower().replace(' ', '-').replace('=', '-')}.example.org"
    place.write("new", ssl_site(name, settings_for(counting_ca)))
    orders = counting_ca.orders
    odd = place.run("renew", "--all", command=("sh", "-c", how, "sh", *COMMAND))
    assert odd.exit_code in {0, 1}, odd.output
    assert speaks_plainly(odd), odd.output
    plain = place.run("renew", name)
    assert plain.exit_code == 0, plain.output
    assert counting_ca.orders - orders == 1, "nothing was lost"
    if odd.exit_code == 0:
        assert f"{name}: staged: " in plain.stdout


def test_matrix_x1_signal_at_any_point_is_mended_by_the_next_run(
    place: PlainSites, counting_ca: Pebble
) -> None:
    """Signals come at moments that spread over a whole run; each run is another point."""
    name = "signalled.example.org"
    place.write("new", ssl_site(name, settings_for(counting_ca)))
    endings = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGPIPE)
    hit = 0
    for number, ending in enumerate(endings):
        run = subprocess.Popen(
            [*COMMAND, "renew", "--all", "--sites", str(place.sites)],
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        points = ("run.lock", "pending", f"pending/{name}", "pending", "run.lock")
        wait_until(lambda run=run, at=points[number]: _is_at(place, run, at), "the point")  # type: ignore[misc] # bound now
        run.send_signal(ending)
        out, err = run.communicate(timeout=60)
        assert run.returncode in {0, -ending, 128 + ending}
        assert "Traceback" not in out + err
        hit += run.returncode != 0
    assert hit, "no signal came in time"
    done = place.run("renew", name)
    assert done.exit_code == 0, done.output
    assert len(list((place.store / "staging" / name).glob("pubcert*"))) == 1


def _is_at(place: PlainSites, run: subprocess.Popen[str], point: str) -> bool:
    own = place.store / "mdconnector"
    if run.poll() is not None:
        return True
    if point == "run.lock":
        return str(run.pid) in (own / "run.lock").read_text()
    return (own / point).exists()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty key": lambda live: (live / EC_SPEC.privkey_name).write_bytes(b""),
    "cut chain": lambda live: (live / EC_SPEC.pubcert_name).write_bytes(
        (live / EC_SPEC.pubcert_name).read_bytes()[:200]
    ),
    "no key": lambda live: (live / EC_SPEC.privkey_name).unlink(),
    "no chain": lambda live: (live / EC_SPEC.pubcert_name).unlink(),
    "no set": lambda live: live.rename(live.parents[1] / "elsewhere"),
    "a link": lambda live: live.symlink_to(live.rename(live.parents[1] / "moved")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_matrix_x4_status_is_never_well_over_damage_and_writes_nothing(
    place: PlainSites, damage: Callable[[Path], object]
) -> None:
    damage(place.store / "domains" / LIVE)
    before = snapshot(place.folder)
    with (place.store / "mdconnector" / "run.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = place.run("status", "--json")
        checked = place.run("status", "--check")
    assert done.exit_code == 0
    assert done.domain(LIVE)["state"] in {"missing", "error"}
    assert checked.exit_code != 0
    assert snapshot(place.folder) == before


# --- Z: hooks -----------------------------------------------------------------------------------


def test_matrix_z2_program_is_told_again_after_a_run_that_was_killed_meanwhile(
    place: PlainSites, counting_ca: Pebble
) -> None:
    noted, armed = place.folder / "told", place.folder / "armed"
    script = place.folder / "message"
    script.write_text(
        f'#!/bin/sh\necho "$1 $2" >>{noted}\n'
        f'if [ "$1" = renewed ] && [ -e {armed} ]; then rm {armed}; kill -9 $PPID; fi\n'
    )
    script.chmod(0o755)
    name = "told.example.org"
    place.write("01-message", f"MDMessageCmd {script}\n")
    place.write("new", ssl_site(name, settings_for(counting_ca)))
    armed.touch()
    orders = counting_ca.orders
    killed = place.run("renew", name)
    assert not armed.exists(), "the program was to kill the run"
    assert killed.exit_code == -signal.SIGKILL
    done = place.run("renew", name)
    assert done.exit_code == 0, done.output
    assert noted.read_text().splitlines().count(f"renewed {name}") == 2, "at least once"
    assert counting_ca.orders - orders == 1
    assert json.loads(place.run("status", "--json").stdout)
