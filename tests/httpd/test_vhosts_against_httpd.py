"""Names, aliases and addresses of random virtual hosts are those that the installed httpd prints.

MDCONNECTOR_DIFFERENTIAL_CONFIGS sets how many configurations are tried, a thirtieth of it, and
MDCONNECTOR_DIFFERENTIAL_SEED where the seeds begin.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdconnector.httpd.dumps import parse_vhosts_dump
from mdconnector.httpd.evaluator import evaluate
from mdconnector.httpd.vhosts import read_servers
from mdconnector.managed_domain import Address
from tests.httpd.oracle import base_lines, dump_vhosts, world

pytestmark = pytest.mark.apache

_CONFIGS = max(1, int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_CONFIGS", "150")) // 30)
_FIRST_SEED = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_SEED", "1"))
_VHOSTS = 100
_ADDRESSES = [
    *("*:80", "*:80", "*:81", "_default_:80", "_DEFAULT_", "*", "*:*", "0.0.0.0:81", "[::]:81"),
    *("127.0.0.1:82", "127.0.0.1:82", "[::1]:83", "[0:0::1]:83", "127.0.0.1:*"),
]
_NAMES = [
    *("a.example.org", "A.Example.ORG", "b.example.org:8443", "https://c.example.org", "d"),
    *("https://e.example.org:443", '"f.example.org"', "under_score.example.org", "g.example.org."),
    *("xn--bcher-kva.example", "b\xfccher.example", "user@h.example.org", "h.example.org/path"),
    *("${NAME}", "'i.example.org", "http://j.example.org", "\\k.example.org", "192.0.2.7"),
]
_PIECES = [
    *("a", "b.example.org", "Xy", "0", "-", "*", "*.w.example", "?", "[x]", "!", ",", ";", "#"),
    *('"', "'", '"x y"', "'x y'", "\\", "\\\\", '\\"', "\\'", '"a\\"b"', '""', "\xe9", "$", "${"),
    *("${NAME}", "${none}", "<", ">", ":443", "@", "%", "=", "\x01"),
]

Shown = dict[tuple[int, str], tuple[str, tuple[str, ...]]]
"""by line and address: the name, and the aliases in some order"""


def text_of(seed: int) -> bytes:
    """Write virtual hosts, of which each address has several."""
    choice = random.Random(seed)  # noqa: S311 - it has to be repeatable
    lines = ["Define NAME defined.example.org"]
    for _ in range(_VHOSTS):
        addresses = choice.sample(_ADDRESSES, choice.choice([1, 1, 1, 2, 3]))
        lines.append(f"<VirtualHost {' '.join(addresses)}>")
        lines += [f"ServerName {choice.choice(_NAMES)}"] * (choice.random() < 0.8)
        for _ in range(choice.choice([0, 1, 1, 2])):
            words = (
                "".join(choice.choices(_PIECES, k=choice.choice([1, 1, 2, 3])))
                for _ in range(choice.randint(1, 5))
            )
            blank = choice.choice([" ", "  ", "\t", " \\\n "])
            # with a blank, so that a backslash at the end continues nothing
            lines.append(f"ServerAlias {blank.join(words)} ")
        lines += [f"ServerName {choice.choice(_NAMES)}"] * (choice.random() < 0.1)
        lines.append("</VirtualHost>")
    return "\n".join([*lines, ""]).encode("latin-1")


def theirs(output: str) -> Shown:
    """Return what httpd prints of the virtual hosts that share their address."""
    return {
        (one.line, one.address): (one.server_name, tuple(sorted(one.aliases)))
        for one in parse_vhosts_dump(output)
        if one.aliases is not None
    }


def ours(root: Path, folder: Path) -> Iterator[tuple[tuple[int, str], tuple[str, tuple[str, ...]]]]:
    """Yield the same from our reading."""
    evaluation = evaluate(str(root), world=world(folder))
    assert evaluation.errors == ()
    for vhost in read_servers(evaluation.directives, server_root=str(folder)).vhosts:
        for address in vhost.addresses:
            key = (vhost.declared_at.line, as_printed(address))
            yield key, (vhost.server_name, tuple(sorted(vhost.aliases)))


def as_printed(address: Address) -> str:
    """Write an address of `_ADDRESSES` as httpd does."""
    host = {"0.0.0.0": "*", "::": "*", "0:0::1": "::1"}.get(address.host, address.host)  # noqa: S104 - printed only
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{'*' if address.port is None else address.port}"


@pytest.mark.parametrize("seed", range(_FIRST_SEED, _FIRST_SEED + _CONFIGS))
def test_random_vhosts_are_those_that_httpd_prints(seed: int, tmp_path: Path) -> None:
    root = tmp_path / "root.conf"
    root.write_bytes(base_lines(tmp_path).encode() + text_of(seed))
    shown = theirs(dump_vhosts(tmp_path, root))
    read = {key: one for key, one in ours(root, tmp_path) if key in shown}
    assert len(shown) > _VHOSTS
    assert read.keys() == shown.keys()
    for key, (name, aliases) in shown.items():
        our_name, our_aliases = read[key]
        assert our_aliases == aliases, f"seed {seed}, line {key[0]}"
        # where httpd asks the DNS for the name of an address, we have none
        assert our_name in {name, ""}, f"seed {seed}, line {key[0]}"
        assert our_name or not key[1].startswith("*"), f"seed {seed}, line {key[0]}"
