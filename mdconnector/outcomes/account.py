"""What account found and did. Pure."""

from enum import StrEnum
from typing import Literal, NamedTuple

from mdconnector.outcomes import EXIT_DONE, EXIT_FAILED
from mdconnector.renewal import LastError


class AccountAction(StrEnum):
    """What account is asked to do."""

    LIST = "list"
    SHOW = "show"
    ROLLOVER = "rollover"
    DEACTIVATE = "deactivate"
    RECOVER = "recover"
    IMPORT = "import"


class AccountOutcome(NamedTuple):
    """One account's line of account."""

    id: str
    """its folder in accounts/; "" where it has none"""
    ca_url: str = ""
    url: str = ""
    kid: str | None = None
    """of the external account binding; never its HMAC"""
    status: str = ""
    """RFC 8555's word for it: as it is stored, or as the CA has just said; "" where not known"""
    key_label: str = ""
    contact: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """the managed domains that use it"""
    detail: str = ""
    error: LastError | None = None
    is_change: bool = False
    """something is different now, here or at the CA"""


class AccountRun(NamedTuple):
    """The result of account."""

    action: AccountAction
    accounts: tuple[AccountOutcome, ...]

    command: Literal["account"] = "account"

    @property
    def exit_code(self) -> int:
        """1 something went wrong with an account, else 0."""
        return EXIT_FAILED if any(one.error for one in self.accounts) else EXIT_DONE
