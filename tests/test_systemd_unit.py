"""The service ends with the code that comes first in the precedence of the two steps' codes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parent.parent / "examples" / "systemd"
FAKE = """\
#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *renew*) exit $RENEW ;; *) exit $PROMOTE ;; esac
"""


def values(unit: str, key: str) -> list[str]:
    """Return the values of a key, lines joined as systemd joins them."""
    text = re.sub(r"\\\n", " ", (UNITS / unit).read_text())
    return [
        line.removeprefix(f"{key}=") for line in text.splitlines() if line.startswith(f"{key}=")
    ]


def exec_start() -> list[str]:
    (command,) = values("mdconnector.service", "ExecStart")
    return [word.replace("$$", "$") for word in shlex.split(command)]


def run(folder: Path, renew: int, promote: int) -> tuple[int, list[str]]:
    """Run the service's command with steps that end with these codes; return its code and calls."""
    fake, calls = folder / "mdconnector", folder / "calls"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "CALLS": str(calls),
        "RENEW": str(renew),
        "PROMOTE": str(promote),
    }
    done = subprocess.run(exec_start(), env=environment, check=False, timeout=30)
    return done.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize(
    ("renew", "promote", "expected"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, 1),
        (2, 3, 2),
        (3, 2, 2),
        (3, 4, 3),
        (4, 3, 3),
        (1, 4, 4),
        (4, 1, 4),
        (1, 5, 1),
        (5, 1, 1),
        (5, 0, 5),
        (0, 5, 5),
        (75, 0, 75),
        (0, 75, 75),
        (75, 75, 75),
        (75, 1, 1),
        (1, 75, 1),
        (2, 75, 2),
        (75, 5, 5),
        (137, 0, 137),
        (137, 75, 137),
        (75, 137, 137),
        (137, 1, 1),
        (0, 127, 127),
    ],
)
def test_the_code_that_comes_first_wins(
    tmp_path: Path, renew: int, promote: int, expected: int
) -> None:
    assert run(tmp_path, renew, promote) == (
        expected,
        ["-q renew --all", "-q promote --all --reload"],
    )


def test_another_run_at_work_is_no_failure() -> None:
    assert values("mdconnector.service", "SuccessExitStatus") == ["75"]


def test_the_timer_is_hourly_with_a_fixed_random_delay() -> None:
    assert values("mdconnector.timer", "OnCalendar") == ["hourly"]
    assert values("mdconnector.timer", "FixedRandomDelay") == ["true"]


def test_a_changed_site_starts_the_service() -> None:
    assert "/etc/apache2/sites-enabled" in values("mdconnector.path", "PathChanged")
    assert values("mdconnector.path", "Unit") == ["mdconnector.service"]


def test_the_service_is_kept_from_what_it_never_needs() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("apt-get install systemd")
    service = UNITS / "mdconnector.service"
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=60", "--no-pager", service],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    kept = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETUID CAP_SETGID CAP_SYS_PTRACE"
    given = " ".join(values("mdconnector.service", "CapabilityBoundingSet"))
    assert set(kept.split()) <= set(given.split()), "it writes for others and signals Apache"


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("apt-get install systemd")
    units = [shutil.copy(unit, tmp_path) for unit in sorted(UNITS.iterdir())]
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "mdconnector" in line]
    assert (done.returncode, said) == (0, [])
