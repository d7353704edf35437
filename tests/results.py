"""Results of every kind, as values: for tests of what is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mdconnector.certificates import CertificateFacts
from mdconnector.managed_domain import (
    Address,
    Finding,
    ManagedDomain,
    Severity,
    SourceLine,
    VirtualHost,
)
from mdconnector.outcomes import Result
from mdconnector.outcomes.order import NotLive, Ordered, OrderOutcome, OrderRun
from mdconnector.outcomes.promote import Promoted, PromoteRun, PromotionOutcome, Reload
from mdconnector.outcomes.revoke import RevocationOutcome, RevocationRun, Revoked
from mdconnector.outcomes.scan import ScanResult, TreeEntry
from mdconnector.renewal import LastError
from mdconnector.report import Style, render, render_failures

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
FACTS = CertificateFacts(
    "rsa2048", ("a.example",), NOW, NOW + timedelta(days=90), 0x0ABC, "ff", "CA", False
)
ERROR = LastError("connection", "no answer", "look at the firewall", NOW)


def outcome(word: Ordered, name: str = "a.example", **more: object) -> OrderOutcome:
    """Return what an order run did about one domain."""
    return OrderOutcome(name, word, "the detail", **more)  # type: ignore[arg-type] # a table's row


def promote_run(*domains: PromotionOutcome, **more: object) -> PromoteRun:
    """Return a promotion that reloaded Apache."""
    options: dict[str, object] = {"reload": Reload.RELOADED, "by_name": False}
    return PromoteRun(domains, **(options | more))  # type: ignore[arg-type] # a table's row


def promoted(word: Promoted, **more: object) -> PromotionOutcome:
    """Return what promote did about one domain."""
    return PromotionOutcome("a.example", word, "the detail", **more)  # type: ignore[arg-type] # as above


AT = SourceLine("/etc/a.conf", 3)
VHOST = VirtualHost(
    "a.example",
    (),
    (Address("*", 443), Address("2001:db8::1", 443)),
    True,
    SourceLine("/v.conf", 1),
)


def managed(*more_names: str, **more: Any) -> ManagedDomain:
    """Return a managed domain with more names and settings."""
    return ManagedDomain("a.example", ("a.example", *more_names), AT, **more)


def scan(**more: Any) -> ScanResult:
    """Return what scan found: nothing, unless told."""
    given: dict[str, Any] = {
        "domains": (),
        "findings": (),
        "assumptions": (),
        "who_renews": "mdconnector alone renews",
        "store_path": "/md",
    }
    return ScanResult(**(given | more))


WRONG = Finding(
    "bad-keys", Severity.ERROR, "/etc/a.conf:3", "no such key", "write RSA", "a.example"
)
NOWHERE = Finding("store", Severity.INFO, None, "it is new", "nothing to do")
TREE = (
    TreeEntry(
        "VirtualHost",
        "*:443",
        ("*:443",),
        SourceLine("/a.conf", 1),
        True,
        (
            TreeEntry("SSLEngine", "on", ("on",), SourceLine("/a.conf", 2), False, ()),
            TreeEntry(
                "Use",
                "\x1b",
                ("\x1b",),
                SourceLine("/m.conf", 9, (SourceLine("/a.conf", 3), SourceLine("/b.conf", 4))),
                False,
                (),
            ),
        ),
    ),
    TreeEntry("MDStapling", "", (), SourceLine("/a.conf", 5), False, ()),
)


def renewal(*domains: OrderOutcome, not_live: NotLive, **more: Any) -> OrderRun:
    """Return a run of renew over all."""
    return OrderRun("renew", domains, not_live, False, **more)


NONE_WAITS = NotLive(0, None, False)


def revocation(*failed: LastError | None) -> RevocationRun:
    """Return a revocation that was done, and one for each that failed."""
    done = RevocationOutcome("a.example", Revoked.REVOKED, "rsa2048 1f", (FACTS,), None, "renew it")
    return RevocationRun(
        (
            done,
            *(RevocationOutcome("b.example", Revoked.FAILED, "no", error=one) for one in failed),
        )
    )


def lines_of(result: Result, style: Style = Style()) -> list[str]:  # noqa: B008 - frozen
    """Return what is printed of a result."""
    return render(result, style).splitlines()


def failures_of(result: Result, style: Style = Style()) -> list[str]:  # noqa: B008 - frozen
    """Return what is printed of it on stderr."""
    return render_failures(result, style).splitlines()
