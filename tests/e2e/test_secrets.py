"""No secret gets out: neither in what is printed, nor in /proc, nor in files that others can read.

Rule: nothing here means anything unless the search finds a secret that was planted; the first
tests prove that it does.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mdconnector.acme.resources import Account
from mdconnector.foreign_accounts import ForeignAccount
from mdconnector.keys import generate_account_key
from mdconnector.managed_domain import CaAccess, ExternalAccount, ManagedDomain, SourceLine
from mdconnector.store.account_folders import AccountFolder, PendingRegistration
from mdconnector.store.records import StoredAccount
from tests.authority import Authority
from tests.e2e.command import COMMAND, Finished, run
from tests.e2e.leaks import ProcessWatch, Secrets, files_with, others_can_read
from tests.e2e.plain_sites import PlainSites, settings_for, ssl_site
from tests.parts import Apache, Pebble
from tests.parts.pebble import EAB_KEYS

CANARY = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeS0wMTIz"
PROXY = f"http://user:{CANARY}@proxy.example:3128"


def canary() -> Secrets:
    return Secrets().add_text("canary", CANARY)


# --- the search itself --------------------------------------------------------------------------

RAW = base64.urlsafe_b64decode(CANARY)
WRITTEN = {
    "as it is": CANARY,
    "in JSON": json.dumps({"mac": CANARY}),
    "its beginning": CANARY[:25],
    "its end": CANARY[-25:],
    "decoded": RAW,
    "in hexadecimal": RAW.hex(),
    "in capitals": RAW.hex().upper(),
    "in base64 within something": base64.b64encode(b"x" + RAW + b"yz"),
    "in base64 one byte later": base64.b64encode(b"xx" + RAW + b"z"),
    "wrapped": "\n".join(CANARY[n : n + 16] for n in range(0, len(CANARY), 16)),
    "wrapped in JSON": json.dumps("\n".join(CANARY[n : n + 16] for n in range(0, 52, 16))),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_planted_secret_is_found_however_it_is_written(written: bytes | str) -> None:
    assert canary().found_in(written)


@pytest.mark.parametrize("bits", [0, 2048], ids=["EC", "RSA"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_planted_key_is_found_in_pem_and_by_its_number(bits: int, form: PrivateFormat) -> None:
    key = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
    secrets = Secrets().add_key("key", key)
    pem = key.private_bytes(Encoding.PEM, form, NoEncryption())
    assert secrets.found_in(pem)
    assert secrets.found_in(pem.decode().replace("\n", "\\n"))
    numbers = key.private_numbers()
    number = numbers.d if isinstance(numbers, rsa.RSAPrivateNumbers) else numbers.private_value
    assert secrets.found_in(f"{number:x}")
    other = ec.generate_private_key(ec.SECP256R1())
    assert not secrets.found_in(other.private_bytes(Encoding.PEM, form, NoEncryption()))


@pytest.mark.parametrize("place", ["arguments", "environment"])
def test_a_secret_in_a_process_is_found_while_it_runs(place: str) -> None:
    arguments = [CANARY] if place == "arguments" else []
    environment = {"CANARY": CANARY} if place == "environment" else {}
    code = "import sys; sys.stdin.read()"
    with (
        ProcessWatch() as watch,
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env=environment, stdin=subprocess.PIPE
        ) as planted,
    ):
        deadline = time.monotonic() + 20
        while not watch.leaks(canary()) and time.monotonic() < deadline:
            time.sleep(0.01)
        planted.communicate()
    assert any(f"in the {place}" in one for one in watch.leaks(canary()))


def test_a_secret_in_a_file_that_others_can_read_is_found(parts_folder: Path) -> None:
    open_file, closed = parts_folder / "open", parts_folder / "closed"
    for file, mode in ((open_file, 0o644), (closed, 0o600)):
        file.write_text(CANARY)
        file.chmod(mode)
    found = [path for path, _ in files_with(canary(), parts_folder)]
    assert found == [closed, open_file]
    assert [one for one in found if others_can_read(one, parts_folder, os.geteuid())] == [open_file]
    parts_folder.chmod(0o700)
    assert not others_can_read(open_file, parts_folder, os.geteuid())


# --- a whole life, watched ----------------------------------------------------------------------

HTTP, DNS = "http.example.org", "dns.example.org"
_HOOK = """\
#!/bin/sh
# Notes what this process and its parent show to everybody who may look.
for pid in $$ $PPID; do
  cat /proc/$pid/cmdline /proc/$pid/environ 2>/dev/null
done >> {noted}
"""


@dataclass
class Exposure:
    """Everything that runs of all commands have shown, and the secrets that were in play."""

    apache: Apache
    secrets: Secrets
    runs: list[Finished] = field(default_factory=list)
    watch: ProcessWatch = field(default_factory=ProcessWatch)
    noted: bytes = b""


@pytest.fixture(scope="module")
def exposure(
    session_folder: Path, counting_ca: Pebble, module_apache: Callable[..., Apache]
) -> Exposure:
    noted = session_folder / "noted"
    hook = session_folder / "hook.sh"
    hook.write_text(_HOOK.format(noted=shlex.quote(str(noted))))
    hook.chmod(0o755)
    keys = {"MDPrivateKeys": "secp256r1 RSA 2048"}
    by_dns = {"MDCAChallenges": "dns-01", "MDChallengeDns01": str(hook)}
    sites = {
        "http": ssl_site(HTTP, settings_for(counting_ca, keys)),
        "dns": ssl_site(DNS, settings_for(counting_ca, by_dns)),
    }
    apache = module_apache(sites={name: _at_our_port(text) for name, text in sites.items()})
    secrets = Secrets().add_text("HMAC", EAB_KEYS["kid-1"])
    seen = Exposure(apache, secrets)
    steps: tuple[tuple[str, ...], ...] = (
        ("scan", "-v"),
        ("enroll", "--all", "--dry-run", "-v"),
        ("enroll", HTTP, "-v"),
        ("renew", "--all", "-v", "--json"),
        ("status", "-v"),
        ("promote", "--all", "--reload", "-v"),
        ("renew", DNS, "--force", "-v"),
        ("promote", DNS, "--reload", "--json"),
        ("status", HTTP, "--json"),
        ("scan", "--tree", "--verify", "--json"),
        ("scan", "--tree"),
        ("renew", "--all"),
    )
    with seen.watch:
        for step in steps:
            if step[0] == "promote" and not apache.is_running:
                # the store is ours then, with a base folder that is not open to everybody
                apache.start()
            seen.runs.append(run(*step, config=apache.config))
            if apache.store.exists():
                add_keys_of(apache.store, secrets)
    seen.noted = noted.read_bytes()
    return seen


@pytest.fixture(scope="module")
def module_apache(session_folder: Path) -> Iterator[Callable[..., Apache]]:
    """Make the Apache of this module."""
    made: list[Apache] = []

    def make(**settings: object) -> Apache:
        made.append(Apache(session_folder / "watched", **settings))  # type: ignore[arg-type] # passed on
        return made[-1]

    yield make
    for apache in made:
        apache.stop()


def _at_our_port(site: str) -> str:
    return site.replace("*:443", "*:${HTTPS_PORT}")


def add_keys_of(store: Path, secrets: Secrets) -> None:
    """Add every private key in a store, and the pass phrase that the encrypted ones have."""
    passphrase = base64.urlsafe_b64decode(json.loads((store / "md_store.json").read_text())["key"])
    secrets.add_bytes("pass phrase", passphrase)
    for path in store.rglob("*.pem"):
        pem = path.read_bytes()
        if b"PRIVATE KEY" in pem:
            password = passphrase if b"ENCRYPTED" in pem else None
            key = load_pem_private_key(pem, password, unsafe_skip_rsa_key_validation=True)
            assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
            secrets.add_key(str(path.relative_to(store)), key)


@pytest.mark.apache
@pytest.mark.pebble
def test_no_command_prints_a_secret(exposure: Exposure) -> None:
    for done in exposure.runs:
        assert done.exit_code == 0, done.output
        assert exposure.secrets.found_in(done.output) == []
        assert "PRIVATE KEY" not in done.output


@pytest.mark.apache
@pytest.mark.pebble
def test_no_process_shows_a_secret_in_its_arguments_or_environment(exposure: Exposure) -> None:
    for word in ("enroll", "renew", "promote"):
        assert exposure.watch.has_seen(word), "the runs themselves were seen"
    assert exposure.watch.leaks(exposure.secrets) == set()
    assert DNS.encode() in exposure.noted, "the hook noted itself"
    assert b"mdconnector" in exposure.noted, "and the run, its parent"
    assert exposure.secrets.found_in(exposure.noted) == []


@pytest.mark.apache
@pytest.mark.pebble
def test_a_private_key_in_clear_lies_where_nobody_else_can_read_it(exposure: Exposure) -> None:
    store = exposure.apache.store
    holding = dict(files_with(exposure.secrets, store))
    names = {path.name for path in holding}
    assert {"privkey.secp256r1.pem", "privkey.pem", "account.json", "md_store.json"} <= names
    for path, found in holding.items():
        if path.name == "account.json":
            assert all(label.startswith("HMAC") for label in found), (path, found)
            continue
        assert not others_can_read(path, store, store.stat().st_uid), (path, found)
        assert path.stat().st_mode & 0o077 == 0, (path, found)
    assert store.stat().st_mode & 0o007 == 0, "account.json is for Apache's group alone"


@pytest.mark.apache
@pytest.mark.pebble
def test_the_binding_stands_only_where_mod_md_needs_it(exposure: Exposure) -> None:
    store = exposure.apache.store
    hmac = Secrets().add_text("HMAC", EAB_KEYS["kid-1"])
    holding = {path.relative_to(store).parts[0]: path.name for path, _ in files_with(hmac, store)}
    assert holding.pop("accounts") == "account.json"
    # mod_md itself writes its configuration, with the binding, beside what is live
    assert set(holding.items()) <= {("domains", "md.json"), ("archive", "md.json")}


@pytest.mark.apache
@pytest.mark.pebble
def test_apache_s_log_and_what_is_served_hold_no_secret(exposure: Exposure) -> None:
    assert exposure.secrets.found_in(exposure.apache.error_log()) == []
    for path, found in files_with(exposure.secrets, exposure.apache.root):
        is_ours = path.is_relative_to(exposure.apache.store)
        is_source = path.is_relative_to(exposure.apache.sites_folder)
        assert is_ours or is_source, (path, found)


# --- bindings that are written wrongly ----------------------------------------------------------

WRONG = {
    "a third word": "MDExternalAccountBinding kid-1 {hmac} more",
    "key id forgotten": "MDExternalAccountBinding {hmac}",
    "both in one pair of quotes": 'MDExternalAccountBinding "kid-1 {hmac}"',
    "a quote too many": 'MDExternalAccountBinding kid-1 "{hmac}',
    "not base64url": "MDExternalAccountBinding kid-1 {hmac}+/",
    "padded": "MDExternalAccountBinding kid-1 {hmac}==",
    "misspelt": "MDExternalAccountBindng kid-1 {hmac}",
    "a section": "<MDExternalAccountBinding kid-1 {hmac}>",
    "a section that is closed": (
        "<MDExternalAccountBinding kid-1 {hmac}>\n</MDExternalAccountBinding>"
    ),
    "a macro that is none": "Use Binding kid-1 {hmac}",
    "too many words in Define": "Define HMAC {hmac} more",
    "a name with a colon": "Define a:{hmac}",
    "in a variable": "Define HMAC {hmac}\nMDExternalAccountBinding kid-1 ${HMAC} more",
    "in a file": "MDExternalAccountBinding {folder}/eab.json",
    "in a file as a list": "MDExternalAccountBinding {folder}/list.json",
    "in a file with another key": "MDExternalAccountBinding {folder}/key.json",
}


@pytest.mark.pebble
@pytest.mark.parametrize("inside", [False, True], ids=["for all", "in a vhost"])
def test_a_binding_that_is_written_wrongly_is_never_repeated(
    parts_folder: Path, counting_ca: Pebble, inside: bool
) -> None:
    place = PlainSites(parts_folder / "wrong")
    for name, text in (
        ("eab.json", f'{{"kid": "kid-1", "hmac": "{CANARY}"'),
        ("list.json", f'["kid-1", "{CANARY}"]'),
        ("key.json", f'{{"kid": "kid-1", "{CANARY}": "hmac"}}'),
    ):
        (place.folder / name).write_text(text)
    settings = settings_for(counting_ca, {"MDExternalAccountBinding": None})
    for number, (title, template) in enumerate(WRONG.items(), 1):
        lines = template.replace("{hmac}", CANARY).replace("{folder}", str(place.folder))
        site = ssl_site(
            f"site-{number}.example.org", settings, inside=lines.splitlines() if inside else []
        )
        place.write(f"{number:02}", f"# {title}\n{site if inside else lines}\n")
    place.write("99", ssl_site("good.example.org", settings))
    secrets = canary()
    commands = (("scan", "-v"), ("scan", "--json", "--tree"), ("scan", "--tree"))
    for command in (*commands, ("enroll", "--all", "--dry-run", "-v")):
        done = place.run(*command)
        assert done.exit_code == 1
        assert "Traceback" not in done.output
        assert [line for line in done.output.splitlines() if secrets.found_in(line)] == []
    told = place.run("scan", "--json").json["findings"]
    blamed = {Path(one["at"].rpartition(":")[0]).name for one in told if one["at"]}
    assert len(blamed) > len(WRONG) // 2, "these lines were read, and found wrong"


@pytest.mark.pebble
def test_a_private_key_in_place_of_the_binding_s_file_is_never_repeated(
    parts_folder: Path, counting_ca: Pebble
) -> None:
    place = PlainSites(parts_folder / "wrong")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (place.folder / "key.pem").write_bytes(pem)
    binding = {"MDExternalAccountBinding": f"{place.folder}/key.pem"}
    place.write("good", ssl_site("good.example.org", settings_for(counting_ca, binding)))
    done = place.run("enroll", "--all")
    assert done.exit_code == 1
    assert f"{place.folder}/key.pem" in done.stderr
    assert Secrets().add_key("key", key).found_in(done.output) == []


# --- values of ours, and other users of the machine ----------------------------------------------


def test_no_value_that_holds_a_secret_shows_it() -> None:
    binding = ExternalAccount("kid-1", CANARY)
    credential = Authority().credential(("a.example",))
    account_key = generate_account_key()
    stored = StoredAccount(
        id="ACME-ca.example-0000",
        url="https://ca.example/acct/1",
        ca_url="https://ca.example/dir",
        eab_kid="kid-1",
        eab_hmac=CANARY,
    )
    held: tuple[object, ...] = (
        binding,
        stored,
        credential,
        Account("https://ca.example/acct/1", account_key, "valid", (), None, {}),
        AccountFolder("ACME-ca.example-0000", stored, account_key, None),
        PendingRegistration("https://ca.example/dir", "kid-1", account_key),
        ManagedDomain("a.example", ("a.example",), SourceLine("a.conf", 1), eab=binding),
        ManagedDomain("a.example", ("a.example",), SourceLine("a.conf", 1), proxy_url=PROXY),
        CaAccess(proxy_url=PROXY),
        ForeignAccount(Path("/key.pem"), account_key, is_open=False, kid="kid-1"),
    )
    secrets = canary().add_key("leaf", credential.key).add_key("account", account_key)
    # with the values of all variables, as some tools print a traceback
    with pytest.raises(ValueError, match="Expecting") as caught:
        _fail_beside(held)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join(told.format())
    assert "kid-1" in shown
    assert secrets.found_in(shown) == []
    for one in held:
        assert secrets.found_in(f"{one!r} {one!s}") == [], type(one)
    assert canary().found_in(CANARY), "the search itself works"


def _fail_beside(held: tuple[object, ...]) -> None:
    json.loads("{", object_hook=lambda _: held)


@pytest.mark.pebble
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize("umask", ["000", "022", "077", "777"])
def test_nobody_else_can_read_a_secret_under_any_umask(
    parts_folder: Path, counting_ca: Pebble, umask: str
) -> None:
    place = PlainSites(parts_folder / "place")
    name = f"umask-{umask}.example.org"
    place.write("site", ssl_site(name, settings_for(counting_ca)))
    command = ("sh", "-c", f'umask {umask}; exec "$@"', "sh", *COMMAND)
    secrets = Secrets().add_text("HMAC", EAB_KEYS["kid-1"])
    for words in (("enroll", name), ("promote", name), ("renew", name, "--force")):
        assert place.run(*words, command=command).exit_code == 0
        add_keys_of(place.store, secrets)
    holding = dict(files_with(secrets, place.store))
    assert {"account.json", "md_store.json", "privkey.secp256r1.pem"} <= {
        path.name for path in holding
    }
    os.setegid(65534)
    os.seteuid(65534)
    try:
        readable = [path for path in holding if os.access(path, os.R_OK, effective_ids=True)]
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert readable == []
