"""A place to try things: a test CA that wants a binding, and a private Apache without any site.

    python examples/playground.py [FOLDER]      until Ctrl-C; FOLDER is demo-run where none is named

docs/tutorial.md uses it. The sites go into FOLDER/apache/sites-enabled; a shell that has read
FOLDER/environment finds this mdconnector, and this mdconnector finds this Apache. The machine's own
Apache is never touched.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CLONE))

from tests.parts import Apache, Challtestsrv, Pebble, free_port

DNS_01 = CLONE / "examples" / "dns-01" / "challtestsrv.py"


@dataclass(frozen=True, slots=True)
class Playground:
    """Its parts, started."""

    folder: Path
    apache: Apache
    ca: Pebble
    dns: Challtestsrv

    def environment(self) -> dict[str, str]:
        """Return the variables that a shell needs."""
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "MDCONNECTOR_CONFIG": str(self.apache.config),
            "MDCONNECTOR_HTTPD": str(self.apache.binary),
            "HTTPS": f"{self.apache.address}:{self.apache.ssl_port}",
        }


def open_playground(folder: Path, servers: ExitStack, *, mod_md: bool = True) -> Playground:
    """Start everything in an empty folder that Apache's user can search."""
    http_port, https_port = free_port(), free_port()
    dns = servers.enter_context(Challtestsrv(folder / "dns"))
    ca = Pebble(folder / "ca", dns_server=dns.dns_server, http_port=http_port, tls_port=https_port)
    servers.enter_context(ca)
    eab_file = folder / "eab.json"
    eab_file.touch(0o600)
    eab_file.write_text(json.dumps({"kid": "kid-1", "hmac": ca.eab_keys["kid-1"]}) + "\n")
    values = {
        "CA_DIRECTORY": ca.directory_url,
        "CA_BUNDLE": ca.ca_file,
        "EAB_FILE": eab_file,
        "DNS_01_COMMAND": f"{DNS_01} {dns.management_url}",
    }
    apache = Apache(
        folder / "apache",
        mod_md=mod_md,
        http_port=http_port,
        ssl_port=https_port,
        main_extra="\n".join(f'Define {name} "{value}"' for name, value in values.items()),
    )
    servers.enter_context(apache)
    return Playground(folder, apache, ca, dns)


def make_folder(run: Path) -> Path:
    """Make an empty folder; where Apache's user cannot search those above it, as a link to /tmp."""
    if run.is_symlink():
        shutil.rmtree(run.resolve(), ignore_errors=True)
        run.unlink()
    shutil.rmtree(run, ignore_errors=True)
    searchable = all(parent.stat().st_mode & 0o001 for parent in run.parents)
    if searchable or os.geteuid() != 0:
        run.mkdir(mode=0o755)
        return run
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-demo-"))
    folder.chmod(0o755)
    run.symlink_to(folder)
    return folder


def main(where: str = "demo-run") -> None:
    """Open the playground, write what a shell needs, and wait for the end."""
    folder = make_folder(Path(where).absolute())
    ends = {signal.SIGINT, signal.SIGTERM}
    with ExitStack() as servers:
        playground = open_playground(folder, servers)
        lines = [
            f"export {name}={shlex.quote(text)}" for name, text in playground.environment().items()
        ]
        (Path(where) / "environment").write_text("\n".join(lines) + "\n")
        print(f"A test CA and an Apache are running. In another terminal:\n\n  cd {CLONE}")
        print(f"  . {Path(where).absolute()}/environment\n\nCtrl-C ends them.", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
