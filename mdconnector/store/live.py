"""What lies in domains/ for one managed domain, read and judged, never changed.

Rule: a chain that is missing, broken or not its key's is a fact about one certificate; a folder or
file that may not be read, or is no folder or file, is a StoreError.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509

from mdconnector.certificates import (
    MAX_CHAIN_BYTES,
    CertificateFacts,
    InstalledCertificate,
    facts_of,
    fits,
    read_chain,
    read_leaf,
)
from mdconnector.errors import CertificateError, StoreError
from mdconnector.keys import KeySpec, key_from_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.folder import Folder
from mdconnector.store.pairs import MAX_KEY_BYTES
from mdconnector.store.records import MAX_RECORD_BYTES, RecordError, parse_md
from mdconnector.store.tree import Store, folder_name

MD_FILE = "md.json"


def read_live(store: Store, domain: ManagedDomain) -> tuple[InstalledCertificate, ...]:
    """Return what is live, an entry for each key spec of the domain; fallback-* does not count."""
    folder = _live_folder(store, domain)
    if folder is None:
        return tuple(InstalledCertificate(spec) for spec in domain.key_specs)
    with folder:
        return tuple(_read_installed(folder, spec) for spec in domain.key_specs)


def issuing_ca(store: Store, domain_name: str) -> str | None:
    """Return the directory URL of the CA that the live set came from; None where none is noted."""
    domains = store.domains()
    if domains is None:
        return None
    try:
        with domains:
            folder = domains.open(folder_name(domain_name))
        if folder is None:
            return None
        with folder:
            text = folder.read(MD_FILE, max_bytes=MAX_RECORD_BYTES)
        return None if text is None else parse_md(text).ca_url
    except (StoreError, RecordError):
        return None


def read_live_chains(
    store: Store, domain: ManagedDomain
) -> Iterator[tuple[CertificateFacts, tuple[x509.Certificate, ...]]]:
    """Yield each live chain of a domain, leaf first, whose certificates can be read."""
    folder = _live_folder(store, domain)
    if folder is None:
        return
    with folder:
        for spec in domain.key_specs:
            pem = folder.read(spec.pubcert_name, max_bytes=MAX_CHAIN_BYTES)
            try:
                chain = read_chain(pem or b"")
                facts = facts_of(chain[0])
            except CertificateError:
                continue
            yield facts, chain


def live_changed_at(store: Store, domain_name: str) -> datetime | None:
    """Return when domains/<name> was last changed or put in its place; None where there is none."""
    domains = store.domains()
    if domains is None:
        return None
    with domains:
        status = domains.stat(folder_name(domain_name))
    # the change of status: an exchange of folders leaves the modification time as it was
    return None if status is None else datetime.fromtimestamp(status.st_ctime, UTC)


def _live_folder(store: Store, domain: ManagedDomain) -> Folder | None:
    domains = store.domains()
    if domains is None:
        return None
    with domains:
        return domains.open(folder_name(domain.name))


def _read_installed(folder: Folder, spec: KeySpec) -> InstalledCertificate:
    chain = folder.read(spec.pubcert_name, max_bytes=MAX_CHAIN_BYTES)
    if chain is None:
        return InstalledCertificate(spec)
    pem = folder.read(spec.privkey_name, max_bytes=MAX_KEY_BYTES)
    if pem is None:
        return InstalledCertificate(spec, fault=f"{spec.privkey_name} is missing")
    try:
        leaf = read_leaf(chain)
        facts = facts_of(leaf)
        is_pair = fits(key_from_pem(pem), leaf)
    except CertificateError as error:
        return InstalledCertificate(spec, fault=error.message)
    if not is_pair:
        return InstalledCertificate(
            spec, fault=f"{spec.pubcert_name} does not belong to {spec.privkey_name}"
        )
    return InstalledCertificate(spec, facts)
