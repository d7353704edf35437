"""Figures, printed and not judged: requests per certificate, seconds per hundred, idle runs, scans.

`make bench`, or `python tests/bench.py [DOMAINS…]`. Everything is the real command in its own
process against a Pebble on loopback; no Apache runs, and the CA takes every challenge as answered.
Beside each scan stands what Apache's own `-t` takes for the same files, one after the other.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.parts import Pebble, Request, find_program
from tests.parts.apache import MODULES_FOLDER

SITE = """\
MDomain {name}
<VirtualHost *:443>
    ServerName {name}
    SSLEngine on
</VirtualHost>
"""
OVERHEAD = ("/dir", "/nonce-plz")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the command cost."""

    seconds: float
    peak_mebibytes: float


def main(counts: list[int]) -> None:
    """Print all figures."""
    with temporary_folder() as folder:
        print_requests(folder)
        print_enrollments(folder)
        print_idle_runs(folder, counts)
        print_scans(folder, [count for count in counts if count > 1])


def print_requests(folder: Path) -> None:
    """Count requests for one certificate of an account that exists."""
    print("Requests to the CA for one certificate, account known")
    for title, reuse in (("one http-01 challenge", 0), ("validated before", 100)):
        with Pebble(
            folder / f"ca-{reuse}", always_valid=True, nonce_reject=0, authz_reuse=reuse
        ) as ca:
            sites = make_sites(folder / f"requests-{reuse}", 2, ca.directives())
            names = [name_of(number) for number in range(2)]
            run(sites, "enroll", *(names if reuse else names[:1]))
            with ca.recorded() as requests:
                run(sites, "renew", names[1], *(["--force"] if reuse else []))
        print_counted(title, requests)


def print_counted(title: str, requests: list[Request]) -> None:
    """Print how many requests were made, and which."""
    counted = Counter(request.resource for request in requests)
    proper = sum(number for path, number in counted.items() if path not in OVERHEAD)
    listed = ", ".join(f"{path} {number}" for path, number in counted.items())
    print(f"  {title:24} {proper} and {len(requests) - proper} for directory and nonces ({listed})")


def print_enrollments(folder: Path) -> None:
    """Time a hundred first certificates."""
    print("100 first certificates, seconds")
    for key in ("secp256r1", "RSA 2048"):
        with Pebble(folder / f"ca-{key}", always_valid=True, nonce_reject=0) as ca:
            settings = ca.directives() + f"MDPrivateKeys {key}\n"
            sites = make_sites(folder / f"enroll-{key}", 100, settings)
            measured = run(sites, "renew", "--all")
            print(f"  {key:24} {measured.seconds:.1f} ({ca.certificates} certificates)")


def print_idle_runs(folder: Path, counts: list[int]) -> None:
    """Time and weigh `renew --all` where nothing is due."""
    print("renew --all with nothing due")
    for count in counts:
        sites = make_sites(folder / f"idle-{count}", count, IDLE)
        make_live_sets(sites.parent / "md", count)
        runs = [run(sites, "renew", "--all") for _ in range(3)]
        best = min(measured.seconds for measured in runs)
        peak = max(measured.peak_mebibytes for measured in runs)
        print(f"  {count:6} domains           {best:.2f} s, {peak:.0f} MiB at most")


def print_scans(folder: Path, counts: list[int]) -> None:
    """Time and weigh `scan --json`, and Apache's own test of the same files."""
    print("scan --json, and apache2 -t on the same files")
    for count in counts:
        main_file = make_tree(folder / f"scan-{count}", count)
        scan = [sys.executable, "-m", "mdconnector", "scan", "--json", "--config", str(main_file)]
        test = [find_program("apache2"), "-d", str(main_file.parent), "-f", str(main_file), "-t"]
        print(f"  {count:6} sites             {best_of(scan)}; apache2 -t: {best_of(test)}")


def best_of(command: list[str]) -> str:
    """Return the least seconds and the most memory of three runs."""
    runs = [measure(command) for _ in range(3)]
    seconds = min(measured.seconds for measured in runs)
    return f"{seconds:.2f} s, {max(measured.peak_mebibytes for measured in runs):.0f} MiB at most"


MODULES = ("mpm_event", "authz_core", "socache_shmcb", "alias", "headers", "rewrite", "ssl", "md")
MAIN = """\
ServerRoot "{root}"
DefaultRuntimeDir run
PidFile run/httpd.pid
ErrorLog error.log
Listen 127.0.0.1:4
Listen 127.0.0.1:5 https
ServerName main.invalid
{modules}
MDRenewMode manual
MDCertificateAuthority https://localhost:1/dir
MDCertificateAgreement accepted
MDContactEmail hostmaster@example.org
IncludeOptional sites-enabled/*.conf
"""
FULL_SITE = """\
MDomain {name}
<VirtualHost *:4>
    ServerName {name}
    ServerAlias www.{name}
    DocumentRoot {root}
    Redirect permanent / https://{name}/
</VirtualHost>
<IfModule mod_ssl.c>
<VirtualHost *:5>
    ServerName {name}
    ServerAlias www.{name}
    ServerAdmin admin@{name}
    DocumentRoot {root}
    SSLEngine on
    Header always set Strict-Transport-Security "max-age=31536000"
    <Directory {root}>
        Options -Indexes
        AllowOverride None
        Require all granted
    </Directory>
    # an old address
    RewriteEngine on
    RewriteRule ^/old/(.*)$ /new/$1 [R=301,L]
    ErrorLog {root}/error.log
</VirtualHost>
</IfModule>
"""


def make_tree(root: Path, count: int) -> Path:
    """Write a main file and one file for each site, with what sites ordinarily say."""
    (root / "sites-enabled").mkdir(parents=True)
    (root / "run").mkdir()
    modules = "\n".join(
        f"LoadModule {name}_module {MODULES_FOLDER}/mod_{name}.so" for name in MODULES
    )
    main_file = root / "apache2.conf"
    main_file.write_text(MAIN.format(root=root, modules=modules))
    for number in range(count):
        site = FULL_SITE.format(name=name_of(number), root=root)
        (root / "sites-enabled" / f"{number:05}.conf").write_text(site)
    return main_file


IDLE = """\
MDCertificateAuthority https://localhost:1/dir
MDCertificateAgreement accepted
MDContactEmail hostmaster@example.org
MDPrivateKeys secp256r1
"""


def run(sites: Path, *arguments: str) -> Run:
    """Run the command on a folder of sites; it must exit 0."""
    return measure([sys.executable, "-m", "mdconnector", "--sites", str(sites), "-q", *arguments])


def measure(command: list[str]) -> Run:
    """Run a command without its output; it must exit 0."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent)}
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    seconds = time.perf_counter() - begin
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} exited {child.returncode}\n{said}")
    return Run(seconds, usage.ru_maxrss / 1024)


def name_of(number: int) -> str:
    """Return the name of a managed domain."""
    return f"host-{number:05}.example.org"


def make_sites(folder: Path, count: int, settings: str) -> Path:
    """Write a sites-enabled with one file for each managed domain; the store will lie beside it."""
    sites = folder / "sites-enabled"
    sites.mkdir(parents=True)
    (sites / "00-acme.conf").write_text(settings)
    for number in range(count):
        (sites / f"{number:05}.conf").write_text(SITE.format(name=name_of(number)))
    return sites


def make_live_sets(store: Path, count: int) -> None:
    """Write a store in mod_md's format with a good certificate for each managed domain."""
    (store / "domains").mkdir(parents=True)
    store.chmod(0o750)
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    secret = base64.urlsafe_b64encode(os.urandom(48)).decode()
    write_private(
        store / "md_store.json",
        f'{{\n  "store": {{\n    "version": 3.0\n  }},\n  "key": "{secret}"\n}}\n'.encode(),
    )
    for number in range(count):
        name = name_of(number)
        domain = store / "domains" / name
        domain.mkdir(mode=0o700)
        write_private(domain / "privkey.secp256r1.pem", private)
        write_private(domain / "pubcert.secp256r1.pem", certificate_for(name, key))
        write_private(domain / "md.json", f'{{"name": "{name}", "domains": ["{name}"]}}\n'.encode())


def certificate_for(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a self-signed certificate that is not due for two months."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=89))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    file.touch(mode=0o600)
    file.write_bytes(content)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder below /tmp and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    os.umask(0o022)
    main([int(word) for word in sys.argv[1:]] or [1, 1000, 10000])
