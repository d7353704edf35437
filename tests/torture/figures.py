"""All figures, in the order of the report."""

from __future__ import annotations

from tests.torture.figure import Figure
from tests.torture.power_cuts import POWER_CUTS, POWER_CUTS_LATER

FIGURES: tuple[Figure, ...] = (
    POWER_CUTS,
    POWER_CUTS_LATER,
)
