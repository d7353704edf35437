"""All figures, in the order of the report."""

from __future__ import annotations

from tests.torture.adversary import ADVERSARY
from tests.torture.faults import FAULTS_IN_RECOVERY, FAULTS_IN_STORIES
from tests.torture.figure import Figure
from tests.torture.foreign_reloads import FOREIGN_RELOADS
from tests.torture.hostile_answers import HOSTILE_ANSWERS
from tests.torture.hostile_ca import HOSTILE_CA
from tests.torture.kills import KILLS
from tests.torture.power_cuts import POWER_CUTS, POWER_CUTS_LATER
from tests.torture.run_pairs import RUN_PAIRS
from tests.torture.tls_load import TLS_LOAD

FIGURES: tuple[Figure, ...] = (
    KILLS,
    FAULTS_IN_STORIES,
    FAULTS_IN_RECOVERY,
    POWER_CUTS,
    POWER_CUTS_LATER,
    TLS_LOAD,
    RUN_PAIRS,
    FOREIGN_RELOADS,
    ADVERSARY,
    HOSTILE_CA,
    HOSTILE_ANSWERS,
)
