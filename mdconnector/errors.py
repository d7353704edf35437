"""Everything that input, a file, the CA or Apache can do to us, as one tree of exceptions.

    MdConnectorError
    ├── UsageError                 the command line asks for something that cannot be     exit 2
    ├── ConfigurationError         Apache's configuration, with file:line   exit 2, 1 for one domain
    ├── StoreError                 one file or folder of the store          exit 1
    │   ├── StoreBusyError         somebody else holds mod_md's store.lock
    │   └── UnsafeStoreError       the store as a whole; nothing was changed    exit 3
    ├── LockedError                another run is at work                   exit 75
    ├── CertificateError           a key or a chain is not what it should be              exit 1
    ├── ChallengeError             a challenge could not be answered        exit 1
    ├── CaError                    the CA, whatever went wrong with it      exit 1
    │   ├── CaUnreachableError     no answer: DNS, TCP, TLS, time-out, 5xx
    │   ├── CaProblemError         an RFC 7807 problem document (RFC 8555 §6.7)
    │   └── CaProtocolError        an answer that RFC 8555 does not allow
    └── HttpdError                 Apache itself: its binary, its process, its reload     exit 4

Rules: a message says what failed, in lower case and without a full stop; the hint says what to do.
Facts are attributes. Whatever is not an MdConnectorError is a bug of ours and shows its traceback.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, NamedTuple


class ErrorClass(StrEnum):
    """Who can mend an error; it decides how soon the domain is tried again."""

    TRANSIENT = "transient"
    NEEDS_HUMAN = "needs-human"
    CONFIGURATION = "configuration"


class MdConnectorError(Exception):
    """Base of all errors that are not bugs of ours."""

    exit_code: ClassVar[int] = 1
    default_type: ClassVar[str] = "error"
    default_class: ClassVar[ErrorClass] = ErrorClass.NEEDS_HUMAN

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        type: str | None = None,  # noqa: A002 - the JSON member's name
        error_class: ErrorClass | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.type = type or self.default_type
        self.error_class = error_class or self.default_class

    def __str__(self) -> str:
        return self.message


class UsageError(MdConnectorError):
    """The command line asks for something that cannot be."""

    exit_code = 2
    default_type = "usage"
    default_class = ErrorClass.CONFIGURATION


class ConfigurationError(MdConnectorError):
    """Apache's configuration cannot be read, or says something that cannot be meant.

    `at` is `file:line` where one line is to blame.
    """

    exit_code = 2
    default_type = "configuration"
    default_class = ErrorClass.CONFIGURATION

    def __init__(self, message: str, *, at: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.at = at

    def __str__(self) -> str:
        return f"{self.at}: {self.message}" if self.at else self.message


class StoreError(MdConnectorError):
    """One file or folder of the store is damaged, unsafe or not accessible.

    `unreadable`: this user may not look at it, so nothing is known about it.
    """

    default_type = "store"

    def __init__(
        self,
        message: str,
        *,
        path: str,
        hint: str | None = None,
        unreadable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.unreadable = unreadable

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class StoreBusyError(StoreError):
    """Another process holds mod_md's store.lock; what was to be done can be done later."""

    default_class = ErrorClass.TRANSIENT


class UnsafeStoreError(StoreError):
    """The store as a whole must not be used; nothing was changed and no request was sent."""

    exit_code = 3
    default_type = "unsafe-store"


class LockedError(MdConnectorError):
    """Another run holds the lock.

    `host` is the holder's where that is another one than ours; `age_seconds` is None where the
    lock file does not tell since when it is held.
    """

    exit_code = 75
    default_type = "locked"
    default_class = ErrorClass.TRANSIENT

    def __init__(self, message: str, *, age_seconds: float | None = None, host: str = "") -> None:
        where = f" on {host}" if host else ""
        super().__init__(message, hint=f"wait for it to end, or see what it does with ps{where}")
        self.age_seconds = age_seconds


class CertificateError(MdConnectorError):
    """A key or a certificate chain is not what it should be."""

    default_type = "certificate"


class ChallengeError(MdConnectorError):
    """A challenge could not be answered, or none that the CA offers can be."""

    default_type = "challenge"


class CaError(MdConnectorError):
    """Something went wrong with the CA; `url` is the request's.

    `stops_account`: nothing else that the account asks for in this run would fare better.
    """

    default_type = "ca"
    default_class = ErrorClass.TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        url: str,
        hint: str | None = None,
        type: str | None = None,  # noqa: A002 - the JSON member's name
        error_class: ErrorClass | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, type=type, error_class=error_class)
        self.url = url
        self.retry_after_seconds = retry_after_seconds
        self.stops_account = False


class CaUnreachableError(CaError):
    """No usable answer came: DNS, TCP, TLS, a time-out or a 5xx.

    `request_sent` is False only when no byte of the request can have left this machine.
    """

    default_type = "connection"

    def __init__(
        self,
        message: str,
        *,
        url: str,
        hint: str | None = None,
        request_sent: bool = True,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, url=url, hint=hint, retry_after_seconds=retry_after_seconds)
        self.request_sent = request_sent


class Subproblem(NamedTuple):
    """One identifier's part of a problem (RFC 8555 §6.7.1)."""

    type: str
    detail: str
    identifier: str | None


class CaProblemError(CaError):
    """The CA answered with a problem document (RFC 7807, RFC 8555 §6.7).

    `type` is its URN, `detail` the CA's own words made safe to print, `status` the HTTP status.
    """

    def __init__(
        self,
        *,
        url: str,
        status: int,
        type: str,  # noqa: A002 - the problem document's member name
        detail: str,
        subproblems: tuple[Subproblem, ...] = (),
        hint: str | None = None,
        error_class: ErrorClass = ErrorClass.NEEDS_HUMAN,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            f"the CA refused: {_by_identifier(detail, subproblems)} ({_kind(type, status)})",
            url=url,
            hint=hint,
            type=type,
            error_class=error_class,
            retry_after_seconds=retry_after_seconds,
        )
        self.status = status
        self.detail = detail
        self.subproblems = subproblems


_SHOWN_SUBPROBLEMS = 5


def _by_identifier(detail: str, subproblems: tuple[Subproblem, ...]) -> str:
    parts = [detail or "no reason given"]
    named = [part for part in subproblems if part.identifier and part.detail]
    parts += (f"{part.identifier}: {part.detail}" for part in named[:_SHOWN_SUBPROBLEMS])
    if len(named) > _SHOWN_SUBPROBLEMS:
        parts.append(f"and {len(named) - _SHOWN_SUBPROBLEMS} more")
    return "; ".join(parts)


def _kind(type_: str, status: int) -> str:
    if type_ == "about:blank":
        return f"HTTP {status}"
    return f"{type_.rpartition(':')[2]}, HTTP {status}"


class CaProtocolError(CaError):
    """The CA's answer is not what RFC 8555 allows."""

    default_type = "protocol"


class HttpdError(MdConnectorError):
    """Apache's binary, process or reload did not do what it should."""

    exit_code = 4
    default_type = "httpd"
