"""What the CA asks, what this host can answer, and which challenge types to try. Pure values.

Rules: identifiers and tokens come from the CA and become names of files, so nothing is done for one
that is not a name of the managed domain, or for a token of any other form than RFC 8555 §8 allows.
The order of the types is mod_md's (md_acme_drive.c, acme_driver_init).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from mdconnector.errors import ChallengeError, ErrorClass
from mdconnector.keys import DEFAULT_KEY_SPEC, KeySpec
from mdconnector.managed_domain import Address, ManagedDomain, VirtualHost, is_dns_name
from mdconnector.printable import printable

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,256}")
_SHOWN_CHARACTERS = 80
_SHOWN_OFFERS = 10


class ChallengeType(StrEnum):
    """The challenge types that can be answered, in mod_md's automatic order."""

    TLS_ALPN_01 = "tls-alpn-01"
    HTTP_01 = "http-01"
    DNS_01 = "dns-01"


class Offer(NamedTuple):
    """One challenge of an authorization, as the CA sent it; `token` is "" where it sent none."""

    type: str
    token: str
    url: str


class OfferedAuthorization(NamedTuple):
    """A pending authorization: which name to prove, and how the CA would take it."""

    identifier: str
    wildcard: bool
    offers: tuple[Offer, ...]


class ChallengeSite(NamedTuple):
    """What this host has for answering challenges, from Apache's configuration."""

    mod_md_loaded: bool
    listens: tuple[Address, ...]
    """every Listen whose protocol is not named or begins with `http`"""
    vhosts: tuple[VirtualHost, ...]
    """all of the server in the order of the configuration, the base server included"""
    http_port: int | None = 80
    """the local port that MDPortMap gives for 80; None for `-`"""
    https_port: int | None = 443
    dns01_version: int = 1
    """MDChallengeDns01Version"""
    server_key_specs: tuple[KeySpec, ...] = (DEFAULT_KEY_SPEC,)
    """MDPrivateKeys of the server: under these names mod_md looks for the answers to tls-alpn-01"""

    def listens_on(self, port: int | None) -> bool:
        """Say whether Apache listens on a local port."""
        return port is not None and any(address.port == port for address in self.listens)


class Task(NamedTuple):
    """An authorization that has passed the checks, with what to try for it, in order."""

    identifier: str
    """lower case, without `*.`"""
    wildcard: bool
    offers: tuple[tuple[ChallengeType, Offer], ...]
    offered: str
    """the types that the CA offers, safe to print"""
    obstacles: tuple[str, ...]
    """why the other types are not tried"""

    @property
    def name(self) -> str:
        """The name that is proved."""
        return f"*.{self.identifier}" if self.wildcard else self.identifier


def plan(
    authorizations: Sequence[OfferedAuthorization], domain: ManagedDomain, site: ChallengeSite
) -> tuple[Task, ...]:
    """Check every authorization and choose what to try for it.

    Raises ChallengeError before anything is set up: for a name that is not the domain's, for one
    that is asked for twice, and for one that cannot be proved on this host.
    """
    obstacles = _obstacles(domain, site)
    tasks: list[Task] = []
    for authorization in authorizations:
        task = _task(authorization, domain, obstacles)
        if any(other.name == task.name for other in tasks):
            raise ChallengeError(f"the CA asks twice for a proof of {task.name}")
        if not task.offers:
            raise impossible(task, domain, task.obstacles)
        tasks.append(task)
    return tuple(tasks)


def impossible(
    task: Task,
    domain: ManagedDomain,
    reasons: Sequence[str],
    error_class: ErrorClass = ErrorClass.NEEDS_HUMAN,
) -> ChallengeError:
    """Return the error that says what was offered, what stood against it, and what to do."""
    hint = "make one of these challenges possible"
    if domain.eab is not None:
        hint = f"validate this domain in the CA's portal, or {hint}"
    return ChallengeError(
        f"{task.name} cannot be proved to the CA: it offers {task.offered}; {'; '.join(reasons)}",
        hint=f"{hint}; then: mdconnector renew {domain.name}",
        error_class=error_class,
    )


def _task(
    authorization: OfferedAuthorization, domain: ManagedDomain, obstacles: dict[ChallengeType, str]
) -> Task:
    identifier, wildcard = _checked_identifier(authorization, domain)
    offers: list[tuple[ChallengeType, Offer]] = []
    reasons: list[str] = []
    for kind in _wanted_types(domain):
        offer = _offer_of(authorization, kind)
        obstacle = _offer_obstacle(offer, kind, wildcard) or obstacles.get(kind)
        if offer is not None and obstacle is None:
            offers.append((kind, offer))
        elif obstacle is not None:
            reasons.append(f"{kind}: {obstacle}")
    if domain.challenges:
        reasons.append(f"MDCAChallenges allows only {printable(' '.join(domain.challenges))}")
    return Task(identifier, wildcard, tuple(offers), _offered(authorization), tuple(reasons))


def _checked_identifier(
    authorization: OfferedAuthorization, domain: ManagedDomain
) -> tuple[str, bool]:
    """Return the name without `*.`, and whether it is a wildcard's; some CAs forget to say so."""
    name = authorization.identifier.lower()
    base = name.removeprefix("*.")
    wildcard = authorization.wildcard or name.startswith("*.") or base not in domain.names
    if is_dns_name(base) and (f"*.{base}" if wildcard else base) in domain.names:
        return base, wildcard
    shown = printable(authorization.identifier, _SHOWN_CHARACTERS)
    raise ChallengeError(
        f"the CA asks for a proof of '{shown}', which is not a name of this managed domain"
    )


def _wanted_types(domain: ManagedDomain) -> tuple[ChallengeType, ...]:
    known = {kind.value: kind for kind in ChallengeType}
    return tuple(known[name] for name in domain.challenges or tuple(ChallengeType) if name in known)


def _offer_of(authorization: OfferedAuthorization, kind: ChallengeType) -> Offer | None:
    return next((offer for offer in authorization.offers if offer.type == kind.value), None)


def _offer_obstacle(offer: Offer | None, kind: ChallengeType, wildcard: bool) -> str | None:
    if offer is None:
        return "the CA does not offer it"
    if wildcard and kind is not ChallengeType.DNS_01:
        return "it proves no wildcard name"
    if not _TOKEN.fullmatch(offer.token):
        shown = printable(offer.token, _SHOWN_CHARACTERS)
        return f"its token '{shown}' is none that RFC 8555 allows" if shown else "it has no token"
    return None


def _obstacles(domain: ManagedDomain, site: ChallengeSite) -> dict[ChallengeType, str]:
    """Return what cannot work on this host, and why.

    Where MDCAChallenges names the types, only what nobody could answer is left out, as in mod_md.
    """
    found: dict[ChallengeType, str] = {}
    if domain.dns01_command is None:
        found[ChallengeType.DNS_01] = "there is no MDChallengeDns01 command"
    if not site.mod_md_loaded:
        found[ChallengeType.TLS_ALPN_01] = "Apache has not loaded mod_md, which would answer it"
    elif not domain.acme_tls_names:
        found[ChallengeType.TLS_ALPN_01] = "no SSL vhost of it has 'Protocols acme-tls/1'"
    elif not domain.challenges and not site.listens_on(site.https_port):
        found[ChallengeType.TLS_ALPN_01] = _not_listening(site.https_port, "https")
    if not domain.challenges and not site.listens_on(site.http_port):
        found[ChallengeType.HTTP_01] = _not_listening(site.http_port, "http")
    return found


def _not_listening(port: int | None, scheme: str) -> str:
    return f"MDPortMap says {scheme}:-" if port is None else f"there is no 'Listen {port}'"


def _offered(authorization: OfferedAuthorization) -> str:
    types = [printable(offer.type, _SHOWN_CHARACTERS) for offer in authorization.offers]
    return ", ".join(types[:_SHOWN_OFFERS]) or "no challenge"
