"""Reads what MDomain and its sections declare: names, their places and the lines of each. Pure.

Rules: mod_md's (mod_md_config.c, mod_md.c: merge_mds_with_conf). Each declaration is a draft, which
gathers faults until it becomes a managed domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mdconnector.httpd.directives import MAX_ARGUMENTS, Directive
from mdconnector.httpd.names import why_refused
from mdconnector.httpd.paths import to_bytes
from mdconnector.httpd.settings import RULES, GlobalSettings, Place, Settings, SettingsReader
from mdconnector.httpd.vhosts import Servers
from mdconnector.managed_domain import Finding, Severity, SourceLine, VirtualHost

UNREAD = "Apache reads one of them at most, so only mdconnector is at a loss"
_SECTIONS = frozenset({"mdomain", "mdomainset"})
_MEMBERS = frozenset({"mdmember", "mdmembers"})
_MEMBER_MODES = {"auto": True, "manual": False}
_LEAST_OF_TOO_MANY = 2 * MAX_ARGUMENTS
"""characters: an argument has two at least, one of them a blank or its quotes"""


class Draft:
    """One MDomain while everything about it is gathered."""

    def __init__(self, declared_at: SourceLine, *, assumed: bool) -> None:
        self.names: list[str] = []
        self.declared_at = declared_at
        self.own = Settings()
        self.assumed = assumed
        self.at_of_name: dict[str, SourceLine] = {}
        self.vhosts: list[VirtualHost] = []
        """assigned, in the order in which mod_md visits them: the last in the files first"""
        self.faults: list[Finding] = []

    @property
    def name(self) -> str:
        """Its first name."""
        return self.names[0]

    def contains(self, name: str) -> bool:
        """Say whether a name, in lower case, is covered (mod_md: md_core.c, md_contains)."""
        names = self.at_of_name
        return name in names or f"*.{name.partition('.')[2]}" in names


class Misplaced(NamedTuple):
    """The MD settings in one <VirtualHost> that have no effect."""

    vhost: VirtualHost
    directives: list[Directive]


class Declarations:
    """One walk over the tree: the definitions, and the lines of every level."""

    def __init__(self, servers: Servers, settings: SettingsReader) -> None:
        self.servers = servers
        self.settings = settings
        self.base = Settings()
        self.drafts: list[Draft] = []
        self.misplaced: list[Misplaced] = []
        self.lines: list[Directive] = []
        """every line for mod_md, in the order of reading"""
        self._vhosts = {id(section.directive): section.vhost for section in servers.sections}

    @property
    def shared(self) -> GlobalSettings:
        """What holds for the whole server."""
        return self.settings.globals

    @property
    def findings(self) -> list[Finding]:
        """What was found so far."""
        return self.settings.findings

    def walk(self, directives: Iterable[Directive]) -> None:
        """Gather everything for mod_md in a tree, by its level."""
        for directive in directives:
            key = directive.key
            if key == "virtualhost":
                self._walk_vhost(directive)
                continue
            if not key.startswith("md"):
                continue
            self.lines.append(directive)
            if key == "mdomain" and not directive.is_section:
                self._define(directive)
            elif key in _SECTIONS:
                self._define_section(directive)
            else:
                self.settings.apply(directive, self.base, in_section=False)

    def _walk_vhost(self, section: Directive) -> None:
        misplaced: list[Directive] = []
        for directive in section.children:
            key = directive.key
            if not key.startswith("md"):
                continue
            self.lines.append(directive)
            if key == "mdcontactemail":
                continue
            if key == "mdomain" and not directive.is_section:
                self._define(directive)
            elif key in _SECTIONS:
                self._define_section(directive)
            elif key in RULES and RULES[key].place in {Place.SERVER_OR_SECTION, Place.SECTION}:
                misplaced.append(directive)
            else:
                self._apply_global(directive)
        vhost = self._vhosts.get(id(section))
        if misplaced and vhost is not None:
            self.misplaced.append(Misplaced(vhost, misplaced))

    def _apply_global(self, directive: Directive) -> None:
        self.settings.apply(directive, self.base, in_section=False)
        rule = RULES.get(directive.key)
        if rule is not None and rule.place is not Place.ANYWHERE:
            self.settings.warn(
                "md-global-in-vhost",
                directive,
                f"{directive.name} in a <VirtualHost> holds for the whole server",
                "move it above <VirtualHost>, where it is seen for what it is",
            )

    def _define(self, directive: Directive) -> None:
        words = directive.argv()
        draft = Draft(directive.at, assumed=directive.assumed)
        self._add_words(draft, draft.declared_at, words)
        if not draft.names:
            self.error(
                "mdomain-without-name", directive.at, "MDomain names no domain", "write its names"
            )
            return
        self._check_word_count(draft, directive)
        self.drafts.append(draft)

    def _define_section(self, section: Directive) -> None:
        words = section.words
        draft = Draft(section.at, assumed=section.assumed)
        if not words or not words[0]:
            self.error(
                "mdomain-without-name",
                section.at,
                f"<{section.name}> names no domain",
                "write its names between < and >",
            )
            return
        self._add_name(draft, words[0], section.at)
        self._add_words(draft, section.at, words[1:])
        for child in section.children:
            self._read_in_section(draft, child)
        self.drafts.append(draft)

    def _read_in_section(self, draft: Draft, child: Directive) -> None:
        key = child.key
        if key == "virtualhost":
            self._walk_vhost(child)
        if not key.startswith("md"):
            return
        self.lines.append(child)
        if key in _MEMBERS and not child.is_section:
            self._add_words(draft, child.at, child.argv())
            self._check_word_count(draft, child)
        elif key in _SECTIONS:
            finding = self.error(
                "md-wrong-place",
                child.at,
                f"{child.name} is not allowed in an MD section",
                "end the section before it",
                domain=draft.name,
            )
            draft.faults.append(finding)
        else:
            self.settings.apply(child, draft.own, in_section=True, domain=draft.name)

    def _add_words(self, draft: Draft, at: SourceLine, words: Sequence[str]) -> None:
        for word in words:
            mode = _MEMBER_MODES.get(word.lower())
            if mode is None:
                self._add_name(draft, word, at)
            else:
                draft.own.members_auto = mode

    def _add_name(self, draft: Draft, word: str, at: SourceLine) -> None:
        name = word.lower()
        if name not in draft.at_of_name:
            draft.names.append(name)
            draft.at_of_name[name] = at

    def _check_word_count(self, draft: Draft, directive: Directive) -> None:
        if len(directive.args) < _LEAST_OF_TOO_MANY:
            return
        count = len(directive.words)
        if count > MAX_ARGUMENTS:
            finding = self.error(
                "too-many-words",
                directive.at,
                f"{directive.name} has {count} words, and Apache drops all after the 64th",
                "use several MDMember lines in an <MDomain> section",
                domain=draft.name,
            )
            draft.faults.append(finding)

    def error(
        self,
        code: str,
        at: SourceLine | None,
        message: str,
        hint: str,
        *,
        domain: str | None = None,
    ) -> Finding:
        """Note an error; the caller says whose fault it is."""
        return self._add(code, Severity.ERROR, at, message, hint, domain)

    def warn(
        self, code: str, at: SourceLine | None, message: str, hint: str, *, domain: str | None
    ) -> None:
        """Note a warning."""
        self._add(code, Severity.WARNING, at, message, hint, domain)

    def _add(
        self,
        code: str,
        severity: Severity,
        at: SourceLine | None,
        message: str,
        hint: str,
        domain: str | None,
    ) -> Finding:
        finding = Finding(code, severity, str(at) if at else None, message, hint, domain)
        self.findings.append(finding)
        return finding


def check_not_loaded(found: Declarations) -> None:
    """Note the first line that an httpd without mod_md would end at."""
    directive = next((line for line in found.lines if not line.assumed), None)
    if directive is not None:
        found.error(
            "mod-md-not-loaded",
            directive.at,
            f"Apache reads {directive.name} here, but has not loaded mod_md, and refuses to start",
            "load mod_md (a2enmod md), or put all MD lines into <IfModule md_module>",
        )


_UNSAFE_FOLDER = re.compile(r"[/\x00-\x1f\x7f]|\A\.|\A\Z")


def without_unusable_names(found: Declarations) -> list[Draft]:
    """Blame every bad name on its line; leave out what could never be a folder of the store."""
    usable = []
    for draft in found.drafts:
        is_folder = not _UNSAFE_FOLDER.search(draft.name) and len(to_bytes(draft.name)) <= 255
        for name in draft.names:
            refused = why_refused(name)
            if refused is not None:
                message, hint = refused
                finding = found.error(
                    "name-refused",
                    draft.at_of_name[name],
                    f"'{name}' cannot be in a certificate: {message}",
                    hint,
                    domain=draft.name if is_folder else None,
                )
                draft.faults.append(finding)
                if name.startswith("#"):
                    break
        if is_folder:
            usable.append(draft)
    return usable


def check_overlaps(drafts: list[Draft], found: Declarations) -> None:
    """Blame names of two domains on both (mod_md: merge_mds_with_conf).

    Two domains of one name are blamed in either match mode.
    """
    matches_all = found.shared.match_names == "all"
    owners: dict[str, Draft] = {}
    firsts: dict[str, Draft] = {}
    for draft in drafts:
        earlier, name = firsts.get(draft.name), draft.name
        if matches_all:
            earlier, name = _owner_of_any(owners, draft.names)
        if earlier is not None:
            _blame_overlap(found, earlier, draft, name)
        firsts.setdefault(draft.name, draft)
        for one in draft.names:
            owners.setdefault(one, draft)


def _owner_of_any(owners: dict[str, Draft], names: list[str]) -> tuple[Draft | None, str]:
    for name in names:
        owner = owners.get(name) or owners.get(f"*.{name.partition('.')[2]}")
        if owner is not None:
            return owner, name
    return None, ""


def _blame_overlap(found: Declarations, earlier: Draft, later: Draft, name: str) -> None:
    is_unread = earlier.assumed or later.assumed
    finding = found.error(
        "overlap-unread" if is_unread else "overlap",
        later.at_of_name[name],
        f"'{name}' belongs to two managed domains: {earlier.name} ({earlier.declared_at}) and "
        f"{later.name} ({later.declared_at}); "
        + (UNREAD if is_unread else "Apache does not start"),
        "remove it from one of them",
        domain=later.name,
    )
    earlier.faults.append(finding)
    later.faults.append(finding)


def first_of_each_name(drafts: list[Draft]) -> list[Draft]:
    """Leave out the drafts whose name an earlier one has."""
    return list({draft.name: draft for draft in reversed(drafts)}.values())[::-1]
