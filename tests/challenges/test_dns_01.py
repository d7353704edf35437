"""mdconnector.challenges.dns_01: the administrator's command, in both versions."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import sys
from pathlib import Path

import pytest

from mdconnector.challenges import dns_01
from mdconnector.challenges.traces import DnsRecord
from mdconnector.errors import ChallengeError
from tests.challenges.conftest import ANSWER
from tests.parts import Challtestsrv

VALUE = base64.urlsafe_b64encode(hashlib.sha256(ANSWER.encode()).digest()).rstrip(b"=").decode()
EXAMPLE = Path(__file__).parents[2] / "examples" / "dns-01" / "challtestsrv.py"


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    """A command that writes its words down, a call on a line."""
    script = tmp_path / "dns"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    script.chmod(0o755)
    return script


def calls(hook: Path) -> list[str]:
    return (hook.parent / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("version", "teardown"),
    [(1, "--zone x teardown example.org"), (2, f"--zone x teardown example.org {VALUE}")],
)
def test_command_is_called_as_mod_md_calls_it(hook: Path, version: int, teardown: str) -> None:
    trace, make = dns_01.prepare(f"{hook} --zone x", version, "example.org", ANSWER)
    assert make() == ()
    dns_01.tear_down(trace)
    assert calls(hook) == [f"--zone x setup example.org {VALUE}", teardown]


def test_exit_code_and_words_of_the_command_are_told(tmp_path: Path) -> None:
    script = tmp_path / "dns"
    script.write_text("#!/bin/sh\necho zone is locked\nexit 2\n")
    script.chmod(0o755)
    _, make = dns_01.prepare(str(script), 1, "example.org", ANSWER)
    with pytest.raises(ChallengeError) as caught:
        make()
    expected = f"setup for example.org: {script} exited with 2: zone is locked"
    assert str(caught.value) == expected


def test_command_that_cannot_be_run_is_an_error() -> None:
    _, make = dns_01.prepare("dns.sh", 1, "example.org", ANSWER)
    with pytest.raises(
        ChallengeError, match=r"dns\.sh was not run: it must begin with an absolute"
    ):
        make()


def txt_records(server: Challtestsrv, name: str) -> set[str]:
    """Ask the DNS server itself, as a CA does."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = (
        struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 16, 1)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", server.dns_port))
        client.send(question)
        answer = client.recv(4096)
    count = struct.unpack(">H", answer[6:8])[0]
    found, position = set(), len(question)
    for _ in range(count):
        while answer[position] and answer[position] < 0xC0:
            position += 1 + answer[position]
        position += 12 if answer[position] else 11
        length = answer[position + 0]
        found.add(answer[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return found


@pytest.mark.pebble
def test_record_is_in_the_dns_until_it_is_torn_down(dns: Challtestsrv, tmp_path: Path) -> None:
    script = tmp_path / "challtestsrv"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {EXAMPLE} {dns.management_url} "$@"\n')
    script.chmod(0o755)
    trace, make = dns_01.prepare(str(script), 2, "dns01.example.org", ANSWER)
    other = DnsRecord(str(script), 2, "dns01.example.org", "other")
    make()
    assert txt_records(dns, "_acme-challenge.dns01.example.org") == {VALUE}
    dns_01.tear_down(trace)
    dns_01.tear_down(other)
    assert txt_records(dns, "_acme-challenge.dns01.example.org") == set()
    assert dns.dns_requests("_acme-challenge.dns01.example.org"), "the records were looked up"
