"""Apache's user plays with its folders while we, as root, set up and tear down in them."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdconnector.challenges import challenge_files, document_root, http_01
from mdconnector.challenges.traces import ChallengeFiles
from mdconnector.errors import MdConnectorError
from mdconnector.store.tree import Store
from tests.challenges.conftest import ANSWER, TOKEN, site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has an adversary")

RUNS = 100
NAME = "shop.example.org"

_ADVERSARY = """
import os, shutil, sys, itertools
uid, gid, victim, *targets = sys.argv[1:]
os.setgroups([]); os.setresgid(*[int(gid)] * 3); os.setresuid(*[int(uid)] * 3)
def link(path): os.symlink(victim, path)
def hard(path): os.link(victim + "/readable", path)
def deep(path): os.makedirs(path + "/a/b/c")
def full(path): open(path, "w").write("x" * 1000000)
print("ready", flush=True)
for make in itertools.cycle((link, os.mkfifo, hard, full, deep, os.mkdir)):
    for target in targets:
        try:
            if os.path.isdir(target) and not os.path.islink(target):
                shutil.rmtree(target)
            elif os.path.lexists(target):
                os.unlink(target)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            make(target)
        except OSError:
            pass
"""


@pytest.fixture
def victim(parts_folder: Path) -> Path:
    """A folder of root's; nothing in it may ever change."""
    folder = parts_folder / "victim"
    folder.mkdir()
    for name in ("acme-http-01.txt", TOKEN, "readable"):
        (folder / name).write_text("precious")
    return folder


def is_untouched(victim: Path) -> bool:
    names = {path.name for path in victim.iterdir()}
    contents = {path.read_text() for path in victim.iterdir()}
    return names == {"acme-http-01.txt", TOKEN, "readable"} and contents == {"precious"}


@contextmanager
def adversary(victim: Path, *targets: Path) -> Iterator[subprocess.Popen[bytes]]:
    httpd = pwd.getpwnam("www-data")
    words = map(str, (httpd.pw_uid, httpd.pw_gid, victim, *targets))
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _ADVERSARY, *words], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
            assert process.poll() is None
        finally:
            process.kill()


def test_matrix_w7_challenges_folder_never_leads_us_elsewhere(store: Store, victim: Path) -> None:
    folder = store.path / "challenges" / NAME
    with adversary(victim, folder, folder / "acme-http-01.txt"):
        for _ in range(RUNS):
            try:
                trace, make = http_01.prepare(NAME, TOKEN, ANSWER, site("*:443"), store)
                make()
                assert isinstance(trace, ChallengeFiles)
                challenge_files.remove(store, trace)
            except MdConnectorError:
                continue
    assert is_untouched(victim)


def test_matrix_w7_document_root_never_leads_us_elsewhere(parts_folder: Path, victim: Path) -> None:
    root = parts_folder / "htdocs"
    root.mkdir()
    httpd = pwd.getpwnam("www-data")
    os.chown(root, httpd.pw_uid, httpd.pw_gid)
    outer = root / ".well-known"
    with adversary(victim, outer, outer / "acme-challenge", outer / "acme-challenge" / TOKEN):
        for _ in range(RUNS // 4):
            try:
                trace = document_root.trace_of(str(root), TOKEN, ANSWER)
                document_root.write(trace)
                document_root.remove(trace)
            except MdConnectorError:
                continue
    assert is_untouched(victim)
