"""Answer the CA's challenges by what Apache has: mod_md's folder, a DocumentRoot, a dns-01 command.

Rules: all authorizations of an order are set up before the CA is told about any, because a wildcard
and its base name share one TXT name. For each the first type whose set-up succeeds is taken, in
mod_md's order (md_acme_authz.c, md_acme_authz_respond). The caller notes what will be made first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from mdconnector.challenges import challenge_files, dns_01, document_root, http_01, tls_alpn_01
from mdconnector.challenges.offers import (
    ChallengeSite,
    ChallengeType,
    Offer,
    OfferedAuthorization,
    Task,
    impossible,
    plan,
)
from mdconnector.challenges.traces import (
    ChallengeFiles,
    DnsRecord,
    DocumentRootFile,
    Trace,
    traces_from_json,
    traces_to_json,
)
from mdconnector.errors import ErrorClass, MdConnectorError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.tree import Store

__all__ = [
    "Answer",
    "ChallengeSite",
    "ChallengeType",
    "Offer",
    "OfferedAuthorization",
    "Setups",
    "Trace",
    "set_up",
    "tear_down",
    "traces_from_json",
    "traces_to_json",
]


Announce = Callable[[ChallengeType, str], None]
"""is told the type of a challenge and the DNS name, without `*.`"""


class Answer(NamedTuple):
    """A challenge that waits for the CA: POST `{}` to its `url`."""

    name: str
    """the name that it proves, with `*.` for a wildcard"""
    type: ChallengeType
    url: str
    notes: tuple[str, ...] = ()
    """what looked odd, to be shown where the CA then fails to validate; safe to print"""


class Setups(NamedTuple):
    """What was set up for an order: the answers, and what to tear down once the CA has looked."""

    answers: tuple[Answer, ...]
    traces: tuple[Trace, ...]


class _Run(NamedTuple):
    """One call of `set_up`."""

    domain: ManagedDomain
    site: ChallengeSite
    store: Store
    key_authorization: Callable[[str], str]
    remember: Callable[[Sequence[Trace]], None]
    announce: Announce
    now: datetime
    traces: list[Trace]


def set_up(
    authorizations: Sequence[OfferedAuthorization],
    domain: ManagedDomain,
    site: ChallengeSite,
    *,
    store: Store,
    key_authorization: Callable[[str], str],
    remember: Callable[[Sequence[Trace]], None],
    now: datetime,
    announce: Announce = lambda *_: None,
) -> Setups:
    """Prepare the answer to one challenge of each pending authorization.

    `key_authorization` makes `token.thumbprint` of a token (RFC 8555 §8.1). `remember` is called
    with all that has to be torn down, before each piece is made and whenever less is left: it must
    be durable when it returns. `announce` hears of each answer in its place, and may refuse that
    type by a ChallengeError. Raises ChallengeError, with everything torn down again, if one name
    cannot be proved.
    """
    run = _Run(domain, site, store, key_authorization, remember, announce, now, traces=[])
    tasks = plan(authorizations, domain, site)
    try:
        answers = tuple(_set_up_one(task, run) for task in tasks)
    except BaseException:
        tear_down(run.traces, store)
        remember(())
        raise
    return Setups(answers, tuple(run.traces))


def tear_down(traces: Sequence[Trace], store: Store) -> tuple[str, ...]:
    """Remove what `set_up` made and nothing else; return what could not be removed."""
    warnings: list[str] = []
    for trace in _without_repetition(traces):
        try:
            _remove(trace, store)
        except MdConnectorError as error:
            warnings.append(str(error))
    return tuple(warnings)


def _set_up_one(task: Task, run: _Run) -> Answer:
    reasons = list(task.obstacles)
    for kind, offer in task.offers:
        try:
            notes = _set_up_offer(task, kind, offer, run)
        except MdConnectorError as error:
            reasons.append(f"{kind}: {error}")
        else:
            return Answer(task.name, kind, offer.url, notes)
    raise impossible(task, run.domain, reasons, ErrorClass.TRANSIENT)


def _set_up_offer(task: Task, kind: ChallengeType, offer: Offer, run: _Run) -> tuple[str, ...]:
    trace, make = _prepare(task, kind, offer, run)
    run.traces.append(trace)
    run.remember(tuple(run.traces))
    try:
        notes = make()
        run.announce(kind, task.identifier)
    except MdConnectorError:
        run.traces.pop()
        tear_down((trace,), run.store)
        run.remember(tuple(run.traces))
        raise
    return notes


def _prepare(
    task: Task, kind: ChallengeType, offer: Offer, run: _Run
) -> tuple[Trace, Callable[[], tuple[str, ...]]]:
    """Return what would be made, and the function that makes it and returns notes."""
    answer = run.key_authorization(offer.token)
    match kind:
        case ChallengeType.HTTP_01:
            return http_01.prepare(task.identifier, offer.token, answer, run.site, run.store)
        case ChallengeType.DNS_01:
            command = run.domain.dns01_command or ""
            return dns_01.prepare(command, run.site.dns01_version, task.identifier, answer)
        case ChallengeType.TLS_ALPN_01:
            specs = run.site.server_key_specs
            return tls_alpn_01.prepare(task.identifier, answer, specs, run.store, run.now)


def _remove(trace: Trace, store: Store) -> None:
    match trace:
        case ChallengeFiles():
            challenge_files.remove(store, trace)
        case DocumentRootFile():
            document_root.remove(trace)
        case DnsRecord():
            dns_01.tear_down(trace)


def _without_repetition(traces: Sequence[Trace]) -> tuple[Trace, ...]:
    """Leave out a second `teardown` of the same words: version 1 has the same for `x` and `*.x`."""
    kept: dict[object, Trace] = {}
    for trace in traces:
        words = dns_01.teardown_words(trace) if isinstance(trace, DnsRecord) else trace
        kept.setdefault(words, trace)
    return tuple(kept.values())
