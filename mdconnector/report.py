"""Results as plain lines that cut, grep and mail well; JSON is `result_json`'s.

Rules: no box characters, no colour (that is mdconnector.terminal's); one line per domain; times
are local with their zone. Everything foreign has been through `printable` before. What knows the
lines of one command is loaded for that command.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mdconnector.errors import LockedError, MdConnectorError
from mdconnector.outcomes import Result
from mdconnector.printable import printable

OLD_LOCK_SECONDS = 6 * 3600


class Style(NamedTuple):
    """How a result is to be shown."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    terminal: bool = False
    color: bool = True


def render(result: Result, style: Style) -> str:
    """Return what belongs on stdout."""
    if style.as_json:
        from mdconnector import result_json

        return result_json.render(result)
    return _joined(_lines(result, quiet=style.quiet))


def _lines(result: Result, *, quiet: bool) -> list[str]:
    match result.command:
        case "scan":
            from mdconnector.scan_text import scan_lines

            return scan_lines(result, quiet=quiet)
        case "status":
            from mdconnector.status_text import result_lines

            return [] if quiet else result_lines(result)
        case _:
            from mdconnector.run_text import run_lines

            return run_lines(result, quiet=quiet)


def render_failures(result: Result, style: Style) -> str:
    """Return what belongs on stderr: one line per repair and per failure."""
    match result.command:
        case "scan":
            return ""
        case "status":
            told = (f"{finding}; {finding.hint}" for finding in result.findings)
            return _joined(printable(line, 2000) for line in told)
        case _:
            from mdconnector.run_text import failure_lines

            return _joined(failure_lines(result, quiet=style.quiet))


def journal_lines(result: Result) -> tuple[str, ...]:
    """Return what belongs in the system's log: one line per change and per failure."""
    match result.command:
        case "scan" | "status":
            return ()
        case _:
            from mdconnector import run_text

            return run_text.journal_lines(result)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def describe_error(error: MdConnectorError) -> str:
    """Return an error that ended the run, as one or two lines for stderr."""
    text = f"mdconnector: error: {error}\n"
    return text + (f"mdconnector: hint: {error.hint}\n" if error.hint else "")


def is_silent(error: MdConnectorError, *, quiet: bool) -> bool:
    """Say whether -q swallows this error: another run at work is no news until it hangs."""
    if not quiet or not isinstance(error, LockedError):
        return False
    return error.age_seconds is None or error.age_seconds < OLD_LOCK_SECONDS
