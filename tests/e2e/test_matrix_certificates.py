"""The fault matrix, rows V: a CA that signs correctly with its own key, but not what it should.

The hostile chains are signed by Pebble's own intermediate key, so that they chain as they must but
for what their test is about. Each test names its row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.e2e.behind_proxy import CERTIFICATE, ORDER, PROVEN, SitesBehindProxy, failure
from tests.e2e.plain_sites import settings_for, ssl_site
from tests.parts import FaultingProxy, Pebble, Rewrite, Rule, Substitute, Truncate

pytestmark = pytest.mark.pebble

DAY = timedelta(days=1)
LEAF = "pubcert.secp256r1.pem"
EC_KEY = "privkey.secp256r1.pem"
END = b"-----END CERTIFICATE-----\n"


class HostileCa:
    """Signs what it is asked for, with the intermediate key of a Pebble."""

    def __init__(self, pebble: Pebble) -> None:
        self.issuer = x509.load_pem_x509_certificate(pebble.management("/intermediates/0"))
        self.root = x509.load_pem_x509_certificate(pebble.management("/roots/0"))
        key = load_pem_private_key(pebble.management("/intermediate-keys/0"), None)
        assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        self.key = key

    def sign(
        self,
        leaf: x509.Certificate,
        *,
        names: tuple[str, ...] = (PROVEN,),
        key: Any = None,
        begins: timedelta = -DAY,
        life: timedelta = 90 * DAY,
        ca: bool = False,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        signer: Any = None,
    ) -> x509.Certificate:
        """Sign a leaf in place of the honest one, for its key unless another is given."""
        start = datetime.now(UTC) + begins
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
            .issuer_name(self.issuer.subject)
            .public_key(key or leaf.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .sign(signer or self.key, hashes.SHA256())
        )


SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
WEAK_DIGESTS: dict[str, tuple[hashes.HashAlgorithm, bytes]] = {
    "SHA-1": (hashes.SHA1(), bytes.fromhex("06092a864886f70d010105")),  # noqa: S303 - to be refused
    "MD5": (hashes.MD5(), bytes.fromhex("06092a864886f70d010104")),  # noqa: S303 - likewise
}


def signed_by(
    key: rsa.RSAPrivateKey, certificate: x509.Certificate, digest: str
) -> x509.Certificate:
    """Sign a certificate anew in a way that no library does any more."""
    algorithm, name = WEAK_DIGESTS[digest]
    der = certificate.public_bytes(Encoding.DER)
    old = certificate.tbs_certificate_bytes
    new = old.replace(SHA256_WITH_RSA, name)
    signature = key.sign(new, PKCS1v15(), algorithm)
    parts = {old: new, SHA256_WITH_RSA: name, certificate.signature: signature}
    for before, after in parts.items():
        assert len(before) == len(after)
        assert before in der
        der = der.replace(before, after)
    return x509.load_der_x509_certificate(der)


Forge = Callable[[HostileCa, x509.Certificate], list[x509.Certificate]]


def pem_of(chain: list[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain)


def forged(proxy: FaultingProxy, forge: Forge) -> Rule:
    """Answer the download of a certificate with another chain."""
    hostile = HostileCa(proxy.pebble)

    def change(body: bytes) -> bytes:
        honest = x509.load_pem_x509_certificates(body)[0]
        return pem_of(forge(hostile, honest))

    return Rule(Rewrite(change), path=CERTIFICATE)


def leaf_with(**changes: Any) -> Forge:
    """Return a chain whose leaf is forged."""
    return lambda ca, honest: [ca.sign(honest, **changes), ca.issuer]


def staged(sites: SitesBehindProxy) -> list[x509.Certificate]:
    """Return what lies in staging; empty where nothing does."""
    file = sites.store / "staging" / PROVEN / LEAF
    return x509.load_pem_x509_certificates(file.read_bytes()) if file.exists() else []


# --- V1: cut off ----------------------------------------------------------------------------------


CUTS = {
    "in the middle, as announced": Truncate(700, announce_whole=False),
    "in the middle, less than announced": Truncate(700),
    "after the leaf, nothing announced": Substitute(
        rb"(?s)(-----END CERTIFICATE-----\n).*",
        rb"\1",
        {"Content-Length": "", "Connection": "close"},
    ),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_matrix_v1_cut_chain_is_fetched_once_more_and_its_order_is_kept(
    sites: SitesBehindProxy, proxy: FaultingProxy, cut: Truncate | Substitute
) -> None:
    rule = Rule(cut, path=CERTIFICATE)
    proxy.expect(rule)
    orders, certificates = proxy.pebble.orders, proxy.pebble.certificates
    failure(sites.here("renew", "--all"))
    assert 2 <= rule.hits <= 3
    assert staged(sites) == []
    assert sites.note(PROVEN, "order.secp256r1.json").exists()
    sites.heals()
    assert proxy.count(ORDER) == 0
    assert len(staged(sites)) == 2
    assert proxy.pebble.orders - orders == 1
    assert proxy.pebble.certificates - certificates == 1


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_matrix_v1_chain_that_is_cut_once_costs_nothing(
    sites: SitesBehindProxy, proxy: FaultingProxy, cut: Truncate | Substitute
) -> None:
    rule = Rule(cut, path=CERTIFICATE, nth=1)
    proxy.expect(rule)
    assert sites.here("renew", "--all").exit_code == 0
    assert (rule.hits, len(staged(sites))) == (1, 2)


# --- V2 to V5: what is refused --------------------------------------------------------------------

STRANGER = ec.generate_private_key(ec.SECP256R1())


def crossed(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    return [honest, ca.root]


def wrong_order(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    return [ca.issuer, honest]


def twice(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    return [honest, honest, ca.issuer]


def too_many(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    return [honest, *[ca.issuer] * 11]


def weak_leaf(digest: str) -> Forge:
    """Return a chain whose leaf has a weak signature."""

    def forge(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
        assert isinstance(ca.key, rsa.RSAPrivateKey)
        return [signed_by(ca.key, ca.sign(honest), digest), ca.issuer]

    return forge


def weak_issuer(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    """Return a chain whose intermediate has a weak signature; its key is the CA's own."""
    root = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return [ca.sign(honest), signed_by(root, signed_again(ca.issuer, root), "SHA-1")]


def short_issuer(ca: HostileCa, honest: x509.Certificate) -> list[x509.Certificate]:
    """Return a chain whose intermediate has a short key."""
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    issuer = signed_again(ca.issuer, ca.key, key=short.public_key())
    return [ca.sign(honest, signer=short), issuer]


def signed_again(
    certificate: x509.Certificate, signer: Any, *, key: Any = None
) -> x509.Certificate:
    """Sign what an intermediate says once more, perhaps with another key in it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(key or certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(signer, hashes.SHA256())


REFUSED: dict[str, tuple[Forge, str]] = {
    "v2 another key": (
        leaf_with(key=STRANGER.public_key()),
        "the secp256r1 certificate does not belong to its private key (certificate ",
    ),
    "v3 other names": (
        leaf_with(names=("evil.example.net",)),
        f"secp256r1: it does not cover {PROVEN}",
    ),
    "v3 its parent's name": (
        leaf_with(names=("example.org",)),
        f"secp256r1: it does not cover {PROVEN}",
    ),
    "v4 expired": (leaf_with(begins=-90 * DAY, life=80 * DAY), "secp256r1: it expired on 20"),
    "v4 of the future": (leaf_with(begins=DAY), "secp256r1: it is not valid before 20"),
    "v5 wrong order": (wrong_order, "does not belong to its private key"),
    "v5 missing issuer": (crossed, "certificate 2 of its chain did not sign the one before it"),
    "v5 twice": (twice, "certificate 2 of its chain did not sign the one before it"),
    "v5 too many": (too_many, "more than 10 certificates"),
    "v5 wrong signature": (
        leaf_with(signer=STRANGER),
        "certificate 2 of its chain did not sign the one before it",
    ),
    "v5 SHA-1": (weak_leaf("SHA-1"), "secp256r1: its key or its signature is too weak"),
    "v5 MD5": (weak_leaf("MD5"), "secp256r1: its key or its signature is too weak"),
    "v5 issuer by SHA-1": (
        weak_issuer,
        "secp256r1: the key or the signature of certificate 2 of its chain is too weak",
    ),
    "v5 issuer with a short key": (
        short_issuer,
        "secp256r1: the key or the signature of certificate 2 of its chain is too weak",
    ),
    "v5 CA:TRUE": (leaf_with(ca=True), "secp256r1: it is a CA certificate"),
    "v5 no serverAuth": (
        leaf_with(purpose=ExtendedKeyUsageOID.CLIENT_AUTH),
        "secp256r1: it is not meant for servers (no serverAuth)",
    ),
}


def _refuses(sites: SitesBehindProxy, proxy: FaultingProxy, row: str) -> None:
    forge, words = REFUSED[row]
    rule = forged(proxy, forge)
    proxy.expect(rule)
    line = failure(sites.here("renew", "--all"))
    assert words in line
    assert rule.hits >= 1
    assert staged(sites) == []
    assert sites.note(PROVEN, EC_KEY).exists()
    sites.heals()
    assert len(staged(sites)) == 2


def test_matrix_v2_leaf_for_another_key_is_never_staged(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    _refuses(sites, proxy, "v2 another key")


@pytest.mark.parametrize("row", [row for row in REFUSED if row.startswith("v3")])
def test_matrix_v3_leaf_that_lacks_a_name_is_never_staged(
    sites: SitesBehindProxy, proxy: FaultingProxy, row: str
) -> None:
    _refuses(sites, proxy, row)


@pytest.mark.parametrize("row", [row for row in REFUSED if row.startswith("v4")])
def test_matrix_v4_leaf_of_another_time_is_never_staged(
    sites: SitesBehindProxy, proxy: FaultingProxy, row: str
) -> None:
    _refuses(sites, proxy, row)


@pytest.mark.parametrize("row", [row for row in REFUSED if row.startswith("v5")])
def test_matrix_v5_chain_that_does_not_hold_is_never_staged(
    sites: SitesBehindProxy, proxy: FaultingProxy, row: str
) -> None:
    _refuses(sites, proxy, row)


# --- what is only warned about --------------------------------------------------------------------


def test_matrix_v3_extra_names_only_warn(sites: SitesBehindProxy, proxy: FaultingProxy) -> None:
    rule = forged(proxy, leaf_with(names=(PROVEN, "extra.example.net")))
    proxy.expect(rule)
    done = sites.here("renew", "--all")
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    assert "note: secp256r1: it also names extra.example.net" in done.stdout


@pytest.fixture
def live(sites: SitesBehindProxy, proxy: FaultingProxy) -> SitesBehindProxy:
    """The sites with a live certificate of 90 days."""
    for command in ("enroll", "promote"):
        done = sites.here(command, PROVEN)
        assert done.exit_code == 0, done.output
    proxy.expect()
    return sites


def test_matrix_v4_shorter_life_than_the_live_one_only_warns(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = forged(proxy, leaf_with(begins=timedelta(), life=6 * DAY))
    proxy.expect(rule)
    done = live.here("renew", PROVEN, "--force")
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    assert "it lives shorter than the one before it" in done.stdout


def test_matrix_v4_older_than_the_live_one_never_replaces_it(
    live: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = forged(proxy, leaf_with(begins=-30 * DAY))
    proxy.expect(rule)
    line = failure(live.here("renew", PROVEN, "--force"))
    assert "it is older than the live set, which still serves the configuration" in line
    assert (rule.hits, staged(live)) == (1, [])
    assert live.here("promote", PROVEN).exit_code == 0, "what is live is good"
    assert live.here("renew", "--all").exit_code == 0


def test_matrix_v5_extra_root_only_warns(sites: SitesBehindProxy, proxy: FaultingProxy) -> None:
    rule = forged(proxy, lambda ca, honest: [honest, ca.issuer, ca.root])
    proxy.expect(rule)
    done = sites.here("renew", "--all")
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    assert "note: secp256r1: its chain ends with a root certificate" in done.stdout
    assert len(staged(sites)) == 3, "the chain is kept as delivered"


# --- V6: alternate chains -------------------------------------------------------------------------


def test_matrix_v6_chain_that_the_ca_prefers_is_taken_each_time(
    new_sites: SitesBehindProxy, make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True, nonce_reject=0, alternate_roots=2, chain_length=2)
    new_sites.write(PROVEN, ssl_site(PROVEN, settings_for(ca)))
    roots = [x509.load_pem_x509_certificate(ca.root_pem(number).encode()) for number in range(3)]
    assert len({root.subject for root in roots}) == 3, "Pebble has no alternate roots"
    for command in (("enroll", "--all"), ("renew", PROVEN, "--force")):
        with ca.recorded() as requests:
            done = new_sites.here(*command)
        assert done.exit_code == 0, done.output
        assert staged(new_sites)[-1].issuer == roots[0].subject
        assert [one.resource for one in requests].count("/certZ") == 1


# --- V7: what is no certificate -------------------------------------------------------------------


def test_matrix_v7_private_key_in_the_chain_is_refused_and_never_written(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    key = STRANGER.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    rule = Rule(Rewrite(lambda body: body + key), path=CERTIFICATE)
    proxy.expect(rule)
    done = sites.here("renew", "--all")
    assert "the CA's answer holds other PEM blocks than certificates" in failure(done)
    assert rule.hits == 2
    written = b"".join(one.read_bytes() for one in sites.store.rglob("*") if one.is_file())
    assert key.splitlines()[1] not in written
    assert key.splitlines()[1].decode() not in done.output
    sites.heals()
    assert proxy.count(ORDER) == 0


JUNK: dict[str, Callable[[bytes], bytes]] = {
    "comments": lambda body: b"subject=CN = x\n" + body.replace(END, END + b"# next\n"),
    "CRLF": lambda body: body.replace(b"\n", b"\r\n"),
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "blank lines": lambda body: b"\n\n" + body.replace(END, END + b"\n\n"),
    "NUL": lambda body: body + b"\0" * 100,
}


@pytest.mark.parametrize("change", JUNK.values(), ids=JUNK)
def test_matrix_v7_only_certificate_blocks_are_ever_written(
    sites: SitesBehindProxy, proxy: FaultingProxy, change: Callable[[bytes], bytes]
) -> None:
    rule = Rule(Rewrite(change), path=CERTIFICATE)
    proxy.expect(rule)
    done = sites.here("renew", "--all")
    assert (done.exit_code, rule.hits) == (0, 1), done.output
    text = (sites.store / "staging" / PROVEN / LEAF).read_bytes()
    assert text == pem_of(staged(sites))
