"""All figures, in the order of the report."""

from __future__ import annotations

from tests.torture.figure import Figure

FIGURES: tuple[Figure, ...] = ()
