"""The CA behind the faulting proxy, shared by the session, and sites that use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.behind_proxy import PROVEN, SitesBehindProxy
from tests.parts import FaultingProxy, Pebble


@pytest.fixture(scope="session")
def shared_proxy(session_folder: Path) -> Iterator[FaultingProxy]:
    """A proxy before a Pebble that remembers every proof and refuses no nonce."""
    folder = session_folder / "behind-proxy"
    with (
        Pebble(
            folder / "ca",
            always_valid=True,
            nonce_reject=0,
            authz_reuse=100,
            orders_per_page=1000,  # lost orders are looked for on twenty pages at most
            blocklist=["refused.example"],
        ) as ca,
        FaultingProxy(folder, ca) as proxy,
    ):
        yield proxy


@pytest.fixture
def proxy(shared_proxy: FaultingProxy) -> Iterator[FaultingProxy]:
    """The same without any rule, and nothing counted."""
    shared_proxy.expect()
    yield shared_proxy
    shared_proxy.expect()


@pytest.fixture(scope="session")
def sites_with_account(session_folder: Path, shared_proxy: FaultingProxy) -> SitesBehindProxy:
    """A store that holds an account alone, for which the CA has seen proof of one name."""
    sites = SitesBehindProxy(session_folder / "with-account", shared_proxy)
    shared_proxy.expect()
    sites.add(PROVEN)
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    shutil.rmtree(sites.store / "staging")
    for name in ("pending", "attempts"):
        shutil.rmtree(sites.store / "mdconnector" / name)
    return sites


@pytest.fixture
def sites(
    parts_folder: Path, sites_with_account: SitesBehindProxy, proxy: FaultingProxy
) -> SitesBehindProxy:
    """A copy of it: one domain without a certificate, a warm account, orders that come `ready`."""
    return sites_with_account.copy(parts_folder / "sites")


@pytest.fixture
def new_sites(parts_folder: Path, proxy: FaultingProxy) -> SitesBehindProxy:
    """The same without any store: no account yet."""
    sites = SitesBehindProxy(parts_folder / "new", proxy)
    sites.add(PROVEN)
    return sites
