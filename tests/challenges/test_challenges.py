"""mdconnector.challenges: all names of an order are set up, or nothing of it remains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdconnector.challenges import (
    ChallengeSite,
    ChallengeType,
    Offer,
    OfferedAuthorization,
    Setups,
    Trace,
    set_up,
    tear_down,
    traces_from_json,
    traces_to_json,
)
from mdconnector.errors import ChallengeError, ErrorClass
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.tree import Store
from tests.challenges.conftest import (
    ANSWER,
    TOKEN,
    authorization,
    key_authorization,
    managed_domain,
    site,
    vhost,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Memory:
    """What the caller has written down: each state, and what lay on the disk at that moment."""

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self.states: list[tuple[Trace, ...]] = []
        self.seen: list[object] = []
        self._look = look

    def __call__(self, traces: Sequence[Trace]) -> None:
        self.states.append(traces_from_json(json.loads(json.dumps(traces_to_json(traces)))))
        self.seen.append(self._look())


def prepare(
    authorizations: Sequence[OfferedAuthorization],
    store: Store,
    *,
    domain: ManagedDomain | None = None,
    here: ChallengeSite | None = None,
    memory: Memory | None = None,
) -> Setups:
    return set_up(
        authorizations,
        domain or managed_domain(),
        here or site("*:443", "*:80"),
        store=store,
        key_authorization=key_authorization,
        remember=memory or Memory(),
        now=NOW,
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_hook(folder: Path, script: str) -> str:
    hook = folder / "dns"
    hook.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{script}\n')
    hook.chmod(0o755)
    return str(hook)


def calls(folder: Path) -> list[str]:
    return [line.rpartition(" ")[0] for line in (folder / "calls").read_text().splitlines()]


def test_answers_name_the_challenge_to_be_told_to_the_ca(store: Store) -> None:
    setups = prepare([authorization()], store)
    (answer,) = setups.answers
    assert answer.name == "shop.example.org"
    assert answer.type is ChallengeType.HTTP_01
    assert answer.url == "https://ca.test/http-01"
    assert files(store.path / "challenges") == ["shop.example.org/acme-http-01.txt"]
    assert tear_down(setups.traces, store) == ()
    assert files(store.path / "challenges") == []


def test_each_piece_is_remembered_before_it_is_made(store: Store) -> None:
    domain = managed_domain("a.example.org", "b.example.org")
    memory = Memory(lambda: files(store.path / "challenges"))
    offered = [authorization("a.example.org"), authorization("b.example.org")]
    setups = prepare(offered, store, domain=domain, memory=memory)
    assert memory.seen == [[], ["a.example.org/acme-http-01.txt"]]
    assert memory.states == [setups.traces[:1], setups.traces]


def test_next_run_tears_down_what_a_killed_one_remembered(store: Store) -> None:
    memory = Memory()
    prepare([authorization()], store, memory=memory)
    assert tear_down(memory.states[-1], store) == ()
    assert files(store.path / "challenges") == []
    assert tear_down(memory.states[-1], store) == ()


def test_wildcard_and_its_base_are_both_set_up_first_and_torn_down_once_each(
    store: Store, tmp_path: Path
) -> None:
    hook = write_hook(tmp_path, "")
    domain = managed_domain("example.org", "*.example.org", dns01_command=hook)
    other = TOKEN[::-1]
    offered = [
        authorization("example.org", types=("dns-01",)),
        authorization("example.org", wildcard=True, types=("dns-01",), token=other),
    ]
    setups = prepare(offered, store, domain=domain, here=site(dns01_version=2))
    assert [answer.name for answer in setups.answers] == ["example.org", "*.example.org"]
    tear_down(setups.traces, store)
    lines = (tmp_path / "calls").read_text().splitlines()
    assert calls(tmp_path) == [f"{word} example.org" for word in ("setup",) * 2 + ("teardown",) * 2]
    values = [line.rpartition(" ")[2] for line in lines]
    assert values[:2] == values[2:]
    assert values[0] != values[1]


def test_version_1_teardown_is_called_once_for_a_wildcard_and_its_base(
    store: Store, tmp_path: Path
) -> None:
    domain = managed_domain("example.org", "*.example.org", dns01_command=write_hook(tmp_path, ""))
    offered = [
        authorization("example.org", wildcard=wildcard, types=("dns-01",))
        for wildcard in (False, True)
    ]
    tear_down(prepare(offered, store, domain=domain).traces, store)
    assert (tmp_path / "calls").read_text().splitlines()[2:] == ["teardown example.org"]


def test_next_type_is_tried_where_one_cannot_be_set_up(store: Store, tmp_path: Path) -> None:
    hook = write_hook(tmp_path, "test $1 = teardown")
    domain = managed_domain(dns01_command=hook, challenges=("dns-01", "http-01"))
    memory = Memory()
    (answer,) = prepare([authorization()], store, domain=domain, memory=memory).answers
    assert answer.type is ChallengeType.HTTP_01
    assert [len(state) for state in memory.states] == [1, 0, 1]
    assert calls(tmp_path)[0] == "setup shop.example.org"
    assert (tmp_path / "calls").read_text().splitlines()[1:] == ["teardown shop.example.org"]


def test_failure_tells_every_reason_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    hook = write_hook(tmp_path, "echo locked; exit 9")
    domain = managed_domain("a.example.org", "b.example.org", dns01_command=hook)
    offered = [
        authorization("a.example.org", types=("http-01",)),
        authorization("b.example.org", types=("dns-01",)),
    ]
    memory = Memory()
    with pytest.raises(ChallengeError) as caught:
        prepare(offered, store, domain=domain, memory=memory)
    assert str(caught.value).startswith(
        "b.example.org cannot be proved to the CA: it offers dns-01"
    )
    assert "exited with 9: locked" in str(caught.value)
    assert caught.value.error_class is ErrorClass.TRANSIENT
    assert memory.states[-1] == ()
    assert files(store.path / "challenges") == []


def test_refused_authorization_is_found_before_anything_is_made(store: Store) -> None:
    domain = managed_domain("a.example.org", "b.example.org")
    offered = [authorization("a.example.org"), authorization("b.example.org", token="../x")]
    memory = Memory()
    with pytest.raises(ChallengeError):
        prepare(offered, store, domain=domain, memory=memory)
    assert memory.states == []
    assert files(store.path / "challenges") == []


def test_interrupted_set_up_is_torn_down(store: Store) -> None:
    class Interrupt(Memory):
        def __call__(self, traces: Sequence[Trace]) -> None:
            super().__call__(traces)
            if len(traces) == 2:
                raise KeyboardInterrupt

    domain = managed_domain("a.example.org", "b.example.org")
    offered = [authorization("a.example.org"), authorization("b.example.org")]
    with pytest.raises(KeyboardInterrupt):
        prepare(offered, store, domain=domain, memory=Interrupt())
    assert files(store.path / "challenges") == []


def test_teardown_that_fails_is_told_and_the_others_go_on(store: Store, tmp_path: Path) -> None:
    hook = write_hook(tmp_path, "test $1 = setup")
    domain = managed_domain("a.example.org", "b.example.org", dns01_command=hook)
    offered = [
        authorization("a.example.org", types=("dns-01",)),
        authorization("b.example.org", types=("http-01",)),
    ]
    setups = prepare(offered, store, domain=domain)
    (warning,) = tear_down(setups.traces, store)
    assert warning == f"teardown for a.example.org: {hook} exited with 1"
    assert files(store.path / "challenges") == []


def test_document_root_serves_where_mod_md_is_not_loaded(store: Store, parts_folder: Path) -> None:
    (parts_folder / "htdocs").mkdir()
    shop = vhost("shop.example.org", "127.0.0.9:1")._replace(document_root=f"{parts_folder}/htdocs")
    here = site("127.0.0.9:1", vhosts=(shop,), http_port=1, mod_md_loaded=False)
    setups = prepare([authorization()], store, here=here)
    made = parts_folder / "htdocs" / ".well-known" / "acme-challenge" / TOKEN
    assert made.read_text() == ANSWER
    tear_down(setups.traces, store)
    assert list((parts_folder / "htdocs").iterdir()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(
    identifier=st.text(max_size=80) | st.sampled_from(["shop.example.org", "../shop.example.org"]),
    token=st.text(max_size=80) | st.sampled_from([TOKEN, "../" * 9, "/etc/passwd" * 3]),
    kind=st.sampled_from(["http-01", "http-01/..", "dns-01"]),
    wildcard=st.booleans(),
)
def test_hostile_words_of_a_ca_make_no_other_file(
    store: Store, identifier: str, token: str, kind: str, wildcard: bool
) -> None:
    offered = OfferedAuthorization(identifier, wildcard, (Offer(kind, token, "https://ca.test"),))
    before = files(store.path.parent)
    try:
        setups = prepare([offered], store)
    except ChallengeError:
        assert files(store.path.parent) == before
    else:
        made = set(files(store.path.parent)) - set(before)
        assert made == {"md/challenges/shop.example.org/acme-http-01.txt"}
        tear_down(setups.traces, store)
