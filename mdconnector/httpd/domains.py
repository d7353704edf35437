"""Makes managed domains of the directive tree and the virtual hosts, as mod_md does. Pure.

Rules: mod_md's (mod_md.c: merge_mds_with_conf, link_md_to_servers, auto_add_domains). What is in
force for a domain stands in its own section, else outside of any in the main server, else it is
mod_md's default. What Apache or the CA would trip over becomes a finding, and where it concerns
what is ordered a fault of the domains that it concerns; all others are untouched by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeVar

from mdconnector.httpd.assignment import (
    add_names,
    assign,
    check_assignments,
    check_misplaced,
    visited_hosts,
)
from mdconnector.httpd.declarations import (
    Declarations,
    Draft,
    check_not_loaded,
    check_overlaps,
    first_of_each_name,
    without_unusable_names,
)
from mdconnector.httpd.directives import Directive
from mdconnector.httpd.settings import (
    NO_BINDING,
    GlobalSettings,
    ReadText,
    Settings,
    SettingsReader,
    contact_uri,
)
from mdconnector.httpd.vhost_names import VhostNames
from mdconnector.httpd.vhosts import Listen, Servers
from mdconnector.managed_domain import (
    DEFAULT_RENEW_WINDOW,
    DEFAULT_WARN_WINDOW,
    ExternalAccount,
    Finding,
    ManagedDomain,
    RenewMode,
    SourceLine,
    VirtualHost,
)

ACME_TLS = "acme-tls/1"
_NOWHERE = SourceLine("", 0)
_Value = TypeVar("_Value")
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
_SECTION_KEYS = {
    "dns01_command": "cmd-dns-01",
    "proxy_url": "proxy-url",
    "ca_certificates": "ca-certs",
    "proxy_ca_certificates": "proxy-ca-certs",
}


class Interpretation(NamedTuple):
    """The managed domains and the settings that all of them share."""

    domains: tuple[ManagedDomain, ...]
    server: Settings
    """what stands outside of sections, in the main server"""
    shared: GlobalSettings
    findings: tuple[Finding, ...]
    lines: tuple[Directive, ...]
    """every line for mod_md, in the order of reading"""


def read_domains(
    directives: Iterable[Directive],
    servers: Servers,
    *,
    server_root: str,
    mod_md_loaded: bool,
    read_text: ReadText,
) -> Interpretation:
    """Read every managed domain; `read_text` gives the text of an account binding's JSON file."""
    found = Declarations(servers, SettingsReader(server_root=server_root, read_text=read_text))
    found.walk(directives)
    if not mod_md_loaded:
        check_not_loaded(found)
    drafts = without_unusable_names(found)
    check_overlaps(drafts, found)
    drafts = first_of_each_name(drafts)
    hosts = visited_hosts(servers, found.settings.globals)
    assigned = assign(drafts, hosts, servernames=found.shared.match_names == "servernames")
    check_misplaced(found, assigned)
    check_assignments(hosts, assigned, found)
    add_names(hosts, assigned, found)
    finish = _Finisher(found, mod_md_loaded=mod_md_loaded)
    domains = tuple(finish.domain(draft) for draft in drafts)
    return Interpretation(
        domains, found.base, found.shared, tuple(found.findings), tuple(found.lines)
    )


class _Finisher:
    """Merges a domain's own settings with the server's, and judges the whole."""

    def __init__(self, found: Declarations, *, mod_md_loaded: bool) -> None:
        self._found = found
        self._base = found.base
        self._shared = found.shared
        self._mod_md_loaded = mod_md_loaded
        self._server_contact = found.base.contact or contact_of(found.servers.base)
        self._can_https = is_reachable(found.servers.listens, found.shared.ports[1])
        self._base_lines = _lines_of(found.base)
        self._without_own = self._settled(Settings())
        servers = (found.servers.base, *found.servers.vhosts)
        self._has_acme_tls = any(ACME_TLS in server.protocols for server in servers)

    def domain(self, draft: Draft) -> ManagedDomain:
        """Return the finished domain with its faults."""
        own = draft.own
        settled = self._settled(own) if own.says_anything else self._without_own
        eab = self._binding(draft)
        static_pairs = self._static_pairs(draft)
        return settled._replace(
            name=draft.name,
            names=tuple(draft.names),
            declared_at=draft.declared_at,
            contact=own.contact or self._server_contact or _contact_of_vhosts(draft.vhosts),
            eab=eab,
            static_pairs=static_pairs,
            vhosts=tuple(reversed(draft.vhosts)),
            acme_tls_names=self._acme_tls_names(draft),
            assumed=draft.assumed,
            renewed_by=self._renewed_by(draft, settled.renew_mode, is_static=bool(static_pairs)),
            faults=tuple(dict.fromkeys((*draft.faults, *self._inherited_faults(own)))),
        )

    def _settled(self, own: Settings) -> ManagedDomain:
        """Return what is in force by the lines of a section, and else of the server, alone."""
        base = self._base
        require_https = own.require_https or base.require_https
        ca_certificates = own.ca_certificates
        if ca_certificates is None and (base.ca_certificates or "").lower() != "none":
            ca_certificates = base.ca_certificates
        proxy_ca = own.proxy_ca_certificates
        if proxy_ca is None and (base.proxy_ca_certificates or "").lower() != "none":
            proxy_ca = base.proxy_ca_certificates
        return ManagedDomain(
            name="",
            names=(),
            declared_at=_NOWHERE,
            configured_key_specs=_first(own.key_specs, base.key_specs, ()),
            ca_urls=_first(own.ca_urls, base.ca_urls, ()),
            agreement=own.agreement or base.agreement,
            challenges=_first(own.challenges, base.challenges, ()),
            renew_mode=own.renew_mode or base.renew_mode or RenewMode.AUTO,
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
            section_settings=_section_settings(own),
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

    def _binding(self, draft: Draft) -> ExternalAccount | None:
        own, base = draft.own, self._base
        eab = own.eab if own.eab is not None else base.eab
        if eab is None or eab == NO_BINDING:
            return None
        if not (own.ca_urls or base.ca_urls) and not self._ca_is_faulty(own):
            line = (own if own.eab is not None else base).lines["eab"]
            finding = self._found.error(
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

    def _static_pairs(self, draft: Draft) -> tuple[tuple[str, str], ...]:
        certificates, keys = draft.own.static_certificates, draft.own.static_keys
        if len(certificates) != len(keys):
            line = draft.own.lines.get("static_certificates") or draft.own.lines["static_keys"]
            finding = self._found.error(
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
        self, draft: Draft, mode: RenewMode, *, is_static: bool
    ) -> Literal["mdconnector", "mod_md"] | None:
        if is_static and mode is not RenewMode.ALWAYS:
            return None
        if self._mod_md_loaded and not draft.assumed and mode is not RenewMode.MANUAL:
            return "mod_md"
        return "mdconnector"

    def _acme_tls_names(self, draft: Draft) -> tuple[str, ...]:
        """mod_md: init_acme_tls_1_domains."""
        if not self._has_acme_tls:
            return ()
        return tuple(name for name in draft.names if self._offers_acme_tls(draft, name))

    def _offers_acme_tls(self, draft: Draft, name: str) -> bool:
        """mod_md: get_public_https_server."""
        challenges = _first(draft.own.challenges, self._base.challenges, ())
        checks_port = "tls-alpn-01" not in challenges
        base = self._found.servers.base
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
        if vhost.is_base:
            return True
        port = self._shared.ports[1]
        return bool(vhost.addresses) and all(one.port == port for one in vhost.addresses)


def _section_settings(own: Settings) -> frozenset[str]:
    if not own.lines:
        return frozenset()
    return frozenset(key for value, key in _SECTION_KEYS.items() if value in own.lines)


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
