"""Our reading of random odd configurations is the installed httpd's, directive by directive.

MDCONNECTOR_DIFFERENTIAL_CONFIGS sets how many are tried, MDCONNECTOR_DIFFERENTIAL_SEED where the
seeds begin.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdconnector.httpd.evaluator import Evaluation, evaluate
from tests.httpd.nasty import Nasty
from tests.httpd.oracle import Answer, ask, base_lines, our_rows, world

_LONG = b"UnsetEnv " + b"a" * 197
_PARTICULAR = {
    "last line fills the first buffer": b"UnsetEnv a\n" + _LONG,
    "last line is one byte shorter": _LONG[:-1],
    "last line is one byte longer": _LONG + b"a",
    "last line fills the grown buffer": _LONG + b"\n" + _LONG,
    "last line fills the buffer in a condition": b"<IfModule core.c>\n" + _LONG,
    "joined last line fills the buffer": b"\\\n" + _LONG[:50] + b"\\\n" + _LONG[50:],
    "last line with line end": _LONG + b"\n",
    "byte order mark": b"\xef\xbb\xbfUnsetEnv a\n",
    "line that is empty once it is expanded": b"UnsetEnv a\n${EMPTY}\n ${EMPTY} \nUnsetEnv b\n",
    "use at the end": b"<Macro M>\nUnsetEnv a\n</Macro>\nUse M",
    "line after use without end": b"<Macro M>\nUnsetEnv a\n</Macro>\nUse M\nUnsetEnv b",
    "continued line after use": b"<Macro M>\nUnsetEnv a\n</Macro>\nUse M\nUnsetEnv b\\\n c",
    "macro text that continues": b"<Macro M>\nUnsetEnv a \\ \n</Macro>\nUse M\n  b\nUnsetEnv c\n",
    "macro defined in a macro and closed outside": (
        b"<Macro A>\n<Macro B $x>\nUnsetEnv $x\n</Macro>\n</Macro>\nUse A\nUse B y\nUnsetEnv z\n"
    ),
    "macro line that just fits": b"<Macro M>\nUnsetEnv " + b"a" * 8181 + b"\n</Macro>\nUse M\n\n",
    "macro line that is too long": b"<Macro M>\nUnsetEnv " + b"a" * 8182 + b"\n</Macro>\nUse M\n",
    "value that just fits": (
        b"<Macro M $p>\nUnsetEnv $p\n</Macro>\nUse M " + b"a" * 8181 + b"\nUnsetEnv b\n"
    ),
    "value that is too long": (
        b"<Macro M $p>\nUnsetEnv $p\n</Macro>\nUse M " + b"a" * 8182 + b"\nUnsetEnv b\n"
    ),
    "tag with an empty word": b'<"" x>\n</"">\n',
    "only a closing bracket": b"> x\n",
    "slash as second character": b"U/nset> x\n",
    "deeply nested conditions": (
        b"<IfModule core.c>\n" * 60 + b"UnsetEnv a\n" + b"</IfModule>\n" * 60
    ),
    "unclosed all the way": b"<IfModule core.c>\n<VirtualHost *:80>\n<IfModule core.c>\n<If 1>\n",
    "use across conditions": (
        b"<Macro M>\n<IfModule core.c>\n<Macro N>\nUnsetEnv n\n</Macro>\n</Macro>\n"
        b"Use M\nUse N\n</IfModule>\nUse N\n\n"
    ),
    "macro named by its own place": (
        b"<Macro A>\n<Macro B>\nUnsetEnv b\n</Macro>\n</Macro>\nUse A\nUse B\n"
        b"<Macro C>\nUse A\nUse B\nUse B\n</Macro>\nUse C\nUnsetEnv c\n"
    ),
}

pytestmark = pytest.mark.apache

_CONFIGS = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_CONFIGS", "150"))
_FIRST_SEED = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_SEED", "1"))
_BATCH = 25


def compare(folder: Path, seed: int) -> tuple[Answer, Evaluation]:
    """Let both read the configuration of one seed."""
    folder.mkdir()
    nasty = Nasty(seed, folder)
    nasty.write()
    root = folder / "root.conf"
    root.write_text(base_lines(folder) + "Include main.conf\n")
    return ask(folder, root), evaluate(str(root), world=world(folder))


def difference(answer: Answer, evaluation: Evaluation) -> str | None:
    """Say how the two differ; None where they agree."""
    if answer.rows is None:
        if not evaluation.errors and not answer.walked:
            return f"only httpd refuses: {answer.message}"
        return None
    if evaluation.errors:
        return f"only we refuse: {evaluation.errors[0]}"
    ours = tuple(our_rows(evaluation.directives))
    for theirs, mine in zip(answer.rows, ours, strict=False):
        if theirs != mine:
            return f"httpd: {theirs!r}\nours:  {mine!r}"
    if len(answer.rows) != len(ours):
        longer = max(answer.rows, ours, key=len)
        first = longer[min(len(answer.rows), len(ours))]
        return f"httpd has {len(answer.rows)} directives, we {len(ours)}: {first!r}"
    return None


@pytest.mark.parametrize("first", range(_FIRST_SEED, _FIRST_SEED + _CONFIGS, _BATCH))
def test_odd_configurations_are_read_as_httpd_reads_them(first: int, tmp_path: Path) -> None:
    """Compare a batch of seeds."""
    differences = {}
    for seed in range(first, min(first + _BATCH, _FIRST_SEED + _CONFIGS)):
        found = difference(*compare(tmp_path / str(seed), seed))
        if found:
            differences[seed] = found
    assert not differences, "\n".join(f"seed {seed}: {text}" for seed, text in differences.items())


@pytest.mark.parametrize("name", _PARTICULAR)
def test_particular_file_is_read_as_httpd_reads_it(name: str, tmp_path: Path) -> None:
    """Cases that chance would hardly find."""
    root = tmp_path / "root.conf"
    root.write_text(base_lines(tmp_path) + "Include main.conf\n")
    (tmp_path / "main.conf").write_bytes(_PARTICULAR[name])
    answer = ask(tmp_path, root)
    evaluation = evaluate(str(root), world=world(tmp_path))
    assert difference(answer, evaluation) is None


def test_directives_of_the_command_line_are_read_as_httpd_reads_them(tmp_path: Path) -> None:
    """Around the file, one line each."""
    before = ("Define X 1", "<IfDefine X>", "UnsetEnv a\\", "</IfDefine>", "<Files x>", "</Files>")
    after = ("UnsetEnv ${X}",)
    root = tmp_path / "root.conf"
    root.write_text(base_lines(tmp_path) + "UnsetEnv ${X}\n")
    arguments = [word for line in before for word in ("-C", line)]
    arguments += [word for line in after for word in ("-c", line)]
    answer = ask(tmp_path, root, *arguments, "-D", "Y")
    given = world(tmp_path)._replace(
        pre_directives=before,
        post_directives=after,
        defines=("DUMP_CONFIG", "DUMP_MODULES", "Y"),
    )
    assert answer.rows is not None
    assert difference(answer, evaluate(str(root), world=given)) is None
