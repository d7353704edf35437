"""Understands mod_md's directives, line by line, for one level: a section or the server. Pure.

Rules: mod_md's (mod_md_config.c). There are three levels: what stands in an MD section, what stands
outside of one, and what is one value for the whole server from wherever it stands. The last line
wins; a list replaces the list before it. What cannot be understood is a finding with its line, and
leaves the value as it was. The HMAC of an account binding never gets into a message.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.evaluator import MAX_ARGUMENTS, Directive
from mdconnector.httpd.paths import merge_path
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import (
    LETS_ENCRYPT,
    ExternalAccount,
    Finding,
    RenewMode,
    Severity,
    Window,
    parse_duration,
)

KNOWN_CAS = {
    "letsencrypt": LETS_ENCRYPT,
    "letsencrypt-test": "https://acme-staging-v02.api.letsencrypt.org/directory",
    "buypass": "https://api.buypass.com/acme/directory",
    "buypass-test": "https://api.test4.buypass.no/acme/directory",
}
CHALLENGES = ("tls-alpn-01", "http-01", "dns-01")
RSA_SIZES = frozenset({2048, 3072, 4096})
NO_BINDING: Literal["none"] = "none"
"""MDExternalAccountBinding none: switches an inherited binding off"""

ReadText = Callable[[str], str]
"""returns a file's text; raises ConfigurationError"""


class Place(Enum):
    """Where a directive counts (the contexts of mod_md's directives)."""

    SERVER_OR_SECTION = "server or section"
    """outside a section only where it does not stand in a virtual host"""
    GLOBAL_OR_SECTION = "global or section"
    GLOBAL = "global"
    SECTION = "section"
    ANYWHERE = "anywhere"
    """of no use to us, and no harm"""


class Settings:
    """What the lines of one level say; None where they say nothing."""

    ca_urls: tuple[str, ...] | None = None
    ca_protocol: str | None = None
    agreement: str | None = None
    contact: str | None = None
    eab: ExternalAccount | Literal["none"] | None = None
    challenges: tuple[str, ...] | None = None
    key_specs: tuple[KeySpec, ...] | None = None
    must_staple: bool | None = None
    stapling: bool | None = None
    profile: str | None = None
    profile_mandatory: bool | None = None
    ari_renewals: bool | None = None
    renew_mode: RenewMode | None = None
    renew_window: Window | None = None
    warn_window: Window | None = None
    require_https: Literal["off", "temporary", "permanent"] | None = None
    members_auto: bool | None = None
    dns01_command: str | None = None
    proxy_url: str | None = None
    ca_certificates: str | None = None
    proxy_ca_certificates: str | None = None
    static_certificates: tuple[str, ...] = ()
    static_keys: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.lines: dict[str, Directive] = {}
        """the line that set each value"""
        self.faults: list[tuple[str, Finding]] = []
        """(value that was meant, error)"""

    @property
    def says_anything(self) -> bool:
        """Say whether a line of this level has set a value."""
        return bool(self.lines) or self.members_auto is not None


class GlobalSettings:
    """What holds for the whole server, with mod_md's defaults."""

    store_dir: str | None = None
    """as written; relative to ServerRoot"""
    match_names: Literal["all", "servernames"] = "all"
    base_server: bool = False
    ports: tuple[int | None, int | None] = (80, 443)
    """the local ports that public 80 and 443 lead to; None where nothing does"""
    dns01_version: Literal[1, 2] = 1
    retry_delay: timedelta = timedelta(seconds=30)
    retry_failover: int = 13
    store_locks: timedelta | None = None
    """how long mod_md waits for the store's lock; None: it takes none"""
    notify_cmd: str | None = None
    """the line, untokenised"""
    message_cmd: str | None = None

    def __init__(self) -> None:
        self.lines: dict[str, Directive] = {}
        self.faults: list[tuple[str, Finding]] = []


class Mistake(Exception):  # noqa: N818 - it never leaves this module
    """A line that mod_md, or we, cannot take."""

    def __init__(self, message: str, hint: str, code: str = "bad-directive") -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


class Rule(NamedTuple):
    """How one directive is read: `parse` gives the value of the attribute `sets`."""

    sets: str
    place: Place
    parse: Callable[[Directive, SettingsReader], object]
    blocks: bool = True
    """whether a mistake keeps the domains it is in force for from being ordered"""


class SettingsReader:
    """Reads directives into levels, and collects what is odd about them."""

    def __init__(self, *, server_root: str, read_text: ReadText) -> None:
        self.server_root = server_root
        self.findings: list[Finding] = []
        self.globals = GlobalSettings()
        self._read_text = read_text
        self._bindings: dict[str, ExternalAccount] = {}

    def apply(
        self, directive: Directive, level: Settings, *, in_section: bool, domain: str | None = None
    ) -> None:
        """Read one line into `level` or the global settings; a mistake becomes a fault of it."""
        rule = RULES.get(directive.key)
        if rule is None:
            self._report_unknown(directive)
            return
        target = self.globals if rule.place is Place.GLOBAL and not in_section else level
        try:
            _check_place(directive, rule.place, in_section=in_section)
            value = rule.parse(directive, self)
        except (Mistake, ValueError) as mistake:
            finding = self._finding_of(directive, mistake, domain)
            self.findings.append(finding)
            if rule.blocks and (in_section or rule.place is not Place.SECTION):
                target.faults.append((rule.sets, finding))
            return
        if rule.place is not Place.ANYWHERE:
            self._set(target, rule, value)
            target.lines[rule.sets] = directive

    def _set(self, target: Settings | GlobalSettings, rule: Rule, value: object) -> None:
        if rule.place is Place.SECTION:
            value = (*getattr(target, rule.sets), value)
        elif rule.sets == "ports":
            value = _merge_ports(self.globals.ports, value)
        setattr(target, rule.sets, value)

    def absolute(self, path: str) -> str:
        """Return a path below ServerRoot where it is relative."""
        merged = merge_path(self.server_root, path)
        if merged is None:
            raise Mistake(f"the path of {len(path)} bytes is too long", "write a shorter one")
        return merged

    def binding_of_file(self, path: str) -> ExternalAccount:
        """Return the account binding of a JSON file."""
        absolute = self.absolute(path)
        if absolute not in self._bindings:
            # one word without a dot or slash may be an HMAC whose key id was forgotten
            shown = absolute if "." in path or "/" in path else "the JSON file that it names"
            self._bindings[absolute] = _read_binding(absolute, shown, self._read_text)
        return self._bindings[absolute]

    def warn(self, code: str, directive: Directive, message: str, hint: str) -> None:
        """Add a warning about one line."""
        self.findings.append(Finding(code, Severity.WARNING, str(directive.at), message, hint))

    def _finding_of(
        self, directive: Directive, mistake: Mistake | ValueError, domain: str | None
    ) -> Finding:
        code, hint = "bad-directive", "see mod_md's manual page for what it takes"
        if isinstance(mistake, Mistake):
            code, hint = mistake.code, mistake.hint
        message = f"{directive.name}: {mistake}"
        return Finding(code, Severity.ERROR, str(directive.at), message, hint, domain)

    def _report_unknown(self, directive: Directive) -> None:
        import difflib  # only where somebody has mistyped

        known = {**SPELLING, "mdomain": "MDomain"}
        close = difflib.get_close_matches(directive.key, known, n=1)
        hint = f"did you mean {known[close[0]]}?" if close else "remove the line"
        message = f"mod_md has no directive {directive.name}"
        self.findings.append(
            Finding("unknown-md-directive", Severity.ERROR, str(directive.at), message, hint)
        )


def _check_place(directive: Directive, place: Place, *, in_section: bool) -> None:
    if place is Place.GLOBAL and in_section:
        raise Mistake(
            "is not allowed in an MD section", "move it out of the section", "md-wrong-place"
        )
    if place is Place.SECTION and not in_section:
        raise Mistake(
            "is allowed in an MD section only",
            "put it between <MDomain NAME> and </MDomain>",
            "md-wrong-place",
        )
    if directive.is_section:
        raise Mistake("is no section", f"write {directive.name} without < and >", "md-wrong-place")


def _merge_ports(
    before: tuple[int | None, int | None], value: object
) -> tuple[int | None, int | None]:
    merged = list(before)
    if isinstance(value, dict):
        for index, port in value.items():
            merged[index] = port
    return merged[0], merged[1]


# One value


def _one(directive: Directive) -> str:
    words = directive.words
    if len(words) != 1:
        raise Mistake(
            f"takes one argument, not {len(words)}",
            "a comment needs a line of its own" if "#" in directive.args else "write one word",
        )
    return words[0]


def _list(directive: Directive) -> tuple[str, ...]:
    words = directive.argv()
    if not words:
        raise Mistake("takes at least one argument", "write it, or remove the line")
    count = len(directive.words)
    if count > MAX_ARGUMENTS:
        raise Mistake(
            f"has {count} words, and Apache drops all after the {MAX_ARGUMENTS}th",
            f"use several lines of at most {MAX_ARGUMENTS} words",
            "too-many-words",
        )
    return words


def _word(directive: Directive, _: SettingsReader) -> str:
    return _one(directive)


def _raw(directive: Directive, _: SettingsReader) -> str:
    if not directive.args:
        raise Mistake("takes a command", "write the command, or remove the line")
    return directive.args


def _file(directive: Directive, reader: SettingsReader) -> str:
    return reader.absolute(_one(directive))


def _on_off(directive: Directive, _: SettingsReader) -> bool:
    word = _one(directive).lower()
    if word not in {"on", "off"}:
        raise Mistake(f"'{word}' is neither on nor off", "write on or off")
    return word == "on"


def _ignored(_: Directive, __: SettingsReader) -> None:
    return None


# The CA and the account


def _ca_urls(directive: Directive, _: SettingsReader) -> tuple[str, ...]:
    return tuple(KNOWN_CAS.get(word.lower()) or _ca_url(word) for word in _list(directive))


def _ca_url(word: str) -> str:
    try:
        url = urlsplit(word)
        host = url.hostname
    except ValueError:
        url, host = urlsplit(""), None
    if url.scheme not in {"http", "https"} or not host:
        raise Mistake(
            f"'{word}' is neither a URL nor the name of a known CA",
            "write the CA's directory URL, https://..., or LetsEncrypt, LetsEncrypt-Test, Buypass, "
            "Buypass-Test",
            "bad-ca",
        )
    if url.scheme == "http" and not _is_loopback(host):
        raise Mistake(f"'{word}' is not https", "only https is spoken with a CA", "ca-not-https")
    return word


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _ca_protocol(directive: Directive, _: SettingsReader) -> str:
    word = _one(directive)
    if word.upper() != "ACME":
        raise Mistake(f"'{word}' is not a protocol that mod_md knows", "write ACME")
    return word


_SCHEME = re.compile(r"[A-Za-z0-9]*:")


def contact_uri(value: str) -> str:
    """Return the contact as a URI: `mailto:` unless it has a scheme (mod_md: md_util_schemify)."""
    return value if _SCHEME.match(value) else f"mailto:{value}"


def _contact(directive: Directive, reader: SettingsReader) -> str:
    word = _one(directive)
    if contact_uri(word).startswith("mailto:") and not re.search(r"[^:@]@[^@]+\Z", word):
        reader.warn(
            "bad-contact",
            directive,
            f"{directive.name}: '{word}' is not an e-mail address",
            "write one address, hostmaster@example.org",
        )
    return contact_uri(word)


def _profile(directive: Directive, _: SettingsReader) -> str:
    return _one(directive)


def _binding(directive: Directive, reader: SettingsReader) -> ExternalAccount | Literal["none"]:
    words = directive.words
    if len(words) == 1 and words[0].lower() == NO_BINDING:
        return NO_BINDING
    if len(words) == 1:
        account = reader.binding_of_file(words[0])
    elif len(words) == 2 and all(words):
        account = ExternalAccount(*words)
    else:
        raise Mistake(
            f"takes a key id and an HMAC, a JSON file, or none, not {len(words)} words",
            "copy both values from the CA, separated by one blank",
            "bad-eab",
        )
    _check_hmac(directive, account, reader)
    return account


_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def _check_hmac(directive: Directive, account: ExternalAccount, reader: SettingsReader) -> None:
    text = account.hmac.rstrip("=")
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Mistake(
            "the HMAC is not base64url",
            "copy it again from the CA; where it has + or /, write - and _ for them",
            "bad-eab",
        )
    if text != account.hmac:
        reader.warn(
            "eab-hmac-padded",
            directive,
            f"{directive.name}: the HMAC ends in '=', which base64url has not",
            "remove it in all places at once: with and without are two accounts to mod_md",
        )


def _read_binding(path: str, shown: str, read_text: ReadText) -> ExternalAccount:
    hint = 'the file must hold {"kid": "...", "hmac": "..."}'
    try:
        found = json.loads(read_text(path))
    except ConfigurationError as error:
        raise Mistake(f"{shown}: {error.message}", error.hint or hint, "bad-eab-file") from error
    except ValueError as error:
        raise Mistake(f"{shown} is not JSON", hint, "bad-eab-file") from error
    kid, hmac = (found.get("kid"), found.get("hmac")) if isinstance(found, dict) else (None, None)
    for name, value in (("kid", kid), ("hmac", hmac)):
        if not isinstance(value, str) or not value:
            raise Mistake(f"{shown} has no '{name}'", hint, "bad-eab-file")
    return ExternalAccount(str(kid), str(hmac))


# What is ordered


def _key_specs(directive: Directive, reader: SettingsReader) -> tuple[KeySpec, ...]:
    words = list(_list(directive))
    if "default" in map(str.lower, words):
        if len(words) > 1:
            raise Mistake("'Default' allows no other word", "name all kinds of keys", "bad-keys")
        return (KeySpec("Default"),)
    specs: list[KeySpec] = []
    while words:
        word = words.pop(0)
        size = re.fullmatch(r"rsa(\d*)", word, re.IGNORECASE)
        if size is None:
            spec = _curve(word, directive, reader)
        else:
            number = size[1] or (words.pop(0) if words and words[0][:1].isdigit() else "2048")
            spec = _rsa(number, directive, reader)
        if any(one.label == spec.label or (one.is_rsa and spec.is_rsa) for one in specs):
            raise Mistake(f"names two keys of type '{word}'", "name each type once", "bad-keys")
        specs.append(spec)
    return tuple(specs)


def _rsa(number: str, directive: Directive, reader: SettingsReader) -> KeySpec:
    bits = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 0
    if not 2048 <= bits <= 16384:
        raise Mistake(
            f"'{number}' is not a size for an RSA key", "use 2048, 3072 or 4096", "bad-keys"
        )
    if bits not in RSA_SIZES:
        reader.warn(
            "unusual-key-size",
            directive,
            f"{directive.name}: public CAs may refuse RSA keys of {bits} bits",
            "use 2048, 3072 or 4096",
        )
    return KeySpec("RSA", bits)


def _curve(word: str, directive: Directive, reader: SettingsReader) -> KeySpec:
    spec = KeySpec("EC", curve=word)
    if not spec.is_supported:
        raise Mistake(
            f"'{word}' is not a kind of key that a public CA signs",
            "use RSA 2048, RSA 3072, RSA 4096, secp256r1 or secp384r1",
            "bad-keys",
        )
    if word.lower() in {"p-256", "p-384"} and word != word.upper():
        reader.warn(
            "curve-spelling",
            directive,
            f"{directive.name}: mod_md knows the curve '{word}' only as '{word.upper()}'",
            "write secp256r1 or secp384r1",
        )
    return spec


def _challenges(directive: Directive, reader: SettingsReader) -> tuple[str, ...]:
    words = tuple(word.lower() for word in _list(directive))
    unknown = [word for word in words if word not in CHALLENGES]
    if unknown and len(unknown) == len(words):
        raise Mistake(
            f"'{unknown[0]}' is not a challenge",
            "use http-01, dns-01 or tls-alpn-01",
            "unknown-challenge",
        )
    for word in unknown:
        reader.warn(
            "unknown-challenge",
            directive,
            f"{directive.name}: '{word}' is not a challenge that mod_md or mdconnector knows",
            "use http-01, dns-01 or tls-alpn-01",
        )
    return words


def _require_https(
    directive: Directive, _: SettingsReader
) -> Literal["off", "temporary", "permanent"]:
    word = _one(directive).lower()
    if word not in {"off", "temporary", "permanent"}:
        raise Mistake(f"'{word}' is not known", "write off, temporary or permanent")
    return "off" if word == "off" else "temporary" if word == "temporary" else "permanent"


# When


_RENEW_MODES = {
    "auto": RenewMode.AUTO,
    "automatic": RenewMode.AUTO,
    "always": RenewMode.ALWAYS,
    "manual": RenewMode.MANUAL,
    "stick": RenewMode.MANUAL,
}


def _renew_mode(directive: Directive, _: SettingsReader) -> RenewMode:
    word = _one(directive)
    mode = _RENEW_MODES.get(word.lower())
    if mode is None:
        raise Mistake(f"'{word}' is not a mode", "write auto, manual or always", "bad-renew-mode")
    return mode


def _window(directive: Directive, _: SettingsReader) -> Window:
    try:
        return Window.parse(_one(directive))
    except ValueError as error:
        raise Mistake(str(error), "write 33% or 14d", "bad-window") from error


def _positive_seconds(directive: Directive, _: SettingsReader) -> timedelta:
    try:
        duration = parse_duration(_one(directive), "s")
    except ValueError as error:
        raise Mistake(str(error), "write 30s or 5mi", "bad-duration") from error
    if duration <= timedelta(0):
        raise Mistake("must be longer than zero", "write 30s or 5mi", "bad-duration")
    return duration


def _store_locks(directive: Directive, _: SettingsReader) -> timedelta | None:
    word = _one(directive).lower()
    if word in {"on", "off"}:
        return timedelta(seconds=5) if word == "on" else None
    try:
        return parse_duration(word, "s") or None
    except ValueError as error:
        raise Mistake(str(error), "write on, off or a duration", "bad-duration") from error


def _failover(directive: Directive, _: SettingsReader) -> int:
    word = _one(directive)
    if not (word.isascii() and word.isdigit() and int(word) > 0):
        raise Mistake(f"'{word}' is not a number above zero", "write 13")
    return int(word)


# The server


def _members(directive: Directive, _: SettingsReader) -> bool:
    words = _list(directive)
    if len(words) != 1 or words[0].lower() not in {"auto", "manual"}:
        raise Mistake(
            "takes names in an MD section only; elsewhere auto or manual",
            "put it between <MDomain NAME> and </MDomain>",
            "md-wrong-place",
        )
    return words[0].lower() == "auto"


def _match_names(directive: Directive, _: SettingsReader) -> str:
    word = _one(directive).lower()
    if word not in {"all", "servernames"}:
        raise Mistake(f"'{word}' is not known", "write all or servernames")
    return word


def _dns01_version(directive: Directive, _: SettingsReader) -> int:
    word = _one(directive)
    if word not in {"1", "2"}:
        raise Mistake(f"there is no version '{word}'", "write 1 or 2")
    return int(word)


_PORT_MAP = re.compile(r"(http|https|80|443):(-|\d{1,5})")


def _ports(directive: Directive, _: SettingsReader) -> dict[int, int | None]:
    words = directive.words
    if not 1 <= len(words) <= 2:
        raise Mistake(f"takes one or two maps, not {len(words)}", "write http:8080 https:8443")
    found: dict[int, int | None] = {}
    for word in words:
        match = _PORT_MAP.fullmatch(word)
        if match is None or (match[2] != "-" and not 0 < int(match[2]) <= 65535):
            raise Mistake(
                f"'{word}' is not a map of ports", "write http:8080, https:8443 or http:-"
            )
        port = None if match[2] == "-" else int(match[2])
        found[0 if match[1] in {"http", "80"} else 1] = port
    return found


_LEVEL = Place.SERVER_OR_SECTION

_SPELLED_RULES = {
    "MDCertificateAuthority": Rule("ca_urls", _LEVEL, _ca_urls),
    "MDCertificateProtocol": Rule("ca_protocol", _LEVEL, _ca_protocol),
    "MDCertificateAgreement": Rule("agreement", _LEVEL, _word),
    "MDContactEmail": Rule("contact", _LEVEL, _contact),
    "MDExternalAccountBinding": Rule("eab", _LEVEL, _binding),
    "MDCAChallenges": Rule("challenges", _LEVEL, _challenges),
    "MDPrivateKeys": Rule("key_specs", _LEVEL, _key_specs),
    "MDMustStaple": Rule("must_staple", _LEVEL, _on_off),
    "MDStapling": Rule("stapling", _LEVEL, _on_off),
    "MDProfile": Rule("profile", _LEVEL, _profile),
    "MDProfileMandatory": Rule("profile_mandatory", _LEVEL, _on_off),
    "MDRenewViaARI": Rule("ari_renewals", _LEVEL, _on_off),
    "MDRenewMode": Rule("renew_mode", _LEVEL, _renew_mode),
    "MDDriveMode": Rule("renew_mode", _LEVEL, _renew_mode),
    "MDRenewWindow": Rule("renew_window", _LEVEL, _window),
    "MDWarnWindow": Rule("warn_window", _LEVEL, _window),
    "MDRequireHttps": Rule("require_https", _LEVEL, _require_https),
    "MDMember": Rule("members_auto", _LEVEL, _members),
    "MDMembers": Rule("members_auto", _LEVEL, _members),
    "MDChallengeDns01": Rule("dns01_command", Place.GLOBAL_OR_SECTION, _raw),
    "MDHttpProxy": Rule("proxy_url", Place.GLOBAL_OR_SECTION, _word),
    "MDCACertificateFile": Rule("ca_certificates", Place.GLOBAL_OR_SECTION, _word),
    "MDHttpProxyCACertificateFile": Rule("proxy_ca_certificates", Place.GLOBAL_OR_SECTION, _word),
    "MDCertificateFile": Rule("static_certificates", Place.SECTION, _file),
    "MDCertificateKeyFile": Rule("static_keys", Place.SECTION, _file),
    "MDStoreDir": Rule("store_dir", Place.GLOBAL, _word),
    "MDMatchNames": Rule("match_names", Place.GLOBAL, _match_names),
    "MDBaseServer": Rule("base_server", Place.GLOBAL, _on_off),
    "MDPortMap": Rule("ports", Place.GLOBAL, _ports),
    "MDChallengeDns01Version": Rule("dns01_version", Place.GLOBAL, _dns01_version),
    "MDRetryDelay": Rule("retry_delay", Place.GLOBAL, _positive_seconds, blocks=False),
    "MDRetryFailover": Rule("retry_failover", Place.GLOBAL, _failover, blocks=False),
    "MDStoreLocks": Rule("store_locks", Place.GLOBAL, _store_locks, blocks=False),
    "MDNotifyCmd": Rule("notify_cmd", Place.GLOBAL, _raw, blocks=False),
    "MDMessageCmd": Rule("message_cmd", Place.GLOBAL, _raw, blocks=False),
    "MDCheckInterval": Rule("", Place.ANYWHERE, _ignored),
    "MDInitialDelay": Rule("", Place.ANYWHERE, _ignored),
    "MDActivationDelay": Rule("", Place.ANYWHERE, _ignored),
    "MDStapleOthers": Rule("", Place.ANYWHERE, _ignored),
    "MDStaplingKeepResponse": Rule("", Place.ANYWHERE, _ignored),
    "MDStaplingRenewWindow": Rule("", Place.ANYWHERE, _ignored),
    "MDServerStatus": Rule("", Place.ANYWHERE, _ignored),
    "MDCertificateStatus": Rule("", Place.ANYWHERE, _ignored),
    "MDCertificateCheck": Rule("", Place.ANYWHERE, _ignored),
}
SPELLING = {spelling.lower(): spelling for spelling in _SPELLED_RULES}
"""each directive's name as mod_md spells it, by its name in lower case"""
RULES = {spelling.lower(): rule for spelling, rule in _SPELLED_RULES.items()}
