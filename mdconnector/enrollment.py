"""One domain from decision to a complete set in staging/: the only place where acme meets store.

Rules: each step is durable before the next message leaves the machine: key and CSR, the order's
URL, "finalize is sent", the chain. A run may be killed anywhere; the next one loads what
pending/<name> holds and goes on. `advance` goes as far as it can without waiting and says what
it waits for; waiting is the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from mdconnector import challenges
from mdconnector.acme import jws, resources
from mdconnector.acme.advice import (
    ACCOUNT_DOES_NOT_EXIST,
    BAD_CSR,
    MALFORMED,
    NO_TYPE,
    UNAUTHORIZED,
    name_portal,
    stops_account,
)
from mdconnector.acme.resources import (
    Account,
    Authorization,
    AuthorizationStatus,
    NoOrderError,
    Order,
    OrderStatus,
)
from mdconnector.acme.session import REQUEST_DEADLINE_SECONDS, Session
from mdconnector.authorities import Accounts, Clock, wish_to_wait
from mdconnector.certificates import (
    CLOCK_SLACK,
    CertificateFacts,
    make_credential,
    make_csr,
    verify_set,
)
from mdconnector.challenges import (
    ChallengeSite,
    ChallengeType,
    Offer,
    OfferedAuthorization,
    Setups,
    traces_from_json,
    traces_to_json,
)
from mdconnector.errors import (
    CaError,
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    CertificateError,
    ChallengeError,
    ConfigurationError,
)
from mdconnector.keys import KeySpec, generate_key
from mdconnector.managed_domain import ManagedDomain
from mdconnector.notifications import Notifier
from mdconnector.printable import printable
from mdconnector.steps import Step, Steps, unheard
from mdconnector.store.pending import OrderNote, Pending, open_order_urls
from mdconnector.store.staged import order_of_mod_md
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from mdconnector.warning import warn

# No request is waited for longer, and Sectigo finalizes for 45 s and more.
LONGEST_FINALIZE = timedelta(seconds=REQUEST_DEADLINE_SECONDS)
_ALIVE = frozenset({AuthorizationStatus.PENDING, AuthorizationStatus.VALID})
_IS_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_UNKNOWN = frozenset({ACCOUNT_DOES_NOT_EXIST, MALFORMED, NO_TYPE, UNAUTHORIZED})
_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class Waiting(NamedTuple):
    """The CA is at work on an order; it may be asked again after a pause."""

    order_url: str
    since: datetime
    pause_seconds: float


class Complete(NamedTuple):
    """A verified set lies in staging."""

    certificates: tuple[CertificateFacts, ...]
    warnings: tuple[str, ...]


Progress = Waiting | Complete


def _may_be_unknown(error: CaError) -> bool:
    """Say whether the CA may not know what was asked for, or who asks.

    Several CAs put both under `malformed` and `unauthorized`, among much else.
    """
    if not isinstance(error, CaProblemError):
        return isinstance(error, NoOrderError)
    if error.status in _LATER or stops_account(error.detail):
        return False
    return error.status in _IS_GONE or error.type in _UNKNOWN


def _is_lost(error: CaProblemError | CertificateError) -> bool:
    """Say whether the certificate of a valid order is not to be had, not even in a while."""
    return isinstance(error, CertificateError) or _may_be_unknown(error)


class Wish(NamedTuple):
    """What is to be obtained, where, and in place of what."""

    domain: ManagedDomain
    ca_url: str
    live: tuple[CertificateFacts, ...] = ()
    """what serves the configuration now"""
    replaces: Mapping[KeySpec, str] = MappingProxyType({})
    """the ARI ids of the certificates that new ones take the place of"""
    order_anew: bool = False
    """even though a complete set waits to be staged"""
    revoked: Collection[str] = ()
    """SHA-256 of certificates that must not be staged"""
    despite_clock: bool = False
    """even though this host's clock is not the CA's"""


class Enrollment:
    """The work on one domain."""

    def __init__(
        self,
        wish: Wish,
        *,
        store: Store,
        accounts: Accounts,
        site: ChallengeSite,
        clock: Clock,
        notifier: Notifier,
        steps: Steps = unheard,
    ) -> None:
        self.notifier = notifier
        self._steps = steps
        self.domain = wish.domain
        self.ca_url = wish.ca_url
        self._live = wish.live
        self._revoked = wish.revoked
        self._despite_clock = wish.despite_clock
        self._store = store
        self._accounts = accounts
        self._site = site
        self._clock = clock
        self._polls = 0
        self._begun = False
        self._order_anew = wish.order_anew
        self._replaces = wish.replaces
        self._pending = Pending.load(store, wish.domain)
        self._account_id = ""
        self._placed: set[str] = set()
        """orders that were placed in this run"""
        self._answered: set[str] = set()
        """orders whose challenges were answered in this run"""
        self._finalized: set[str] = set()
        """orders whose finalize was sent in this run"""
        self._left_behind: tuple[str, ...] = ()
        """what could not be torn down after a challenge"""
        self._without_profile = ""
        """that the CA does not offer the profile that was wished for"""
        self._notes: tuple[str, ...] = ()
        """what looked odd when the challenges were set up"""

    def advance(self) -> Progress:
        """Go as far as possible without waiting.

        Raises an MdConnectorError where the domain has failed; what was reached is durable.
        """
        try:
            return self._advance()
        except CaError as error:
            first = self._accounts.note_failure(self.domain, self.ca_url, error)
            waiting = self._wait_as_asked(first)
            if waiting is not None:
                return waiting
            if first is not error:
                raise first from error
            raise

    def _advance(self) -> Progress:
        if not self._begun:
            self._begin()
        for spec in self.domain.key_specs:
            if self._pending.load_chain(spec) is None:
                waiting = self._obtain(spec)
                if waiting is not None:
                    return waiting
        return self._stage()

    def _wait_as_asked(self, error: CaError) -> Waiting | None:
        """Return what is waited for where a CA that asks for patience has an order of ours."""
        pause = wish_to_wait(error)
        if pause is None:
            return None
        for note in self._pending.open_orders():
            if note.url is not None and note.ca_url == self.ca_url:
                return Waiting(note.url, note.created, pause.total_seconds())
        return None

    def _begin(self) -> None:
        complete = self._pending.is_complete(self.domain)
        if complete and (self._order_anew or not self._is_worth_staging()):
            self._pending.drop()
            complete = False
        if not complete:
            self._step("asking for the account")
            self._tear_down()
            self._tell_of_abandoned_orders()
            self._account()
            self._pending.begin(
                self.domain,
                ca_url=self.ca_url,
                account_id=self._account_id,
                now=self._clock(),
            )
        elif self._pending.note is not None:
            self._account_id = self._pending.note.account_id
        self._begun = True

    def _tell_of_abandoned_orders(self) -> None:
        """Say which orders are forgotten because it is another CA's turn now."""
        for note in self._pending.open_orders():
            if note.ca_url != self.ca_url and note.url is not None:
                warn(
                    f"{self.domain.name}: its order at {printable(note.url, 200)} is given up for "
                    f"one at {self.ca_url}; a certificate that still comes of it is not used"
                )

    def _is_worth_staging(self) -> bool:
        """Say whether a complete set that an earlier run left is still to be staged."""
        credentials = self._pending.credentials()
        unfit = {facts.sha256 for facts in self._live} | set(self._revoked)
        if any(credential.facts.sha256 in unfit for credential in credentials):
            return False
        verdict = verify_set(self.domain, credentials, live=self._live, now=self._clock())
        opens = min(
            self.domain.renew_window.opens(one.facts.not_before, one.facts.not_after)
            for one in credentials
        )
        return not verdict.refusals and opens > self._clock()

    def _obtain(self, spec: KeySpec) -> Waiting | None:
        """Bring one key type's order forward; None once its chain is here."""
        session = self._accounts.sessions.session_for(self.domain, self.ca_url)
        account = self._account()
        order = self._saved_order(session, account, spec) or self._place(session, account, spec)
        account = self._account()
        if order.status is OrderStatus.PENDING:
            if self._may_be_finalizing(order, spec):
                raise CaProtocolError(
                    "the CA's order has gone back to 'pending' after it was finalized",
                    url=order.url,
                    hint="nothing to do: the order is read again by the next run",
                )
            return self._prove(session, account, order, spec)
        self._tear_down()
        if order.status is OrderStatus.READY:
            if self._may_be_finalizing(order, spec):
                return self._wait(order, spec)
            order = self._finalize(session, account, order, spec)
        match order.status:
            case OrderStatus.VALID:
                self._keep_chain(session, account, order, spec)
                return None
            case OrderStatus.INVALID:
                raise self._failure(session, account, order, spec)
            case _:
                return self._wait(order, spec)

    def _account(self) -> Account:
        """Return the account in force: it may be another one than when the set was begun."""
        self._account_id, account = self._accounts.account_for(self.domain, self.ca_url)
        return account

    def _saved_order(self, session: Session, account: Account, spec: KeySpec) -> Order | None:
        note = self._pending.load_order(spec)
        if note is None or note.url is None:
            return None
        order = self._read_order(session, account, note)
        is_ours = note.url in self._answered | self._finalized
        if order is None or (order.status is OrderStatus.INVALID and not is_ours):
            # It died between two runs: not this run's failure.
            self._pending.drop_order(spec)
            return None
        return order

    def _read_order(self, session: Session, account: Account, note: OrderNote) -> Order | None:
        """Read an order; None where there is none at its address any more, or never was.

        The CA is believed if it says so twice and knows the account all the while: a CA in disorder
        may find the order, and the certificate, tomorrow. An order that was placed in this run is
        left to the next one, so that a CA that mislays them all is not asked for one after another.
        """
        try:
            return _order_at(session, account, note)
        except CaError as error:
            if note.url in self._placed or not _may_be_unknown(error):
                raise
            known = self._accounts.look_again(self.domain, self.ca_url, account, error)
        try:
            return None if known is None else _order_at(session, known, note)
        except CaError as error:
            if not _may_be_unknown(error):
                raise
            return None

    def _require_clock(self, session: Session) -> None:
        """Order nothing by a clock that is wrong: it would renew all, or refuse what comes."""
        told = session.ca_time()
        if told is None or self._despite_clock:
            return
        now = self._clock()
        if abs(now - told) <= CLOCK_SLACK:
            return
        error = CaError(
            f"this host's clock is {'ahead of' if now > told else 'behind'} the one of "
            f"{session.host} by more than an hour: it is {now:%Y-%m-%d %H:%M} UTC here and "
            f"{told:%Y-%m-%d %H:%M} UTC there",
            type="clock",
            url=self.ca_url,
            hint="set the clock ('timedatectl' shows it); to order by it all the same: "
            "mdconnector renew NAME --force",
        )
        error.stops_account = True
        raise error

    def _place(self, session: Session, account: Account, spec: KeySpec) -> Order:
        self._require_clock(session)
        profile = self._profile(session)
        self._step("ordering", spec)
        note = OrderNote(
            url=None,
            ca_url=self.ca_url,
            account_id=self._account_id,
            names=self.domain.order_names,
            key_label=spec.label,
            created=self._clock(),
        )
        lost = self._lost_order(session, account, spec) or self._order_of_mod_md(session, account)
        self._intend(spec, note)
        try:
            order = lost or self._new_order(session, account, spec, profile)
        except CaProblemError as error:
            if not _may_be_unknown(error):
                raise
            self._accounts.replace_lost(self.domain, self.ca_url, account, error)
            account = self._account()
            note = note._replace(account_id=self._account_id)
            order = self._new_order(session, account, spec, profile)
        self._pending.save_order(spec, note._replace(url=order.url))
        self._placed.add(order.url)
        self._polls = 0
        return order

    def _intend(self, spec: KeySpec, note: OrderNote) -> None:
        """Keep that an order is about to be placed, in one go with its key where that is new."""
        if self._pending.load_key(spec) is not None:
            self._pending.save_order(spec, note)
            return
        key = generate_key(spec)
        csr = make_csr(self.domain.order_names, key, must_staple=self.domain.must_staple)
        self._pending.save_key(spec, key, csr=csr, order=note)

    def _lost_order(self, session: Session, account: Account, spec: KeySpec) -> Order | None:
        """Look for the order whose answer a killed run never saw, so that it is not doubled."""
        note = self._pending.load_order(spec)
        if note is None or note.url is not None:
            return None
        known = open_order_urls(self._store)
        return resources.find_lost_order(session, account, self.domain.order_names, known)

    def _order_of_mod_md(self, session: Session, account: Account) -> Order | None:
        """Take up the order that a run of mod_md's watchdog has left, with a key of our own."""
        url = order_of_mod_md(self._store, self.domain.name)
        if url is None or url in open_order_urls(self._store):
            return None
        return resources.fetch_open_order(session, account, url, self.domain.order_names)

    def _new_order(
        self, session: Session, account: Account, spec: KeySpec, profile: str | None
    ) -> Order:
        return resources.new_order(
            session,
            account,
            self.domain.order_names,
            profile=profile,
            replaces=self._replaces.get(spec),
            known_orders=lambda: open_order_urls(self._store),
        )

    def _profile(self, session: Session) -> str | None:
        """Return the profile to ask for, where the CA offers it.

        Raises ConfigurationError where it does not, and MDProfileMandatory is on.
        """
        wanted = self.domain.profile
        directory = session.directory()
        if wanted is None or directory.profile_named(wanted) is not None:
            return wanted
        # what is remembered of the directory may be a day old
        if (
            session.has_moved_from(directory)
            and session.directory().profile_named(wanted) is not None
        ):
            return wanted
        offered = ", ".join(session.directory().profiles)
        lacks = f"the CA does not offer the profile '{printable(wanted, 80)}'"
        if self.domain.profile_mandatory:
            raise ConfigurationError(
                f"{lacks}, which MDProfileMandatory asks for",
                hint=f"the CA offers {printable(offered, 500) or 'none at all'}: see MDProfile",
            )
        self._without_profile = f"{lacks}, so it was ordered without"
        return None

    def _prove(self, session: Session, account: Account, order: Order, spec: KeySpec) -> Waiting:
        """Set up and answer the challenges of a pending order, once in a run."""
        if order.url not in self._answered:
            self._step("answering challenges", spec)
            self._tear_down()
            authorizations = [
                resources.fetch_authorization(session, account, url) for url in order.authorizations
            ]
            if any(one.status not in _ALIVE for one in authorizations):
                raise self._failure(session, account, order, spec)
            setups = self._set_up(session, account, authorizations)
            self._notes = tuple(note for answer in setups.answers for note in answer.notes)
            for answer in setups.answers:
                resources.answer_challenge(session, account, answer.url)
            self._answered.add(order.url)
        return self._wait(order, spec)

    def _set_up(
        self, session: Session, account: Account, authorizations: Sequence[Authorization]
    ) -> Setups:
        pending = [one for one in authorizations if one.status is AuthorizationStatus.PENDING]
        try:
            return challenges.set_up(
                [_offered(one) for one in pending],
                self.domain,
                self._site,
                store=self._store,
                key_authorization=lambda token: jws.key_authorization(token, account.key),
                remember=lambda traces: self._pending.save_traces(traces_to_json(traces)),
                now=self._clock(),
                announce=self._announce,
            )
        except ChallengeError as error:
            error.hint = name_portal(error.hint or "", session.host) or None
            raise

    def _announce(self, kind: ChallengeType, name: str) -> None:
        veto = self.notifier.tell(f"challenge-setup:{kind}:{name}")
        if veto:
            raise ChallengeError(veto)

    def _tear_down(self) -> None:
        traces = traces_from_json(self._pending.load_traces())
        if traces:
            self._left_behind += challenges.tear_down(traces, self._store)
            self._pending.save_traces(())

    def _finalize(self, session: Session, account: Account, order: Order, spec: KeySpec) -> Order:
        csr = self._pending.load_csr(spec)
        note = self._pending.load_order(spec)
        if csr is None or note is None:
            raise CertificateError(
                f"the {spec.label} request of the open order is gone from the store",
                hint=f"type 'mdconnector renew {self.domain.name} --force'",
            )
        sent = note._replace(finalize_sent_at=self._clock())
        self._pending.save_order(spec, sent)
        self._finalized.add(order.url)
        self._polls = 0
        self._step("asking for the certificate", spec)
        try:
            found = resources.finalize(session, account, order, csr)
        except CaUnreachableError as error:
            if error.request_sent:
                # The CA may still be at work on it; the order tells, now or in the next run.
                return order
            self._pending.save_order(spec, note)
            raise
        except CaProblemError as error:
            self._pending.save_order(spec, note)
            if error.type == BAD_CSR:
                self._pending.drop_key(spec)
            raise
        if found.url != order.url:
            self._pending.save_order(spec, sent._replace(url=found.url))
            self._placed.add(found.url)
            self._finalized.add(found.url)
        return found

    def _may_be_finalizing(self, order: Order, spec: KeySpec) -> bool:
        """Say whether a finalize that was sent may still be under way: it is not sent again then.

        A front end that answers late hands the request on late, so the order still looks `ready`.
        """
        if order.url in self._finalized:
            return True
        note = self._pending.load_order(spec)
        if note is None or note.finalize_sent_at is None:
            return False
        return timedelta() <= self._clock() - note.finalize_sent_at < LONGEST_FINALIZE

    def _keep_chain(self, session: Session, account: Account, order: Order, spec: KeySpec) -> None:
        self._step("fetching the certificate", spec)
        try:
            pem = resources.fetch_chain(session, account, order)
        except (CaProblemError, CertificateError) as error:
            # one that is mislaid when it was just made may be found by the next run
            if order.url not in self._placed and _is_lost(error):
                self._pending.drop_order(spec)
                error.hint = "its order is given up: the next run orders anew, with the same key"
            raise
        key = self._pending.load_key(spec)
        if key is None:
            raise CertificateError(f"the {spec.label} key of the open order is gone from the store")
        try:
            make_credential(spec, key, pem)
        except CertificateError:
            self._pending.drop_order(spec)
            raise
        self._pending.save_chain(spec, pem)

    def _failure(
        self, session: Session, account: Account, order: Order, spec: KeySpec
    ) -> CaProblemError:
        error = resources.explain_invalid(session, account, order)
        self._pending.drop_order(spec)
        if self._notes:
            error.hint = f"{error.hint or ''}; noted before: {'; '.join(self._notes)}".lstrip("; ")
        return error

    def _wait(self, order: Order, spec: KeySpec) -> Waiting:
        pause = resources.poll_delay_seconds(order.retry_after_seconds, self._polls)
        self._polls += 1
        note = self._pending.load_order(spec)
        return Waiting(order.url, note.created if note else self._clock(), pause)

    def _step(self, words: str, spec: KeySpec | None = None) -> None:
        several = spec is not None and len(self.domain.key_specs) > 1
        self._steps(Step(self.domain.name, f"{spec.label}: {words}" if spec and several else words))

    def _stage(self) -> Complete:
        self._step("putting it into staging")
        credentials = self._pending.credentials()
        verdict = verify_set(self.domain, credentials, live=self._live, now=self._clock())
        if verdict.refusals:
            raise CertificateError(
                f"the CA's certificates cannot be used: {'; '.join(verdict.refusals)}",
                hint="they stay in the store's mdconnector/pending; ask the CA why it made them so",
            )
        stage(
            self._store,
            self.domain,
            credentials,
            ca_url=self.ca_url,
            account_id=self._account_id,
            now=self._clock(),
            told=self.notifier.told,
        )
        remarks = self._accounts.remarks_on(self.domain, self.ca_url)
        if self._without_profile:
            remarks = (*remarks, self._without_profile)
        warnings = (*verdict.warnings, *self._left_behind, *remarks)
        return Complete(tuple(one.facts for one in credentials), warnings)

    def abandon(self) -> None:
        """Take away what a failed attempt has set up for challenges."""
        self._tear_down()


def _order_at(session: Session, account: Account, note: OrderNote) -> Order:
    order = resources.fetch_order(session, account, note.url or "")
    return resources.require_order_for(order, note.names)


def _offered(authorization: Authorization) -> OfferedAuthorization:
    return OfferedAuthorization(
        authorization.name,
        authorization.wildcard,
        tuple(
            Offer(challenge.type, challenge.token or "", challenge.url or "")
            for challenge in authorization.challenges
        ),
    )
