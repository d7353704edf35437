"""The servers that other tests stand on do what those tests believe."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts import (
    Apache,
    Canned,
    Challtestsrv,
    DropAfter,
    FaultingProxy,
    ForwardProxy,
    Hang,
    Pebble,
    Request,
    Reset,
    Rule,
    Substitute,
    ThrowAwayAuthority,
    Truncate,
    free_port,
    names_of,
    served_certificate,
    wait_until,
)
from tests.parts.processes import accepts, is_alive

SITE = """\
MDomain parts.example.org
<VirtualHost *:${HTTP_PORT}>
    ServerName parts.example.org
</VirtualHost>
<VirtualHost *:${HTTPS_PORT}>
    ServerName parts.example.org
    SSLEngine on
</VirtualHost>
"""


def fetch(url: str, ca_file: Path, *, seconds: float = 10) -> tuple[int, bytes]:
    tls = ssl.create_default_context(cafile=str(ca_file))
    try:
        with urllib.request.urlopen(url, context=tls, timeout=seconds) as answer:  # noqa: S310 - https
            return int(answer.status), bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def listening_addresses(pid: int) -> set[str]:
    """Return the hexadecimal addresses on which a process listens."""
    inodes = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [
        line.split()
        for file in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{file}").read_text().splitlines()[1:]
    ]
    return {
        line[1].split(":")[0]
        for line in lines
        if f"socket:[{line[9]}]" in inodes and line[3] == "0A"
    }


def test_a_free_port_is_not_given_to_another_process() -> None:
    mine = free_port()
    code = f"from tests.parts.ports import _claim; print(_claim({mine}))"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert other.stdout == "False\n"


def test_the_tests_own_process_reaches_nothing_but_loopback() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 443))


@pytest.mark.pebble
def test_pebble_listens_on_loopback_only(trusting_ca: Pebble) -> None:
    assert listening_addresses(trusting_ca.pid) == {"0100007F"}


@pytest.mark.pebble
def test_pebble_demands_a_binding(trusting_ca: Pebble) -> None:
    _, body = fetch(trusting_ca.directory_url, trusting_ca.ca_file)
    assert json.loads(body)["meta"]["externalAccountRequired"] is True


@pytest.mark.pebble
def test_pebble_counts_the_requests_of_a_block(counting_ca: Pebble) -> None:
    with counting_ca.recorded() as requests:
        fetch(counting_ca.directory_url, counting_ca.ca_file)
    assert requests == [Request("GET", "/dir")]


@pytest.mark.pebble
def test_pebble_refuses_to_start_with_a_knob_that_is_not_in_force(parts_folder: Path) -> None:
    too_many = Pebble(parts_folder, nonce_reject=250)
    with pytest.raises(RuntimeError, match="Configured to reject 250%"):
        too_many.start()
    assert not too_many.is_running


@pytest.mark.pebble
def test_pebble_has_another_root_after_a_restart(make_pebble: Callable[..., Pebble]) -> None:
    ca = make_pebble()
    before = ca.root_pem()
    ca.restart()
    assert ca.root_pem() != before


@pytest.mark.pebble
def test_a_paused_pebble_hangs_and_goes_on(make_pebble: Callable[..., Pebble]) -> None:
    ca = make_pebble()
    ca.pause()
    with pytest.raises(OSError, match="timed out"):
        fetch(ca.directory_url, ca.ca_file, seconds=0.3)
    ca.resume()
    assert fetch(ca.directory_url, ca.ca_file)[0] == 200


@pytest.mark.pebble
def test_a_killed_pebble_answers_no_more(make_pebble: Callable[..., Pebble]) -> None:
    ca = make_pebble()
    ca.kill()
    assert not accepts(ca.port)


@pytest.mark.pebble
def test_the_dns_server_listens_on_loopback_only(dns: Challtestsrv) -> None:
    assert listening_addresses(dns.pid) == {"0100007F"}


@pytest.mark.pebble
def test_the_dns_server_tells_a_txt_record_until_it_is_cleared(dns: Challtestsrv) -> None:
    name = "_acme-challenge.txt.example.org"
    dns.set_txt(name, "value")
    assert dns.txt_records(name) == {"value"}
    dns.clear_txt(name)
    assert dns.txt_records(name) == set()


@pytest.mark.pebble
def test_a_proxy_that_opens_tls_passes_on_a_request_that_comes_after_the_servers_tickets(
    trusting_ca: Pebble, parts_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reading = threading.Event()

    class Telling(ssl.SSLSocket):
        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
            is_reading.set()
            return super().recv(buflen, flags)

    monkeypatch.setattr(ssl.SSLContext, "sslsocket_class", Telling)
    authority = ThrowAwayAuthority(parts_folder / "proxy")
    tls = ssl.create_default_context(cafile=str(authority.ca_file))
    with ForwardProxy(opens_with=authority.issue(), trusts=trusting_ca.ca_file) as proxy:
        client = http.client.HTTPSConnection("localhost", proxy.port, context=tls, timeout=10)
        client.set_tunnel("localhost", trusting_ca.port)
        client.connect()
        # nothing was asked yet, so what the proxy reads are the tickets
        assert is_reading.wait(20)
        client.request("GET", "/dir")
        assert client.getresponse().status == 200
        client.close()


@pytest.mark.apache
def test_apache_listens_on_loopback_only(make_apache: Callable[..., Apache]) -> None:
    with make_apache(sites={"parts": SITE}) as apache:
        assert listening_addresses(apache.pid) == {"0100007F"}


@pytest.mark.apache
def test_apache_reloads_in_place(make_apache: Callable[..., Apache]) -> None:
    with make_apache(sites={"parts": SITE}) as apache:
        pid, generation = apache.pid, apache.generation
        apache.write_site("more", "MDomain more.example.org")
        apache.graceful()
        assert (apache.pid, apache.generation > generation) == (pid, True)
        assert apache.md_status("more.example.org")["name"] == "more.example.org"


@pytest.mark.apache
def test_an_apache_that_ends_at_a_reload_is_noticed(make_apache: Callable[..., Apache]) -> None:
    apache = make_apache(sites={"parts": SITE}).start()
    apache.write_site("overlap", "MDomain other.example.org parts.example.org")
    assert apache.configtest()[0] == 0
    with pytest.raises(RuntimeError, match="ended at the graceful restart"):
        apache.graceful()
    assert not apache.is_running


@pytest.mark.apache
def test_apache_leaves_nothing_behind_when_stopped_or_killed(
    make_apache: Callable[..., Apache],
) -> None:
    apache = make_apache(sites={"parts": SITE})
    for end in (apache.stop, apache.kill):
        apache.start()
        pid = apache.pid
        end()
        assert (is_alive(pid), accepts(apache.http_port)) == (False, False)


@pytest.mark.apache
def test_apache_without_mod_md_does_not_know_its_directives(
    make_apache: Callable[..., Apache],
) -> None:
    code, words = make_apache(sites={"parts": SITE}, mod_md=False).configtest()
    assert (code, "Invalid command 'MDomain'" in words) == (1, True)


@pytest.mark.apache
@pytest.mark.pebble
def test_mod_md_gets_a_validated_certificate_from_pebble(
    make_apache: Callable[..., Apache], validating_ca: Pebble
) -> None:
    directives = validating_ca.directives("kid-2")
    apache = make_apache(sites={"parts": SITE}, main_extra=directives, renew_mode="auto")
    with apache:
        job = apache.store / "staging" / "parts.example.org" / "job.json"
        wait_until(
            lambda: job.exists() and json.loads(job.read_text()).get("finished") is True,
            "mod_md to finish",
            seconds=60,
            every=0.1,
        )
        apache.graceful()
        leaf = served_certificate(
            "127.0.0.1",
            apache.ssl_port,
            "parts.example.org",
            "rsa",
            roots_pem=validating_ca.root_pem(),
        )
    assert names_of(leaf) == {"parts.example.org"}
    with pytest.raises(ConnectionRefusedError):
        served_certificate("127.0.0.1", apache.ssl_port, "parts.example.org")


@pytest.mark.pebble
class TestFaultingProxy:
    def test_passes_on_what_no_rule_takes_under_its_own_address(
        self, parts_folder: Path, counting_ca: Pebble
    ) -> None:
        with FaultingProxy(parts_folder, counting_ca) as proxy:
            status, body = fetch(proxy.directory_url, proxy.ca_file)
        assert status == 200
        assert json.loads(body)["newOrder"].startswith(f"https://localhost:{proxy.port}/")

    def test_answers_in_place_of_the_ca(self, parts_folder: Path, counting_ca: Pebble) -> None:
        rule = Rule(Canned(503, b"later", {"Retry-After": "7"}), path="^/dir", nth=2)
        with (
            FaultingProxy(parts_folder, counting_ca, rule) as proxy,
            counting_ca.recorded() as seen,
        ):
            answers = [fetch(proxy.directory_url, proxy.ca_file) for _ in range(3)]
        assert [status for status, _ in answers] == [200, 503, 200]
        assert (rule.hits, len(seen)) == (1, 2)

    def test_resets_before_the_ca_hears_of_it(
        self, parts_folder: Path, counting_ca: Pebble
    ) -> None:
        rule = Rule(Reset())
        with (
            FaultingProxy(parts_folder, counting_ca, rule) as proxy,
            counting_ca.recorded() as seen,
            pytest.raises(ConnectionResetError),
        ):
            fetch(proxy.directory_url, proxy.ca_file)
        assert (rule.hits, seen) == (1, [])

    def test_loses_the_answer_after_the_ca_has_worked(
        self, parts_folder: Path, counting_ca: Pebble
    ) -> None:
        rule = Rule(DropAfter())
        with (
            FaultingProxy(parts_folder, counting_ca, rule) as proxy,
            counting_ca.recorded() as seen,
            pytest.raises(ConnectionResetError),
        ):
            fetch(proxy.directory_url, proxy.ca_file)
        assert (rule.hits, seen) == (1, [Request("GET", "/dir")])

    def test_cuts_a_body_short(self, parts_folder: Path, counting_ca: Pebble) -> None:
        rules = [Rule(Truncate(9), nth=1), Rule(Truncate(9, announce_whole=False))]
        with FaultingProxy(parts_folder, counting_ca, *rules) as proxy:
            with pytest.raises(http.client.IncompleteRead):
                fetch(proxy.directory_url, proxy.ca_file)
            assert len(fetch(proxy.directory_url, proxy.ca_file)[1]) == 9

    def test_changes_a_body(self, parts_folder: Path, counting_ca: Pebble) -> None:
        rule = Rule(Substitute(rb"^\{", b'{"renewalInfo": "https://ca.example",'))
        with FaultingProxy(parts_folder, counting_ca, rule) as proxy:
            _, body = fetch(proxy.directory_url, proxy.ca_file)
        assert json.loads(body)["renewalInfo"] == "https://ca.example"

    def test_hangs_until_it_is_ended(self, parts_folder: Path, counting_ca: Pebble) -> None:
        rule = Rule(Hang())
        with (
            FaultingProxy(parts_folder, counting_ca, rule) as proxy,
            pytest.raises(OSError, match="timed out"),
        ):
            fetch(proxy.directory_url, proxy.ca_file, seconds=0.3)
        assert rule.hits == 1
