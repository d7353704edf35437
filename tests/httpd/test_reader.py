"""Only regular files are read, byte by byte, and httpd's environment and binary tell the rest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mdconnector.errors import ConfigurationError
from mdconnector.httpd import reader
from mdconnector.httpd.directive_names import modules_with
from mdconnector.httpd.evaluator import STATIC_MODULES, EntryKind, World, evaluate
from mdconnector.httpd.lexer import lower_ascii
from mdconnector.httpd.reader import DiskReader, read_environment, read_program
from mdconnector.httpd.world import source_name
from tests.httpd.oracle import ENVIRONMENT
from tests.parts import find_program

_MODULES = Path("/usr/lib/apache2/modules")


def test_every_byte_of_a_file_comes_back(tmp_path: Path) -> None:
    """Text is whatever the bytes are."""
    content = bytes(range(256)) + "caf\xe9".encode()
    (tmp_path / "f").write_bytes(content)
    text = DiskReader().read(str(tmp_path / "f"))
    assert text.encode("utf-8", "surrogateescape") == content
    assert text.endswith("caf\xe9")


def test_name_of_any_bytes_can_be_listed_and_read(tmp_path: Path) -> None:
    """Names need not be UTF-8."""
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.conf"))).write_bytes(b"ServerName a")
    (tmp_path / "caf\xe9.conf").write_bytes(b"ServerName b")
    found = DiskReader().list_folder(str(tmp_path))
    assert found is not None
    names = sorted(name for name, _ in found)
    assert names == ["caf\xe9.conf", "\udcff\udce9.conf"]
    assert DiskReader().read(f"{tmp_path}/{names[1]}") == "ServerName a"


def test_kinds_follow_links_and_listing_does_not(tmp_path: Path) -> None:
    """A pattern must be able to tell a link to a folder from a folder."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for target in ("file", "folder", "gone"):
        (tmp_path / f"to-{target}").symlink_to(target)
    disk = DiskReader()
    assert dict(disk.list_folder(str(tmp_path)) or ()) == {
        "file": EntryKind.FILE,
        "folder": EntryKind.FOLDER,
        "fifo": EntryKind.OTHER,
        "to-file": EntryKind.LINK,
        "to-folder": EntryKind.LINK,
        "to-gone": EntryKind.LINK,
    }
    kinds = {name: disk.kind(f"{tmp_path}/{name}") for name in ("to-file", "to-folder", "to-gone")}
    assert list(kinds.values()) == [EntryKind.FILE, EntryKind.FOLDER, None]


def test_matrix_a2_fifo_is_refused_at_once(tmp_path: Path) -> None:
    """httpd would wait for a writer for ever."""
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        DiskReader().read(str(tmp_path / "f"))


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/none/x", "/etc/passwd/x", "/a\0b"])
def test_what_is_no_regular_file_is_refused(path: str) -> None:
    """The error names it."""
    with pytest.raises(ConfigurationError) as caught:
        DiskReader().read(path)
    assert caught.value.at == path


def test_null_device_is_an_empty_file() -> None:
    """The only other thing that httpd accepts."""
    assert DiskReader().read("/dev/null") == ""


def test_matrix_a2_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not to be filled by a mistake."""
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 10)
    (tmp_path / "f").write_bytes(b"x" * 10)
    assert DiskReader().read(str(tmp_path / "f")) == "x" * 10
    (tmp_path / "f").write_bytes(b"x" * 11)
    with pytest.raises(ConfigurationError, match="larger than"):
        DiskReader().read(str(tmp_path / "f"))


def test_only_a_missing_folder_is_none(tmp_path: Path) -> None:
    """One that is a file is an error, as for httpd."""
    (tmp_path / "f").write_text("")
    assert DiskReader().list_folder(str(tmp_path / "none")) is None
    with pytest.raises(ConfigurationError):
        DiskReader().list_folder(str(tmp_path / "f"))


def test_pattern_skips_links_to_folders_within_and_follows_them_at_its_end(tmp_path: Path) -> None:
    """As httpd does on the real file system."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.conf").write_text("A\n")
    (tmp_path / "link").symlink_to("real")
    main = tmp_path / "main"
    world = World(DiskReader(), str(tmp_path))
    main.write_text("Include [rl]*/x.conf\n")
    assert len(evaluate(str(main), world=world).directives) == 1
    main.write_text("Include [rl]*\n")
    assert len(evaluate(str(main), world=world).directives) == 2


def test_includes_may_be_nested_as_deeply_as_httpd_allows(tmp_path: Path) -> None:
    """128 within one another, not one more."""
    for number in range(128):
        (tmp_path / str(number)).write_text(f"Include {number + 1}\n")
    (tmp_path / "128").write_text("A\n")
    world = World(DiskReader(), str(tmp_path))
    assert [each.name for each in evaluate("0", world=world).directives] == ["A"]
    (tmp_path / "128").write_text("Include 129\nB\n")
    (tmp_path / "129").write_text("A\n")
    evaluation = evaluate("0", world=world)
    assert [each.name for each in evaluation.directives] == ["B"]
    assert [each.code for each in evaluation.errors] == ["include-failed"]


# environment


def test_environment_is_what_the_shell_makes_of_envvars(tmp_path: Path) -> None:
    """Only what is exported; logic, other files and unset included."""
    (tmp_path / "more").write_text("export MORE='a b'\n")
    (tmp_path / "envvars").write_text(
        'unset HOME\nSUFFIX="-$(basename "$APACHE_CONFDIR")"\nexport RUN="/run$SUFFIX"\n'
        f'. {tmp_path}/more\nexport LINES="1\n2"\necho noise\nHIDDEN=1\n'
    )
    base = {"PATH": "/usr/bin:/bin", "HOME": "/root", "KEPT": "1"}
    assert read_environment(tmp_path / "envvars", base) == {
        "PATH": "/usr/bin:/bin",
        "KEPT": "1",
        "RUN": f"/run-{tmp_path.name}",
        "MORE": "a b",
        "LINES": "1\n2",
    }


def test_folder_named_by_the_environment_wins(tmp_path: Path) -> None:
    """As for apache2ctl."""
    (tmp_path / "envvars").write_text('export X="$APACHE_CONFDIR"\n')
    base = {"APACHE_CONFDIR": "/etc/apache2-two"}
    assert read_environment(tmp_path / "envvars", base)["X"] == "/etc/apache2-two"


@pytest.mark.parametrize("text", ["exit 0\n", "exit 1\n", "if\n", None])
def test_envvars_that_cannot_be_sourced_is_an_error(text: str | None, tmp_path: Path) -> None:
    """It names the file."""
    if text is not None:
        (tmp_path / "envvars").write_text(text)
    with pytest.raises(ConfigurationError, match="cannot be sourced") as caught:
        read_environment(tmp_path / "envvars", {})
    assert caught.value.at == str(tmp_path / "envvars")


def test_envvars_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run must not hang on it."""
    monkeypatch.setattr(reader, "_ENVVARS_LIMIT_SECONDS", 0.2)
    (tmp_path / "envvars").write_text("exec sleep 600\n")
    with pytest.raises(ConfigurationError):
        read_environment(tmp_path / "envvars", {"PATH": "/usr/bin:/bin"})


# httpd's binary


def test_binary_of_another_program_says_nothing(tmp_path: Path) -> None:
    """No version, no guess."""
    (tmp_path / "x").write_bytes(b"\x7fELF")
    assert read_program(tmp_path / "x") is None
    with pytest.raises(ConfigurationError):
        read_program(tmp_path / "none")


def test_statically_linked_server_is_recognised(tmp_path: Path) -> None:
    """An MPM may be compiled in."""
    strings = [b"Apache/2.4.6 (CentOS)", b"event.c", b"mod_so.c", b"http_core.c", b"x_mod_y.c"]
    (tmp_path / "httpd").write_bytes(b"\0" + b"\0".join(strings) + b"\0")
    program = read_program(tmp_path / "httpd")
    assert program is not None
    assert program.version == "2.4.6"
    assert program.modules == {
        *("core.c", "core_module", "http_core.c", "http_module", "mod_so.c", "so_module"),
        *("event.c", "mpm_event_module"),
    }


@pytest.mark.apache
def test_binary_tells_what_httpd_itself_tells() -> None:
    """Version, compiled-in modules and root, without starting it."""
    httpd = Path(find_program("apache2"))
    program = read_program(httpd)
    assert program is not None
    answer = subprocess.run([httpd, "-V"], env=ENVIRONMENT, capture_output=True, check=False)
    assert f"Apache/{program.version} " in answer.stdout.decode()
    assert f'HTTPD_ROOT="{program.server_root}"' in answer.stdout.decode()
    answer = subprocess.run([httpd, "-l"], env=ENVIRONMENT, capture_output=True, check=True)
    compiled = set(answer.stdout.decode().split()[3:])
    assert {name for name in program.modules if name.endswith(".c")} == compiled
    assert program.modules == STATIC_MODULES


@pytest.mark.apache
@pytest.mark.parametrize("file", sorted(_MODULES.glob("mod_*.so")), ids=lambda file: file.stem)
def test_source_names_are_those_in_the_modules_themselves(file: Path) -> None:
    """Each module carries its own."""
    identifier = f"{file.stem.removeprefix('mod_')}_module"
    assert b"\0" + source_name(identifier, str(file)).encode() + b"\0" in file.read_bytes()


@pytest.mark.apache
def test_directive_table_has_what_httpd_lists(tmp_path: Path) -> None:
    """Of the modules that stand beside mod_md; none is missing."""
    modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl", "md", "macro", "rewrite", "proxy"]
    loads = "".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so\n" for name in modules)
    (tmp_path / "c").write_text(
        f"{loads}DefaultRuntimeDir {tmp_path}\nErrorLog {tmp_path}/e\nServerName x\n"
    )
    answer = subprocess.run(
        [find_program("apache2"), "-d", tmp_path, "-f", tmp_path / "c", "-L"],
        env=ENVIRONMENT,
        capture_output=True,
        check=True,
    )
    listed = [
        line.split()
        for line in answer.stdout.decode().splitlines()
        if line.endswith(".c)") and not line.startswith("\t")
    ]
    assert len(listed) > 200
    for name, module in listed:
        assert module.strip("()") in (modules_with(lower_ascii(name)) or ()), name
