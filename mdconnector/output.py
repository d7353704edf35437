"""Where results, errors and remarks go: stdout, stderr, and the system's log.

Rules: stdout carries the result, stderr everything else; a reader that has gone away is no error.
What renders them is imported when there is something to render.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from mdconnector.errors import MdConnectorError

if TYPE_CHECKING:
    from mdconnector.outcomes import Result
    from mdconnector.report import Style


def finish(result: Result, options: Mapping[str, Any], *, as_json: bool) -> NoReturn:
    """Print a result as the options and the terminal want it, log it, exit with its code."""
    from mdconnector import report

    style = report.Style(
        as_json=as_json,
        quiet=options["quiet"],
        verbose=options["verbose"],
        terminal=sys.stdout.isatty() and os.environ.get("TERM") != "dumb",
        color=not (options["no_color"] or "NO_COLOR" in os.environ),
    )
    _print(result, style)
    _journal(report.journal_lines(result))
    sys.exit(result.exit_code)


def report_error(error: MdConnectorError, command: str | None, arguments: Sequence[str]) -> int:
    """Tell of an error that ended the run, and return the exit code.

    The bare arguments say how: it may be they that could not be understood.
    """
    from mdconnector import report

    if "--json" in arguments:
        write(sys.stdout, report.render_error(error, command))
    elif not report.is_silent(error, quiet=bool({"-q", "--quiet"} & set(arguments))):
        write(sys.stderr, report.describe_error(error))
    if error.exit_code not in {2, 75}:
        _journal([str(error)])
    return error.exit_code


def sayer(options: Mapping[str, Any]) -> Callable[[str], None]:
    """Return where remarks go while a command is at work: to stderr, or nowhere under -q."""
    if options["quiet"]:
        return lambda _: None
    return lambda text: write(sys.stderr, f"mdconnector: {text}\n")


def write(stream: TextIO, text: str) -> None:
    """Write at once what is to be read at once."""
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # The reader has gone; what was done is done, and the exit code still tells it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _print(result: Result, style: Style) -> None:
    from mdconnector import report

    if style.terminal and not style.as_json and not style.quiet:
        from mdconnector import terminal

        terminal.show(result, style)
    else:
        write(sys.stdout, report.render(result, style))
    if not style.as_json:
        write(sys.stderr, report.render_failures(result, style))


def _journal(lines: Sequence[str]) -> None:
    """Write one line for each change and failure to the system's log, with an id for the run."""
    if not lines:
        return
    import secrets
    import syslog

    run_id = secrets.token_hex(4)
    syslog.openlog("mdconnector", syslog.LOG_PID, syslog.LOG_DAEMON)
    for line in lines:
        syslog.syslog(syslog.LOG_NOTICE, f"[{run_id}] {line}")
