"""dns-01 (RFC 8555 §8.4) by the administrator's MDChallengeDns01 command.

Rules: `<line> setup <domain> <value>`, then `<line> teardown <domain>`, in version 2 with the value
(mod_md: md_acme_authz.c, cha_dns_01_setup). The domain is without `*.` and `_acme-challenge.`. The
CA is told as soon as the command has ended: waiting for the DNS is the command's part.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from mdconnector.challenges.traces import DnsRecord
from mdconnector.errors import ChallengeError
from mdconnector.hooks import HookOutcome, run_hook

TIMEOUT_SECONDS = 600.0
"""a command may wait until all name servers of a zone have the record"""


def prepare(
    command: str, version: int, identifier: str, answer: str
) -> tuple[DnsRecord, Callable[[], tuple[str, ...]]]:
    """Return the record to be made, and the function that makes it."""
    digest = hashlib.sha256(answer.encode("ascii")).digest()
    value = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    record = DnsRecord(command, version, identifier, value)
    return record, lambda: _set_up(record)


def tear_down(record: DnsRecord) -> None:
    """Have the record removed. Raises ChallengeError where the command says that it failed."""
    command, *arguments = teardown_words(record)
    _run(command, arguments)


def teardown_words(record: DnsRecord) -> tuple[str, ...]:
    """Return the command line and the arguments that remove a record."""
    words = (record.command, "teardown", record.domain)
    return words if record.version == 1 else (*words, record.value)


def _set_up(record: DnsRecord) -> tuple[str, ...]:
    _run(record.command, ["setup", record.domain, record.value])
    return ()


def _run(command: str, arguments: list[str]) -> None:
    result = run_hook(command, arguments, timeout_seconds=TIMEOUT_SECONDS)
    if result.outcome is not HookOutcome.OK:
        raise ChallengeError(
            f"{arguments[0]} for {arguments[1]}: {result}",
            hint="run the command of MDChallengeDns01 by hand with these arguments",
        )
