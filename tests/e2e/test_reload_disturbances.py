"""Promotions whose reload is disturbed, or whose result nobody can ask for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.authority import EC_SPEC
from tests.e2e.command import Finished, run
from tests.e2e.estate import live_leaf, managed_site, served_leaf
from tests.e2e.shop import NAME, Shop
from tests.parts import Apache, wait_until
from tests.torture.fleet import SETTINGS, Fleet

pytestmark = pytest.mark.apache

MakeApache = Callable[..., Apache]
REMOTEIP = "LoadModule remoteip_module /usr/lib/apache2/modules/mod_remoteip.so\n"
HASTY = (
    sys.executable,
    "-c",
    """
from mdconnector.cli import main
from mdconnector.httpd import reloading
reloading.reload.__kwdefaults__["limit_seconds"] = 1
reloading.IDLE_LIMIT_SECONDS = 1
main()""",
)
"""the command, which waits a second for a reload, and for httpd to rest"""
ON_ANOTHER_HOST = (
    *(shutil.which("unshare") or "unshare", "--uts", sys.executable, "-c"),
    """
import socket
socket.sethostname("other-host")
from mdconnector.cli import main
main()""",
)
"""the command, where the host has another name"""


def open_shop(fleet: Fleet, *beside: Apache) -> Shop:
    """Start Apache with an old set, and others with the same store; then stage a new one."""
    old, new = (fleet.sets() for _ in range(2))
    fleet.put_live(old)
    for other in beside:
        other.start()
    fleet.stage(new)
    return Shop(fleet.apache, old[NAME].chain[0], new[NAME].chain[0], EC_SPEC)


@pytest.fixture
def fleet(parts_folder: Path) -> Fleet:
    return Fleet(parts_folder / "apache", [NAME], mod_md=True)


@pytest.fixture(autouse=True)
def _ended(fleet: Fleet) -> object:
    yield
    fleet.apache.stop()


def test_reload_command_that_hangs_is_killed_and_the_reload_is_owed(fleet: Fleet) -> None:
    shop = open_shop(fleet)
    done = shop.promote("--reload-command", "sleep 600", command=HASTY)
    assert (done.exit_code, done.json["reload"]) == (4, "failed"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "old")
    assert "was killed" in domain["error"]["detail"]
    assert shop.live == shop.new
    assert shop.served == shop.old
    assert (shop.is_staged, shop.is_pending) == (False, True)
    expect_served(shop, shop.promote("--reload"), outcome="nothing-staged")


def test_reload_command_that_does_nothing_gets_the_old_set_back(fleet: Fleet) -> None:
    shop = open_shop(fleet)
    parent = shop.apache.pid
    done = shop.promote("--reload-command", "true", command=HASTY)
    assert (done.exit_code, done.json["reload"]) == (4, "failed"), done.output
    domain = done.domain(NAME)
    assert domain["outcome"] == "rolled-back"
    assert "was not written again" in domain["error"]["detail"]
    assert f"mdconnector promote {NAME} --reload --force" in domain["error"]["hint"]
    assert shop.live == shop.served == shop.old
    assert (shop.is_staged, shop.is_pending, shop.apache.pid) == (False, False, parent)
    expect_served(shop, shop.promote("--reload", "--force"), outcome="promoted")


def test_httpd_that_somebody_stops_meanwhile_has_the_set_for_its_next_start(fleet: Fleet) -> None:
    shop = open_shop(fleet)
    apache = shop.apache
    stop = f"{apache.binary} -d {apache.root} -f {apache.config} -k stop"
    done = shop.promote("--reload-command", stop)
    assert (done.exit_code, done.json["reload"]) == (0, "not-running"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "unchecked")
    assert live_leaf(apache, NAME) == shop.new
    assert (shop.is_staged, shop.is_pending, apache.is_running) == (False, False, False)
    apache.start()
    assert served_leaf(apache, NAME) == shop.new


def test_httpd_that_never_rests_lets_the_set_wait(fleet: Fleet) -> None:
    shop = open_shop(fleet)
    os.kill(shop.apache.pid, signal.SIGSTOP)
    try:
        done = shop.promote("--reload", command=HASTY)
    finally:
        os.kill(shop.apache.pid, signal.SIGCONT)
    assert (done.exit_code, done.json["reload"]) == (4, "refused"), done.output
    domain = done.domain(NAME)
    assert domain["outcome"] == "waiting"
    assert "Apache did not come to rest" in domain["error"]["detail"]
    assert shop.live == shop.served == shop.old
    assert (shop.is_staged, shop.is_pending) == (True, True)
    expect_served(shop, shop.promote("--reload"), outcome="promoted")


def expect_served(shop: Shop, done: Finished, *, outcome: str) -> None:
    """Apache has reloaded, and a handshake shows the new set, which needs no copy any more."""
    assert (done.exit_code, done.json["reload"]) == (0, "reloaded"), done.output
    assert (done.domain(NAME)["outcome"], done.domain(NAME)["served"]) == (outcome, "new")
    assert shop.live == shop.served == shop.new
    assert (shop.is_staged, shop.is_pending) == (False, False)


def test_set_that_a_reload_of_somebody_else_activated_is_written_to_the_disk(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(fleet)
    shop.apache.graceful()
    wait_until(lambda: shop.served == shop.new, "mod_md to activate it")
    synced: set[int] = set()
    fsync = os.fsync

    def watch(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watch)
    done = fleet.promote("--reload")
    assert (done.exit_code, done.json["reload"]) == (0, "not-needed"), done.output
    live = shop.apache.store / "domains" / NAME
    assert {path.stat().st_ino for path in (live.parent, live, *live.iterdir())} <= synced
    assert not shop.is_pending


# --- what cannot be asked ------------------------------------------------------------------------


def expect_unchecked(shop: Shop, done: Finished) -> None:
    """The set is live and Apache has reloaded; nobody says that it is, or is not, served."""
    assert (done.exit_code, done.json["reload"]) == (0, "reloaded"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "unchecked")
    assert domain["error"] is None
    assert shop.live == shop.new
    assert (shop.is_staged, shop.is_pending) == (False, False)
    assert shop.apache.is_running


def test_vhost_behind_the_proxy_protocol_is_not_asked_and_serves_the_new_set(
    fleet: Fleet,
) -> None:
    site = managed_site(NAME, inside="RemoteIPProxyProtocol On\n")
    fleet.apache.write_site("00-module", REMOTEIP)
    fleet.apache.write_site(NAME, site)
    shop = open_shop(fleet)
    done = shop.promote("--reload")
    expect_unchecked(shop, done)
    assert leaf_behind_proxy(shop.apache) == shop.new


def test_vhost_on_the_address_of_another_host_is_not_asked(fleet: Fleet) -> None:
    site = managed_site(NAME).replace("<VirtualHost *:", "<VirtualHost 192.0.2.7:")
    fleet.apache.write_site(NAME, site)
    shop = open_shop(fleet)
    expect_unchecked(shop, shop.promote("--reload"))


def test_name_without_an_ssl_vhost_is_not_asked(fleet: Fleet) -> None:
    site = f"MDomain {NAME}\n<VirtualHost *:${{HTTP_PORT}}>\nServerName {NAME}\n</VirtualHost>\n"
    fleet.apache.write_site(NAME, site)
    shop = open_shop(fleet)
    expect_unchecked(shop, shop.promote("--reload"))


def leaf_behind_proxy(apache: Apache) -> x509.Certificate:
    """Return what is served to a client that says first whom it speaks for."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    with socket.create_connection((apache.address, apache.ssl_port), timeout=10) as plain:
        plain.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n")
        with tls.wrap_socket(plain, server_hostname=NAME) as connection:
            der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


# --- other hosts, and many domains ---------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a second host name")
def test_swap_by_another_host_of_a_shared_store_owes_this_one_a_reload(
    fleet: Fleet, make_apache: MakeApache
) -> None:
    sites = {path.stem: path.read_text() for path in fleet.apache.sites_folder.iterdir()}
    other = make_apache(sites=sites, store=fleet.apache.store, main_extra=SETTINGS)
    shop = open_shop(fleet, other)
    wait_until(lambda: served_leaf(other, NAME) == shop.old, "the other to serve the old set")
    assert shop.promote("--reload").exit_code == 0
    assert shop.served == shop.new
    assert served_leaf(other, NAME) == shop.old

    words = ("promote", "--all", "--reload", "--json")
    done = run(*words, config=other.config, command=ON_ANOTHER_HOST)

    assert done.exit_code == 0, done.output
    domain = done.domain(NAME)
    assert done.json["reload"] == "reloaded"
    assert (domain["outcome"], domain["served"]) == ("nothing-staged", "new")
    assert served_leaf(other, NAME) == shop.new


def test_reload_of_two_thousand_domains_is_waited_for(fleet: Fleet) -> None:
    many = "".join(f"MDomain site{number}.example\n" for number in range(2000))
    fleet.apache.write_site("many", many)
    shop = open_shop(fleet)
    done = shop.promote("--reload")
    assert (done.exit_code, done.json["reload"]) == (0, "reloaded"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "new")
    assert shop.served == shop.live == shop.new
