"""Print the figures that the arguments name, or all of them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.bench import peers
from tests.bench.estates import make_idle_tree, make_sites, make_tree, name_of
from tests.bench.growth import draw
from tests.bench.measuring import MDCONNECTOR, Run, best_of, print_table, side_by_side
from tests.parts import Pebble, Request, find_program
from tests.parts.programs import MissingProgramError

COUNT = int(os.environ.get("MDCONNECTOR_BENCH_CERTIFICATES", "100"))
SIZES = [int(word) for word in os.environ.get("MDCONNECTOR_BENCH_SIZES", "1000 10000").split()]
GROWTH = (1, 10, 100, 1000, 10000)
OVERHEAD = ("/dir", "/nonce-plz")
FLOOR = "import click, cryptography.x509"
FLOOR_FOR_KEYS = f"{FLOOR}, cryptography.hazmat.primitives.serialization"
"""without the last no private key can be read, and a live pair not be judged"""


def print_requests(folder: Path) -> None:
    """Count requests for one certificate of an account that exists."""
    rows = []
    for title, reuse in (("one http-01 challenge", 0), ("validated before", 100)):
        with Pebble(
            folder / f"ca-{reuse}", always_valid=True, nonce_reject=0, authz_reuse=reuse
        ) as ca:
            sites = make_sites(folder / f"requests-{reuse}", 2, ca.directives())
            base = [*MDCONNECTOR, "--sites", str(sites), "-q"]
            names = [name_of(number) for number in range(2)]
            best_of([*base, "enroll", *(names if reuse else names[:1])], 1)
            with ca.recorded() as requests:
                best_of([*base, "renew", names[1], *(["--force"] if reuse else [])], 1)
        rows.append((title, *_counted(requests)))
    print_table(
        "Requests for one certificate, account known",
        ("order", "requests", "and for directory and nonces", "which"),
        rows,
    )


def _counted(requests: list[Request]) -> tuple[str, str, str]:
    counted = Counter(request.resource for request in requests)
    proper = sum(number for path, number in counted.items() if path not in OVERHEAD)
    listed = ", ".join(f"{path} {number}" for path, number in counted.items())
    return str(proper), str(len(requests) - proper), listed


class Pace(NamedTuple):
    """How long a CA takes to validate, and which part of the certificates each client obtains."""

    title: str
    sleeps: bool
    """Pebble's own habit: up to VALIDATION_SECONDS, at random, before each validation"""
    parts: Mapping[str, int]
    """one certificate of so many: those who need minutes are given fewer"""


VALIDATION_SECONDS = 5
PACES = (
    Pace(
        "validates at once",
        sleeps=False,
        parts={"mdconnector": 1, "mod_md": 1, "lego": 2, "certbot": 10, "dehydrated": 10},
    ),
    Pace(
        f"takes up to {VALIDATION_SECONDS} s to validate",
        sleeps=True,
        parts={"mdconnector": 1, "mod_md": 20, "lego": 20, "certbot": 25, "dehydrated": 25},
    ),
)


def print_enrollments(folder: Path) -> None:
    """Time first certificates, by us and by the peers, each with a CA and an account of its own."""
    for pace in PACES:
        for key in peers.KEYS:
            _print_enrollments(folder, pace, key)


def _print_enrollments(folder: Path, pace: Pace, key: str) -> None:
    rows, ours = [], 0.0
    for name, peer in peers.PEERS.items():
        place = folder / f"{name}-{key.replace(' ', '')}"
        count = max(COUNT // pace.parts[name], 1)
        try:
            seconds, sent = _enrolled(peer, place, pace, count, key)
        except MissingProgramError as error:
            rows.append((name, f"missing: {error}", "", "", "", ""))
            continue
        each = seconds / count
        ours = ours or each
        rows.append(
            (
                name,
                str(count),
                f"{seconds:.1f}",
                f"{each:.3f}",
                f"{each / ours:.1f}",
                f"{sent / count:.2f}",
            )
        )
        shutil.rmtree(place)
    print_table(
        f"First certificates, {key}, with the account's registration, from a CA that {pace.title}",
        (
            "client",
            "certificates",
            "seconds",
            "seconds each",
            "multiple of mdconnector's",
            "requests each, all told",
        ),
        rows,
    )


def _enrolled(peer: peers.Peer, place: Path, pace: Pace, count: int, key: str) -> tuple[float, int]:
    """Return how many seconds a client took, and how many requests it sent."""
    with Pebble(
        place / "ca",
        always_valid=True,
        nonce_reject=0,
        va_nosleep=not pace.sleeps,
        va_sleep_seconds=VALIDATION_SECONDS,
    ) as ca:
        seconds = peer(place / "work", ca, count, key)
        if ca.certificates != count:
            raise SystemExit(f"{peer.__name__} obtained {ca.certificates}, not {count}")
        return seconds, len(ca.requests())


def _multiples(count: int, measured: Mapping[str, Run]) -> list[tuple[str, ...]]:
    """Return a row for each command; the first is ours, and is told as a multiple of the others."""
    ours = next(iter(measured.values())).seconds
    return [
        (
            f"{count:,}",
            title,
            f"{run.seconds:.2f}",
            f"{ours / run.seconds:.2f}",
            f"{run.peak_mebibytes:.0f}",
        )
        for title, run in measured.items()
    ]


def print_idle_runs(folder: Path) -> None:
    """Time and weigh `renew --all` with nothing due, and what others do on as many."""
    rows: list[tuple[str, ...]] = []
    for count in SIZES:
        main_file = make_idle_tree(folder / f"idle-{count}", count)
        commands = {
            "mdconnector renew --all": [
                *MDCONNECTOR, "--config", str(main_file), "-q", "renew", "--all",
            ],
            "apache2 -t": _configuration_test(main_file),
        }  # fmt: skip
        measured = side_by_side(commands, 3)
        if count <= 1000:
            with Pebble(folder / "ca", always_valid=True, nonce_reject=0) as ca:
                peers.make_lineages(folder / "certbot", ca, count)
                renew = peers.certbot_command(folder / "certbot", "renew")
                measured["certbot renew"] = best_of([*renew, "--no-random-sleep-on-renew"], 1)
        rows += _multiples(count, measured)
    print_table(
        "Nothing due",
        ("domains", "command", "seconds", "mdconnector's as a multiple", "MiB"),
        rows,
    )


def print_scans(folder: Path) -> None:
    """Time and weigh `scan --json`, without and with live certificates to judge, and Apache's test.

    Apache's own test opens no certificate, so the sites alone are what both read.
    """
    rows: list[tuple[str, ...]] = []
    for count in SIZES:
        bare = make_tree(folder / f"sites-{count}", count)
        live = make_idle_tree(folder / f"scan-{count}", count)
        scan = [*MDCONNECTOR, "scan", "--json", "--config"]
        commands = {
            "mdconnector scan --json": [*scan, str(bare)],
            "apache2 -t": _configuration_test(bare),
            "scan, and as many live certificates": [*scan, str(live)],
        }
        rows += _multiples(count, side_by_side(commands, 3))
    print_table(
        "scan, and Apache's own reading of the same files",
        ("sites", "command", "seconds", "mdconnector's as a multiple", "MiB"),
        rows,
    )


def _configuration_test(main_file: Path) -> list[str]:
    return [find_program("apache2"), "-d", str(main_file.parent), "-f", str(main_file), "-t"]


def print_cold_starts(folder: Path) -> None:
    """Time one domain's answers beside what it costs to load Python, click and X.509 at all."""
    main_file = make_idle_tree(folder / "cold", 1)
    base = [*MDCONNECTOR, "--config", str(main_file)]
    commands: dict[str, list[str]] = {
        "python -c 'import click'": [sys.executable, "-c", "import click"],
        "mdconnector --version": [*MDCONNECTOR, "--version"],
        f"python -c '{FLOOR}'": [sys.executable, "-c", FLOOR],
        "the same, and what reads keys": [sys.executable, "-c", FLOOR_FOR_KEYS],
        "mdconnector status": [*base, "status", name_of(0)],
        "mdconnector scan": [*base, "scan", name_of(0)],
    }
    for peer in ("certbot", "lego"):
        if peers.versions()[peer] != "missing":
            commands[f"{peer} --version"] = [find_program(peer), "--version"]
    measured = side_by_side(commands, 9)
    floor = measured[f"python -c '{FLOOR}'"].seconds
    print_table(
        "Cold starts, one domain, output in a pipe",
        ("command", "seconds", "ratio to click and X.509 alone", "MiB"),
        [
            (
                title,
                f"{run.seconds:.3f}",
                f"{run.seconds / floor:.2f}",
                f"{run.peak_mebibytes:.0f}",
            )
            for title, run in measured.items()
        ],
    )


def print_growth(folder: Path) -> None:
    """Time and weigh three commands on ever more domains; draw docs/growth.svg."""
    commands: Mapping[str, list[str]] = {
        "renew --all, nothing due": ["-q", "renew", "--all"],
        "scan --json": ["scan", "--json"],
        "status --json": ["status", "--json"],
    }
    lines: dict[str, list[tuple[int, float]]] = {title: [] for title in commands}
    rows = []
    for count in GROWTH:
        main_file = make_idle_tree(folder / f"growth-{count}", count)
        for title, arguments in commands.items():
            run = best_of([*MDCONNECTOR, "--config", str(main_file), *arguments], 3)
            lines[title].append((count, run.seconds))
            rows.append((f"{count:,}", title, f"{run.seconds:.2f}", f"{run.peak_mebibytes:.0f}"))
        shutil.rmtree(folder / f"growth-{count}")
    print_table("Growth", ("domains", "command", "seconds", "MiB"), rows)
    plot = Path("docs/growth.svg")
    plot.write_text(draw(lines))
    print(f"\n(drawn in {plot})")


FIGURES: Mapping[str, Callable[[Path], None]] = {
    "requests": print_requests,
    "cold": print_cold_starts,
    "enroll": print_enrollments,
    "idle": print_idle_runs,
    "scans": print_scans,
    "growth": print_growth,
}


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder below /tmp and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def main(names: list[str]) -> None:
    """Print the figures of these names; all without any."""
    unknown = set(names) - set(FIGURES)
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: the figures are {', '.join(FIGURES)}")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors, Linux {platform.release()},")
    print(f"Python {platform.python_version()}")
    print(", ".join(f"{name} {version}" for name, version in peers.versions().items()))
    for name in names or FIGURES:
        with temporary_folder() as folder:
            FIGURES[name](folder)


if __name__ == "__main__":
    os.umask(0o022)
    main(sys.argv[1:])
