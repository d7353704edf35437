"""mdconnector.challenges.http_01: who answers, where it is asked, and what the question decides."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mdconnector.challenges import challenge_files, http_01
from mdconnector.challenges.http_01 import addresses_to_ask, answering_vhost
from mdconnector.challenges.traces import ChallengeFiles
from mdconnector.errors import ChallengeError, StoreError
from mdconnector.store.tree import Store
from tests.challenges.conftest import ANSWER, TOKEN, site, site_on, vhost
from tests.parts import Apache
from tests.parts.ports import free_port

SHOP = "shop.example.org"
PATH = f"/.well-known/acme-challenge/{TOKEN}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("shop.example.org", "shop.example.org", id="ServerName"),
        pytest.param("www.example.org", "shop.example.org", id="ServerAlias"),
        pytest.param("a.b.apps.example.org", "apps.example.org", id="wildcard alias"),
        pytest.param("x1.example.org", "apps.example.org", id="question mark"),
        pytest.param("appsxexample.org", "first.example.org", id="a dot is a dot"),
        pytest.param("tls.example.org", "first.example.org", id="an SSL vhost does not count"),
        pytest.param("other.example.org", "first.example.org", id="another port does not count"),
    ],
)
def test_vhost_is_chosen_as_httpd_does(name: str, expected: str) -> None:
    vhosts = (
        vhost("main.example.org", is_base=True),
        vhost("first.example.org"),
        vhost("tls.example.org", ssl=True),
        vhost("other.example.org", "*:8080"),
        vhost("Shop.Example.org", aliases=("WWW.example.org",)),
        vhost("apps.example.org", "*:*", aliases=("*.apps.example.org", "x?.example.org")),
    )
    chosen = answering_vhost(site(vhosts=vhosts), name)
    assert chosen is not None
    assert chosen.server_name.lower() == expected


def test_base_server_answers_where_no_vhost_has_the_port() -> None:
    base = vhost("main.example.org", is_base=True)
    assert answering_vhost(site(vhosts=(base, vhost(SHOP, "*:8080"))), SHOP) is base


def test_nobody_answers_where_apache_does_not_listen() -> None:
    assert answering_vhost(site("*:443", vhosts=(vhost(SHOP),)), SHOP) is None
    assert answering_vhost(site(http_port=None, vhosts=(vhost(SHOP),)), SHOP) is None


@pytest.mark.parametrize(
    ("addresses", "listens", "expected"),
    [
        pytest.param(["*:80"], ["*:80"], ["127.0.0.1", "127.0.0.2", "::1"], id="any"),
        pytest.param(["10.1.2.3:80"], ["*:80"], ["10.1.2.3"], id="IPv4"),
        pytest.param(["[2001:db8::1]:*"], ["*:80"], ["2001:db8::1"], id="IPv6, any port"),
        pytest.param(["*:80"], ["10.1.2.3:80", "*:443"], ["10.1.2.3"], id="as Listen says"),
        pytest.param(["10.1.2.3:443", "10.1.2.4:80"], ["*:80"], ["10.1.2.4"], id="this port"),
        pytest.param(["shop.example.org:80"], ["*:80"], [], id="a name is not asked of DNS"),
    ],
)
def test_vhost_s_own_address_is_asked(
    addresses: list[str], listens: list[str], expected: list[str]
) -> None:
    shop = vhost(SHOP, *addresses)
    found = addresses_to_ask(site(*listens, vhosts=(shop,)), shop)
    assert [host for host, _ in found] == expected


def test_address_of_another_vhost_is_not_asked() -> None:
    shop, status = vhost(SHOP), vhost("localhost", "127.0.0.1:80")
    found = addresses_to_ask(site(vhosts=(status, shop)), shop)
    assert [host for host, _ in found] == ["127.0.0.2", "::1"]


@contextmanager
def answering(reply: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one request; gives its port and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(timeout=10)


def make_at(port: int, store: Store) -> tuple[str, ...]:
    _, make = http_01.prepare(SHOP, TOKEN, ANSWER, site_on(port, vhost(SHOP)), store)
    return make()


def test_right_answer_is_taken_without_a_note(store: Store) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + ANSWER.encode() + b"\r\n") as (port, asked):
        assert make_at(port, store) == ()
    assert asked[0].startswith(f"GET {PATH} HTTP/1.0\r\nHost: {SHOP}\r\n".encode())


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\nno", "status 404", id="absent"),
        pytest.param(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "status 301", id="redirect"),
        pytest.param(b"HTTP/1.1 503 Oh\r\n\r\n" + ANSWER.encode(), "status 503", id="fallback"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "gets no answer", id="not HTTP"),
        pytest.param(b"", "gets no answer", id="nothing"),
    ],
)
def test_anything_but_another_text_with_200_is_only_noted(
    store: Store, reply: bytes, note: str
) -> None:
    with answering(reply) as (port, _):
        (said,) = make_at(port, store)
    assert said.startswith(f"http://{SHOP}{PATH} on 127.0.0.1:{port} ")
    assert note in said


def test_another_text_with_status_200_stops_the_challenge(store: Store) -> None:
    reply = b"HTTP/1.1 200 OK\r\n\r\n<html>\x1b[31mwelcome" + b"x" * 100_000
    with answering(reply) as (port, _), pytest.raises(ChallengeError) as caught:
        make_at(port, store)
    assert f"http://{SHOP}{PATH} on 127.0.0.1:{port} is answered by something else" in str(
        caught.value
    )
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_server_that_never_ends_is_left_after_a_while(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_01, "CHECK_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (said,) = make_at(listener.getsockname()[1], store)
    assert said.endswith("gets no answer")


def test_apache_that_does_not_run_is_noted(store: Store) -> None:
    (said,) = make_at(free_port(), store)
    assert said.startswith("Apache could not be asked for http://shop.example.org/")


def test_mod_md_s_file_has_its_form_and_modes(store: Store) -> None:
    trace, make = http_01.prepare(SHOP, TOKEN, ANSWER, site("*:443"), store)
    assert make() == ()
    folder = store.path / "challenges" / SHOP
    assert (folder / "acme-http-01.txt").read_bytes() == ANSWER.encode()
    assert (folder / "acme-http-01.txt").stat().st_mode & 0o7777 == 0o644
    assert folder.stat().st_mode & 0o7777 == 0o755
    assert isinstance(trace, ChallengeFiles)
    challenge_files.remove(store, trace)
    assert list((store.path / "challenges").iterdir()) == []


def test_file_that_is_not_ours_any_more_stays(store: Store) -> None:
    trace, make = http_01.prepare(SHOP, TOKEN, ANSWER, site("*:443"), store)
    make()
    file = store.path / "challenges" / SHOP / "acme-http-01.txt"
    file.write_text("mod_md's own")
    assert isinstance(trace, ChallengeFiles)
    challenge_files.remove(store, trace)
    assert file.read_text() == "mod_md's own"


def test_folder_that_was_there_before_stays(store: Store) -> None:
    folder = store.path / "challenges" / SHOP
    folder.mkdir()
    (folder / "acme-http-01.txt").write_text("of an earlier token")
    trace, make = http_01.prepare(SHOP, TOKEN, ANSWER, site("*:443"), store)
    make()
    assert isinstance(trace, ChallengeFiles)
    challenge_files.remove(store, trace)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "file"])
def test_link_of_apache_s_user_is_not_followed(store: Store, parts_folder: Path, what: str) -> None:
    elsewhere = parts_folder / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / "acme-http-01.txt"
    victim.write_text("precious")
    folder = store.path / "challenges" / SHOP
    if what == "folder":
        folder.symlink_to(elsewhere)
    else:
        folder.mkdir()
        (folder / "acme-http-01.txt").symlink_to(victim)
    trace, make = http_01.prepare(SHOP, TOKEN, ANSWER, site("*:443"), store)
    if what == "folder":
        with pytest.raises(StoreError, match="symbolic link"):
            make()
    else:
        make()
        assert isinstance(trace, ChallengeFiles)
        challenge_files.remove(store, trace)
    assert victim.read_text() == "precious"


def test_document_root_is_needed_where_mod_md_is_not_loaded(store: Store) -> None:
    for here, reason in (
        (site("*:443", mod_md_loaded=False), "no vhost answers on port 80"),
        (
            site(mod_md_loaded=False, vhosts=(vhost(SHOP),)),
            "the vhost at shop.conf:3 has no DocumentRoot",
        ),
    ):
        with pytest.raises(ChallengeError, match=reason):
            http_01.prepare(SHOP, TOKEN, ANSWER, here, store)


@pytest.mark.apache
def test_running_apache_answers_by_mod_md_without_a_reload(
    make_apache: Callable[..., Apache], store: Store
) -> None:
    with make_apache(store=store.path) as apache:
        here = site_on(apache.http_port, vhost(SHOP))
        trace, make = http_01.prepare(SHOP, TOKEN, ANSWER, here, store)
        assert make() == ()
        assert apache.get(PATH, SHOP) == (200, ANSWER.encode())
        assert isinstance(trace, ChallengeFiles)
        challenge_files.remove(store, trace)
        assert apache.get(PATH, SHOP)[0] == 404


@pytest.mark.apache
def test_running_apache_without_mod_md_answers_by_its_document_root(
    make_apache: Callable[..., Apache], store: Store
) -> None:
    apache = make_apache(
        mod_md=False,
        sites={
            "first": "<VirtualHost *:${HTTP_PORT}>\nServerName first.example.org\n</VirtualHost>",
            "shop": "<VirtualHost *:${HTTP_PORT}>\nServerName shop.example.org\n"
            'DocumentRoot "${SHOP}"\n</VirtualHost>',
        },
        main_extra='Define SHOP "/tmp"',
    )
    root = apache.root / "shop"
    root.mkdir()
    apache.write_site("00-define", f'Define SHOP "{root}"')
    with apache:
        shop = vhost(SHOP)._replace(document_root=str(root))
        here = site_on(apache.http_port, shop, mod_md_loaded=False)
        _, make = http_01.prepare(SHOP, TOKEN, ANSWER, here, store)
        assert make() == ()
        assert apache.get(PATH, SHOP) == (200, ANSWER.encode())
