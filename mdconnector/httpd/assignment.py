"""Gives each virtual host its managed domains, and each of these the names that join it. Pure.

Rules: mod_md's (mod_md.c: link_md_to_servers, check_invalid_duplicates, auto_add_domains).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from mdconnector.httpd.declarations import UNREAD, Declarations, Draft
from mdconnector.httpd.names import why_refused
from mdconnector.httpd.settings import GlobalSettings
from mdconnector.httpd.vhost_names import VhostNames, is_pattern, pattern_expression
from mdconnector.httpd.vhosts import Servers
from mdconnector.managed_domain import VirtualHost, name_covers


def visited_hosts(servers: Servers, shared: GlobalSettings) -> list[VirtualHost]:
    """Return the servers in the order in which mod_md visits them."""
    vhosts = [section.vhost for section in reversed(servers.sections)]
    return [servers.base, *vhosts] if shared.base_server else vhosts


class _NameIndex:
    """Finds the domains that may belong to a vhost without asking all of them."""

    def __init__(self, drafts: list[Draft]) -> None:
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for number, draft in enumerate(drafts):
            for name in draft.names:
                self._by_name[name].append(number)

    def of_vhost(self, vhost: VirtualHost) -> tuple[set[int], set[int]]:
        """Return the numbers of the domains that have one of its names, and of those that may."""
        server_name = vhost.server_name.lower()
        named = set(self._of_name(server_name))
        may_match = set(self._of_name(f"*.{server_name.partition('.')[2]}"))
        for address in vhost.addresses:
            may_match.update(self._of_name(address.host.lower()))
        for alias in vhost.aliases:
            if is_pattern(alias):
                may_match.update(self._matching(alias.lower()))
            else:
                named.update(self._of_name(alias.lower()))
        return named, may_match

    def _of_name(self, name: str) -> Iterable[int]:
        return self._by_name.get(name, ())

    def _matching(self, pattern: str) -> Iterable[int]:
        if pattern.startswith("*.") and not is_pattern(pattern[2:]):
            return self._by_suffix.get(pattern[1:], ())
        expression = pattern_expression(pattern)
        return [
            number
            for name, numbers in self._by_name.items()
            if expression.fullmatch(name)
            for number in numbers
        ]

    @cached_property
    def _by_suffix(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for name, numbers in self._by_name.items():
            dot = name.find(".")
            while dot >= 0:
                found[name[dot:]].extend(numbers)
                dot = name.find(".", dot + 1)
        return found


Assigned = dict[int, list[Draft]]
"""the domains of each vhost, by the vhost's id()"""


def assign(drafts: list[Draft], hosts: list[VirtualHost], *, servernames: bool) -> Assigned:
    """Give each vhost its domains (mod_md: link_md_to_servers)."""
    index = _NameIndex(drafts)
    assigned: Assigned = {}
    for vhost in hosts:
        own: list[Draft] = []
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
    draft: Draft,
    vhost: VirtualHost,
    matcher: VhostNames,
    *,
    own: list[Draft],
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


def check_misplaced(found: Declarations, assigned: Assigned) -> None:
    """Blame settings in a vhost, which have no effect, on the domains that it serves."""
    for misplaced in found.misplaced:
        drafts = assigned.get(id(misplaced.vhost), [])
        owner = drafts[0].name if drafts else misplaced.vhost.server_name or "NAME"
        for directive in misplaced.directives:
            finding = found.error(
                "md-setting-in-vhost",
                directive.at,
                f"{directive.name} in a <VirtualHost> has no effect in mod_md",
                f"move it above <VirtualHost>, or into <MDomain {owner}>",
                domain=drafts[0].name if drafts else None,
            )
            for draft in drafts:
                draft.faults.append(finding)


def check_assignments(hosts: list[VirtualHost], assigned: Assigned, found: Declarations) -> None:
    """Blame several domains of one SSL vhost on all of them (mod_md: check_invalid_duplicates)."""
    for vhost in reversed(hosts):
        drafts = assigned.get(id(vhost), [])
        if not vhost.ssl or len(drafts) < 2:
            continue
        listed = " and ".join(f"{draft.name} ({draft.declared_at})" for draft in drafts)
        is_unread = sum(not draft.assumed for draft in drafts) < 2
        finding = found.error(
            "domains-on-ssl-vhost-unread" if is_unread else "domains-on-ssl-vhost",
            vhost.declared_at,
            f"{len(drafts)} managed domains match this SSL vhost: {listed}; "
            + (UNREAD if is_unread else "Apache does not start"),
            "let one managed domain have all names of the vhost, or split the vhost",
            domain=drafts[0].name,
        )
        for draft in drafts:
            draft.faults.append(finding)


def add_names(hosts: list[VirtualHost], assigned: Assigned, found: Declarations) -> None:
    """Add the names of SSL vhosts that have exactly one domain (mod_md: auto_add_domains)."""
    for vhost in hosts:
        drafts = assigned.get(id(vhost), [])
        if not vhost.ssl or len(drafts) != 1:
            continue
        for name in _plain_names(vhost):
            if not drafts[0].contains(name):
                _add_name_of_vhost(drafts[0], name, vhost, found)


def _plain_names(vhost: VirtualHost) -> Iterator[str]:
    if vhost.server_name:
        yield vhost.server_name.lower()
    yield from (alias.lower() for alias in vhost.aliases if not is_pattern(alias))


def _add_name_of_vhost(draft: Draft, name: str, vhost: VirtualHost, found: Declarations) -> None:
    is_auto = draft.own.members_auto
    if is_auto is None:
        is_auto = found.base.members_auto is not False
    if not is_auto:
        found.warn(
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
        finding = found.error(
            "name-refused",
            vhost.declared_at,
            f"'{name}' joins {draft.name} and cannot be in a certificate: {refused[0]}",
            f"{refused[1]}; or write 'manual' on the MDomain line",
            domain=draft.name,
        )
        draft.faults.append(finding)
