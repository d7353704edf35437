"""The tests, in the same tree as the package; real servers come from tests/parts."""
