"""MDNotifyCmd and MDMessageCmd: what they hear, how often, and what they can veto."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Finished, run
from tests.e2e.estate import managed_site
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, Pebble

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAME, REFUSED = "one.example", "refused.example"


class Listener:
    """A program that writes down what it hears, and says no to what it is told to refuse."""

    def __init__(self, folder: Path, name: str) -> None:
        self._log, self._vetoes = folder / f"{name}.log", folder / f"{name}.vetoes"
        self.program = folder / name
        self.program.write_text(
            f'#!/bin/sh\necho "$*" >>{self._log}\nwhile read -r word; do\n'
            f'  case "$*" in *"$word"*) echo "no, not $word"; exit 7;; esac\n'
            f"done <{self._vetoes}\nexit 0\n"
        )
        self.program.chmod(0o755)
        self.refuse()

    def refuse(self, *words: str) -> None:
        """Say no to each call that has one of these words in it, and to no other."""
        self._vetoes.write_text("".join(f"{word}\n" for word in words))

    def heard(self) -> list[str]:
        """Return the arguments of the calls since this was last asked."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def message(parts_folder: Path) -> Listener:
    """The program of MDMessageCmd."""
    return Listener(parts_folder, "message")


@pytest.fixture
def notify(parts_folder: Path) -> Listener:
    """The program of MDNotifyCmd."""
    return Listener(parts_folder, "notify")


@pytest.fixture
def apache(
    make_apache: Callable[..., Apache], trusting_ca: Pebble, message: Listener, notify: Listener
) -> Apache:
    """An Apache with one domain and both programs, the latter with a word of its own."""
    lines = (
        f"{trusting_ca.directives()}MDRetryDelay 1ms\n"
        f'MDMessageCmd {message.program}\nMDNotifyCmd {notify.program} "own word"\n'
    )
    return make_apache(sites={NAME: managed_site(NAME)}, main_extra=lines)


def renew(apache: Apache, *arguments: str) -> Finished:
    """Renew what is due, or what is named."""
    return run("renew", *(arguments or ("--all",)), "--json", config=apache.config)


def record_of(apache: Apache, name: str = NAME) -> dict[str, Any]:
    """Return what is remembered for a domain."""
    file = apache.store / "mdconnector" / "attempts" / f"{name}.json"
    return dict(json.loads(file.read_text()))


def test_a_first_certificate_is_told_of_step_by_step(
    apache: Apache, message: Listener, notify: Listener
) -> None:
    assert renew(apache).domain(NAME)["outcome"] == "enrolled"
    assert message.heard() == [
        f"renewing {NAME}",
        f"challenge-setup:http-01:{NAME} {NAME}",
        f"renewed {NAME}",
    ]
    assert notify.heard() == [f"own word {NAME}"]
    assert run("promote", "--all", config=apache.config).exit_code == 0
    assert (message.heard(), notify.heard()) == ([f"installed {NAME}"], [])


def test_mod_md_finds_in_the_staged_job_what_was_told(apache: Apache) -> None:
    renew(apache)
    job = json.loads((apache.store / "staging" / NAME / "job.json").read_text())
    kinds = {entry["type"] for entry in job["log"]["entries"]}
    assert kinds >= {"message-renewing", "message-renewed"}


def test_an_idle_run_tells_nothing_and_writes_nothing(apache: Apache, message: Listener) -> None:
    renew(apache)
    message.heard()
    before = snapshot(apache.store)
    assert renew(apache).exit_code == 0
    assert (message.heard(), snapshot(apache.store)) == ([], before)


def test_a_veto_of_renewing_leaves_the_domain_to_the_next_run(
    apache: Apache, message: Listener, trusting_ca: Pebble
) -> None:
    message.refuse("renewing")
    with trusting_ca.recorded() as requests:
        done = renew(apache)
    assert (done.exit_code, done.domain(NAME)["outcome"], requests) == (0, "skipped", [])
    assert "exited with 7: no, not renewing" in done.domain(NAME)["detail"]
    assert record_of(apache)["errors"] == 0
    message.refuse()
    assert renew(apache).domain(NAME)["outcome"] == "enrolled"


def test_a_veto_of_the_only_challenge_is_the_domains_failure(
    apache: Apache, message: Listener
) -> None:
    message.refuse("challenge-setup")
    done = renew(apache)
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (1, "failed")
    assert "no, not challenge-setup" in done.domain(NAME)["error"]["detail"]
    assert message.heard()[-1] == f"errored {NAME}"
    assert not list((apache.store / "challenges").glob("*/acme-http-01.txt"))


def test_matrix_z2_a_set_that_the_programs_will_not_hear_of_is_staged_and_told_of_again(
    apache: Apache, message: Listener, notify: Listener
) -> None:
    notify.refuse("own")
    done = renew(apache)
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (0, "enrolled")
    assert "MDNotifyCmd renewed: " in done.domain(NAME)["detail"]
    assert f"renewed {NAME}" not in message.heard(), "the second was called though the first failed"
    status = run("status", config=apache.config).stdout
    assert "not told yet: MDNotifyCmd renewed: " in status
    notify.refuse()
    notify.heard()
    assert renew(apache).domain(NAME)["outcome"] == "staged"
    assert (notify.heard(), message.heard()) == ([f"own word {NAME}"], [f"renewed {NAME}"])
    renew(apache)
    assert (notify.heard(), message.heard()) == ([], [])


def test_a_failure_is_told_once_an_hour(
    make_apache: Callable[..., Apache], validating_ca: Pebble, message: Listener
) -> None:
    lines = f"{validating_ca.directives()}MDMessageCmd {message.program}\n"
    apache = make_apache(sites={REFUSED: managed_site(REFUSED)}, main_extra=lines)
    assert renew(apache).exit_code == 1
    assert message.heard() == [f"renewing {REFUSED}", f"errored {REFUSED}"]
    assert renew(apache, REFUSED).exit_code == 1
    assert message.heard() == []


def test_each_new_set_is_told_of_however_soon_it_comes(apache: Apache, message: Listener) -> None:
    renew(apache)
    message.heard()
    assert renew(apache, NAME, "--force").exit_code == 0
    assert f"renewed {NAME}" in message.heard()


def test_an_expiring_certificate_is_told_of_once_a_day(apache: Apache, message: Listener) -> None:
    renew(apache)
    assert run("promote", "--all", config=apache.config).exit_code == 0
    message.heard()
    apache.write_site(NAME, managed_site(NAME, settings="MDWarnWindow 400d\nMDRenewWindow 1d\n"))
    renew(apache)
    assert message.heard() == [f"expiring {NAME}"]
    renew(apache)
    assert message.heard() == []


def test_a_program_that_cannot_be_run_is_reported_and_vetoes_nothing(
    apache: Apache, message: Listener, notify: Listener
) -> None:
    message.program.chmod(0o666)
    notify.program.unlink()
    done = renew(apache)
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (0, "enrolled")
    detail = done.domain(NAME)["detail"]
    assert "MDMessageCmd renewing: " in detail
    assert "was not run: " in detail
    assert "MDNotifyCmd renewed: " in detail


def test_a_set_that_has_to_wait_is_not_told_of_as_installed(
    apache: Apache, message: Listener
) -> None:
    apache.write_site(NAME, managed_site(NAME, settings="MDRenewMode manual\n"))
    with apache.start():
        assert renew(apache).domain(NAME)["outcome"] == "enrolled"
        message.heard()
        sound = apache.config.read_text()
        apache.config.write_text(f"{sound}\nNoSuchDirective\n")
        assert run("promote", "--all", "--reload", config=apache.config).exit_code == 4
        assert message.heard() == []
        apache.config.write_text(sound)
        assert run("promote", "--all", "--reload", config=apache.config).exit_code == 0
    assert message.heard() == [f"installed {NAME}"]
