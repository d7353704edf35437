"""What a run did, as values: the report, the journal and the exit code are made from them. Pure.

A module for each of the commands, which loads its own alone. The words are those of JSON and of
the tables alike. Exit codes: 3 (an UnsafeStoreError) comes before all of these, then 4, 1, 5, 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mdconnector.outcomes.account import AccountRun
    from mdconnector.outcomes.order import OrderRun
    from mdconnector.outcomes.promote import PromoteRun
    from mdconnector.outcomes.revoke import RevocationRun
    from mdconnector.outcomes.scan import ScanResult
    from mdconnector.outcomes.status import StatusResult

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_UNSAFE_STORE = 3
EXIT_NOT_SERVED = 4
EXIT_NOT_THERE_YET = 5

Result: TypeAlias = "ScanResult | OrderRun | PromoteRun | StatusResult | RevocationRun | AccountRun"
