"""The resources of RFC 8555: one enrolment at a strict CA, and what may go wrong with each step."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mdconnector.acme.advice import ACCOUNT_DOES_NOT_EXIST
from mdconnector.acme.answers import Directory
from mdconnector.acme.jws import key_authorization
from mdconnector.acme.resources import (
    Account,
    AuthorizationStatus,
    NoOrderError,
    Order,
    OrderStatus,
    answer_challenge,
    explain_invalid,
    fetch_authorization,
    fetch_certificate,
    fetch_chain,
    fetch_order,
    finalize,
    find_account,
    list_orders,
    new_order,
    poll_delay_seconds,
    register_account,
    update_contact,
)
from mdconnector.acme.session import MAX_BAD_NONCES, Session
from mdconnector.certificates import facts_of, make_csr, read_chain
from mdconnector.errors import (
    CaProblemError,
    CaProtocolError,
    CaUnreachableError,
    CertificateError,
    ConfigurationError,
    ErrorClass,
)
from mdconnector.keys import KeySpec, PrivateKey, generate_key
from mdconnector.managed_domain import ExternalAccount
from tests.acme.fake_ca import (
    ACME,
    BASE,
    DIRECTORY_URL,
    Chunks,
    FakeCa,
    Fault,
    Handle,
    answered,
    changed,
    lost,
    problem,
    refused,
    reset,
    with_headers,
)
from tests.parts import DropAfter, FaultingProxy, Pebble, Rule

NAMES = ("shop.example.org", "www.shop.example.org")
SECRET = bytes(range(32))
BINDING = ExternalAccount("kid-1", base64.urlsafe_b64encode(SECRET).decode().rstrip("="))
CONTACT = "mailto:admin@example.org"


@pytest.fixture(scope="session")
def account_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def leaf_key() -> PrivateKey:
    return generate_key(KeySpec("EC", curve="secp256r1"))


@dataclass
class Client:
    """A session with a fake CA and an account there."""

    ca: FakeCa
    key: rsa.RSAPrivateKey
    leaf_key: PrivateKey
    slept: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = Session(
            DIRECTORY_URL, transport=httpx.MockTransport(self.ca), sleep=self.slept.append
        )

    def register(self, eab: ExternalAccount | None = None) -> Account:
        return register_account(self.session, self.key, contact=CONTACT, terms_agreed=True, eab=eab)

    def order(self, account: Account, **options: Any) -> Order:
        return new_order(self.session, account, NAMES, **options)

    def finalize(self, account: Account, order: Order) -> Order:
        csr = make_csr(NAMES, self.leaf_key, must_staple=False)
        return finalize(self.session, account, order, csr)


@pytest.fixture
def client(account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey) -> Client:
    return Client(FakeCa(), account_key, leaf_key)


def enroll(
    session: Session,
    key: rsa.RSAPrivateKey,
    leaf_key: PrivateKey,
    names: tuple[str, ...],
    *,
    eab: ExternalAccount = BINDING,
) -> bytes:
    """Go the whole way, as a caller does that answers no challenge itself."""
    account = register_account(session, key, contact=CONTACT, terms_agreed=True, eab=eab)
    order = new_order(session, account, names)
    if order.status is OrderStatus.PENDING:
        for url in order.authorizations:
            authorization = fetch_authorization(session, account, url)
            if authorization.status is AuthorizationStatus.PENDING:
                challenge = next(one for one in authorization.challenges if one.type == "dns-01")
                assert challenge.url is not None
                assert challenge.token is not None
                assert key_authorization(challenge.token, key)
                answer_challenge(session, account, challenge.url)
        order = wait_for(session, account, order, OrderStatus.PENDING)
    order = finalize(session, account, order, make_csr(names, leaf_key, must_staple=False))
    order = wait_for(session, account, order, OrderStatus.PROCESSING)
    assert order.status is OrderStatus.VALID
    return fetch_chain(session, account, order)


def wait_for(session: Session, account: Account, order: Order, meanwhile: OrderStatus) -> Order:
    for polls in range(60):
        if order.status is not meanwhile:
            return order
        session._sleep(poll_delay_seconds(order.retry_after_seconds, polls))
        order = fetch_order(session, account, order.url)
    raise AssertionError(f"the order stays {order.status}")


# --- the whole way


@pytest.mark.parametrize("orders_come", ["ready", "pending"])
@pytest.mark.parametrize("polls_of_processing", [0, 3])
def test_enrolment_with_a_binding_gives_a_chain_for_the_names(
    account_key: rsa.RSAPrivateKey,
    leaf_key: PrivateKey,
    orders_come: str,
    polls_of_processing: int,
) -> None:
    ca = FakeCa(
        bindings={"kid-1": SECRET},
        binding_required=True,
        orders_come=orders_come,
        polls_of_processing=polls_of_processing,
        bad_nonces=3,
    )
    session = Session(DIRECTORY_URL, transport=httpx.MockTransport(ca), sleep=lambda _: None)
    chain = read_chain(enroll(session, account_key, leaf_key, NAMES))
    assert facts_of(chain[0]).names == NAMES
    assert len(chain) == 2
    assert ca.used_bindings == ["kid-1"]
    assert ca.finalized == [1]


def test_pre_validated_certificate_with_a_warm_account_takes_three_requests(
    client: Client,
) -> None:
    account = client.register()
    before = client.session.requests_sent
    order = client.finalize(account, client.order(account))
    fetch_chain(client.session, account, order)
    assert client.session.requests_sent - before == 3


@pytest.mark.pebble
def test_enrolment_at_pebble_with_binding_and_refused_nonces(
    trusting_ca: Pebble, account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    binding = ExternalAccount("kid-1", trusting_ca.eab_keys["kid-1"])
    names = ("resources.example.org", "*.resources.example.org")
    with Session(trusting_ca.directory_url, ca_certificates=str(trusting_ca.ca_file)) as session:
        assert session.directory().external_account_required
        register_account(session, account_key, contact=CONTACT, terms_agreed=True, eab=binding)
        chain = read_chain(enroll(session, account_key, leaf_key, names))
    facts = facts_of(chain[0])
    assert set(facts.names) == set(names)
    assert facts.key_label == "secp256r1"


@pytest.mark.pebble
def test_wrong_binding_at_pebble_is_a_matter_of_configuration(
    trusting_ca: Pebble, account_key: rsa.RSAPrivateKey
) -> None:
    with Session(trusting_ca.directory_url, ca_certificates=str(trusting_ca.ca_file)) as session:
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        for binding in (
            ExternalAccount("kid-1", trusting_ca.eab_keys["kid-2"]),
            ExternalAccount("kid-9", trusting_ca.eab_keys["kid-1"]),
        ):
            with pytest.raises(CaProblemError) as caught:
                register_account(session, other, contact=CONTACT, terms_agreed=True, eab=binding)
            assert caught.value.error_class is ErrorClass.CONFIGURATION
            assert "MDExternalAccountBinding" in (caught.value.hint or "")
            assert trusting_ca.eab_keys["kid-1"] not in f"{caught.value} {caught.value.hint}"
        assert find_account(session, other) is None


@pytest.mark.pebble
def test_orders_of_an_account_are_listed_over_all_pages(
    counting_ca: Pebble, account_key: rsa.RSAPrivateKey
) -> None:
    binding = ExternalAccount("kid-2", counting_ca.eab_keys["kid-2"])
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with Session(counting_ca.directory_url, ca_certificates=str(counting_ca.ca_file)) as session:
        account = register_account(session, key, contact=CONTACT, terms_agreed=True, eab=binding)
        placed = {
            new_order(session, account, (f"list{number}.example.org",)).url for number in range(7)
        }
        assert set(list_orders(session, account)) == placed


@pytest.mark.pebble
def test_pebble_refuses_a_blocked_name_with_a_problem_of_that_name(
    validating_ca: Pebble, account_key: rsa.RSAPrivateKey
) -> None:
    binding = ExternalAccount("kid-1", validating_ca.eab_keys["kid-1"])
    with Session(
        validating_ca.directory_url, ca_certificates=str(validating_ca.ca_file)
    ) as session:
        account = register_account(
            session, account_key, contact=CONTACT, terms_agreed=True, eab=binding
        )
        with pytest.raises(CaProblemError, match="rejectedIdentifier") as caught:
            new_order(session, account, ("refused.example",))
    assert caught.value.error_class is ErrorClass.NEEDS_HUMAN


@pytest.mark.pebble
def test_failed_challenge_at_pebble_is_explained_by_its_name(
    validating_ca: Pebble, account_key: rsa.RSAPrivateKey
) -> None:
    binding = ExternalAccount("kid-1", validating_ca.eab_keys["kid-1"])
    with Session(
        validating_ca.directory_url, ca_certificates=str(validating_ca.ca_file)
    ) as session:
        account = register_account(
            session, account_key, contact=CONTACT, terms_agreed=True, eab=binding
        )
        order = new_order(session, account, ("nobody-answers.example.org",))
        authorization = fetch_authorization(session, account, order.authorizations[0])
        challenge = next(one for one in authorization.challenges if one.type == "dns-01")
        answer_challenge(session, account, challenge.url or "")
        order = wait_for(session, account, order, OrderStatus.PENDING)
        assert order.status is OrderStatus.INVALID
        error = explain_invalid(session, account, order)
    assert error.error_class is ErrorClass.TRANSIENT
    assert "nobody-answers.example.org" in error.detail


@pytest.mark.pebble
@pytest.mark.parametrize("path", ["/sign-me-up", "/order-plz", "/finalize-order", "/certZ"])
def test_answer_lost_on_the_wire_costs_no_second_account_order_or_certificate(
    counting_ca: Pebble, leaf_key: PrivateKey, tmp_path: Path, path: str
) -> None:
    binding = ExternalAccount("kid-1", counting_ca.eab_keys["kid-1"])
    names = (f"lost{path.strip('/').lower()}.example.org",)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    rule = Rule(DropAfter(), path=path, nth=1)
    with (
        FaultingProxy(tmp_path, counting_ca, rule) as proxy,
        Session(
            proxy.directory_url, ca_certificates=str(proxy.ca_file), sleep=lambda _: None
        ) as session,
    ):
        account = register_account(session, key, contact=CONTACT, terms_agreed=True, eab=binding)
        chain = read_chain(enroll(session, key, leaf_key, names, eab=binding))
        orders = list_orders(session, account)
    assert rule.hits == 1
    assert facts_of(chain[0]).names == names
    assert len(orders) == 1
    assert sum(one.resource == "/finalize-order" for one in proxy.requests) == 1


# --- accounts


def test_same_key_gives_the_same_account_and_spends_no_second_binding(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    ca = FakeCa(bindings={"kid-1": SECRET}, binding_required=True, binding_once=True)
    client = Client(ca, account_key, leaf_key)
    ca.fault("/new-account", lost)
    first = client.register(BINDING)
    again = client.register(BINDING)
    assert first.url == again.url == f"{BASE}/account/1"
    assert ca.used_bindings == ["kid-1"]


def test_account_carries_what_the_store_keeps(client: Client) -> None:
    account = client.register()
    assert account.status == "valid"
    assert account.contact == (CONTACT,)
    assert account.orders_url == f"{BASE}/orders/1"
    assert account.registration["orders"] == f"{BASE}/orders/1"
    assert "key" not in repr(account)


def test_unknown_key_has_no_account(client: Client) -> None:
    assert find_account(client.session, client.key) is None
    account = client.register()
    assert find_account(client.session, client.key) == account


def test_ca_that_wants_a_binding_before_it_looks_has_no_account_either(client: Client) -> None:
    client.ca.fault("/new-account", problem(400, "externalAccountRequired", "no binding"))
    assert find_account(client.session, client.key) is None


def test_terms_are_agreed_to_only_where_the_ca_has_some(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    seen: list[bytes] = []
    for terms in (None, "https://ca.example/terms"):
        client = Client(FakeCa(terms=terms), account_key, leaf_key)
        client.register()
        seen.append(client.ca.bodies[-1])
    assert [b"termsOfServiceAgreed" in signed_payload(body) for body in seen] == [False, True]


def signed_payload(body: bytes) -> bytes:
    text: str = httpx.Response(200, content=body).json()["payload"]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_account_without_agreement_is_not_asked_for(client: Client) -> None:
    with pytest.raises(ConfigurationError, match="MDCertificateAgreement"):
        register_account(client.session, client.key, contact=CONTACT, terms_agreed=False, eab=None)
    assert client.ca.count("/new-account") == 0


def test_account_without_the_binding_that_the_ca_asks_for_is_not_asked_for(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(binding_required=True), account_key, leaf_key)
    with pytest.raises(ConfigurationError, match="external account binding"):
        client.register()
    assert client.ca.count("/new-account") == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (with_headers(Location=None), "Location"),
        (changed(status=5), "'status'"),
        (changed(contact="mailto:x@example.org"), "'contact'"),
        (changed(contact=[None]), "'contact'"),
        (changed(orders=[]), "'orders'"),
        (answered(201, b"[]", {"Location": f"{BASE}/account/1"}), "not a JSON object"),
        (answered(201, b"{", {"Location": f"{BASE}/account/1"}), "not JSON"),
    ],
)
def test_odd_account_is_a_protocol_error_that_names_the_member(
    client: Client, fault: Fault, words: str
) -> None:
    client.ca.fault("/new-account", fault)
    with pytest.raises(CaProtocolError, match=words):
        client.register()


def test_relative_location_is_read_against_the_request(client: Client) -> None:
    client.ca.fault("/new-account", with_headers(Location="/account/1"))
    assert client.register().url == f"{BASE}/account/1"


def test_account_with_an_empty_answer_passes(client: Client) -> None:
    client.ca.fault("/new-account", answered(200, b"", {"Location": f"{BASE}/account/1"}))
    assert client.register().url == f"{BASE}/account/1"


@pytest.mark.parametrize("status", ["deactivated", "revoked"])
def test_account_that_is_out_of_service_is_refused(client: Client, status: str) -> None:
    client.ca.fault("/new-account", changed(status=status))
    with pytest.raises(CaProblemError, match=status) as caught:
        client.register()
    assert caught.value.error_class is ErrorClass.NEEDS_HUMAN


def test_account_is_registered_where_the_directory_has_moved_it(client: Client) -> None:
    old = Directory(f"{BASE}/new-nonce", f"{BASE}/old/account", f"{BASE}/old/order")
    client.session = Session(
        DIRECTORY_URL,
        transport=httpx.MockTransport(client.ca),
        sleep=client.slept.append,
        remembered=old,
    )
    client.ca.fault("/old/account", answered(410))
    assert client.register().url == f"{BASE}/account/1"
    assert [path for _, path in client.ca.requests if "account" in path] == [
        "/old/account",
        "/new-account",
    ]


def test_contact_is_sent_to_the_account_itself(client: Client) -> None:
    account = client.register()
    client.ca.fault(
        "/account/1", answered(200, {"status": "valid", "contact": ["mailto:new@example.org"]})
    )
    assert update_contact(client.session, account, "mailto:new@example.org").contact == (
        "mailto:new@example.org",
    )


# --- orders


def test_order_of_an_account_that_the_ca_forgot_says_so(client: Client) -> None:
    account = client.register()
    client.ca.accounts.clear()
    with pytest.raises(CaProblemError) as caught:
        client.order(account)
    assert caught.value.type == ACCOUNT_DOES_NOT_EXIST


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (with_headers(Location=None), "Location"),
        (changed(status=...), "no 'status'"),
        (changed(status="dreaming"), "unknown status 'dreaming'"),
        (changed(status=["ready"]), "'status'"),
        (changed(status="valid"), "no 'certificate'"),
        (changed(identifiers=...), "other names"),
        (changed(identifiers=[{"type": "dns", "value": "shop.example.org"}]), "other names"),
        (changed(identifiers=[{"type": "ip", "value": "127.0.0.1"}]), "type 'ip'"),
        (changed(identifiers=[{"type": "dns", "value": 1}]), "'value'"),
        (changed(identifiers={"a": 1}), "'identifiers'"),
        (changed(authorizations="x"), "'authorizations'"),
        (changed(authorizations=[1]), "'authorizations'"),
        (changed(finalize=7), "'finalize'"),
        (changed(certificate=7), "'certificate'"),
        (changed(error="no"), "'error'"),
        (answered(201, b'{"status": 1e400}', {"Location": f"{BASE}/order/1"}), "'status'"),
        (answered(201, b"", {"Location": f"{BASE}/order/1"}), "not JSON"),
    ],
)
def test_odd_order_is_a_protocol_error_that_names_the_member(
    client: Client, fault: Fault, words: str
) -> None:
    account = client.register()
    client.ca.fault("/new-order", fault)
    with pytest.raises(CaProtocolError, match=words):
        client.order(account)


@pytest.mark.parametrize("expires", ["tomorrow", "", "9999-12-31T23:59:59-23:59", None])
def test_nonsense_in_expires_is_passed_over(client: Client, expires: str | None) -> None:
    account = client.register()
    client.ca.fault("/new-order", changed(expires=expires))
    assert client.order(account).expires is None


@pytest.mark.parametrize("word", ["deactivated", "expired", "revoked"])
def test_words_of_other_resources_for_an_order_count_as_invalid(client: Client, word: str) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.orders[1].status = word
    assert fetch_order(client.session, account, order.url).status is OrderStatus.INVALID


def test_identifiers_are_compared_without_case_and_order(client: Client) -> None:
    account = client.register()
    identifiers = [{"type": "dns", "value": name.upper()} for name in reversed(NAMES)]
    client.ca.fault("/new-order", changed(identifiers=identifiers))
    assert set(client.order(account).names) == set(NAMES)


def test_lost_order_is_found_in_the_list_of_the_account(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", lost)
    order = client.order(account)
    assert order.url == f"{BASE}/order/1"
    assert len(client.ca.orders) == 1


def test_orders_url_is_looked_up_where_it_was_not_remembered(client: Client) -> None:
    stored = Account(url=client.register().url, key=client.key)
    client.ca.fault("/new-order", lost)
    assert client.order(stored).url == f"{BASE}/order/1"
    assert len(client.ca.orders) == 1


def test_lost_order_is_placed_once_more_where_the_ca_lists_none(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(lists_orders=False), account_key, leaf_key)
    account = client.register()
    client.ca.fault("/new-order", lost, lost)
    with pytest.raises(CaUnreachableError):
        client.order(account)
    assert len(client.ca.orders) == 2


@pytest.mark.parametrize("fault", [reset, answered(500), answered(503), lost])
def test_order_is_placed_once_more_after_trouble(client: Client, fault: Fault) -> None:
    account = client.register()
    client.ca.fault("/new-order", fault)
    assert client.order(account).status is OrderStatus.READY
    assert len(client.ca.orders) == 1


def test_order_is_not_placed_once_more_where_the_ca_has_asked_for_a_longer_pause(
    client: Client,
) -> None:
    account = client.register()
    client.ca.fault("/new-order", answered(503, headers={"Retry-After": "3600"}))
    with pytest.raises(CaUnreachableError) as caught:
        client.order(account)
    assert caught.value.retry_after_seconds == 3600
    assert (client.ca.count("/new-order"), client.ca.count("/orders")) == (1, 0)


def test_order_that_is_known_or_finished_or_for_other_names_is_not_adopted(
    client: Client,
) -> None:
    account = client.register()
    known = client.order(account)
    finished = client.finalize(account, client.order(account))
    other = new_order(client.session, account, ("other.example.org",))
    client.ca.fault("/new-order", reset)
    order = client.order(account, known_orders=lambda: {known.url})
    assert order.url not in {known.url, finished.url, other.url}
    assert len(client.ca.orders) == 4


def test_list_that_cannot_be_had_counts_as_none(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", reset)
    client.ca.fault("/orders", answered(404))
    assert client.order(account).url == f"{BASE}/order/1"


def test_order_list_that_leads_in_circles_ends(client: Client) -> None:
    account = client.register()
    loop = answered(200, {"orders": []}, {"Link": f'<{BASE}/orders/1>; rel="next"'})
    client.ca.fault("/orders", *[loop] * 100)
    assert list_orders(client.session, account) == ()
    assert client.ca.count("/orders") == 20


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
def test_order_is_placed_without_replaces_where_the_ca_dislikes_it(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey, status: int
) -> None:
    ca = FakeCa(directory_extra={"renewalInfo": f"{BASE}/ari"})
    client = Client(ca, account_key, leaf_key)
    account = client.register()
    ca.fault("/new-order", problem(status, "malformed", ""))
    order = client.order(account, replaces="aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
    assert order.status is OrderStatus.READY
    assert "replaces" not in ca.orders[1].request
    assert ca.count("/new-order") == 2


def test_rate_limit_is_no_reason_to_order_without_replaces(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    ca = FakeCa(directory_extra={"renewalInfo": f"{BASE}/ari"})
    client = Client(ca, account_key, leaf_key)
    account = client.register()
    ca.fault("/new-order", problem(429, "rateLimited", "too many"))
    with pytest.raises(CaProblemError, match="too many"):
        client.order(account, replaces="a.b")
    assert ca.count("/new-order") == 1


def test_bad_nonces_without_end_are_no_reason_to_order_without_replaces(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    ca = FakeCa(directory_extra={"renewalInfo": f"{BASE}/ari"})
    client = Client(ca, account_key, leaf_key)
    account = client.register()
    ca.bad_nonces = 1 + MAX_BAD_NONCES
    with pytest.raises(CaProblemError, match="badNonce"):
        client.order(account, replaces="a.b")
    assert (ca.count("/new-order"), ca.orders) == (1 + MAX_BAD_NONCES, {})


def test_replaces_and_profile_go_only_to_a_ca_that_offers_them(client: Client) -> None:
    account = client.register()
    client.order(account, replaces="a.b", profile="shortlived")
    assert set(client.ca.orders[1].request) == {"identifiers"}


def test_profile_is_sent_in_the_spelling_of_the_ca(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    ca = FakeCa(directory_extra={"meta": {"profiles": {"ShortLived": "six days"}}}, terms=None)
    client = Client(ca, account_key, leaf_key)
    client.order(client.register(), profile="shortlived")
    assert ca.orders[1].request["profile"] == "ShortLived"


def test_order_never_carries_dates(client: Client) -> None:
    client.order(client.register())
    assert not {"notBefore", "notAfter"} & set(client.ca.orders[1].request)


# --- authorizations and challenges


def test_authorization_tells_what_the_ca_offers(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(orders_come="pending"), account_key, leaf_key)
    account = client.register()
    order = new_order(client.session, account, ("*.shop.example.org",))
    authorization = fetch_authorization(client.session, account, order.authorizations[0])
    assert authorization.name == "shop.example.org"
    assert authorization.wildcard
    assert [challenge.type for challenge in authorization.challenges] == ["http-01", "dns-01"]


@pytest.mark.parametrize(
    "members",
    [
        {"challenges": ...},
        {"challenges": None},
        {"challenges": []},
        {"challenges": [{"type": "sectigo-email-01", "status": "valid"}]},
        {"challenges": [{"type": "sectigo-dns-01", "url": f"{BASE}/c", "token": None}]},
        {"challenges": [{"type": "tkauth-01", "url": f"{BASE}/c", "status": "dozing"}]},
        {"wildcard": None},
        {"expires": "never"},
    ],
)
def test_authorization_of_an_odd_but_honest_ca_passes(
    client: Client, members: dict[str, Any]
) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/authorization", changed(**members))
    authorization = fetch_authorization(client.session, account, order.authorizations[0])
    assert authorization.status is AuthorizationStatus.VALID


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"status": "maybe"}, "unknown status"),
        ({"status": ...}, "no 'status'"),
        ({"identifier": ...}, "no 'identifier'"),
        ({"identifier": "x"}, "'identifier'"),
        ({"identifier": {"type": "dns"}}, "no 'value'"),
        ({"challenges": {}}, "'challenges'"),
        ({"challenges": ["http-01"]}, "'challenges'"),
        ({"challenges": [{"url": "x"}]}, "no 'type'"),
        ({"challenges": [{"type": "http-01", "token": 1}]}, "'token'"),
        ({"challenges": [{"type": "http-01", "error": 1}]}, "'error'"),
        ({"wildcard": "yes"}, "'wildcard'"),
    ],
)
def test_authorization_of_a_wrong_form_is_a_protocol_error(
    client: Client, members: dict[str, Any], words: str
) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/authorization", changed(**members))
    with pytest.raises(CaProtocolError, match=words):
        fetch_authorization(client.session, account, order.authorizations[0])


@pytest.mark.parametrize(("fault", "requests"), [(lost, 2), (reset, 3), (refused, 2)])
def test_challenge_is_answered_again_only_if_it_is_still_pending(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey, fault: Fault, requests: int
) -> None:
    client = Client(FakeCa(orders_come="pending"), account_key, leaf_key)
    account = client.register()
    order = client.order(account)
    authorization = fetch_authorization(client.session, account, order.authorizations[0])
    client.ca.fault("/challenge", fault)
    challenge = answer_challenge(client.session, account, authorization.challenges[0].url or "")
    assert challenge.status == "valid"
    assert client.ca.answered == ["1-0-http-01"]
    assert client.ca.count("/challenge") == requests


def test_invalid_order_is_explained_by_its_own_error(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault(
        "/order/1",
        changed(status="invalid", error={"type": ACME + "caa", "detail": "CAA says no"}),
    )
    order = fetch_order(client.session, account, order.url)
    error = explain_invalid(client.session, account, order)
    assert error.detail == "CAA says no"
    assert "CAA record" in (error.hint or "")


def test_invalid_order_is_explained_by_the_challenge_that_failed(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    failure = {"type": ACME + "connection", "detail": "refused", "status": 400}
    client.ca.fault(
        "/authorization/1-1",
        changed(status="invalid", challenges=[{"type": "http-01", "error": failure}]),
    )
    error = explain_invalid(client.session, account, order)
    assert error.detail == "www.shop.example.org: refused"
    assert error.error_class is ErrorClass.TRANSIENT


def test_authorization_that_expired_explains_its_order(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/authorization/1-0", changed(status="expired"))
    error = explain_invalid(client.session, account, order)
    assert "shop.example.org is expired" in error.detail


def test_authorization_that_is_still_pending_does_not_hide_the_one_that_failed(
    client: Client,
) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/authorization/1-0", changed(status="pending"))
    client.ca.fault("/authorization/1-1", changed(status="expired"))
    error = explain_invalid(client.session, account, order)
    assert "www.shop.example.org is expired" in error.detail


def test_invalid_order_whose_authorizations_are_gone_keeps_its_own_error(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", changed(error={"type": ACME + "caa", "detail": "CAA says no"}))
    order = client.order(account)
    client.ca.fault("/authorization", answered(404))
    assert explain_invalid(client.session, account, order).detail == "CAA says no"


def test_invalid_order_without_any_reason_says_that(client: Client) -> None:
    account = client.register()
    error = explain_invalid(client.session, account, client.order(account))
    assert "without a reason" in error.detail


# --- finalize


@pytest.mark.parametrize("polls", [0, 2])
def test_finalize_whose_answer_is_lost_happens_once(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey, polls: int
) -> None:
    client = Client(FakeCa(polls_of_processing=polls), account_key, leaf_key)
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", lost)
    found = client.finalize(account, order)
    assert found.status is (OrderStatus.PROCESSING if polls else OrderStatus.VALID)
    assert client.ca.finalized == [1]
    assert client.ca.count("/finalize") == 1


@pytest.mark.parametrize("fault", [reset, answered(500), answered(504), answered(200, b"{")])
def test_finalize_that_left_the_order_ready_is_not_repeated(client: Client, fault: Fault) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", fault)
    with pytest.raises((CaUnreachableError, CaProtocolError)):
        client.finalize(account, order)
    assert client.ca.count("/finalize") == 1
    assert client.ca.count("/order/1") == 1
    assert client.ca.finalized == []


@pytest.mark.parametrize(
    "reading", [(refused,) * 3, (problem(401, "unauthorized", "not yours"),), (answered(200),)]
)
def test_finalize_that_is_lost_stays_so_where_the_order_cannot_be_read(
    client: Client, reading: tuple[Fault, ...]
) -> None:
    """Else it would look as if it had never been sent, and be sent again."""
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", lost)
    client.ca.fault("/order/1", *reading)
    with pytest.raises(CaUnreachableError, match="while finalizing the order") as caught:
        client.finalize(account, order)
    assert caught.value.request_sent
    assert client.ca.count("/order/1") == len(reading)
    assert client.ca.finalized == [1]


def test_finalize_is_sent_again_where_the_connection_was_refused(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", refused)
    assert client.finalize(account, order).status is OrderStatus.VALID
    assert client.ca.finalized == [1]


def test_order_stays_at_its_address_whatever_finalize_says(client: Client) -> None:
    """The CA has named another address for it, at which there is nothing, or another order."""
    account = client.register()
    other = new_order(client.session, account, ("other.example.org",))
    for false in (f"{BASE}/order/99", other.url, "https://evil.example/order/1"):
        order = client.order(account)
        client.ca.fault("/finalize", with_headers(Location=false))
        found = client.finalize(account, order)
        assert (found.url, found.status) == (order.url, OrderStatus.VALID)


@pytest.mark.parametrize("false", ["/order/99", "/directory", "/order/1"])
def test_order_is_where_finalize_says_if_it_never_was_where_it_was_to_be(
    client: Client, false: str
) -> None:
    account = client.register()
    new_order(client.session, account, ("other.example.org",))
    client.ca.fault("/new-order", with_headers(Location=BASE + false))
    order = client.order(account)
    assert order.url == BASE + false
    found = client.finalize(account, order)
    assert (found.url, found.status) == (f"{BASE}/order/2", OrderStatus.VALID)


def test_order_that_is_at_neither_address_is_what_finalize_says_of_it(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", with_headers(Location=f"{BASE}/order/98"))
    order = client.order(account)
    client.ca.fault("/finalize", with_headers(Location=f"{BASE}/order/99"))
    found = client.finalize(account, order)
    assert (found.url, found.status) == (f"{BASE}/order/98", OrderStatus.VALID)


def test_order_at_an_address_of_others_is_refused_before_it_is_finalized(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", with_headers(Location="https://evil.example/order/1"))
    with pytest.raises(CaProtocolError, match="points to where its directory does not"):
        client.order(account)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"status": 7}'])
def test_what_is_no_order_is_told_apart_from_one_that_is_odd(client: Client, answer: bytes) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/order/1", answered(200, answer))
    with pytest.raises(NoOrderError):
        fetch_order(client.session, account, order.url)
    client.ca.fault("/order/1", changed(status="sleeping"))
    with pytest.raises(CaProtocolError, match="unknown status") as caught:
        fetch_order(client.session, account, order.url)
    assert not isinstance(caught.value, NoOrderError)


def test_finalize_that_was_done_before_is_success(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    client.finalize(account, order)
    again = client.finalize(account, order)
    assert again.status is OrderStatus.VALID
    assert client.ca.finalized == [1]


def test_finished_order_is_not_finalized(client: Client) -> None:
    account = client.register()
    done = client.finalize(account, client.order(account))
    assert client.finalize(account, done) is done
    assert client.ca.count("/finalize") == 1


def test_refused_csr_is_the_domain_s_failure(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    csr = make_csr(("other.example.org",), client.leaf_key, must_staple=False)
    with pytest.raises(CaProblemError, match="badCSR"):
        finalize(client.session, account, order, csr)
    assert client.ca.count("/order/1") == 0


def test_order_without_a_finalize_address_cannot_be_finalized(client: Client) -> None:
    account = client.register()
    client.ca.fault("/new-order", changed(finalize=...))
    with pytest.raises(CaProtocolError, match="no 'finalize'"):
        client.finalize(account, client.order(account))


@pytest.mark.parametrize("url", ["https://evil.example/finalize", "http://ca.example/finalize"])
def test_csr_goes_to_no_foreign_address(client: Client, url: str) -> None:
    account = client.register()
    client.ca.fault("/new-order", changed(finalize=url))
    with pytest.raises(CaProtocolError, match="where its directory does not"):
        client.finalize(account, client.order(account))
    assert client.ca.count("/finalize") == 0


# --- certificates


@pytest.fixture
def issued(client: Client) -> tuple[Client, Account, Order]:
    account = client.register()
    return client, account, client.finalize(account, client.order(account))


def body_of(fault: Callable[[bytes], bytes], **headers: str) -> Fault:
    """Let the CA answer, and change the bytes of its body."""

    def change(handle: Handle) -> httpx.Response:
        response = handle()
        body = b"".join(response.stream)  # type: ignore[arg-type]  # sync here
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.Response(200, headers=extra, stream=Chunks(fault(body)))

    return change


def blocks(pem: bytes) -> int:
    return pem.count(b"-----BEGIN CERTIFICATE-----")


def test_chain_is_kept_as_delivered_and_its_alternates_are_told(
    issued: tuple[Client, Account, Order],
) -> None:
    client, account, order = issued
    chain = fetch_certificate(client.session, account, order.certificate or "")
    assert blocks(chain.pem) == 2
    assert chain.alternates == (f"{BASE}/certificate/1/other",)


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "text/html"])
def test_chain_of_any_content_type_is_read(
    issued: tuple[Client, Account, Order], content_type: str
) -> None:
    client, account, order = issued
    client.ca.fault("/certificate", with_headers(Content_Type=content_type))
    assert blocks(fetch_chain(client.session, account, order)) == 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda body: body[: len(body) - 200], id="cut-in-the-second"),
        pytest.param(lambda body: body[:200], id="cut-in-the-first"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"<html>", id="html"),
        pytest.param(lambda body: body.replace(b"\nMII", b"\n*II", 1), id="garbled"),
    ],
)
def test_cut_or_garbled_chain_is_fetched_once_more(
    issued: tuple[Client, Account, Order], fault: Callable[[bytes], bytes]
) -> None:
    client, account, order = issued
    client.ca.fault("/certificate", body_of(fault))
    assert blocks(fetch_chain(client.session, account, order)) == 2
    client.ca.fault("/certificate", body_of(fault), body_of(fault))
    with pytest.raises(CertificateError):
        fetch_chain(client.session, account, order)


def test_only_certificates_are_taken_out_of_a_chain(
    issued: tuple[Client, Account, Order],
) -> None:
    client, account, order = issued
    junk = b"# hello\nsubject=CN = somebody\n"
    client.ca.fault("/certificate", body_of(lambda body: junk + body + junk))
    pem = fetch_chain(client.session, account, order)
    assert blocks(pem) == 2
    assert b"hello" not in pem


def test_chain_with_a_private_key_in_it_is_refused(issued: tuple[Client, Account, Order]) -> None:
    client, account, order = issued
    key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    fault = body_of(lambda body: body + key)
    client.ca.fault("/certificate", fault, fault)
    with pytest.raises(CertificateError, match="other PEM blocks than certificates"):
        fetch_chain(client.session, account, order)


def test_lone_certificate_without_an_announced_length_may_have_been_cut(
    issued: tuple[Client, Account, Order],
) -> None:
    client, account, order = issued
    end = b"-----END CERTIFICATE-----\n"

    def cut(handle: Handle) -> httpx.Response:
        body = b"".join(handle().stream)  # type: ignore[arg-type]  # sync here
        return httpx.Response(200, stream=Chunks(body.partition(end)[0] + end))

    client.ca.fault("/certificate", cut)
    assert blocks(fetch_chain(client.session, account, order)) == 2
    client.ca.fault("/certificate", cut, cut)
    with pytest.raises(CertificateError, match="may have been cut off"):
        fetch_chain(client.session, account, order)


def test_certificate_in_der_is_read_and_completed_by_its_up_link(
    issued: tuple[Client, Account, Order],
) -> None:
    client, account, order = issued
    leaf, root = read_chain(fetch_chain(client.session, account, order))
    client.ca.fault(
        "/certificate/1",
        answered(200, leaf.public_bytes(Encoding.DER), {"Link": '</certificate/9>; rel="up"'}),
    )
    client.ca.fault("/certificate/9", answered(200, root.public_bytes(Encoding.DER)))
    assert read_chain(fetch_chain(client.session, account, order)) == (leaf, root)


def test_up_links_that_lead_in_circles_end(issued: tuple[Client, Account, Order]) -> None:
    client, account, order = issued
    leaf, _ = read_chain(fetch_chain(client.session, account, order))
    link = {"Link": f'<{BASE}/certificate/1>;rel="up"'}
    circle = answered(200, leaf.public_bytes(Encoding.PEM), link)
    client.ca.fault("/certificate/1", *[circle] * 50)
    assert blocks(fetch_chain(client.session, account, order)) == 10


def test_single_certificate_without_links_is_a_chain(
    issued: tuple[Client, Account, Order],
) -> None:
    client, account, order = issued
    leaf, _ = read_chain(fetch_chain(client.session, account, order))
    client.ca.fault("/certificate/1", answered(200, leaf.public_bytes(Encoding.PEM)))
    assert blocks(fetch_chain(client.session, account, order)) == 1


def test_chain_above_the_cap_is_refused(issued: tuple[Client, Account, Order]) -> None:
    client, account, order = issued
    client.ca.fault("/certificate", body_of(lambda body: body + b" " * 1024 * 1024))
    with pytest.raises(CaProtocolError, match="1048576"):
        fetch_chain(client.session, account, order)


# --- polling


@pytest.mark.parametrize(
    ("retry_after", "polls", "seconds"),
    [
        (None, 0, 0.1),
        (None, 1, 1.0),
        (None, 3, 4.0),
        (None, 7, 10.0),
        (None, 10_000, 10.0),
        (0.0, 0, 0.1),
        (1.0, 0, 1.0),
        (5.0, 0, 3.0),
        (86400.0, 0, 3.0),
        (86400.0, 100, 10.0),
    ],
)
def test_polls_grow_apart_and_never_wait_for_long(
    retry_after: float | None, polls: int, seconds: float
) -> None:
    assert poll_delay_seconds(retry_after, polls) == pytest.approx(seconds)


def test_many_threads_share_a_session(account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey) -> None:
    client = Client(FakeCa(), account_key, leaf_key)
    account = client.register()

    def one(number: int) -> str:
        return new_order(client.session, account, (f"n{number}.example.org",)).url

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(one, range(40)))) == 40


# --- what is tried again, and what is not


def test_account_without_a_contact_is_registered_without_one(client: Client) -> None:
    register_account(client.session, client.key, contact=None, terms_agreed=True, eab=None)
    assert b"contact" not in signed_payload(client.ca.bodies[-1])


def test_binding_that_never_left_this_machine_is_not_called_lost(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(bindings={"kid-1": SECRET}), account_key, leaf_key)
    client.ca.fault("/new-account", *[refused] * 9)
    with pytest.raises(CaUnreachableError) as caught:
        client.register(BINDING)
    assert not caught.value.request_sent
    assert client.ca.used_bindings == []


def test_binding_that_was_used_with_this_key_has_its_account(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(bindings={"kid-1": SECRET}), account_key, leaf_key)
    known = client.register(BINDING)
    used = problem(403, "unauthorized", "ACME account is not awaiting external account binding")
    client.ca.fault("/new-account", used)
    assert client.register(BINDING).url == known.url


def test_binding_that_was_used_with_another_key_is_the_ca_s_refusal(
    account_key: rsa.RSAPrivateKey, leaf_key: PrivateKey
) -> None:
    client = Client(FakeCa(bindings={"kid-1": SECRET}), account_key, leaf_key)
    used = problem(403, "unauthorized", "ACME account is not awaiting external account binding")
    client.ca.fault("/new-account", used)
    with pytest.raises(CaProblemError, match="not awaiting external account binding"):
        client.register(BINDING)
    refusal = problem(403, "unauthorized", "the MAC is wrong")
    client.ca.fault("/new-account", refusal)
    with pytest.raises(CaProblemError, match="the MAC is wrong"):
        client.register(BINDING)


def test_renewal_is_ordered_once_more_without_the_replaced_one_but_not_under_a_limit(
    client: Client,
) -> None:
    client.ca.directory_extra = {"renewalInfo": f"{BASE}/ari"}
    account = client.register()
    client.ca.fault("/new-order", problem(400, "malformed", ""))
    assert client.order(account, replaces="a.b").status is OrderStatus.READY
    client.ca.fault("/new-order", problem(429, "rateLimited", "slow down"))
    with pytest.raises(CaProblemError, match="slow down"):
        client.order(account, replaces="a.b")


def test_challenge_that_never_left_this_machine_is_that_error(client: Client) -> None:
    client.ca.orders_come = "pending"
    account = client.register()
    order = client.order(account)
    offered = fetch_authorization(client.session, account, order.authorizations[0])
    url = offered.challenges[0].url
    assert url is not None
    client.ca.fault("/challenge", *[refused] * 9)
    with pytest.raises(CaUnreachableError) as caught:
        answer_challenge(client.session, account, url)
    assert not caught.value.request_sent


def test_finalize_that_never_left_this_machine_is_that_error(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", *[refused] * 9)
    with pytest.raises(CaUnreachableError) as caught:
        client.finalize(account, order)
    assert not caught.value.request_sent


def test_finalize_that_is_malformed_while_the_order_is_still_ready_is_that_error(
    client: Client,
) -> None:
    account = client.register()
    order = client.order(account)
    client.ca.fault("/finalize", problem(400, "malformed", "no CSR of ours"))
    with pytest.raises(CaProblemError, match="no CSR of ours"):
        client.finalize(account, order)


def test_order_without_a_certificate_has_no_chain_yet(client: Client) -> None:
    account = client.register()
    order = client.order(account)
    assert order.certificate is None
    with pytest.raises(CaProtocolError, match="no 'certificate' yet"):
        fetch_chain(client.session, account, order)


def test_location_that_is_no_url_is_a_protocol_error(client: Client) -> None:
    client.ca.fault("/new-account", with_headers(Location="https://[ca.example/x"))
    with pytest.raises(CaProtocolError, match="a header that is no URL"):
        client.register()
