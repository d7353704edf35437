"""account import: accounts of other ACME clients, made by the real ones where they are there."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mdconnector.acme.resources import find_account, register_account
from mdconnector.acme.session import Session
from mdconnector.keys import PrivateKey
from mdconnector.managed_domain import ExternalAccount
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.e2e.command import run
from tests.e2e.estate import managed_site
from tests.e2e.leaks import Secrets
from tests.e2e.snapshot import snapshot
from tests.e2e.test_account import ID, NEW_ACCOUNT, enrolls, entry, key_in, number
from tests.parts import Apache, DropAfter, FaultingProxy, Pebble, Reset, Rule, wait_until
from tests.parts.ports import free_port

pytestmark = pytest.mark.pebble

KEY_CHANGE = "^/rollover-account-key$"


def run_client(name: str, *arguments: str | Path, roots: Path) -> None:
    """Run another ACME client, which trusts the CA under test."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"needs {name} (apt-get install {name})")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    trust = {"REQUESTS_CA_BUNDLE": str(roots), "LEGO_CA_CERTIFICATES": str(roots)}
    done = subprocess.run(
        [program, *(str(one) for one in arguments)],
        env=environment | trust,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def by_certbot(folder: Path, proxy: FaultingProxy) -> Path:
    """Let certbot register, with a key of RSA 2048."""
    run_client(
        "certbot",
        *("register", "--non-interactive", "--agree-tos", "--no-eff-email"),
        *("--email", "certbot@example.org", "--server", proxy.directory_url),
        *("--eab-kid", "kid-1", "--eab-hmac-key", proxy.pebble.eab_keys["kid-1"]),
        *("--config-dir", folder, "--work-dir", folder / "work", "--logs-dir", folder / "logs"),
        roots=proxy.ca_file,
    )
    return folder / "accounts"


def by_lego(folder: Path, proxy: FaultingProxy, key_type: str) -> Path:
    """Let lego register; it does so only to obtain a certificate."""
    run_client(
        "lego",
        *("--server", proxy.directory_url, "--path", folder, "--accept-tos"),
        *("--email", "lego@example.org", "--key-type", key_type),
        *("--eab", "--kid", "kid-1", "--hmac", proxy.pebble.eab_keys["kid-1"]),
        *("--domains", "lego.example.org", "--http", "--http.port", f":{free_port()}", "run"),
        roots=proxy.ca_file,
    )
    return folder


def by_acme_sh(folder: Path, proxy: FaultingProxy, key: PrivateKey) -> Path:
    """Lay files as acme.sh does; the account is a real one."""
    binding = ExternalAccount("kid-1", proxy.pebble.eab_keys["kid-1"])
    with Session(proxy.directory_url, ca_certificates=str(proxy.ca_file)) as session:
        account = register_account(session, key, contact=None, terms_agreed=True, eab=binding)
    place = folder / "ca" / "localhost" / "dir"
    place.mkdir(parents=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (place / "account.key").write_bytes(pem)
    (place / "account.key").chmod(0o600)
    (place / "account.json").write_text(json.dumps({"status": "valid"}))
    (place / "ca.conf").write_text(f"ACCOUNT_URL='{account.url}'\nCA_KEY_HASH='x'\n")
    return folder


def p256() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa2048() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_of(pem_or_jwk: Path) -> int:
    """Return the modulus in certbot's JWK."""
    members = json.loads(pem_or_jwk.read_text())
    return int.from_bytes(base64.urlsafe_b64decode(members["n"] + "=="))


def test_an_account_of_certbots_is_taken_over_and_used(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    folder = by_certbot(tmp_path / "certbot", proxy)
    proxy.expect()
    done = new_sites.here("account", "import", folder, "--json")
    assert done.exit_code == 0, done.output
    found = entry(done)
    assert (found["id"], found["status"], found["kid"]) == (ID, "valid", "kid-1")
    assert (found["domains"], found["key_spec"]) == ([PROVEN], "rsa2048")
    assert found["contact"] == ["mailto:certbot@example.org"]
    (file,) = folder.rglob("private_key.json")
    assert number(key_in(new_sites)) == key_of(file)
    (regr,) = folder.rglob("regr.json")
    assert found["url"] == json.loads(regr.read_text())["uri"]
    assert proxy.count(NEW_ACCOUNT, "onlyReturnExisting") == proxy.count(NEW_ACCOUNT) == 1
    enrolls(new_sites, proxy)


@pytest.mark.parametrize("key_type", ["rsa2048", "ec256"])
def test_an_account_of_legos_is_taken_over_and_used(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path, key_type: str
) -> None:
    folder = by_lego(tmp_path / "lego", proxy, key_type)
    proxy.expect()
    done = new_sites.here("account", "import", folder)
    if key_type == "ec256":
        assert done.exit_code == 1
        assert (
            "key is secp256r1, and mod_md can use RSA keys alone; add --change-key" in done.stderr
        )
        assert proxy.requests == []
        done = new_sites.here("account", "import", folder, "--change-key")
        assert "its key was changed" in done.stdout
    assert done.exit_code == 0, done.output
    assert key_in(new_sites).key_size == (3072 if key_type == "ec256" else 2048)
    enrolls(new_sites, proxy)


@pytest.mark.parametrize("make_key", [p256, rsa2048], ids=["EC", "RSA"])
def test_an_account_of_acme_sh_is_taken_over_with_a_new_key(
    new_sites: SitesBehindProxy,
    proxy: FaultingProxy,
    tmp_path: Path,
    make_key: Callable[[], PrivateKey],
) -> None:
    old = make_key()
    folder = by_acme_sh(tmp_path, proxy, old)
    done = new_sites.here("account", "import", folder, "--change-key")
    assert done.exit_code == 0, done.output
    assert key_in(new_sites).key_size == 3072
    with Session(proxy.directory_url, ca_certificates=str(proxy.ca_file)) as session:
        assert find_account(session, old) is None
    enrolls(new_sites, proxy)
    assert not list((new_sites.store / "mdconnector" / "accounts").iterdir())


def test_an_account_of_another_store_of_mod_mds_is_taken_over(
    new_sites: SitesBehindProxy,
    sites_with_account: SitesBehindProxy,
    proxy: FaultingProxy,
) -> None:
    folder = sites_with_account.store / "accounts"
    done = new_sites.here("account", "import", folder)
    assert done.exit_code == 0, done.output
    assert number(key_in(new_sites)) == number(key_in(sites_with_account))
    assert "others may have read" not in done.stdout, "it is encrypted"
    again = new_sites.here("account", "import", folder, "--json")
    assert (again.exit_code, entry(again)["id"]) == (0, ID)
    enrolls(new_sites, proxy)


def test_an_encrypted_key_without_its_store_is_told(
    new_sites: SitesBehindProxy, sites_with_account: SitesBehindProxy, tmp_path: Path
) -> None:
    shutil.copytree(sites_with_account.store / "accounts", tmp_path / "alone")
    done = new_sites.here("account", "import", tmp_path / "alone")
    assert done.exit_code == 1
    assert "is encrypted, and there is no md_store.json" in done.stderr


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["renew", "import"])
def test_a_key_change_of_an_import_that_was_cut_short_is_found_by_the_next_run(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path, command: str
) -> None:
    folder = by_acme_sh(tmp_path, proxy, p256())
    proxy.expect()
    lost, silent = Rule(DropAfter(), path=KEY_CHANGE), Rule(Reset(), path=NEW_ACCOUNT, after=1)
    proxy.rules += [lost, silent]
    done = new_sites.here("account", "import", folder, "--change-key")
    assert (done.exit_code, lost.hits, silent.hits > 0) == (1, 1, True), done.output
    proxy.expect()
    if command == "import":
        again = new_sites.here("account", "import", folder, "--change-key")
        assert again.exit_code == 0, again.output
    enrolls(new_sites, proxy)
    assert key_in(new_sites).key_size == 3072


def test_a_key_that_no_ca_knows_is_not_stored(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    file = tmp_path / "account.key"
    file.write_bytes(rsa2048().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    done = new_sites.here("account", "import", file)
    assert done.exit_code == 1
    assert f"no account has this key at {proxy.directory_url}" in done.stderr
    assert new_sites.account() == {}


def test_an_account_is_stored_for_the_domain_that_it_is_for(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    other = f"kid-2 {proxy.pebble.eab_keys['kid-2']}"
    new_sites.add("second.example.org", {"MDExternalAccountBinding": other})
    folder = by_acme_sh(tmp_path, proxy, rsa2048())
    (file,) = folder.rglob("account.key")
    file.chmod(0o644)
    done = new_sites.here("account", "import", folder)
    assert done.exit_code == 1
    assert "several bindings" in done.stderr
    assert "--for NAME" in done.stderr
    done = new_sites.here("account", "import", folder, "--for", "second.example.org", "--json")
    assert (done.exit_code, entry(done)["kid"]) == (0, "kid-2")
    assert entry(done)["domains"] == ["second.example.org"]
    assert f"others may have read {file}: mdconnector account rollover {ID}" in done.stdout


def test_two_keys_in_one_folder_are_listed_and_none_is_taken(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "account.key").write_text("x")
    done = new_sites.here("account", "import", tmp_path)
    assert done.exit_code == 2
    assert f"name one: {tmp_path}/a/account.key, {tmp_path}/b/account.key" in done.stderr
    assert proxy.requests == []


def lay_nothing(path: Path) -> None:
    path.mkdir()


def lay_fifo(path: Path) -> None:
    os.mkfifo(path)


def lay_text(content: bytes) -> Callable[[Path], None]:
    def lay(path: Path) -> None:
        path.write_bytes(content)

    return lay


HOSTILE = {
    "a folder without a key": (lay_nothing, "holds no account key"),
    "a fifo": (lay_fifo, "it is not a regular file"),
    "nothing in it": (lay_text(b" "), "no private key"),
    "too much": (lay_text(b"x" * 40_000), "more than 32768 bytes"),
    "no JSON": (lay_text(b"{"), "no private key"),
    "deep JSON": (lay_text(b'{"kty":' + b"[" * 30_000), "no private key"),
    "a JWK without numbers": (lay_text(b'{"kty": "RSA"}'), "no private key"),
    "a JWK of lies": (
        lay_text(
            json.dumps(
                {"kty": "RSA", **dict.fromkeys(("n", "e", "d", "p", "q", "dp", "dq", "qi"), "AQAB")}
            ).encode()
        ),
        "no private key",
    ),
    "an unknown curve": (lay_text(b'{"kty": "EC", "crv": "P-1"}'), "no private key"),
    "a certificate's PEM": (
        lay_text(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        "no private key",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_key_is_told_without_a_request_or_a_trace(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path, what: str
) -> None:
    lay, words = HOSTILE[what]
    path = tmp_path / "odd"
    lay(path)
    done = new_sites.here("account", "import", path, "--json")
    assert done.exit_code in {1, 2}
    assert words in done.json["error"]["detail"]
    assert "Traceback" not in done.output
    assert proxy.requests == []
    assert new_sites.account() == {}


def test_a_file_that_is_not_there_is_named(new_sites: SitesBehindProxy, tmp_path: Path) -> None:
    done = new_sites.here("account", "import", tmp_path / "gone")
    assert done.exit_code == 2
    assert f"there is no {tmp_path}/gone" in done.stderr
    assert "hint: name the folder of the account, or the file with its key" in done.stderr


def test_links_below_the_folder_are_not_followed(
    new_sites: SitesBehindProxy, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "account.key").write_text("x")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "account.key").symlink_to(tmp_path / "outside" / "account.key")
    done = new_sites.here("account", "import", tmp_path / "inside")
    assert done.exit_code == 2
    assert "holds no account key" in done.stderr


def test_an_import_shows_no_secret_and_leaves_the_other_clients_files_alone(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    old = rsa2048()
    folder = by_acme_sh(tmp_path / "acme.sh", proxy, old)
    before = snapshot(folder)
    secrets = Secrets().add_key("old key", old)
    shown = new_sites.here("account", "import", folder).output
    shown += new_sites.here("account", "rollover", ID, "--json").output
    shown += new_sites.here("account", "show").output
    secrets.add_key("new key", key_in(new_sites))
    assert secrets.found_in(shown) == []
    assert snapshot(folder) == before


def test_an_account_at_a_ca_that_nobody_uses_is_not_imported(
    new_sites: SitesBehindProxy, sites_with_account: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    new_sites.add(PROVEN, {"MDCertificateAuthority": "https://127.0.0.1:9/dir"})
    done = new_sites.here("account", "import", sites_with_account.store / "accounts")
    assert done.exit_code == 1
    assert f"no managed domain uses the account's CA {proxy.directory_url}" in done.stderr
    assert proxy.requests == []


def test_a_weak_key_is_not_stored(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, tmp_path: Path
) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    file = tmp_path / "account.key"
    file.write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    done = new_sites.here("account", "import", file)
    assert done.exit_code == 1
    assert "rsa1024, and fewer than 2048 bits are too weak; add --change-key" in done.stderr
    assert proxy.requests == []


# --- with the real mod_md ------------------------------------------------------------------------


@pytest.mark.apache
def test_the_real_mod_md_uses_the_new_key_and_its_own_account_can_be_imported(
    make_apache: Callable[..., Apache], trusting_ca: Pebble, parts_folder: Path
) -> None:
    first, second = "rolled-first.example", "rolled-second.example"
    apache = make_apache(
        sites={"a": managed_site(first)}, main_extra=trusting_ca.directives(), renew_mode="auto"
    )
    staging = apache.store / "staging"
    with apache:
        chain = "pubcert.secp256r1.pem"
        wait_until((staging / first / chain).exists, "a set that mod_md has staged")
        apache.stop()
        # what mod_md has registered itself lies in staging, and no account in accounts/ yet
        done = run("account", "import", staging / first, "--json", config=apache.config)
        assert (done.exit_code, entry(done)["id"]) == (0, ID), done.output
        shutil.rmtree(staging / first)
        done = run("account", "rollover", ID, config=apache.config)
        assert done.exit_code == 0, done.output
        apache.write_site("a", managed_site(second))
        apache.start()
        with trusting_ca.recorded() as requests:
            wait_until((staging / second / chain).exists, "a set of mod_md's by the new key")
    staged = json.loads((staging / second / "md.json").read_text())
    assert staged["ca"]["account"] == ID
    assert not [one for one in requests if one.resource == "/sign-me-up"]
