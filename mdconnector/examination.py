"""What Apache or the CA will trip over on the disk: secrets, hooks, modules, key pairs, the store.

Rules: reads only. What the configuration alone shows is found by `httpd.doctor`; here the files
that it names are looked at. What this user may not read is told once, not taken for broken. Each
code is explained in docs/findings.md.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from mdconnector.certificates import read_leaf
from mdconnector.errors import CertificateError, StoreError
from mdconnector.hooks import refusal, who_else_writes
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.directives import Directive
from mdconnector.httpd.pairs import Pair, PairFault, check_pairs, pairs_in_force
from mdconnector.httpd.paths import merge_path
from mdconnector.httpd.settings import SPELLING
from mdconnector.managed_domain import Finding, ManagedDomain, Severity, SourceLine
from mdconnector.readiness import read_configured
from mdconnector.store.inspection import a_few_of_each, inspect
from mdconnector.store.live import read_live
from mdconnector.store.tree import Store

MOD_MD_WITH_SEVERAL_KEYS = (2, 3, 0)
_BINDING = "mdexternalaccountbinding"
_MODULE_VERSION = re.compile(rb"\0(\d+\.\d+\.\d+)(?:-[a-z0-9]+)?\0")
_KEPT_FILES = 64


def examine_disk(
    configuration: Configuration, store: Store | None, now: datetime
) -> tuple[Finding, ...]:
    """Return what is odd about the files that a configuration names, and about the store."""
    lines = _md_lines(configuration.md_lines)
    return tuple(
        a_few_of_each(
            (
                *_secrets(configuration, lines.bindings),
                *_hooks(configuration),
                *_old_module(configuration, lines),
                *_pairs(configuration, store, now),
                *_undeclared(configuration),
            )
        )
    ) + (() if store is None else inspect(store, now))


class _MdLines:
    """The lines for mod_md that are looked at here."""

    several_keys: Directive | None = None

    def __init__(self) -> None:
        self.bindings: list[Directive] = []
        self.in_force: dict[str, Directive] = {}
        """the first line of each directive that Apache itself reads, by its name in lower case"""


def _md_lines(directives: Iterable[Directive]) -> _MdLines:
    found = _MdLines()
    for directive in directives:
        key = directive.key
        if directive.is_section:
            continue
        if key == _BINDING:
            found.bindings.append(directive)
        if directive.assumed:
            continue
        found.in_force.setdefault(key, directive)
        if key == "mdprivatekeys" and found.several_keys is None and _has_several(directive):
            found.several_keys = directive
    return found


def _has_several(keys: Directive) -> bool:
    return sum(not word[:1].isdigit() for word in keys.words) > 1


# Secrets


def _secrets(configuration: Configuration, bindings: Iterable[Directive]) -> Iterator[Finding]:
    """Yield who can read or replace an account binding's HMAC."""
    seen: set[str] = set()
    for directive in bindings:
        for file, at in _files_with_secret(configuration, directive):
            if file not in seen:
                seen.add(file)
                yield from _secret_file(file, at)


def _files_with_secret(
    configuration: Configuration, directive: Directive
) -> Iterator[tuple[str, str]]:
    words = directive.words
    if len(words) == 1 and words[0].lower() != "none":
        file = merge_path(str(configuration.server_root), words[0])
        if file is not None and os.path.isfile(file):
            yield file, file
    if len(words) != 2 or "${" in words[1]:
        return
    at = directive.at
    near = {at.file: str(at)} | {place.file: str(place) for place in at.used_at}
    found = [(file, place) for file, place in near.items() if _contains(file, words[1])]
    if not found:
        # it stands in a variable
        found = [(file, file) for file in _other_files(configuration) if _contains(file, words[1])]
    yield from found


def _other_files(configuration: Configuration) -> Iterator[str]:
    start = configuration.main_file or configuration.sites_folder
    if start is not None:
        yield str(start.parent / "envvars")
    yield from dict.fromkeys(configuration.files)


def _contains(file: str, secret: str) -> bool:
    try:
        return os.fsencode(secret) in read_configured(file)
    except OSError:
        return False


def _secret_file(file: str, at: str) -> Iterator[Finding]:
    try:
        everybody, other = _everybody_reads(Path(file)), who_else_writes(Path(file))
    except OSError:
        return
    if everybody:
        yield Finding(
            "eab-readable-by-all",
            Severity.WARNING,
            at,
            "every user of this machine can read the HMAC of MDExternalAccountBinding here",
            f"chmod o-r {file} (Apache reads it as root)",
        )
    if other is not None:
        yield Finding(
            "eab-writable-by-others",
            Severity.WARNING,
            at,
            f"others can replace the MDExternalAccountBinding that stands here: {other}",
            "let root alone write to it",
        )


def _everybody_reads(path: Path) -> bool:
    real = path.resolve(strict=True)
    if not real.stat().st_mode & stat.S_IROTH:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)


# Hooks and modules


def _hooks(configuration: Configuration) -> Iterator[Finding]:
    """Yield the commands that mdconnector would not run."""
    commands: dict[str, tuple[str, SourceLine]] = {}
    for hook, name in (
        (configuration.notify_hook, "MDNotifyCmd"),
        (configuration.message_hook, "MDMessageCmd"),
    ):
        if hook is not None:
            commands.setdefault(hook.command, (name, hook.declared_at))
    for domain in configuration.domains:
        if domain.dns01_command is not None and domain.dns01_command not in commands:
            at = dict(domain.lines).get("MDChallengeDns01", domain.declared_at)
            commands[domain.dns01_command] = ("MDChallengeDns01", at)
    for command, (name, at) in commands.items():
        why = refusal(command)
        if why is not None:
            yield Finding(
                "hook-not-run",
                Severity.WARNING,
                str(at),
                f"the command of {name} is not run: {why}",
                "give its absolute path, and let its owner and root alone write to it",
            )


def _old_module(configuration: Configuration, lines: _MdLines) -> Iterator[Finding]:
    """Yield the directives that the loaded mod_md does not know, from its file alone."""
    file = configuration.module_files.get("md_module")
    if file is None or not configuration.mod_md_loaded:
        return
    try:
        content = read_configured(file)
    except OSError:
        return
    if b"\0MDomain\0" not in content:
        return
    version = _MODULE_VERSION.search(content)
    shown = f"mod_md {version[1].decode()}" if version else "this mod_md"
    for key, directive in lines.in_force.items():
        name = SPELLING.get(key, "")
        if name and b"\0%b\0" % name.encode() not in content:
            yield _too_old(directive, f"{shown} ({file}) does not know {name}")
    if lines.several_keys is not None and version is not None:
        numbers = tuple(int(part) for part in version[1].split(b"."))
        if numbers < MOD_MD_WITH_SEVERAL_KEYS:
            yield _too_old(
                lines.several_keys, f"{shown} ({file}) takes one kind of key in MDPrivateKeys"
            )


def _too_old(directive: Directive, message: str) -> Finding:
    return Finding(
        "mod-md-too-old",
        Severity.ERROR,
        str(directive.at),
        f"{message}: Apache does not start",
        "put the line into <IfDefine MDCONNECTOR>, where only mdconnector reads it, "
        "or install a newer mod_md",
    )


# Certificates and keys


def _pairs(configuration: Configuration, store: Store | None, now: datetime) -> Iterator[Finding]:
    """Yield the pairs that end Apache at its next reload, and those that have expired."""
    live = configuration.store_path / "domains"
    read = lru_cache(maxsize=_KEPT_FILES)(read_configured)
    # without a folder of live sets mod_md has none, and need not be asked for each
    has_live_sets = configuration.mod_md_loaded and os.path.isdir(live)
    pairs = pairs_in_force(
        configuration.servers,
        configuration.domains if has_live_sets else (),
        live_folder=lambda name: f"{live}/{name}",
        read=read,
    )
    unchecked: list[PairFault] = []
    opened: set[str] = set()
    for pair in pairs:
        opened.add(pair.certificate_file)
        report = check_pairs([pair], read=read)
        unchecked += report.unchecked
        yield from (_broken_pair(fault, live) for fault in report.faults)
        if pair.key_file is not None and not report.faults and not report.unchecked:
            yield from _expired_file(pair, read(pair.certificate_file), live, now)
    if unchecked:
        yield _unchecked(unchecked)
    if store is not None:
        for domain in configuration.domains:
            yield from _live_set(store, domain, opened, now)


def _broken_pair(fault: PairFault, live: Path) -> Finding:
    return Finding(
        "pair-broken",
        Severity.ERROR,
        fault.pair.at,
        f"{fault.path}: {fault.message}; the next reload would end Apache",
        "put a chain and its own key there, or remove the lines that name them",
        _domain_of(fault.pair.certificate_file, live),
    )


def _unchecked(faults: Sequence[PairFault]) -> Finding:
    first = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Finding(
        "pair-not-checked",
        Severity.INFO,
        first.pair.at,
        f"{first.path}: {first.message}{more}",
        "where that is for want of rights, run it with sudo",
    )


def _expired_file(pair: Pair, content: bytes, live: Path, now: datetime) -> Iterator[Finding]:
    """Yield a finding on an expired leaf; mod_md's fallback is no certificate to speak of."""
    path = pair.certificate_file
    if path.rpartition("/")[2].startswith("fallback-"):
        return
    try:
        not_after = read_leaf(content).not_valid_after_utc
    except CertificateError:
        return
    if not_after < now:
        yield _expired(pair.at, path, not_after, _domain_of(path, live))


def _expired(at: str, path: str, not_after: datetime, domain: str | None) -> Finding:
    renew = (
        f"mdconnector renew {domain}" if domain else "renew it, or remove the lines that name it"
    )
    return Finding(
        "certificate-expired",
        Severity.WARNING,
        at,
        f"{path} has expired on {not_after:%Y-%m-%d}",
        renew,
        domain,
    )


def _domain_of(path: str, live: Path) -> str | None:
    folder = Path(path).parent
    return folder.name if folder.parent == live else None


def _live_set(
    store: Store, domain: ManagedDomain, opened: set[str], now: datetime
) -> Iterator[Finding]:
    """Yield what is wrong with the live set of a domain where Apache does not open it itself."""
    folder = f"{store.path}/domains/{domain.name}"
    if all(f"{folder}/{spec.pubcert_name}" in opened for spec in domain.key_specs):
        return
    try:
        installed = read_live(store, domain)
    except StoreError as error:
        if not error.unreadable:
            yield _broken_set(error.path, error.message, domain.name)
        return
    for one in installed:
        path = f"{folder}/{one.spec.pubcert_name}"
        if path in opened:
            continue
        if one.fault is not None:
            yield _broken_set(folder, one.fault, domain.name)
        elif one.facts is not None and one.facts.not_after < now:
            yield _expired(path, path, one.facts.not_after, domain.name)


def _broken_set(path: str, why: str, domain: str) -> Finding:
    return Finding(
        "live-set-broken",
        Severity.WARNING,
        path,
        f"the live set of {domain} cannot be used: {why}",
        f"mdconnector enroll {domain}",
        domain,
    )


def _undeclared(configuration: Configuration) -> Iterator[Finding]:
    """Yield the sets of our store that Apache serves though nothing declares their domain."""
    live = configuration.store_path / "domains"
    declared = {domain.name for domain in configuration.domains}
    pairs = {
        pair.certificate_file: pair.declared_at
        for vhost in configuration.servers
        for pair in vhost.certificate_pairs
        if not pair.assumed
    }
    for path, at in pairs.items():
        name = _domain_of(path, live)
        if name is not None and name not in declared:
            yield Finding(
                "served-but-not-declared",
                Severity.WARNING,
                str(at),
                f"Apache serves the certificate of {name} from the store, but no MDomain declares "
                "it any more: nobody renews it",
                f"add 'MDomain {name}', or remove these lines",
            )
