"""mod_md's JSON files as values: md_store.json, md.json, job.json, account.json.

Rules: what is written has mod_md's keys in mod_md's order and jansson's form (two spaces, UTF-8 as
it is, no newline at the end). What is read may hold unknown keys; a member of the wrong type is an
error. Nothing here touches a file.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from mdconnector.keys import DEFAULT_KEY_SPEC, DEFAULT_RSA_BITS, KeySpec
from mdconnector.managed_domain import ExternalAccount, ManagedDomain

_T = TypeVar("_T")

STORE_VERSION = 3.0
PASSPHRASE_BYTES = 48
MAX_RECORD_BYTES = 256 * 1024

MD_STATE_INCOMPLETE = 1
MD_STATE_COMPLETE = 2

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class RecordError(ValueError):
    """A JSON file does not say what it has to say; the text tells what is wrong, never a value."""


class StagedMd(NamedTuple):
    """What a staged md.json says that matters to activation."""

    name: str
    ca_url: str | None
    account_id: str | None
    key_specs: tuple[KeySpec, ...]
    """those of the configuration that was staged: RSA 2048 where it names none"""


class StoredAccount(NamedTuple):
    """An ACME account as account.json keeps it; `id` is its folder in accounts/, or ""."""

    id: str
    url: str
    ca_url: str
    status: str = "valid"
    contact: tuple[str, ...] = ()
    agreement: str | None = None
    orders: str | None = None
    eab_kid: str | None = None
    eab_hmac: str | None = None

    def __repr__(self) -> str:
        return f"StoredAccount({self.id!r}, {self.url!r}, {self.ca_url!r}, {self.status!r})"

    def matches(self, ca_url: str, eab: ExternalAccount | None) -> bool:
        """Say whether the account may be used for this CA and binding.

        Both texts to the byte, or no binding on both sides (mod_md: md_acme_acct_matches_md).
        """
        if self.ca_url != ca_url:
            return False
        if eab is None:
            return self.eab_kid is None
        return (self.eab_kid, self.eab_hmac) == (eab.kid, eab.hmac)


def render_store(passphrase: bytes) -> bytes:
    """Write md_store.json for a new store (mod_md: md_store_fs.c, init_store_file)."""
    return _render({"store": {"version": STORE_VERSION}, "key": _to_base64url(passphrase)})


def parse_store(text: bytes) -> bytes:
    """Return the 48 bytes that encrypt keys in accounts/ and staging/. Raises RecordError."""
    record = _parse(text)
    version = _required(record, "store", dict).get("version")
    if not isinstance(version, int | float) or isinstance(version, bool) or version <= 0:
        raise RecordError("it names no version")
    if version > STORE_VERSION:
        raise RecordError(f"its version is {version}, newer than {STORE_VERSION}")
    if version < STORE_VERSION:
        raise RecordError(f"its version is {version}; start Apache's mod_md once to migrate it")
    passphrase = _from_base64url(_required(record, "key", str))
    if len(passphrase) != PASSPHRASE_BYTES:
        raise RecordError(f"its key has not {PASSPHRASE_BYTES} bytes")
    return passphrase


def render_md(
    domain: ManagedDomain, *, ca_url: str, account_id: str | None, state: int = MD_STATE_COMPLETE
) -> bytes:
    """Write md.json from the configuration (mod_md: md_core.c, md_to_json), without the EAB.

    mod_md reads the binding from its configuration and needs it in account.json alone.
    """
    return _render(
        _without_none(
            {
                "name": domain.name,
                "domains": list(domain.names),
                "contacts": [domain.contact] if domain.contact else [],
                "transitive": int(domain.members_auto),
                "ca": _without_none(
                    {
                        "account": account_id,
                        "proto": "ACME",
                        "url": ca_url,
                        "urls": list(domain.effective_ca_urls),
                        "agreement": domain.agreement,
                        "challenges": list(domain.challenges) or None,
                    }
                ),
                "privkey": _key_specs_to_json(domain.configured_key_specs),
                "state": state,
                "renew-mode": domain.renew_mode.value,
                "renew-window": str(domain.renew_window),
                "warn-window": str(domain.warn_window),
                "require-https": domain.require_https,
                "must-staple": domain.must_staple,
                "proto": {"acme-tls/1": list(domain.acme_tls_names)},
                "cert-files": [pair[0] for pair in domain.static_pairs] or None,
                "pkey-files": [pair[1] for pair in domain.static_pairs] or None,
                "stapling": domain.stapling,
                **_own_settings(domain),
                "profile": domain.profile,
                "profile-mandatory": domain.profile_mandatory,
                "ari-renewals": domain.ari_renewals,
            }
        )
    )


def parse_md(text: bytes) -> StagedMd:
    """Read md.json. Raises RecordError."""
    record = _parse(text)
    ca = _optional(record, "ca", dict) or {}
    return StagedMd(
        name=_required(record, "name", str),
        ca_url=_optional(ca, "url", str),
        account_id=_optional(ca, "account", str),
        key_specs=_key_specs_from_json(record.get("privkey")) or (DEFAULT_KEY_SPEC,),
    )


def parse_order(text: bytes) -> str | None:
    """Read the order's URL out of mod_md's order.json. Raises RecordError."""
    return _optional(_parse(text), "url", str)


def render_finished_job(
    name: str,
    *,
    now: datetime,
    valid_from: datetime,
    told: Mapping[str, datetime] = MappingProxyType({}),
) -> bytes:
    """Write the job.json of a set that is done and told of, so that mod_md's watchdog rests.

    mod_md: md_status.c, job_to_json; the `message-<event>` entries, `renewed` and those of `told`,
    keep it from telling once more.
    """
    when, from_when = _rfc822(now), _rfc822(valid_from)
    log = [
        *((when, kind) for kind in ("message-renewed", "finished", "starting")),
        *((_rfc822(at), f"message-{event}") for event, at in told.items()),
    ]
    return _render(
        {
            "name": name,
            "finished": True,
            "notified": True,
            "notified-renewed": True,
            "last-run": when,
            "valid-from": from_when,
            "errors": 0,
            "last": {"status": 0, "detail": "staged by mdconnector", "valid-from": from_when},
            "log": {"entries": [{"when": at, "type": kind} for at, kind in log]},
        }
    )


def render_account(account: StoredAccount) -> bytes:
    """Write account.json with the EAB it is found by (mod_md: md_acme_acct_to_json)."""
    eab = None
    if account.eab_kid is not None:
        eab = {"kid": account.eab_kid, "hmac": account.eab_hmac}
    return _render(
        _without_none(
            {
                "status": account.status,
                "url": account.url,
                "ca-url": account.ca_url,
                "contact": list(account.contact),
                "agreement": account.agreement,
                "orders": account.orders,
                "eab": eab,
            }
        )
    )


def parse_account(text: bytes, account_id: str = "") -> StoredAccount:
    """Read account.json; a binding counts only with both values. Raises RecordError."""
    record = _parse(text)
    eab = _optional(record, "eab", dict) or {}
    kid, hmac = _optional(eab, "kid", str), _optional(eab, "hmac", str)
    is_bound = kid is not None and hmac is not None
    return StoredAccount(
        id=account_id,
        url=_required(record, "url", str),
        ca_url=_required(record, "ca-url", str),
        status=_optional(record, "status", str) or "unknown",
        contact=_texts(record, "contact"),
        agreement=_optional(record, "agreement", str),
        orders=_optional(record, "orders", str),
        eab_kid=kid if is_bound else None,
        eab_hmac=hmac if is_bound else None,
    )


def _own_settings(domain: ManagedDomain) -> dict[str, object]:
    """The settings that md.json carries only where the domain's own section has them."""
    values = {
        "cmd-dns-01": domain.dns01_command,
        "proxy-url": domain.proxy_url,
        "ca-certs": domain.ca_certificates,
        "proxy-ca-certs": domain.proxy_ca_certificates,
    }
    return {key: value for key, value in values.items() if key in domain.section_settings}


def _key_specs_to_json(specs: tuple[KeySpec, ...]) -> object:
    """One spec is an object, several are a list, none is no member (mod_md: md_crypt.c)."""
    if not specs:
        return None
    records = [_key_spec_to_json(spec) for spec in specs]
    return records[0] if len(records) == 1 else records


def _key_spec_to_json(spec: KeySpec) -> dict[str, object]:
    match spec.kind:
        case "EC":
            return {"type": "EC", "curve": spec.curve}
        case "RSA" if spec.bits >= DEFAULT_RSA_BITS:
            return {"type": "RSA", "bits": spec.bits}
        case kind:
            return {"type": kind}


def _key_specs_from_json(value: object) -> tuple[KeySpec, ...]:
    if value is None:
        return ()
    records = value if isinstance(value, list) else [value]
    return tuple(_key_spec_from_json(record) for record in records)


def _key_spec_from_json(record: object) -> KeySpec:
    if not isinstance(record, dict):
        raise RecordError("its member 'privkey' is of the wrong type")
    kind: Literal["Default", "RSA"]
    match record.get("type"):
        case "EC":
            return KeySpec("EC", curve=_required(record, "curve", str))
        case "RSA" | "Default" as kind:
            return KeySpec(kind, bits=_optional(record, "bits", int) or DEFAULT_RSA_BITS)
        case _:
            raise RecordError("its member 'privkey' names an unknown kind of key")


def _render(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode()


def _parse(text: bytes) -> dict[str, object]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        raise RecordError("it is no JSON") from None
    if not isinstance(record, dict):
        raise RecordError("it is no JSON object")
    return record


def _without_none(record: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if value is not None}


def _required(record: dict[str, object], key: str, kind: type[_T]) -> _T:
    value = record.get(key)
    if not isinstance(value, kind) or value == "":
        raise RecordError(f"its member '{key}' is missing or of the wrong type")
    return value


def _optional(record: dict[str, object], key: str, kind: type[_T]) -> _T | None:
    return None if record.get(key) in (None, "") else _required(record, key, kind)


def _texts(record: dict[str, object], key: str) -> tuple[str, ...]:
    values = _optional(record, key, list) or []
    if not all(isinstance(value, str) for value in values):
        raise RecordError(f"its member '{key}' is of the wrong type")
    return tuple(values)


def _rfc822(moment: datetime) -> str:
    """Write a UTC time as apr_rfc822_date does, whatever the locale."""
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} GMT"


def _to_base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _from_base64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise RecordError("its key is not base64url") from None
