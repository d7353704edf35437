"""Tells beforehand what Apache or the CA will trip over, from a configuration that has been read.

Rules: nothing is asked and nothing is read here. What one line makes impossible was found while the
line was read; this is about how lines fit together. A finding about more than a handful of domains
is one finding that names the first. Each code is explained in docs/findings.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.domains import ACME_TLS, is_reachable
from mdconnector.httpd.vhost_names import is_pattern
from mdconnector.managed_domain import (
    Finding,
    ManagedDomain,
    RenewMode,
    Severity,
    SourceLine,
    VirtualHost,
    name_covers,
)
from mdconnector.outcomes.scan import Paste

MAX_NAMES = 100
MAX_SEPARATE_FINDINGS = 5
HTTPD_WITH_EAB = (2, 4, 48)

_CAS_WITH_EAB = (
    "acme.sectigo.com",
    "acme.enterprise.sectigo.com",
    "acme.demo.sectigo.com",
    "acme.zerossl.com",
    "acme.digicert.com",
    "acme.ssl.com",
    "acme.entrust.net",
    "acme-us.certinext.io",
    "dv.acme-v02.api.pki.goog",
    "emea.acme.atlas.globalsign.com",
)
"""the CAs that register nobody without an account binding"""


def examine(configuration: Configuration) -> tuple[Finding, ...]:
    """Return what is odd about a configuration as a whole, in the order of docs/findings.md."""
    examination = _Examination(configuration)
    return tuple(finding for part in _PARTS for finding in part(examination))


class _Examination:
    """What the checks have in common."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.domains = configuration.domains
        self.can_http = is_reachable(configuration.listens, configuration.http_port)
        named = {one.address.port for one in configuration.listens if one.protocol == "https"}
        self.https_ports = {443, configuration.https_port, *named} - {None}
        self.ca_urls = {url for domain in self.domains for url in domain.ca_urls}
        self._with_wildcard = {
            domain.name for domain in self.domains for name in domain.names if name[:2] == "*."
        }

    def has_wildcard(self, domain: ManagedDomain) -> bool:
        """Say whether one of a domain's names is a wildcard."""
        return domain.name in self._with_wildcard

    def served_by_mod_md(self, domain: ManagedDomain) -> bool:
        """Say whether Apache gets a domain's certificate from mod_md, not from lines of its own."""
        return self.configuration.mod_md_loaded and not domain.assumed

    def together(
        self,
        code: str,
        severity: Severity,
        domains: Iterable[ManagedDomain],
        *,
        says: Callable[[str], str],
        hint: str,
    ) -> Iterator[Finding]:
        """Yield a finding for each domain, or one for all where they are many."""
        affected = list(domains)
        if len(affected) <= MAX_SEPARATE_FINDINGS:
            for domain in affected:
                at = str(domain.declared_at)
                yield Finding(code, severity, at, says(domain.name), hint, domain.name)
            return
        first = affected[0]
        subject = f"{first.name} and {len(affected) - 1} more"
        yield Finding(code, severity, str(first.declared_at), says(subject), hint)


# Who renews


def _renewed_twice(one: _Examination) -> Iterator[Finding]:
    beside = [domain for domain in one.domains if domain.renewed_by == "mod_md"]
    if beside:
        more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
        yield Finding(
            "mod-md-renews-too",
            Severity.WARNING,
            str(beside[0].declared_at),
            f"mod_md's watchdog renews {beside[0].name}{more} too, in the same staging folder",
            "write 'MDRenewMode manual' in the main server, to leave it to mdconnector",
        )


def _store_locks(one: _Examination) -> Iterator[Finding]:
    configuration = one.configuration
    if configuration.mod_md_loaded and configuration.store_locks is None and one.domains:
        yield Finding(
            "store-locks-off",
            Severity.INFO,
            str(configuration.main_file or configuration.sites_folder),
            "mod_md takes no lock when it activates a staged set (MDStoreLocks is off)",
            "write 'MDStoreLocks on', so that a reload and a promotion wait for one another",
        )


def _static_always(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "static-files-always",
        Severity.WARNING,
        (
            domain
            for domain in one.domains
            if domain.static_pairs and domain.renew_mode is RenewMode.ALWAYS
        ),
        says=lambda name: f"{name} has static files, which stay served whatever is renewed",
        hint="remove MDCertificateFile and MDCertificateKeyFile, or MDRenewMode always",
    )


# The CA and the account


def _no_ca(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "no-ca-named",
        Severity.INFO,
        (domain for domain in one.domains if not domain.ca_urls and not domain.faults),
        says=lambda name: f"no MDCertificateAuthority is in force for {name}: it is Let's Encrypt",
        hint="name the CA: MDCertificateAuthority https://...",
    )


def _no_agreement(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "no-agreement",
        Severity.WARNING,
        (domain for domain in one.domains if domain.agreement is None),
        says=lambda name: (
            f"no MDCertificateAgreement is in force for {name}, so no account is made"
        ),
        hint="write 'MDCertificateAgreement accepted', once you have read the CA's terms",
    )


def _no_contact(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "no-contact",
        Severity.WARNING,
        (domain for domain in one.domains if domain.contact is None),
        says=lambda name: f"no contact is in force for {name}, so no account is made",
        hint="write 'MDContactEmail hostmaster@example.org', or ServerAdmin",
    )


def _no_binding(one: _Examination) -> Iterator[Finding]:
    wants_binding = {url for url in one.ca_urls if urlsplit(url).hostname in _CAS_WITH_EAB}
    yield from one.together(
        "eab-missing",
        Severity.WARNING,
        (
            domain
            for domain in one.domains
            if domain.eab is None and not wants_binding.isdisjoint(domain.ca_urls)
        ),
        says=lambda name: (
            f"the CA of {name} wants an external account binding, and none is in force"
        ),
        hint="copy key id and HMAC from the CA: MDExternalAccountBinding KID HMAC",
    )


def _extended_validation(one: _Examination) -> Iterator[Finding]:
    extended = {url for url in one.ca_urls if _endpoint(url).endswith("/EV")}
    yield from one.together(
        "wildcard-at-ev",
        Severity.WARNING,
        (
            domain
            for domain in one.domains
            if not extended.isdisjoint(domain.ca_urls) and one.has_wildcard(domain)
        ),
        says=lambda name: f"{name} asks an EV endpoint for a wildcard, which EV does not know",
        hint="name the sites one by one, or use the OV endpoint",
    )


def _endpoint(url: str) -> str:
    return urlsplit(url).path.rstrip("/").upper()


def _keys_of_endpoint(one: _Examination) -> Iterator[Finding]:
    signs_rsa = {url for url in one.ca_urls if "RSA" in _endpoint(url)}
    signs_ec = {url for url in one.ca_urls if "ECC" in _endpoint(url)}

    def asks_another(domain: ManagedDomain) -> bool:
        return any(
            not (signs_ec if spec.is_rsa else signs_rsa).isdisjoint(domain.ca_urls)
            for spec in domain.key_specs
        )

    yield from one.together(
        "keys-not-of-this-ca",
        Severity.WARNING,
        filter(asks_another, one.domains if signs_rsa or signs_ec else ()),
        says=lambda name: (
            f"the CA's endpoint of {name} signs one kind of keys, and another is asked"
        ),
        hint="use MDPrivateKeys with the kind of the endpoint's name only",
    )


def _too_old(one: _Examination) -> Iterator[Finding]:
    version = one.configuration.httpd_version
    if version is None or not one.configuration.mod_md_loaded:
        return
    if tuple(map(int, version.split("."))) < HTTPD_WITH_EAB:
        yield from one.together(
            "httpd-too-old",
            Severity.ERROR,
            (domain for domain in one.domains if domain.eab is not None and not domain.assumed),
            says=lambda name: f"Apache {version} does not know MDExternalAccountBinding of {name}",
            hint="put its MD lines into <IfDefine MDCONNECTOR>, or use Apache 2.4.48 or newer",
        )


# Names and validation


def _too_many_names(one: _Examination) -> Iterator[Finding]:
    for domain in one.domains:
        if len(domain.names) > MAX_NAMES:
            yield Finding(
                "too-many-names",
                Severity.WARNING,
                str(domain.declared_at),
                f"{domain.name} has {len(domain.names)} names; many CAs take {MAX_NAMES} at most",
                "split it into several managed domains",
                domain.name,
            )


def _challenges(one: _Examination) -> Iterator[Finding]:
    """Yield what keeps challenges from being answered; a CA with account binding may need none."""
    for with_binding, severity in ((False, Severity.WARNING), (True, Severity.INFO)):
        domains = [domain for domain in one.domains if (domain.eab is not None) is with_binding]
        yield from one.together(
            "wildcard-without-dns-01",
            severity,
            (domain for domain in domains if one.has_wildcard(domain) and not _can_dns(domain)),
            says=lambda name: (
                f"a wildcard of {name} is validated by dns-01 only, and no command is set"
            ),
            hint="write MDChallengeDns01 COMMAND, unless the CA has validated the name before",
        )
        yield from one.together(
            "no-challenge-possible",
            severity,
            (
                domain
                for domain in domains
                if not one.has_wildcard(domain) and not _can_anything(one, domain)
            ),
            says=lambda name: f"no challenge for {name} can reach this Apache",
            hint="see MDPortMap, Listen and MDCAChallenges, or write MDChallengeDns01 COMMAND",
        )


def _can_dns(domain: ManagedDomain) -> bool:
    return domain.dns01_command is not None and _allows(domain, "dns-01")


def _can_anything(one: _Examination, domain: ManagedDomain) -> bool:
    if _can_dns(domain):
        return True
    if _allows(domain, "http-01") and one.can_http:
        return True
    return _allows(domain, "tls-alpn-01") and bool(domain.acme_tls_names)


def _allows(domain: ManagedDomain, challenge: str) -> bool:
    return not domain.challenges or challenge in domain.challenges


def _acme_tls(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "acme-tls-missing",
        Severity.WARNING,
        (
            domain
            for domain in one.domains
            if "tls-alpn-01" in domain.challenges and not domain.acme_tls_names
        ),
        says=lambda name: (
            f"tls-alpn-01 is asked for {name}, but no SSL vhost of it offers {ACME_TLS}"
        ),
        hint=f"write 'Protocols h2 http/1.1 {ACME_TLS}' in its SSL vhost",
    )


# Virtual hosts


def _unused(one: _Examination) -> Iterator[Finding]:
    yield from one.together(
        "domain-unused",
        Severity.WARNING,
        (
            domain
            for domain in one.domains
            if not domain.used and domain.renew_mode is not RenewMode.ALWAYS
        ),
        says=lambda name: f"no vhost uses {name}, so `--all` passes it over",
        hint="give a vhost one of its names as ServerName, or remove the MDomain line",
    )


def _without_ssl(one: _Examination) -> Iterator[Finding]:
    for domain in one.domains:
        off = next((vhost for vhost in domain.vhosts if _lacks_ssl(one, vhost)), None)
        if off is not None and one.served_by_mod_md(domain):
            yield Finding(
                "ssl-engine-off",
                Severity.WARNING,
                str(off.declared_at),
                f"SSL is not on in this vhost of {domain.name}",
                "write 'SSLEngine on' in it",
                domain.name,
            )
        elif off is None and domain.used and not domain.used_by_ssl:
            yield Finding(
                "no-ssl-vhost",
                Severity.INFO,
                str(domain.declared_at),
                f"no SSL vhost uses {domain.name}: its certificate would be served by none",
                "make a <VirtualHost *:443> with SSLEngine on for it",
                domain.name,
            )


def _lacks_ssl(one: _Examination, vhost: VirtualHost) -> bool:
    return not vhost.ssl and _should_have_ssl(one, vhost)


def _should_have_ssl(one: _Examination, vhost: VirtualHost) -> bool:
    return any(address.port in one.https_ports for address in vhost.addresses)


def _aliases(one: _Examination) -> Iterator[Finding]:
    for domain in one.domains:
        for vhost in domain.vhosts:
            if not vhost.ssl:
                continue
            for alias in filter(is_pattern, vhost.aliases):
                if not any(name_covers(name, alias) for name in domain.names):
                    yield Finding(
                        "alias-not-covered",
                        Severity.WARNING,
                        str(vhost.declared_at),
                        f"the certificate of {domain.name} does not cover ServerAlias {alias}",
                        "name those sites, or the wildcard, on the MDomain line",
                        domain.name,
                    )


def _left_over(one: _Examination) -> Iterator[Finding]:
    """Yield certificate files of vhosts that a managed domain is to serve."""
    for domain in one.domains:
        if domain.static_pairs or not one.served_by_mod_md(domain):
            continue
        for vhost in domain.vhosts:
            if vhost.ssl and vhost.certificate_pairs:
                yield from _left_over_of(one, domain, vhost)


def _not_from_store(one: _Examination) -> Iterator[Finding]:
    for domain in one.domains:
        for vhost in _vhosts_not_from_store(one, domain):
            yield Finding(
                "not-served-from-store",
                Severity.WARNING,
                str(vhost.declared_at),
                f"this Apache has no mod_md for {domain.name}, "
                "and its vhost does not name the set's files",
                f"put into the vhost: {'; '.join(lines_to_paste(one.configuration, domain))}",
                domain.name,
            )


def _vhosts_not_from_store(one: _Examination, domain: ManagedDomain) -> list[VirtualHost]:
    """Return the vhosts that should name a domain's files in the store, and do not."""
    if domain.static_pairs or one.served_by_mod_md(domain):
        return []
    if domain.used_by_ssl:
        return [
            vhost
            for vhost in domain.vhosts
            if vhost.ssl and not _names_our_files(one, domain, vhost)
        ]
    return [vhost for vhost in domain.vhosts if _should_have_ssl(one, vhost)]


def vhosts_without_certificate(configuration: Configuration) -> list[VirtualHost]:
    """Return the SSL vhosts that Apache does not start with, because they have no certificate.

    mod_ssl: ssl_engine_init.c, ssl_init_server_certs; `-t` does not come so far.
    """
    if not configuration.mod_ssl_loaded:
        return []
    managed = {vhost.declared_at for domain in configuration.domains for vhost in domain.vhosts}
    return [
        vhost
        for vhost in configuration.vhosts
        if vhost.ssl and not vhost.certificate_pairs and vhost.declared_at not in managed
    ]


def _without_certificate(one: _Examination) -> Iterator[Finding]:
    lacking = vhosts_without_certificate(one.configuration)
    for vhost in lacking[:MAX_SEPARATE_FINDINGS]:
        yield Finding(
            "ssl-without-certificate",
            Severity.ERROR,
            str(vhost.declared_at),
            "SSL is on in this vhost, but it has no SSLCertificateFile and no managed domain has "
            "its name; Apache does not start",
            f"add 'MDomain {vhost.server_name or 'NAME'}' above it, or name its certificate",
        )
    if len(lacking) > MAX_SEPARATE_FINDINGS:
        yield Finding(
            "ssl-without-certificate",
            Severity.ERROR,
            str(lacking[-1].declared_at),
            f"and {len(lacking) - MAX_SEPARATE_FINDINGS} more SSL vhosts have no certificate",
            "add MDomain lines for their names",
        )


def _domain_folder(one: _Examination, domain: ManagedDomain) -> str:
    return f"{one.configuration.store_path}/domains/{domain.name}/"


def _names_our_files(one: _Examination, domain: ManagedDomain, vhost: VirtualHost) -> bool:
    folder = _domain_folder(one, domain)
    return any(pair.certificate_file.startswith(folder) for pair in vhost.certificate_pairs)


def _left_over_of(
    one: _Examination, domain: ManagedDomain, vhost: VirtualHost
) -> Iterator[Finding]:
    folder = _domain_folder(one, domain)
    lines: list[SourceLine] = [
        pair.declared_at
        for pair in vhost.certificate_pairs
        if not pair.certificate_file.startswith(folder)
    ]
    if lines:
        yield Finding(
            "left-over-certificate",
            Severity.WARNING,
            str(lines[0]),
            f"SSLCertificateFile in the vhost of {vhost.declared_at}, which {domain.name} "
            f"({domain.declared_at}) manages: it is served until the managed set is there, and "
            "afterwards for the key types that it lacks",
            "remove the SSLCertificateFile and SSLCertificateKeyFile lines once the set is live",
            domain.name,
        )


def lines_to_paste(configuration: Configuration, domain: ManagedDomain) -> tuple[str, ...]:
    """Return the lines for a vhost of an Apache without mod_md; SSL comes on with the first set."""
    folder = f"{configuration.store_path}/domains/{domain.name}"
    first = domain.key_specs[0]
    return (
        f'<IfFile "{folder}/{first.pubcert_name}">',
        "SSLEngine on",
        *(
            line
            for spec in domain.key_specs
            for line in (
                f'SSLCertificateFile "{folder}/{spec.pubcert_name}"',
                f'SSLCertificateKeyFile "{folder}/{spec.privkey_name}"',
            )
        ),
        "</IfFile>",
    )


def pastes(configuration: Configuration, domains: Iterable[ManagedDomain]) -> tuple[Paste, ...]:
    """Return what to put into vhosts that would serve a domain of `domains` without mod_md."""
    one = _Examination(configuration)
    return tuple(
        Paste(domain.name, str(vhost.declared_at), lines_to_paste(configuration, domain))
        for domain in domains
        for vhost in _vhosts_not_from_store(one, domain)
    )


_PARTS: tuple[Callable[[_Examination], Iterator[Finding]], ...] = (
    _renewed_twice,
    _store_locks,
    _static_always,
    _no_ca,
    _no_agreement,
    _no_contact,
    _no_binding,
    _extended_validation,
    _keys_of_endpoint,
    _too_old,
    _too_many_names,
    _challenges,
    _acme_tls,
    _unused,
    _without_ssl,
    _aliases,
    _without_certificate,
    _left_over,
    _not_from_store,
)
