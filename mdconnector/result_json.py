"""Results as JSON: one object, keys in snake_case, times in RFC 3339 UTC (see docs/json.md).

Rules: keys may be added, meanings never change; everything foreign has been through `printable`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mdconnector.certificates import CertificateFacts
from mdconnector.errors import MdConnectorError
from mdconnector.managed_domain import Finding, ManagedDomain
from mdconnector.outcomes import Result
from mdconnector.outcomes.account import AccountOutcome, AccountRun
from mdconnector.outcomes.order import OrderOutcome, OrderRun
from mdconnector.outcomes.promote import PromoteRun, PromotionOutcome
from mdconnector.outcomes.revoke import RevocationOutcome, RevocationRun
from mdconnector.outcomes.scan import ScanResult, TreeEntry
from mdconnector.outcomes.status import DomainStatus, StatusResult
from mdconnector.printable import printable
from mdconnector.renewal import LastError
from mdconnector.status_text import days_left

if TYPE_CHECKING:
    from mdconnector.particulars import Particulars

JSON_VERSION = 1

_encode = json.JSONEncoder(check_circular=False).encode
"""what is shown was made here, and holds nothing of itself"""


def render(result: Result) -> str:
    """Return the object that --json prints."""
    return _dump(result_to_json(result))


def render_error(error: MdConnectorError, command: str | None) -> str:
    """Return the object of a run that ended before any domain."""
    head = {"version": JSON_VERSION, "command": command}
    body = {"type": error.type, "detail": str(error), "hint": error.hint}
    return _dump({**head, "error": body})


def result_to_json(result: Result) -> dict[str, Any]:
    """Return the one object that --json prints."""
    head: dict[str, Any] = {"version": JSON_VERSION, "command": result.command}
    match result:
        case ScanResult():
            domains = [_managed_to_json(domain) for domain in result.domains]
            findings = [_finding_to_json(finding) for finding in result.findings]
            body: dict[str, Any] = {
                "store": result.store_path,
                "domains": domains,
                "findings": findings,
            }
            if result.tree is not None:
                body["directives"] = [_entry_to_json(entry) for entry in result.tree]
            return head | body
        case OrderRun():
            domains = [_order_to_json(domain) for domain in result.domains]
            return {**head, "domains": domains, "findings": _broken_to_json(result)}
        case PromoteRun():
            domains = [_promotion_to_json(domain) for domain in result.domains]
            findings = _broken_to_json(result)
            return {**head, "domains": domains, "reload": result.reload, "findings": findings}
        case StatusResult():
            domains = [_status_to_json(domain, result.now) for domain in result.domains]
            findings = [_finding_to_json(one) for one in result.findings]
            return {**head, "domains": domains, "findings": findings}
        case RevocationRun():
            return {**head, "domains": [_revocation_to_json(one) for one in result.domains]}
        case AccountRun():
            accounts = [_account_to_json(one) for one in result.accounts]
            return {**head, "action": result.action, "accounts": accounts}


def _managed_to_json(domain: ManagedDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "names": domain.names,
        "ca_urls": domain.effective_ca_urls,
        "key_specs": [spec.label for spec in domain.key_specs],
        "challenges": domain.challenges,
        "renew_mode": domain.renew_mode.name.lower(),
        "renewed_by": domain.renewed_by,
        "assumed": domain.assumed,
        "contact": domain.contact,
        "has_eab": domain.eab is not None,
        "profile": domain.profile,
        "must_staple": domain.must_staple,
        "static": bool(domain.static_pairs),
        "used": domain.used,
        "declared_at": str(domain.declared_at),
        "vhosts": [
            {
                "server_name": vhost.server_name,
                "addresses": [str(address) for address in vhost.addresses],
                "ssl": vhost.ssl,
                "declared_at": str(vhost.declared_at),
            }
            for vhost in domain.vhosts
        ],
    }


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "at": finding.at,
        "message": finding.message,
        "hint": finding.hint,
        "domain": finding.domain,
    }


def _entry_to_json(entry: TreeEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "args": entry.args,
        "words": entry.words,
        "section": entry.is_section,
        "file": entry.at.file,
        "line": entry.at.line,
        "used_at": [str(place) for place in entry.at.used_at],
        "children": [_entry_to_json(child) for child in entry.children],
    }


def _broken_to_json(result: OrderRun | PromoteRun) -> list[dict[str, Any]]:
    return [_finding_to_json(one.finding) for one in result.broken_files]


def _order_to_json(domain: OrderOutcome) -> dict[str, Any]:
    return {
        "name": domain.name,
        "outcome": domain.outcome,
        "detail": domain.detail,
        "reasons": list(domain.reasons),
        "certificates": [_facts_to_json(facts) for facts in domain.certificates],
        "renew_at": _time(domain.renew_at),
        "next_try": _time(domain.next_try),
        "error": _error_to_json(domain.error),
    }


def _promotion_to_json(domain: PromotionOutcome) -> dict[str, Any]:
    return {
        "name": domain.name,
        "outcome": domain.outcome,
        "detail": domain.detail,
        "certificates": [_facts_to_json(facts) for facts in domain.certificates],
        "served": domain.served,
        "error": _error_to_json(domain.error),
    }


def _revocation_to_json(domain: RevocationOutcome) -> dict[str, Any]:
    return {
        "name": domain.name,
        "outcome": domain.outcome,
        "detail": domain.detail,
        "certificates": [_facts_to_json(facts) for facts in domain.certificates],
        "error": _error_to_json(domain.error),
    }


def _account_to_json(account: AccountOutcome) -> dict[str, Any]:
    return {
        "id": account.id or None,
        "ca_url": account.ca_url or None,
        "url": account.url or None,
        "kid": account.kid,
        "status": account.status or None,
        "key_spec": account.key_label or None,
        "contact": list(account.contact),
        "domains": list(account.domains),
        "detail": account.detail,
        "error": _error_to_json(account.error),
    }


def _status_to_json(domain: DomainStatus, now: datetime) -> dict[str, Any]:
    from mdconnector.check import judge

    staged, pending, served = domain.staged, domain.pending, domain.served
    verdict = judge(domain, now)
    return {
        "name": domain.name,
        "names": domain.names,
        "state": domain.state,
        "detail": domain.detail,
        "not_after": _time(domain.not_after),
        "days_left": days_left(domain.not_after, now) if domain.not_after else None,
        "renew_at": _time(domain.renew_at),
        "warn_at": _time(min((one.warn_at for one in domain.lifetimes), default=None)),
        "certificates": [_facts_to_json(one.facts) for one in domain.live if one.facts is not None],
        "staged": staged
        and {
            "since": _time(staged.since),
            "certificates": [_facts_to_json(facts) for facts in staged.certificates],
        },
        "pending": pending and {"since": _time(pending.since), "order_url": pending.order_url},
        "last_error": _error_to_json(domain.last_error),
        "next_try": _time(domain.next_try),
        "errors": domain.errors,
        "failing_since": _time(domain.failing_since),
        "last_success": _time(domain.last_success),
        "ca_url": domain.ca_url,
        "served": served.words if served else None,
        "served_equals_stored": served.is_stored if served else None,
        "check": {"level": verdict.level.name.lower(), "reasons": verdict.reasons},
        "in_full": domain.in_full and _particulars_to_json(domain.in_full),
    }


def _particulars_to_json(full: Particulars) -> dict[str, Any]:
    account = full.account
    return {
        "chains": [
            {
                "key_spec": chain.key_label,
                "names": chain.names,
                "links": [
                    {
                        "subject": link.subject,
                        "issuer": link.issuer,
                        "not_after": _time(link.not_after),
                        "sha256": link.sha256,
                    }
                    for link in chain.links
                ],
            }
            for chain in full.chains
        ],
        "account": account
        and {
            "id": account.id,
            "ca_url": account.ca_url,
            "url": account.url,
            "kid": account.kid,
        },
        "next": {"at": _time(full.next_step.at), "detail": full.next_step.words},
        "runs": [
            {
                "at": _time(run.at),
                "command": run.command,
                "outcome": run.outcome,
                "detail": run.detail,
            }
            for run in full.runs
        ],
        "shown": [
            {
                "address": one.address,
                "port": one.port,
                "server_name": one.server_name,
                "declared_at": one.vhost_at,
                "key_spec": one.key_label,
                "serial": one.serial,
                "sha256": one.sha256,
                "equals_stored": one.is_stored,
                "fault": one.fault,
            }
            for one in full.shown
        ],
    }


def _facts_to_json(facts: CertificateFacts) -> dict[str, Any]:
    return {
        "key_spec": facts.key_label,
        "not_before": _time(facts.not_before),
        "not_after": _time(facts.not_after),
        "serial": f"{facts.serial:x}",
        "sha256": facts.sha256,
        "issuer": printable(facts.issuer),
    }


def _error_to_json(error: LastError | None) -> dict[str, Any] | None:
    return {"type": error.type, "detail": error.detail, "hint": error.hint} if error else None


def _dump(value: dict[str, Any]) -> str:
    """Return an object with a line for each entry: Python's own indentation is slow."""
    entries = (f"  {_encode(key)}: {_dump_entry(entry)}" for key, entry in value.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _dump_entry(entry: Any) -> str:
    if not isinstance(entry, list) or not entry:
        return _encode(entry)
    return "[\n" + ",\n".join(f"    {_encode(one)}" for one in entry) + "\n  ]"


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None
