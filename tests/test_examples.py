"""The example sites are what a real Apache takes, and declare what the demo promises."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.e2e.command import run
from tests.parts import Apache, Challtestsrv, ServerProcess, free_port

EXAMPLES = Path(__file__).parent.parent / "examples"


def defines(folder: Path) -> str:
    """Return values for the names that the example sites use, with no server behind them."""
    eab_file = folder / "eab.json"
    eab_file.write_text('{"kid": "kid-1", "hmac": "c2VjcmV0"}')
    values = {
        "CA_DIRECTORY": "https://localhost:1/dir",
        "CA_BUNDLE": "system",
        "EAB_FILE": str(eab_file),
        "PARTNER_CA_DIRECTORY": "https://localhost:2/dir",
        "PARTNER_CA_BUNDLE": "system",
        "PARTNER_KID": "kid-2",
        "PARTNER_HMAC": "c2VjcmV0",
        "DNS_01_COMMAND": "/bin/false",
        "LEGACY_ROOT": str(folder),
    }
    return "\n".join(f'Define {name} "{value}"' for name, value in values.items())


@pytest.mark.apache
def test_mod_md_finds_the_managed_domains_of_the_example_sites(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    apache = make_apache(sites_folder=EXAMPLES / "sites-enabled", main_extra=defines(parts_folder))
    with apache:
        found = {
            domain["name"]: set(domain["domains"])
            for domain in apache.md_status()["managed-domains"]
        }
    portal, apps = "portal.example.org", "apps.example.org"
    assert found == {
        "shop.example.org": {"shop.example.org"},
        portal: {portal, f"www.{portal}", f"old-{portal}"},
        "api.example.org": {"api.example.org"},
        "mail.example.org": {"mail.example.org"},
        apps: {apps, f"*.{apps}"},
        "partner.example.net": {"partner.example.net"},
    }


@pytest.mark.apache
def test_an_apache_without_mod_md_starts_before_its_certificate_exists(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    apache = make_apache(
        sites_folder=EXAMPLES / "sites-without-mod_md",
        mod_md=False,
        main_extra=defines(parts_folder),
    )
    with apache:
        assert apache.get("/eab.json", "legacy.example.org")[0] == 200


@pytest.mark.pebble
def test_the_dns_01_command_sets_records_and_clears_them(
    dns: Challtestsrv,
) -> None:
    domain = "command.example.org"
    for arguments, expected in (
        (("setup", domain, "first"), {"first"}),
        (("setup", domain, "second"), {"first", "second"}),
        (("teardown", domain), set()),
    ):
        subprocess.run(
            [
                sys.executable,
                EXAMPLES / "dns-01" / "challtestsrv.py",
                dns.management_url,
                *arguments,
            ],
            check=True,
            env={"PATH": os.defpath},
            timeout=30,
        )
        assert dns.txt_records(f"_acme-challenge.{domain}") == expected


# --- examples/certificates ----------------------------------------------------------------------


@pytest.mark.apache
def test_apache_and_scan_take_a_vhost_file_for_each_kind_of_certificate(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    apache = make_apache()
    for kind in ("dv", "ov", "ev"):
        eab = parts_folder / f"eab-{kind}.json"
        eab.touch(0o600)
        eab.write_text('{"kid": "kid-1", "hmac": "c2VjcmV0"}')
    hook = parts_folder / "nsupdate.sh"
    shutil.copy(EXAMPLES / "dns-01" / "nsupdate.sh", hook)
    for file in sorted((EXAMPLES / "certificates").iterdir()):
        text = file.read_text()
        for shown, real in (
            ("/etc/apache2/", f"{parts_folder}/"),
            ("/usr/local/bin/", f"{parts_folder}/"),
            ("/var/www/html", str(parts_folder)),
            ("*:443", "*:${HTTPS_PORT}"),
            ("*:80>", "*:${HTTP_PORT}>"),
        ):
            text = text.replace(shown, real)
        apache.write_site(file.name, text)
    assert apache.configtest()[0] == 0, apache.configtest()[1]
    done = run("scan", "--json", config=apache.config)
    found = {
        one["name"]: (one["ca_urls"][0].rpartition("/")[2], len(one["names"]), one["key_specs"])
        for one in done.json["domains"]
    }
    assert found == {
        "shop.example.org": ("DV", 1, ["rsa2048"]),
        "www.example.org": ("OV", 3, ["secp256r1"]),
        "apps.example.org": ("OV", 2, ["rsa3072", "secp384r1"]),
        "pay.example.org": ("EV", 2, ["rsa2048", "secp256r1"]),
    }
    blamed = [one for one in done.json["findings"] if one["domain"] or one["severity"] == "error"]
    assert (done.exit_code, blamed) == (0, [])


# --- examples/dns-01/nsupdate.sh ----------------------------------------------------------------


@pytest.fixture
def name_server(parts_folder: Path) -> Iterator[tuple[Path, int]]:
    """A BIND of our own that takes updates by key: the command's settings, and its port."""
    for program in ("named", "tsig-keygen", "nsupdate", "dig"):
        if shutil.which(program, path=f"{os.defpath}:/usr/sbin") is None:
            pytest.skip("apt-get install bind9 bind9-dnsutils")
    key = parts_folder / "dns-01.key"
    key.touch(0o600)
    key.write_text(subprocess.check_output(["/usr/sbin/tsig-keygen", "ours"], text=True))
    (parts_folder / "zone").write_text(
        "$TTL 60\n@ SOA ns.example.org. root.example.org. 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n"
    )
    port = free_port()
    (parts_folder / "named.conf").write_text(
        f'include "{key}";\n'
        f'options {{ directory "{parts_folder}"; listen-on port {port} {{ 127.0.0.1; }};\n'
        f"listen-on-v6 {{ none; }}; pid-file none; recursion no; session-keyfile none; }};\n"
        f'controls {{ }};\nzone "example.org" {{ type primary; file "zone";\n'
        f"allow-update {{ key ours; }}; }};\n"
    )
    settings = parts_folder / "dns-01.conf"
    settings.write_text(f"server=127.0.0.1\nport={port}\nkey={key}\n")
    server = ServerProcess(
        ["/usr/sbin/named", "-g", "-c", str(parts_folder / "named.conf")],
        log=parts_folder / "named.log",
        environment={"PATH": os.defpath},
        folder=parts_folder,
    )
    server.start(lambda: shown_by(port, "ns.example.org", "A") == {"127.0.0.1"})
    yield settings, port
    server.stop()


def shown_by(port: int, name: str, kind: str) -> set[str]:
    words = ["dig", "+short", "+tcp", "+time=1", "+tries=1", "-p", str(port), "@127.0.0.1"]
    done = subprocess.run(
        [*words, kind, name], capture_output=True, text=True, check=False, timeout=30
    )
    return {line.strip('"') for line in done.stdout.splitlines() if not line.startswith(";")}


def test_the_command_for_dynamic_updates_sets_values_side_by_side_and_clears_them(
    name_server: tuple[Path, int],
) -> None:
    settings, port = name_server
    domain = "shop.example.org"
    for arguments, expected in (
        (("setup", domain, "first"), {"first"}),
        (("setup", domain, "second"), {"first", "second"}),
        (("teardown", domain, "first"), {"second"}),
        (("teardown", domain), set()),
    ):
        subprocess.run(
            [EXAMPLES / "dns-01" / "nsupdate.sh", settings, *arguments],
            check=True,
            env={"PATH": os.defpath},
            timeout=60,
        )
        assert shown_by(port, f"_acme-challenge.{domain}", "TXT") == expected


def test_the_command_for_dynamic_updates_fails_where_the_server_refuses(
    name_server: tuple[Path, int],
) -> None:
    settings, port = name_server
    settings.write_text(f"server=127.0.0.1\nport={port}\n")
    done = subprocess.run(
        [EXAMPLES / "dns-01" / "nsupdate.sh", settings, "setup", "shop.example.org", "value"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath},
        timeout=60,
    )
    assert done.returncode != 0
    assert "REFUSED" in done.stderr


# --- examples/notifications ---------------------------------------------------------------------


def notify(command: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Call a program as mdconnector does; `mdconnector` and sendmail are in `folder`."""
    return subprocess.run(
        [EXAMPLES / "notifications" / command, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{folder}:{os.defpath}", "SENDMAIL": str(folder / "sendmail")},
        timeout=60,
    )


@pytest.fixture
def mailer(tmp_path: Path) -> Path:
    """A folder with a sendmail that keeps what it gets in `mail`, and our command without sites."""
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/options\ncat > {tmp_path}/mail\n')
    command = tmp_path / "mdconnector"
    command.write_text('#!/bin/sh\necho "$* printed this"\nexit 2\n')
    for program in (sendmail, command):
        program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("event", ["errored", "expiring"])
def test_a_mail_tells_of_trouble(mailer: Path, event: str) -> None:
    done = notify("mail.sh", "root@example.org", event, "shop.example.org", folder=mailer)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    head, _, body = (mailer / "mail").read_text().partition("\n\n")
    assert "To: root@example.org" in head
    assert "Subject: shop.example.org: " in head
    assert "--no-color status shop.example.org printed this" in body
    assert (mailer / "options").read_text() == "-t\n"


@pytest.mark.parametrize("event", ["renewing", "renewed", "installed", "challenge-setup:x:y"])
def test_no_mail_tells_of_what_goes_well(mailer: Path, event: str) -> None:
    done = notify("mail.sh", "root@example.org", event, "shop.example.org", folder=mailer)
    assert (done.returncode, (mailer / "mail").exists()) == (0, False)


@contextmanager
def web_hook() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes every POST: its URL, and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret-path", bodies
        server.shutdown()


def test_a_web_hook_gets_the_events_that_are_asked_for(tmp_path: Path) -> None:
    settings = tmp_path / "webhook.conf"
    with web_hook() as (url, bodies):
        settings.write_text(json.dumps({"url": url, "events": ["errored"]}))
        for event in ("renewing", "errored", "installed"):
            done = notify("webhook.py", settings, event, "shop.example.org", folder=tmp_path)
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
    (body,) = bodies
    assert json.loads(body)["text"].startswith(f"{socket.gethostname()}: shop.example.org got no")


def test_a_web_hook_that_does_not_answer_is_an_error_without_its_url(tmp_path: Path) -> None:
    settings = tmp_path / "webhook.conf"
    settings.write_text(json.dumps({"url": f"http://127.0.0.1:{free_port()}/secret-path"}))
    done = notify("webhook.py", settings, "errored", "shop.example.org", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "webhook: URLError\n")
