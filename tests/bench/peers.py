"""The other clients, each doing its work in the way its own manual shows.

Rules: a peer gets a folder of its own, a CA with its binding, and names; what it did is counted at
the CA, so that nobody is measured for work that was not done. mod_md works inside a real Apache and
is watched from outside until its store holds every set.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench.estates import SITE, make_sites, name_of
from tests.bench.measuring import MDCONNECTOR, ROOT
from tests.parts import Apache, Pebble, find_program, free_port
from tests.parts.programs import MissingProgramError

KEYS = ("secp256r1", "RSA 2048")
KID = "kid-1"
MAIL = "hostmaster@example.org"
_PACKAGED = ("/usr/bin/dpkg-query", "--show", "--showformat=${Version}")


def mdconnector(folder: Path, ca: Pebble, count: int, key: str) -> float:
    """Obtain all in one run of ours."""
    sites = make_sites(folder, count, f"{ca.directives(KID)}MDPrivateKeys {key}\n")
    return run([*MDCONNECTOR, "--sites", str(sites), "-q", "renew", "--all"], folder)


def mod_md(folder: Path, ca: Pebble, count: int, key: str) -> float:
    """Start an Apache that has to obtain all by itself, and wait for the last complete set."""
    sites = {name_of(number): SITE.format(name=name_of(number)) for number in range(count)}
    settings = f"{ca.directives(KID)}MDPrivateKeys {key}\n"
    apache = Apache(
        folder,
        sites={name: text.replace("*:443", "*:${HTTPS_PORT}") for name, text in sites.items()},
        main_extra=settings,
        renew_mode="always",
        http_port=ca.http_port,
        ssl_port=ca.tls_port,
        log_level="warn",
    )
    chain = "pubcert.pem" if key.startswith("RSA") else f"pubcert.{key}.pem"
    begin = time.perf_counter()
    apache.start()
    try:
        while len(list(apache.store.glob(f"staging/*/{chain}"))) < count:
            if not apache.is_running or time.perf_counter() - begin > 600:
                raise SystemExit(f"mod_md did not obtain all\n{apache.error_log()[-2000:]}")
            time.sleep(0.01)
        return time.perf_counter() - begin
    finally:
        apache.stop()


def lego(folder: Path, ca: Pebble, count: int, key: str) -> float:
    """Run lego once for each name, as its manual has it."""
    kind = "rsa2048" if key.startswith("RSA") else "ec256"
    base = [find_program("lego"), "--server", ca.directory_url, "--path", str(folder)]
    base += ["--email", MAIL, "--accept-tos", "--eab", "--kid", KID, "--hmac", ca.eab_keys[KID]]
    base += ["--key-type", kind, "--http", "--http.port", f"127.0.0.1:{free_port()}"]
    variables = {"LEGO_CA_CERTIFICATES": str(ca.ca_file)}
    names = (name_of(number) for number in range(count))
    return sum(run([*base, "--domains", name, "run"], folder, variables) for name in names)


def certbot(folder: Path, ca: Pebble, count: int, key: str) -> float:
    """Run certbot once for each name."""
    kind = ["rsa", "--rsa-key-size", "2048"] if key.startswith("RSA") else ["ecdsa"]
    base = [*certbot_command(folder, "certonly"), "--standalone", "--agree-tos", "-m", MAIL]
    base += ["--http-01-address", "127.0.0.1", "--http-01-port", str(free_port())]
    base += ["--server", ca.directory_url, "--eab-kid", KID, "--eab-hmac-key", ca.eab_keys[KID]]
    base += ["--key-type", *kind]
    variables = {"REQUESTS_CA_BUNDLE": str(ca.ca_file)}
    names = (name_of(number) for number in range(count))
    return sum(run([*base, "-d", name], folder, variables) for name in names)


def certbot_command(folder: Path, subcommand: str) -> list[str]:
    """Return a certbot that works in a folder of its own and asks nobody."""
    folders = [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")]
    places = [word for option, name in folders for word in (option, str(folder / name))]
    return [find_program("certbot"), subcommand, "-n", *places]


def dehydrated(folder: Path, ca: Pebble, count: int, key: str) -> float:
    """Register, then have one run obtain all that its domains.txt lists."""
    folder.mkdir(parents=True)
    (folder / "challenges").mkdir()
    kind = "rsa" if key.startswith("RSA") else "prime256v1"
    settings = {
        "BASEDIR": folder,
        "WELLKNOWN": folder / "challenges",
        "CA": ca.directory_url,
        "EAB_KID": KID,
        "EAB_HMAC_KEY": ca.eab_keys[KID],
        "CONTACT_EMAIL": MAIL,
        "CURL_OPTS": f"--cacert {ca.ca_file}",
        "KEY_ALGO": kind,
        "KEYSIZE": 2048,
        "PRIVATE_KEY_RENEW": "yes",
    }
    file = folder / "config"
    file.write_text("".join(f'{name}="{value}"\n' for name, value in settings.items()))
    (folder / "domains.txt").write_text("".join(f"{name_of(i)}\n" for i in range(count)))
    base = [find_program("dehydrated"), "--config", str(file)]
    return run([*base, "--register", "--accept-terms"], folder) + run([*base, "--cron"], folder)


Peer = Callable[[Path, Pebble, int, str], float]
PEERS: Mapping[str, Peer] = {
    "mdconnector": mdconnector,
    "mod_md": mod_md,
    "lego": lego,
    "certbot": certbot,
    "dehydrated": dehydrated,
}


def versions() -> dict[str, str]:
    """Return what each peer says it is; `missing` where it is not installed."""
    asked: dict[str, Sequence[str]] = {
        "mdconnector": [*MDCONNECTOR, "--version"],
        "mod_md": ["apache2", "-v"],
        "lego": ["lego", "--version"],
        "certbot": ["certbot", "--version"],
        "dehydrated": ["dehydrated", "--version"],
        "Pebble": [*_PACKAGED, "pebble"],
    }
    return {name: _version(command) for name, command in asked.items()}


def _version(command: Sequence[str]) -> str:
    try:
        program = command[0] if "/" in command[0] else find_program(command[0])
        said = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    except (MissingProgramError, OSError):
        return "missing"
    found = re.search(r"\d+\.\d+(?:\.\d+)*\S*", said.stdout)
    if found:
        return found[0]
    packaged = subprocess.run(
        [*_PACKAGED, Path(command[0]).name],
        capture_output=True,
        text=True,
        check=False,
    )
    return packaged.stdout or "unknown"


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> float:
    """Run a command of a peer to its end; return the seconds. It must exit 0."""
    variables = {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT) if command[: len(MDCONNECTOR)] == list(MDCONNECTOR) else "",
        **(environment or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "said.log"
    begin = time.perf_counter()
    with log.open("ab") as said:
        done = subprocess.run(
            command, env=variables, cwd=folder, stdout=said, stderr=said, check=False
        )
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{command[0]} exited {done.returncode}\n{log.read_text()[-2000:]}")
    return seconds


def make_lineages(folder: Path, ca: Pebble, count: int) -> None:
    """Have certbot obtain one certificate, and write as many lineages like it as are wanted."""
    certbot(folder, ca, 1, "secp256r1")
    config, first = folder / "config", name_of(0)
    text = (config / "renewal" / f"{first}.conf").read_text()
    for number in range(1, count):
        name = name_of(number)
        (config / "renewal" / f"{name}.conf").write_text(text.replace(first, name))
        shutil.copytree(config / "archive" / first, config / "archive" / name)
        (config / "live" / name).mkdir()
        for kind in ("cert", "chain", "fullchain", "privkey"):
            link = config / "live" / name / f"{kind}.pem"
            link.symlink_to(f"../../archive/{name}/{kind}1.pem")
