"""The conditions that are decided while reading, <IfModule> and its like. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Literal

from mdconnector.httpd.lexer import lower_ascii, next_word, split_words
from mdconnector.httpd.paths import merge_path
from mdconnector.httpd.reading import FileReading, Reading
from mdconnector.httpd.versions import VersionTestError, version_matches
from mdconnector.managed_domain import Severity

_Answer = Literal["no", "yes", "assumed"]


def if_module(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfModule>, by identifier or source name, with case."""
    _read(
        run, file, args, "IfModule", lambda name: _among(name, run.modules, run.assumptions.modules)
    )


def if_define(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfDefine>, with case; the environment does not count."""
    _read(
        run, file, args, "IfDefine", lambda name: _among(name, run.defines, run.assumptions.defines)
    )


def if_file(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfFile>."""
    _read(run, file, args, "IfFile", lambda name: _has_file(run, name))


def if_directive(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfDirective>."""
    _read(run, file, args, "IfDirective", lambda name: _knows(run, file, name))


def if_section(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfSection>."""
    _read(run, file, args, "IfSection", lambda name: _knows(run, file, f"<{name}"))


def if_version(run: Reading, file: FileReading, args: str) -> None:
    """Read <IfVersion>."""
    is_live = False
    try:
        is_live = version_matches(split_words(args, 4), run.world.version)
    except VersionTestError as error:
        run.report("bad-condition", file.at, f"<IfVersion>: {error}", "write <IfVersion >= 2.4>")
    _enter(run, file, "IfVersion", "yes" if is_live else "no")


def _read(
    run: Reading, file: FileReading, args: str, name: str, test: Callable[[str], _Answer]
) -> None:
    end = args.rfind(">")
    if end < 0:
        run.report_unclosed_tag(file, name)
    text = args[:end] if end >= 0 else args
    word, _ = next_word(text.removeprefix("!"))
    if not word:
        run.report("bad-condition", file.at, f"<{name}> asks for nothing", "name what to test")
        answer: _Answer = "no"
    elif text.startswith("!"):
        # an assumption never makes text dead
        answer = "no" if test(word) == "yes" else "yes"
    else:
        answer = test(word)
    _enter(run, file, name, answer)


def _enter(run: Reading, file: FileReading, name: str, answer: _Answer) -> None:
    if answer == "no":
        run.skip_section(file, name)
    else:
        run.open_condition(file, name, assumed=answer == "assumed")


def _among(name: str, known: Container[str], assumed: Container[str]) -> _Answer:
    if name in known:
        return "yes"
    return "assumed" if name in assumed else "no"


def _has_file(run: Reading, name: str) -> _Answer:
    path = merge_path(run.server_root, name)
    if path is None:
        return "no"
    if run.world.reader.kind(path) is not None:
        return "yes"
    return "assumed" if run.assumptions.has_file(path) else "no"


def _knows(run: Reading, file: FileReading, name: str) -> _Answer:
    from mdconnector.httpd.directive_names import modules_with

    modules = modules_with(lower_ascii(name))
    if not modules:
        run.report(
            "unknown-directive-asked",
            file.at,
            f"whether this httpd knows {name} cannot be told; it is taken for no",
            "ask for its module with <IfModule>",
            severity=Severity.WARNING,
        )
        return "no"
    if not run.modules.isdisjoint(modules):
        return "yes"
    return "no" if run.assumptions.modules.isdisjoint(modules) else "assumed"
