"""revoke: choose certificates of one name, show them, have their CA revoke them.

Rules: what is chosen is read without the lock, because a person may look at it for long; what is
revoked is just that, read again under the lock. A name that is not configured any more will do as
long as the store holds certificates of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mdconnector.authorities import Sessions
from mdconnector.certificates import RevocationReason
from mdconnector.commands.loading import Clock, Say, open_store, select
from mdconnector.commands.mending import waiting
from mdconnector.errors import UsageError
from mdconnector.httpd.configuration import Configuration
from mdconnector.managed_domain import is_dns_name
from mdconnector.outcomes.revoke import RevocationRun
from mdconnector.printable import printable
from mdconnector.revocation import Target, revoke
from mdconnector.stock import local_time
from mdconnector.store.holdings import Holding, Place, holdings_of
from mdconnector.store.lock import run_lock
from mdconnector.store.tree import Store


class Choice(NamedTuple):
    """What is to be revoked."""

    target: Target
    holdings: tuple[Holding, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person has to see before saying yes, a line for each certificate."""
        return tuple(_line(holding) for holding in self.holdings)

    @property
    def is_live(self) -> bool:
        """Say whether Apache may be serving one of them."""
        return any(holding.place is Place.LIVE for holding in self.holdings)


def choose(
    configuration: Configuration, name: str, serials: Sequence[str], now: datetime
) -> Choice:
    """Return the live certificates of a name that have not expired, or those with these serials.

    Raises UsageError where there is none, and tells which there are.
    """
    with open_store(configuration) as store:
        target, held = _held(configuration, store, name)
    wanted = dict.fromkeys(_serial(text) for text in serials)
    if not wanted:
        live = [one for one in held if one.place is Place.LIVE and one.facts.not_after > now]
        if not live:
            raise UsageError(
                f"{target.name} has no live certificate that is valid now", hint=_known(held)
            )
        return Choice(target, tuple(live))
    missing = [serial for serial in wanted if all(one.facts.serial != serial for one in held)]
    if missing:
        raise UsageError(
            f"the store holds no certificate of {target.name} with the serial {missing[0]:x}",
            hint=_known(held),
        )
    return Choice(target, tuple(one for one in held if one.facts.serial in wanted))


def revoke_chosen(
    configuration: Configuration,
    choice: Choice,
    *,
    reason: RevocationReason,
    lock_wait_seconds: float,
    clock: Clock,
    say: Say,
) -> RevocationRun:
    """Have the chosen certificates revoked, wherever they lie by now."""
    with open_store(configuration) as store:
        if store is None:
            raise UsageError("the store has gone", hint="see MDStoreDir, or --store")
        with run_lock(
            store, wait_seconds=lock_wait_seconds, command="revoke", on_wait=waiting(say)
        ):
            wanted = {one.facts.sha256 for one in choice.holdings}
            held = holdings_of(store, choice.target.name)
            holdings = [one for one in held if one.facts.sha256 in wanted]
            if len(holdings) < len(wanted):
                raise UsageError(
                    "the store holds other certificates now; nothing was revoked",
                    hint=f"look again: mdconnector revoke {choice.target.name}",
                )
            sessions = Sessions(store, clock)
            try:
                outcome = revoke(
                    choice.target,
                    holdings,
                    reason=reason,
                    store=store,
                    sessions=sessions,
                    now=clock(),
                )
            finally:
                sessions.close()
            return RevocationRun((outcome,))


def _held(
    configuration: Configuration, store: Store | None, name: str
) -> tuple[Target, tuple[Holding, ...]]:
    """Return whose certificates are meant, and all of them."""
    try:
        (domain,) = select(configuration, [name])
    except UsageError:
        own_name = name.strip().rstrip(".").lower()
        held = holdings_of(store, own_name) if store and is_dns_name(own_name) else ()
        if not held:
            raise
        return Target(own_name, None, configuration.ca_access), held
    held = () if store is None else holdings_of(store, domain.name)
    return Target(domain.name, domain, domain.ca_access), held


def _serial(text: str) -> int:
    try:
        return int(text.replace(":", ""), 16)
    except ValueError:
        raise UsageError(
            f"'{printable(text, 80)}' is not a serial number",
            hint="write it in hexadecimal, as status --json and openssl x509 -serial show it",
        ) from None


def _line(holding: Holding) -> str:
    facts = holding.facts
    return printable(
        f"{facts.key_label} {facts.serial:x}, {holding.place.name.lower()}, "
        f"valid until {local_time(facts.not_after)}, {', '.join(facts.names)} ({holding.path})",
        1000,
    )


def _known(held: Sequence[Holding]) -> str:
    if not held:
        return "the store holds none for this name"
    shown = "; ".join(_line(one) for one in held[:10])
    return f"it holds, for --serial: {shown}"
