"""A private Apache: its own ServerRoot, loopback ports, mod_ssl and, unless told otherwise, mod_md.

Rules: the folder must be searchable by www-data (the tests' `parts_folder` is; pytest's tmp_path
is not). It is started as apache2ctl does (`-k start`, so it leaves us and its PidFile is the only
truth) and never by a system's service. MDRenewMode is manual unless the test says otherwise: nobody
asks Let's Encrypt.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from tests.parts.ports import free_port
from tests.parts.processes import accepts, is_alive, minimal_environment, wait_until
from tests.parts.programs import find_program

MODULES_FOLDER = Path("/usr/lib/apache2/modules")
MODULES = ("mpm_event", "authz_core", "authz_host", "alias", "macro", "socache_shmcb", "ssl")

_MAIN = """\
ServerRoot "{root}"
DefaultRuntimeDir "{root}/run"
PidFile "{root}/run/httpd.pid"
ErrorLog "{root}/logs/error.log"
LogLevel {log_level}
ServerName main.invalid
{modules}
{user}
StartServers 1
MinSpareThreads 4
MaxSpareThreads 16
ThreadsPerChild 8
MaxRequestWorkers 16
Define HTTP_PORT {http_port}
Define HTTPS_PORT {ssl_port}
Listen {address}:${{HTTP_PORT}}
Listen {address}:${{HTTPS_PORT}} https
SSLSessionCache "shmcb:{root}/run/sessions(65536)"
DocumentRoot "{root}/htdocs"
<Directory "{root}">
    Require all granted
</Directory>
{md}
{extra}
IncludeOptional "{sites}/*.conf"
"""

_MD = """\
MDStoreDir "{store}"
MDPortMap http:{http_port} https:{ssl_port}
MDRenewMode {renew_mode}
"""
# No vhost has this port, so the main server answers whatever the sites do with theirs.
_MD_STATUS = """\
Listen {address}:{status_port}
<Location "/md-status">
    SetHandler md-status
</Location>
"""


class Apache:
    """One private Apache; `sites` are the files of its sites-enabled, by name.

    `${HTTP_PORT}` and `${HTTPS_PORT}` are defined for the sites. `main_extra` stands before them in
    the main file (see `Pebble.directives`). Without mod_md its lines stand where only mdconnector
    reads them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sites: Mapping[str, str] | None = None,
        sites_folder: Path | None = None,
        mod_md: bool = True,
        http_port: int | None = None,
        ssl_port: int | None = None,
        main_extra: str = "",
        modules: Sequence[str] = (),
        renew_mode: str = "manual",
        log_level: str = "warn md:debug",
        store: Path | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.root = folder
        self.address = address
        self.http_port = http_port or free_port()
        self.ssl_port = ssl_port or free_port()
        self._status_port = free_port()
        self.has_mod_md = mod_md
        self.binary = Path(find_program("apache2"))
        self.store = store or folder / "md"
        self.sites_folder = sites_folder or folder / "sites-enabled"
        self.config = folder / "apache2.conf"
        self.pid_file = folder / "run" / "httpd.pid"
        self.environment = minimal_environment()
        for name in ("run", "logs", "htdocs", "sites-enabled"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        loaded = (*MODULES, *modules, *(("md",) if mod_md else ()))
        md = _MD.format(
            store=self.store,
            http_port=self.http_port,
            ssl_port=self.ssl_port,
            renew_mode=renew_mode,
        )
        status = _MD_STATUS.format(address=address, status_port=self._status_port)
        self.config.write_text(
            _MAIN.format(
                root=folder,
                log_level=log_level if mod_md else "warn",
                modules="\n".join(_load(name) for name in dict.fromkeys(loaded)),
                user="User www-data\nGroup www-data" if os.geteuid() == 0 else "",
                http_port=self.http_port,
                ssl_port=self.ssl_port,
                md=md + status if mod_md else f"<IfDefine MDCONNECTOR>\n{md}</IfDefine>",
                address=address,
                extra=main_extra,
                sites=self.sites_folder,
            )
        )
        for name, text in (sites or {}).items():
            self.write_site(name, text)

    @property
    def pid(self) -> int:
        """The parent's process id, from the PidFile."""
        return int(self.pid_file.read_text())

    @property
    def is_running(self) -> bool:
        """Whether the process that the PidFile names lives and is this Apache."""
        try:
            return self.pid in self.processes()
        except (OSError, ValueError):
            return False

    def processes(self) -> tuple[int, ...]:
        """Return the living processes of this Apache, found by its configuration's path."""
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return tuple(pid for pid in pids if self._is_mine(_arguments(pid)) and is_alive(pid))

    @property
    def generation(self) -> int:
        """A number that changes with each start and each graceful: the PidFile's mtime."""
        return self.pid_file.stat().st_mtime_ns

    def write_site(self, name: str, text: str) -> Path:
        """Write one file of sites-enabled; `.conf` is added to its name."""
        file = self.sites_folder / (name if name.endswith(".conf") else f"{name}.conf")
        file.write_text(text)
        return file

    def start(self) -> Self:
        """Start Apache and return when it accepts connections; raise with its words if not."""
        self._run("-k", "start")
        try:
            wait_until(self._is_ready, "Apache to listen")
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}\n{self.error_log()}") from None
        return self

    def stop(self) -> None:
        """End Apache with SIGTERM to its parent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End Apache's parent with SIGKILL, and its children, which notice."""
        self._end(signal.SIGKILL)

    def graceful(self) -> None:
        """Reload as `apache2ctl graceful` does; return when the new configuration is in force."""
        before, pid = self.generation, self.pid
        os.kill(pid, signal.SIGUSR1)
        wait_until(
            lambda: not is_alive(pid) or (self.pid_file.exists() and self.generation != before),
            "the graceful restart",
            seconds=60,
        )
        if not is_alive(pid):
            raise RuntimeError(f"Apache ended at the graceful restart\n{self.error_log()}")

    def configtest(self) -> tuple[int, str]:
        """Return the exit code and words of `apache2 -t`."""
        done = self._call("-t")
        return done.returncode, done.stdout + done.stderr

    def dump(self, *defines: str) -> str:
        """Return what `apache2 -t -D …` prints (DUMP_VHOSTS, DUMP_CONFIG with the info module)."""
        return self._run("-t", *(word for name in defines for word in ("-D", name)))

    def error_log(self) -> str:
        """Return the error log."""
        file = self.root / "logs" / "error.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def get(self, path: str, host: str = "localhost", port: int | None = None) -> tuple[int, bytes]:
        """Ask the http port for a path as a host; return status and body without redirecting."""
        connection = HTTPConnection(self.address, port or self.http_port, timeout=10)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def md_status(self, name: str = "") -> dict[str, Any]:
        """Return what mod_md says about a managed domain, or about all of them."""
        status, body = self.get(f"/md-status/{name}", port=self._status_port)
        if status != 200:
            raise RuntimeError(f"md-status answered {status}: {body[:200]!r}")
        found: dict[str, Any] = json.loads(body)
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _is_mine(self, arguments: list[bytes]) -> bool:
        program = str(self.binary).encode()
        return arguments[:1] == [program] and str(self.config).encode() in arguments

    def _is_ready(self) -> bool:
        return (
            self.is_running and len(self.processes()) > 1 and accepts(self.http_port, self.address)
        )

    def _end(self, with_signal: signal.Signals) -> None:
        if not self.is_running:
            return
        os.kill(self.pid, with_signal)
        wait_until(lambda: not self.is_running, "Apache to end")
        if with_signal is signal.SIGKILL:
            self.pid_file.unlink()
            for child in self.processes():
                os.kill(child, signal.SIGKILL)
        wait_until(lambda: not self.processes(), "Apache's children to end")
        # a process that ends loses its command line, by which it is found, before its sockets
        wait_until(lambda: not accepts(self.http_port, self.address), "Apache's port to close")

    def _run(self, *arguments: str) -> str:
        done = self._call(*arguments)
        if done.returncode:
            raise RuntimeError(
                f"apache2 {' '.join(arguments)} exited {done.returncode}\n"
                f"{done.stdout}{done.stderr}{self.error_log()}"
            )
        return done.stdout

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.binary), "-d", str(self.root), "-f", str(self.config), *arguments],
            env=self.environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=120,
        )


def _load(name: str) -> str:
    return f"LoadModule {name}_module {MODULES_FOLDER}/mod_{name}.so"


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
