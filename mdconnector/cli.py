"""The command line: options to arguments, errors to one exit code.

Rules: what a command does not need is not imported: --version needs click alone, rich comes only
to a terminal, httpx and josepy only to talk to a CA. Whatever is not an MdConnectorError is a bug
of ours and shows its traceback.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from mdconnector import __version__, output
from mdconnector.errors import MdConnectorError, UsageError

if TYPE_CHECKING:
    from mdconnector.commands.account import Lock
    from mdconnector.httpd.configuration import Configuration
    from mdconnector.outcomes.account import AccountRun
    from mdconnector.planning import Command

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_Function = Callable[..., Any]
_Command = TypeVar("_Command", bound=click.Command)
_PATH = click.Path(readable=False, path_type=Path)
"""whether it may be read is told by whoever reads it, with the exit code that belongs to it"""

# made once for all commands, as making options is what takes longest here
_GLOBAL_OPTIONS = (
    click.Option(
        ["--config"],
        metavar="FILE",
        type=_PATH,
        envvar="MDCONNECTOR_CONFIG",
        help="Apache's main configuration file.",
    ),
    click.Option(
        ["--sites"],
        metavar="DIR",
        type=_PATH,
        envvar="MDCONNECTOR_SITES",
        help="Read only the *.conf files of this folder.",
    ),
    click.Option(
        ["--store"],
        metavar="DIR",
        type=_PATH,
        envvar="MDCONNECTOR_STORE",
        help="mod_md's store, instead of what MDStoreDir says.",
    ),
    click.Option(
        ["--httpd"],
        metavar="FILE",
        type=_PATH,
        envvar="MDCONNECTOR_HTTPD",
        help="Apache's executable.",
    ),
    click.Option(["-q", "--quiet"], is_flag=True, help="Say only what changed or failed."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Say also what was assumed and done."),
    click.Option(["--no-color"], is_flag=True, help="No colour on a terminal (or set NO_COLOR)."),
)


def _complete_name(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the names of managed domains that begin so; none where reading them fails."""
    del parameter
    from mdconnector.commands.loading import load

    try:
        domains = load(**_places_in(context)).domains
    except MdConnectorError:
        return []
    return [domain.name for domain in domains if domain.name.startswith(incomplete)]


def _complete_account(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[str]:
    """Return the ids of stored accounts that begin so; none where reading them fails."""
    del parameter
    from mdconnector.commands.account import stored_ids
    from mdconnector.commands.loading import load

    try:
        ids = stored_ids(load(**_places_in(context)))
    except MdConnectorError:
        return []
    return [one for one in ids if one.startswith(incomplete)]


def _places_in(context: click.Context) -> dict[str, Any]:
    """Return what the global options say, before and after the subcommand."""
    places: dict[str, Any] = dict.fromkeys(("config", "sites", "store", "httpd"))
    level: click.Context | None = context
    while level is not None:
        places = {name: value or level.params.get(name) for name, value in places.items()}
        level = level.parent
    return places


_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_NAMES = click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=_complete_name)
_ALL = click.option("--all", "everything", is_flag=True, help="All managed domains.")
_LOCK_WAIT = click.option(
    "--lock-wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long to wait for another run. [default: 60 with NAMEs or on a terminal, else 0]",
)
_YES = click.option("--yes", is_flag=True, help="Do it without asking.")
_REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
_ENROLLING_OPTIONS = (
    _NAMES,
    _ALL,
    click.option("--force", is_flag=True, help="Order anew though nothing is due (with NAMEs)."),
    click.option("--dry-run", is_flag=True, help="Print the plan; order and write nothing."),
    click.option(
        "--wait",
        metavar="SECONDS",
        type=click.FloatRange(min=0),
        default=300,
        show_default=True,
        help="How long to wait for certificates that the CA is still making.",
    ),
    click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="How many domains are worked on side by side.",
    ),
    _LOCK_WAIT,
    _JSON,
)


def _with_options(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    def decorate(command: _Function) -> _Function:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _takes_global_options(command: _Command) -> _Command:
    """Accept the global options before and after the subcommand; what stands after it wins."""
    callback: Any = command.callback

    @click.pass_context
    def merged(context: click.Context, /, **arguments: Any) -> Any:
        before: dict[str, Any] = context.obj or {}
        for name, value in before.items():
            source = context.get_parameter_source(name)
            given_here = source is click.core.ParameterSource.COMMANDLINE
            if not given_here and value is not None and value is not False:
                arguments[name] = value
        return callback(**arguments)

    command.callback = update_wrapper(merged, callback)
    command.params += _GLOBAL_OPTIONS
    return command


@click.group(context_settings=HELP, params=[*_GLOBAL_OPTIONS])
@click.version_option(__version__, prog_name="mdconnector")
@click.pass_context
def program(context: click.Context, /, **options: Any) -> None:
    """Obtain, renew and install the certificates that Apache's configuration asks for.

    \b
    A new site, step by step:   mdconnector scan
                                mdconnector enroll shop.example.org
                                mdconnector promote --all --reload
    Every hour, from cron:      mdconnector -q renew --all; mdconnector -q promote --all --reload

    Exit codes: 0 done; 1 a domain failed; 2 usage or configuration; 3 the store is unsafe;
    4 a new certificate is not served; 5 a named domain is not there yet; 75 another run is at work.
    """
    context.obj = options


@_takes_global_options
@program.command(
    context_settings=HELP,
    short_help="What Apache's configuration declares, and what is wrong with it.",
)
@_NAMES
@click.option(
    "--tree", "shows_tree", is_flag=True, help="Print every directive in force, and where it is."
)
@click.option("--verify", "verifies", is_flag=True, help="Have Apache itself read it, and compare.")
@_JSON
def scan(names: tuple[str, ...], *, shows_tree: bool, verifies: bool, **options: Any) -> None:
    """Show the managed domains that Apache's configuration declares, and what is wrong with them.

    Contacts nobody and writes nothing. --verify runs Apache's executable, which reads its
    configuration, looks up host names in <VirtualHost>, if there are any, and ends.

    \b
    Examples:
      mdconnector scan
      mdconnector scan shop.example.org --json
      mdconnector scan --tree
    """
    from mdconnector.commands.scan import httpd_to_ask, scan_configuration

    configuration = _loader(options)()
    httpd = httpd_to_ask(configuration, options["httpd"]) if verifies else None
    result = scan_configuration(
        configuration, names, _now(), shows_tree=shows_tree, asked_httpd=httpd
    )
    output.finish(result, options, as_json=options["as_json"])


@_takes_global_options
@program.command(
    context_settings=HELP,
    short_help="Certificates for domains that have none yet; they are staged.",
)
@_with_options(*_ENROLLING_OPTIONS)
def enroll(**arguments: Any) -> None:
    """Obtain certificates for managed domains that have none which serves their configuration.

    What it obtains is staged; `mdconnector promote` makes it live. A domain that has its
    certificates is left alone.

    \b
    Examples:
      mdconnector enroll shop.example.org
      mdconnector enroll --all
    """
    _order_certificates("enroll", **arguments)


@_takes_global_options
@program.command(
    context_settings=HELP, short_help="All that enroll does, and every renewal that is due."
)
@_with_options(*_ENROLLING_OPTIONS)
@click.option(
    "--splay",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0,
    help="Wait first: a part of SECONDS that is always the same on this machine.",
)
def renew(splay: float, **arguments: Any) -> None:
    """Do all that enroll does, and renew every certificate whose renewal is due.

    What it obtains is staged; `mdconnector promote` makes it live.

    \b
    Examples:
      mdconnector renew --all
      mdconnector renew shop.example.org --force
    """
    _order_certificates("renew", splay=splay, **arguments)


def _order_certificates(command: Command, *, splay: float = 0, **arguments: Any) -> None:
    from mdconnector.commands.order import order_what_is_due, splay_of_this_machine
    from mdconnector.planning import Rules

    names, everything = arguments["names"], arguments["everything"]
    _require_selection(command, names, everything)
    if arguments["force"] and not names:
        raise UsageError(
            "--force works with NAMEs only, because certificates cost money",
            hint=f"type 'mdconnector {command} NAME --force'",
        )
    if splay:
        time.sleep(splay_of_this_machine(splay))
    rules = Rules(
        wait_seconds=arguments["wait"],
        jobs=arguments["jobs"],
        lock_wait_seconds=_lock_wait(arguments["lock_wait"], names),
    )
    with output.progress(arguments) as say:
        result = order_what_is_due(
            command,
            _loader(arguments),
            names=names,
            force=arguments["force"],
            dry_run=arguments["dry_run"],
            rules=rules,
            clock=_now,
            say=say,
        )
    output.finish(result, arguments, as_json=arguments["as_json"])


@_takes_global_options
@program.command(context_settings=HELP, short_help="Make what is staged live, and reload Apache.")
@_NAMES
@_ALL
@click.option("--reload", is_flag=True, help="Reload Apache gracefully and ask what it serves.")
@click.option(
    "--reload-command",
    metavar="COMMAND",
    help="Run this instead of signalling Apache; implies --reload.",
)
@click.option("--force", is_flag=True, help="Promote also what Apache refused before.")
@_LOCK_WAIT
@_JSON
def promote(**arguments: Any) -> None:
    """Verify the staged certificates, make them the live ones, and reload Apache if asked to.

    \b
    Examples:
      mdconnector promote --all --reload
      mdconnector promote shop.example.org --reload-command "systemctl reload apache2"
    """
    from mdconnector.commands.promote import promote_sets
    from mdconnector.deployment import ReloadWish
    from mdconnector.httpd.programs import command_words

    names = arguments["names"]
    _require_selection("promote", names, arguments["everything"])
    command = arguments["reload_command"]
    if command is not None:
        command_words(command)
    wish = ReloadWish(arguments["reload"] or command is not None, command, arguments["httpd"])
    with output.progress(arguments) as say:
        result = promote_sets(
            _loader(arguments),
            names=names,
            wish=wish,
            force=arguments["force"],
            lock_wait_seconds=_lock_wait(arguments["lock_wait"], names),
            clock=_now,
            say=say,
        )
    output.finish(result, arguments, as_json=arguments["as_json"])


@_takes_global_options
@program.command(
    context_settings=HELP, short_help="Every managed domain's certificates, most urgent first."
)
@_NAMES
@click.option(
    "--check", is_flag=True, help="Answer as a monitoring plug-in: one line, exit codes 0 to 3."
)
@click.option(
    "--prometheus", is_flag=True, help="Print a page for node_exporter's textfile collector."
)
@click.option("--output", metavar="FILE", type=_PATH, help="Put that page into FILE, in one step.")
@_JSON
def status(names: tuple[str, ...], **options: Any) -> None:
    """Show every managed domain's certificates, most urgent first.

    With NAMEs all about these, and Apache is asked what it serves.

    \b
    Examples:
      mdconnector status
      mdconnector status shop.example.org
      mdconnector status --check
      mdconnector status --prometheus --output /var/lib/prometheus/node-exporter/mdconnector.prom
    """
    from mdconnector.commands.status import show_status

    if options["prometheus"] and options["as_json"]:
        raise UsageError(
            "--json and --prometheus are two ways to print", hint="leave one of them out"
        )
    if options["output"] is not None and not options["prometheus"]:
        raise UsageError("--output is for --prometheus", hint="type 'mdconnector status -h'")
    configuration = _loader(options)()
    output.finish_status(show_status(configuration, names, _now()), options)


@_takes_global_options
@program.command(context_settings=HELP)
@click.argument("name", metavar="NAME", shell_complete=_complete_name)
@click.option(
    "--serial",
    "serials",
    metavar="HEX",
    multiple=True,
    help="Not the live certificates but this one: live, staged or archived. May be repeated.",
)
@click.option(
    "--reason",
    metavar="REASON",
    type=click.Choice(_REASONS),
    default=_REASONS[0],
    help=f"Why, in the words of RFC 5280: {', '.join(_REASONS)}.",
)
@_YES
@_LOCK_WAIT
@_JSON
def revoke(name: str, **arguments: Any) -> None:
    """Have the CA revoke the live certificates of a managed domain, or older ones.

    Asks before it does so, unless --yes is given. The domain is due for new certificates then.

    \b
    Examples:
      mdconnector revoke shop.example.org --reason keyCompromise
      mdconnector revoke shop.example.org --serial 3f21c0de --reason superseded --yes
    """
    from mdconnector.certificates import RevocationReason
    from mdconnector.commands.revoke import choose, revoke_chosen

    configuration = _loader(arguments)()
    choice = choose(configuration, name, arguments["serials"], _now())
    consequence = "Apache serves what is revoked until new ones are live. " * choice.is_live
    output.confirm(
        [f"to be revoked: {line}" for line in choice.lines],
        f"{consequence}A revocation cannot be undone. Revoke?",
        is_agreed=arguments["yes"],
        say=output.sayer(arguments),
    )
    result = revoke_chosen(
        configuration,
        choice,
        reason=RevocationReason.labelled(arguments["reason"]),
        lock_wait_seconds=_lock_wait(arguments["lock_wait"], (name,)),
        clock=_now,
        say=output.sayer(arguments),
    )
    output.finish(result, arguments, as_json=arguments["as_json"])


_FOR = click.option(
    "--for",
    "for_name",
    metavar="NAME",
    shell_complete=_complete_name,
    help="The managed domain that is to use it.",
)
_ID = click.argument("account_id", metavar="ID", shell_complete=_complete_account)
_IDS = click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=_complete_account)


@_takes_global_options
@program.group(context_settings=HELP, invoke_without_command=True)
@_JSON
def account(**options: Any) -> None:
    """Show the ACME accounts in the store, change their keys, end them, take over others.

    Without a subcommand it is `account list`. ID is an account's folder in the store.

    \b
    Examples:
      mdconnector account list
      mdconnector account import /etc/letsencrypt/accounts --change-key
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        # what stands before the subcommand holds for it too
        context.obj = options
        return
    _list_accounts(options)


@_takes_global_options
@account.command("list", context_settings=HELP)
@_JSON
def account_list(**options: Any) -> None:
    """Show every account that is stored, its CA, and the managed domains that use it.

    Contacts nobody and writes nothing.

    \b
    Examples:
      mdconnector account list
      mdconnector account list --json
    """
    _list_accounts(options)


def _list_accounts(options: dict[str, Any]) -> NoReturn:
    from mdconnector.commands.account import list_accounts

    _finish_account(list_accounts(_loader(options)(), _now), options)


@_takes_global_options
@account.command("show", context_settings=HELP)
@_IDS
@_JSON
def account_show(ids: tuple[str, ...], **options: Any) -> None:
    """Ask the CA of each account how it stands. Changes nothing, here or there.

    \b
    Examples:
      mdconnector account show
      mdconnector account show ACME-acme.sectigo.com-0000
    """
    from mdconnector.commands.account import show_accounts

    _finish_account(show_accounts(_loader(options)(), ids, _now), options)


@_takes_global_options
@account.command("rollover", context_settings=HELP)
@_ID
@_LOCK_WAIT
@_JSON
def account_rollover(account_id: str, **options: Any) -> None:
    """Give an account a new key. Its certificates and its binding stay as they are.

    \b
    Examples:
      mdconnector account rollover ACME-acme.sectigo.com-0000
    """
    from mdconnector.commands.account import roll_over_account

    configuration = _loader(options)()
    run = roll_over_account(configuration, account_id, lock=_lock(options), clock=_now)
    _finish_account(run, options)


@_takes_global_options
@account.command("deactivate", context_settings=HELP)
@_ID
@_YES
@_LOCK_WAIT
@_JSON
def account_deactivate(account_id: str, **options: Any) -> None:
    """End an account for ever. Certificates that it has ordered stay valid.

    Asks before it does so, unless --yes is given.

    \b
    Examples:
      mdconnector account deactivate ACME-acme.sectigo.com-0000
    """
    from mdconnector.commands.account import deactivate_account, look_at_account

    configuration = _loader(options)()
    known = look_at_account(configuration, account_id, _now)
    lines = [f"to be deactivated: {account_id} at {known.ca_url or 'a CA that is not known'}"]
    if known.domains:
        lines += [
            f"used by: {', '.join(known.domains)}",
            "what these have open at the CA comes to nothing",
            "their next order registers an account, which may need a new external account binding",
        ]
    output.confirm(
        lines,
        "It cannot be undone. Deactivate?",
        is_agreed=options["yes"],
        say=output.sayer(options),
    )
    run = deactivate_account(configuration, account_id, lock=_lock(options), clock=_now)
    _finish_account(run, options)


@_takes_global_options
@account.command("recover", context_settings=HELP)
@_IDS
@_FOR
@_LOCK_WAIT
@_JSON
def account_recover(ids: tuple[str, ...], **options: Any) -> None:
    """Ask the CAs for the accounts of keys whose account.json was lost; register nothing.

    \b
    Examples:
      mdconnector account recover
      mdconnector account recover ACME-acme.sectigo.com-0000
    """
    from mdconnector.commands.account import recover_accounts

    run = recover_accounts(
        _loader(options)(), ids, for_name=options["for_name"], lock=_lock(options), clock=_now
    )
    _finish_account(run, options)


@_takes_global_options
@account.command("import", context_settings=HELP)
@click.argument("path", metavar="PATH", type=_PATH)
@_FOR
@click.option(
    "--change-key",
    "changes_key",
    is_flag=True,
    help="Give it a new RSA key first; the other client cannot use the account any more.",
)
@_LOCK_WAIT
@_JSON
def account_import(path: Path, **options: Any) -> None:
    """Take over an account of mod_md, certbot, lego or acme.sh, so that no new binding is needed.

    PATH is the file with the account's key, or a folder with one such file in it. The CA is asked
    whose key it is before anything is stored.

    \b
    Examples:
      mdconnector account import /etc/letsencrypt/accounts
      mdconnector account import ~/.acme.sh/ca --for shop.example.org --change-key
    """
    from mdconnector.commands.account import import_account

    run = import_account(
        _loader(options)(),
        path,
        for_name=options["for_name"],
        changes_key=options["changes_key"],
        lock=_lock(options),
        clock=_now,
    )
    _finish_account(run, options)


def _lock(options: dict[str, Any]) -> Lock:
    from mdconnector.commands.account import Lock

    return Lock(_lock_wait(options["lock_wait"], ("a person",)), output.sayer(options))


def _finish_account(run: AccountRun, options: dict[str, Any]) -> NoReturn:
    output.finish(run, options, as_json=options["as_json"])


def _require_selection(command: str, names: tuple[str, ...], everything: bool) -> None:
    if bool(names) == everything:
        what = "either NAMEs or --all, not both" if names else "NAMEs, or --all"
        raise UsageError(f"{command} takes {what}", hint=f"type 'mdconnector {command} -h'")


def _loader(options: dict[str, Any]) -> Callable[[], Configuration]:
    """Return what reads the configuration, and under -v says what was assumed for it."""
    from mdconnector.commands.loading import load as load_places

    say = output.sayer(options)

    def load() -> Configuration:
        places = {name: options[name] for name in ("config", "sites", "store", "httpd")}
        configuration = load_places(**places)
        for assumption in configuration.assumptions if options["verbose"] else ():
            say(f"assumed: {assumption}")
        return configuration

    return load


def _lock_wait(given: float | None, names: tuple[str, ...]) -> float:
    if given is not None:
        return given
    return 60 if names or sys.stderr.isatty() else 0


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # Killed by a signal is an end like any other: the next run takes up what this one left.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o077)
    # a core dump would hold keys; the hard limit stays, for what is started from here
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # what a library thinks of a certificate that somebody sent is nothing that can be mended here
    warnings.filterwarnings("ignore", r"Parsed a|The parsed certificate")
    output.open_standard_streams()
    arguments = sys.argv[1:]
    try:
        code = program.main(arguments, prog_name="mdconnector", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        output.write(sys.stderr, f"{error.format_message()}\n")
        code = error.exit_code
    except click.ClickException as error:
        hint = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        usage = UsageError(error.format_message(), hint=f"type '{hint or 'mdconnector'} -h'")
        code = output.report_error(usage, _command_in(arguments), arguments)
    except MdConnectorError as error:
        code = output.report_error(error, _command_in(arguments), arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _command_in(arguments: list[str]) -> str | None:
    return next((word for word in arguments if word in program.commands), None)


def _now() -> datetime:
    """Read the clock: the one place where a run learns what time it is."""
    return datetime.now(UTC)
