"""The fault matrix, row W6: somebody reloads an Apache with mod_md while sets are staged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from mdconnector.httpd.configuration import load_configuration
from mdconnector.store.pairs import fingerprints_in, is_sound
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from tests.authority import Authority
from tests.e2e.estate import managed_site
from tests.parts import Apache

pytestmark = pytest.mark.apache

NAME = "shop.example"
SETS = 12


def test_matrix_w6_set_that_is_staged_beside_reloads_is_activated_whole_or_not_at_all(
    make_apache: Callable[..., Apache],
) -> None:
    authority = Authority()
    apache = make_apache(sites={NAME: managed_site(NAME)}).start()
    configuration = load_configuration(config=apache.config, sites=None, store=None, environment={})
    (domain,) = configuration.domains
    assert configuration.user is not None
    assert configuration.group is not None
    end = threading.Event()
    reloads: list[int] = []

    def reload() -> None:
        while not end.wait(0.05):
            apache.graceful()
            reloads.append(apache.pid)

    reloader = threading.Thread(target=reload)
    store = Store.open(
        apache.store,
        httpd_user_uid=configuration.user.number,
        httpd_group_gid=configuration.group.number,
        mod_md_loaded=True,
        create=True,
    )
    assert store is not None
    with store:
        reloader.start()
        try:
            seen = []
            for _ in range(SETS):
                pair = authority.credential((NAME,))
                stage(
                    store,
                    domain,
                    (pair,),
                    ca_url="https://ca.example/dir",
                    account_id=None,
                    now=datetime.now(UTC),
                )
                reached = len(reloads) + 2
                while len(reloads) < reached and reloader.is_alive():
                    end.wait(0.01)
                seen.append(live_of(store) == (pair.facts.sha256,))
        finally:
            end.set()
            reloader.join()
        assert seen == [True] * SETS, "each set was live after two whole reloads"
    assert len(reloads) >= SETS
    assert set(reloads) == {apache.pid}, "no httpd ended"


def live_of(store: Store) -> tuple[str, ...]:
    domains = store.domains()
    assert domains is not None
    with domains:
        folder = domains.open(NAME)
        assert folder is not None
        with folder:
            assert is_sound(folder), "half a set is live"
            return fingerprints_in(folder)
