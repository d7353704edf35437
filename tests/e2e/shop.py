"""A running Apache with one managed domain, whose new set waits in staging."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from mdconnector.keys import KeySpec
from tests.e2e.command import COMMAND, Finished, run
from tests.e2e.estate import leaf_in, served_leaf
from tests.parts import Apache

NAME = "shop.example"


@dataclass(frozen=True, slots=True)
class Shop:
    """A running Apache that serves an old set, and a new one that waits in staging."""

    apache: Apache
    old: x509.Certificate
    new: x509.Certificate
    spec: KeySpec

    @property
    def live(self) -> x509.Certificate:
        """The leaf in domains/."""
        return leaf_in(self.apache.store / "domains" / NAME, self.spec.pubcert_name)

    @property
    def served(self) -> x509.Certificate:
        """The leaf that Apache shows in a handshake."""
        return served_leaf(self.apache, NAME)

    @property
    def is_staged(self) -> bool:
        """Whether the new set still waits."""
        chain = self.apache.store / "staging" / NAME / self.spec.pubcert_name
        return chain.exists() and leaf_in(chain.parent, chain.name) == self.new

    @property
    def is_pending(self) -> bool:
        """Whether the root-only copy of the new set is still kept."""
        return (self.apache.store / "mdconnector" / "pending" / NAME).exists()

    @property
    def refused(self) -> Path:
        """Where a set goes that Apache refused."""
        return self.apache.store / "mdconnector" / "refused" / NAME

    @property
    def reloads(self) -> int:
        """How often this Apache has reloaded."""
        return self.apache.error_log().count("AH00493: SIGUSR1 received")

    def promote(self, *options: str, command: Sequence[str] = COMMAND) -> Finished:
        """Promote everything, for JSON."""
        words = ("promote", "--all", "--json", *options)
        return run(*words, config=self.apache.config, command=command)

    @contextmanager
    def reloaded(self, times: int) -> Iterator[None]:
        """Expect so many reloads meanwhile."""
        before = self.reloads
        yield
        assert self.reloads - before == times
