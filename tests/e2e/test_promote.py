"""Promote and reload a real Apache: what is checked first, what one reload does, what is undone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.keys import KeySpec, key_to_pem
from mdconnector.proof import CLOSE_TIMES
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, Authority
from tests.e2e.command import COMMAND, Finished, command_for_anybody, run
from tests.e2e.estate import key_of, leaf_in, managed_site, served_leaf
from tests.e2e.shop import NAME, Shop
from tests.parts import Apache, Pebble, wait_until

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

MakeApache = Callable[..., Apache]
AUTHORITY = Authority()
OTHER_LINE = 4
"""of SSLCertificateFile in `other_site`"""


def put(folder: Path, credential: Credential) -> None:
    """Write a pair as mod_md has it in domains/."""
    for name, content in (
        (credential.spec.privkey_name, key_to_pem(credential.key)),
        (credential.spec.pubcert_name, chain_to_pem(credential.chain)),
    ):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)


def open_shop(apache: Apache, site: str, *, old: KeySpec = EC_SPEC, new: KeySpec = EC_SPEC) -> Shop:
    """Start Apache with an old set for `site`, then let the CA make the new one."""
    words = {spec: spec.curve or f"RSA {spec.bits}" for spec in (old, new)}
    apache.write_site("shop", site.replace("KEYS", words[old]))
    apache.start()
    credential = AUTHORITY.credential((NAME,), old)
    put(apache.store / "domains" / NAME, credential)
    apache.graceful()
    wait_until(lambda: served_leaf(apache, NAME) == credential.chain[0], "the old set")
    apache.write_site("shop", site.replace("KEYS", words[new]))
    ordered = run("renew", NAME, "--force", config=apache.config)
    assert ordered.exit_code == 0, ordered.output
    staged = leaf_in(apache.store / "staging" / NAME, new.pubcert_name)
    return Shop(apache, credential.chain[0], staged, new)


@pytest.fixture
def shop(make_apache: MakeApache, trusting_ca: Pebble) -> Shop:
    apache = make_apache(main_extra=trusting_ca.directives())
    return open_shop(apache, managed_site(NAME, keys="KEYS"))


def other_site(folder: Path, *, own_key: bool) -> str:
    """Return a vhost that nobody manages, with a pair that fits or with the key of another."""
    mine, foreign = (AUTHORITY.credential(("other.example",)) for _ in range(2))
    chain, key = folder / "other.crt", folder / "other.key"
    chain.write_bytes(chain_to_pem(mine.chain))
    key.write_bytes(key_to_pem((mine if own_key else foreign).key))
    return (
        "<VirtualHost *:${HTTPS_PORT}>\nServerName other.example\nSSLEngine on\n"
        f"SSLCertificateFile {chain}\nSSLCertificateKeyFile {key}\n</VirtualHost>\n"
    )


def status_of(apache: Apache) -> tuple[bool | None, int]:
    """Return whether status says that what is stored is served, and how `status --check` ends."""
    known = run("status", "--json", config=apache.config).domain(NAME)["served_equals_stored"]
    return known, run("status", "--check", config=apache.config).exit_code


def expect_waiting(shop: Shop, done: Finished, *blamed: str) -> None:
    """Nothing was swapped nor reloaded, and the message says because of what."""
    assert (done.exit_code, done.json.get("reload")) == (4, "refused"), done.output
    domain = done.domain(NAME)
    assert domain["outcome"] == "waiting"
    for words in blamed:
        assert words in domain["error"]["detail"]
    assert (shop.live, shop.served, shop.is_staged) == (shop.old, shop.old, True)
    assert shop.is_pending


def expect_served(shop: Shop, done: Finished) -> None:
    """The new set was promoted, and a handshake shows it."""
    assert (done.exit_code, done.json.get("reload")) == (0, "reloaded"), done.output
    assert (done.domain(NAME)["outcome"], done.domain(NAME)["served"]) == ("promoted", "new")
    assert (shop.live, shop.served, shop.is_staged) == (shop.new, shop.new, False)
    assert not shop.is_pending, "what is seen to be served needs no copy"


def test_a_promotion_is_one_reload_and_the_old_set_lies_in_the_archive(shop: Shop) -> None:
    assert shop.served == shop.old
    with shop.reloaded(times=1):
        expect_served(shop, shop.promote("--reload"))
    assert leaf_in(shop.apache.store / "archive" / f"{NAME}.1") == shop.old
    with shop.reloaded(times=0):
        again = shop.promote("--reload")
    assert (again.exit_code, again.json["reload"]) == (0, "not-needed")


def test_matrix_r8_many_promoted_names_are_one_reload(
    make_apache: MakeApache, trusting_ca: Pebble
) -> None:
    names = [f"site{number}.example" for number in range(5)]
    sites = {name: managed_site(name) for name in names}
    apache = make_apache(sites=sites, main_extra=trusting_ca.directives()).start()
    assert run("renew", "--all", config=apache.config).exit_code == 0
    generation = apache.generation
    done = run("promote", "--all", "--reload", "--json", config=apache.config)
    assert (done.exit_code, done.json.get("reload")) == (0, "reloaded"), done.output
    assert apache.generation != generation
    assert apache.error_log().count("AH00493: SIGUSR1 received") == 1
    for name in names:
        assert done.domain(name)["served"] == "new"
        live = leaf_in(apache.store / "domains" / name)
        assert served_leaf(apache, name) == live


# --- what is checked first ---------------------------------------------------------------------


def test_matrix_r3_a_broken_pair_of_another_vhost_lets_the_set_wait_until_it_is_mended(
    shop: Shop, parts_folder: Path
) -> None:
    file = shop.apache.write_site("other", other_site(parts_folder, own_key=False))
    assert shop.apache.configtest()[0] == 0, "Apache itself must see nothing wrong"
    with shop.reloaded(times=0):
        done = shop.promote("--reload")
    expect_waiting(shop, done, f"{file}:{OTHER_LINE}", str(parts_folder / "other.key"))

    shop.apache.write_site("other", other_site(parts_folder, own_key=True))
    with shop.reloaded(times=1):
        expect_served(shop, shop.promote("--reload"))


def test_a_syntax_error_in_another_site_lets_the_set_wait_until_it_is_mended(shop: Shop) -> None:
    file = shop.apache.write_site("other", "# a remark\nNoSuchDirective on\n")
    with shop.reloaded(times=0):
        done = shop.promote("--reload")
    expect_waiting(shop, done, f"{file}:2", "NoSuchDirective")

    file.unlink()
    with shop.reloaded(times=1):
        expect_served(shop, shop.promote("--reload"))


def test_a_set_that_waits_is_told_on_stderr_with_the_line_to_blame(shop: Shop) -> None:
    file = shop.apache.write_site("other", "NoSuchDirective on\n")
    done = run("-q", "promote", "--all", "--reload", config=shop.apache.config)
    assert done.exit_code == 4
    assert NAME in done.stderr
    assert f"{file}:1" in done.stderr
    again = run("-q", "promote", "--all", "--reload", config=shop.apache.config)
    assert (again.exit_code, again.output) == (4, ""), "told once a day"


# --- an Apache that does not run ---------------------------------------------------------------


def test_matrix_r1_a_stopped_apache_gets_the_set_and_is_not_started(shop: Shop) -> None:
    shop.apache.stop()
    done = shop.promote("--reload")
    assert (done.exit_code, done.json.get("reload")) == (0, "not-running"), done.output
    assert done.domain(NAME)["outcome"] == "promoted"
    assert (shop.live, shop.is_pending) == (shop.new, False)
    assert not shop.apache.pid_file.exists()
    assert shop.apache.processes() == ()
    shop.apache.start()
    assert shop.served == shop.new


@pytest.mark.parametrize(
    ("program", "age"),
    [("sleep", 0), ("apache2", 3600)],
    ids=["another program", "an apache2 that is younger than the file"],
)
def test_matrix_r2_a_stale_pid_file_gets_nobody_signalled(
    shop: Shop, parts_folder: Path, program: str, age: int
) -> None:
    shop.apache.stop()
    innocent = parts_folder / program
    shutil.copy(shutil.which("sleep") or "/bin/sleep", innocent)
    # SIGUSR1 would end it
    with subprocess.Popen([innocent, "600"]) as process:
        try:
            shop.apache.pid_file.write_text(f"{process.pid}\n")
            written = shop.apache.pid_file.stat().st_mtime - age
            os.utime(shop.apache.pid_file, (written, written))
            done = shop.promote("--reload")
            assert process.poll() is None
        finally:
            process.kill()
    assert (done.exit_code, done.json.get("reload")) == (0, "not-running"), done.output
    assert shop.live == shop.new
    assert process.returncode == -signal.SIGKILL


# --- live, but not served ----------------------------------------------------------------------


def test_matrix_r7_a_vhost_with_a_certificate_of_its_own_is_named_as_the_one_that_shows_the_old_one(
    make_apache: MakeApache, trusting_ca: Pebble, parts_folder: Path
) -> None:
    # Beside mod_md's RSA certificate Apache takes up this one too, and clients prefer its kind.
    mine = AUTHORITY.credential((NAME,), EC_SPEC)
    put(parts_folder, mine)
    inside = (
        f"SSLCertificateFile {parts_folder / EC_SPEC.pubcert_name}\n"
        f"SSLCertificateKeyFile {parts_folder / EC_SPEC.privkey_name}\n"
    )
    apache = make_apache(main_extra=trusting_ca.directives())
    site = managed_site(NAME, keys="RSA 2048", inside=inside)
    file = apache.write_site("shop", site)
    apache.start()
    assert run("enroll", NAME, config=apache.config).exit_code == 0

    done = run("promote", NAME, "--reload", "--json", config=apache.config)

    assert (done.exit_code, done.json.get("reload")) == (4, "reloaded"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "old")
    line = site.split("\n").index(inside.partition("\n")[0]) + 1
    assert f"{file}:{line}" in domain["error"]["hint"]
    assert f"serial {mine.chain[0].serial_number:x}" in domain["error"]["detail"]
    assert served_leaf(apache, NAME) == mine.chain[0]
    reloads = apache.error_log().count("AH00493: SIGUSR1 received")
    assert reloads == 2, "one more, in case the first came to nothing"
    assert status_of(apache) == (False, 1)
    copy = apache.store / "mdconnector" / "pending" / NAME
    assert copy.exists()

    file.write_text(managed_site(NAME, keys="RSA 2048"))
    mended = run("promote", NAME, "--reload", "--json", config=apache.config)
    assert (mended.exit_code, mended.json["reload"]) == (0, "reloaded"), mended.output
    assert mended.domain(NAME)["served"] == "new"
    live = leaf_in(apache.store / "domains" / NAME, "pubcert.pem")
    assert served_leaf(apache, NAME) == live
    assert status_of(apache) == (True, 0)
    assert not copy.exists()


def test_what_is_mended_by_hand_is_seen_by_the_next_promotion(
    make_apache: MakeApache, trusting_ca: Pebble, parts_folder: Path
) -> None:
    put(parts_folder, AUTHORITY.credential((NAME,), EC_SPEC))
    inside = (
        f"SSLCertificateFile {parts_folder / EC_SPEC.pubcert_name}\n"
        f"SSLCertificateKeyFile {parts_folder / EC_SPEC.privkey_name}\n"
    )
    apache = make_apache(main_extra=trusting_ca.directives())
    file = apache.write_site("shop", managed_site(NAME, keys="RSA 2048", inside=inside))
    apache.start()
    assert run("enroll", NAME, config=apache.config).exit_code == 0
    assert run("promote", NAME, "--reload", config=apache.config).exit_code == 4
    assert status_of(apache) == (False, 1)

    file.write_text(managed_site(NAME, keys="RSA 2048"))
    apache.graceful()
    live = leaf_in(apache.store / "domains" / NAME, "pubcert.pem")
    wait_until(lambda: served_leaf(apache, NAME) == live, "the stored set")
    # as if it had been long after the set went live
    later = time.time() + 2 * CLOSE_TIMES.total_seconds()
    os.utime(apache.pid_file, (later, later))
    done = run("promote", "--all", "--reload", "--json", config=apache.config)

    assert (done.exit_code, done.json["reload"]) == (0, "not-needed"), done.output
    assert status_of(apache) == (True, 0)


def test_matrix_r5_a_promotion_without_reload_owes_one(shop: Shop) -> None:
    with shop.reloaded(times=0):
        done = shop.promote()
    assert (done.exit_code, done.json.get("reload")) == (0, "not-requested")
    assert done.domain(NAME)["outcome"] == "promoted"
    assert (shop.live, shop.served, shop.is_pending) == (shop.new, shop.old, True)
    assert status_of(shop.apache) == (False, 1)

    with shop.reloaded(times=1):
        later = shop.promote("--reload")
    assert (later.exit_code, later.json["reload"]) == (0, "reloaded"), later.output
    assert status_of(shop.apache) == (True, 0)
    domain = later.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("nothing-staged", "new")
    assert (shop.served, shop.is_pending) == (shop.new, False)

    with shop.reloaded(times=0):
        assert shop.promote("--reload").json["reload"] == "not-needed"


# --- the administrator's own command -----------------------------------------------------------


def test_a_reload_command_replaces_the_signal(shop: Shop) -> None:
    apache = shop.apache
    command = f"{apache.binary} -d {apache.root} -f {apache.config} -k graceful"
    with shop.reloaded(times=1):
        expect_served(shop, shop.promote("--reload-command", command))


def test_matrix_r6_a_reload_command_that_fails_leaves_a_reload_owed(shop: Shop) -> None:
    with shop.reloaded(times=0):
        done = shop.promote("--reload-command", "/bin/sh -c 'echo no way; exit 3'")
    assert (done.exit_code, done.json.get("reload")) == (4, "failed"), done.output
    domain = done.domain(NAME)
    assert (domain["outcome"], domain["served"]) == ("promoted", "old")
    assert "ended with exit code 3: no way" in domain["error"]["detail"]
    assert (shop.live, shop.served, shop.is_pending) == (shop.new, shop.old, True)

    with shop.reloaded(times=1):
        later = shop.promote("--reload")
    assert (later.exit_code, later.domain(NAME)["served"]) == (0, "new"), later.output
    assert shop.served == shop.new


def test_matrix_r5_run_killed_between_swap_and_reload_is_made_up_for_by_the_next(
    shop: Shop, parts_folder: Path
) -> None:
    killer = parts_folder / "killer"
    killer.write_text("#!/bin/sh\nkill -9 $PPID\n")
    killer.chmod(0o755)
    with shop.reloaded(times=0):
        assert shop.promote("--reload-command", str(killer)).exit_code == -signal.SIGKILL
    assert (shop.live, shop.served) == (shop.new, shop.old)
    with shop.reloaded(times=1):
        done = shop.promote("--reload")
    assert done.exit_code == 0, done.output
    assert (shop.live, shop.served) == (shop.new, shop.new)


def test_matrix_r6_a_reload_command_that_is_not_there_lets_the_set_wait(shop: Shop) -> None:
    expect_waiting(shop, shop.promote("--reload-command", "/no/reload"), "no program /no/reload")
    with shop.reloaded(times=1):
        expect_served(shop, shop.promote("--reload"))


def test_a_reload_command_for_a_shell_is_a_usage_error_and_nothing_is_done(shop: Shop) -> None:
    done = shop.promote("--reload-command", "true && false")
    assert (done.exit_code, done.json["error"]["type"]) == (2, "usage")
    assert (shop.live, shop.served, shop.is_staged) == (shop.old, shop.old, True)


# --- what is undone ----------------------------------------------------------------------------


def expect_rolled_back(shop: Shop, done: Finished) -> None:
    """The old set is back, live and in a handshake, and the new one is kept as refused."""
    assert (done.exit_code, done.json.get("reload")) == (4, "failed"), done.output
    assert done.domain(NAME)["outcome"] == "rolled-back"
    assert shop.live == shop.old
    assert not shop.is_staged
    assert not shop.is_pending
    kept = [leaf_in(file.parent, file.name) for file in shop.refused.rglob("pubcert*.pem")]
    assert kept == [shop.new]
    wait_until(lambda: shop.served == shop.old, "Apache to serve the old set again")


def test_matrix_r4_an_apache_that_the_new_set_ends_is_started_again_with_the_old_one(
    make_apache: MakeApache, trusting_ca: Pebble
) -> None:
    # A security level under which OpenSSL takes RSA keys of 3072 bits and none of 2048: Apache's
    # own test can't see it, nor can anybody who looks whether key and certificate fit.
    site = managed_site(NAME, keys="KEYS", inside="SSLCipherSuite DEFAULT:@SECLEVEL=3\n")
    shop = open_shop(
        make_apache(main_extra=trusting_ca.directives()),
        site,
        old=KeySpec("RSA", 3072),
        new=KeySpec("RSA", 2048),
    )
    assert (key_of(shop.served), key_of(shop.new)) == ("RSA 3072", "RSA 2048")
    parent = shop.apache.pid

    done = shop.promote("--reload")

    assert shop.apache.is_running
    assert shop.apache.pid != parent, "the reload was to end it"
    expect_rolled_back(shop, done)
    error = done.domain(NAME)["error"]
    assert str(parent) in error["detail"]
    command = ("promote", NAME, "--reload", "--force")
    assert f"mdconnector {' '.join(command)}" in error["hint"]

    with shop.reloaded(times=0):
        again = shop.promote("--reload")
    assert again.domain(NAME)["outcome"] != "promoted", "only --force promotes it again"
    assert (shop.live, shop.served) == (shop.old, shop.old)

    shop.apache.write_site("shop", managed_site(NAME, keys="RSA 2048"))
    with shop.reloaded(times=1):
        expect_served(shop, run(*command, "--json", config=shop.apache.config))


def test_an_address_that_completes_no_handshake_any_more_gets_the_old_set_back(
    make_apache: MakeApache, trusting_ca: Pebble, parts_folder: Path
) -> None:
    # The command's first call breaks the vhost in the same reload, its second one mends it.
    marker = parts_folder / "broken"
    inside = f'<IfFile "{marker}">\nSSLProtocol TLSv1.2\nSSLCipherSuite aRSA\n</IfFile>\n'
    apache = make_apache(main_extra=trusting_ca.directives())
    shop = open_shop(apache, managed_site(NAME, keys="KEYS", inside=inside))
    script = parts_folder / "reload"
    script.write_text(
        f"#!/bin/sh\nif [ -e {marker} ]; then rm {marker}; else touch {marker}; fi\n"
        f"kill -USR1 $(cat {apache.pid_file})\n"
    )
    script.chmod(0o755)

    with shop.reloaded(times=2):
        done = shop.promote("--reload-command", str(script))
        assert not marker.exists(), "the command was to be called twice"
        expect_rolled_back(shop, done)
    assert f"{NAME} at {apache.address}:{apache.ssl_port}" in done.domain(NAME)["error"]["detail"]


# --- an ordinary user's store, and an Apache that root has started -----------------------------


@dataclass(frozen=True, slots=True)
class Tenant:
    """A store that an ordinary user owns, with a set of his in staging, and root's Apache."""

    apache: Apache
    credential: Credential

    def promote(self, *options: str) -> Finished:
        """Promote as the user."""
        with command_for_anybody() as (python, environment, handles):
            return run(
                *("promote", NAME, "--json", *options),
                config=self.apache.config,
                command=(python, *COMMAND[1:]),
                environment=environment,
                user=NOBODY,
                handles=handles,
            )


NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs two users: run as root")


@pytest.fixture
def tenant(make_apache: MakeApache, parts_folder: Path) -> Tenant:
    store = parts_folder / "md"
    folder = store / "domains" / NAME
    site = (
        f"<IfDefine MDCONNECTOR>\nMDPrivateKeys secp256r1\nMDomain {NAME}\n</IfDefine>\n"
        f'<IfFile "{folder}/{EC_SPEC.pubcert_name}">\n'
        f"<VirtualHost *:${{HTTPS_PORT}}>\nServerName {NAME}\nSSLEngine on\n"
        f"SSLCertificateFile {folder}/{EC_SPEC.pubcert_name}\n"
        f"SSLCertificateKeyFile {folder}/{EC_SPEC.privkey_name}\n</VirtualHost>\n</IfFile>\n"
    )
    apache = make_apache(sites={"shop": site}, mod_md=False, store=store).start()
    credential = AUTHORITY.credential((NAME,))
    made = Store.open(
        store,
        httpd_user_uid=NOBODY,
        httpd_group_gid=None,
        mod_md_loaded=False,
        create=True,
    )
    assert made is not None
    made.close()
    staging = store / "staging" / NAME
    staging.mkdir(parents=True)
    put(staging, credential)
    for path in (store, *store.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return Tenant(apache, credential)


@needs_root
def test_an_apache_of_another_user_lets_the_set_wait(tenant: Tenant) -> None:
    generation = tenant.apache.generation
    done = tenant.promote("--reload")
    assert (done.exit_code, done.json.get("reload")) == (4, "refused"), done.output
    domain = done.domain(NAME)
    assert domain["outcome"] == "waiting"
    assert f"process {tenant.apache.pid}" in domain["error"]["detail"]
    assert "--reload-command" in domain["error"]["hint"]
    assert not (tenant.apache.store / "domains" / NAME).exists()
    assert tenant.apache.generation == generation


@needs_root
def test_a_reload_command_reloads_an_apache_of_another_user(
    tenant: Tenant, parts_folder: Path
) -> None:
    desk = parts_folder / "desk"
    desk.mkdir()
    os.chown(desk, NOBODY, NOBODY)
    asked, answered, is_over = desk / "asked", desk / "answered", threading.Event()
    script = parts_folder / "reload"
    script.write_text(f"#!/bin/sh\ntouch {asked}\nwhile [ ! -e {answered} ]; do sleep 0.05; done\n")
    script.chmod(0o755)

    def reload_when_asked() -> None:  # what sudo would do
        wait_until(lambda: asked.exists() or is_over.is_set(), "the command", seconds=60)
        if asked.exists():
            tenant.apache.graceful()
            answered.touch()

    with ThreadPoolExecutor() as pool:
        helper = pool.submit(reload_when_asked)
        done = tenant.promote("--reload-command", str(script))
        is_over.set()
        helper.result()

    assert (done.exit_code, done.json.get("reload")) == (0, "reloaded"), done.output
    assert (done.domain(NAME)["outcome"], done.domain(NAME)["served"]) == ("promoted", "new")
    assert served_leaf(tenant.apache, NAME) == tenant.credential.chain[0]
