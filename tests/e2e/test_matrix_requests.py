"""The fault matrix, rows D: what can go wrong with any request to a CA.

Each test names its row, and proves by the rule's hits that its fault was really there.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.e2e.behind_proxy import (
    ACCOUNT,
    AUTHORIZATION,
    BINDING,
    CERTIFICATE,
    FINALIZE,
    LATER,
    ORDER,
    PROVEN,
    READ,
    SitesBehindProxy,
    failure,
    problem,
)
from tests.e2e.plain_sites import settings_for, ssl_site
from tests.parts import (
    Canned,
    Drip,
    DropAfter,
    FaultingProxy,
    Hang,
    Pebble,
    Reset,
    Rule,
    Substitute,
    free_port,
)

pytestmark = pytest.mark.pebble

DIRECTORY, NONCE = r"^/dir$", r"^/nonce-plz$"
HOUR, WEEK = 3600, 7 * 24 * 3600
TWICE_A_DAY = timedelta(hours=12)


@pytest.fixture
def fresh(sites: SitesBehindProxy) -> str:
    """The one domain, by a name of this test's own: lost orders are looked for by their names."""
    name = f"fresh-{secrets.token_hex(6)}.example.org"
    sites.rename(name)
    return name


# --- D1: no connection that could be trusted ------------------------------------------------------


def test_matrix_d1_name_that_cannot_be_resolved(new_sites: SitesBehindProxy) -> None:
    real, asked = socket.getaddrinfo, []

    def resolve(host: str | bytes | None, *args: object, **more: object) -> object:
        if host in ("ca.invalid", b"ca.invalid"):
            asked.append(host)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **more)  # type: ignore[arg-type]  # passed on as it came

    new_sites.add(PROVEN, {"MDCertificateAuthority": "https://ca.invalid/dir"})
    with mock.patch.object(socket, "getaddrinfo", resolve):
        line = failure(new_sites.here("renew", "--all"))
    assert len(asked) == 3
    assert "no answer from ca.invalid while reading the CA's directory: Name or service" in line


def test_matrix_d1_connection_refused(new_sites: SitesBehindProxy) -> None:
    url = f"https://localhost:{free_port()}/dir"
    new_sites.add(PROVEN, {"MDCertificateAuthority": url})
    line = failure(new_sites.here("renew", "--all"))
    assert "no answer from localhost while reading the CA's directory: Connection refused" in line


@contextlib.contextmanager
def tls_server(folder: Path, *, days_ago: int, names: tuple[str, ...]) -> Iterator[_TlsServer]:
    """A TLS server with a self-signed certificate of these days, and what is said to it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.now(UTC) - timedelta(days=days_ago)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem = folder / "server.pem"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    server = _TlsServer(pem, folder / "server.key")
    try:
        yield server
    finally:
        server.end()


class _TlsServer:
    """Accepts, shakes hands, and keeps all that comes after that."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.received = b""
        self.connections = 0
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                with (
                    contextlib.suppress(OSError),
                    connection,
                    self._tls.wrap_socket(connection, server_side=True) as tls,
                ):
                    self.received += tls.recv(1000)

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("days_ago", "names", "trusted", "words"),
    [
        (1, ("localhost",), False, "is not trusted: self-signed certificate"),
        (40, ("localhost",), True, "is not trusted: certificate has expired"),
        (-2, ("localhost",), True, "is not trusted: certificate is not yet valid"),
        (1, ("other.example",), True, "is not trusted: Hostname mismatch"),
    ],
    ids=["self-signed", "expired", "of the future", "another host's"],
)
def test_matrix_d1_server_that_cannot_be_trusted_is_told_nothing(
    new_sites: SitesBehindProxy,
    parts_folder: Path,
    days_ago: int,
    names: tuple[str, ...],
    trusted: bool,
    words: str,
) -> None:
    with tls_server(parts_folder / "tls", days_ago=days_ago, names=names) as server:
        changes = {"MDCertificateAuthority": f"https://localhost:{server.port}/dir"}
        if trusted:
            changes["MDCACertificateFile"] = str(server.certificate)
        new_sites.add(PROVEN, changes)
        line = failure(new_sites.here("renew", "--all"))
        assert words in line
        assert "MDCACertificateFile" in line
        assert (server.connections, server.received) == (1, b"")


# --- D2: the CA hangs -----------------------------------------------------------------------------


def test_matrix_d2_server_that_accepts_and_never_shakes_hands(new_sites: SitesBehindProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://localhost:{silent.getsockname()[1]}/dir"
        new_sites.add(PROVEN, {"MDCertificateAuthority": url})
        done = new_sites.here("renew", "--all", times={"CONNECT_TIMEOUT_SECONDS": 0.3})
    assert "no answer from localhost while reading the CA's directory: " in failure(done)


def test_matrix_d2_paused_ca(
    new_sites: SitesBehindProxy, make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble()
    new_sites.write(PROVEN, ssl_site(PROVEN, settings_for(ca)))
    ca.pause()
    try:
        done = new_sites.here("renew", "--all", times={"CONNECT_TIMEOUT_SECONDS": 0.3})
    finally:
        ca.resume()
    assert "no answer from localhost while reading the CA's directory: " in failure(done)


@pytest.mark.parametrize("path", [NONCE, ORDER, READ, CERTIFICATE])
def test_matrix_d2_answer_that_never_comes_is_given_up(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, path: str
) -> None:
    rule = Rule(Hang(), path=path)
    proxy.expect(rule)
    done = sites.here("renew", "--all", times={"READ_TIMEOUT_SECONDS": 0.5})
    assert "no answer from localhost while " in failure(done, fresh)
    assert 1 <= rule.hits <= 3
    sites.heals(fresh)


def test_matrix_d2_answer_that_drips_meets_the_deadline_of_the_request(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    """Each byte comes well within the time-out for a read; only their sum does not."""
    rule = Rule(Drip(0.05), path=CERTIFICATE)
    proxy.expect(rule)
    done = sites.here("renew", "--all", times={"REQUEST_DEADLINE_SECONDS": 1.0})
    line = failure(done, fresh)
    assert "no answer from localhost while fetching the certificate: " in line
    assert 1 <= rule.hits <= 3
    sites.heals(fresh)


# --- D3: the CA has trouble -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers"),
    [(500, {}), (502, {}), (503, {}), (504, {}), (503, {"Retry-After": "1"})],
)
def test_matrix_d3_trouble_at_the_directory_is_tried_three_times_then_left_to_cron(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, status: int, headers: dict[str, str]
) -> None:
    rule = Rule(Canned(status, b"<html>oops</html>", headers), path=DIRECTORY)
    proxy.expect(rule)
    line = failure(new_sites.here("renew", "--all", times={"LONGEST_RETRY_WAIT_SECONDS": 0.5}))
    assert f"localhost answered HTTP {status} while reading the CA's directory: " in line
    assert rule.hits == (1 if headers else 3)
    new_sites.heals()


def test_matrix_d3_directory_that_cannot_be_had_is_asked_three_times_with_one_line_for_all(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    for number in range(4):
        new_sites.add(f"{number}.example.org")
    rule = Rule(Canned(503, b""), path=DIRECTORY)
    proxy.expect(rule)
    done = new_sites.here("renew", "--all", "--jobs", "3")
    assert (done.exit_code, rule.hits) == (1, 3)
    (line,) = done.stderr.splitlines()
    assert " and 4 more: failed: localhost answered HTTP 503 while reading the CA's " in line


@pytest.mark.parametrize("path", [NONCE, AUTHORIZATION, READ, CERTIFICATE])
def test_matrix_d3_trouble_at_any_step_is_tried_three_times_then_left_to_cron(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str, path: str
) -> None:
    rule = Rule(Canned(503, b""), path=path)
    proxy.expect(rule)
    certificates = proxy.pebble.certificates
    line = failure(sites.here("renew", "--all"), fresh)
    assert "localhost answered HTTP 503 while " in line
    assert rule.hits == 3
    sites.heals(fresh)
    assert proxy.pebble.certificates - certificates == 1


def test_matrix_d3_one_trouble_in_the_middle_costs_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    rules = [Rule(Canned(502, b""), path=path, nth=1) for path in (NONCE, READ, CERTIFICATE)]
    proxy.expect(*rules)
    assert sites.here("renew", "--all").exit_code == 0
    assert [rule.hits for rule in rules] == [1, 1, 1]


# --- D4: asked to wait ----------------------------------------------------------------------------


def in_two_hours() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)


def seconds_until_next_try(sites: SitesBehindProxy, name: str) -> float:
    told = sites.here("status", "--json").domain(name)["next_try"]
    return (datetime.fromisoformat(told) - datetime.now(UTC)).total_seconds()


def test_matrix_d4_short_wait_is_kept_within_the_run(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    limited = problem(429, "rateLimited", "slow down")
    rule = Rule(Canned(429, limited.body, {"Retry-After": "1"}), path=ORDER, nth=1)
    proxy.expect(rule)
    assert sites.here("renew", "--all").exit_code == 0
    assert (rule.hits, proxy.count(ORDER)) == (1, 2)


@pytest.mark.parametrize(
    ("retry_after", "at_least", "at_most"),
    [
        ("3600", HOUR, HOUR),
        ("date", 2 * HOUR, 2 * HOUR),
        ("1000000000", WEEK, WEEK),
        ("-1", 0, 5),
        ("tomorrow", 0, 5),
    ],
)
def test_matrix_d4_longer_wait_is_left_to_a_later_run_and_capped(
    sites: SitesBehindProxy,
    proxy: FaultingProxy,
    retry_after: str,
    at_least: int,
    at_most: int,
) -> None:
    header = in_two_hours() if retry_after == "date" else retry_after
    limited = problem(429, "rateLimited", "too many orders")
    rule = Rule(Canned(429, limited.body, {"Retry-After": header}), path=ORDER)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert "too many orders (rateLimited, HTTP 429)" in line
    assert "; next try 20" in line
    assert rule.hits == 1
    wait = seconds_until_next_try(sites, PROVEN)
    assert at_least - 30 <= wait <= at_most + 30
    if at_least:
        proxy.expect()
        again = sites.here("renew", "--all")
        assert (again.exit_code, proxy.requests) == (0, [])
    proxy.expect()
    after = timedelta(seconds=at_most + 60)
    assert sites.here("renew", "--all", later=after).exit_code == 0


# --- D5: answers that are none --------------------------------------------------------------------

BODIES = {
    "empty": (b"", {}),
    "HTML": (b"<html><body>Welcome</body></html>", {"Content-Type": "text/html"}),
    "bad JSON": (b'{"status": "ready",', {}),
    "a list": (b"[1, 2, 3]", {}),
    "a number": (b"7", {}),
    "wrong types": (b'{"status": 7, "newNonce": [], "identifiers": "x"}', {}),
    "too much": (b'{"a": "' + b"x" * 300_000 + b'"}', {}),
    "gzip bomb": (b"\x1f\x8b\x08\x00" + b"\x00" * 100, {"Content-Encoding": "gzip"}),
    "deep": (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, {}),
    "bad charset": (b'{"status": "\xff\xfe\xc3"}', {}),
}


@pytest.mark.parametrize(
    ("path", "what"),
    [
        *((ORDER, what) for what in BODIES),
        *((path, what) for path in (DIRECTORY, READ) for what in ("HTML", "wrong types")),
    ],
)
def test_matrix_d5_answer_that_is_none_is_refused(
    sites: SitesBehindProxy,
    new_sites: SitesBehindProxy,
    proxy: FaultingProxy,
    path: str,
    what: str,
) -> None:
    body, headers = BODIES[what]
    place = new_sites if path == DIRECTORY else sites
    location = {"Location": f"{proxy.directory_url}/nowhere", "Replay-Nonce": "abc"}
    rule = Rule(Canned(200, body, location | headers), path=path)
    proxy.expect(rule)
    line = failure(place.here("renew", "--all"))
    assert "the CA's " in line
    assert len(line) < 1500
    assert 1 <= rule.hits <= 3
    place.heals()


def test_matrix_d5_truncated_answer_is_refused(
    sites: SitesBehindProxy, proxy: FaultingProxy, fresh: str
) -> None:
    cut = Rule(Substitute(rb'(?s)"status".*', b'"status"'), path=READ)
    proxy.expect(cut)
    assert "the CA's order is not JSON" in failure(sites.here("renew", "--all"), fresh)
    assert cut.hits >= 1
    sites.heals(fresh)


# --- D6: nonces -----------------------------------------------------------------------------------


def bad_nonce() -> Canned:
    refused = problem(400, "badNonce", "today I do not like it")
    return Canned(400, refused.body, {"Replay-Nonce": "YWJjZGVm"})


def test_matrix_d6_nine_refused_nonces_are_survived(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rules = [Rule(bad_nonce(), path=ORDER, nth=1) for _ in range(9)]
    proxy.expect(*rules)
    assert sites.here("renew", "--all").exit_code == 0
    assert sum(rule.hits for rule in rules) == 9


def test_matrix_d6_nonces_that_are_always_refused_are_given_up(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(bad_nonce(), path=ORDER)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert "(badNonce, HTTP 400)" in line
    assert rule.hits == 11
    sites.heals()


# --- D7: headers ----------------------------------------------------------------------------------

HEADERS = {
    "no nonce": (NONCE, {"Replay-Nonce": ""}, "no usable nonce (header Replay-Nonce)"),
    "nonce of a wrong alphabet": (
        NONCE,
        {"Replay-Nonce": "a b/+"},
        "no usable nonce (header Replay-Nonce)",
    ),
    "no location": (ORDER, {"Location": ""}, "newOrder has no header Location"),
    "two locations": (
        ORDER,
        {"Location": "/one\r\nLocation: /two"},
        "several headers Location",
    ),
}


@pytest.mark.parametrize(("path", "headers", "words"), HEADERS.values(), ids=HEADERS)
def test_matrix_d7_header_that_is_missing_or_odd_is_named(
    sites: SitesBehindProxy,
    proxy: FaultingProxy,
    fresh: str,
    path: str,
    headers: dict[str, str],
    words: str,
) -> None:
    rule = Rule(Substitute(b"^", b"", headers), path=path)
    proxy.expect(rule)
    assert words in failure(sites.here("renew", "--all"), fresh)
    assert rule.hits == 1
    sites.heals(fresh)


def test_matrix_d7_answers_without_nonces_cost_only_requests(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(Substitute(b"^", b"", {"Replay-Nonce": ""}), method="POST")
    proxy.expect(rule)
    assert sites.here("renew", "--all").exit_code == 0
    assert rule.hits >= 3


# --- D8: elsewhere --------------------------------------------------------------------------------


@pytest.fixture
def foreign() -> Iterator[socket.socket]:
    """Somewhere else: it listens, and nobody may come."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("status", "scheme"),
    [(301, "https"), (302, "http"), (303, "https"), (307, "http"), (308, "https")],
)
def test_matrix_d8_redirect_is_not_followed(
    new_sites: SitesBehindProxy,
    proxy: FaultingProxy,
    foreign: socket.socket,
    status: int,
    scheme: str,
) -> None:
    url = f"{scheme}://localhost:{foreign.getsockname()[1]}/dir"
    rule = Rule(Canned(status, b"", {"Location": url}), path=DIRECTORY)
    proxy.expect(rule)
    line = failure(new_sites.here("renew", "--all"))
    assert f"redirects {proxy.directory_url} to {url}, which is not followed" in line
    assert rule.hits == 1


@pytest.mark.parametrize(
    ("path", "member", "scheme"),
    [
        (READ, "certificate", "http"),
        (ORDER, "finalize", "https"),
        (ORDER, "authorizations", "https"),
        (AUTHORIZATION, "url", "http"),
    ],
)
def test_matrix_d8_nothing_is_sent_to_a_foreign_origin(
    sites: SitesBehindProxy,
    proxy: FaultingProxy,
    fresh: str,
    foreign: socket.socket,
    path: str,
    member: str,
    scheme: str,
) -> None:
    url = f"{scheme}://localhost:{foreign.getsockname()[1]}/x"
    pattern = rf'(?s)("{member}": (?:\[\s*)?)"[^"]*"'.encode()
    rule = Rule(Substitute(pattern, rb"\g<1>" + f'"{url}"'.encode()), path=path)
    proxy.expect(rule)
    if member == "finalize":
        (sites.sites / f"{fresh}.conf").unlink()
        sites.add(PROVEN)
    line = failure(sites.here("renew", "--all"), PROVEN if member == "finalize" else fresh)
    assert f"the CA points to where its directory does not: {url}" in line
    assert rule.hits >= 1


@pytest.mark.parametrize("member", ["newNonce", "newAccount", "newOrder"])
def test_matrix_d8_directory_that_names_plain_http_elsewhere_is_refused(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, member: str
) -> None:
    url = "http://ca.example.net/x"
    rule = Rule(Substitute(rf'"{member}": "[^"]*"'.encode(), f'"{member}": "{url}"'.encode()))
    proxy.expect(rule)
    line = failure(new_sites.here("renew", "--all"))
    assert f"an address that is not safe to follow: {url}" in line
    assert len(proxy.requests) == 1


# --- D9: the connection breaks --------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Reset(), DropAfter()], ids=["before", "after"])
@pytest.mark.parametrize(
    "path", [NONCE, ORDER, AUTHORIZATION, r"^/chalZ/", READ, FINALIZE, CERTIFICATE]
)
def test_matrix_d9_broken_connection_costs_no_second_order_finalize_or_certificate(
    sites: SitesBehindProxy,
    proxy: FaultingProxy,
    fresh: str,
    path: str,
    fault: Reset | DropAfter,
) -> None:
    ca = proxy.pebble
    orders, certificates = ca.orders, ca.certificates
    rule = Rule(fault, path=path, nth=1)
    proxy.expect(rule)
    is_lost = path == FINALIZE and isinstance(fault, Reset)
    done = sites.here("renew", "--all", "--wait", "0.5" if is_lost else "30")
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    if is_lost:  # it may be under way still, so that only a later run sends it again
        assert proxy.count(FINALIZE) == 1
        sites.heals(fresh)
    assert ca.orders - orders == 1
    assert ca.certificates - certificates == 1


@pytest.mark.parametrize("fault", [Reset(), DropAfter()], ids=["before", "after"])
def test_matrix_d9_broken_connection_at_new_account_makes_one_account(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, fault: Reset | DropAfter
) -> None:
    rule = Rule(fault, path=ACCOUNT, nth=1)
    proxy.expect(rule)
    assert new_sites.here("renew", "--all").exit_code == 0
    assert rule.hits == 1
    assert len(list((new_sites.store / "accounts").iterdir())) == 1


def test_matrix_d9_registration_without_any_answer_is_tried_once_for_all_domains(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    for number in range(3):
        new_sites.add(f"{number}.example.org")
    rule = Rule(Reset(), path=ACCOUNT)
    proxy.expect(rule)
    done = new_sites.here("renew", "--all", "--jobs", "2")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert " and 3 more: failed: no answer from localhost while looking for the account" in line
    assert rule.hits == 4, "the registration, and three looks for what became of it"
    assert proxy.count(ACCOUNT, BINDING) == 1
    proxy.expect()
    again = new_sites.here("renew", "--all", later=LATER)
    assert again.exit_code == 0, again.output
    assert proxy.count(ACCOUNT, BINDING) == 1


# --- D10: the network comes late ------------------------------------------------------------------


def test_matrix_d10_third_run_succeeds_where_the_network_is_up_only_then(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    new_sites.rename("late.example.org")
    certificates = proxy.pebble.certificates
    down = Rule(Reset())
    proxy.expect(down)
    for number in range(2):
        line = failure(
            new_sites.here("renew", "--all", later=number * TWICE_A_DAY), "late.example.org"
        )
        assert "no answer from localhost while reading the CA's directory" in line
        assert down.hits == 3 * (number + 1)
    proxy.expect()
    done = new_sites.here("renew", "--all", later=2 * TWICE_A_DAY)
    assert (done.exit_code, proxy.pebble.certificates - certificates) == (0, 1)
