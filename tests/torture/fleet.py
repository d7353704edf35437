"""A real Apache with managed sites, new sets for them without a CA, and the command in process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mdconnector.certificates import Credential, chain_to_pem
from mdconnector.httpd.configuration import load_configuration
from mdconnector.keys import key_to_pem
from mdconnector.managed_domain import ManagedDomain
from mdconnector.store.pending import Pending
from mdconnector.store.staging import stage
from mdconnector.store.tree import Store
from tests.authority import EC_SPEC, Authority
from tests.e2e.behind_proxy import _as_a_process, _exit_code
from tests.e2e.command import Finished
from tests.parts import Apache, MissingProgramError, find_program
from tests.torture.figure import CannotRunError

CA_URL = "https://ca.example/dir"
ACCOUNT_ID = "ACME-ca.example-0000"
SETTINGS = f"""\
MDCertificateAuthority {CA_URL}
MDCertificateAgreement accepted
MDContactEmail hostmaster@example.org
MDPrivateKeys secp256r1
"""


def run_here(*words: str | Path) -> Finished:
    """Run the command in this process."""
    arguments = tuple(str(word) for word in words)
    out, err = io.StringIO(), io.StringIO()
    with (
        _as_a_process("mdconnector", *arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _exit_code()
    return Finished(arguments, code, out.getvalue(), err.getvalue())


def require(*programs: str) -> None:
    """Raise CannotRunError where a program is missing."""
    for program in programs:
        try:
            find_program(program)
        except MissingProgramError as error:
            raise CannotRunError(str(error)) from None


class Fleet:
    """An Apache that serves a set for each name; with mod_md, or by SSLCertificateFile lines."""

    def __init__(self, folder: Path, names: Sequence[str], *, mod_md: bool) -> None:
        self.authority = Authority()
        self.names = tuple(names)
        self.apache = Apache(folder, mod_md=mod_md, main_extra=_settings(mod_md=mod_md))
        self._sites = {name: self._site(name, mod_md=mod_md) for name in names}
        for name, text in self._sites.items():
            self.apache.write_site(name, text)
        self._domains = self._read_domains()

    def sets(self) -> dict[str, Credential]:
        """Make a new pair for each name."""
        return {name: self.authority.credential((name,)) for name in self.names}

    def put_live(self, sets: dict[str, Credential]) -> None:
        """Write the first sets of all into domains/, and start Apache."""
        with self._store() as store:
            for name, credential in sets.items():
                with store.make_in_group("domains", name) as folder:
                    folder.write(EC_SPEC.privkey_name, key_to_pem(credential.key), 0o600)
                    folder.write(EC_SPEC.pubcert_name, chain_to_pem(credential.chain), 0o600)
        self.apache.start()

    def stage(self, sets: dict[str, Credential]) -> None:
        """Stage new sets as an enrollment leaves them: keys and chains in pending/, too."""
        now = datetime.now(UTC)
        with self._store() as store:
            for name, credential in sets.items():
                domain = self._domains[name]
                pending = Pending.load(store, domain)
                pending.begin(domain, ca_url=CA_URL, account_id=ACCOUNT_ID, now=now)
                pending.save_key(EC_SPEC, credential.key)
                pending.save_chain(EC_SPEC, chain_to_pem(credential.chain))
                stage(store, domain, (credential,), ca_url=CA_URL, account_id=ACCOUNT_ID, now=now)

    def promote(self, *options: str) -> Finished:
        """Promote all that is staged, in this process, for JSON."""
        return run_here("promote", "--all", "--json", *options, "--config", self.apache.config)

    def _site(self, name: str, *, mod_md: bool) -> str:
        folder = self.apache.store / "domains" / name
        files = (
            f"SSLCertificateFile {folder / EC_SPEC.pubcert_name}\n"
            f"SSLCertificateKeyFile {folder / EC_SPEC.privkey_name}\n"
        )
        domain = f"MDomain {name}\n"
        if not mod_md:
            domain = f"<IfDefine MDCONNECTOR>\n{domain}</IfDefine>\n"
        return (
            f"{domain}<VirtualHost *:${{HTTPS_PORT}}>\nServerName {name}\nSSLEngine on\n"
            f"{'' if mod_md else files}</VirtualHost>\n"
        )

    def _read_domains(self) -> dict[str, ManagedDomain]:
        configuration = load_configuration(
            config=self.apache.config, sites=None, store=None, environment={}
        )
        return {domain.name: domain for domain in configuration.domains}

    @contextmanager
    def _store(self) -> Iterator[Store]:
        store = Store.open(
            self.apache.store,
            httpd_user_uid=33,
            httpd_group_gid=33,
            mod_md_loaded=self.apache.has_mod_md,
            create=True,
        )
        assert store is not None
        with store:
            yield store


def _settings(*, mod_md: bool) -> str:
    return SETTINGS if mod_md else f"<IfDefine MDCONNECTOR>\n{SETTINGS}</IfDefine>\n"
