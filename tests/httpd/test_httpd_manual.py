"""The marked examples of httpd's manual: each one that httpd takes, we read as it does.

They are read where Debian's apache2-doc put them. MDCONNECTOR_DIFFERENTIAL_CONFIGS sets how many
are tried at most, from all parts of the manual.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mdconnector.httpd.evaluator import evaluate
from tests.httpd.oracle import ask, base_lines, every_module, world
from tests.httpd.test_against_httpd import difference
from tests.parts import find_manual

pytestmark = [pytest.mark.apache, pytest.mark.manual]

_MOST = int(os.environ.get("MDCONNECTOR_DIFFERENTIAL_CONFIGS", "100"))
_PARTS = 8
_EXAMPLE = re.compile(r'<pre class="prettyprint lang-config">(.*?)</pre>', re.DOTALL)
_MARKUP = re.compile(r"<[^>]*>")
_SHARE_TAKEN = 0.5
"""httpd takes about 7 in 10: far less would be a fault of the test"""


@cache
def examples() -> tuple[tuple[str, str], ...]:
    """Return where each chosen example stands, and its text."""
    found = tuple(_examples(find_manual()))
    return found[:: -(-len(found) // _MOST)]


def _examples(manual: Path) -> Iterator[tuple[str, str]]:
    for page in sorted(manual.rglob("*.html")):
        text = page.read_text(errors="surrogateescape")
        for number, example in enumerate(_EXAMPLE.finditer(text), 1):
            written = html.unescape(_MARKUP.sub("", example[1]))
            yield f"{page.relative_to(manual)}, example {number}", written


@pytest.mark.parametrize("part", range(_PARTS))
def test_examples_are_read_as_httpd_reads_them(part: int, tmp_path: Path) -> None:
    chosen = examples()[part::_PARTS]
    root, example = tmp_path / "root.conf", tmp_path / "example.conf"
    (tmp_path / "logs").mkdir()
    root.write_text(base_lines(tmp_path, every_module()) + "Include example.conf\n")
    taken, differences = 0, {}
    for place, text in chosen:
        example.write_text(f"{text}\n", errors="surrogateescape")
        answer = ask(tmp_path, root)
        if answer.rows is None:
            continue
        taken += 1
        found = difference(answer, evaluate(str(root), world=world(tmp_path)))
        if found:
            differences[place] = found
    assert not differences, "\n".join(f"{place}: {text}" for place, text in differences.items())
    assert taken > len(chosen) * _SHARE_TAKEN
