"""A place where this machine looks as Red Hat's packages leave it, in a mount namespace of its own.

There are /etc/httpd, /usr/sbin/httpd (Debian's, by another name), the user apache, /run/httpd and
/var/lib/httpd; no /etc/apache2 and no www-data. Nothing of it is seen from outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.e2e.command import CLONE
from tests.parts import free_port, wait_until

_PRIVATE = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc")
_PLACE = """
mount -t tmpfs tmpfs /mnt
cp -a /etc /mnt/etc
rm -rf /mnt/etc/apache2
sed -i /^www-data:/d /mnt/etc/passwd /mnt/etc/group
echo apache:x:48:48:Apache:/usr/share/httpd:/sbin/nologin >>/mnt/etc/passwd
echo apache:x:48: >>/mnt/etc/group
mkdir -p /mnt/sbin /mnt/lib/httpd /mnt/run/httpd
cp "$1" /mnt/sbin/httpd
mkdir -p /mnt/etc/httpd/conf /mnt/etc/httpd/conf.d /mnt/etc/httpd/conf.modules.d /mnt/etc/httpd/logs
cd /mnt/etc/httpd
ln -s ../../var/lib/httpd state
ln -s /run/httpd run
ln -s /usr/lib/apache2/modules modules
cat >conf/httpd.conf
cd /
mount --bind /mnt/etc /etc
mount --bind /mnt/sbin /usr/sbin
mount --bind /mnt/lib /var/lib
mount --bind /mnt/run /run
chown apache:apache /var/lib/httpd
chmod 0700 /var/lib/httpd
echo ready
exec sleep infinity
"""
_HTTPD_CONF = """\
ServerRoot "/etc/httpd"
Listen 127.0.0.1:{http_port}
Include conf.modules.d/*.conf
User apache
Group apache
ServerAdmin root@localhost
ServerName main.invalid
ErrorLog "logs/error_log"
IncludeOptional conf.d/*.conf
"""
_MODULES = {
    "00-base.conf": ("authz_core", "alias", "socache_shmcb"),
    "00-mpm.conf": ("mpm_event",),
    "00-ssl.conf": ("ssl",),
    "01-md.conf": ("md",),
}


class RedHat:
    """The place, as long as the block lasts; its httpd does not run yet."""

    def __init__(self) -> None:
        self.http_port, self.ssl_port = free_port(), free_port()
        binary = shutil.which("apache2", path="/usr/sbin") or ""
        self._holder = subprocess.Popen(
            [*_PRIVATE, _PLACE, "sh", binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Self:
        stdin, stdout = self._holder.stdin, self._holder.stdout
        assert stdin
        assert stdout
        stdin.write(_HTTPD_CONF.format(http_port=self.http_port).encode())
        stdin.close()
        assert stdout.readline() == b"ready\n"
        for name, modules in _MODULES.items():
            lines = (f"LoadModule {one}_module modules/mod_{one}.so\n" for one in modules)
            self.write(f"/etc/httpd/conf.modules.d/{name}", "".join(lines))
        listen = f"Listen 127.0.0.1:{self.ssl_port} https\n"
        port_map = f"MDPortMap http:{self.http_port} https:{self.ssl_port}\n"
        self.write("/etc/httpd/conf.d/ssl.conf", listen + port_map)
        return self

    def __exit__(self, *_: object) -> None:
        self.type("kill $(cat /run/httpd/httpd.pid)")
        pid_file = Path(f"/proc/{self._holder.pid}/root/run/httpd/httpd.pid")
        wait_until(lambda: not pid_file.exists(), "httpd to end")
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout
        self._holder.stdout.close()

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        self.type('cat >"$0"', path, text=text)

    def append(self, path: str, line: str) -> None:
        """Add a line to a file there."""
        self.type('cat >>"$0"', path, text=f"{line}\n")

    def type(self, command: str, *words: str, text: str = "") -> str:
        """Run a line in a shell there; return what it prints."""
        done = subprocess.run(
            [
                shutil.which("nsenter") or "nsenter",
                f"--mount=/proc/{self._holder.pid}/ns/mnt",
                "/bin/sh",
                "-c",
                command,
                *words,
            ],
            env={
                "LC_ALL": "C.UTF-8",
                "TZ": "UTC",
                "PYTHONPATH": str(CLONE),
                "PATH": f"{Path(sys.executable).parent}:/usr/sbin:{os.defpath}",
            },
            cwd="/",
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout
