"""Reads Listen addresses, virtual hosts and the server's own facts from the directive tree. Pure.

Rules: those of httpd's core, mod_ssl and mod_remoteip. A virtual host inherits from the main server
what it does not say itself; where its lines stand does not matter. Names are never resolved: a
virtual host without a ServerName on an address of its own has no name here.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, TypeVar

from mdconnector.httpd.evaluator import Directive
from mdconnector.httpd.paths import merge_path
from mdconnector.managed_domain import (
    Address,
    CertificatePair,
    Finding,
    Severity,
    SourceLine,
    VirtualHost,
)

_NO_ADMIN = "[no address given]"  # httpd.h, DEFAULT_ADMIN
_PATTERN_CHARACTERS = re.compile(r"[*?\[\]]")
_ANY_HOSTS = frozenset({"*", "0.0.0.0", "::"})  # noqa: S104 - compared with, never bound
_DOMAIN_SECTIONS = frozenset({"mdomain", "mdomainset"})
_File = TypeVar("_File", CertificatePair, str)


class Listen(NamedTuple):
    """One Listen line; `protocol`, in lower case, is https on port 443 unless named."""

    address: Address
    protocol: str
    declared_at: SourceLine


class VhostSection(NamedTuple):
    """One <VirtualHost> with the directive it was read from."""

    vhost: VirtualHost
    directive: Directive


class Servers(NamedTuple):
    """What the tree says about the main server and its virtual hosts, in the order of the files."""

    base: VirtualHost
    sections: tuple[VhostSection, ...]
    listens: tuple[Listen, ...]
    user: str | None
    group: str | None
    pid_file: str | None
    """as written; relative to DefaultRuntimeDir"""
    findings: tuple[Finding, ...]

    @property
    def vhosts(self) -> tuple[VirtualHost, ...]:
        """Every <VirtualHost>, in the order of the files."""
        return tuple(section.vhost for section in self.sections)


class _OwnLines:
    """What one server's own lines say; None where they say nothing."""

    server_name: str | None = None
    port: int | None = None
    """None: no ServerName line; 0: one without a port"""
    admin: str | None = None
    contact: str | None = None
    ssl: str | None = None
    protocols: tuple[str, ...] = ()
    protocol: str | None = None
    document_root: str | None = None
    proxy_protocol: bool | None = None

    def __init__(self) -> None:
        self.aliases: list[str] = []
        self.certificate_files: list[CertificatePair] = []
        """each as its own key file, until the key files are known"""
        self.key_files: list[str] = []


class _Draft(NamedTuple):
    """One <VirtualHost> before inheritance."""

    directive: Directive
    addresses: tuple[Address, ...]
    default_port: int
    own: _OwnLines


def read_servers(
    directives: Iterable[Directive],
    *,
    server_root: str,
    main_file: str = "",
    more_listens: tuple[Listen, ...] = (),
) -> Servers:
    """Read the main server and all virtual hosts; what cannot be understood becomes a finding."""
    reading = _Reading(server_root)
    reading.read_main(directives)
    listens = (*reading.listens, *more_listens)
    base = _base_server(reading, main_file)
    proxied = _proxied_addresses(reading)
    by_listener = {_socket(listen.address): listen.protocol for listen in reversed(listens)}
    return Servers(
        base=base,
        sections=tuple(
            VhostSection(
                _finish(draft, reading.own, base, by_listener=by_listener, proxied=proxied),
                draft.directive,
            )
            for draft in reading.drafts
        ),
        listens=listens,
        user=reading.values.get("user"),
        group=reading.values.get("group"),
        pid_file=reading.values.get("pidfile"),
        findings=tuple(reading.findings),
    )


class _Reading:
    """One walk over the tree."""

    __slots__ = ("drafts", "findings", "listens", "own", "server_root", "values")

    def __init__(self, server_root: str) -> None:
        self.server_root = server_root
        self.own = _OwnLines()
        self.drafts: list[_Draft] = []
        self.listens: list[Listen] = []
        self.values: dict[str, str] = {}
        self.findings: list[Finding] = []

    def read_main(self, directives: Iterable[Directive]) -> None:
        for directive in directives:
            key = directive.key
            if key == "virtualhost":
                self._read_vhost(directive)
            elif key in _DOMAIN_SECTIONS:
                self._read_vhosts_within(directive)
            elif key == "listen":
                self._read_listen(directive)
            elif key in _MAIN_ONLY:
                if directive.words:
                    self.values[key] = directive.words[0]
            elif key in _READ_OWN:
                self._read_own(self.own, directive, _READ_OWN[key])

    def _read_vhosts_within(self, section: Directive) -> None:
        for directive in section.children:
            if directive.key == "virtualhost":
                self._read_vhost(directive)

    def _read_vhost(self, directive: Directive) -> None:
        own = _OwnLines()
        for child in directive.children:
            read = _READ_OWN.get(child.key)
            if read is not None:
                self._read_own(own, child, read)
        default_port = self.own.port or 0
        self.drafts.append(
            _Draft(directive, self._vhost_addresses(directive, default_port), default_port, own)
        )

    def _vhost_addresses(self, directive: Directive, default_port: int) -> tuple[Address, ...]:
        addresses, words = [], directive.words
        for word in words:
            address = parse_address(word)
            if address is None:
                self._error(
                    "bad-vhost-address",
                    directive,
                    f"'{word}' is not an address for <VirtualHost>",
                    "write *:443, 192.0.2.1:443 or [2001:db8::1]:443, with blanks between several",
                )
            elif address.port is None and default_port and not word.endswith("*"):
                addresses.append(Address(address.host, default_port))
            else:
                addresses.append(address)
        if not words:
            self._error(
                "bad-vhost-address",
                directive,
                "<VirtualHost> names no address",
                "write <VirtualHost *:443>",
            )
        return tuple(addresses)

    def _read_listen(self, directive: Directive) -> None:
        words = directive.words
        address = parse_address(words[0]) if words else None
        if address is None and words and _is_port(words[0]):
            address = Address("*", int(words[0]))
        if address is None or not address.port:
            self._error(
                "bad-listen",
                directive,
                f"'{directive.args}' is not an address to listen on",
                "write Listen 443 or Listen 192.0.2.1:443",
            )
            return
        named = [word for word in words[1:3] if not word.lower().startswith("options=")]
        protocol = named[0].lower() if named else "https" if address.port == 443 else "http"
        self.listens.append(Listen(address, protocol, directive.at))

    def _read_own(self, own: _OwnLines, directive: Directive, read: "_ReadOwn") -> None:
        words = directive.words
        if directive.key in _ONE_WORD and (len(words) != 1 or not words[0]):
            self._error(
                "bad-arguments",
                directive,
                f"{directive.name} takes one argument, not {len(list(filter(None, words)))}",
                "put a comment on a line of its own, and quotes around a value with blanks",
            )
        if words:
            read(self, own, directive, words)

    def read_aliases(self, own: _OwnLines, directive: Directive, words: tuple[str, ...]) -> None:
        own.aliases.extend(words)
        if "#" in directive.args:
            self._check_comment(directive, words)

    def read_admin(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.admin = None if words[0] == _NO_ADMIN else words[0]

    def read_contact(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.contact = words[0]

    def read_document_root(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.document_root = self._absolute(words[0])

    def read_proxy_protocol(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.proxy_protocol = words[0].lower() == "on"

    def read_protocols(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.protocols += words

    def read_protocol(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.protocol = words[0].lower()

    def read_certificate(
        self, own: _OwnLines, directive: Directive, words: tuple[str, ...]
    ) -> None:
        path = self._absolute(words[0])
        own.certificate_files.append(
            CertificatePair(path, path, directive.at, directive.assumed, key_is_named=False)
        )

    def read_key(self, own: _OwnLines, _: Directive, words: tuple[str, ...]) -> None:
        own.key_files.append(self._absolute(words[0]))

    def _check_comment(self, directive: Directive, words: tuple[str, ...]) -> None:
        first = next((index for index, word in enumerate(words) if word.startswith("#")), None)
        if first is not None:
            message = "a '#' within a line begins no comment: its words became names, "
            finding = Finding(
                "comment-words",
                Severity.WARNING,
                str(directive.at),
                message + " ".join(words[first:]),
                "put the comment on a line of its own",
            )
            self.findings.append(finding)

    def read_server_name(
        self, own: _OwnLines, directive: Directive, words: tuple[str, ...]
    ) -> None:
        word = words[0]
        _, slashes, rest = word.partition("://")
        host, colon, port = (rest if slashes else word).partition(":")
        if _PATTERN_CHARACTERS.search(word) or not host or (colon and not _is_port(port)):
            self._error(
                "bad-server-name",
                directive,
                f"'{word}' is not a name for ServerName",
                "ServerName takes one name; patterns belong in ServerAlias",
            )
            return
        own.server_name = host
        own.port = int(port) if colon else 0

    def read_ssl_engine(self, own: _OwnLines, directive: Directive, words: tuple[str, ...]) -> None:
        word = words[0].lower()
        if word not in {"on", "off", "optional"}:
            self._error(
                "bad-ssl-engine",
                directive,
                f"'{words[0]}' is not a value for SSLEngine",
                "write SSLEngine on",
            )
            return
        own.ssl = word

    def _absolute(self, path: str) -> str:
        if path.startswith("/") and "//" not in path and "/." not in path:
            return path
        return merge_path(self.server_root, path) or path

    def _error(self, code: str, directive: Directive, message: str, hint: str) -> None:
        self.findings.append(Finding(code, Severity.ERROR, str(directive.at), message, hint))


_MAIN_ONLY = frozenset({"user", "group", "pidfile"})
_ONE_WORD = frozenset(
    {
        "servername",
        "serveradmin",
        "documentroot",
        "protocol",
        "sslengine",
        "sslcertificatefile",
        "sslcertificatekeyfile",
    }
)
_ReadOwn = Callable[[_Reading, _OwnLines, Directive, tuple[str, ...]], None]
_READ_OWN: dict[str, _ReadOwn] = {
    "servername": _Reading.read_server_name,
    "serveralias": _Reading.read_aliases,
    "serveradmin": _Reading.read_admin,
    "mdcontactemail": _Reading.read_contact,
    "sslengine": _Reading.read_ssl_engine,
    "protocols": _Reading.read_protocols,
    "protocol": _Reading.read_protocol,
    "documentroot": _Reading.read_document_root,
    "sslcertificatefile": _Reading.read_certificate,
    "sslcertificatekeyfile": _Reading.read_key,
    "remoteipproxyprotocol": _Reading.read_proxy_protocol,
}
"""what a line says of the server that it stands in, by its name in lower case"""
READ_KEYS = frozenset({"listen", *_MAIN_ONLY, *_READ_OWN})
"""the directives that are looked at here, by their names in lower case"""


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Read `*`, `_default_:443`, `192.0.2.1:*`, `[2001:db8::1]:443`, `name:80`, else None."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            return None
        _, colon, port = rest.partition(":")
    else:
        host, colon, port = text.partition(":")
        if not colon and host.isdigit():
            return None
    if not host or (colon and not (port == "*" or _is_port(port))):
        return None
    if host.lower() == "_default_":
        host = "*"
    return Address(host, int(port) if _is_port(port) else None)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_any_address(address: Address) -> bool:
    """Say whether an address stands for all of the machine's."""
    return address.host in _ANY_HOSTS


def _socket(address: Address) -> tuple[str, int | None]:
    return "*" if address.host in _ANY_HOSTS else address.host.lower(), address.port


def _base_server(reading: _Reading, main_file: str) -> VirtualHost:
    own = reading.own
    return VirtualHost(
        server_name=own.server_name or "",
        aliases=(),
        addresses=(),
        ssl=own.ssl in {"on", "optional"},
        declared_at=SourceLine(main_file, 0),
        is_base=True,
        port=own.port or 0,
        document_root=own.document_root,
        protocols=own.protocols,
        certificate_pairs=_pairs(own.certificate_files, own.key_files),
        server_admin=own.admin,
        contact_email=own.contact,
        proxy_protocol=bool(own.proxy_protocol),
    )


def _finish(
    draft: _Draft,
    main: _OwnLines,
    base: VirtualHost,
    *,
    by_listener: dict[tuple[str, int | None], str],
    proxied: frozenset[tuple[str, int | None]],
) -> VirtualHost:
    own = draft.own
    first_port = draft.addresses[0].port if draft.addresses else None
    certificates = _overlaid(own.certificate_files, main.certificate_files)
    return VirtualHost(
        _inherited_name(draft, base),
        tuple(own.aliases),
        draft.addresses,
        _ssl_is_on(draft, main, by_listener, has_certificates=bool(certificates)),
        draft.directive.at,
        port=own.port if own.port is not None else first_port or draft.default_port,
        document_root=own.document_root or base.document_root,
        protocols=own.protocols or base.protocols,
        certificate_pairs=_pairs(certificates, _overlaid(own.key_files, main.key_files)),
        server_admin=own.admin or base.server_admin,
        contact_email=own.contact,
        proxy_protocol=_is_proxied(draft, base, proxied),
    )


def _inherited_name(draft: _Draft, base: VirtualHost) -> str:
    """httpd: vhost.c, ap_fini_vhost_config."""
    if draft.own.server_name is not None:
        return draft.own.server_name
    return base.server_name if any(map(is_any_address, draft.addresses)) else ""


def _ssl_is_on(
    draft: _Draft,
    main: _OwnLines,
    by_listener: dict[tuple[str, int | None], str],
    *,
    has_certificates: bool,
) -> bool:
    """mod_ssl: ssl_engine_init.c, ssl_init_Module; listen.c, ap_setup_listeners."""
    engine = draft.own.ssl or main.ssl
    if engine is not None:
        return engine != "off"
    if not has_certificates:
        return False
    protocol = draft.own.protocol or main.protocol
    if protocol is None:
        found = (by_listener.get(_socket(address)) for address in draft.addresses)
        protocol = next((one for one in found if one is not None), "http")
    return protocol == "https"


def _overlaid(own: list[_File], inherited: list[_File]) -> list[_File]:
    """mod_ssl: ssl_engine_config.c, modssl_ctx_cfg_merge_certkeys_array."""
    return own + inherited[len(own) :] if inherited else own


def _pairs(certificates: list[CertificatePair], keys: list[str]) -> tuple[CertificatePair, ...]:
    if not certificates:
        return ()
    return tuple(
        pair._replace(key_file=keys[index], key_is_named=True) if index < len(keys) else pair
        for index, pair in enumerate(certificates)
    )


def _proxied_addresses(reading: _Reading) -> frozenset[tuple[str, int | None]]:
    # mod_remoteip switches the protocol per address, whichever vhost says so
    return frozenset(
        _socket(address)
        for draft in reading.drafts
        if draft.own.proxy_protocol
        for address in draft.addresses
    )


def _is_proxied(
    draft: _Draft, base: VirtualHost, proxied: frozenset[tuple[str, int | None]]
) -> bool:
    if draft.own.proxy_protocol is not None:
        return draft.own.proxy_protocol
    if base.proxy_protocol:
        return True
    return bool(proxied) and any(_socket(address) in proxied for address in draft.addresses)
