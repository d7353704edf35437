"""The fault matrix, rows C: what can go wrong with an account and its binding.

Each test names its row, and proves by the rule's hits that its fault was really there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mdconnector.acme.advice import Purpose
from mdconnector.acme.session import Session
from mdconnector.keys import key_to_pem, public_bytes
from mdconnector.store.accounts import account_ids, load_account
from mdconnector.store.tree import Store
from tests.e2e.behind_proxy import (
    ACCOUNT,
    BINDING,
    ORDER,
    PROVEN,
    SitesBehindProxy,
    failure,
    problem,
)
from tests.e2e.plain_sites import PlainSites, line_of, settings_for, ssl_site
from tests.parts import FaultingProxy, Pebble, Rule

pytestmark = pytest.mark.pebble

EAB = "MDExternalAccountBinding"


def account_in(sites: PlainSites) -> tuple[str, rsa.RSAPrivateKey]:
    """Return the URL and the key of the one account that counts."""
    opened = Store.open(
        sites.store,
        httpd_user_uid=None,
        httpd_group_gid=None,
        mod_md_loaded=True,
        create=False,
        read_only=True,
    )
    assert opened is not None
    with opened as store:
        loaded = [load_account(store, one) for one in account_ids(store)]
    ((account, key),) = [one for one in loaded if one is not None and one[0].status == "valid"]
    assert isinstance(key, rsa.RSAPrivateKey)
    return account.url, key


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        ("kid-9 {kid-1}", "the CA does not know the key ID"),
        ("kid-1 {kid-2}", "the HMAC key does not belong to the key ID"),
    ],
    ids=["unknown", "wrong"],
)
def test_matrix_c2_refused_binding_is_tried_once_in_a_run_and_its_key_is_kept(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, binding: str, words: str
) -> None:
    keys = proxy.pebble.eab_keys
    file = new_sites.add(PROVEN, {EAB: binding.format(**keys)})
    done = new_sites.here("renew", "--all")
    line = failure(done)
    assert words in line
    assert line_of(file, EAB) in line
    assert not [key for key in keys.values() if key in done.output]
    assert proxy.count(ACCOUNT, BINDING) == 1
    kept = new_sites.account()
    assert any(path.endswith("key.pem") for path in kept)
    failure(new_sites.here("renew", PROVEN))
    assert proxy.count(ACCOUNT, BINDING) == 2
    assert new_sites.account() == kept


def test_matrix_c2_missing_binding_is_told_before_any_registration(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    new_sites.add(PROVEN, {EAB: None})
    line = failure(new_sites.here("renew", "--all"))
    assert "the CA asks for an external account binding, and none is configured" in line
    assert proxy.count(ACCOUNT) == 0


def test_matrix_c3_padded_hmac_is_accepted_with_a_warning(
    new_sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    file = new_sites.add(PROVEN, {EAB: f"kid-1 {proxy.pebble.eab_keys['kid-1']}="})
    findings = new_sites.here("scan", "--json").json["findings"]
    (about,) = [one for one in findings if one["code"] == "eab-hmac-padded"]
    assert (about["severity"], about["at"]) == ("warning", line_of(file, EAB))
    assert new_sites.here("renew", "--all").exit_code == 0
    assert proxy.count(ACCOUNT, BINDING) == 1


@pytest.mark.parametrize(
    "hmac", ["ab+/" * 8, "c2hvcnQ", "with-a-,-in-it-and-long-enough"], ids=["+/", "short", ","]
)
def test_matrix_c3_hmac_that_cannot_be_meant_fails_its_domain_before_any_request(
    new_sites: SitesBehindProxy, proxy: FaultingProxy, hmac: str
) -> None:
    file = new_sites.add(PROVEN, {EAB: f"kid-1 {hmac}"})
    done = new_sites.here("renew", "--all")
    assert line_of(file, EAB) in failure(done)
    assert hmac not in done.output
    assert proxy.requests == []


def test_matrix_c4_account_that_the_ca_forgot_is_registered_again_with_its_key(
    new_sites: SitesBehindProxy, make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True, nonce_reject=0)
    new_sites.write(PROVEN, ssl_site(PROVEN, settings_for(ca)))
    assert new_sites.here("renew", "--all").exit_code == 0
    url, key = account_in(new_sites)
    ca.restart()
    with ca.recorded() as requests:
        done = new_sites.here("renew", PROVEN, "--force")
    assert done.exit_code == 0, done.output
    assert [one.resource for one in requests].count("/sign-me-up") == 2, "asked for, then made"
    again, same_key = account_in(new_sites)
    assert again != url, "the CA has not forgotten the account"
    assert public_bytes(same_key) == public_bytes(key)
    (account,) = [one for one in stored_accounts(new_sites) if one["url"] == again]
    staged = json.loads((new_sites.store / "staging" / PROVEN / "md.json").read_text())
    assert staged["ca"]["account"] == account["id"], "mod_md would look for the old account"


def stored_accounts(sites: PlainSites) -> list[dict[str, str]]:
    """Return what every account.json says, with its id."""
    files = (sites.store / "accounts").glob("*/account.json")
    return [{"id": file.parent.name, **json.loads(file.read_text())} for file in files]


def test_matrix_c4_another_stored_account_is_taken_before_a_binding_is_spent(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    """The first of two stored accounts of one CA and binding is unknown there."""
    accounts = sites.store / "accounts"
    (known,) = stored_accounts(sites)
    lost = accounts / "ACME-localhost-0001"
    (accounts / known["id"]).rename(accounts / "first")
    shutil.copytree(accounts / "first", accounts / known["id"])
    (accounts / "first").rename(lost)
    gone = accounts / known["id"] / "account.json"
    gone.write_text(gone.read_text().replace(known["url"], f"{known['url']}999"))
    (gone.parent / "account.pem").write_bytes(key_to_pem(rsa.generate_private_key(65537, 2048)))
    done = sites.here("enroll", PROVEN)
    assert done.exit_code == 0, done.output
    assert proxy.count(ACCOUNT, BINDING) == 0
    statuses = {one["id"]: one["status"] for one in stored_accounts(sites)}
    assert statuses == {known["id"]: "unknown", lost.name: "valid"}
    staged = json.loads((sites.store / "staging" / PROVEN / "md.json").read_text())
    assert staged["ca"]["account"] == lost.name


def test_matrix_c5_deactivated_account_stops_without_another_key(
    new_sites: SitesBehindProxy, make_pebble: Callable[..., Pebble]
) -> None:
    ca = make_pebble(always_valid=True, nonce_reject=0)
    new_sites.write(PROVEN, ssl_site(PROVEN, settings_for(ca)))
    assert new_sites.here("renew", "--all").exit_code == 0
    url, key = account_in(new_sites)
    with Session(ca.directory_url, ca_certificates=str(ca.ca_file)) as session:
        deactivate = {"status": "deactivated"}
        answer = session.post(url, deactivate, key=key, kid=url, purpose=Purpose.ACCOUNT)
    assert answer.json("account").text("status") == "deactivated"
    kept = new_sites.account()
    with ca.recorded() as requests:
        line = failure(new_sites.here("renew", PROVEN, "--force"))
    assert "(unauthorized, HTTP 403)" in line
    assert "/sign-me-up" not in [one.resource for one in requests]
    assert new_sites.account() == kept


def test_matrix_c5_unauthorized_account_is_not_replaced(
    sites: SitesBehindProxy, proxy: FaultingProxy
) -> None:
    rule = Rule(problem(403, "unauthorized", "the account is deactivated"), path=ORDER)
    proxy.expect(rule)
    kept = sites.account()
    line = failure(sites.here("renew", "--all"))
    assert "the account is deactivated (unauthorized, HTTP 403)" in line
    assert "create a new ACME account in the CA's portal" in line
    assert (rule.hits, proxy.count(ACCOUNT)) == (1, 0)
    assert sites.account() == kept


@pytest.mark.parametrize("path", [ORDER, ACCOUNT], ids=["order", "account"])
def test_matrix_c6_new_terms_are_shown_and_not_agreed_to(
    sites: SitesBehindProxy, new_sites: SitesBehindProxy, proxy: FaultingProxy, path: str
) -> None:
    place = new_sites if path == ACCOUNT else sites
    terms = "https://ca.example/terms-2027\x1b[31m"
    rule = Rule(
        problem(403, "userActionRequired", "agree to the new terms", instance=terms), path=path
    )
    proxy.expect(rule)
    done = place.here("renew", "--all")
    line = failure(done)
    assert "agree to the new terms (userActionRequired, HTTP 403)" in line
    assert "(see https://ca.example/terms-2027" in line
    assert "\x1b" not in done.output
    assert (rule.hits, proxy.count("", "termsOfServiceAgreed")) == (1, int(path == ACCOUNT))


@pytest.mark.parametrize("name", ["account.pem", "account.json"])
@pytest.mark.parametrize("content", ["", "garbage", "half", "EC"])
def test_matrix_c7_damaged_account_is_left_alone_and_nothing_is_asked(
    sites: SitesBehindProxy, proxy: FaultingProxy, content: str, name: str
) -> None:
    (file,) = (sites.store / "accounts").glob(f"*/{name}")
    text = file.read_text()
    damaged = {"half": text[: len(text) // 2], "EC": EC_KEY if name == "account.pem" else "7"}
    file.write_text(damaged.get(content, content))
    before = sites.account()
    done = sites.here("renew", "--all")
    assert f"{file}: the account cannot be read: " in failure(done, exit_code=3)
    assert "restore it from a backup, or move its folder away" in done.stderr
    assert sites.here("renew", "--all", "--json").exit_code == 3
    assert proxy.requests == []
    assert sites.account() == before
    file.write_text(text)
    sites.heals()
    assert proxy.count(ACCOUNT) == 0


EC_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2
OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r
1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G
-----END PRIVATE KEY-----
"""
"""RFC 9500's P-256 test key"""


def test_matrix_c7_other_accounts_work_on(
    sites: SitesBehindProxy, proxy: FaultingProxy, make_pebble: Callable[..., Pebble]
) -> None:
    """The damage of one account is not that of another CA's domains."""
    ca = make_pebble(always_valid=True)
    sites.write("other", ssl_site("other.example.org", settings_for(ca)))
    (file,) = (sites.store / "accounts").glob("*/account.pem")
    file.write_text("")
    done = sites.here("renew", "--all")
    assert f"{file}: " in failure(done, exit_code=3)
    assert "other.example.org: enrolled: " in done.stdout
    assert proxy.requests == []
