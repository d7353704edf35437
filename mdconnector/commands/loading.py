"""What every subcommand begins with: the configuration, the domains that are meant, the store.

Rules: all NAMEs are checked before anything is done. The configuration is read as the httpd that
runs was started.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mdconnector.httpd.configuration import (
    MAIN_FILES,
    PID_FILES,
    Configuration,
    find_domain,
    load_configuration,
    was_read_as,
)
from mdconnector.httpd.process import arguments_that_count, default_httpd, find_running
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.tree import Store

if TYPE_CHECKING:
    from mdconnector.steps import Step

Say: TypeAlias = "Callable[[str | Step], None]"
"""what takes remarks, in words, and steps"""
Load = Callable[[], Configuration]
Clock = Callable[[], datetime]


def load(
    *, config: Path | None, sites: Path | None, store: Path | None, httpd: Path | None
) -> Configuration:
    """Read Apache's configuration, as the httpd that runs it was started.

    Where the PidFile is, and so which httpd runs, is known only once that was read. In the usual
    place it is guessed, and read again only where the guess was wrong.
    """

    def read(started: _Started) -> Configuration:
        return load_configuration(
            config=config,
            sites=sites,
            store=store,
            environment=os.environ,
            parent_arguments=started.arguments,
            parent_environment=started.environment,
            httpd=started.httpd,
        )

    is_usual = sites is None and config in (None, *MAIN_FILES)
    guess = _started(PID_FILES if is_usual else (), httpd)
    configuration = read(guess)
    truth = _started((configuration.pid_file,), httpd)
    if truth.httpd == guess.httpd and was_read_as(configuration, truth.arguments):
        return configuration
    return read(truth)


class _Started(NamedTuple):
    """How an httpd was started, as far as its configuration depends on it."""

    httpd: Path | None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None


def _started(pid_files: Iterable[Path | None], httpd: Path | None) -> _Started:
    found = (find_running(pid_file, httpd=httpd) for pid_file in pid_files)
    running = next((one for one in found if one is not None), None)
    if running is None:
        return _Started(default_httpd(httpd, None))
    with running:
        program, arguments = default_httpd(httpd, running), arguments_that_count(running)
        if {"-D", "-C", "-c", "-d"}.isdisjoint(arguments):
            return _Started(program)
        return _Started(program, arguments, running.environment or None)


def select(configuration: Configuration, names: Sequence[str]) -> tuple[ManagedDomain, ...]:
    """Return the domains that are meant: all, or those that the NAMEs name or are covered by."""
    if not names:
        return configuration.domains
    return tuple(dict.fromkeys(find_domain(configuration, name) for name in names))


@contextmanager
def open_store(
    configuration: Configuration, *, create: bool = False, read_only: bool = False
) -> Iterator[Store | None]:
    user, group = configuration.user, configuration.group
    store = Store.open(
        configuration.store_path,
        httpd_user_uid=user.number if user else None,
        httpd_group_gid=group.number if group else None,
        mod_md_loaded=configuration.mod_md_loaded,
        create=create,
        read_only=read_only,
    )
    if store is None:
        yield None
        return
    with store:
        yield store
