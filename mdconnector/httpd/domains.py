"""Makes managed domains of the directive tree and the virtual hosts, as mod_md does. Pure.

Rules: mod_md's (mod_md.c: merge_mds_with_conf, link_md_to_servers, auto_add_domains). What is in
force for a domain stands in its own section, else outside of any in the main server, else it is
mod_md's default. What Apache or the CA would trip over becomes a finding, and where it concerns
what is ordered a fault of the domains that it concerns; all others are untouched by it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from mdconnector.httpd.directives import MAX_ARGUMENTS, Directive
from mdconnector.httpd.paths import to_bytes
from mdconnector.httpd.settings import (
    NO_BINDING,
    RULES,
    GlobalSettings,
    Place,
    ReadText,
    Settings,
    SettingsReader,
    contact_uri,
)
from mdconnector.httpd.vhosts import (
    Listen,
    Servers,
    VhostNames,
    is_pattern,
    pattern_expression,
)
from mdconnector.managed_domain import (
    DEFAULT_RENEW_WINDOW,
    DEFAULT_WARN_WINDOW,
    ExternalAccount,
    Finding,
    ManagedDomain,
    RenewMode,
    Severity,
    SourceLine,
    VirtualHost,
    is_dns_name,
    name_covers,
)

ACME_TLS = "acme-tls/1"
_Value = TypeVar("_Value")
_UNREAD = "Apache reads one of them at most, so only mdconnector is at a loss"
_SPOKEN_OF = {
    "ca_urls": "MDCertificateAuthority",
    "agreement": "MDCertificateAgreement",
    "contact": "MDContactEmail",
    "eab": "MDExternalAccountBinding",
    "challenges": "MDCAChallenges",
    "key_specs": "MDPrivateKeys",
    "must_staple": "MDMustStaple",
    "profile": "MDProfile",
    "dns01_command": "MDChallengeDns01",
    "proxy_url": "MDHttpProxy",
    "ca_certificates": "MDCACertificateFile",
}
"""settings that an error of the CA may be about, and their directives"""
_MD_BEGINNINGS = frozenset({"MD", "md", "Md", "mD"})
_SECTIONS = frozenset({"mdomain", "mdomainset"})
_MEMBERS = frozenset({"mdmember", "mdmembers"})
_MEMBER_MODES = {"auto": True, "manual": False}
_LEAST_OF_TOO_MANY = 2 * MAX_ARGUMENTS
"""characters: an argument has two at least, one of them a blank or its quotes"""
_SECTION_KEYS = {
    "dns01_command": "cmd-dns-01",
    "proxy_url": "proxy-url",
    "ca_certificates": "ca-certs",
    "proxy_ca_certificates": "proxy-ca-certs",
}


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The managed domains and the settings that all of them share."""

    domains: tuple[ManagedDomain, ...]
    server: Settings
    """what stands outside of sections, in the main server"""
    shared: GlobalSettings
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Draft:
    """One MDomain while everything about it is gathered."""

    names: list[str]
    declared_at: SourceLine
    own: Settings
    assumed: bool
    at_of_name: dict[str, SourceLine] = field(default_factory=dict)
    vhosts: list[VirtualHost] = field(default_factory=list)
    """assigned, in the order in which mod_md visits them: the last in the files first"""
    faults: list[Finding] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.names[0]

    def contains(self, name: str) -> bool:
        """Say whether a name, in lower case, is covered (mod_md: md_core.c, md_contains)."""
        names = self.at_of_name
        return name in names or f"*.{name.partition('.')[2]}" in names


@dataclass(slots=True)
class _Misplaced:
    """The MD settings in one <VirtualHost> that have no effect."""

    vhost: VirtualHost
    directives: list[Directive]


def read_domains(
    directives: Iterable[Directive],
    servers: Servers,
    *,
    server_root: str,
    mod_md_loaded: bool,
    read_text: ReadText,
) -> Interpretation:
    """Read every managed domain; `read_text` gives the text of an account binding's JSON file."""
    reading = _Reading(servers, SettingsReader(server_root=server_root, read_text=read_text))
    reading.walk(directives)
    if not mod_md_loaded:
        _check_not_loaded(reading)
    drafts = _without_unusable_names(reading)
    _check_overlaps(drafts, reading)
    drafts = _first_of_each_name(drafts)
    hosts = _hosts(servers, reading.settings.globals)
    assigned = _assign(drafts, hosts, servernames=reading.shared.match_names == "servernames")
    _check_misplaced(reading, assigned)
    _check_assignments(hosts, assigned, reading)
    _add_names(hosts, assigned, reading)
    finish = _Finisher(reading, mod_md_loaded=mod_md_loaded)
    domains = tuple(finish.domain(draft) for draft in drafts)
    return Interpretation(domains, reading.base, reading.shared, tuple(reading.findings))


class _Reading:
    """One walk over the tree: the definitions, and the lines of every level."""

    def __init__(self, servers: Servers, settings: SettingsReader) -> None:
        self.servers = servers
        self.settings = settings
        self.base = Settings()
        self.drafts: list[_Draft] = []
        self.misplaced: list[_Misplaced] = []
        self.first_in_force: Directive | None = None
        """the first line for mod_md that httpd itself would read"""
        self._vhosts = {id(section.directive): section.vhost for section in servers.sections}

    @property
    def shared(self) -> GlobalSettings:
        return self.settings.globals

    @property
    def findings(self) -> list[Finding]:
        return self.settings.findings

    def walk(self, directives: Iterable[Directive]) -> None:
        for directive in directives:
            key = directive.key
            if key == "virtualhost":
                self._walk_vhost(directive)
                continue
            if not key.startswith("md"):
                continue
            self._note(directive)
            if key == "mdomain" and not directive.is_section:
                self._define(directive)
            elif key in _SECTIONS:
                self._define_section(directive)
            else:
                self.settings.apply(directive, self.base, in_section=False)

    def _walk_vhost(self, section: Directive) -> None:
        misplaced: list[Directive] = []
        for directive in section.children:
            if directive.name[:2] not in _MD_BEGINNINGS:
                continue
            key = directive.key
            self._note(directive)
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
            self.misplaced.append(_Misplaced(vhost, misplaced))

    def _note(self, directive: Directive) -> None:
        if self.first_in_force is None and not directive.assumed:
            self.first_in_force = directive

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
        draft = _Draft([], directive.at, Settings(), directive.assumed)
        self._add_words(draft, directive, words)
        if not draft.names:
            self.error(
                "mdomain-without-name", directive.at, "MDomain names no domain", "write its names"
            )
            return
        self._check_word_count(draft, directive)
        self.drafts.append(draft)

    def _define_section(self, section: Directive) -> None:
        words = section.words
        draft = _Draft([], section.at, Settings(), section.assumed)
        if not words or not words[0]:
            self.error(
                "mdomain-without-name",
                section.at,
                f"<{section.name}> names no domain",
                "write its names between < and >",
            )
            return
        self._add_name(draft, words[0], section.at)
        self._add_words(draft, section, words[1:])
        for child in section.children:
            self._read_in_section(draft, child)
        self.drafts.append(draft)

    def _read_in_section(self, draft: _Draft, child: Directive) -> None:
        key = child.key
        if key == "virtualhost":
            self._walk_vhost(child)
        elif key in _MEMBERS and not child.is_section:
            self._add_words(draft, child, child.argv())
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
        elif key.startswith("md"):
            self.settings.apply(child, draft.own, in_section=True, domain=draft.name)

    def _add_words(self, draft: _Draft, directive: Directive, words: Sequence[str]) -> None:
        at = directive.at
        for word in words:
            mode = _MEMBER_MODES.get(word.lower())
            if mode is None:
                self._add_name(draft, word, at)
            else:
                draft.own.members_auto = mode

    def _add_name(self, draft: _Draft, word: str, at: SourceLine) -> None:
        name = word.lower()
        if name not in draft.at_of_name:
            draft.names.append(name)
            draft.at_of_name[name] = at

    def _check_word_count(self, draft: _Draft, directive: Directive) -> None:
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


def _check_not_loaded(reading: _Reading) -> None:
    directive = reading.first_in_force
    if directive is not None:
        reading.error(
            "mod-md-not-loaded",
            directive.at,
            f"Apache reads {directive.name} here, but has not loaded mod_md, and refuses to start",
            "load mod_md (a2enmod md), or put all MD lines into <IfModule md_module>",
        )


# Names


def why_refused(name: str) -> tuple[str, str] | None:
    """Say why a CA would refuse a name, and what to do; None where it would not for its form."""
    if is_dns_name(name):
        return None
    if name.startswith("#"):
        return (
            "a '#' within a line begins no comment: its words became names",
            "put the comment on a line of its own",
        )
    if "," in name or ";" in name:
        return "names are separated by blanks only", "replace the comma by a blank"
    if not name.isascii():
        return "it is not in ASCII", f"write its A-label, {_a_label(name)}"
    if _is_ip_address(name):
        return "it is an IP address", "name the site by a DNS name"
    if "_" in name:
        return "it has an underscore, which no public CA signs", "use a hyphen"
    if "*" in name.removeprefix("*."):
        return "only its first label may be '*'", "name the sites one by one"
    if "." not in name.strip("."):
        return "it is not a public name", "use a name below a public domain"
    return "it is not a DNS name", "use letters, digits and hyphens between dots"


def _a_label(name: str) -> str:
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return "the form that begins with xn--"


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


_UNSAFE_FOLDER = re.compile(r"[/\x00-\x1f\x7f]|\A\.|\A\Z")


def _without_unusable_names(reading: _Reading) -> list[_Draft]:
    """Blame every bad name on its line; leave out what could never be a folder of the store."""
    usable = []
    for draft in reading.drafts:
        is_folder = not _UNSAFE_FOLDER.search(draft.name) and len(to_bytes(draft.name)) <= 255
        for name in draft.names:
            refused = why_refused(name)
            if refused is not None:
                message, hint = refused
                finding = reading.error(
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


def _check_overlaps(drafts: list[_Draft], reading: _Reading) -> None:
    """mod_md: merge_mds_with_conf; two of one name are blamed in either match mode."""
    matches_all = reading.shared.match_names == "all"
    owners: dict[str, _Draft] = {}
    firsts: dict[str, _Draft] = {}
    for draft in drafts:
        earlier, name = firsts.get(draft.name), draft.name
        if matches_all:
            earlier, name = _owner_of_any(owners, draft.names)
        if earlier is not None:
            _blame_overlap(reading, earlier, draft, name)
        firsts.setdefault(draft.name, draft)
        for one in draft.names:
            owners.setdefault(one, draft)


def _owner_of_any(owners: dict[str, _Draft], names: list[str]) -> tuple[_Draft | None, str]:
    for name in names:
        owner = owners.get(name) or owners.get(f"*.{name.partition('.')[2]}")
        if owner is not None:
            return owner, name
    return None, ""


def _blame_overlap(reading: _Reading, earlier: _Draft, later: _Draft, name: str) -> None:
    is_unread = earlier.assumed or later.assumed
    finding = reading.error(
        "overlap-unread" if is_unread else "overlap",
        later.at_of_name[name],
        f"'{name}' belongs to two managed domains: {earlier.name} ({earlier.declared_at}) and "
        f"{later.name} ({later.declared_at}); "
        + (_UNREAD if is_unread else "Apache does not start"),
        "remove it from one of them",
        domain=later.name,
    )
    earlier.faults.append(finding)
    later.faults.append(finding)


def _first_of_each_name(drafts: list[_Draft]) -> list[_Draft]:
    return list({draft.name: draft for draft in reversed(drafts)}.values())[::-1]


# Virtual hosts


def _hosts(servers: Servers, shared: GlobalSettings) -> list[VirtualHost]:
    """Return the servers in the order in which mod_md visits them."""
    vhosts = [section.vhost for section in reversed(servers.sections)]
    return [servers.base, *vhosts] if shared.base_server else vhosts


class _NameIndex:
    """Finds the domains that may belong to a vhost without asking all of them."""

    def __init__(self, drafts: list[_Draft]) -> None:
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_suffix: dict[str, list[int]] = defaultdict(list)
        self._drafts = drafts
        self._has_suffixes = False
        for number, draft in enumerate(drafts):
            for name in draft.names:
                self._by_name[name].append(number)

    def of_vhost(self, vhost: VirtualHost) -> tuple[set[int], set[int]]:
        """Return the numbers of the domains that have one of its names, and of those that may."""
        server_name = vhost.server_name.lower()
        own = {alias.lower() for alias in vhost.aliases if not is_pattern(alias)}
        own.add(server_name)
        others = {address.host.lower() for address in vhost.addresses}
        others.add(f"*.{server_name.partition('.')[2]}")
        may_match = self._of_names(others)
        for alias in vhost.aliases:
            if is_pattern(alias):
                may_match.update(self._matching(alias.lower()))
        return self._of_names(own), may_match

    def _of_names(self, names: set[str]) -> set[int]:
        return {number for name in names & self._by_name.keys() for number in self._by_name[name]}

    def _matching(self, pattern: str) -> Iterable[int]:
        if pattern.startswith("*.") and not is_pattern(pattern[2:]):
            if not self._has_suffixes:
                self._index_suffixes()
            return self._by_suffix.get(pattern[1:], ())
        expression = pattern_expression(pattern)
        return [
            number
            for name, numbers in self._by_name.items()
            if expression.fullmatch(name)
            for number in numbers
        ]

    def _index_suffixes(self) -> None:
        self._has_suffixes = True
        for name, numbers in self._by_name.items():
            dot = name.find(".")
            while dot >= 0:
                self._by_suffix[name[dot:]].extend(numbers)
                dot = name.find(".", dot + 1)


_Assigned = dict[int, list[_Draft]]
"""the domains of each vhost, by the vhost's id()"""


def _assign(drafts: list[_Draft], hosts: list[VirtualHost], *, servernames: bool) -> _Assigned:
    """Give each vhost its domains (mod_md: link_md_to_servers)."""
    index = _NameIndex(drafts)
    assigned: _Assigned = {}
    for vhost in hosts:
        own: list[_Draft] = []
        named, possible = index.of_vhost(vhost)
        if servernames or possible - named:
            matcher = VhostNames(vhost)
            for number in sorted(named | possible):
                if _belongs(drafts[number], vhost, matcher, own=own, servernames=servernames):
                    own.append(drafts[number])
        else:
            own += (drafts[number] for number in sorted(named))
        if own:
            assigned[id(vhost)] = own
        for draft in own:
            draft.vhosts.append(vhost)
    return assigned


def _belongs(
    draft: _Draft,
    vhost: VirtualHost,
    matcher: VhostNames,
    *,
    own: list[_Draft],
    servernames: bool,
) -> bool:
    """Say whether a domain is to be added to the vhost's `own`, which an exact match may empty."""
    for name in draft.names:
        is_wildcard = name.startswith("*.") and "." in name[2:]
        by_request = not servernames and matcher.matches(name)
        by_server_name = (servernames or is_wildcard) and name_covers(name, vhost.server_name)
        if not by_request and not by_server_name:
            continue
        if servernames and len(own) == 1:
            existing_is_wild = _matches_by_wildcard(own[0].names, vhost.server_name)
            if is_wildcard and not existing_is_wild:
                continue
            if existing_is_wild and not is_wildcard:
                own.clear()
        return True
    return False


def _matches_by_wildcard(names: Sequence[str], server_name: str) -> bool:
    """mod_md: md_util.c, md_is_wild_match."""
    return next((one.startswith("*.") for one in names if name_covers(one, server_name)), False)


def _check_misplaced(reading: _Reading, assigned: _Assigned) -> None:
    for misplaced in reading.misplaced:
        drafts = assigned.get(id(misplaced.vhost), [])
        owner = drafts[0].name if drafts else misplaced.vhost.server_name or "NAME"
        for directive in misplaced.directives:
            finding = reading.error(
                "md-setting-in-vhost",
                directive.at,
                f"{directive.name} in a <VirtualHost> has no effect in mod_md",
                f"move it above <VirtualHost>, or into <MDomain {owner}>",
                domain=drafts[0].name if drafts else None,
            )
            for draft in drafts:
                draft.faults.append(finding)


def _check_assignments(hosts: list[VirtualHost], assigned: _Assigned, reading: _Reading) -> None:
    """mod_md: check_invalid_duplicates."""
    for vhost in reversed(hosts):
        drafts = assigned.get(id(vhost), [])
        if not vhost.ssl or len(drafts) < 2:
            continue
        listed = " and ".join(f"{draft.name} ({draft.declared_at})" for draft in drafts)
        is_unread = sum(not draft.assumed for draft in drafts) < 2
        finding = reading.error(
            "domains-on-ssl-vhost-unread" if is_unread else "domains-on-ssl-vhost",
            vhost.declared_at,
            f"{len(drafts)} managed domains match this SSL vhost: {listed}; "
            + (_UNREAD if is_unread else "Apache does not start"),
            "let one managed domain have all names of the vhost, or split the vhost",
            domain=drafts[0].name,
        )
        for draft in drafts:
            draft.faults.append(finding)


def _add_names(hosts: list[VirtualHost], assigned: _Assigned, reading: _Reading) -> None:
    """Add the names of SSL vhosts that have exactly one domain (mod_md: auto_add_domains)."""
    for vhost in hosts:
        drafts = assigned.get(id(vhost), [])
        if not vhost.ssl or len(drafts) != 1:
            continue
        for name in _plain_names(vhost):
            if not drafts[0].contains(name):
                _add_name_of_vhost(drafts[0], name, vhost, reading)


def _plain_names(vhost: VirtualHost) -> Iterator[str]:
    if vhost.server_name:
        yield vhost.server_name.lower()
    yield from (alias.lower() for alias in vhost.aliases if not is_pattern(alias))


def _add_name_of_vhost(draft: _Draft, name: str, vhost: VirtualHost, reading: _Reading) -> None:
    is_auto = draft.own.members_auto
    if is_auto is None:
        is_auto = reading.base.members_auto is not False
    if not is_auto:
        reading.warn(
            "name-not-covered",
            vhost.declared_at,
            f"'{name}' of this vhost is not among the names of {draft.name}, so browsers refuse it",
            f"add it to MDomain {draft.name} ({draft.declared_at}), or use MDMembers auto",
            domain=draft.name,
        )
        return
    draft.names.append(name)
    draft.at_of_name[name] = vhost.declared_at
    refused = why_refused(name)
    if refused is not None:
        finding = reading.error(
            "name-refused",
            vhost.declared_at,
            f"'{name}' joins {draft.name} and cannot be in a certificate: {refused[0]}",
            f"{refused[1]}; or write 'manual' on the MDomain line",
            domain=draft.name,
        )
        draft.faults.append(finding)


# Values


class _Finisher:
    """Merges a domain's own settings with the server's, and judges the whole."""

    def __init__(self, reading: _Reading, *, mod_md_loaded: bool) -> None:
        self._reading = reading
        self._base = reading.base
        self._shared = reading.shared
        self._mod_md_loaded = mod_md_loaded
        self._server_contact = reading.base.contact or contact_of(reading.servers.base)
        self._can_https = is_reachable(reading.servers.listens, reading.shared.ports[1])
        self._base_lines = _lines_of(reading.base)

    def domain(self, draft: _Draft) -> ManagedDomain:
        """Return the finished domain with its faults."""
        own, base = draft.own, self._base
        eab = self._binding(draft)
        renew_mode = own.renew_mode or base.renew_mode or RenewMode.AUTO
        static_pairs = self._static_pairs(draft)
        require_https = own.require_https or base.require_https
        ca_certificates = own.ca_certificates
        if ca_certificates is None and (base.ca_certificates or "").lower() != "none":
            ca_certificates = base.ca_certificates
        proxy_ca = own.proxy_ca_certificates
        if proxy_ca is None and (base.proxy_ca_certificates or "").lower() != "none":
            proxy_ca = base.proxy_ca_certificates
        return ManagedDomain(
            name=draft.name,
            names=tuple(draft.names),
            declared_at=draft.declared_at,
            configured_key_specs=_first(own.key_specs, base.key_specs, ()),
            ca_urls=_first(own.ca_urls, base.ca_urls, ()),
            agreement=own.agreement or base.agreement,
            contact=own.contact or self._server_contact or _contact_of_vhosts(draft.vhosts),
            eab=eab,
            challenges=_first(own.challenges, base.challenges, ()),
            renew_mode=renew_mode,
            renew_window=own.renew_window or base.renew_window or DEFAULT_RENEW_WINDOW,
            warn_window=own.warn_window or base.warn_window or DEFAULT_WARN_WINDOW,
            must_staple=_first(own.must_staple, base.must_staple, False),
            stapling=_first(own.stapling, base.stapling, False),
            require_https=None if require_https == "off" else require_https,
            profile=own.profile or base.profile,
            profile_mandatory=_first(own.profile_mandatory, base.profile_mandatory, False),
            ari_renewals=_first(own.ari_renewals, base.ari_renewals, True),
            members_auto=_first(own.members_auto, base.members_auto, True),
            dns01_command=own.dns01_command or base.dns01_command,
            proxy_url=own.proxy_url or base.proxy_url,
            proxy_ca_certificates=proxy_ca,
            ca_certificates=ca_certificates,
            section_settings=frozenset(
                key for value, key in _SECTION_KEYS.items() if value in own.lines
            ),
            static_pairs=static_pairs,
            vhosts=tuple(reversed(draft.vhosts)),
            acme_tls_names=self._acme_tls_names(draft),
            assumed=draft.assumed,
            renewed_by=self._renewed_by(draft, renew_mode, is_static=bool(static_pairs)),
            faults=tuple(dict.fromkeys((*draft.faults, *self._inherited_faults(own)))),
            lines=self._lines(own),
        )

    def _lines(self, own: Settings) -> tuple[tuple[str, SourceLine], ...]:
        """Return where what is in force stands; one tuple for all without lines of their own."""
        if not own.lines:
            return self._base_lines
        return tuple({**dict(self._base_lines), **dict(_lines_of(own))}.items())

    def _inherited_faults(self, own: Settings) -> Iterator[Finding]:
        yield from (finding for _, finding in own.faults)
        for value, finding in self._base.faults:
            if value not in own.lines:
                yield finding
        yield from (finding for _, finding in self._shared.faults)

    def _binding(self, draft: _Draft) -> ExternalAccount | None:
        own, base = draft.own, self._base
        eab = own.eab if own.eab is not None else base.eab
        if eab is None or eab == NO_BINDING:
            return None
        if not (own.ca_urls or base.ca_urls) and not self._ca_is_faulty(own):
            line = (own if own.eab is not None else base).lines["eab"]
            finding = self._reading.error(
                "eab-without-ca",
                line.at,
                f"{draft.name} has an account binding, but no MDCertificateAuthority: it would go "
                "to Let's Encrypt",
                "name the CA that gave the binding: MDCertificateAuthority https://...",
                domain=draft.name,
            )
            draft.faults.append(finding)
        return eab

    def _ca_is_faulty(self, own: Settings) -> bool:
        return any(value == "ca_urls" for value, _ in (*own.faults, *self._base.faults))

    def _static_pairs(self, draft: _Draft) -> tuple[tuple[str, str], ...]:
        certificates, keys = draft.own.static_certificates, draft.own.static_keys
        if len(certificates) != len(keys):
            line = draft.own.lines.get("static_certificates") or draft.own.lines["static_keys"]
            finding = self._reading.error(
                "static-files-unequal",
                line.at,
                f"{draft.name} has {len(certificates)} MDCertificateFile and {len(keys)} "
                "MDCertificateKeyFile lines; Apache does not start",
                "write one MDCertificateKeyFile for each MDCertificateFile",
                domain=draft.name,
            )
            draft.faults.append(finding)
        return tuple(zip(certificates, keys, strict=False))

    def _renewed_by(
        self, draft: _Draft, mode: RenewMode, *, is_static: bool
    ) -> Literal["mdconnector", "mod_md"] | None:
        if is_static and mode is not RenewMode.ALWAYS:
            return None
        if self._mod_md_loaded and not draft.assumed and mode is not RenewMode.MANUAL:
            return "mod_md"
        return "mdconnector"

    def _acme_tls_names(self, draft: _Draft) -> tuple[str, ...]:
        """mod_md: init_acme_tls_1_domains."""
        servers = (*draft.vhosts, self._reading.servers.base)
        if not any(ACME_TLS in vhost.protocols for vhost in servers):
            return ()
        return tuple(name for name in draft.names if self._offers_acme_tls(draft, name))

    def _offers_acme_tls(self, draft: _Draft, name: str) -> bool:
        """mod_md: get_public_https_server."""
        challenges = _first(draft.own.challenges, self._base.challenges, ())
        checks_port = "tls-alpn-01" not in challenges
        base = self._reading.servers.base
        fallback = ACME_TLS in base.protocols and self._shared.base_server
        if checks_port and not self._can_https:
            return fallback
        found = False
        for vhost in draft.vhosts:
            if not vhost.ssl or (checks_port and not self._is_public(vhost)):
                continue
            if not VhostNames(vhost).matches(name):
                continue
            offers = ACME_TLS in vhost.protocols
            if checks_port or offers:
                return offers
            found = True
        return fallback and not found

    def _is_public(self, vhost: VirtualHost) -> bool:
        port = self._shared.ports[1]
        if vhost.is_base or port is None:
            return True
        return bool(vhost.addresses) and all(one.port == port for one in vhost.addresses)


def _lines_of(level: Settings) -> tuple[tuple[str, SourceLine], ...]:
    return tuple(
        (_SPOKEN_OF[setting], line.at)
        for setting, line in level.lines.items()
        if setting in _SPOKEN_OF
    )


def contact_of(vhost: VirtualHost) -> str | None:
    """Return a server's own contact as a URI: MDContactEmail, else ServerAdmin."""
    contact = vhost.contact_email or vhost.server_admin
    return contact_uri(contact) if contact else None


def _contact_of_vhosts(vhosts: list[VirtualHost]) -> str | None:
    return next(filter(None, map(contact_of, vhosts)), None)


def is_reachable(listens: Iterable[Listen], port: int | None) -> bool:
    """Say whether Apache listens for HTTP on a local port (mod_md: detect_supported_protocols)."""
    return port is not None and any(
        listen.address.port == port and listen.protocol.startswith("http") for listen in listens
    )


def _first(own: _Value | None, server: _Value | None, default: _Value) -> _Value:
    if own is not None:
        return own
    return default if server is None else server
