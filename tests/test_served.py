"""What Apache is asked, what it answers, and what that says about a reload."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdconnector import served
from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.keys import KeySpec, key_to_pem
from mdconnector.managed_domain import (
    Address,
    CertificatePair,
    ManagedDomain,
    SourceLine,
    VirtualHost,
)
from mdconnector.outcomes.promote import Served
from mdconnector.served import (
    Answer,
    Endpoint,
    Places,
    ask,
    ask_until_new,
    compare,
    endpoints_for,
)
from tests.authority import EC_SPEC, RSA_SPEC, Authority
from tests.parts import Apache, free_port

NAME = "shop.test"
BOTH = ("rsa2048", "secp256r1")


def a_vhost(
    *addresses: Address,
    name: str = NAME,
    aliases: tuple[str, ...] = (),
    ssl: bool = True,
    proxy_protocol: bool = False,
    pairs: tuple[CertificatePair, ...] = (),
) -> VirtualHost:
    return VirtualHost(
        server_name=name,
        aliases=aliases,
        addresses=addresses or (Address("*", 443),),
        ssl=ssl,
        declared_at=SourceLine("shop.conf", 7),
        proxy_protocol=proxy_protocol,
        certificate_pairs=pairs,
    )


def a_domain(
    *vhosts: VirtualHost, names: tuple[str, ...] = (NAME,), specs: tuple[KeySpec, ...] = ()
) -> ManagedDomain:
    return ManagedDomain(
        name=names[0],
        names=names,
        declared_at=SourceLine("shop.conf", 2),
        configured_key_specs=specs,
        vhosts=vhosts,
    )


def where(
    domain: ManagedDomain, *listens: Address, others: tuple[VirtualHost, ...] = ()
) -> list[tuple[str, int]]:
    places = Places(listens, (*domain.vhosts, *others))
    return [(endpoint.address, endpoint.port) for endpoint in endpoints_for(domain, places)]


@pytest.mark.parametrize(
    ("listens", "expected"),
    [
        ((), [("127.0.0.1", 443)]),
        ((Address("*", 443),), [("127.0.0.1", 443)]),
        ((Address("*", 443), Address("::", 443)), [("127.0.0.1", 443), ("::1", 443)]),
        ((Address("127.0.0.5", 443),), [("127.0.0.5", 443)]),
    ],
    ids=["nothing known", "any", "both families", "one address"],
)
def test_a_wildcard_address_is_asked_where_httpd_listens(
    listens: tuple[Address, ...], expected: list[tuple[str, int]]
) -> None:
    assert where(a_domain(a_vhost(Address("*", 443))), *listens) == expected


def test_a_wildcard_address_is_not_asked_where_another_vhost_answers() -> None:
    other = a_vhost(Address("127.0.0.1", 443), name="other.test")

    assert where(a_domain(a_vhost()), Address("*", 443), others=(other,)) == [("127.0.0.2", 443)]


def test_any_port_stands_for_all_that_are_listened_on() -> None:
    domain = a_domain(a_vhost(Address("*", None)))

    assert where(domain, Address("*", 443), Address("*", 8443)) == [
        ("127.0.0.1", 443),
        ("127.0.0.1", 8443),
    ]


def test_each_address_of_each_vhost_is_asked_once() -> None:
    vhost = a_vhost(Address("127.0.0.1", 443), Address("::1", 443))

    assert where(a_domain(vhost, vhost)) == [("127.0.0.1", 443), ("::1", 443)]


def test_one_certificate_of_each_kind_is_asked_for() -> None:
    specs = (RSA_SPEC, EC_SPEC, KeySpec("EC", curve="secp384r1"))

    (endpoint,) = endpoints_for(a_domain(a_vhost(), specs=specs), Places(()))

    assert endpoint.key_labels == BOTH


@pytest.mark.parametrize(
    ("vhost", "names", "expected"),
    [
        (a_vhost(name="Shop.Test"), (NAME,), "shop.test"),
        (a_vhost(name="other.test", aliases=("www.shop.test",)), ("*.shop.test",), "www.shop.test"),
        (a_vhost(name="*.shop.test"), (NAME, "www.shop.test"), "www.shop.test"),
    ],
    ids=["its name", "an alias", "a name that its wildcard covers"],
)
def test_the_name_asked_for_leads_to_the_vhost(
    vhost: VirtualHost, names: tuple[str, ...], expected: str
) -> None:
    (endpoint,) = endpoints_for(a_domain(vhost, names=names), Places(()))

    assert endpoint.server_name == expected
    assert endpoint.obstacle is None


@pytest.mark.parametrize(
    ("vhost", "names", "obstacle"),
    [
        (a_vhost(ssl=False), (NAME,), "no SSL vhost uses it"),
        (a_vhost(proxy_protocol=True), (NAME,), "it expects the PROXY protocol"),
        (
            a_vhost(name="*.shop.test"),
            ("*.shop.test",),
            "it has no name to ask for, only wildcards",
        ),
        (
            a_vhost(Address("192.0.2.7", 443)),
            (NAME,),
            "192.0.2.7 is not an address of this host",
        ),
        (a_vhost(Address("*", 8443)), (NAME,), "nothing of this host listens for it on port 8443"),
    ],
    ids=["no SSL", "PROXY protocol", "only wildcards", "foreign address", "no Listen"],
)
def test_what_cannot_be_asked_says_why(
    vhost: VirtualHost,
    names: tuple[str, ...],
    obstacle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served, "_is_local", lambda host: host.startswith("127."))
    places = Places([Address("*", 443)])

    (endpoint,) = endpoints_for(a_domain(vhost, names=names), places)

    assert endpoint.obstacle == obstacle
    assert ask([endpoint])[endpoint] == (Answer(endpoint, None, fault=obstacle),)


def test_loopback_is_this_hosts_and_a_documentation_address_is_not() -> None:
    class Elsewhere(socket.socket):
        def connect(self, address: object) -> None:
            del address

        def getsockname(self) -> tuple[str, int]:
            return ("198.51.100.1", 40000)

    assert served._is_local("127.0.0.9")
    assert served._is_local("::1")
    assert not served._is_local("no-address")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Elsewhere)
        assert not served._is_local("192.0.2.7")
        assert served._is_local("198.51.100.1")


def test_an_overriding_file_is_named() -> None:
    pair = CertificatePair("/own.crt", "/own.key", SourceLine("shop.conf", 9))

    (endpoint,) = endpoints_for(a_domain(a_vhost(pairs=(pair,))), Places(()))

    assert endpoint.override_at == "shop.conf:9"


HERE = Endpoint("127.0.0.1", 443, NAME, "shop.conf:7", BOTH)
THERE = HERE._replace(address="::1")
BLIND = HERE._replace(address="192.0.2.7", obstacle="foreign")


def shows(*shown: str | None, at: Endpoint = HERE) -> dict[Endpoint, tuple[Answer, ...]]:
    labels = (None, *BOTH)
    return {
        at: tuple(
            Answer(at, label, sha256=sha256, fault=None if sha256 else "no handshake")
            for label, sha256 in zip(labels, shown, strict=False)
        )
    }


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (shows("old", "old"), shows("new", "new"), Served.NEW),
        (shows("old", "old"), shows("new", "old"), Served.OLD),
        (shows("old", "old"), shows("old", "old"), Served.OLD),
        (shows("old", "old"), shows(None), Served.NONE),
        (shows("old", "old", "old-ec"), shows("new", "new", None), Served.NONE),
        (shows("old", "old", None), shows("new", "new", None), Served.NEW),
        (shows(None), shows(None), Served.NONE),
        (shows(None), shows("new", "new"), Served.NEW),
        ({}, shows("new"), Served.NEW),
        (shows(None) | shows("old", at=THERE), shows(None) | shows("new", at=THERE), Served.NEW),
        (shows("old") | shows("old", at=THERE), shows("new") | shows("old", at=THERE), Served.OLD),
        ({}, shows("new") | shows(None, at=BLIND), Served.NEW),
        ({}, shows(None, at=BLIND), Served.UNCHECKED),
    ],
    ids=[
        "new",
        "one key type old",
        "old",
        "silent now",
        "a key type is gone",
        "a key type never shown",
        "always silent",
        "silent before",
        "no baseline",
        "one address always silent",
        "one address old",
        "one address unchecked",
        "nothing checked",
    ],
)
def test_what_is_served_after_a_reload(
    before: dict[Endpoint, tuple[Answer, ...]],
    after: dict[Endpoint, tuple[Answer, ...]],
    expected: Served,
) -> None:
    found = compare(after, before=before, after=after, expected={"new", "new-ec"})

    assert found.served is expected


def test_only_an_endpoint_that_was_seen_before_and_is_silent_now_is_harm() -> None:
    before = shows("old") | shows(None, at=THERE)

    found = compare(before, before=before, after=shows(None) | shows(None, at=THERE), expected=())

    assert found.harmed == (HERE,)
    assert compare([HERE], before=before, after=shows("old"), expected=["new"]).harmed == ()


def test_the_answers_that_are_to_blame_are_told() -> None:
    after = shows("new", "old", None)

    found = compare(
        [HERE, BLIND], before=shows("old", "old", "old-ec"), after=after, expected=["new"]
    )

    assert [answer.key_label for answer in found.stale] == ["rsa2048"]
    assert [answer.key_label for answer in found.lost] == ["secp256r1"]
    assert found.obstacles == (BLIND,)


def test_nothing_is_asked_when_there_is_nothing_to_ask() -> None:
    assert ask([]) == {}
    assert ask_until_new({}, before={}) == {}


@dataclass(frozen=True, slots=True)
class Hosts:
    """An Apache whose vhosts differ in what a handshake meets."""

    rsa: Credential
    ec: Credential
    both: int
    """a port with both key types"""
    tls13: int
    client: int
    """it wants a client certificate, by TLS 1.2"""
    proxied: int
    """it expects the PROXY protocol"""
    only_rsa: int
    plain: int
    """no TLS at all"""

    def at(self, port: int) -> Endpoint:
        return Endpoint("127.0.0.1", port, NAME, "shop.conf:7", BOTH)


@pytest.fixture(scope="module")
def hosts(session_folder: Path) -> Iterator[Hosts]:
    folder = session_folder / "served"
    folder.mkdir(mode=0o755)
    authority = Authority()
    rsa, ec = (authority.credential((NAME,), spec) for spec in (RSA_SPEC, EC_SPEC))
    pairs = {}
    for word, credential in (("rsa", rsa), ("ec", ec)):
        (folder / f"{word}.crt").write_bytes(chain_to_pem(credential.chain))
        (folder / f"{word}.key").write_bytes(key_to_pem(credential.key))
        pairs[word] = (
            f"SSLCertificateFile {folder}/{word}.crt\nSSLCertificateKeyFile {folder}/{word}.key\n"
        )
    both = pairs["rsa"] + pairs["ec"]
    extra = {
        "tls13": f"{both}SSLProtocol TLSv1.3",
        "client": f"{both}SSLProtocol TLSv1.2\nSSLVerifyClient require\n"
        f"SSLCACertificateFile {folder}/ec.crt",
        "proxied": f"{both}RemoteIPProxyProtocol on",
        "only_rsa": pairs["rsa"],
    }
    ports = {word: free_port() for word in extra}
    start = f"ServerName {NAME}\nSSLEngine on\n"
    site = f"<VirtualHost *:${{HTTPS_PORT}}>\n{start}{both}</VirtualHost>\n"
    for word, port in ports.items():
        site += f"Listen 127.0.0.1:{port}\n<VirtualHost *:{port}>\n{start}{extra[word]}\n"
        site += "</VirtualHost>\n"
    apache = Apache(folder / "apache", mod_md=False, modules=("remoteip",), sites={"shop": site})
    with apache:
        yield Hosts(rsa=rsa, ec=ec, both=apache.ssl_port, plain=apache.http_port, **ports)


@pytest.mark.apache
@pytest.mark.parametrize("kind", ["both", "tls13", "client"])
def test_each_key_type_is_seen(hosts: Hosts, kind: str) -> None:
    endpoint = hosts.at(getattr(hosts, kind))

    answers = ask([endpoint])[endpoint]

    assert [answer.key_label for answer in answers] == [None, *BOTH]
    assert answers[0].sha256 in {hosts.rsa.facts.sha256, hosts.ec.facts.sha256}
    assert answers[1].sha256 == hosts.rsa.facts.sha256
    assert answers[2].sha256 == hosts.ec.facts.sha256
    assert answers[2].serial == f"{hosts.ec.facts.serial:x}"
    assert [answer.fault for answer in answers] == [None, None, None]


@pytest.mark.apache
def test_a_key_type_that_is_not_served_is_told(hosts: Hosts) -> None:
    endpoint = hosts.at(hosts.only_rsa)

    answers = ask([endpoint])[endpoint]

    assert [answer.sha256 for answer in answers] == [hosts.rsa.facts.sha256] * 2 + [None]
    assert answers[2].fault == "no handshake: sslv3 alert handshake failure"


@pytest.mark.apache
def test_a_vhost_that_expects_the_proxy_protocol_completes_no_handshake(hosts: Hosts) -> None:
    endpoint = hosts.at(hosts.proxied)

    answers = ask([endpoint])[endpoint]

    assert all(answer.sha256 is None for answer in answers)
    assert answers[0].fault is not None
    assert answers[0].fault.startswith("no handshake")


@pytest.mark.apache
def test_a_port_without_tls_completes_no_handshake(hosts: Hosts) -> None:
    endpoint = hosts.at(hosts.plain)

    assert ask([endpoint])[endpoint][0].fault == "no handshake: wrong version number"


def test_a_dead_port_is_asked_once() -> None:
    endpoint = Endpoint("127.0.0.1", free_port(), NAME, "shop.conf:7", BOTH)

    assert ask([endpoint])[endpoint] == (
        Answer(endpoint, None, fault="no connection: connection refused"),
    )


def test_a_server_that_says_nothing_is_given_up() -> None:
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        endpoint = Endpoint("127.0.0.1", silent.getsockname()[1], NAME, "shop.conf:7", BOTH)

        answers = ask([endpoint], limit_seconds=0.3)[endpoint]

    assert [answer.fault for answer in answers] == ["no handshake within 0 s"]


def test_no_byte_of_application_data_is_sent(tmp_path: Path) -> None:
    credential = Authority().credential((NAME,))
    (tmp_path / "pair.pem").write_bytes(key_to_pem(credential.key) + chain_to_pem(credential.chain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    received: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as connection:
            received.append(connection.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1], NAME, "shop.conf:7")
        (answer,) = ask([endpoint])[endpoint]
        server.join()

    assert answer.sha256 == credential.facts.sha256
    assert received == [b""]


@pytest.mark.apache
def test_asking_ends_as_soon_as_everything_is_new(hosts: Hosts) -> None:
    endpoint = hosts.at(hosts.both)
    expected = {hosts.rsa.facts.sha256, hosts.ec.facts.sha256}

    answers = ask_until_new({endpoint: expected}, before={}, limit_seconds=600)

    assert compare([endpoint], before={}, after=answers, expected=expected).served is Served.NEW


@pytest.mark.apache
def test_asking_ends_at_the_limit_where_the_old_one_stays(hosts: Hosts) -> None:
    endpoint = hosts.at(hosts.both)

    answers = ask_until_new({endpoint: {"another"}}, before={}, limit_seconds=0)

    assert compare([endpoint], before={}, after=answers, expected={"another"}).served is Served.OLD


def test_two_endpoints_are_asked_at_the_same_time() -> None:
    met = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(TimeoutError), listener, listener.accept()[0], listener.accept()[0]:
            met.set()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)
    one = Endpoint("127.0.0.1", listener.getsockname()[1], NAME, "shop.conf:7")
    server = threading.Thread(target=serve, args=(listener,))
    server.start()
    ask([one, one._replace(at="shop.conf:9")], limit_seconds=10)
    server.join()
    assert met.is_set(), "both were connected before either was answered"


@pytest.mark.apache
def test_many_endpoints_are_each_answered(hosts: Hosts) -> None:
    endpoints = [hosts.at(hosts.both)._replace(at=f"shop.conf:{line}") for line in range(50)]

    answers = ask(endpoints)

    assert list(answers) == endpoints
    assert all(answer.sha256 for several in answers.values() for answer in several)
