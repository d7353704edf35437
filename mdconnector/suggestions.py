"""Ask the CAs when they would have our certificates renewed (ARI), and remember their answers.

Rules: a CA is asked about its own certificates, and only about what is not due anyway. No failure
here holds up anything: it is remembered when to ask again, and the certificate's own window stays
in force.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import MappingProxyType

from mdconnector.acme.renewal_info import fetch_suggestion
from mdconnector.authorities import Clock, Sessions
from mdconnector.certificates import CertificateFacts
from mdconnector.errors import CaError, CaUnreachableError, MdConnectorError
from mdconnector.managed_domain import ManagedDomain
from mdconnector.renewal import RenewalInfo, heed
from mdconnector.stock import Stock, judge, questions
from mdconnector.store.attempts import save_attempt
from mdconnector.store.live import issuing_ca
from mdconnector.store.tree import Store
from mdconnector.warning import warn


def ask_when_to_renew(
    stocks: Sequence[Stock], ca_urls: Collection[str], *, store: Store, clock: Clock, jobs: int
) -> tuple[Stock, ...]:
    """Ask these CAs about each live certificate for which it is time; return the stocks then."""
    sessions = Sessions(store, clock)
    try:
        with ThreadPoolExecutor(jobs, thread_name_prefix="ari") as pool:
            return tuple(pool.map(_Interview(store, sessions, ca_urls).about, stocks))
    finally:
        sessions.close()


class _Interview:
    """The questions of one run; a CA that does not answer one is not asked the others."""

    def __init__(self, store: Store, sessions: Sessions, ca_urls: Collection[str]) -> None:
        self._store = store
        self._sessions = sessions
        self._ca_urls = ca_urls
        self._silent: set[str] = set()

    def about(self, stock: Stock) -> Stock:
        """Ask about one domain's certificates, and keep the answers."""
        asked = questions(stock)
        url = _ca_to_ask(self._store, stock.domain) if asked else None
        if url is None or url not in self._ca_urls:
            return stock
        known = stock.record.renewal_info
        answers = {facts.ari_id: self._answer(stock, facts, url) for facts in asked}
        live = {one.facts.ari_id for one in stock.live if one.facts is not None}
        kept = {ari_id: info for ari_id, info in known.items() if ari_id in live}
        kept |= {ari_id: info for ari_id, info in answers.items() if info is not None}
        if kept == known:
            return stock
        record = stock.record._replace(renewal_info=MappingProxyType(kept))
        try:
            save_attempt(self._store, stock.domain.name, record)
        except MdConnectorError as error:
            warn(f"{stock.domain.name}: when to renew it could not be noted: {error}")
            return stock
        return judge(stock._replace(record=record))

    def _answer(self, stock: Stock, facts: CertificateFacts, url: str) -> RenewalInfo | None:
        """Return what is to be remembered; None where the CA offers no such information."""
        domain = stock.domain
        known = stock.record.renewal_info.get(facts.ari_id)
        window, pause, explanation = None, None, ""
        try:
            if url not in self._silent:
                session = self._sessions.session_for(domain, url)
                suggestion = fetch_suggestion(session, facts)
                if suggestion is None:
                    return None
                window, explanation = suggestion.window, suggestion.explanation
                pause = suggestion.pause
        except MdConnectorError as error:
            if isinstance(error, CaUnreachableError):
                self._silent.add(url)
            if isinstance(error, CaError) and error.retry_after_seconds is not None:
                pause = timedelta(seconds=error.retry_after_seconds)
        chance = random.random()  # noqa: S311 - spreads load, guards nothing
        return heed(
            known, window, pause=pause, chance=chance, now=stock.now, explanation=explanation
        )


def _ca_to_ask(store: Store, domain: ManagedDomain) -> str | None:
    """Return the CA that the live set came from; None where it is none of the domain's any more.

    mod_md asks the first one, whichever of several it was.
    """
    issuer = issuing_ca(store, domain.name)
    if issuer is None:
        return domain.effective_ca_urls[0]
    return issuer if issuer in domain.effective_ca_urls else None
