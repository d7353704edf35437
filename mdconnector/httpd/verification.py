"""Asks the real httpd what it reads, and tells where mdconnector has read something else.

Rules: httpd's own binary, the file and options that it is started with, and nothing is started: it
prints what it has read and ends. mod_info, which prints the directives, is loaded for that alone.
What httpd would refuse at its start only, such as files that are missing, does not count here.
"""

from __future__ import annotations

import ipaddress
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mdconnector.errors import HttpdError
from mdconnector.httpd.configuration import Configuration, evaluate_as_httpd
from mdconnector.httpd.dumps import (
    DUMP_CONFIG,
    DUMP_VHOSTS,
    DumpedDirective,
    DumpedVhost,
    dumped,
    parse_config_dump,
    parse_refusal,
    parse_vhosts_dump,
)
from mdconnector.httpd.evaluator import Evaluation
from mdconnector.httpd.programs import Finished, dump_of
from mdconnector.httpd.tree import MASK, is_secret
from mdconnector.httpd.vhosts import Servers, VhostSection, is_any_address, read_servers
from mdconnector.managed_domain import Address, Finding, Severity
from mdconnector.printable import printable

DUMP_LIMIT_SECONDS = 120.0
MAX_TOLD = 20
_MODULE_FOLDERS = (
    "/usr/lib/apache2/modules",
    "/usr/lib64/httpd/modules",
    "/usr/local/apache2/modules",
)
_REPORT = "report it, with the lines around it: mdconnector reads this otherwise than Apache"


def verify(configuration: Configuration, httpd: Path) -> tuple[Finding, ...]:
    """Return each difference between what httpd sees and what mdconnector saw.

    `configuration` has a main file: httpd cannot be asked about a mere folder of sites.
    """
    info = _info_module(configuration)
    commands = () if info is None else (f'LoadModule info_module "{info}"',)
    command = (str(httpd), *_arguments(configuration, commands))
    try:
        finished = dump_of(
            command,
            environment=configuration.world.environment,
            limit_seconds=DUMP_LIMIT_SECONDS,
        )
    except HttpdError as error:
        return (_not_possible(configuration, error.message),)
    if finished.exit_code is None:
        return (_not_possible(configuration, f"no answer within {DUMP_LIMIT_SECONDS:.0f} s"),)
    ours = evaluate_as_httpd(configuration, defines=_DEFINES, commands=commands)
    servers = read_servers(ours.directives, server_root=ours.server_root)
    return tuple(_differences(configuration, finished, ours, servers))


_DEFINES = (DUMP_VHOSTS, DUMP_CONFIG)


def _arguments(configuration: Configuration, commands: tuple[str, ...]) -> Iterator[str]:
    world = configuration.world
    yield from ("-d", world.server_root, "-f", str(configuration.main_file))
    for define in world.defines:
        yield from ("-D", define)
    for line in (*world.pre_directives, *commands):
        yield from ("-C", line)
    for line in world.post_directives:
        yield from ("-c", line)
    yield "-t"
    for define in _DEFINES:
        yield from ("-D", define)


def _info_module(configuration: Configuration) -> str | None:
    """Return the file to load mod_info from; None where it is loaded, or nowhere to be found."""
    files = configuration.module_files
    if "info_module" in files or "info_module" in configuration.world.modules:
        return None
    folders = [file.rpartition("/")[0] for file in files.values()]
    folders += [*_MODULE_FOLDERS, f"{configuration.server_root}/modules"]
    return next(
        (
            path
            for folder in dict.fromkeys(folders)
            if os.path.isfile(path := f"{folder}/mod_info.so")
        ),
        None,
    )


def _not_possible(configuration: Configuration, why: str) -> Finding:
    return Finding(
        "verify-not-possible",
        Severity.ERROR,
        str(configuration.main_file),
        f"Apache could not be asked: {why}",
        "run it by hand: apache2ctl -t -D DUMP_VHOSTS",
    )


def _differences(
    configuration: Configuration, finished: Finished, ours: Evaluation, servers: Servers
) -> Iterator[Finding]:
    theirs = list(parse_config_dump(finished.output))
    vhosts = list(parse_vhosts_dump(finished.output))
    refused = finished.exit_code != 0 and not theirs and not vhosts
    own_errors = [*ours.errors, *servers.findings]
    if refused:
        known = own_errors or [
            one for one in configuration.findings if one.severity is Severity.ERROR
        ]
        yield _refused(finished.errors, is_known=bool(known))
        return
    for error in own_errors[:MAX_TOLD]:
        yield Finding(
            "verify-accepted",
            Severity.WARNING,
            error.at,
            f"Apache takes what mdconnector calls an error: {error.message}",
            _REPORT,
        )
    if "info_module" in ours.modules:
        yield from _tree_differences(theirs, list(dumped(ours.directives)))
    else:
        yield Finding(
            "verify-vhosts-only",
            Severity.INFO,
            str(configuration.main_file),
            "mod_info.so is not there, so only virtual hosts were compared with Apache's",
            "install it beside the other modules, to have every directive compared",
        )
    yield from _vhost_differences(vhosts, servers)


def _refused(errors: str, *, is_known: bool) -> Finding:
    refusal = parse_refusal(errors)
    at = printable(refusal.at) if refusal.at else None
    said = _without_binding(printable(refusal.message))
    if is_known:
        return Finding(
            "verify-not-compared",
            Severity.INFO,
            at,
            f"Apache refuses this configuration too, so nothing could be compared: {said}",
            "mend the errors that are shown",
        )
    return Finding(
        "verify-refused",
        Severity.ERROR,
        at,
        f"Apache refuses this configuration: {said}",
        "mend it",
    )


def _without_binding(message: str) -> str:
    """Cut off what may be the HMAC of a binding, forgotten to be a file's name."""
    head, name, rest = message.partition("MDExternalAccountBinding")
    return f"{head}{name} {MASK}" if rest else message


# Directives


def _tree_differences(
    theirs: list[DumpedDirective], ours: list[DumpedDirective]
) -> Iterator[Finding]:
    if theirs == ours:
        return
    their_count, our_count = Counter(theirs), Counter(ours)
    only_theirs, only_ours = their_count - our_count, our_count - their_count
    yield from _told(
        "verify-only-apache",
        [(_place(one), f"only Apache sees {_shown(one)}") for one in only_theirs.elements()],
    )
    yield from _told(
        "verify-only-mdconnector",
        [(_place(one), f"only mdconnector sees {_shown(one)}") for one in only_ours.elements()],
    )
    if not only_theirs and not only_ours:
        index = next(
            i for i, pair in enumerate(zip(theirs, ours, strict=True)) if len(set(pair)) > 1
        )
        yield from _told(
            "verify-order",
            [(_place(theirs[index]), f"Apache reads {_shown(theirs[index])} in another order")],
        )


def _told(code: str, differences: list[tuple[str, str]]) -> Iterator[Finding]:
    for at, message in differences[:MAX_TOLD]:
        yield Finding(code, Severity.ERROR, at, message, _REPORT)
    if len(differences) > MAX_TOLD:
        more = f"and {len(differences) - MAX_TOLD} more of this kind"
        yield Finding(code, Severity.ERROR, None, more, "see those above first")


def _place(one: DumpedDirective) -> str:
    return printable(f"{one.file}:{one.line}")


def _shown(one: DumpedDirective) -> str:
    args = MASK if is_secret(one.name, one.args) else one.args
    return printable(f"'{one.name} {args}' at depth {one.depth}")


# Virtual hosts


class _TheirVhost(NamedTuple):
    """What httpd says of one <VirtualHost>, from all of its addresses."""

    server_name: str
    addresses: frozenset[str]
    aliases: tuple[str, ...] | None


def _vhost_differences(dump: Iterable[DumpedVhost], servers: Servers) -> Iterator[Finding]:
    theirs = _by_place(dump)
    sections = list(servers.sections)
    ours: dict[tuple[str, int], list[VhostSection]] = {}
    for section in sections:
        ours.setdefault(_place_of(section), []).append(section)
    told: list[tuple[str, str]] = []
    for place, found in theirs.items():
        if place not in ours:
            at = printable(f"{place[0]}:{place[1]}")
            told.append((at, f"only Apache sees the virtual host {printable(found.server_name)}"))
    for place, same_place in ours.items():
        section = same_place[0]
        at = str(section.vhost.declared_at)
        other = theirs.get(place)
        if other is None and _is_named_by_numbers(section):
            told.append((at, f"only mdconnector sees the virtual host {_name(section)}"))
        elif other is not None and len(same_place) == 1:
            told += ((at, difference) for difference in _compare(section, other))
    yield from _told("verify-vhost", told)


def _by_place(dump: Iterable[DumpedVhost]) -> dict[tuple[str, int], _TheirVhost]:
    gathered: dict[tuple[str, int], list[DumpedVhost]] = {}
    for one in dump:
        gathered.setdefault((one.file, one.line), []).append(one)
    return {
        place: _TheirVhost(
            server_name=several[0].server_name,
            addresses=frozenset(one.address for one in several),
            aliases=next((one.aliases for one in several if one.aliases is not None), None),
        )
        for place, several in gathered.items()
    }


def _place_of(section: VhostSection) -> tuple[str, int]:
    return section.directive.origin.dump_name, section.directive.dump_line


def _name(section: VhostSection) -> str:
    return printable(section.vhost.server_name or "without a name")


def _compare(section: VhostSection, theirs: _TheirVhost) -> Iterator[str]:
    vhost = section.vhost
    if vhost.server_name and vhost.server_name != theirs.server_name:
        yield (
            f"Apache calls this virtual host {printable(theirs.server_name)}, "
            f"mdconnector {_name(section)}"
        )
    if theirs.aliases is not None and Counter(theirs.aliases) != Counter(vhost.aliases):
        yield (
            f"the aliases of {_name(section)} are to Apache {_listed(theirs.aliases)}, "
            f"to mdconnector {_listed(vhost.aliases)}"
        )
    addresses = frozenset(map(_as_httpd_prints, vhost.addresses))
    if _is_named_by_numbers(section) and addresses != theirs.addresses:
        yield (
            f"the addresses of {_name(section)} are to Apache {_listed(theirs.addresses)}, "
            f"to mdconnector {_listed(addresses)}"
        )


def _listed(words: Iterable[str]) -> str:
    return printable(" ".join(sorted(words))) or "none"


def _is_named_by_numbers(section: VhostSection) -> bool:
    """Say whether no address is a host name, which only Apache resolves."""
    return all(
        is_any_address(address) or _number(address.host) for address in section.vhost.addresses
    )


def _number(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _as_httpd_prints(address: Address) -> str:
    host = "*" if is_any_address(address) else _number(address.host) or address.host
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{'*' if address.port is None else address.port}"
