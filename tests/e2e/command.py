"""The real command as a child process, with nothing of the tester's own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.leaks import Secrets
from tests.parts.pebble import EAB_KEYS

CLONE = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "mdconnector")
_BINDINGS = Secrets()
for _kid, _hmac in EAB_KEYS.items():
    _BINDINGS.add_text(f"the HMAC of {_kid}", _hmac)
_FOR_COVERAGE = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START", "COVERAGE_FILE")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run of the command left behind."""

    arguments: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, as cron would mail them."""
        return self.stdout + self.stderr

    @property
    def json(self) -> Any:
        """What --json printed."""
        assert self.stdout, f"exit code {self.exit_code}, nothing on stdout\n{self.stderr}"
        return json.loads(self.stdout)

    def domain(self, name: str) -> dict[str, Any]:
        """Return the entry of one domain in what --json printed."""
        (found,) = [one for one in self.json["domains"] if one["name"] == name]
        return dict(found)


def run(
    *arguments: str | Path,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
    user: int | None = None,
    handles: Sequence[int] = (),
    timeout: float = 180,
) -> Finished:
    """Run the command to its end; `config` is added as --config, `environment` to the minimum.

    Whatever it prints is searched for the bindings of the CAs under test.
    A `user` is in his own group alone; `handles` stay open for him (see `command_for_anybody`).
    """
    words = [str(one) for one in arguments]
    if config is not None:
        words += ["--config", str(config)]
    done = subprocess.run(
        [*command, *words],
        env=clean_environment() | dict(environment or {}),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        pass_fds=tuple(handles),
    )
    leaked = _BINDINGS.found_in(done.stdout + done.stderr)
    if leaked:
        raise AssertionError(f"{words} printed a secret: {leaked}")
    return Finished(tuple(words), done.returncode, done.stdout, done.stderr)


@contextmanager
def command_for_anybody() -> Iterator[tuple[str, dict[str, str], list[int]]]:
    """Give the command for a user who may not search the folders above it: yields what `run` takes.

    A clone, its virtual environment and their Python often lie below /root. What is reached by a
    handle that root has opened needs no right to the folders above; all else is as it was.
    """
    with ExitStack() as stack:
        handles: list[int] = []

        def reach(path: str | Path) -> str:
            handles.append(os.open(path, os.O_PATH))
            stack.callback(os.close, handles[-1])
            return f"/proc/self/fd/{handles[-1]}"

        places = [str(CLONE), *(place for place in sys.path if Path(place).is_dir())]
        environment = {
            "PYTHONHOME": reach(sys.base_prefix),
            "LD_LIBRARY_PATH": reach(Path(sys.base_prefix) / "lib"),
            "PYTHONPATH": os.pathsep.join(reach(place) for place in dict.fromkeys(places)),
        }
        yield reach(Path(sys.executable).resolve()), environment, handles


def clean_environment() -> dict[str, str]:
    """Return the environment of a run: a PATH, where the package is, and UTC."""
    kept = {name: os.environ[name] for name in _FOR_COVERAGE if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONPATH": str(CLONE), **kept}
