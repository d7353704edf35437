"""The names that a virtual host answers to: ServerName, aliases and patterns. Pure."""

from __future__ import annotations

import re

from mdconnector.managed_domain import VirtualHost


def is_pattern(alias: str) -> bool:
    """Say whether a ServerAlias is a pattern (httpd: util.c, ap_is_matchexp)."""
    return "*" in alias or "?" in alias


def pattern_expression(pattern: str) -> re.Pattern[str]:
    """Return the expression for a pattern of ServerAlias; `*` matches dots too.

    What stands between two stars is looked for once, from the left: that never misses a match, and
    never takes long.
    """
    first, *rest = (re.escape(part).replace("\\?", ".") for part in pattern.split("*"))
    between = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    last = f".*{rest[-1]}" if rest else ""
    return re.compile(first + between + last, re.IGNORECASE | re.DOTALL)


class VhostNames:
    """The names of one vhost (httpd: vhost.c, ap_matches_request_vhost)."""

    def __init__(self, vhost: VirtualHost) -> None:
        self._names = {alias.lower() for alias in vhost.aliases if not is_pattern(alias)}
        self._names.add(vhost.server_name.lower())
        self._names.update(
            address.host.lower()
            for address in vhost.addresses
            if address.port is None or address.port == vhost.port
        )
        self._patterns = [pattern_expression(alias) for alias in vhost.aliases if is_pattern(alias)]

    def matches(self, name: str) -> bool:
        """Say whether a name, in lower case, is the vhost's."""
        return name in self._names or any(one.fullmatch(name) for one in self._patterns)


def matches_vhost(vhost: VirtualHost, name: str) -> bool:
    """Say whether a vhost serves a name by its ServerName, an alias or its own address."""
    return VhostNames(vhost).matches(name.lower())
