"""The role of examples/ansible on real Apaches: what a farm serves after a play, and what leaks.

Rules: the hosts are this machine, each with an Apache, a configuration and a store of its own.
Their folder for Ansible's temporary files cannot be made, so that a play fails that would put a
private key into one. What takes long waits for `make test-ansible`.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mdconnector import __version__
from mdconnector.certificates import chain_to_pem
from mdconnector.keys import key_from_pem, key_to_pem
from tests.authority import Authority
from tests.e2e.command import CLONE, COMMAND, run
from tests.e2e.estate import live_leaf, managed_site, served_leaf
from tests.e2e.leaks import PART_BYTES, Secrets, files_with
from tests.e2e.snapshot import snapshot
from tests.parts import Apache, Pebble, ServerProcess, free_port
from tests.parts.processes import accepts, minimal_environment
from tests.parts.programs import find_program

pytestmark = [
    pytest.mark.ansible,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="the role works as root"),
]

MakeApache = Callable[..., Apache]
EXAMPLE = CLONE / "examples" / "ansible"
NAME = "farm.example"
RENEWING, *SERVING = HOSTS = ("web1", "web2", "web3")
CHALLENGES = "/.well-known/acme-challenge/"
_RECAP = re.compile(r"^(\w+) +: ok=\d+ +changed=(\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Played:
    """What a play left behind; `changed` counts the changes on each host that it came to."""

    exit_code: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """How much was changed, by host."""
        return {host: int(changed) for host, changed in _RECAP.findall(self.output)}


class Controller:
    """Where Ansible runs: an inventory, and a home of its own."""

    def __init__(self, folder: Path, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        self.home = folder / "controller"
        self.home.mkdir()
        self._inventory = self.home / "inventory.json"
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "ansible_remote_tmp": f"{self._inventory}/there-is-none",
        }
        groups = {"mdconnector_renewing": [RENEWING], "mdconnector_serving": SERVING}
        self._inventory.write_text(
            json.dumps(
                {
                    group: {
                        "hosts": {name: hosts[name] for name in names if name in hosts},
                        "vars": common,
                    }
                    for group, names in groups.items()
                }
            )
        )

    def play(self, book: str, *options: str, **environment: str) -> Played:
        """Run a playbook of the example to its end."""
        done = subprocess.run(
            [find_program("ansible-playbook"), "-i", self._inventory, book, *options],
            cwd=EXAMPLE,
            env=minimal_environment(HOME=str(self.home), TZ="UTC")
            | {"LC_ALL": "C.UTF-8"}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        return Played(done.returncode, done.stdout)


def command_in(folder: Path) -> Path:
    """Write the command as a program that needs nothing of its environment."""
    program = folder / "mdconnector"
    path = shlex.quote(str(CLONE))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return program


def host(apache: Apache, command: Path, **more: object) -> dict[str, object]:
    """Return the variables of a host: where its mdconnector is, and where its Apache's files."""
    environment = {
        "MDCONNECTOR_CONFIG": str(apache.config),
        "MDCONNECTOR_HTTPD": str(apache.binary),
    }
    return {"mdconnector_command": str(command), "mdconnector_environment": environment, **more}


def make_farm(make_apache: MakeApache, ca: Pebble) -> dict[str, Apache]:
    """Make Apaches for one name. The CA comes to web2, which passes its questions on to web1.

    Only web1 has the binding.
    """
    port = free_port()
    asks_web1 = (
        f"ProxyPreserveHost On\nProxyPass {CHALLENGES} http://127.0.0.1:{port}{CHALLENGES}\n"
    )
    sites = {"farm": managed_site(NAME)}
    web2 = make_apache(
        sites=sites, main_extra=ca.directives(None) + asks_web1, modules=("proxy", "proxy_http")
    )
    web1 = make_apache(sites=sites, main_extra=ca.directives(), http_port=port)
    web3 = make_apache(sites=sites, main_extra=ca.directives(None))
    return {"web1": web1, "web2": web2, "web3": web3}


@contextmanager
def colleagues_broken_pair(apache: Apache) -> Iterator[Path]:
    """Have a vhost with another's key, which the running Apache has not read yet."""
    authority = Authority()
    mine, other = (authority.credential(("colleague.example",)) for _ in range(2))
    chain, key = apache.root / "colleague.crt", apache.root / "colleague.key"
    chain.write_bytes(chain_to_pem(mine.chain))
    key.write_bytes(key_to_pem(other.key))
    site = apache.write_site(
        "colleague",
        "<VirtualHost *:${HTTPS_PORT}>\nServerName colleague.example\nSSLEngine on\n"
        f"SSLCertificateFile {chain}\nSSLCertificateKeyFile {key}\n</VirtualHost>\n",
    )
    yield chain
    site.unlink()


def served_by(farm: Mapping[str, Apache]) -> dict[str, x509.Certificate]:
    """Return what each Apache shows in a handshake."""
    return {name: served_leaf(apache, NAME) for name, apache in farm.items()}


def expect_all_serve_what_web1_has(farm: Mapping[str, Apache]) -> None:
    new = live_leaf(farm[RENEWING], NAME)
    assert served_by(farm) == dict.fromkeys(farm, new)


def add_key(secrets: Secrets, label: str, apache: Apache) -> None:
    """Add the live key, also as what an archive in base64 makes of its PEM."""
    pem = (apache.store / "domains" / NAME / "privkey.secp256r1.pem").read_bytes()
    secrets.add_key(label, key_from_pem(pem))
    # the number goes on from the first line into the second, which ends with what is public
    secrets.add_bytes(f"the PEM of {label}", pem.splitlines()[2][:PART_BYTES])


def expect_nothing_left(farm: Mapping[str, Apache], controller: Controller) -> None:
    """No key lies outside of the live sets, nothing is staged, Ansible's folders are gone."""
    keys = Secrets()
    for name, apache in farm.items():
        add_key(keys, f"the key of {name}", apache)
        assert not list((apache.store / "staging").iterdir())
        assert not list(apache.store.glob("ansible-*"))
        found = [path.parent for path, _ in files_with(keys, apache.root)]
        assert found == [apache.store / "domains" / NAME]
    assert not list(files_with(keys, controller.home))


@pytest.mark.apache
@pytest.mark.pebble
def test_a_renewed_set_goes_from_host_to_host_and_stops_where_an_apache_may_not_be_reloaded(
    make_apache: MakeApache, parts_folder: Path, validating_ca: Pebble
) -> None:
    farm = make_farm(make_apache, validating_ca)
    command = command_in(parts_folder)
    controller = Controller(parts_folder, {name: host(farm[name], command) for name in farm})
    for apache in farm.values():
        apache.start()
    before = served_by(farm)
    ordered = run("renew", "--all", config=farm[RENEWING].config)
    assert ordered.exit_code == 0, ordered.output

    # web2 may not be reloaded: it keeps what it serves, and nobody comes to web3
    untouched = snapshot(farm["web3"].store)
    with colleagues_broken_pair(farm["web2"]) as broken:
        stopped = controller.play("promote.yml", "-vvv")
    assert stopped.exit_code != 0, stopped.output
    assert "mdconnector promote exited 4 on web2" in stopped.output
    assert str(broken) in stopped.output
    assert set(stopped.changed) == {"web1", "web2"}
    secrets = Secrets()
    add_key(secrets, "the new key", farm[RENEWING])
    new = live_leaf(farm[RENEWING], NAME)
    assert new != before[RENEWING]
    assert served_by(farm) == {**before, RENEWING: new}
    assert snapshot(farm["web3"].store) == untouched
    waiting = farm["web2"].store / "staging" / NAME
    assert (waiting / "privkey.secp256r1.pem").stat().st_mode & 0o777 == 0o600
    assert (waiting / "privkey.secp256r1.pem").stat().st_uid == 0
    assert waiting.stat().st_uid == waiting.parent.stat().st_uid != 0

    # once that is mended, the next play goes on where this one stopped; what Apache's user may have
    # put into staging leads it nowhere
    decoy = parts_folder / "decoy"
    decoy.mkdir()
    (farm["web3"].store / "staging" / NAME).symlink_to(decoy)
    gone_on = controller.play("promote.yml", "-vvv")
    assert gone_on.exit_code == 0, gone_on.output
    assert gone_on.changed[RENEWING] == 0
    assert not list(decoy.iterdir())
    expect_all_serve_what_web1_has(farm)

    # and one more has nothing to do
    generations = [apache.generation for apache in farm.values()]
    idle = controller.play("promote.yml")
    assert idle.exit_code == 0, idle.output
    assert idle.changed == dict.fromkeys(HOSTS, 0)
    assert [apache.generation for apache in farm.values()] == generations
    expect_nothing_left(farm, controller)
    assert not secrets.found_in(stopped.output + gone_on.output)


@pytest.mark.apache
def test_nothing_is_brought_where_a_key_could_lie_about_or_mod_md_renews(
    make_apache: MakeApache, parts_folder: Path
) -> None:
    sites = {"farm": managed_site(NAME)}
    modes = {"web1": "manual", "web2": "auto"}
    farm = {name: make_apache(sites=sites, renew_mode=mode) for name, mode in modes.items()}
    command = command_in(parts_folder)
    controller = Controller(parts_folder, {name: host(farm[name], command) for name in farm})
    keeping = controller.play("promote.yml", "--limit=web2", ANSIBLE_KEEP_REMOTE_FILES="1")
    debugging = controller.play("promote.yml", "--limit=web2", ANSIBLE_DEBUG="1")
    for refused in (keeping, debugging):
        assert "unset ANSIBLE_KEEP_REMOTE_FILES" in refused.output
        assert refused.exit_code != 0
    alone = controller.play("promote.yml", "--limit=web2")
    assert "--limit must include web1" in alone.output
    renewed = controller.play("promote.yml")
    assert f"on web2 mod_md itself renews {NAME}" in renewed.output
    assert 0 not in {alone.exit_code, renewed.exit_code}


def test_one_host_gets_a_line_in_cron_that_renews_and_the_others_one_that_promotes(
    parts_folder: Path,
) -> None:
    hosts = {
        name: {
            "mdconnector_cron_file": str(parts_folder / name),
            "mdconnector_environment": {"MDCONNECTOR_CONFIG": "/srv/apache.conf"},
            "ansible_remote_tmp": str(parts_folder / "tmp"),
        }
        for name in ("web1", "web2")
    }
    played = Controller(parts_folder, hosts).play("install.yml")
    assert played.exit_code == 0, played.output
    called = {name: called_by_cron(parts_folder / name, parts_folder / "bin") for name in hosts}
    assert called == {
        "web1": "/srv/apache.conf -q renew --all --splay 1800\n",
        "web2": "/srv/apache.conf -q promote --all --reload\n",
    }


def called_by_cron(file: Path, programs: Path) -> str:
    """Do what a file of cron.d says; return the calls of a command that only tells of them."""
    programs.mkdir(exist_ok=True)
    command = programs / "mdconnector"
    command.write_text('#!/bin/sh\necho "$MDCONNECTOR_CONFIG $*"\n')
    command.chmod(0o755)
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    *settings, job = lines
    minute, *_, user, line = job.split(maxsplit=6)
    assert (minute, user) == ("13", "root")
    environment = dict(setting.split("=", 1) for setting in settings)
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=environment, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode() + done.stderr.decode()


in_full = pytest.mark.skipif(
    os.environ.get("MDCONNECTOR_ANSIBLE") != "all", reason="make test-ansible runs it"
)


@in_full
def test_a_wheel_is_installed_once(parts_folder: Path) -> None:
    command = parts_folder / "mdconnector"
    libraries = {"PYTHONPATH": sysconfig.get_path("purelib")}
    variables = {
        "mdconnector_package": str(wheel(parts_folder)),
        "mdconnector_cron_file": str(parts_folder / "cron"),
        "mdconnector_home": str(parts_folder / "home"),
        "mdconnector_link": str(command),
        "mdconnector_command": str(command),
        "mdconnector_python": sys.executable,
        "mdconnector_pip_arguments": "--no-index --no-deps",
        "mdconnector_environment": libraries,
        "ansible_remote_tmp": str(parts_folder / "tmp"),
    }
    controller = Controller(parts_folder, {RENEWING: variables})
    (parts_folder / "tmp").mkdir()
    installed = controller.play("install.yml", TMPDIR=str(parts_folder / "tmp"))
    assert installed.exit_code == 0, installed.output
    said = subprocess.run(
        [command, "--version"],
        env=minimal_environment(**libraries),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == f"mdconnector, version {__version__}\n"
    assert not list((parts_folder / "tmp").iterdir())
    assert controller.play("install.yml").changed == {RENEWING: 0}


def wheel(folder: Path) -> Path:
    """Build the wheel, in a copy of the clone's sources."""
    wheels, sources = folder / "wheels", folder / "sources"
    sources.mkdir()
    shutil.copytree(CLONE / "mdconnector", sources / "mdconnector")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CLONE / name, sources)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels],
        cwd=sources,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (found,) = wheels.iterdir()
    return found


def test_ansible_lint_has_nothing_to_say(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            find_program("ansible-lint"),
            "--offline",
            "--strict",
            "--profile=production",
            "--nocolor",
        ],
        cwd=shutil.copytree(EXAMPLE, tmp_path / "ansible"),
        env=minimal_environment(HOME=str(tmp_path))
        | {"LC_ALL": "C.UTF-8", "PATH": f"{Path(sys.executable).parent}:{os.defpath}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = re.search(r" in (\d+) files processed", done.stderr)
    assert files is not None
    assert int(files[1]) > 10


# --- over SSH -----------------------------------------------------------------------------------


@contextmanager
def ssh_server(folder: Path) -> Iterator[dict[str, object]]:
    """Serve SSH on loopback for a key of the test's own; yields what the inventory needs."""
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
            check=True,
            timeout=60,
        )
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = ServerProcess(
        [find_program("sshd"), "-D", "-e", "-f", str(folder / "config")],
        log=folder / "log",
        environment=minimal_environment(),
        folder=folder,
    )
    server.start(lambda: accepts(port))
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    try:
        yield {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(folder / "user"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={known} -o ControlPath=none",
        }
    finally:
        server.stop()


@in_full
@pytest.mark.sshd
@pytest.mark.apache
@pytest.mark.pebble
def test_a_set_comes_over_ssh(
    make_apache: MakeApache, parts_folder: Path, trusting_ca: Pebble
) -> None:
    sites = {"farm": managed_site(NAME)}
    farm = {
        name: make_apache(sites=sites, main_extra=trusting_ca.directives()).start()
        for name in ("web1", "web2")
    }
    command = command_in(parts_folder)
    ordered = run("renew", "--all", config=farm[RENEWING].config)
    assert ordered.exit_code == 0, ordered.output
    with ssh_server(parts_folder / "ssh") as over_ssh:
        hosts = {name: host(farm[name], command, **over_ssh) for name in farm}
        controller = Controller(parts_folder, hosts)
        played = controller.play("promote.yml", "-vvv")
    assert played.exit_code == 0, played.output
    assert "ESTABLISH SSH CONNECTION" in played.output
    expect_all_serve_what_web1_has(farm)
    expect_nothing_left(farm, controller)
