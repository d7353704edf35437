"""Mutated answers of a CA, in process: each step of acme/ reads one, and survives.

Rules: the transport is a function; every request of a trial whose path is the step's gets the same
hostile answer, every other a good one. Requests are not signed, which is what takes the time, and
pauses are not slept but counted.
"""

from __future__ import annotations

import json
import random
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from unittest import mock

import httpx

from mdconnector.acme import renewal_info, resources, session
from mdconnector.acme.answers import Directory, parse_directory
from mdconnector.acme.resources import Account, Order, OrderStatus
from mdconnector.acme.session import Session
from mdconnector.certificates import chain_to_pem, make_credential, make_csr, verify_set
from mdconnector.errors import MdConnectorError
from mdconnector.keys import generate_account_key
from mdconnector.managed_domain import ManagedDomain, SourceLine
from tests.acme.fake_ca import BASE, DIRECTORY_URL, Chunks
from tests.authority import EC_SPEC, Authority
from tests.torture.figure import Figure, Tally, Task
from tests.torture.mutations import Answer, mutated

NAMES = ("shop.example.org", "www.shop.example.org")
DOMAIN = ManagedDomain(NAMES[0], NAMES, SourceLine("shop.conf", 1), configured_key_specs=(EC_SPEC,))
MOST_REQUESTS = 60
MOST_SECONDS = 5.0
MOST_MEMORY_MEGABYTES = 64
LONGEST_TEXT = 5000


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked, at which path, and what a good CA answers."""

    path: str
    good: Answer
    ask: Callable[[Session], object]


class HostileCa:
    """Good answers by path, but for one."""

    def __init__(self, good: dict[str, Answer], path: str, hostile: Answer) -> None:
        self._answers = good | {path: hostile}
        self._path = path
        self.hits = 0
        self.requests = 0
        self.foreign: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, and note one that should not have been sent."""
        self.requests += 1
        if f"{request.url.scheme}://{request.url.netloc.decode()}" != BASE:
            self.foreign.append(str(request.url))
        path = request.url.raw_path.decode()
        answer = self._answers.get(path, Answer(404, b"{}"))
        self.hits += path == self._path
        headers = {"Replay-Nonce": f"nonce-{self.requests}"} | dict(answer.headers)
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        body = b"" if request.method == "HEAD" else answer.body
        return httpx.Response(answer.status, headers=raw, stream=Chunks(body))


class _Steps:
    """All steps, and what they need."""

    def __init__(self) -> None:
        self.key = generate_account_key()
        self.account = Account(f"{BASE}/account/1", self.key)
        self.credential = Authority().credential(NAMES)
        self.good = _good_answers(
            chain_to_pem(self.credential.chain), self.credential.facts.ari_id or ""
        )
        document = json.loads(self.good["/directory"].body)
        self.directory = parse_directory(document, url=DIRECTORY_URL)
        self.order = Order(
            url=f"{BASE}/order/1",
            status=OrderStatus.READY,
            authorizations=(f"{BASE}/authorization/1",),
            finalize=f"{BASE}/finalize/1",
            names=NAMES,
            certificate=f"{BASE}/certificate/1",
        )

    def all(self) -> tuple[Step, ...]:
        """Return every step."""
        csr = make_csr(NAMES, self.credential.key, must_staple=False)
        account, order = self.account, self.order
        asked: dict[str, Callable[[Session], object]] = {
            "/directory": lambda ca: ca.directory(),
            "/new-nonce": lambda ca: resources.fetch_order(ca, account, order.url),
            "/new-account": self._register,
            "/new-order": lambda ca: resources.new_order(ca, account, NAMES),
            "/order/1": lambda ca: resources.fetch_order(ca, account, order.url),
            "/authorization/1": lambda ca: resources.fetch_authorization(
                ca, account, order.authorizations[0]
            ),
            "/challenge/1": lambda ca: resources.answer_challenge(
                ca, account, f"{BASE}/challenge/1"
            ),
            "/finalize/1": lambda ca: resources.finalize(ca, account, order, csr),
            "/certificate/1": self._fetch_chain,
            "/orders/1": lambda ca: resources.find_lost_order(ca, account, NAMES, ()),
            f"/ari/{self.credential.facts.ari_id}": self._ask_when_to_renew,
            "/account/1": lambda ca: resources.update_contact(ca, account, "mailto:b@example.org"),
        }
        return tuple(Step(path, self.good[path], ask) for path, ask in asked.items())

    def _ask_when_to_renew(self, ca: Session) -> object:
        return renewal_info.fetch_suggestion(ca, self.credential.facts)

    def _register(self, ca: Session) -> object:
        return resources.register_account(
            ca, self.key, contact="mailto:admin@example.org", terms_agreed=True, eab=None
        )

    def _fetch_chain(self, ca: Session) -> object:
        pem = resources.fetch_chain(ca, self.account, self.order)
        credential = make_credential(EC_SPEC, self.credential.key, pem)
        return verify_set(DOMAIN, (credential,), live=(), now=datetime.now(UTC))


def _good_answers(chain: bytes, ari_id: str) -> dict[str, Answer]:
    """Return the answers of a CA that does what RFC 8555 says."""
    later = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    order = {
        "status": "ready",
        "expires": later,
        "identifiers": [{"type": "dns", "value": name} for name in NAMES],
        "authorizations": [f"{BASE}/authorization/1"],
        "finalize": f"{BASE}/finalize/1",
    }
    challenge = {
        "type": "http-01",
        "url": f"{BASE}/challenge/1",
        "status": "pending",
        "token": "DGyRejmCefe7v4NfDGDKfA-_x",
    }
    directory = {
        "newNonce": f"{BASE}/new-nonce",
        "newAccount": f"{BASE}/new-account",
        "newOrder": f"{BASE}/new-order",
        "revokeCert": f"{BASE}/revoke",
        "keyChange": f"{BASE}/key-change",
        "renewalInfo": f"{BASE}/ari",
        "meta": {"termsOfService": f"{BASE}/terms", "profiles": {"classic": f"{BASE}/classic"}},
    }
    account = {"status": "valid", "contact": [], "orders": f"{BASE}/orders/1"}
    valid = order | {"status": "valid", "certificate": f"{BASE}/certificate/1"}
    window = {"start": later, "end": "2099-01-01T00:00:00Z"}
    at_order, at_account = ({"Location": f"{BASE}/{what}/1"} for what in ("order", "account"))
    return {
        "/directory": _json(200, directory),
        "/new-nonce": Answer(200, b""),
        "/new-account": _json(201, account, at_account),
        "/account/1": _json(200, account),
        "/new-order": _json(201, order, at_order),
        "/order/1": _json(200, order),
        "/orders/1": _json(200, {"orders": [f"{BASE}/order/1"]}),
        "/authorization/1": _json(
            200,
            {
                "status": "pending",
                "expires": later,
                "identifier": {"type": "dns", "value": NAMES[0]},
                "challenges": [challenge, challenge | {"type": "dns-01"}],
            },
        ),
        "/challenge/1": _json(200, challenge | {"status": "processing"}),
        "/finalize/1": _json(200, valid, at_order),
        "/certificate/1": Answer(
            200,
            chain,
            {
                "Content-Type": "application/pem-certificate-chain",
                "Link": f'<{BASE}/certificate/1/other>;rel="alternate"',
            },
        ),
        f"/ari/{ari_id}": _json(200, {"suggestedWindow": window}, {"Retry-After": "21600"}),
    }


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> Answer:
    given = {"Content-Type": "application/json", "Retry-After": "1"} | (headers or {})
    return Answer(status, json.dumps(document).encode(), given)


def answer_with_mutations(task: Task) -> Tally:
    """Let each step read a hostile answer: it is taken, or refused in plain words."""
    tally = Tally()
    steps = _Steps()
    all_steps = steps.all()
    _expect_good_ones_taken(steps, all_steps)
    with _unsigned(), _patched(task.without):
        before = _peak_megabytes()
        for number in task.told("answers", every=5000):
            _try_answer(number, all_steps[number % len(all_steps)], steps, tally, task.seed)
        grown = _peak_megabytes() - before
        tally.peak(f"MB more memory after {task.amount} answers", grown)
        if grown > MOST_MEMORY_MEGABYTES:
            tally.violations.append(f"{grown:.0f} MB more memory")
    return tally


def _expect_good_ones_taken(steps: _Steps, all_steps: tuple[Step, ...]) -> None:
    with _unsigned():
        for step in all_steps:
            step.ask(_session(HostileCa(steps.good, step.path, step.good), []))


def _session(ca: HostileCa, pauses: list[float], remembered: Directory | None = None) -> Session:
    transport = httpx.MockTransport(ca)
    return Session(DIRECTORY_URL, transport=transport, sleep=pauses.append, remembered=remembered)


def _try_answer(number: int, step: Step, steps: _Steps, tally: Tally, seed: int) -> None:
    dice = random.Random(f"{seed}-{number}")  # noqa: S311 - the same mutations in every run
    what, hostile = mutated(step.good, dice)
    ca = HostileCa(steps.good, step.path, hostile)
    pauses: list[float] = []
    begun = time.monotonic()
    wrongs = []
    try:
        directory = None if step.path == "/directory" else steps.directory
        with _session(ca, pauses, directory) as asked:
            step.ask(asked)
        tally.counts["answers that were taken"] += 1
    except MdConnectorError as error:
        tally.counts["answers that were refused"] += 1
        wrongs += _wrong_words(f"{error} {error.hint or ''}")
    except Exception:  # noqa: BLE001 - whatever else comes of an answer is what is looked for
        wrongs.append(traceback.format_exc())
    seconds = time.monotonic() - begun
    wrongs += [f"a request went to {url}" for url in ca.foreign]
    wrongs += [f"{ca.requests} requests"] if ca.requests > MOST_REQUESTS else []
    wrongs += [f"{seconds:.1f} s"] if seconds > MOST_SECONDS else []
    tally.violations += (f"trial {number}, {step.path}, {what}: {one}" for one in wrongs)
    tally.peak("requests for one step", ca.requests)
    tally.peak("seconds for one step", seconds)
    tally.peak("seconds of pauses for one step", sum(pauses))
    if ca.hits:
        tally.hit(f"{step.path.split('/')[1]}: {what}")


def _wrong_words(text: str) -> list[str]:
    wrongs = [] if len(text) <= LONGEST_TEXT else [f"a message of {len(text)} characters"]
    if not all(char.isprintable() or char == "\n" for char in text):
        wrongs.append(f"a message that controls the terminal: {text[:200]!r}")
    return wrongs


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _unsigned() -> Iterator[None]:
    with mock.patch.object(session, "sign_request", return_value=b"{}"):
        yield


@contextmanager
def _patched(without: str) -> Iterator[None]:
    if without == "origins":
        with (
            mock.patch.object(Session, "refuse_foreign"),
            mock.patch.object(session, "may_follow", return_value=True),
        ):
            yield
    else:
        yield


HOSTILE_ANSWERS = Figure(
    "hostile-answers",
    "Mutated answers of a CA, in process",
    100_000,
    answer_with_mutations,
    10_000,
    {"origins": "a URL of the CA's is followed wherever it leads"},
)
