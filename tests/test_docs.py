"""What the pages show is what happens: commands are run, files are read, links lead somewhere.

Rules: a block ```console has commands behind `$ ` and what they print; `...` stands for anything,
within a line or for lines. `<!-- file: PATH -->` above a block makes it that file; what the page's
reader need not see is `<!-- append: PATH: LINE -->` and `<!-- run: COMMAND -->`. All of a page
happens in one playground, in the order of the page. Commands that cannot happen there stand in
```sh, and in a list below with the reason. docs/commands.md is the business of test_manual.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.e2e.command import CLONE
from tests.e2e.red_hat import RedHat
from tests.parts import ForwardProxy, Pebble, ThrowAwayAuthority

DOCS = CLONE / "docs"
RED_HAT = DOCS / "how-to" / "rhel.md"
PAGES = sorted([*CLONE.glob("*.md"), *DOCS.rglob("*.md")])
_BLOCK = re.compile(
    r"(?:^<!-- file: (?P<file>\S+) -->\n)?^```(?P<kind>\S*)\n(?P<text>.*?)^```$"
    r"|^<!-- append: (?P<append>\S+): (?P<line>[^\n]*) -->$"
    r"|^<!-- run: (?P<run>[^\n]*) -->$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(CLONE))


def blocks(page: Path) -> Iterator[re.Match[str]]:
    yield from _BLOCK.finditer(page.read_text())


def has_transcript(page: Path) -> bool:
    is_other = page in (DOCS / "commands.md", RED_HAT)
    return not is_other and any(one["kind"] == "console" for one in blocks(page))


# --- transcripts --------------------------------------------------------------------------------


def playground_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("playground", CLONE / "examples/playground.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["playground"] = module
    spec.loader.exec_module(module)
    return module


class Reader:
    """Somebody who does what a page says, in a playground that looks like the page's machine."""

    def __init__(self, page: Path, playground: Any, more: Sequence[tuple[str, str]] = ()) -> None:
        self._page = re.sub(r"^<!-- (append|run): .*", "", page.read_text(), flags=re.MULTILINE)
        self._playground = playground
        apache, ca = playground.apache, playground.ca
        root = ("demo-run", str(playground.folder))
        elsewhere = (
            ("/etc/apache2/sites-available", str(apache.sites_folder)),
            ("/etc/apache2", str(apache.root)),
            ("/var/www/html", str(apache.root / "htdocs")),
            ("/etc/letsencrypt", str(playground.folder / "letsencrypt")),
            ("https://acme.sectigo.com/v2/OV", ca.directory_url),
            ("/usr/local/bin/nsupdate.sh /etc/dns-01.conf", "${DNS_01_COMMAND}"),
            ("*:443", f"*:{apache.ssl_port}"),
            ("*:80>", f"*:{apache.http_port}>"),
        )
        # A page that shows the playground itself shows nothing in disguise.
        first, last = ((root,), ()) if root[0] in self._page else ((), (root,))
        self._real = (*first, *more, *elsewhere, *last)

    def follow(self, block: re.Match[str]) -> Iterator[tuple[str, str, str]]:
        """Do what a block says; yield each command, what the page shows, and what it printed."""
        if block["file"]:
            self.write(block["file"], block["text"])
        elif block["append"]:
            self.append(block["append"], block["line"])
        elif block["run"]:
            self.type(block["run"])
        elif block["kind"] == "console":
            for command, shown in entries(block["text"]):
                yield command, shown, self.type(command)

    def write(self, path: str, text: str) -> None:
        self._file(path).write_text(self._to_real(text))

    def append(self, path: str, line: str) -> None:
        with self._file(path).open("a") as file:
            file.write(f"{self._to_real(line)}\n")

    def _file(self, path: str) -> Path:
        file = Path(self._to_real(path))
        assert file.is_relative_to(self._playground.folder), path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def type(self, command: str) -> str:
        """Run a line in a shell; return what it prints, as the page would show it."""
        done = subprocess.run(
            ["/bin/sh", "-c", self._to_real(command)],
            env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONPATH": str(CLONE)}
            | self._playground.environment()
            | {"PATH": f"{Path(sys.executable).parent}:/usr/sbin:{os.defpath}"},
            cwd=self._playground.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return self._to_shown(done.stdout)

    def _to_real(self, text: str) -> str:
        for shown, real in self._real:
            text = text.replace(shown, real)
        return text

    def _to_shown(self, text: str) -> str:
        for shown, real in self._real:
            if shown in self._page:
                text = text.replace(real, shown)
        return text


def proxies(folder: Path, servers: ExitStack) -> tuple[tuple[str, str], ...]:
    """Start the page's two forward proxies, of which one opens TLS; return what they stand for."""
    authority = ThrowAwayAuthority(folder / "proxy")
    trusts = folder / "ca" / "ca.pem"
    plain = servers.enter_context(ForwardProxy())
    opening = servers.enter_context(ForwardProxy(opens_with=authority.issue(), trusts=trusts))
    return (
        ("http://proxy.example.org:3128", plain.url),
        ("http://inspection.example.org:3128", opening.url),
        ("/etc/ssl/certs/proxy-ca.pem", str(authority.ca_file)),
    )


class RedHatReader(Reader):
    """Somebody who does what a page says where everything is laid out as Red Hat's packages do."""

    def __init__(self, page: Path, place: RedHat, ca: Pebble, eab_file: Path) -> None:
        self._page = page.read_text()
        self._place = place
        self._real = (
            ("EAB_FILE", str(eab_file)),
            ("CA_FILE", str(ca.ca_file)),
            ("https://acme.sectigo.com/v2/OV", ca.directory_url),
            ("*:443", f"*:{place.ssl_port}"),
        )

    def write(self, path: str, text: str) -> None:
        self._place.write(path, self._to_real(text))

    def append(self, path: str, line: str) -> None:
        self._place.append(path, self._to_real(line))

    def type(self, command: str) -> str:
        return self._to_shown(self._place.type(self._to_real(command)))


def entries(text: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what it should print."""
    _, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    return [(command, shown) for command, _, shown in (one.partition("\n") for one in parts)]


def as_pattern(shown: str) -> str:
    """Return a pattern for an output: `...` on a line of its own is any lines."""
    lines = (
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
        for line in shown.splitlines()
    )
    return "".join(lines)


@pytest.mark.apache
@pytest.mark.pebble
@pytest.mark.parametrize("page", [one for one in PAGES if has_transcript(one)], ids=name_of)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, parts_folder: Path) -> None:
    with ExitStack() as servers:
        mod_md = "<!-- an Apache without mod_md -->" not in page.read_text()
        playground = playground_module().open_playground(parts_folder, servers, mod_md=mod_md)
        more = (
            proxies(parts_folder, servers) if "<!-- forward proxies -->" in page.read_text() else ()
        )
        reader = Reader(page, playground, more)
        follow_all(reader, page)


@pytest.mark.apache
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a place of his own")
def test_the_commands_of_the_page_on_red_hat_print_what_it_shows(
    trusting_ca: Pebble, parts_folder: Path
) -> None:
    eab_file = parts_folder / "eab.json"
    eab_file.touch(0o600)
    eab_file.write_text(json.dumps({"kid": "kid-1", "hmac": trusting_ca.eab_keys["kid-1"]}))
    with RedHat() as place:
        follow_all(RedHatReader(RED_HAT, place, trusting_ca, eab_file), RED_HAT)


def follow_all(reader: Reader, page: Path) -> None:
    """Do all that a page says, and compare."""
    for block in blocks(page):
        for command, shown, printed in reader.follow(block):
            assert re.fullmatch(as_pattern(shown), printed), (
                f"{name_of(page)}\n$ {command}\n{printed}\nbut the page shows\n{shown}"
            )


def test_an_output_is_compared_word_by_word() -> None:
    assert re.fullmatch(as_pattern("a ... c\n...\nz\n"), "a b c\n1\n2\nz\n")
    assert not re.fullmatch(as_pattern("a ... c\n"), "a b d\n")
    assert not re.fullmatch(as_pattern("a\n"), "a\nb\n")


NOT_RUN = {
    "apt-get": "changes the machine",
    "sudo": "changes the machine",
    "make": "has tests of its own, or needs a clone",
    ".": "sets the variables that the test sets itself",
    "certbot": "certbot's own store",
    "systemctl": "needs a system that systemd has booted",
    "ansible-playbook": "test_ansible runs it",
    "scp": "needs another host",
    "flock": "needs another host",
    "rsync": "is run by tests/e2e/test_move_host.py",
    "a2enmod": "changes the machine's own Apache",
    "a2ensite": "changes the machine's own Apache",
    "dpkg": "changes the machine",
    "pipx": "needs the network",
    "dnf": "another distribution's",
    "semanage": "another distribution's",
    "restorecon": "another distribution's",
}
"""what a ```sh block may begin its lines with, and why that is not run"""


@pytest.mark.parametrize("page", [CLONE / "README.md", *DOCS.rglob("*.md")], ids=name_of)
def test_what_is_not_run_has_a_reason(page: Path) -> None:
    for block in blocks(page):
        if block["kind"] == "sh":
            lines = block["text"].replace("\\\n", " ").splitlines()
            words = {line.split()[0] for line in lines if line and not line.startswith(("#", " "))}
            assert words <= set(NOT_RUN), f"{words - set(NOT_RUN)}: make it ```console, or list it"


# --- links --------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", one.replace("`", "").lower()) for one in headings)
    return {one.replace(" ", "-") for one in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text())
    for link in _LINK.findall(text):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_names_every_page() -> None:
    index = DOCS / "README.md"
    named = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text())}
    assert {page for page in DOCS.rglob("*.md") if page != index} <= named
