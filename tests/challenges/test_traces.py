"""mdconnector.challenges.traces: what is noted before it is made, and read again after a kill."""

from __future__ import annotations

import json

import pytest

from mdconnector.challenges.traces import (
    ChallengeFiles,
    DnsRecord,
    DocumentRootFile,
    traces_from_json,
    traces_to_json,
)
from mdconnector.errors import ChallengeError

TRACES = (
    ChallengeFiles("shop.example.org", (("acme-http-01.txt", "ab12"),), made_folder=True),
    DocumentRootFile("/srv/www", "token", "token.thumbprint", 2),
    DnsRecord("/usr/local/bin/dns --zone 'a b'", 2, "example.org", "value"),
)


def test_traces_come_back_from_json_as_they_were() -> None:
    assert traces_from_json(json.loads(json.dumps(traces_to_json(TRACES)))) == TRACES


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "x",
        [1],
        [{}],
        [{"kind": "x"}],
        [{"kind": "dns-record", "command": 1}],
        [{"kind": "challenge-files", "identifier": "a", "digests": ["abc"], "made_folder": True}],
    ],
)
def test_damaged_note_is_an_error_of_ours(value: object) -> None:
    with pytest.raises(ChallengeError, match="damaged"):
        traces_from_json(value)
