"""scan: show what the configuration declares, and what is wrong with it.

Rules: it contacts nobody and writes nothing; only --verify starts a program, Apache's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mdconnector.commands.loading import open_store, select
from mdconnector.errors import StoreError, UsageError
from mdconnector.examination import examine_disk
from mdconnector.httpd.configuration import Configuration, evaluate_as_httpd
from mdconnector.httpd.doctor import examine, pastes
from mdconnector.httpd.process import default_httpd, find_running
from mdconnector.httpd.tree import tree_of
from mdconnector.managed_domain import Finding, Severity, VirtualHost, is_dns_name
from mdconnector.outcomes.scan import ScanResult


def scan_configuration(
    configuration: Configuration,
    names: Sequence[str],
    now: datetime,
    *,
    shows_tree: bool = False,
    asked_httpd: Path | None = None,
) -> ScanResult:
    """Show what the configuration declares, and what is wrong with it.

    `asked_httpd` is the binary that is asked whether it sees the same.
    """
    domains = select(configuration, names)
    findings = _findings(configuration, now)
    if names:
        chosen = {domain.name for domain in domains}
        findings = tuple(finding for finding in findings if finding.domain in chosen)
    differences = _verify(configuration, asked_httpd)
    return ScanResult(
        domains=domains,
        findings=(*findings, *(differences or ())),
        assumptions=configuration.assumptions,
        who_renews=_who_renews(configuration),
        store_path=str(configuration.store_path),
        candidates=() if configuration.domains else _candidates(configuration),
        pastes=pastes(configuration, domains),
        tree=tree_of(evaluate_as_httpd(configuration).directives) if shows_tree else None,
        agrees=None if differences is None else not differences,
    )


def _verify(configuration: Configuration, httpd: Path | None) -> tuple[Finding, ...] | None:
    if httpd is None:
        return None
    from mdconnector.httpd.verification import verify

    return verify(configuration, httpd)


def httpd_to_ask(configuration: Configuration, httpd: Path | None) -> Path:
    """Return the binary to compare a configuration with. Raises UsageError where there is none."""
    if configuration.main_file is None:
        raise UsageError(
            "--verify asks Apache, which reads a main file and no mere folder of sites",
            hint="name it with --config FILE",
        )
    running = find_running(configuration.pid_file, httpd=httpd)
    found = default_httpd(httpd, running)
    if running is not None:
        running.close()
    if found is None:
        raise UsageError(
            f"there is no executable to ask: {httpd or 'none in the usual places'}",
            hint="name its executable with --httpd FILE",
        )
    return found


def _findings(configuration: Configuration, now: datetime) -> tuple[Finding, ...]:
    """Return what was found while reading, what does not fit together, and what the disk shows."""
    found = (*configuration.findings, *examine(configuration))
    try:
        with open_store(configuration, read_only=True) as store:
            return (*found, *examine_disk(configuration, store, now))
    except StoreError as error:
        hint = error.hint or "see docs/store.md"
        damage = Finding("store", Severity.ERROR, error.path, error.message, hint)
        return (*found, *examine_disk(configuration, None, now), damage)


def _who_renews(configuration: Configuration) -> str:
    if not configuration.domains:
        return "no managed domain is declared, so there is nothing to renew"
    beside = [domain.name for domain in configuration.domains if domain.renewed_by == "mod_md"]
    if not beside:
        return "who renews: mdconnector alone"
    shown = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
    return (
        f"who renews: mod_md's watchdog too, for {shown}, and mdconnector works beside it; "
        "with 'MDRenewMode manual' mdconnector alone renews"
    )


def _candidates(configuration: Configuration) -> tuple[VirtualHost, ...]:
    seen: dict[str, VirtualHost] = {}
    for vhost in configuration.vhosts:
        if is_dns_name(vhost.server_name.lower()):
            seen.setdefault(vhost.server_name.lower(), vhost)
    return tuple(seen.values())
