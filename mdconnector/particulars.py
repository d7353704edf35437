"""What `status NAME` tells of one managed domain beyond its row, as values. Pure.

Rule: all text in them is safe to print.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class ChainLink(NamedTuple):
    """One certificate of a chain."""

    subject: str
    issuer: str
    not_after: datetime
    sha256: str


class LiveChain(NamedTuple):
    """The chain of one live certificate, leaf first, and the names in the leaf."""

    key_label: str
    names: tuple[str, ...]
    links: tuple[ChainLink, ...]


class AccountInUse(NamedTuple):
    """The account that the next order uses."""

    id: str
    url: str
    ca_url: str
    kid: str | None
    """of its external account binding"""


class PastRun(NamedTuple):
    """A run that did something for the domain."""

    at: datetime
    command: str
    outcome: str
    detail: str


class NextStep(NamedTuple):
    """What happens next, in a sentence; `at` is None where that is not a matter of time."""

    words: str
    at: datetime | None = None


class Shown(NamedTuple):
    """What Apache shows at one address of a virtual host, or in `fault` why that is not known."""

    address: str
    port: int
    server_name: str
    vhost_at: str
    """`file:line`"""
    key_label: str | None
    """the kind of key that was asked for; None: no preference"""
    serial: str | None = None
    sha256: str | None = None
    is_stored: bool | None = None
    """whether it is one of the live certificates"""
    fault: str | None = None


class Particulars(NamedTuple):
    """All that `status NAME` adds."""

    chains: tuple[LiveChain, ...]
    account: AccountInUse | None
    next_step: NextStep
    runs: tuple[PastRun, ...] = ()
    """newest first"""
    shown: tuple[Shown, ...] = ()
    account_trouble: str = ""
    """why the account is not known"""
