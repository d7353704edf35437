"""mod_md's JSON files: what we write is what mod_md writes, what we read may be anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.keys import KeySpec
from mdconnector.managed_domain import ExternalAccount, ManagedDomain, RenewMode, SourceLine, Window
from mdconnector.store.records import (
    RecordError,
    StoredAccount,
    parse_account,
    parse_md,
    parse_order,
    parse_store,
    render_account,
    render_finished_job,
    render_md,
    render_store,
)

AT = SourceLine("/etc/apache2/sites-enabled/a.conf", 1)
DIRECTORY = "https://ca.example/dir"
RICH = ManagedDomain(
    name="a.example",
    names=("a.example", "www.a.example"),
    declared_at=AT,
    configured_key_specs=(KeySpec("RSA", 3072), KeySpec("EC", curve="P-256")),
    ca_urls=(DIRECTORY, "https://other.example/dir"),
    agreement="accepted",
    contact="mailto:admin@a.example",
    eab=ExternalAccount("kid-1", "c2VjcmV0"),
    challenges=("http-01", "dns-01"),
    renew_mode=RenewMode.MANUAL,
    warn_window=Window(duration=timedelta(days=14)),
    must_staple=True,
    stapling=True,
    require_https="temporary",
    profile="shortlived",
    dns01_command="/bin/true x",
    ca_certificates="/etc/ca.pem",
    section_settings=frozenset({"cmd-dns-01"}),
    static_pairs=(("/c.pem", "/k.pem"),),
    acme_tls_names=("a.example",),
)
PLAIN = ManagedDomain(name="b.example", names=("b.example",), declared_at=AT)

RICH_JSON = """{
  "name": "a.example",
  "domains": [
    "a.example",
    "www.a.example"
  ],
  "contacts": [
    "mailto:admin@a.example"
  ],
  "transitive": 1,
  "ca": {
    "account": "ACME-ca.example-0000",
    "proto": "ACME",
    "url": "https://ca.example/dir",
    "urls": [
      "https://ca.example/dir",
      "https://other.example/dir"
    ],
    "agreement": "accepted",
    "challenges": [
      "http-01",
      "dns-01"
    ]
  },
  "privkey": [
    {
      "type": "RSA",
      "bits": 3072
    },
    {
      "type": "EC",
      "curve": "P-256"
    }
  ],
  "state": 2,
  "renew-mode": 0,
  "renew-window": "33%",
  "warn-window": "14d",
  "require-https": "temporary",
  "must-staple": true,
  "proto": {
    "acme-tls/1": [
      "a.example"
    ]
  },
  "cert-files": [
    "/c.pem"
  ],
  "pkey-files": [
    "/k.pem"
  ],
  "stapling": true,
  "cmd-dns-01": "/bin/true x",
  "profile": "shortlived",
  "profile-mandatory": false,
  "ari-renewals": true
}"""


def test_md_json_has_mod_mds_keys_in_its_order() -> None:
    written = render_md(RICH, ca_url=DIRECTORY, account_id="ACME-ca.example-0000")
    assert written.decode() == RICH_JSON


def test_md_json_leaves_out_what_is_not_set() -> None:
    record = json.loads(render_md(PLAIN, ca_url=DIRECTORY, account_id=None))
    assert record["contacts"] == []
    assert record["ca"].keys() == {"proto", "url", "urls"}
    assert "privkey" not in record
    assert "profile" not in record


def test_md_json_never_holds_the_binding() -> None:
    assert b"c2VjcmV0" not in render_md(RICH, ca_url=DIRECTORY, account_id=None)


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        (KeySpec("Default"), {"type": "Default"}),
        (KeySpec("RSA", 4096), {"type": "RSA", "bits": 4096}),
        (KeySpec("EC", curve="secp384r1"), {"type": "EC", "curve": "secp384r1"}),
    ],
)
def test_single_key_spec_is_an_object_and_is_read_back(
    spec: KeySpec, written: dict[str, object]
) -> None:
    domain = ManagedDomain("b.example", ("b.example",), AT, configured_key_specs=(spec,))
    text = render_md(domain, ca_url=DIRECTORY, account_id=None)
    assert json.loads(text)["privkey"] == written
    assert parse_md(text).key_specs == (spec,)


def test_md_json_is_read_back() -> None:
    md = parse_md(render_md(RICH, ca_url=DIRECTORY, account_id="ACME-x-0000"))
    assert (md.name, md.ca_url, md.account_id) == ("a.example", DIRECTORY, "ACME-x-0000")
    assert md.key_specs == RICH.key_specs


def test_md_json_without_a_key_spec_means_rsa() -> None:
    assert [spec.privkey_name for spec in parse_md(b'{"name": "a.example"}').key_specs] == [
        "privkey.pem"
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"nonsense",
        b"{}",
        b'{"name": 1}',
        b'{"name": "a.example", "ca": []}',
        b'{"name": "a.example", "ca": {"url": 5}}',
        b'{"name": "a.example", "privkey": "RSA"}',
        b'{"name": "a.example", "privkey": {"type": "DSA"}}',
        b'{"name": "a.example", "privkey": [{"type": "EC"}]}',
        b"[" * 100_000,
        b'{"name": "\xff"}',
    ],
)
def test_md_json_that_says_something_else_is_an_error(text: bytes) -> None:
    with pytest.raises(RecordError):
        parse_md(text)


def test_finished_job_keeps_the_watchdog_away() -> None:
    now = datetime(2026, 6, 1, 8, 15, 3, tzinfo=UTC)
    job = json.loads(render_finished_job("a.example", now=now, valid_from=now - timedelta(hours=1)))
    assert (job["finished"], job["notified-renewed"], job["errors"]) == (True, True, 0)
    assert job["last-run"] == "Mon, 01 Jun 2026 08:15:03 GMT"
    assert job["valid-from"] == "Mon, 01 Jun 2026 07:15:03 GMT"
    assert "message-renewed" in [entry["type"] for entry in job["log"]["entries"]]


def test_dates_are_those_of_rfc_822() -> None:
    moment = datetime(2026, 3, 4, tzinfo=UTC)
    days = [moment + timedelta(days=30 * month) for month in range(12)]
    for now in days:
        written = render_finished_job("a.example", now=now, valid_from=now)
        assert format_datetime(now, usegmt=True) in written.decode()


ACCOUNT = StoredAccount(
    id="ACME-ca.example-0000",
    url="https://ca.example/acct/1",
    ca_url=DIRECTORY,
    contact=("mailto:a@a.example",),
    orders="https://ca.example/acct/1/orders",
    eab_kid="kid-1",
    eab_hmac="c2VjcmV0",
)


def test_account_json_is_mod_mds() -> None:
    # as mod_md 2.6.10 wrote it for Pebble, with other addresses
    assert (
        render_account(ACCOUNT).decode()
        == """{
  "status": "valid",
  "url": "https://ca.example/acct/1",
  "ca-url": "https://ca.example/dir",
  "contact": [
    "mailto:a@a.example"
  ],
  "orders": "https://ca.example/acct/1/orders",
  "eab": {
    "kid": "kid-1",
    "hmac": "c2VjcmV0"
  }
}"""
    )


def test_account_json_is_read_back() -> None:
    assert parse_account(render_account(ACCOUNT), ACCOUNT.id) == ACCOUNT


def test_half_a_binding_is_none() -> None:
    text = b'{"url": "u", "ca-url": "c", "eab": {"kid": "k"}}'
    account = parse_account(text)
    assert (account.eab_kid, account.eab_hmac, account.status) == (None, None, "unknown")


@pytest.mark.parametrize(
    ("ca_url", "eab", "expected"),
    [
        (DIRECTORY, ExternalAccount("kid-1", "c2VjcmV0"), True),
        (DIRECTORY + "/", ExternalAccount("kid-1", "c2VjcmV0"), False),
        (DIRECTORY, ExternalAccount("kid-2", "c2VjcmV0"), False),
        (DIRECTORY, ExternalAccount("kid-1", "b3RoZXI"), False),
        (DIRECTORY, None, False),
    ],
)
def test_account_matches_by_directory_and_binding_to_the_byte(
    ca_url: str, eab: ExternalAccount | None, expected: bool
) -> None:
    assert ACCOUNT.matches(ca_url, eab) is expected


def test_account_does_not_show_its_binding() -> None:
    assert repr(ACCOUNT) == (
        "StoredAccount('ACME-ca.example-0000', 'https://ca.example/acct/1', "
        "'https://ca.example/dir', 'valid')"
    )


@given(st.binary(min_size=48, max_size=48))
def test_any_store_key_survives_being_written_and_read(passphrase: bytes) -> None:
    assert parse_store(render_store(passphrase)) == passphrase


_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_KEYS = ("name", "ca", "privkey", "url", "ca-url", "eab", "contact", "store", "key", "status")


@given(st.dictionaries(st.sampled_from(_KEYS), _ANY_JSON))
def test_any_json_is_read_or_refused(record: dict[str, object]) -> None:
    text = json.dumps(record).encode()
    for parse in (parse_md, parse_account, parse_store):
        try:
            parse(text)
        except RecordError:
            continue


@given(st.binary())
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    for parse in (parse_md, parse_account, parse_store):
        with pytest.raises(RecordError):
            parse(text)


# --- whole texts ---------------------------------------------------------------------------------


def test_finished_job_is_written_as_mod_md_reads_it() -> None:
    now = datetime(2026, 6, 1, 8, 15, 3, tzinfo=UTC)
    text = render_finished_job(
        "a.example",
        now=now,
        valid_from=now - timedelta(hours=1),
        told={"installed": now - timedelta(days=1)},
    )
    when, from_when = "Mon, 01 Jun 2026 08:15:03 GMT", "Mon, 01 Jun 2026 07:15:03 GMT"
    assert json.loads(text) == {
        "name": "a.example",
        "finished": True,
        "notified": True,
        "notified-renewed": True,
        "last-run": when,
        "valid-from": from_when,
        "errors": 0,
        "last": {"status": 0, "detail": "staged by mdconnector", "valid-from": from_when},
        "log": {
            "entries": [
                {"when": when, "type": "message-renewed"},
                {"when": when, "type": "finished"},
                {"when": when, "type": "starting"},
                {"when": "Sun, 31 May 2026 08:15:03 GMT", "type": "message-installed"},
            ]
        },
    }


def test_what_a_section_says_of_its_own_is_in_its_md_json() -> None:
    values = {
        "dns01_command": "/bin/dns é",
        "proxy_url": "http://proxy.example:3128",
        "ca_certificates": "/etc/ca.pem",
        "proxy_ca_certificates": "/etc/proxy.pem",
    }
    keys = ("cmd-dns-01", "proxy-url", "ca-certs", "proxy-ca-certs")
    own = ManagedDomain(
        "b.example",
        ("b.example",),
        AT,
        section_settings=frozenset(keys),
        **values,  # type: ignore[arg-type] # all of them texts
    )
    written = render_md(own, ca_url=DIRECTORY, account_id=None)
    record = json.loads(written)
    assert {key: record[key] for key in keys} == dict(zip(keys, values.values(), strict=True))
    assert "/bin/dns é".encode() in written, "characters are written as they are"
    server = ManagedDomain("b.example", ("b.example",), AT, **values)  # type: ignore[arg-type] # as above
    assert not set(keys) & json.loads(render_md(server, ca_url=DIRECTORY, account_id=None)).keys()


def test_a_spec_for_rsa_of_the_least_size_names_it() -> None:
    domain = ManagedDomain("b.example", ("b.example",), AT, configured_key_specs=(KeySpec("RSA"),))
    record = json.loads(render_md(domain, ca_url=DIRECTORY, account_id=None))
    assert record["privkey"] == {"type": "RSA", "bits": 2048}


def test_agreement_of_an_account_is_kept() -> None:
    agreed = StoredAccount("", "https://ca.example/acct/1", DIRECTORY, agreement="https://ca/tos")
    assert json.loads(render_account(agreed))["agreement"] == "https://ca/tos"
    assert parse_account(render_account(agreed)) == agreed


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (b'{"url": "https://ca.example/o/1"}', "https://ca.example/o/1"),
        (b'{"url": ""}', None),
        (b"{}", None),
    ],
)
def test_url_of_an_order_of_mod_md(text: bytes, url: str | None) -> None:
    assert parse_order(text) == url


# --- what is wrong with a file, in words ---------------------------------------------------------


def store_of(version: object, key: object = "A" * 64) -> bytes:
    return json.dumps({"store": {"version": version}, "key": key}).encode()


MIGRATE = "; start Apache's mod_md once to migrate it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (store_of("3.0"), "it names no version"),
        (store_of(None), "it names no version"),
        (store_of(True), "it names no version"),
        (store_of(0), "it names no version"),
        (store_of(3.1), "its version is 3.1, newer than 3.0"),
        (store_of(2.9), f"its version is 2.9{MIGRATE}"),
        (store_of(1), f"its version is 1{MIGRATE}"),
        (store_of(0.5), f"its version is 0.5{MIGRATE}"),
        (store_of(3, "A" * 60), "its key has not 48 bytes"),
        (store_of(3, "A" * 62), "its key has not 48 bytes"),
        (store_of(3, "A" * 63), "its key has not 48 bytes"),
        (store_of(3, "A" * 65), "its key is not base64url"),
        (store_of(3, "A" * 64 + "!!!!"), "its key is not base64url"),
        (store_of(3, "é" * 64), "its key is not base64url"),
        (store_of(3, ""), "its member 'key' is missing or of the wrong type"),
        (b'{"store": []}', "its member 'store' is missing or of the wrong type"),
        (b"{", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it is no JSON object"),
    ],
)
def test_a_store_that_cannot_be_used_says_why(text: bytes, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_store(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"name": "a", "privkey": 5}', "its member 'privkey' is of the wrong type"),
        (
            b'{"name": "a", "privkey": {"type": "DSA"}}',
            "its member 'privkey' names an unknown kind of key",
        ),
        (
            b'{"name": "a", "privkey": {"type": "EC", "curve": ""}}',
            "its member 'curve' is missing or of the wrong type",
        ),
        (b'{"name": ""}', "its member 'name' is missing or of the wrong type"),
    ],
)
def test_an_md_json_that_cannot_be_read_says_why(text: bytes, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_md(text)
    assert str(caught.value) == message


def test_contacts_of_an_account_are_texts() -> None:
    with pytest.raises(RecordError) as caught:
        parse_account(b'{"url": "u", "ca-url": "c", "contact": ["mailto:a@b", 5]}')
    assert str(caught.value) == "its member 'contact' is of the wrong type"
    assert parse_account(b'{"url": "u", "ca-url": "c", "contact": ""}').contact == ()
