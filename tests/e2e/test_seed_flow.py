"""Step two of the flow: what already lies in staging/<name> decides whether the CA is asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mdconnector.keys import generate_key
from tests.authority import DAY, RSA_SPEC, Authority
from tests.e2e.command import Finished, run
from tests.e2e.estate import leaf_in, managed_site
from tests.parts import Apache, Pebble, names_of, served_certificate

pytestmark = [pytest.mark.apache, pytest.mark.pebble]

NAME = "seed.example"
ALIAS = "www.seed.example"
NAMES = (NAME, ALIAS)


@dataclass(frozen=True, slots=True)
class Place:
    """An Apache with one managed domain (RSA, so that its chain is pubcert.pem), and its CA."""

    apache: Apache
    ca: Pebble

    @property
    def staged(self) -> Path:
        """The domain's folder in staging."""
        return self.apache.store / "staging" / NAME

    @property
    def chain(self) -> Path:
        """What the flow looks for."""
        return self.staged / "pubcert.pem"

    @property
    def leaf(self) -> x509.Certificate:
        """The staged certificate."""
        return leaf_in(self.staged, self.chain.name)

    @property
    def set_aside(self) -> Path:
        """Where what was not understood goes."""
        return self.apache.store / "mdconnector" / "set-aside" / f"{NAME}.1"

    def run(self, *arguments: str) -> Finished:
        """Run the command on this Apache's configuration."""
        return run(*arguments, config=self.apache.config)

    def seed(self, key_pem: bytes | None, chain_pem: bytes) -> None:
        """Put a pair into staging as a person would: a folder, two files, nothing else."""
        self.staged.mkdir(parents=True)
        if key_pem is not None:
            (self.staged / "privkey.pem").write_bytes(key_pem)
        self.chain.write_bytes(chain_pem)


def seed_site(*, aliases: str = ALIAS, settings: str = "") -> str:
    """Return the vhost file of the one domain."""
    return managed_site(NAME, keys="RSA 2048", aliases=aliases, settings=settings)


@pytest.fixture
def place(make_apache: Callable[..., Apache], counting_ca: Pebble) -> Place:
    """The domain, nothing obtained yet, Apache not started."""
    apache = make_apache(sites={"seed": seed_site()}, main_extra=counting_ca.directives())
    return Place(apache, counting_ca)


@pytest.fixture(scope="module")
def store_with_staged_set(session_folder: Path, counting_ca: Pebble) -> Path:
    """A store in which mdconnector has staged a set for the domain; to be copied."""
    apache = Apache(
        session_folder / "seed-flow",
        sites={"seed": seed_site()},
        main_extra=counting_ca.directives(),
    )
    done = run("renew", "--all", config=apache.config)
    assert done.exit_code == 0, done.output
    return apache.store


@pytest.fixture
def staged_place(place: Place, store_with_staged_set: Path) -> Place:
    """The same domain with a set in staging that mdconnector obtained."""
    subprocess.run(["/bin/cp", "-a", store_with_staged_set, place.apache.store], check=True)
    assert place.chain.exists()
    return place


def pair(
    *, issuer: Authority | None = None, age: timedelta = DAY, life: timedelta = 90 * DAY
) -> tuple[bytes, bytes]:
    """Make a key in clear and a chain; self-signed as `openssl req -x509` does without issuer."""
    authority = issuer or Authority()
    key = generate_key(RSA_SPEC)
    made = authority.leaf(
        NAMES,
        key,
        not_before=datetime.now(UTC) - age,
        life=life,
        ca=issuer is None,
        self_signed=issuer is None,
    )
    chain = [made] if issuer is None else [made, authority.root]
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key_pem, b"".join(one.public_bytes(Encoding.PEM) for one in chain)


def expect_new_set(place: Place, before: x509.Certificate) -> None:
    """What lies in staging is complete, from the CA, and has another key."""
    assert {"privkey.pem", "pubcert.pem", "md.json"} <= {one.name for one in place.staged.iterdir()}
    new = place.leaf
    assert new.issuer.rfc4514_string().startswith("CN=Pebble Intermediate CA")
    assert names_of(new) == {*NAMES}
    assert new.public_key() != before.public_key()


@pytest.mark.parametrize("command", [("renew", "--all"), ("enroll", NAME)])
def test_a_fresh_staged_chain_needs_no_request(
    staged_place: Place, command: tuple[str, ...]
) -> None:
    before = staged_place.chain.read_bytes()
    with staged_place.ca.recorded() as requests:
        done = staged_place.run(*command, "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"], requests) == (0, "staged", [])
    assert staged_place.chain.read_bytes() == before


def test_the_last_line_says_how_many_staged_sets_are_not_live_and_what_to_type(
    staged_place: Place,
) -> None:
    done = staged_place.run("renew", "--all")
    last = done.stdout.splitlines()[-1]
    assert "1 staged set is not live" in last
    assert last.endswith("mdconnector promote --all --reload")


def test_a_fresh_staged_chain_of_which_nothing_is_remembered_needs_no_request(
    staged_place: Place,
) -> None:
    shutil.rmtree(staged_place.apache.store / "mdconnector")
    with staged_place.ca.recorded() as requests:
        done = staged_place.run("renew", "--all", "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"], requests) == (0, "staged", [])


def test_a_pair_put_there_by_hand_needs_no_request(place: Place) -> None:
    place.seed(*pair())
    with place.ca.recorded() as requests:
        done = place.run("renew", "--all", "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"], requests) == (0, "staged", [])


def test_a_staged_chain_near_its_end_is_replaced_in_one_step(staged_place: Place) -> None:
    key_pem, chain_pem = pair(issuer=Authority(), age=80 * DAY)
    shutil.rmtree(staged_place.staged)
    staged_place.seed(key_pem, chain_pem)
    before, folder = staged_place.leaf, staged_place.staged.stat().st_ino
    done = staged_place.run("renew", "--all", "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (0, "enrolled")
    expect_new_set(staged_place, before)
    assert staged_place.staged.stat().st_ino != folder, "the old folder was filled, not replaced"


def test_our_own_staged_set_is_ordered_anew_once_it_is_near_its_end(staged_place: Place) -> None:
    before = staged_place.leaf
    staged_place.apache.write_site("seed", seed_site(settings="MDRenewWindow 90d\n"))
    done = staged_place.run("renew", "--all", "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (0, "enrolled")
    expect_new_set(staged_place, before)


def test_a_staged_chain_that_no_longer_covers_all_names_is_replaced(staged_place: Place) -> None:
    before = staged_place.leaf
    staged_place.apache.write_site("seed", seed_site(aliases=f"{ALIAS} new.seed.example"))
    done = staged_place.run("renew", "--all", "--json")
    assert (done.exit_code, done.domain(NAME)["outcome"]) == (0, "enrolled")
    new = staged_place.leaf
    assert names_of(new) == names_of(before) | {"new.seed.example"}


def test_a_chain_without_its_key_is_named_set_aside_and_ordered_anew(staged_place: Place) -> None:
    (staged_place.staged / "privkey.pem").unlink()
    expect_set_aside(staged_place)


def test_a_chain_with_the_key_of_another_is_named_set_aside_and_ordered_anew(
    staged_place: Place,
) -> None:
    (staged_place.staged / "privkey.pem").write_bytes(pair()[0])
    expect_set_aside(staged_place)


def expect_set_aside(place: Place) -> None:
    """A run names the chain with its path, keeps it elsewhere, and orders a new set."""
    before = place.leaf
    kept = {one.name: one.read_bytes() for one in place.staged.iterdir()}
    done = place.run("renew", "--all")
    assert done.exit_code == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{place.chain}: ")
    assert line.endswith(f"set aside as {place.set_aside}")
    assert {one.name: one.read_bytes() for one in place.set_aside.iterdir()} == kept
    expect_new_set(place, before)


def test_promote_leaves_a_chain_without_its_key_alone_and_says_what_to_type(
    staged_place: Place,
) -> None:
    (staged_place.staged / "privkey.pem").unlink()
    done = staged_place.run("promote", "--all")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert str(staged_place.chain) in line
    assert f"mdconnector renew {NAME}" in line
    assert staged_place.chain.exists()
    assert not (staged_place.apache.store / "domains" / NAME).exists()


def test_what_can_never_go_live_beside_a_good_live_set_is_set_aside_and_nothing_ordered(
    staged_place: Place,
) -> None:
    staged_place.run("promote", "--all")
    expired = pair(issuer=Authority(), age=100 * DAY)
    for number, seed in enumerate([(None, expired[1]), expired], start=1):
        staged_place.seed(*seed)
        with staged_place.ca.recorded() as requests:
            done = staged_place.run("renew", "--all")
        assert (done.exit_code, requests) == (0, [])
        (line,) = done.stderr.splitlines()
        assert str(staged_place.staged) in line
        aside = staged_place.set_aside.with_suffix(f".{number}")
        assert line.endswith(f"set aside as {aside}")
        assert (aside / "pubcert.pem").read_bytes() == expired[1]
        assert not staged_place.staged.exists()
    assert staged_place.run("promote", "--all").exit_code == 0


@pytest.mark.parametrize("by_a_ca", [False, True], ids=["self-signed", "by a CA"])
def test_a_pair_made_by_hand_is_promoted_and_served(place: Place, by_a_ca: bool) -> None:
    key_pem, chain_pem = pair(issuer=Authority() if by_a_ca else None)
    with place.apache.start() as apache, place.ca.recorded() as requests:
        # mod_md has made the folder, and nothing in it makes a set
        shutil.rmtree(place.staged, ignore_errors=True)
        place.seed(key_pem, chain_pem)
        seeded = place.leaf
        done = place.run("promote", NAME, "--reload", "--json")
        served = served_certificate(apache.address, apache.ssl_port, NAME)
    promoted = done.domain(NAME)
    assert (done.exit_code, promoted["outcome"], promoted["served"]) == (0, "promoted", "new")
    assert served == seeded
    assert ("self-signed" in promoted["detail"]) is not by_a_ca
    live = apache.store / "domains" / NAME
    assert (live / "privkey.pem").read_bytes() == key_pem
    assert (live / "privkey.pem").stat().st_mode & 0o777 == 0o600
    assert (live / "md.json").exists()
    assert not place.chain.exists()
    assert requests == []
