"""A real httpd: found, tested, reloaded, and started again where a reload has ended it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mdconnector.certificates import chain_to_pem
from mdconnector.httpd.pairs import Pair, check_pairs
from mdconnector.httpd.process import RunningHttpd, arguments_that_count, find_running
from mdconnector.httpd.reloading import (
    ReloadOutcome,
    config_test,
    reload,
    start_again,
    wait_idle,
)
from mdconnector.keys import key_to_pem
from mdconnector.store.folder import Folder
from tests.authority import Authority
from tests.parts import Apache
from tests.parts.processes import is_alive, wait_until

pytestmark = pytest.mark.apache

MakeApache = Callable[..., Apache]
AUTHORITY = Authority()


@pytest.fixture
def apache(make_apache: MakeApache) -> Apache:
    started: Apache = make_apache(mod_md=False).start()
    return started


def found(apache: Apache) -> RunningHttpd:
    running = find_running(apache.pid_file)
    assert running is not None
    return running


def script(folder: Path, text: str) -> str:
    file = folder / "reload.sh"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


def write_pair(folder: Path) -> tuple[Path, Path]:
    credential = AUTHORITY.credential(("shop.test",))
    chain_file, key_file = folder / "shop.crt", folder / "shop.key"
    chain_file.write_bytes(chain_to_pem(credential.chain))
    key_file.write_bytes(key_to_pem(credential.key))
    return chain_file, key_file


def ssl_site(chain_file: Path, key_file: Path) -> str:
    return (
        "<VirtualHost *:${HTTPS_PORT}>\nServerName shop.test\nSSLEngine on\n"
        f"SSLCertificateFile {chain_file}\nSSLCertificateKeyFile {key_file}\n</VirtualHost>\n"
    )


def test_the_running_parent_is_found_with_its_arguments(apache: Apache) -> None:
    with found(apache) as running:
        assert running.pid == apache.pid
        assert running.executable == apache.binary.resolve()
        assert arguments_that_count(running) == (
            "-d",
            str(apache.root),
            "-f",
            str(apache.config),
        )
        assert running.environment["PATH"] == apache.environment["PATH"]


def test_a_pid_file_that_names_a_worker_finds_nothing(apache: Apache, parts_folder: Path) -> None:
    worker = next(pid for pid in apache.processes() if pid != apache.pid)
    pid_file = parts_folder / "stale.pid"
    pid_file.write_text(f"{worker}\n")

    assert find_running(pid_file) is None


def test_another_httpd_that_has_the_pid_now_is_told_apart(
    apache: Apache, parts_folder: Path
) -> None:
    stale = parts_folder / "stale.pid"
    stale.write_text(f"{apache.pid}\n")
    os.utime(stale, (1_000_000_000, 1_000_000_000))

    assert find_running(stale) is None


def test_a_clock_that_was_set_forward_hides_no_httpd(apache: Apache) -> None:
    os.utime(apache.pid_file, (1_000_000_000, 1_000_000_000))

    with found(apache) as running:
        assert running.pid == apache.pid


def test_a_stopped_httpd_is_not_found(apache: Apache) -> None:
    pid_file, parent = apache.pid_file, apache.pid
    apache.stop()
    pid_file.write_text(f"{parent}\n")

    assert find_running(pid_file) is None


def test_a_reload_is_over_when_the_configuration_is_in_force(apache: Apache) -> None:
    page = apache.root / "htdocs" / "page"
    page.write_text("page")
    apache.write_site("page", f"Alias /other {page}\n")
    with found(apache) as running:
        before = running.pid_file_mtime_ns
        result = reload(running)

        assert result.outcome is ReloadOutcome.RELOADED
        assert running.is_alive()
    assert apache.pid == running.pid
    assert apache.generation > before
    wait_until(lambda: apache.get("/other") == (200, b"page"), "the new configuration")


def test_a_stopped_httpd_is_not_started_by_a_reload(apache: Apache) -> None:
    with found(apache) as running:
        apache.stop()

        # the kernel may still be at work on its end, and then it was stopped meanwhile
        ended = {ReloadOutcome.NOT_RUNNING, ReloadOutcome.STOPPED}
        assert reload(running).outcome in ended
    assert not apache.pid_file.exists()
    assert apache.processes() == ()


def test_the_configuration_test_says_ok(apache: Apache) -> None:
    with found(apache) as running:
        assert config_test(running).ok


def test_the_configuration_test_names_the_line(apache: Apache) -> None:
    site = apache.write_site("broken", "\n\nNoSuchDirective on\n")

    with found(apache) as running:
        tested = config_test(running)

    assert not tested.ok
    assert tested.at == f"{site}:3"
    assert tested.output.startswith("Invalid command 'NoSuchDirective'")


def test_the_configuration_test_names_the_innermost_of_included_files(apache: Apache) -> None:
    inner = apache.write_site("inner.inc", "\nInclude /no/such/file\n")
    apache.write_site("outer", f"Include {inner}\n")

    with found(apache) as running:
        tested = config_test(running)

    assert tested.at == f"{inner}:2"
    assert tested.output.startswith("Could not open configuration file /no/such/file")


def test_the_configuration_test_takes_the_parents_own_arguments_and_environment(
    make_apache: MakeApache,
) -> None:
    apache = make_apache(mod_md=False)
    apache.write_site("define", "<IfDefine !GIVEN>\nBroken\n</IfDefine>\nServerAdmin ${ADMIN}\n")
    subprocess.run(
        [apache.binary, "-D", "GIVEN", "-d", apache.root, "-f", apache.config, "-k", "start"],
        env={**apache.environment, "ADMIN": "root@shop.test"},
        check=True,
    )
    wait_until(apache.pid_file.exists, "Apache")

    with found(apache) as running:
        assert arguments_that_count(running)[:2] == ("-D", "GIVEN")
        assert config_test(running).ok
        assert not config_test(running._replace(arguments=running.arguments[2:])).ok


def test_a_pair_that_does_not_fit_ends_httpd_though_its_own_test_says_ok(
    make_apache: MakeApache, parts_folder: Path
) -> None:
    chain_file, key_file = write_pair(parts_folder)
    apache = make_apache(mod_md=False, sites={"shop": ssl_site(chain_file, key_file)}).start()
    key_file.write_bytes(key_to_pem(AUTHORITY.credential(("shop.test",)).key))
    pair = Pair(str(chain_file), str(key_file), "shop.conf:4")

    with found(apache) as running:
        said_before = check_pairs([pair], read=lambda path: Path(path).read_bytes())
        tested = config_test(running)
        result = reload(running)

        assert tested.ok
        assert [fault.path for fault in said_before.faults] == [str(key_file)]
        assert result.outcome is ReloadOutcome.DIED
        assert not running.is_alive()


def test_an_httpd_that_a_reload_ended_is_started_as_it_was(
    make_apache: MakeApache, parts_folder: Path
) -> None:
    chain_file, key_file = write_pair(parts_folder)
    apache = make_apache(mod_md=False, sites={"shop": ssl_site(chain_file, key_file)}).start()
    good = key_file.read_bytes()
    with found(apache) as running:
        key_file.write_bytes(b"\n")
        assert reload(running).outcome is ReloadOutcome.DIED
        key_file.write_bytes(good)

        successor = start_again(running._replace(unit="no-such-unit-here.service"))

        assert successor is not None
        with successor:
            assert successor.pid == apache.pid != running.pid
            assert arguments_that_count(successor) == arguments_that_count(running)
            assert successor.environment == running.environment
            assert reload(successor).outcome is ReloadOutcome.RELOADED


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="no process may dump a core here"
)
def test_an_httpd_that_is_started_again_may_dump_a_core_if_it_might_before(apache: Apache) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.prlimit(apache.pid, resource.RLIMIT_CORE, (4096, hard))
    with found(apache) as running:
        apache.stop()
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        try:
            successor = start_again(running)
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))

    assert successor is not None
    with successor:
        assert resource.prlimit(successor.pid, resource.RLIMIT_CORE) == (4096, hard)


def test_an_httpd_that_cannot_start_is_not_waited_for_longer_than_the_limit(
    make_apache: MakeApache, parts_folder: Path
) -> None:
    chain_file, key_file = write_pair(parts_folder)
    apache = make_apache(mod_md=False, sites={"shop": ssl_site(chain_file, key_file)}).start()
    with found(apache) as running:
        key_file.write_bytes(b"\n")
        assert reload(running).outcome is ReloadOutcome.DIED

        assert start_again(running, limit_seconds=1) is None


def test_a_foreground_httpd_is_started_in_the_background(make_apache: MakeApache) -> None:
    apache = make_apache(mod_md=False)
    with subprocess.Popen(
        [apache.binary, "-d", apache.root, "-f", apache.config, "-DFOREGROUND"],
        env=apache.environment,
        start_new_session=True,
    ) as program:
        wait_until(apache.pid_file.exists, "Apache")
        running = found(apache)
        program.terminate()
    with running:
        successor = start_again(running)

    assert successor is not None
    with successor:
        assert arguments_that_count(successor)[-2:] == ("-D", "FOREGROUND")
        apache.stop()


def test_a_reload_command_is_seen_to_work(apache: Apache, parts_folder: Path) -> None:
    with found(apache) as running:
        result = reload(
            running, command=script(parts_folder, f"kill -USR1 {apache.pid}"), limit_seconds=60
        )

    assert result.outcome is ReloadOutcome.RELOADED


def test_a_reload_command_that_does_nothing_times_out(apache: Apache) -> None:
    with found(apache) as running:
        result = reload(running, command="true", limit_seconds=0.5)

    assert result.outcome is ReloadOutcome.TIMED_OUT


def test_a_reload_command_that_fails_is_told_with_its_words(
    apache: Apache, parts_folder: Path
) -> None:
    command = script(parts_folder, "printf 'Unit httpd.service\\033[31m not found.\\n'; exit 5")
    with found(apache) as running:
        result = reload(running, command=command)

    assert result.outcome is ReloadOutcome.COMMAND_FAILED
    assert result.detail.endswith("exit code 5: Unit httpd.service\\x1b[31m not found.")


def test_matrix_r6_a_reload_command_that_hangs_is_killed(apache: Apache) -> None:
    with found(apache) as running:
        result = reload(running, command="sleep 600", limit_seconds=0.5)

        assert running.is_alive()
    assert result.outcome is ReloadOutcome.COMMAND_FAILED
    assert "was killed" in result.detail


def test_a_reload_command_may_restart_httpd(apache: Apache, parts_folder: Path) -> None:
    own = f"{apache.binary} -d {apache.root} -f {apache.config}"
    restart = (
        f"kill -TERM {apache.pid}\nwhile kill -0 {apache.pid}; do sleep 0.02; done\n{own} -k start"
    )
    with found(apache) as running:
        result = reload(running, command=script(parts_folder, restart), limit_seconds=60)

        assert not running.is_alive()
    assert result.outcome is ReloadOutcome.RELOADED
    assert str(apache.pid) in result.detail


def test_an_httpd_that_is_stopped_meanwhile_did_not_die_of_the_reload(
    apache: Apache, parts_folder: Path
) -> None:
    with found(apache) as running:
        command = script(parts_folder, f"kill -TERM {apache.pid}")
        result = reload(running, command=command, limit_seconds=60)

    assert result.outcome is ReloadOutcome.STOPPED


def test_waiting_until_it_is_idle_keeps_a_swap_out_of_foreign_reloads(
    make_apache: MakeApache, parts_folder: Path
) -> None:
    pairs = parts_folder / "pairs"
    for name in ("live", "next"):
        (pairs / name).mkdir(parents=True)
    chain_file, key_file = write_pair(pairs / "live")
    sites = {f"{n:03}": ssl_site(chain_file, key_file) for n in range(10)}
    apache = make_apache(mod_md=False, sites=sites).start()
    ended = threading.Event()
    reloads = 0

    def reload_again_and_again() -> None:
        nonlocal reloads
        while not ended.wait(0.3):
            os.kill(parent, signal.SIGUSR1)
            reloads += 1

    with found(apache) as running, Folder.open_base(pairs) as folder:
        parent = running.pid
        colleague = threading.Thread(target=reload_again_and_again)
        colleague.start()
        try:
            for _ in range(20):
                write_pair(pairs / "next")
                assert wait_idle(running)
                assert folder.exchange("next", folder, "live")
        finally:
            ended.set()
            colleague.join()
        assert reloads > 0
        assert running.is_alive()
        assert is_alive(parent)
