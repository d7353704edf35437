"""Sites and stores of any size to measure with: as ordinary ones are, and with nothing due."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.parts.apache import MODULES_FOLDER

SITE = """\
MDomain {name}
<VirtualHost *:443>
    ServerName {name}
    SSLEngine on
</VirtualHost>
"""


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
MDPrivateKeys secp256r1
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


def make_idle_tree(root: Path, count: int) -> Path:
    """Write a main file, its sites, and a store in which nothing is due for any of them."""
    main_file = make_tree(root, count)
    make_live_sets(root / "md", count)
    return main_file


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
        write_private(
            domain / "md.json",
            f'{{"name": "{name}", "domains": ["{name}", "www.{name}"]}}\n'.encode(),
        )


def certificate_for(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a self-signed certificate, for a name and its www, not due for two months."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.DNSName(f"www.{name}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=89))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    file.touch(mode=0o600)
    file.write_bytes(content)
