"""What Apache's configuration wants: managed domains, virtual hosts, findings. Pure values.

Words are mod_md's: a managed domain has a name (its first DNS name), DNS names, key specs, a CA and
windows; the JSON keys of md.json are in mdconnector.store.records.
"""

import re
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from typing import Literal, NamedTuple, Self

from mdconnector.keys import DEFAULT_KEY_SPEC, KeySpec

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class SourceLine(NamedTuple):
    """A place in the configuration; `used_at`: for macro text the Use lines, innermost first."""

    file: str
    line: int
    used_at: tuple["SourceLine", ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class RenewMode(Enum):
    """MDRenewMode, with mod_md's numbers in md.json."""

    MANUAL = 0
    AUTO = 1
    ALWAYS = 2


class Severity(StrEnum):
    """How bad a finding is; scan exits 1 if one is an error."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(NamedTuple):
    """Something odd in the configuration or the store: a code, where, what, what to do."""

    code: str
    severity: Severity
    at: str | None
    """`file:line`, or a path"""
    message: str
    hint: str
    domain: str | None = None

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


_DURATION = re.compile(r"([+-]?\d+)\s*([A-Za-z]*)")
_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "mi": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


def parse_duration(text: str, default_unit: str) -> timedelta:
    """Read `90mi`, `14d`, `30` (mod_md: md_time.c, md_duration_parse). Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    unit = _UNITS.get((match[2] or default_unit).lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"'{text}' is not a duration; write a number and one of d, h, mi, s, ms")
    try:
        return int(match[1]) * unit
    except OverflowError as error:
        raise ValueError(f"'{text}' is too long a duration") from error


def format_duration(duration: timedelta) -> str:
    """Write a duration in the largest unit that divides it (mod_md: md_time.c, duration_format)."""
    for unit, length in _UNITS.items():
        if duration % length == timedelta(0) and duration >= length:
            return f"{duration // length}{unit}"
    return f"{duration // _UNITS['ms']}ms"


class Window(NamedTuple):
    """The last part of a certificate's life: a share of it in percent, or a duration."""

    percent: int | None = None
    duration: timedelta | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `33%` or `14d` (mod_md: md_time.c, md_timeslice_parse). Raises ValueError."""
        if text.endswith("%"):
            if not text[:-1].isdigit() or not 0 < int(text[:-1]) < 100:
                raise ValueError(f"'{text}' must be a whole number of percent from 1 to 99")
            return cls(percent=int(text[:-1]))
        duration = parse_duration(text, "d")
        if duration <= timedelta(0):
            raise ValueError(f"'{text}' must be longer than zero")
        return cls(duration=duration)

    def opens(self, not_before: datetime, not_after: datetime) -> datetime:
        """Return when a certificate's window opens (mod_md: md_timeperiod_slice_before_end)."""
        if self.duration is not None:
            return not_after - min(self.duration, not_after - not_before)
        lifetime = int((not_after - not_before).total_seconds())
        return not_after - timedelta(seconds=lifetime * (self.percent or 0) // 100)

    def __str__(self) -> str:
        return f"{self.percent}%" if self.duration is None else format_duration(self.duration)


DEFAULT_RENEW_WINDOW = Window(percent=33)
DEFAULT_WARN_WINDOW = Window(percent=10)


class ExternalAccount(NamedTuple):
    """The values of MDExternalAccountBinding; the HMAC is base64url text and never shown."""

    kid: str
    hmac: str

    def __repr__(self) -> str:
        return f"ExternalAccount(kid={self.kid!r})"


class CaAccess(NamedTuple):
    """How a CA is reached, and by which roots it is trusted; None: directly, by the system's."""

    ca_certificates: str | None = None
    proxy_url: str | None = None
    """it may hold a password, so it is never shown"""
    proxy_ca_certificates: str | None = None

    def __repr__(self) -> str:
        return f"CaAccess({self.ca_certificates!r}, proxied={self.proxy_url is not None})"


class Address(NamedTuple):
    """One address of a <VirtualHost> or a Listen.

    `host` is `*`, an IPv4 or IPv6 address (without brackets) or a name as written; `port` is None
    for any port (`*`), and where none is written.
    """

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


class CertificatePair(NamedTuple):
    """One SSLCertificateFile with its key file (itself where none is named), absolute paths."""

    certificate_file: str
    key_file: str
    declared_at: SourceLine
    assumed: bool = False
    """Apache does not read this line yet: it waits in an <IfFile> for a file of our store"""
    key_is_named: bool = True
    """False where `key_file` is only assumed; then mod_ssl counts no key for it"""


class VirtualHost(NamedTuple):
    """One <VirtualHost>, or the base server (`is_base`)."""

    server_name: str
    """without scheme and port, in the case that was written; "" where nothing gives one"""
    aliases: tuple[str, ...]
    """as written; wildcards included"""
    addresses: tuple[Address, ...]
    ssl: bool
    declared_at: SourceLine
    is_base: bool = False
    port: int = 0
    """httpd's own port of the vhost: ServerName's, else the first address's, else 0"""
    document_root: str | None = None
    protocols: tuple[str, ...] = ()
    certificate_pairs: tuple[CertificatePair, ...] = ()
    server_admin: str | None = None
    contact_email: str | None = None
    """MDContactEmail written in this vhost"""
    proxy_protocol: bool = False
    """RemoteIPProxyProtocol is on: a plain TLS handshake can't reach it"""


class ManagedDomain(NamedTuple):
    """One MDomain with all that is in force for it: section, else base server, else default."""

    name: str
    names: tuple[str, ...]
    """lower case, the first is `name`; names that SSL vhosts add stand at the end"""
    declared_at: SourceLine
    configured_key_specs: tuple[KeySpec, ...] = ()
    """as MDPrivateKeys lists them; empty where it is not set"""
    ca_urls: tuple[str, ...] = ()
    """directory URLs in order; empty where none is named (then mod_md goes to Let's Encrypt)"""
    agreement: str | None = None
    contact: str | None = None
    """a URI, `mailto:...`"""
    eab: ExternalAccount | None = None
    challenges: tuple[str, ...] = ()
    """MDCAChallenges in lower case; empty: automatic"""
    renew_mode: RenewMode = RenewMode.AUTO
    renew_window: Window = DEFAULT_RENEW_WINDOW
    warn_window: Window = DEFAULT_WARN_WINDOW
    must_staple: bool = False
    stapling: bool = False
    require_https: Literal["temporary", "permanent"] | None = None
    profile: str | None = None
    profile_mandatory: bool = False
    ari_renewals: bool = True
    members_auto: bool = True
    dns01_command: str | None = None
    """the effective MDChallengeDns01 line, untokenised"""
    proxy_url: str | None = None
    proxy_ca_certificates: str | None = None
    ca_certificates: str | None = None
    """the effective MDCACertificateFile; None: the system's trust store"""
    section_settings: frozenset[str] = frozenset()
    """those of `cmd-dns-01`, `proxy-url`, `ca-certs`, `proxy-ca-certs` in its own section"""
    static_pairs: tuple[tuple[str, str], ...] = ()
    """(MDCertificateFile, MDCertificateKeyFile) pairs, absolute paths"""
    vhosts: tuple[VirtualHost, ...] = ()
    """every vhost that is assigned to this domain, with and without SSL"""
    acme_tls_names: tuple[str, ...] = ()
    """names whose SSL vhost offers the protocol acme-tls/1"""
    assumed: bool = False
    """declared only where this Apache would not read it (no mod_md loaded)"""
    renewed_by: Literal["mdconnector", "mod_md"] | None = "mdconnector"
    faults: tuple[Finding, ...] = ()
    """errors in this domain's own directives: while there is one, its CA is not contacted"""
    lines: tuple[tuple[str, SourceLine], ...] = ()
    """directives in force for it that a CA's errors may be about, and where they stand"""

    def __repr__(self) -> str:
        return f"ManagedDomain({self.name!r}, {self.declared_at}, {self.eab!r}, {self.ca_access!r})"

    @property
    def key_specs(self) -> tuple[KeySpec, ...]:
        """The kinds of keys in force: RSA 2048 where none is configured."""
        return self.configured_key_specs or (DEFAULT_KEY_SPEC,)

    @property
    def effective_ca_urls(self) -> tuple[str, ...]:
        """The CAs in force: Let's Encrypt where none is named, as in mod_md."""
        return self.ca_urls or (LETS_ENCRYPT,)

    @property
    def ca_access(self) -> CaAccess:
        """How its CAs are reached."""
        return CaAccess(self.ca_certificates, self.proxy_url, self.proxy_ca_certificates)

    @property
    def used(self) -> bool:
        """Say whether any vhost, with or without SSL, belongs to this domain."""
        return bool(self.vhosts)

    @property
    def used_by_ssl(self) -> bool:
        """Say whether an SSL vhost belongs to this domain."""
        return any(vhost.ssl for vhost in self.vhosts)

    @property
    def order_names(self) -> tuple[str, ...]:
        """The names to order: those covered by one of the domain's own wildcards are left out.

        mod_md: md_util.c, md_dns_make_minimal.
        """
        return tuple(
            name
            for name in self.names
            if not any(other != name and name_covers(other, name) for other in self.names)
        )

    def locate(self, hint: str) -> str:
        """Return a hint with the `file:line` of each directive that it names, or where to put it.

        A directive in quotes is one to write, not one that stands somewhere.
        """
        lines = dict(self.lines)
        named = dict.fromkeys(_NAMED_DIRECTIVE.findall(hint))
        head, then, command = hint.partition("; then: ")
        for directive in named:
            if directive in lines:
                place = f"{directive} ({lines[directive]})".replace("\\", r"\\")
                head = re.sub(rf"(?<!'){directive}\b", place, head, count=1)
        if any(one in named and one not in lines for one in _ASKED_FOR):
            beside = lines.get("MDCertificateAuthority")
            head += f"; put it beside {beside}" if beside else f"; put it above {self.declared_at}"
        return f"{head}{then}{command}"


_NAMED_DIRECTIVE = re.compile(r"\bMD[A-Z]\w+")
_ASKED_FOR = ("MDCertificateAgreement", "MDExternalAccountBinding", "MDCACertificateFile")
"""what a CA may ask for though no line speaks of it"""


def name_covers(pattern: str, name: str) -> bool:
    """Say whether a certificate's name covers a DNS name: equal, or a wildcard one label deep."""
    pattern, name = pattern.lower(), name.lower()
    if pattern == name:
        return True
    return pattern.startswith("*.") and name.partition(".")[2] == pattern[2:]


def is_dns_name(name: str) -> bool:
    """Say whether `name` may go to a CA and become a folder's name.

    Lower-case letters, digits and hyphens in labels of 1 to 63 bytes, at least two labels, at most
    253 bytes, an optional leading `*.`, and a last label that is not all digits.
    """
    return len(name) <= 253 and _DNS_NAME.fullmatch(name) is not None


_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
