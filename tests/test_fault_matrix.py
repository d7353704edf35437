"""Each row of the fault matrix of a CA has a test that names it: test_matrix_<row>_…

`grep -rhoE 'test_matrix(_[a-hv][0-9]+)+' tests | sort | uniq -c` lists them.
"""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {
    *(f"c{number}" for number in range(1, 8)),
    *(f"d{number}" for number in range(1, 11)),
    *(f"e{number}" for number in range(1, 6)),
    *(f"f{number}" for number in range(1, 7)),
    *(f"g{number}" for number in range(1, 4)),
    *(f"h{number}" for number in range(1, 3)),
    *(f"v{number}" for number in range(1, 8)),
}
"""accounts, requests, orders, challenges, finalize, waiting, certificates"""


def test_every_row_of_the_fault_matrix_has_a_test_that_names_it() -> None:
    named: set[str] = set()
    for file in Path(__file__).parent.rglob("test_*.py"):
        for name in re.findall(
            r"^def test_matrix((?:_[a-hv][0-9]+)+)_", file.read_text(), re.MULTILINE
        ):
            named |= set(name.strip("_").split("_"))
    assert ROWS - named == set()
