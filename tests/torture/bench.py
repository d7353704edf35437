"""Stores to do trials on, made ready once and copied, and the CA that they know."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdconnector.certificates import chain_to_pem
from mdconnector.store.pending import Pending
from mdconnector.store.staging import stage
from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.parts import FaultingProxy, Pebble
from tests.store.credentials import (
    ACCOUNT_ID,
    CA_URL,
    DOMAIN,
    NAME,
    NEW,
    NOW,
    OLD,
    open_store,
    put_set,
)
from tests.torture.disks import Disk
from tests.torture.fleet import require


class Bench:
    """The CA, and the folder in which stores are made ready."""

    def __init__(self, folder: Path, proxy: FaultingProxy) -> None:
        self.folder = folder
        self.proxy = proxy
        self._made = 0

    def sites(self, folder: Path) -> SitesBehindProxy:
        """Return the sites in a folder, made where it is absent."""
        return SitesBehindProxy(folder, self.proxy)

    def copy(self, template: Path) -> SitesBehindProxy:
        """Copy a template for one trial."""
        return self._copy(template, self.folder)

    def set_out(self, template: Path, disk: Disk) -> SitesBehindProxy:
        """Copy a template to a disk, durably."""
        sites = self._copy(template, disk.folder)
        disk.sync()
        return sites

    def _copy(self, template: Path, to: Path) -> SitesBehindProxy:
        self._made += 1
        return self.sites(template).copy(to / f"{template.name}-{self._made}")

    def without_store(self, name: str) -> Path:
        """Make a template: one domain, no store yet."""
        sites = self.sites(self.folder / name)
        sites.add(PROVEN)
        return sites.folder

    def with_account(self, name: str) -> Path:
        """Make a template: a warm account, and a domain without any certificate."""
        sites = self.sites(self.folder / name)
        sites.add(PROVEN)
        done = sites.here("enroll", PROVEN)
        if done.exit_code != 0:
            raise AssertionError(done.output)
        shutil.rmtree(sites.store / "staging" / PROVEN)
        for part in ("pending", "attempts"):
            shutil.rmtree(sites.store / "mdconnector" / part)
        return sites.folder

    def with_staged_set(self, name: str) -> Path:
        """Make a template: an old set is live, a new one of ours is staged."""
        sites = self.sites(self.folder / name)
        sites.add(NAME, {"MDCertificateAuthority": CA_URL}, more=" ".join(DOMAIN.names[1:]))
        with open_store(sites.store, mod_md_loaded=True) as store:
            put_set(store, "domains", NAME, OLD)
            pending = Pending.load(store, DOMAIN)
            pending.begin(DOMAIN, ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
            pending.save_key(NEW.spec, NEW.key)
            pending.save_chain(NEW.spec, chain_to_pem(NEW.chain))
            stage(store, DOMAIN, (NEW,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=NOW)
        return sites.folder


@contextmanager
def open_bench(*, authz_reuse: int = 100) -> Iterator[Bench]:
    """Start a CA that takes every proof as given, and end it with all that was made.

    `authz_reuse`: percent of the orders for which it remembers the last proof.
    """
    require("pebble")
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-bench-"))
    folder.chmod(0o755)
    try:
        with (
            Pebble(
                folder / "ca",
                always_valid=True,
                nonce_reject=0,
                authz_reuse=authz_reuse,
                orders_per_page=1000,
            ) as ca,
            FaultingProxy(folder, ca) as proxy,
        ):
            yield Bench(folder, proxy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
