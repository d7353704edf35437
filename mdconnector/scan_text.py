"""What scan found as plain lines: the domains or the tree, and the findings.

Rules: no box characters, no colour; what is shown is what JSON tells. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mdconnector.managed_domain import Finding, ManagedDomain, VirtualHost
from mdconnector.outcomes.scan import Paste, ScanResult, TreeEntry
from mdconnector.printable import escaped, printable


def scan_lines(result: ScanResult, *, quiet: bool) -> list[str]:
    """Return the lines of scan: who renews, the domains, then the findings.

    A tree, where it is asked for, stands in place of all but the findings.
    """
    lines: list[str] = []
    if result.tree is not None:
        lines += tree_lines(result.tree)
    elif not quiet:
        lines += [result.who_renews, f"store: {result.store_path}"]
        lines += [f"assumed: {text}" for text in result.assumptions]
        lines += [line for domain in result.domains for line in _domain_lines(domain)]
        lines += _candidate_lines(result.candidates)
        lines += paste_lines(result.pastes)
    lines += [finding_line(finding) for finding in result.findings]
    if result.agrees and not quiet:
        lines.append(AGREES)
    return lines


AGREES = "verified: Apache itself reads the same"


def tree_lines(entries: Iterable[TreeEntry], depth: int = 0) -> Iterator[str]:
    """Return a line for each directive: its place, indented by its depth name and arguments."""
    for entry in entries:
        used_at = "".join(f" used at {place}" for place in entry.at.used_at)
        name = f"<{entry.name}" if entry.is_section else entry.name
        text = f"{name} {entry.args}".rstrip() + (">" if entry.is_section else "")
        yield escaped(f"{entry.at}{used_at}: {'  ' * depth}{text}")
        yield from tree_lines(entry.children, depth + 1)


SHOWN_PASTES = 5


def paste_lines(pastes: Sequence[Paste]) -> list[str]:
    """Return the lines to put into virtual hosts, ready to be copied."""
    lines = []
    for paste in pastes[:SHOWN_PASTES]:
        lines.append(f"put into the virtual host of {paste.domain} at {paste.vhost_at}:")
        lines += [f"    {line}" for line in paste.lines]
    if len(pastes) > SHOWN_PASTES:
        lines.append(
            f"and likewise for {len(pastes) - SHOWN_PASTES} more: mdconnector scan NAME shows them"
        )
    return lines


def _domain_lines(domain: ManagedDomain) -> Iterable[str]:
    keys = ", ".join(spec.label for spec in domain.key_specs)
    yield f"{domain.name}  {keys}  {domain.effective_ca_urls[0]}  ({domain.declared_at})"
    if len(domain.names) > 1:
        yield f"    also {', '.join(domain.names[1:])}"
    if not domain.used:
        yield "    no vhost uses it"


def _candidate_lines(candidates: Sequence[VirtualHost]) -> list[str]:
    if not candidates:
        return []
    lines = ["no managed domain is declared; these virtual hosts could be managed:"]
    lines += [
        f"    {vhost.server_name} ({vhost.declared_at}): add 'MDomain {vhost.server_name}' above it"
        for vhost in candidates
    ]
    return lines


def finding_line(finding: Finding) -> str:
    """Return a finding as one line: severity, place, what is wrong, what to do, code."""
    return printable(f"{finding.severity}: {finding}; {finding.hint} [{finding.code}]", 2000)
