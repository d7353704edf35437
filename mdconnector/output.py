"""Where results, errors and remarks go: stdout, stderr, and the system's log.

Rules: stdout carries the result, stderr everything else; a reader that has gone away is no error.
What was done is done, so an output that cannot be written changes no exit code: stderr tells of it.
What renders them is imported when there is something to render.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from mdconnector.errors import MdConnectorError, UsageError

if TYPE_CHECKING:
    from mdconnector.outcomes import Result
    from mdconnector.outcomes.status import StatusResult
    from mdconnector.report import Style
    from mdconnector.steps import Step
    from mdconnector.terminal.progress import Board


def open_standard_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, into nowhere.

    Else a file of the store could become stdout, and a library's remark be written into it.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def finish(result: Result, options: Mapping[str, Any], *, as_json: bool) -> NoReturn:
    """Print a result as the options and the terminal want it, log it, exit with its code."""
    from mdconnector import report

    _print(result, _style(options, as_json=as_json))
    _journal(report.journal_lines(result))
    sys.exit(result.exit_code)


def finish_status(result: StatusResult, options: Mapping[str, Any]) -> NoReturn:
    """Print status as it is asked for, and exit; with --check as a monitoring plug-in does."""
    code, lines = result.exit_code, ""
    if options["check"]:
        from mdconnector import check

        code, lines = check.exit_code(result), check.render_check(result)
    place: Path | None = options["output"]
    if options["prometheus"]:
        from mdconnector import __version__, metrics

        page = metrics.render_page(result, __version__)
        if place is None:
            write(sys.stdout, page)
            sys.exit(code)
        replace_file(place, page)
    if options["check"] and not options["as_json"]:
        write(sys.stdout, lines)
    elif not options["prometheus"]:
        _print(result, _style(options, as_json=options["as_json"]))
    sys.exit(code)


def replace_file(place: Path, text: str) -> None:
    """Put a file that everybody may read in its place, whole or not at all.

    Raises UsageError where that cannot be: the place was named on the command line.
    """
    import tempfile

    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=place.parent, prefix=f".{place.name}.", delete=False, encoding="utf-8"
        ) as file:
            try:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).rename(place)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise UsageError(
            f"cannot write {place}: {error.strerror or error}",
            hint="see that its folder is there, and that this user may write to it",
        ) from error


def report_error(error: MdConnectorError, command: str | None, arguments: Sequence[str]) -> int:
    """Tell of an error that ended the run, and return the exit code.

    The bare arguments say how: it may be they that could not be understood.
    """
    from mdconnector import report

    is_check = command == "status" and "--check" in arguments
    if "--json" in arguments:
        from mdconnector import result_json

        write(sys.stdout, result_json.render_error(error, command))
    elif is_check:
        from mdconnector import check

        write(
            sys.stdout, check.unknown_line(f"{error}; {error.hint}" if error.hint else str(error))
        )
    elif not report.is_silent(error, quiet=bool({"-q", "--quiet"} & set(arguments))):
        write(sys.stderr, report.describe_error(error))
    if error.exit_code not in {2, 75}:
        _journal([str(error)])
    return 3 if is_check else error.exit_code


def sayer(options: Mapping[str, Any]) -> Callable[[str | Step], None]:
    """Return where remarks go while a command is at work: to stderr, or nowhere under -q."""

    def say(remark: str | Step) -> None:
        if isinstance(remark, str) and not options["quiet"]:
            write(sys.stderr, f"mdconnector: {remark}\n")

    return say


@contextmanager
def progress(options: Mapping[str, Any]) -> Iterator[Callable[[str | Step], None]]:
    """Give where remarks go, and steps too, which are drawn where a person looks on.

    Nothing is loaded for that before the first step.
    """
    say = sayer(options)
    silent = options["quiet"] or options["as_json"]
    if silent or not (_is_terminal(sys.stdout) and _is_terminal(sys.stderr)):
        yield say
        return
    boards: list[Board] = []

    def draw(step: str | Step) -> None:
        if isinstance(step, str):
            say(step)
            return
        if not boards:
            from mdconnector.terminal.progress import Board

            boards.append(Board(color=_has_color(options)))
        boards[0].show(step)

    try:
        yield draw
    finally:
        for board in boards:
            board.close()


def confirm(
    lines: Sequence[str], question: str, *, is_agreed: bool, say: Callable[[str], None]
) -> None:
    """Show what is about to be done, and have a person at the terminal agree to it.

    Raises UsageError where nobody agrees: nothing was done then.
    """
    if is_agreed:
        for line in lines:
            say(line)
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "this asks before it does anything, and there is no terminal to ask at",
            hint="add --yes to do it without asking",
        )
    import click

    write(sys.stderr, "".join(f"{line}\n" for line in lines))
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        write(sys.stderr, "\n")
    raise UsageError("nothing was done, because nobody agreed to it")


def write(stream: TextIO, text: str) -> None:
    """Write at once what is to be read at once; what the encoding lacks is written as an escape."""
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError as error:
        # what is left in the buffer is for nobody, and must not fail again when the command ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            write(sys.stderr, f"mdconnector: the result cannot be written: {error.strerror}\n")


def _style(options: Mapping[str, Any], *, as_json: bool) -> Style:
    from mdconnector import report

    return report.Style(
        as_json=as_json,
        quiet=options["quiet"],
        verbose=options["verbose"],
        terminal=_is_terminal(sys.stdout),
        color=_has_color(options),
    )


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _has_color(options: Mapping[str, Any]) -> bool:
    return not (options["no_color"] or "NO_COLOR" in os.environ)


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
    import syslog

    run_id = os.urandom(4).hex()
    syslog.openlog("mdconnector", syslog.LOG_PID, syslog.LOG_DAEMON)
    for line in lines:
        told = line.encode("utf-8", "backslashreplace").decode()
        syslog.syslog(syslog.LOG_NOTICE, f"[{run_id}] {told}")
