"""Install, run, remove, reinstall and purge the Debian package beside a real Apache.

    MDCONNECTOR_THROW_AWAY=1 tests/deb/lifecycle.py PACKAGE.deb

Rules: it takes the Apache of the machine itself and removes the package, so it is for a machine
to throw away alone: `in-chroot` makes one. It wants the package installed, and root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
WORK = Path(tempfile.mkdtemp(prefix="lifecycle-"))
WORK.chmod(0o755)
# The package's libraries are used after it has gone.
shutil.copytree("/usr/lib/mdconnector", WORK / "libraries")
sys.path[:0] = [str(WORK / "libraries"), str(CLONE)]

from tests.parts import Pebble, served_certificate, wait_until

STORE = Path("/etc/apache2/md")
SITES = Path("/etc/apache2/sites-enabled")
SHOP, API = "shop.example.org", "api.example.org"
COMMON = """\
ServerName main.invalid
MDCertificateAuthority   {directory}
MDCACertificateFile      {bundle}
MDCertificateAgreement   accepted
MDContactEmail           hostmaster@example.org
MDExternalAccountBinding {eab}
MDStoreDir               {store}
MDRenewMode              manual
"""
SITE = """\
<MDomain {name}>
    MDPrivateKeys {keys}
</MDomain>
<VirtualHost *:443>
    ServerName {name}
    SSLEngine on
</VirtualHost>
"""
INSTALLED = (
    "/usr/bin/mdconnector",
    "/etc/cron.d/mdconnector",
    "/usr/share/man/man1/mdconnector.1.gz",
    "/usr/share/bash-completion/completions/mdconnector",
    "/usr/share/zsh/vendor-completions/_mdconnector",
    "/usr/share/fish/vendor_completions.d/mdconnector.fish",
)


def main(package: str) -> None:
    """Go through the life of an installation; the first thing that is wrong ends it."""
    if os.environ.get("MDCONNECTOR_THROW_AWAY") != "1":
        sys.exit("this test takes the machine's own Apache; see its first lines")
    eab = WORK / "eab.json"
    with Pebble(WORK / "ca", always_valid=True, nonce_reject=0) as ca:
        eab.touch(0o600)
        eab.write_text(json.dumps({"kid": "kid-1", "hmac": ca.eab_keys["kid-1"]}))
        configure_apache(ca, eab)
        the_package_works(ca)
        removal_leaves_the_store_alone(ca)
        a_purge_keeps_what_is_needed(package, ca)
        a_purge_leaves_certificates_and_evidence(package, ca)
        run("apache2ctl", "stop")
    say("done")


def configure_apache(ca: Pebble, eab: Path) -> None:
    """Make two sites with a CA that wants a binding, and start the machine's own Apache."""
    run("a2enmod", "-q", "ssl", "md")
    run("a2dissite", "-q", "000-default")
    common = COMMON.format(directory=ca.directory_url, bundle=ca.ca_file, eab=eab, store=STORE)
    (SITES / "00-acme.conf").write_text(common)
    for name, keys in ((SHOP, "RSA 2048"), (API, "secp256r1")):
        (SITES / f"{name}.conf").write_text(SITE.format(name=name, keys=keys))
    run("apache2ctl", "start")


def the_package_works(ca: Pebble) -> None:
    """Take both sites from nothing to being served, as cron does."""
    say("install and run")
    for file in INSTALLED:
        assert Path(file).exists(), file
    assert "mdconnector, version" in run("mdconnector", "--version")
    assert "2 managed" not in run("mdconnector", "-q", "renew", "--all")
    run("mdconnector", "-q", "promote", "--all", "--reload")
    both_are_served(ca)
    assert run("mdconnector", "-q", "renew", "--all") == "", "an idle run is silent"


def removal_leaves_the_store_alone(ca: Pebble) -> None:
    """Remove it: it says who is left, and no file of the store changes."""
    say("remove")
    before = tree()
    said = run("dpkg", "--remove", "mdconnector")
    assert "2 managed domains have nobody to renew the certificates now" in said, said
    assert tree() == before
    assert not Path("/usr/bin/mdconnector").exists()
    job = Path("/etc/cron.d/mdconnector").read_text().splitlines()[1].split(maxsplit=6)[6]
    assert run("sh", "-c", job) == "", "its cron line is silent without it"
    graceful()
    both_are_served(ca)


def a_purge_keeps_what_is_needed(package: str, ca: Pebble) -> None:
    """Purge it while a set is staged: nothing goes."""
    say("purge while a set waits to be promoted")
    run("dpkg", "--install", package)
    run("mdconnector", "renew", SHOP, "--force")
    before = tree()
    said = run("dpkg", "--purge", "mdconnector")
    assert f"{STORE}/mdconnector stays: " in said, said
    assert tree() == before
    both_are_served(ca)


def a_purge_leaves_certificates_and_evidence(package: str, ca: Pebble) -> None:
    """Purge it in peace: only what people have to look at stays of its folder."""
    say("purge when nothing is under way")
    run("dpkg", "--install", package)
    run("mdconnector", "promote", "--all", "--reload")
    ours = STORE / "mdconnector"
    for name in ("set-aside", "refused"):
        (ours / name / "evidence").mkdir(parents=True)
    before = {path: text for path, text in tree().items() if ours not in path.parents}
    said = run("dpkg", "--purge", "mdconnector")
    assert "stays: " not in said, said
    assert {path.name for path in ours.iterdir()} == {"set-aside", "refused"}
    assert {path: text for path, text in tree().items() if ours not in path.parents} == before
    for left in ("/etc/cron.d/mdconnector", "/usr/lib/mdconnector", "/var/lib/mdconnector"):
        assert not Path(left).exists(), left
    graceful()
    both_are_served(ca)


def both_are_served(ca: Pebble) -> None:
    """Ask Apache by handshakes, verified against the CA."""
    served_certificate("127.0.0.1", 443, SHOP, "rsa", roots_pem=ca.root_pem())
    served_certificate("127.0.0.1", 443, API, "ec", roots_pem=ca.root_pem())


def graceful() -> None:
    """Reload Apache and wait until it has written its pid file anew."""
    file = Path("/run/apache2/apache2.pid")
    before = file.stat().st_mtime_ns
    run("apache2ctl", "graceful")
    wait_until(lambda: file.stat().st_mtime_ns != before, "Apache has reloaded")


def tree() -> dict[Path, bytes]:
    """Return every file of the store; what Apache itself writes as it runs is left out."""
    volatile = {"httpd.json", "store.lock", "run.lock", "job.json"}
    files = (path for path in STORE.rglob("*") if path.is_file() and path.name not in volatile)
    return {path: path.read_bytes() for path in files}


def run(*words: str) -> str:
    """Run a command to its end, which must be a good one; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    output = done.stdout + done.stderr
    if done.returncode:
        sys.exit(f"{' '.join(words)} exited {done.returncode}:\n{output}")
    return output


def say(step: str) -> None:
    """Print what comes next."""
    print(f"lifecycle: {step}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
