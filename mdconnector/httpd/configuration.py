"""Reads Apache's configuration from its beginning to the managed domains, with defaults named.

Rules: the main file is preferred, because CA, account binding, store and modules usually stand
outside of the sites. Only a beginning that cannot be read is an error; all else becomes a finding,
and where it concerns one domain, that domain's fault.
"""

import bisect
import contextlib
import gc
import grp
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

from mdconnector.errors import ConfigurationError, UsageError
from mdconnector.httpd.domains import Interpretation, read_domains
from mdconnector.httpd.evaluator import (
    MDCONNECTOR_DEFINES,
    MDCONNECTOR_MODULES,
    SITES_FOLDER_MODULES,
    STATIC_MODULES,
    Assumptions,
    Directive,
    EntryKind,
    Evaluation,
    World,
    evaluate,
)
from mdconnector.httpd.paths import merge_path
from mdconnector.httpd.reader import DiskReader, Program, read_environment, read_program
from mdconnector.httpd.settings import GlobalSettings, Settings
from mdconnector.httpd.vhost_names import matches_vhost
from mdconnector.httpd.vhosts import READ_KEYS, Listen, Servers, read_servers
from mdconnector.keys import DEFAULT_KEY_SPEC, KeySpec
from mdconnector.managed_domain import (
    Address,
    CaAccess,
    Finding,
    ManagedDomain,
    Severity,
    SourceLine,
    VirtualHost,
    name_covers,
)
from mdconnector.printable import printable

MAIN_FILES = (Path("/etc/apache2/apache2.conf"), Path("/etc/httpd/conf/httpd.conf"))
SITES_FOLDER = Path("/etc/apache2/sites-enabled")
USERS = ("www-data", "apache", "http")
PID_FILES = (
    Path("/run/apache2/apache2.pid"),
    Path("/run/apache2.pid"),
    Path("/run/httpd/httpd.pid"),
)
DEFAULT_HTTPD_VERSION = "2.4.71"
MD_MODULE = "md_module"
_LOST_DOMAINS = frozenset({"mdomain-without-name", "name-refused"})
"""what makes a declaration that no managed domain can be made of"""


class SystemAccount(NamedTuple):
    """httpd's User or Group; `number` is None where this system does not know it."""

    name: str
    number: int | None


class Hook(NamedTuple):
    """A command line of the configuration, untokenised, and where it stands."""

    command: str
    declared_at: SourceLine


class Configuration(NamedTuple):
    """Everything that Apache's configuration says, as far as certificates are concerned."""

    main_file: Path | None
    """where it began; None where only a folder of sites was read"""
    sites_folder: Path | None
    assumptions: tuple[str, ...]
    """what no file said, a line each, and what is taken instead"""
    server_root: Path
    store_path: Path
    user: SystemAccount | None
    """the User that httpd runs as"""
    group: SystemAccount | None
    pid_file: Path | None
    httpd_version: str | None
    mod_md_loaded: bool
    """the truth about this httpd, whatever is assumed for finding domains"""
    mod_ssl_loaded: bool
    listens: tuple[Listen, ...]
    base: VirtualHost
    vhosts: tuple[VirtualHost, ...]
    """every <VirtualHost>, in the order of the files"""
    domains: tuple[ManagedDomain, ...]
    findings: tuple[Finding, ...]
    """what was found while reading; `httpd.doctor` finds more"""
    ownerless_errors: tuple[Finding, ...]
    """those errors that may hide managed domains, and are not known to be the fault of one"""
    md_lines: tuple[Directive, ...]
    """every line for mod_md, in the order of reading"""
    files: tuple[str, ...]
    """every file that was read"""
    http_port: int | None
    """the local port that the public port 80 leads to; None where nothing does"""
    https_port: int | None
    dns01_version: Literal[1, 2]
    retry_delay: timedelta
    retry_failover: int
    match_names: Literal["all", "servernames"]
    store_locks: timedelta | None
    """how long mod_md waits for the store's lock; None: it takes none"""
    notify_hook: Hook | None
    message_hook: Hook | None
    world: World
    """what httpd brings along when it reads"""
    module_files: Mapping[str, str]
    """by identifier: the absolute path that LoadModule names"""
    assumed: bool
    """whether text was read that this httpd does not read"""
    server_key_specs: tuple[KeySpec, ...] = (DEFAULT_KEY_SPEC,)
    """MDPrivateKeys of the main server: by these mod_md looks for answers to tls-alpn-01"""
    ca_access: CaAccess = CaAccess()
    """the main server's way to CAs, for what no managed domain uses"""

    @property
    def servers(self) -> tuple[VirtualHost, ...]:
        """The main server and every virtual host."""
        return (self.base, *self.vhosts)


class _Beginning(NamedTuple):
    """Where reading begins."""

    main_file: Path | None
    sites_folder: Path | None
    server_root: Path
    notes: tuple[str, ...]


def load_configuration(
    *,
    config: Path | None,
    sites: Path | None,
    store: Path | None,
    environment: Mapping[str, str],
    parent_arguments: tuple[str, ...] = (),
    parent_environment: Mapping[str, str] | None = None,
    httpd: Path | None = None,
) -> Configuration:
    """Read the configuration.

    `parent_arguments` are those of a running httpd, in pairs (`-D NAME`, `-C TEXT`, ...), and
    `parent_environment` its environment: a reload of it uses that one, so envvars is not read then.
    `httpd` is the binary whose version and compiled-in modules count; it is not started.
    Raises ConfigurationError where the main file or the folder of sites cannot be read.
    """
    options = _options(parent_arguments)
    beginning = _beginning(config, sites, options.get("-d", ()))
    program = _program(httpd)
    if parent_environment is None:
        parent_environment, findings = _environment(beginning, environment)
    else:
        findings = ()
    reader = _WatchfulReader()
    world = World(
        reader=reader,
        server_root=str(beginning.server_root),
        modules=_modules(beginning, program),
        version=program.version if program else DEFAULT_HTTPD_VERSION,
        defines=options.get("-D", ()),
        environment=parent_environment,
        pre_directives=options.get("-C", ()),
        post_directives=options.get("-c", ()),
    )
    with _without_garbage_collection():
        reading, store_path = _read_for_store(beginning, world, reader, store)
        configuration = _compose(beginning, world, reading, store_path, program)
    return configuration._replace(
        findings=(*findings, *configuration.findings),
        ownerless_errors=(*findings, *configuration.ownerless_errors),
    )


def was_read_as(configuration: Configuration, parent_arguments: tuple[str, ...]) -> bool:
    """Say whether an httpd with these arguments, in pairs, reads what was read."""
    world, options = configuration.world, _options(parent_arguments)
    return (
        world.defines == options.get("-D", ())
        and world.pre_directives == options.get("-C", ())
        and world.post_directives == options.get("-c", ())
        and options.get("-d", (world.server_root,))[-1] == world.server_root
    )


def evaluate_as_httpd(
    configuration: Configuration,
    *,
    defines: tuple[str, ...] = (),
    commands: tuple[str, ...] = (),
) -> Evaluation:
    """Read the same files again as this httpd does, without any assumption of ours.

    `defines` and `commands` are what it is started with besides (-D, -C).
    """
    world = configuration.world
    return evaluate(
        str(configuration.main_file) if configuration.main_file else None,
        world=world._replace(
            defines=(*world.defines, *defines),
            pre_directives=(*world.pre_directives, *commands),
        ),
        sites_folder=str(configuration.sites_folder) if configuration.sites_folder else None,
    )


class _Reading(NamedTuple):
    """What one evaluation gave."""

    evaluation: Evaluation
    servers: Servers
    interpretation: Interpretation


def _read_for_store(
    beginning: _Beginning, world: World, reader: "_WatchfulReader", store: Path | None
) -> tuple[_Reading, Path]:
    expected = (store or beginning.server_root / "md").absolute()
    reading = _read(beginning, world, expected)
    found = _store_path(reading, store, world)
    if found != expected and reader.has_missed_below(found):
        # an <IfFile> on our store counts as true, and only now is it known which store that is
        reading = _read(beginning, world, found)
    return reading, found


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Let a large tree grow without the search for cycles, a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()


def _program(httpd: Path | None) -> Program | None:
    if httpd is None:
        return None
    try:
        return read_program(httpd)
    except ConfigurationError:
        return None  # whoever needs the program itself will say so; reading goes on without


def _modules(beginning: _Beginning, program: Program | None) -> frozenset[str]:
    compiled_in = program.modules if program else STATIC_MODULES
    return compiled_in if beginning.main_file else compiled_in | SITES_FOLDER_MODULES


def _options(arguments: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for option, value in zip(arguments[::2], arguments[1::2], strict=False):
        found[option] = (*found.get(option, ()), value)
    return found


def _beginning(
    config: Path | None, sites: Path | None, parent_roots: tuple[str, ...]
) -> _Beginning:
    """Decide where reading begins, and what ServerRoot is until a line names one."""
    notes: list[str] = []
    if config is None and sites is None:
        config = next((path for path in MAIN_FILES if os.path.exists(path)), None)
        sites = SITES_FOLDER if os.path.isdir(SITES_FOLDER) else None
        if config is None and sites is None:
            raise ConfigurationError(
                "there is no Apache configuration in the usual places",
                hint="name it with --config FILE or --sites DIR",
            )
        notes.append(f"read from {config or sites}, as neither --config nor --sites is given")
        sites = None if config else sites
    elif config is not None and sites is not None:
        notes.append(f"--sites {sites} is not used, because --config {config} is given")
        sites = None
    start = (config or sites or SITES_FOLDER).absolute()
    root = start.parent.parent if config and start.parent.name == "conf" else start.parent
    if parent_roots:
        root = Path(parent_roots[-1])
    return _Beginning(start if config else None, None if config else start, root, tuple(notes))


def _environment(
    beginning: _Beginning, environment: Mapping[str, str]
) -> tuple[Mapping[str, str], tuple[Finding, ...]]:
    """Return httpd's environment, as apache2ctl makes it."""
    start = beginning.main_file or beginning.sites_folder
    envvars = start.parent / "envvars" if start else None
    if envvars is None or not os.path.isfile(envvars):
        return environment, ()
    try:
        return read_environment(envvars, environment), ()
    except ConfigurationError as error:
        hint = error.hint or "mend it; apache2ctl reads it too"
        message = f"the environment of Apache {error.message}"
        finding = Finding("envvars-failed", Severity.ERROR, str(envvars), message, hint)
        return environment, (finding,)


class _WatchfulReader(DiskReader):
    """Remembers which paths were asked for and not there."""

    def __init__(self) -> None:
        self._missed: set[str] = set()

    def kind(self, path: str) -> EntryKind | None:
        """Say what `path` leads to."""
        found = super().kind(path)
        if found is None:
            self._missed.add(path)
        return found

    def has_missed_below(self, folder: Path) -> bool:
        """Say whether a path below `folder` was asked for and not there."""
        return any(path.startswith(f"{folder}/") for path in self._missed)


def _read(beginning: _Beginning, world: World, store: Path) -> _Reading:
    sites_folder = beginning.sites_folder
    evaluation = evaluate(
        str(beginning.main_file) if beginning.main_file else None,
        world=world,
        sites_folder=str(sites_folder) if sites_folder else None,
        assumptions=Assumptions(MDCONNECTOR_MODULES, MDCONNECTOR_DEFINES, str(store)),
        keeps=_concerns_certificates,
    )
    servers = read_servers(
        evaluation.directives,
        server_root=evaluation.server_root,
        main_file=str(beginning.main_file or sites_folder),
        more_listens=() if sites_folder is None else _sites_listens(str(sites_folder)),
    )
    interpretation = read_domains(
        evaluation.directives,
        servers,
        server_root=evaluation.server_root,
        mod_md_loaded=MD_MODULE in evaluation.modules,
        read_text=world.reader.read,
    )
    return _Reading(evaluation, servers, interpretation)


def _concerns_certificates(key: str) -> bool:
    return key in READ_KEYS or key.startswith("md")


def _sites_listens(folder: str) -> tuple[Listen, ...]:
    at = SourceLine(folder, 0)
    return (Listen(Address("*", 80), "http", at), Listen(Address("*", 443), "https", at))


def _store_path(reading: _Reading, store: Path | None, world: World) -> Path:
    if store is not None:
        return store.absolute()
    root = reading.evaluation.server_root
    named = reading.interpretation.shared.store_dir
    if named is None:
        return Path(_state_folder(reading.evaluation, world) or root, "md")
    return Path(merge_path(root, named) or f"{root}/md")


def _state_folder(evaluation: Evaluation, world: World) -> str | None:
    """Return where Red Hat's mod_md has its store: DefaultStateDir, which is `state` there."""
    root, kind = evaluation.server_root, world.reader.kind
    if evaluation.state_folder is not None:
        return evaluation.state_folder
    is_there = kind(f"{root}/state") is EntryKind.FOLDER and kind(f"{root}/md") is None
    return f"{root}/state" if is_there else None


def _compose(
    beginning: _Beginning,
    world: World,
    reading: _Reading,
    store_path: Path,
    program: Program | None,
) -> Configuration:
    evaluation, servers = reading.evaluation, reading.servers
    shared = reading.interpretation.shared
    notes = [*beginning.notes, *_notes(beginning, reading, store_path)]
    user = _user(servers.user, notes)
    domains = _blame_neighbours(reading)
    return Configuration(
        main_file=beginning.main_file,
        sites_folder=beginning.sites_folder,
        assumptions=tuple(notes),
        server_root=Path(evaluation.server_root),
        store_path=store_path,
        user=user,
        group=_group(servers.group, user),
        pid_file=_pid_file(beginning, evaluation, servers.pid_file, notes),
        httpd_version=program.version if program else None,
        mod_md_loaded=MD_MODULE in evaluation.modules,
        mod_ssl_loaded="ssl_module" in evaluation.modules,
        listens=servers.listens,
        base=servers.base,
        vhosts=servers.vhosts,
        domains=domains,
        findings=(
            *evaluation.findings,
            *servers.findings,
            *reading.interpretation.findings,
        ),
        ownerless_errors=_ownerless_errors(reading, domains),
        md_lines=reading.interpretation.lines,
        files=evaluation.files,
        http_port=shared.ports[0],
        https_port=shared.ports[1],
        dns01_version=shared.dns01_version,
        retry_delay=shared.retry_delay,
        retry_failover=shared.retry_failover,
        match_names=shared.match_names,
        store_locks=shared.store_locks,
        notify_hook=_hook(shared, "notify_cmd", shared.notify_cmd),
        message_hook=_hook(shared, "message_cmd", shared.message_cmd),
        world=world,
        module_files=evaluation.module_files,
        assumed=evaluation.assumed,
        server_key_specs=reading.interpretation.server.key_specs or (DEFAULT_KEY_SPEC,),
        ca_access=_ca_access(reading.interpretation.server),
    )


def _blame_neighbours(reading: _Reading) -> tuple[ManagedDomain, ...]:
    """Make an error of a file the fault of the domain whose line or vhost it stands in or follows.

    What Apache would make of that domain is not known; all others in the file were told apart.
    """
    domains = reading.interpretation.domains
    found = (*reading.evaluation.findings, *reading.servers.findings)
    errors = [one for one in found if one.severity is Severity.ERROR and one.at]
    if not errors:
        return domains
    owners = _owners(reading)
    blamed: dict[str, list[Finding]] = {}
    for error in errors:
        file, _, line = (error.at or "").rpartition(":")
        places = owners.get(file, [])
        number = int(line) if line.isdecimal() else 0
        index = bisect.bisect_right(places, number, key=itemgetter(0))
        for name in places[index - 1][1] if index else ():
            blamed.setdefault(name, []).append(error._replace(domain=name))
    return tuple(
        domain._replace(faults=(*domain.faults, *blamed[domain.name]))
        if domain.name in blamed
        else domain
        for domain in domains
    )


def _ownerless_errors(reading: _Reading, domains: tuple[ManagedDomain, ...]) -> tuple[Finding, ...]:
    lost = [
        one
        for one in reading.interpretation.findings
        if one.code in _LOST_DOMAINS and one.domain is None
    ]
    errors = [
        one
        for one in (*reading.evaluation.findings, *reading.servers.findings, *lost)
        if one.severity is Severity.ERROR
    ]
    if not errors:
        return ()
    owned = {(fault.at, fault.message) for domain in domains for fault in domain.faults}
    return tuple(one for one in errors if (one.at, one.message) not in owned)


def _owners(reading: _Reading) -> dict[str, list[tuple[int, tuple[str, ...]]]]:
    """Return, by file, the lines where a domain or a vhost begins and whose they are, in order."""
    owned: dict[SourceLine, tuple[str, ...]] = {
        vhost.declared_at: () for vhost in reading.servers.vhosts
    }
    for domain in reading.interpretation.domains:
        for at in (domain.declared_at, *(vhost.declared_at for vhost in domain.vhosts)):
            owned[at] = (*owned.get(at, ()), domain.name)
    places: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for at, names in owned.items():
        places.setdefault(at.file, []).append((at.line, names))
    return {file: sorted(lines) for file, lines in places.items()}


def _notes(beginning: _Beginning, reading: _Reading, store_path: Path) -> list[str]:
    notes = []
    if reading.evaluation.server_root == str(beginning.server_root):
        notes.append(f"ServerRoot {beginning.server_root}")
    if reading.interpretation.shared.store_dir is None:
        notes.append(f"MDStoreDir {store_path}")
    if beginning.sites_folder is not None:
        notes.append("Listen 80 and Listen 443, with mod_ssl and mod_md loaded")
    return notes


def _ca_access(server: Settings) -> CaAccess:
    roots, proxy_roots = (
        None if file is None or file.lower() == "none" else file
        for file in (server.ca_certificates, server.proxy_ca_certificates)
    )
    return CaAccess(roots, server.proxy_url, proxy_roots)


def _hook(shared: GlobalSettings, name: str, command: str | None) -> Hook | None:
    return None if command is None else Hook(command, shared.lines[name].at)


def _user(named: str | None, notes: list[str]) -> SystemAccount | None:
    if named is not None:
        return SystemAccount(named, _number_of(named, _uid))
    for name in USERS:
        number = _uid(name)
        if number is not None:
            notes.append(f"User {name}")
            return SystemAccount(name, number)
    return None


def _group(named: str | None, user: SystemAccount | None) -> SystemAccount | None:
    if named is not None:
        return SystemAccount(named, _number_of(named, _gid))
    if user is None or user.number is None:
        return None
    try:
        number = pwd.getpwuid(user.number).pw_gid
        return SystemAccount(grp.getgrgid(number).gr_name, number)
    except KeyError:
        return None


def _number_of(named: str, look_up: Callable[[str], int | None]) -> int | None:
    digits = named.removeprefix("#")
    if named.startswith("#") and digits.isascii() and digits.isdigit() and len(digits) <= 10:
        return int(digits)
    return look_up(named)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _pid_file(
    beginning: _Beginning, evaluation: Evaluation, named: str | None, notes: list[str]
) -> Path | None:
    """Return the PidFile (httpd: log.c, ap_log_pid); None for a folder of sites that names none."""
    if named is not None:
        folder = evaluation.runtime_folder or f"{evaluation.server_root}/logs"
        return Path(merge_path(folder, named) or named)
    if beginning.main_file is None:
        return None
    candidates = (*PID_FILES, Path(evaluation.server_root, "logs", "httpd.pid"))
    found = next((path for path in candidates if os.path.exists(path)), None)
    notes.append(f"PidFile {found}" if found else "no PidFile: no running Apache can be found")
    return found


# Looking names up


def find_domain(configuration: Configuration, name: str) -> ManagedDomain:
    """Return the managed domain that is called `name` or covers it.

    Raises UsageError that tells the nearest names, or what to do where a vhost serves the name.
    """
    wanted = name.strip().rstrip(".").lower()
    if "/" in wanted or not wanted.isprintable() or wanted in {"", ".", ".."}:
        raise UsageError(
            f"'{printable(name)}' is not a name",
            hint="give the name of a managed domain; `mdconnector scan` lists them",
        )
    domains = configuration.domains
    for domain in domains:
        if domain.name == wanted:
            return domain
    covering = [
        domain for domain in domains if any(name_covers(one, wanted) for one in domain.names)
    ]
    exact = next((domain for domain in covering if wanted in domain.names), None)
    if exact is not None or covering:
        return exact or covering[0]
    raise _unknown(configuration, wanted)


def _unknown(configuration: Configuration, name: str) -> UsageError:
    vhost = next((one for one in configuration.vhosts if matches_vhost(one, name)), None)
    if vhost is not None:
        return UsageError(
            f"{name} is served by {vhost.declared_at} but not managed",
            hint=f"add 'MDomain {name}' above it",
        )
    import difflib  # only where somebody has mistyped

    known = {one: None for domain in configuration.domains for one in domain.names}
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        hint = f"the nearest are {', '.join(near)}"
    elif known:
        hint = "`mdconnector scan` lists the managed domains"
    else:
        hint = "no managed domain is configured; `mdconnector scan` shows what could be one"
    for error in configuration.ownerless_errors[:1]:
        hint += f"; it may be hidden by {error}"
    return UsageError(f"there is no managed domain '{printable(name)}'", hint=hint)
