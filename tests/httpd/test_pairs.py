"""Which pairs httpd opens, and which of them would end it."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mdconnector.certificates import chain_to_pem
from mdconnector.httpd.configuration import load_configuration
from mdconnector.httpd.pairs import (
    Pair,
    PairsReport,
    check_httpd_pairs,
    check_pairs,
    pairs_in_force,
)
from mdconnector.keys import KeySpec, key_to_pem
from mdconnector.managed_domain import (
    Address,
    CertificatePair,
    ManagedDomain,
    SourceLine,
    VirtualHost,
)
from tests.authority import EC_SPEC, RSA_SPEC, Authority
from tests.parts import Apache, served_certificate
from tests.parts.processes import is_alive, wait_until

NAME = "shop.test"
AUTHORITY = Authority()
GOOD = AUTHORITY.credential((NAME,), RSA_SPEC)
OTHER = AUTHORITY.credential((NAME,), RSA_SPEC)
CURVE = AUTHORITY.credential((NAME,), EC_SPEC)
KEY, OTHER_KEY, CURVE_KEY = (key_to_pem(one.key) for one in (GOOD, OTHER, CURVE))
CHAIN, OTHER_CHAIN, CURVE_CHAIN = (chain_to_pem(one.chain) for one in (GOOD, OTHER, CURVE))
LEAF = chain_to_pem(GOOD.chain[:1])
LEAF_DER = GOOD.chain[0].public_bytes(serialization.Encoding.DER)
LINE = SourceLine("shop.conf", 3)


def _weak() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 1024)
    return chain_to_pem([AUTHORITY.leaf((NAME,), key)]), key_to_pem(key)


def _traditional(passphrase: bytes | None = None) -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return GOOD.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption
    )


def _der(key_pem: bytes) -> bytes:
    body = b"".join(key_pem.splitlines()[1:-1])
    return base64.b64decode(body)


def _block(label: str, der: bytes) -> bytes:
    body = base64.b64encode(der)
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label.encode(), body, label.encode())


@dataclass(frozen=True, slots=True)
class Case:
    """The content of a certificate file and of its key file, and whether httpd can use them."""

    name: str
    certificate: bytes
    key: bytes
    verdict: str
    real: bool = False
    """tried with the real httpd in each run of the tests; all were tried once by hand"""


CASES = (
    Case("a chain and its key", CHAIN, KEY, "fits", real=True),
    Case("an EC chain and its key", CURVE_CHAIN, CURVE_KEY, "fits"),
    Case("a key in the traditional form", CHAIN, _traditional(), "fits"),
    Case("a key in DER", CHAIN, _der(KEY), "fits", real=True),
    Case("key and chain in one file", KEY + CHAIN, KEY + CHAIN, "fits"),
    Case("text around the blocks", b"a\n" + CHAIN + b"b\n", b"c\n" + KEY + b"d\n", "fits"),
    Case("lines that end with CR LF", CHAIN.replace(b"\n", b"\r\n"), KEY, "fits"),
    Case("a byte order mark", b"\xef\xbb\xbf" + CHAIN, KEY, "fits", real=True),
    Case("another label", _block("X509 CERTIFICATE", LEAF_DER), KEY, "fits"),
    Case("base64 on one line", _block("CERTIFICATE", LEAF_DER), KEY, "fits"),
    Case("no newline at the end", CHAIN.rstrip(), KEY.rstrip(), "fits"),
    Case("a second key", CHAIN, KEY + OTHER_KEY, "fits"),
    Case("half a second key", CHAIN, KEY + OTHER_KEY[: len(OTHER_KEY) // 2], "fits"),
    Case("the key of another pair", CHAIN, OTHER_KEY, "broken", real=True),
    Case("a key of another kind", CHAIN, CURVE_KEY, "broken", real=True),
    Case("another key before the right one", CHAIN, OTHER_KEY + KEY, "broken"),
    Case("a chain that begins with the CA", chain_to_pem(GOOD.chain[::-1]), KEY, "broken"),
    Case("an empty certificate file", b"", KEY, "broken"),
    Case("an empty key file", CHAIN, b"", "broken"),
    Case("a key file with nothing but a newline", CHAIN, b"\n", "broken", real=True),
    Case("no PEM in the certificate file", b"x" * 2000, KEY, "broken"),
    Case("a certificate in DER", LEAF_DER, KEY, "broken", real=True),
    Case("no PEM in the key file", CHAIN, b"x" * 2000, "broken"),
    Case("a certificate request", _block("CERTIFICATE REQUEST", LEAF_DER), KEY, "broken"),
    Case("a certificate as key", CHAIN, CHAIN, "broken"),
    Case("half a certificate", LEAF[: len(LEAF) // 2], KEY, "broken", real=True),
    Case("half a second certificate", LEAF + LEAF[: len(LEAF) // 2], KEY, "broken", real=True),
    Case("half a key", CHAIN, KEY[: len(KEY) // 2], "broken"),
    Case("a certificate that is not base64", LEAF.replace(b"MII", b"M$I", 1), KEY, "broken"),
    Case("half the bytes of a certificate", _block("CERTIFICATE", LEAF_DER[:99]), KEY, "broken"),
    Case("a certificate of no bytes", _block("CERTIFICATE", b""), KEY, "broken"),
    Case("blocks that are indented", b"  " + LEAF, KEY, "broken"),
    Case("a key of no bytes", CHAIN, _block("PRIVATE KEY", b""), "broken"),
    Case("an encrypted key", CHAIN, key_to_pem(GOOD.key, b"secret"), "unchecked"),
    Case("an encrypted traditional key", CHAIN, _traditional(b"secret"), "unchecked"),
    Case("a key that OpenSSL may find too small", *_weak(), "unchecked"),
    Case("something else than a certificate", _block("CERTIFICATE", b"\x30\x00"), KEY, "unchecked"),
)


def read_from(files: Mapping[str, bytes]) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    return read


def verdict(report: PairsReport) -> str:
    if report.faults:
        return "broken"
    return "unchecked" if report.unchecked else "fits"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_pair_is_judged_as_httpd_does(case: Case) -> None:
    read = read_from({"c.pem": case.certificate, "k.pem": case.key})

    report = check_pairs([Pair("c.pem", "k.pem", "shop.conf:3")], read=read)

    assert verdict(report) == case.verdict


@pytest.mark.apache
@pytest.mark.parametrize("case", [case for case in CASES if case.real], ids=lambda case: case.name)
def test_httpd_itself_judges_so(
    case: Case, make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    chain_file, key_file = parts_folder / "c.pem", parts_folder / "k.pem"
    chain_file.write_bytes(CHAIN)
    key_file.write_bytes(KEY)
    site = ssl_site(f"SSLCertificateFile {chain_file}\nSSLCertificateKeyFile {key_file}")
    apache = make_apache(mod_md=False, sites={"shop": site}).start()
    chain_file.write_bytes(case.certificate)
    key_file.write_bytes(case.key)

    assert apache.configtest()[0] == 0
    assert survives_a_reload(apache) == (case.verdict == "fits")


def an_ed25519_pair() -> tuple[bytes, bytes]:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    name = x509.Name([])
    leaf = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(GOOD.facts.not_before)
        .not_valid_after(GOOD.facts.not_after)
        .sign(key, None)
    )
    return chain_to_pem([leaf]), pem


def of_an_unknown_kind(pem: bytes) -> bytes:
    """Give an Ed25519 key or certificate an algorithm that nobody knows."""
    label = pem[len(b"-----BEGIN ") : pem.index(b"-----\n")].decode()
    return _block(label, _der(pem).replace(b"\x06\x03\x2b\x65\x70", b"\x06\x03\x2b\x65\x7f"))


def test_an_ed25519_pair_fits() -> None:
    certificate, key = an_ed25519_pair()
    read = read_from({"c.pem": certificate, "k.pem": key})

    assert verdict(check_pairs([Pair("c.pem", "k.pem", "x:1")], read=read)) == "fits"


@pytest.mark.parametrize("odd", ["c.pem", "k.pem"])
def test_a_key_of_an_unknown_kind_is_unchecked(odd: str) -> None:
    certificate, key = an_ed25519_pair()
    files = {"c.pem": certificate, "k.pem": key}
    files[odd] = of_an_unknown_kind(files[odd])

    report = check_pairs([Pair("c.pem", "k.pem", "x:1")], read=read_from(files))

    assert report.faults == ()
    assert [(one.path, one.message) for one in report.unchecked] == [
        (odd, "its key is of a kind that cannot be checked")
    ]


def test_a_fault_names_the_file_the_line_and_what_is_wrong() -> None:
    read = read_from({"c.pem": CHAIN, "k.pem": OTHER_KEY})

    (fault,) = check_pairs([Pair("c.pem", "k.pem", "shop.conf:3")], read=read).faults

    assert str(fault) == (
        "k.pem: this key does not belong to the first certificate of c.pem (used at shop.conf:3)"
    )


def test_a_missing_file_is_a_fault() -> None:
    report = check_pairs([Pair("c.pem", "k.pem", "x:1")], read=read_from({"c.pem": CHAIN}))

    assert [(fault.path, fault.message) for fault in report.faults] == [
        ("k.pem", "it cannot be read: No such file or directory")
    ]


def test_a_file_that_may_not_be_read_is_unchecked() -> None:
    def read(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    assert verdict(check_pairs([Pair("c.pem", "k.pem", "x:1")], read=read)) == "unchecked"


def test_a_key_of_a_hardware_token_is_unchecked() -> None:
    pair = Pair("c.pem", "pkcs11:token=web;object=key", "x:1")

    assert verdict(check_pairs([pair], read=read_from({"c.pem": CHAIN}))) == "unchecked"


def test_a_staged_pair_is_judged_in_the_place_it_is_to_take() -> None:
    files = {"c.pem": CHAIN, "k.pem": KEY}
    pair = Pair("c.pem", "k.pem", "x:1")

    good = check_pairs(
        [pair], read=read_from(files), overlay={"c.pem": OTHER_CHAIN, "k.pem": OTHER_KEY}
    )
    half = check_pairs([pair], read=read_from(files), overlay={"c.pem": OTHER_CHAIN})

    assert verdict(good) == "fits"
    assert verdict(half) == "broken"


def test_each_pair_is_judged_once() -> None:
    asked: list[str] = []

    def read(path: str) -> bytes:
        asked.append(path)
        return b""

    check_pairs([Pair("c.pem", "k.pem", "x:1")] * 3, read=read)

    assert asked == ["c.pem"]


def a_vhost(*pairs: CertificatePair, ssl: bool = True, line: int = 10) -> VirtualHost:
    return VirtualHost(
        server_name=NAME,
        aliases=(),
        addresses=(Address("*", 443),),
        ssl=ssl,
        declared_at=SourceLine("shop.conf", line),
        certificate_pairs=pairs,
    )


def a_domain(*vhosts: VirtualHost, specs: tuple[KeySpec, ...] = ()) -> ManagedDomain:
    return ManagedDomain(
        name=NAME, names=(NAME,), declared_at=LINE, configured_key_specs=specs, vhosts=vhosts
    )


def in_force(
    vhosts: tuple[VirtualHost, ...], domains: tuple[ManagedDomain, ...], *files: str
) -> list[tuple[str, str | None]]:
    pairs = pairs_in_force(
        vhosts,
        domains,
        live_folder=lambda name: f"/md/domains/{name}",
        read=read_from(dict.fromkeys(files, b"")),
    )
    return [(pair.certificate_file, pair.key_file) for pair in pairs]


OWN = CertificatePair("/own.crt", "/own.key", SourceLine("shop.conf", 12))
OWN_WITHOUT_KEY = CertificatePair("/own.pem", "/own.pem", OWN.declared_at, key_is_named=False)
LIVE = "/md/domains/shop.test"
RSA_FILES = (f"{LIVE}/pubcert.pem", f"{LIVE}/privkey.pem")
EC_FILES = (f"{LIVE}/pubcert.secp256r1.pem", f"{LIVE}/privkey.secp256r1.pem")
FALLBACK_FILES = (f"{LIVE}/fallback-pubcert.pem", f"{LIVE}/fallback-privkey.pem")


def test_a_vhost_without_ssl_opens_no_pair() -> None:
    assert in_force((a_vhost(OWN, ssl=False),), ()) == []


def test_a_vhost_opens_its_own_pairs() -> None:
    assert in_force((a_vhost(OWN),), ()) == [("/own.crt", "/own.key")]


def test_a_pair_of_two_vhosts_is_opened_once() -> None:
    assert in_force((a_vhost(OWN), a_vhost(OWN, line=20)), ()) == [("/own.crt", "/own.key")]


def test_a_live_pair_that_may_not_be_read_is_in_force_and_unchecked() -> None:
    def read(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    vhost = a_vhost()
    report = check_httpd_pairs((vhost,), (a_domain(vhost),), live_folder=lambda _: LIVE, read=read)

    assert report.faults == ()
    assert [(one.pair.certificate_file, one.message) for one in report.unchecked] == [
        (RSA_FILES[0], "it may not be read by this user")
    ]


def test_an_unused_chain_that_cannot_be_read_is_unchecked() -> None:
    def read(path: str) -> bytes:
        raise OSError(5, "Input/output error", path)

    report = check_httpd_pairs((), (a_domain(),), live_folder=lambda _: LIVE, read=read)

    assert report.faults == ()
    assert [(one.path, one.message) for one in report.unchecked] == [
        (RSA_FILES[0], "it cannot be read: Input/output error")
    ]


def test_a_managed_vhost_opens_the_live_pairs_that_are_there() -> None:
    vhost = a_vhost()
    domain = a_domain(vhost, specs=(RSA_SPEC, EC_SPEC))

    assert in_force((vhost,), (domain,), *RSA_FILES, *EC_FILES) == [RSA_FILES, EC_FILES]
    assert in_force((vhost,), (domain,), *RSA_FILES, EC_FILES[0]) == [RSA_FILES]


def test_a_managed_vhost_without_a_live_pair_opens_the_fallback() -> None:
    vhost = a_vhost()

    assert in_force((vhost,), (a_domain(vhost),), *FALLBACK_FILES) == [FALLBACK_FILES]
    assert in_force((vhost,), (a_domain(vhost),)) == []


def test_a_managed_vhost_opens_its_own_pairs_too() -> None:
    vhost = a_vhost(OWN)

    assert in_force((vhost,), (a_domain(vhost),), *RSA_FILES) == [
        ("/own.crt", "/own.key"),
        RSA_FILES,
    ]


def test_a_certificate_without_a_key_file_shifts_the_keys_of_a_managed_vhost() -> None:
    vhost = a_vhost(OWN_WITHOUT_KEY)

    assert in_force((vhost,), (a_domain(vhost),), *RSA_FILES) == [
        ("/own.pem", RSA_FILES[1]),
        (RSA_FILES[0], RSA_FILES[0]),
    ]
    assert in_force((vhost,), ()) == [("/own.pem", "/own.pem")]


OURS = CertificatePair(*RSA_FILES, OWN.declared_at, assumed=True)


def test_a_pair_that_waits_for_our_first_set_is_not_opened() -> None:
    assert in_force((a_vhost(OURS),), ()) == []
    assert in_force((a_vhost(OURS, OWN),), ()) == [("/own.crt", "/own.key")]


def test_a_pair_that_waits_for_our_first_set_is_opened_once_that_is_there() -> None:
    report = check_httpd_pairs(
        (a_vhost(OURS),),
        (),
        live_folder=lambda _: LIVE,
        read=read_from({}),
        overlay={RSA_FILES[0]: CHAIN, RSA_FILES[1]: OTHER_KEY},
    )

    assert [fault.path for fault in report.faults] == [RSA_FILES[1]]


def test_a_domain_that_apache_does_not_read_is_none_of_mod_md_s() -> None:
    vhost = a_vhost(OWN)
    domain = a_domain(vhost)._replace(assumed=True)

    assert in_force((vhost,), (domain,), *RSA_FILES) == [("/own.crt", "/own.key")]
    assert in_force((), (a_domain()._replace(assumed=True),), *RSA_FILES) == []


def test_static_files_stand_for_the_live_ones() -> None:
    vhost = a_vhost()
    domain = a_domain(vhost)._replace(static_pairs=(("/static.crt", "/static.key"),))

    assert in_force((vhost,), (domain,), *RSA_FILES) == [("/static.crt", "/static.key")]


def test_of_a_domain_without_an_ssl_vhost_only_the_chain_is_read() -> None:
    assert in_force((), (a_domain(),), *RSA_FILES) == [(RSA_FILES[0], None)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "fits"),
        ({RSA_FILES[0]: b""}, "fits"),
        ({RSA_FILES[0]: b"x" * 100}, "fits"),
        ({RSA_FILES[0]: b"x" * 2000}, "broken"),
        ({RSA_FILES[0]: LEAF[:300]}, "broken"),
        ({RSA_FILES[0]: CHAIN, RSA_FILES[1]: OTHER_KEY}, "fits"),
    ],
    ids=["missing", "empty", "tiny", "garbage", "half", "another key"],
)
def test_an_unused_chain_is_judged_as_mod_md_reads_it(
    files: dict[str, bytes], expected: str
) -> None:
    report = check_httpd_pairs((), (a_domain(),), live_folder=lambda _: LIVE, read=read_from(files))

    assert verdict(report) == expected


def test_a_first_staged_pair_counts_as_live() -> None:
    vhost = a_vhost()
    report = check_httpd_pairs(
        (vhost,),
        (a_domain(vhost),),
        live_folder=lambda _: LIVE,
        read=read_from({}),
        overlay={RSA_FILES[0]: CHAIN, RSA_FILES[1]: OTHER_KEY},
    )

    assert [fault.path for fault in report.faults] == [RSA_FILES[1]]


@pytest.mark.apache
@pytest.mark.parametrize(
    ("own_lines", "live", "survives"),
    [
        ("", (CHAIN, KEY), True),
        ("", (CHAIN, OTHER_KEY), False),
        ("", (b"x", KEY), False),
        ("SSLCertificateFile {own}\nSSLCertificateKeyFile {own}", (CHAIN, KEY), True),
        ("SSLCertificateFile {own}\nSSLCertificateKeyFile {own}", (CHAIN, OTHER_KEY), False),
        ("SSLCertificateFile {own}", (CHAIN, KEY), False),
    ],
    ids=["live", "live mismatch", "tiny chain", "both", "both, live mismatch", "shifted keys"],
)
def test_httpd_opens_what_is_said_to_be_in_force(
    own_lines: str,
    live: tuple[bytes, bytes],
    survives: bool,
    make_apache: Callable[..., Apache],
    parts_folder: Path,
) -> None:
    own = parts_folder / "own.pem"
    own.write_bytes(OTHER_CHAIN + OTHER_KEY)
    apache = make_apache(main_extra=MD_LINES, sites={"shop": f"MDomain {NAME}\n{ssl_site('')}"})
    apache.start()
    lines = own_lines.format(own=own)
    apache.write_site("shop", f"MDomain {NAME}\n{ssl_site(lines)}")
    folder = apache.store / "domains" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(("pubcert.pem", "privkey.pem"), live, strict=True):
        (folder / name).write_bytes(content)
    named = (
        (CertificatePair(str(own), str(own), LINE, key_is_named="Key" in lines),) if lines else ()
    )
    vhost = a_vhost(*named)

    report = check_httpd_pairs(
        (vhost,),
        (a_domain(vhost),),
        live_folder=lambda _: str(folder),
        read=lambda path: Path(path).read_bytes(),
    )

    assert (report.faults == ()) is survives
    assert survives_a_reload(apache) is survives


@pytest.mark.apache
def test_httpd_puts_a_vhost_s_nth_certificate_in_place_of_the_main_server_s_nth(
    make_apache: Callable[..., Apache], parts_folder: Path
) -> None:
    for name, content in (
        ("main-rsa", CHAIN + KEY),
        ("main-ec", CURVE_CHAIN + CURVE_KEY),
        ("own", OTHER_CHAIN + OTHER_KEY),
    ):
        (parts_folder / f"{name}.pem").write_bytes(content)
    main = "".join(
        f"SSLCertificateFile {parts_folder}/main-{kind}.pem\n"
        f"SSLCertificateKeyFile {parts_folder}/main-{kind}.pem\n"
        for kind in ("rsa", "ec")
    )
    own = parts_folder / "own.pem"
    site = ssl_site(f"SSLCertificateFile {own}\nSSLCertificateKeyFile {own}")
    apache = make_apache(mod_md=False, main_extra=main, sites={"shop": site})
    configuration = load_configuration(config=apache.config, sites=None, store=None, environment={})
    with apache:
        served = [
            served_certificate(apache.address, apache.ssl_port, NAME, kind)
            for kind in ("rsa", "ec")
        ]

    assert served == [OTHER.chain[0], CURVE.chain[0]]
    (vhost,) = configuration.vhosts
    assert [pair.certificate_file for pair in vhost.certificate_pairs] == [
        str(own),
        f"{parts_folder}/main-ec.pem",
    ]


MD_LINES = """\
MDCertificateAuthority https://127.0.0.1:1/dir
MDCertificateAgreement accepted
MDContactEmail admin@shop.test
"""


def ssl_site(lines: str) -> str:
    inner = f"ServerName {NAME}\nSSLEngine on\n{lines}"
    return f"<VirtualHost *:${{HTTPS_PORT}}>\n{inner}\n</VirtualHost>\n"


def survives_a_reload(apache: Apache) -> bool:
    """Send the parent a graceful and say whether it lives once that is over."""
    parent, before = apache.pid, apache.pid_file.stat().st_ino
    os.kill(parent, signal.SIGUSR1)
    wait_until(
        lambda: not is_alive(parent) or apache.pid_file.stat().st_ino != before, "the reload"
    )
    return is_alive(parent)
