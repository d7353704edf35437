"""One run at a time: what a second one says, how long it waits, and that none killed bars it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.command import COMMAND, clean_environment
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.e2e.snapshot import snapshot
from tests.parts import Pebble, wait_until

pytestmark = pytest.mark.pebble

LIVE, SLOW = "live.example.org", "slow.example.org"
WRITERS = ("enroll", "renew", "promote")


@pytest.fixture(scope="module")
def established(session_folder: Path, counting_ca: Pebble) -> PlainSites:
    """One domain that is live."""
    place = PlainSites(session_folder / "established-for-locks")
    place.write("live", ssl_site(LIVE, settings_for(counting_ca)))
    assert place.run("enroll", LIVE).exit_code == 0
    assert place.run("promote", LIVE).exit_code == 0
    return place


@pytest.fixture
def place(parts_folder: Path, established: PlainSites) -> PlainSites:
    """A copy of it for one test."""
    return established.copy_to(parts_folder / "place")


def lock_file(place: PlainSites) -> Path:
    return place.store / "mdconnector" / "run.lock"


@contextmanager
def held(place: PlainSites, *, hours: float = 0, holder: str | None = None) -> Iterator[str]:
    """Hold the lock as a run of `renew` would that began some hours ago; yields its start."""
    started = (datetime.now(UTC) - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = json.dumps({"pid": os.getpid(), "command": "renew", "started": started})
    with lock_file(place).open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(record if holder is None else holder)
        file.flush()
        yield started
        file.truncate(0)


@contextmanager
def silent_ca() -> Iterator[str]:
    """A CA that takes connections and never says a word; yields its directory URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://localhost:{server.getsockname()[1]}/dir"


def begin(place: PlainSites, *arguments: str) -> subprocess.Popen[str]:
    """Start the command and return while it runs."""
    return subprocess.Popen(
        [*COMMAND, *arguments, "--sites", str(place.sites)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def stuck_run(place: PlainSites, ca: Pebble) -> Iterator[subprocess.Popen[str]]:
    """A real run that holds the lock, because its CA never answers; killed at the end."""
    with silent_ca() as url:
        file = place.write(
            "slow", ssl_site(SLOW, settings_for(ca, {"MDCertificateAuthority": url}))
        )
        run = begin(place, "renew", "--all")
        try:
            wait_until(lambda: str(run.pid) in lock_file(place).read_text(), "the run to begin")
            file.unlink()
            yield run
        finally:
            run.kill()
            run.communicate()


# --- a second run -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WRITERS)
def test_matrix_b1_a_second_run_is_exit_75_names_the_holder_and_does_nothing(
    place: PlainSites, counting_ca: Pebble, command: str
) -> None:
    place.write("new", ssl_site("new.example.org", settings_for(counting_ca)))
    before = snapshot(place.store)
    with held(place) as started, counting_ca.recorded() as requests:
        done = place.run(command, "--all")
    assert (done.exit_code, done.stdout) == (75, "")
    holder = f"pid {os.getpid()}, renew, since {started}"
    assert done.stderr.splitlines() == [
        f"mdconnector: error: another run holds the lock: {holder}",
        "mdconnector: hint: wait for it to end, or see what it does with ps",
    ]
    assert requests == []
    assert snapshot(place.store) == before


@pytest.mark.parametrize("command", WRITERS)
def test_a_second_run_is_one_object_in_json(place: PlainSites, command: str) -> None:
    with held(place) as started:
        done = place.run(command, "--all", "--json")
    assert (done.exit_code, done.stderr) == (75, "")
    assert set(done.json) == {"version", "command", "error"}
    assert done.json["command"] == command
    error = done.json["error"]
    assert error["type"] == "locked"
    assert f"pid {os.getpid()}, renew, since {started}" in error["detail"]
    assert error["hint"]


@pytest.mark.parametrize("command", WRITERS)
def test_a_second_run_is_silent_under_quiet(place: PlainSites, command: str) -> None:
    with held(place, hours=5.9):
        done = place.run("-q", command, "--all")
    assert (done.exit_code, done.output) == (75, "")


def test_quiet_speaks_once_the_holder_is_older_than_six_hours(place: PlainSites) -> None:
    with held(place, hours=6.1) as started:
        done = place.run("-q", "renew", "--all")
    assert done.exit_code == 75
    assert f"pid {os.getpid()}, renew, since {started}" in done.stderr


@pytest.mark.parametrize("holder", ["", "{", '{"pid": "x"}', "\x00" * 9000], ids=repr)
def test_a_holder_that_has_not_said_who_it_is_holds_the_lock_all_the_same(
    place: PlainSites, holder: str
) -> None:
    with held(place, holder=holder):
        done = place.run("renew", "--all")
    assert done.exit_code == 75
    assert done.stderr.startswith("mdconnector: error: another run holds the lock\n")


@pytest.mark.parametrize(
    "arguments",
    [("scan",), ("status",), ("status", LIVE), ("renew", "--all", "--dry-run")],
    ids=" ".join,
)
def test_matrix_x4_what_only_reads_takes_no_lock(
    place: PlainSites, arguments: tuple[str, ...]
) -> None:
    with held(place):
        done = place.run(*arguments)
    assert done.exit_code == 0, done.output
    assert LIVE in done.stdout


def test_a_lock_file_that_nobody_holds_is_no_obstacle(place: PlainSites) -> None:
    lock_file(place).write_text('{"pid": 1, "command": "renew", "started": "2020-01-01T00:00:00Z"}')
    assert place.run("renew", "--all").exit_code == 0
    assert lock_file(place).read_text() == "", "nobody holds it after the run"


# --- waiting ------------------------------------------------------------------------------------


def test_a_run_with_names_waits_and_says_for_whom(place: PlainSites) -> None:
    with held(place) as started:
        second = begin(place, "renew", LIVE)
        assert second.stderr is not None
        first_words = second.stderr.readline()
        assert first_words == (
            f"mdconnector: waiting for pid {os.getpid()}, renew, since {started}\n"
        )
        assert second.poll() is None
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert f"{LIVE}: current: " in out


def test_lock_wait_makes_a_run_over_all_wait_too(place: PlainSites) -> None:
    with held(place):
        second = begin(place, "renew", "--all", "--lock-wait", "60")
        assert second.stderr is not None
        assert second.stderr.readline().startswith("mdconnector: waiting for pid ")
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert f"{LIVE}: current: " in out


def test_a_wait_that_is_over_is_exit_75(place: PlainSites) -> None:
    with held(place):
        done = place.run("promote", "--all", "--lock-wait", "0.3")
    assert done.exit_code == 75
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith("mdconnector: waiting for pid ")
    assert second.startswith("mdconnector: error: another run holds the lock: pid ")


def test_lock_wait_zero_does_not_wait_even_with_names(place: PlainSites) -> None:
    with held(place):
        done = place.run("renew", LIVE, "--lock-wait", "0")
    assert done.exit_code == 75
    assert "waiting" not in done.stderr


# --- real runs ----------------------------------------------------------------------------------


def test_a_run_at_work_is_named_with_its_own_process_id(
    place: PlainSites, counting_ca: Pebble
) -> None:
    with stuck_run(place, counting_ca) as first:
        done = place.run("promote", "--all")
        assert done.exit_code == 75
        assert f"another run holds the lock: pid {first.pid}, renew, since " in done.stderr
        assert first.poll() is None, "the first is still at work"


def test_matrix_b2_a_holder_that_was_killed_frees_the_lock_at_once(
    place: PlainSites, counting_ca: Pebble
) -> None:
    with stuck_run(place, counting_ca) as first:
        assert place.run("renew", "--all").exit_code == 75
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert str(first.pid) in lock_file(place).read_text(), "it could not tidy up"
        done = place.run("renew", "--all", "--lock-wait", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{LIVE}: current: " in done.stdout


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_matrix_x1_a_run_that_a_signal_ends_has_its_number_and_frees_the_lock(
    place: PlainSites, counting_ca: Pebble, ending: signal.Signals
) -> None:
    with stuck_run(place, counting_ca) as first:
        first.send_signal(ending)
        out, err = first.communicate(timeout=60)
        assert first.returncode == -ending, "which a shell shows as 128 + its number"
        assert "Traceback" not in out + err
        assert place.run("renew", "--all", "--lock-wait", "0").exit_code == 0


def test_matrix_b1_runs_that_meet_work_one_after_the_other(
    place: PlainSites, counting_ca: Pebble
) -> None:
    names = [f"meeting-{number}.example.org" for number in range(3)]
    for name in names:
        place.write(name, ssl_site(name, settings_for(counting_ca)))
    orders = counting_ca.orders
    runs = [begin(place, "enroll", "--all", "--lock-wait", "60") for _ in range(3)]
    endings = [(run.communicate(timeout=120), run.returncode) for run in runs]
    assert [code for _, code in endings] == [0, 0, 0], endings
    assert counting_ca.orders - orders == len(names), "nothing is ordered twice"
    outputs = "".join(out for (out, _), _ in endings)
    for name in names:
        assert outputs.count(f"{name}: enrolled: ") == 1
        assert outputs.count(f"{name}: staged: ") == 2
