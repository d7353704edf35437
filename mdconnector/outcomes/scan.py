"""What scan found. Pure."""

from typing import Literal, NamedTuple

from mdconnector.managed_domain import Finding, ManagedDomain, Severity, SourceLine, VirtualHost
from mdconnector.outcomes import EXIT_DONE, EXIT_FAILED


class TreeEntry(NamedTuple):
    """One directive or section that is in force."""

    name: str
    """as written; of a section without `<`"""
    args: str
    """expanded, not split into words"""
    words: tuple[str, ...]
    at: SourceLine
    is_section: bool
    children: tuple["TreeEntry", ...]


class Paste(NamedTuple):
    """Lines to put into a virtual host."""

    domain: str
    vhost_at: str
    lines: tuple[str, ...]


class ScanResult(NamedTuple):
    """The result of scan."""

    domains: tuple[ManagedDomain, ...]
    findings: tuple[Finding, ...]
    assumptions: tuple[str, ...]
    who_renews: str
    """one sentence: mdconnector alone, or beside mod_md's watchdog"""
    store_path: str
    candidates: tuple[VirtualHost, ...] = ()
    """vhosts that could be managed, where nothing is"""
    pastes: tuple[Paste, ...] = ()
    """what vhosts lack that would serve a managed domain without mod_md"""
    tree: tuple[TreeEntry, ...] | None = None
    """what Apache reads, where that was asked for"""
    agrees: bool | None = None
    """whether Apache itself reads the same; None where it was not asked"""

    command: Literal["scan"] = "scan"

    @property
    def exit_code(self) -> int:
        """1 if a finding is an error, else 0."""
        errors = any(finding.severity is Severity.ERROR for finding in self.findings)
        return EXIT_FAILED if errors else EXIT_DONE
