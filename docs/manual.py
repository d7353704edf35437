"""Write the man page, the shell completions and docs/commands.md from the command line itself.

    python docs/manual.py FOLDER      mdconnector.1, and a completion each for bash, zsh and fish
    python docs/manual.py commands    docs/commands.md anew, which is kept in the repository

Rules: nothing here knows a command or an option by name, so that a new one needs no change here.
The package needs none of this at run time. SOURCE_DATE_EPOCH dates the page.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path
from textwrap import wrap

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import click
from click.shell_completion import get_completion_class

from mdconnector import __version__
from mdconnector.cli import program

NAME = "mdconnector"
COMPLETIONS = {"bash": NAME, "zsh": f"_{NAME}", "fish": f"{NAME}.fish"}
"""the names under which each shell looks for them"""
COMMANDS_PAGE = DOCS / "commands.md"
_ABOVE = """\
# The commands

What `-h` says, for each. This page is made from the command line itself (`make man`); the man page
`mdconnector(1)` has the same. All exit codes: [exit-codes.md](exit-codes.md); the keys of `--json`:
[json.md](json.md).
"""
_FILES = (
    ("/etc/apache2/apache2.conf, /etc/httpd/conf/httpd.conf", "where reading begins"),
    ("/etc/apache2/sites-enabled", "read alone where neither of the two is there"),
    ("/etc/apache2/md, /etc/httpd/md", "the store of mod_md, where MDStoreDir says nothing else"),
    ("/etc/cron.d/mdconnector", "the hourly run"),
)


def commands_of(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            if not command.commands[name].hidden:
                yield from commands_of(command.commands[name], f"{path} {name}")


def options_of(command: click.Command, path: str) -> list[tuple[str, str]]:
    """Return the options as -h shows them: how it is written, and what it does."""
    context = context_of(command, path)
    options = (one for one in command.get_params(context) if isinstance(one, click.Option))
    return [record for option in options if (record := option.get_help_record(context))]


def context_of(command: click.Command, path: str) -> click.Context:
    """Return what click needs to describe a command: its -h too depends on it."""
    return click.Context(command, info_name=path, **command.context_settings)


# --- docs/commands.md -----------------------------------------------------------------------------


def commands_page() -> str:
    """Return docs/commands.md."""
    sections = []
    for path, command in commands_of(program, NAME):
        heading = f"## {path.removeprefix(f'{NAME} ')}\n\n" if path != NAME else ""
        text = f"{command.get_help(context_of(command, path))}\n"
        sections.append(f"{heading}```console\n$ {path} -h\n{text}```\n")
    return "\n".join([_ABOVE, *sections])


# --- mdconnector.1 --------------------------------------------------------------------------------


def man_page(day: str) -> str:
    """Return the page in roff."""
    _, *below = commands_of(program, NAME)
    everywhere = options_of(program, NAME)
    summary = (program.help or "").partition("\n")[0].rstrip(".")
    lines = [
        f'.TH {NAME.upper()} 1 "{day}" "{NAME} {__version__}" "User Commands"',
        ".SH NAME",
        *wrapped(f"{NAME} - {summary[:1].lower()}{summary[1:]}"),
        ".SH SYNOPSIS",
        "\n.PP\n".join(synopsis(path, command) for path, command in below),
        ".SH DESCRIPTION",
        *help_text(program),
        ".SH GLOBAL OPTIONS",
        "They may stand before the command or after it.",
        *option_list(everywhere),
        ".SH COMMANDS",
    ]
    for path, command in below:
        own = [record for record in options_of(command, path) if record not in everywhere]
        lines += [f'.SS "{escaped(path)}"', *help_text(command), *option_list(own)]
    return "\n".join([*lines, *ending(), ""])


def synopsis(path: str, command: click.Command) -> str:
    """Return the line that shows how a command is called."""
    pieces = command.collect_usage_pieces(context_of(command, path))
    return f"\\fB{escaped(path)}\\fR {escaped(' '.join(pieces))}"


def help_text(command: click.Command) -> list[str]:
    """Return the paragraphs of a command's help; those after \\b keep their lines."""
    lines = []
    for number, block in enumerate(cleandoc(command.help or "").split("\n\n")):
        if block.startswith("\b"):
            kept = block.removeprefix("\b").strip("\n").splitlines()
            lines += [".PP", ".nf", *map(escaped, kept), ".fi"]
        else:
            lines += [*([".PP"] if number else []), *wrapped(block)]
    return lines


def option_list(options: list[tuple[str, str]]) -> list[str]:
    """Return a list of terms, each with its explanation."""
    return [
        line
        for written, meaning in options
        for line in (".TP", f"\\fB{escaped(written)}\\fR", *wrapped(meaning))
    ]


def ending() -> list[str]:
    """Return what stands below the commands."""
    variables = [
        (str(option.envvar), f"the same as {option.opts[-1]}")
        for option in program.params
        if isinstance(option, click.Option) and option.envvar
    ]
    return [
        ".SH EXIT STATUS",
        *option_list(exit_codes()),
        ".SH ENVIRONMENT",
        *option_list([*variables, ("NO_COLOR", "the same as --no-color")]),
        ".SH FILES",
        *option_list([*_FILES]),
        ".SH SEE ALSO",
        ".BR apache2 (8),",
        ".BR crontab (5),",
        ".BR openssl-x509 (1)",
    ]


def exit_codes() -> list[tuple[str, str]]:
    """Return the rows of the table in docs/exit-codes.md."""
    text = (DOCS / "exit-codes.md").read_text()
    return re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE)


def wrapped(text: str) -> list[str]:
    """Return a paragraph as short lines of roff."""
    return [shielded(line) for line in wrap(inline(text), 78, break_on_hyphens=False)]


def escaped(line: str) -> str:
    """Return a line of roff that prints this one."""
    return shielded(inline(line))


def inline(text: str) -> str:
    """Return text as roff takes it within a line; `this` becomes bold, *this* italic."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"\*(\w+)\*", r"\\fI\1\\fR", text)
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)


def shielded(line: str) -> str:
    """Return a line that roff does not take for a request."""
    return f"\\&{line}" if line[:1] in {".", "'"} else line


# --- files ----------------------------------------------------------------------------------------


def completion(shell: str) -> str:
    """Return the script with which a shell asks the command how a word may go on."""
    of_shell = get_completion_class(shell)
    if of_shell is None:
        raise LookupError(shell)
    return of_shell(program, {}, NAME, f"_{NAME.upper()}_COMPLETE").source().strip() + "\n"


def main(where: str) -> None:
    """Write docs/commands.md, or all else into a folder."""
    if where == "commands":
        COMMANDS_PAGE.write_text(commands_page())
        return
    folder = Path(where)
    folder.mkdir(parents=True, exist_ok=True)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    (folder / f"{NAME}.1").write_text(man_page(f"{moment:%Y-%m-%d}"))
    for shell, file in COMPLETIONS.items():
        (folder / file).write_text(completion(shell))


if __name__ == "__main__":
    main(*sys.argv[1:])
