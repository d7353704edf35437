"""Checks first: may Apache be reloaded as things are, with the staged sets in their places?

Rule: httpd ends on a graceful restart that its own `-t` calls fine, so its opinion is one of
three: what it says itself, what is known to end it in the configuration, and every key pair
that it will open.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.errors import HttpdError
from mdconnector.httpd.configuration import Configuration
from mdconnector.httpd.doctor import vhosts_without_certificate
from mdconnector.httpd.pairs import check_httpd_pairs
from mdconnector.httpd.process import RunningHttpd, arguments_that_count
from mdconnector.keys import key_to_pem

MAX_CONFIGURED_FILE_BYTES = 4 * 1024 * 1024

DEADLY_FINDINGS = frozenset({"overlap", "domains-on-ssl-vhost", "static-files-unequal"})
"""what scan knows to end httpd in post_config, which `-t` never reaches"""

NewSets = Mapping[str, tuple[Credential, ...]]
"""by managed domain: the sets that are about to go live"""


def reason_not_to_reload(
    configuration: Configuration, running: RunningHttpd | None, domains: Path, new_sets: NewSets
) -> HttpdError | None:
    """Return why Apache must not be reloaded now; None where it may be.

    `domains` is the live group's folder.
    """
    if running is not None:
        reason = _other_file(configuration, running) or _own_test(running)
        if reason is not None:
            return reason
    return _deadly_finding(configuration) or _broken_pair(configuration, domains, new_sets)


def _other_file(configuration: Configuration, running: RunningHttpd) -> HttpdError | None:
    main_file, read_by_httpd = configuration.main_file, _main_file_of(running)
    if main_file is None or read_by_httpd is None or _is_same(main_file, read_by_httpd):
        return None
    return HttpdError(
        f"the running Apache (process {running.pid}) reads {read_by_httpd}, not {main_file}",
        hint=f"give --config {read_by_httpd}",
    )


def _main_file_of(running: RunningHttpd) -> Path | None:
    """Return the file that a running httpd was told to read; None: its built-in one."""
    words = arguments_that_count(running)
    options = dict(zip(words[::2], words[1::2], strict=True))
    if "-f" not in options:
        return None
    return Path(options.get("-d", "/"), options["-f"])


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _own_test(running: RunningHttpd) -> HttpdError | None:
    """Have httpd test itself; another user's can't be, since its environment is not readable."""
    if not running.accessible:
        return None
    # only where something is to be reloaded
    from mdconnector.httpd.reloading import config_test

    tested = config_test(running)
    if tested.ok:
        return None
    place = f"{tested.at}: " if tested.at else ""
    return HttpdError(
        f"{place}Apache's own test says no: {tested.output}",
        hint="mend it; the next run tries again",
    )


def _deadly_finding(configuration: Configuration) -> HttpdError | None:
    lacking = () if configuration.assumed else vhosts_without_certificate(configuration)
    for vhost in lacking:
        return HttpdError(
            f"{vhost.declared_at}: SSL is on in this vhost without any certificate; a reload would "
            "end Apache",
            hint="name its certificate, or manage its name with MDomain",
        )
    if not configuration.mod_md_loaded:
        return None
    unread = {domain.name for domain in configuration.domains if domain.assumed}
    deadly = (one for one in configuration.findings if one.code in DEADLY_FINDINGS)
    finding = next((one for one in deadly if one.domain not in unread), None)
    if finding is None:
        return None
    return HttpdError(f"{finding}; a reload would end Apache", hint=finding.hint)


def _broken_pair(
    configuration: Configuration, domains: Path, new_sets: NewSets
) -> HttpdError | None:
    """Look at every pair that httpd would open, with the new sets in their places."""
    overlay = {
        str(domains / name / file_name): content
        for name, credentials in new_sets.items()
        for credential in credentials
        for file_name, content in (
            (credential.spec.privkey_name, key_to_pem(credential.key)),
            (credential.spec.pubcert_name, chain_to_pem(credential.chain)),
        )
    }
    faults = check_httpd_pairs(
        configuration.servers,
        configuration.domains if configuration.mod_md_loaded else (),
        live_folder=lambda name: f"{domains}/{name}",
        read=read_configured,
        overlay=overlay,
    ).faults
    if not faults:
        return None
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return HttpdError(
        f"{faults[0]}{more}; a reload would end Apache",
        hint="mend that pair; the next run tries again",
    )


def read_configured(path: str) -> bytes:
    """Read a file that Apache's configuration names, without ever waiting for a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return file.read(min(status.st_size, MAX_CONFIGURED_FILE_BYTES)) or b""
