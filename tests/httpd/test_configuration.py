"""Where reading begins, which defaults hold, and how a name is looked up, on real files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mdconnector.errors import ConfigurationError, UsageError
from mdconnector.httpd import configuration as module
from mdconnector.httpd.configuration import (
    Configuration,
    evaluate_as_httpd,
    find_domain,
    load_configuration,
    was_read_as,
)
from mdconnector.managed_domain import Severity

MODULES = "LoadModule ssl_module modules/mod_ssl.so\n"
MD_MODULE = "LoadModule md_module modules/mod_md.so\n"
SITE = (
    "MDomain shop.example.org\n<VirtualHost *:443>\nServerName shop.example.org\n</VirtualHost>\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "apache2"
    (folder / "sites-enabled").mkdir(parents=True)
    return folder


def write(root: Path, text: str, *, name: str = "apache2.conf") -> Path:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def load(
    config: Path | None = None,
    *,
    sites: Path | None = None,
    store: Path | None = None,
    environment: Mapping[str, str] | None = None,
    parent_arguments: tuple[str, ...] = (),
    parent_environment: Mapping[str, str] | None = None,
) -> Configuration:
    return load_configuration(
        config=config,
        sites=sites,
        store=store,
        environment=environment or {},
        parent_arguments=parent_arguments,
        parent_environment=parent_environment,
    )


def errors(configuration: Configuration) -> list[str]:
    return [one.code for one in configuration.findings if one.severity is Severity.ERROR]


# Where it begins


def test_main_file_leads_to_the_sites(root: Path) -> None:
    main = write(root, MODULES + MD_MODULE + "IncludeOptional sites-enabled/*.conf\n")
    write(root, SITE, name="sites-enabled/shop.conf")
    configuration = load(main)
    (domain,) = configuration.domains
    assert str(domain.declared_at) == f"{root}/sites-enabled/shop.conf:1"
    assert configuration.main_file == main
    assert configuration.sites_folder is None
    assert configuration.mod_md_loaded
    assert configuration.mod_ssl_loaded


def test_server_root_is_the_main_file_s_folder(root: Path) -> None:
    assert load(write(root, "")).server_root == root


def test_server_root_is_the_parent_of_a_folder_called_conf(root: Path) -> None:
    assert load(write(root, "", name="conf/httpd.conf")).server_root == root


def test_server_root_of_the_file_wins(root: Path, tmp_path: Path) -> None:
    configuration = load(write(root, f"ServerRoot {tmp_path}\n"))
    assert configuration.server_root == tmp_path
    assert configuration.store_path == tmp_path / "md"


def test_server_root_of_the_running_parent_holds_before_the_file_s(
    root: Path, tmp_path: Path
) -> None:
    configuration = load(write(root, ""), parent_arguments=("-d", str(tmp_path)))
    assert configuration.server_root == tmp_path


def test_folder_of_sites_is_read_in_byte_order(root: Path) -> None:
    sites = root / "sites-enabled"
    for name in ("b.conf", "B.conf", "10.conf", "2.conf"):
        write(sites, f"MDomain {name.lower().replace('.conf', '')}x.example.org\n", name=name)
    write(sites, "MDomain not.example.org\n", name="a.conf.bak")
    configuration = load(sites=sites)
    assert [one.declared_at.file.rpartition("/")[2] for one in configuration.domains] == [
        "10.conf",
        "2.conf",
        "B.conf",
    ]


def test_folder_of_sites_has_the_defaults_of_a_whole_server(root: Path) -> None:
    write(root, SITE, name="sites-enabled/shop.conf")
    configuration = load(sites=root / "sites-enabled")
    assert configuration.server_root == root
    assert configuration.store_path == root / "md"
    assert configuration.pid_file is None
    assert configuration.mod_md_loaded
    assert configuration.mod_ssl_loaded
    assert [str(one.address) for one in configuration.listens] == ["*:80", "*:443"]
    assert any("Listen 80" in line for line in configuration.assumptions)
    assert any(f"MDStoreDir {root}/md" in line for line in configuration.assumptions)


def test_user_of_a_folder_of_sites_is_the_first_that_exists(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "USERS", ("nobody-called-so", "root"))
    user = load(sites=root / "sites-enabled").user
    assert user is not None
    assert (user.name, user.number) == ("root", 0)


def test_without_an_option_the_usual_main_file_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = write(root, "")
    monkeypatch.setattr(module, "MAIN_FILES", (root / "nowhere.conf", main))
    configuration = load()
    assert configuration.main_file == main
    assert any(str(main) in line for line in configuration.assumptions)


def test_without_a_main_file_the_usual_folder_of_sites_is_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAIN_FILES", (root / "nowhere.conf",))
    monkeypatch.setattr(module, "SITES_FOLDER", root / "sites-enabled")
    assert load().sites_folder == root / "sites-enabled"


def test_without_any_configuration_the_options_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAIN_FILES", (root / "nowhere.conf",))
    monkeypatch.setattr(module, "SITES_FOLDER", root / "nowhere")
    with pytest.raises(ConfigurationError) as caught:
        load()
    assert "--config" in str(caught.value.hint)


def test_config_wins_over_sites_and_says_so(root: Path) -> None:
    configuration = load(write(root, ""), sites=root / "sites-enabled")
    assert configuration.sites_folder is None
    assert any("--sites" in line for line in configuration.assumptions)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_main_file_that_cannot_be_read_is_an_error(root: Path, kind: str) -> None:
    path = root / "main"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


def test_missing_folder_of_sites_is_an_error(root: Path) -> None:
    with pytest.raises(ConfigurationError):
        load(sites=root / "nowhere")


def test_matrix_a2_broken_site_does_not_lose_the_others(root: Path) -> None:
    sites = root / "sites-enabled"
    write(sites, "<VirtualHost *:443>\nServerName broken.example.org\n", name="a.conf")
    write(sites, SITE, name="b.conf")
    configuration = load(sites=sites)
    assert [one.name for one in configuration.domains] == ["shop.example.org"]
    assert configuration.domains[0].faults == ()
    (finding,) = [one for one in configuration.findings if one.severity is Severity.ERROR]
    assert finding.at == f"{sites}/a.conf:1"


def test_error_in_a_vhost_is_the_fault_of_its_domain_alone(root: Path) -> None:
    site = (
        "MDomain {0}.example.org\n<VirtualHost *:443>\nServerName {0}.example.org\n"
        "SSLEngine {1}\n</VirtualHost>\n"
    )
    sites = root / "sites-enabled"
    write(
        sites,
        site.format("a", "on") + site.format("b", "yes") + site.format("c", "on"),
        name="x.conf",
    )
    configuration = load(sites=sites)
    faults = {one.name: [fault.at for fault in one.faults] for one in configuration.domains}
    assert faults == {
        "a.example.org": [],
        "b.example.org": [f"{sites}/x.conf:9"],
        "c.example.org": [],
    }


def test_unclosed_vhost_is_the_fault_of_its_domain(root: Path) -> None:
    sites = root / "sites-enabled"
    write(sites, SITE.replace("</VirtualHost>\n", ""), name="a.conf")
    write(sites, SITE.replace("shop", "good"), name="b.conf")
    configuration = load(sites=sites)
    faults = {one.name: [fault.code for fault in one.faults] for one in configuration.domains}
    assert faults == {"shop.example.org": ["unclosed-section"], "good.example.org": []}


def test_error_before_all_domains_is_nobody_s_fault(root: Path) -> None:
    main = write(root, MODULES + MD_MODULE + "Include nowhere.conf\n" + SITE)
    configuration = load(main)
    assert errors(configuration) == ["include-failed"]
    assert configuration.domains[0].faults == ()


# Store, user, process


def ownerless(root: Path, text: str) -> list[str]:
    """Return the codes of the errors that may hide domains."""
    return [finding.code for finding in load(write(root, text)).ownerless_errors]


def test_error_that_is_a_domain_s_fault_is_not_ownerless(root: Path) -> None:
    assert ownerless(root, "MDomain a.example.org\nInclude no.conf\n") == []
    assert ownerless(root, "Include no.conf\nMDomain a.example.org\n") == ["include-failed"]


def test_declaration_that_makes_no_domain_is_an_ownerless_error(root: Path) -> None:
    assert ownerless(root, "MDomain\n") == ["mdomain-without-name"]
    assert ownerless(root, "MDomain ../a.example.org\n") == ["name-refused"]
    assert ownerless(root, "MDomain a_b.example.org\n") == [], "it is that domain's own fault"


def test_what_hides_no_domain_is_not_an_ownerless_error(root: Path) -> None:
    assert ownerless(root, "MDStoreDirectory x\nNoSuchDirective\n") == []
    assert ownerless(root, "LoadModule md_module m.so\nMDomain a.example.org\n") == []


def test_store_of_the_option_before_the_directive_s(root: Path, tmp_path: Path) -> None:
    main = write(root, MODULES + MD_MODULE + "MDStoreDir elsewhere\n")
    assert load(main).store_path == root / "elsewhere"
    assert load(main, store=tmp_path / "own").store_path == tmp_path / "own"


@pytest.mark.parametrize(
    ("line", "folders", "store"),
    [
        ("", ("state",), "state/md"),
        ("", ("state", "md"), "md"),
        ("DefaultStateDir elsewhere\n", ("state",), "elsewhere/md"),
        ("MDStoreDir own\n", ("state",), "own"),
    ],
)
def test_store_of_red_hat_s_mod_md_is_below_the_state_folder(
    root: Path, line: str, folders: tuple[str, ...], store: str
) -> None:
    for folder in folders:
        (root / folder).mkdir()
    assert load(write(root, MODULES + MD_MODULE + line)).store_path == root / store


def test_user_and_group_by_number(root: Path) -> None:
    configuration = load(write(root, "User #0\nGroup #12345\n"))
    assert configuration.user is not None
    assert configuration.user.number == 0
    assert configuration.group is not None
    assert configuration.group.number == 12345


def test_user_that_this_system_does_not_know_has_no_number(root: Path) -> None:
    user = load(write(root, "User nobody-called-so\n")).user
    assert user is not None
    assert (user.name, user.number) == ("nobody-called-so", None)


@pytest.mark.parametrize(
    ("lines", "below_root"),
    [
        ("PidFile run/httpd.pid\n", "logs/run/httpd.pid"),
        ("DefaultRuntimeDir sites-enabled\nPidFile httpd.pid\n", "sites-enabled/httpd.pid"),
    ],
)
def test_relative_pid_file_is_below_the_runtime_folder(
    root: Path, lines: str, below_root: str
) -> None:
    assert load(write(root, lines)).pid_file == root / below_root


def test_absolute_pid_file(root: Path) -> None:
    assert load(write(root, "PidFile /run/x.pid\n")).pid_file == Path("/run/x.pid")


def test_envvars_beside_the_main_file_is_sourced(root: Path) -> None:
    write(root, 'unset HOME\nexport APACHE_RUN_USER="ro$(echo ot)"\n', name="envvars")
    user = load(
        write(root, "User ${APACHE_RUN_USER}\n"), environment={"PATH": "/bin:/usr/bin"}
    ).user
    assert user is not None
    assert (user.name, user.number) == ("root", 0)


def test_environment_of_the_running_parent_counts_instead(root: Path) -> None:
    write(root, "export WHO=root\n", name="envvars")
    main = write(root, "User ${WHO}\n")
    user = load(main, parent_environment={"WHO": "nobody"}).user
    assert user is not None
    assert user.name == "nobody"


def test_envvars_that_fails_is_an_error_and_reading_goes_on(root: Path) -> None:
    write(root, "exit 3\n", name="envvars")
    configuration = load(write(root, MODULES + MD_MODULE + SITE))
    assert errors(configuration) == ["envvars-failed"]
    assert [one.name for one in configuration.domains] == ["shop.example.org"]


def test_arguments_of_the_running_parent_count(root: Path) -> None:
    main = write(root, "<IfDefine LIVE>\nMDomain ${NAME}.example.org\n</IfDefine>\n")
    arguments = ("-D", "LIVE", "-C", "Define NAME shop", "-c", "MDRenewMode manual")
    (domain,) = load(main, parent_arguments=arguments).domains
    assert domain.name == "shop.example.org"
    assert load(main).domains == ()


# Apaches without mod_md


def test_lines_for_mod_md_count_where_it_is_not_loaded_and_are_marked(root: Path) -> None:
    main = write(
        root,
        MODULES + "<IfModule md_module>\nMDomain a.example.org\n</IfModule>\n"
        "<IfDefine MDCONNECTOR>\nMDomain b.example.org\n</IfDefine>\n"
        "<IfModule !mod_md.c>\nDefine WITHOUT\n</IfModule>\n"
        "<IfDefine WITHOUT>\nUser root\n</IfDefine>\n",
    )
    configuration = load(main)
    assert not configuration.mod_md_loaded
    assert [(one.name, one.assumed, one.renewed_by) for one in configuration.domains] == [
        ("a.example.org", True, "mdconnector"),
        ("b.example.org", True, "mdconnector"),
    ]
    assert configuration.user is not None
    assert errors(configuration) == []


SITE_OF_STORE = """\
<IfModule md_module>
MDomain shop.example.org
</IfModule>
<VirtualHost *:443>
ServerName shop.example.org
<IfFile "{store}/domains/shop.example.org/pubcert.pem">
SSLEngine on
SSLCertificateFile "{store}/domains/shop.example.org/pubcert.pem"
</IfFile>
</VirtualHost>
"""


@pytest.mark.parametrize("folder", ["md", "own"])
def test_iffile_on_our_store_counts_as_true(root: Path, folder: str) -> None:
    store = root / folder
    md_store = "" if folder == "md" else f"<IfModule md_module>\nMDStoreDir {store}\n</IfModule>\n"
    main = write(root, MODULES + md_store + SITE_OF_STORE.format(store=store))
    configuration = load(main)
    (vhost,) = configuration.vhosts
    assert vhost.ssl
    assert [pair.assumed for pair in vhost.certificate_pairs] == [True]
    assert configuration.domains[0].used_by_ssl


def test_pair_whose_file_is_there_is_not_assumed(root: Path) -> None:
    write(root, "", name="md/domains/shop.example.org/pubcert.pem")
    main = write(root, MODULES + SITE_OF_STORE.format(store=root / "md"))
    (vhost,) = load(main).vhosts
    assert [pair.assumed for pair in vhost.certificate_pairs] == [False]


def test_iffile_elsewhere_is_asked_of_the_disk(root: Path) -> None:
    main = write(root, MODULES + SITE_OF_STORE.format(store=root / "other"))
    (vhost,) = load(main).vhosts
    assert not vhost.ssl


# Names


@pytest.fixture
def configured(root: Path) -> Configuration:
    return load(
        write(
            root,
            MODULES + MD_MODULE + "MDomain shop.example.org www.shop.example.org\n"
            "MDomain *.wild.example.org\n"
            "<VirtualHost *:443>\nServerName free.example.org\nServerAlias *.free.example.org\n"
            "</VirtualHost>\n",
        )
    )


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("shop.example.org", "shop.example.org"),
        ("Shop.Example.ORG.", "shop.example.org"),
        ("www.shop.example.org", "shop.example.org"),
        ("*.wild.example.org", "*.wild.example.org"),
        ("a.wild.example.org", "*.wild.example.org"),
    ],
)
def test_domain_is_found_by_each_name_it_covers(
    configured: Configuration, asked: str, name: str
) -> None:
    assert find_domain(configured, asked).name == name


def test_unknown_name_tells_the_nearest(configured: Configuration) -> None:
    with pytest.raises(UsageError) as caught:
        find_domain(configured, "shob.example.org")
    assert "shop.example.org" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["free.example.org", "x.free.example.org"])
def test_name_that_a_vhost_serves_tells_the_line_to_add(
    configured: Configuration, root: Path, name: str
) -> None:
    with pytest.raises(UsageError) as caught:
        find_domain(configured, name)
    assert caught.value.message == f"{name} is served by {root}/apache2.conf:5 but not managed"
    assert caught.value.hint == f"add 'MDomain {name}' above it"


@pytest.mark.parametrize("name", ["../etc", "/etc/passwd", "", ".", "..", "a\nb", "a/b.org"])
def test_name_that_is_a_path_is_refused(configured: Configuration, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_domain(configured, name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (("-D", "X", "-C", "Define Y"), True),
        (("-D", "X", "-C", "Define Y", "-d", "{root}"), True),
        (("-D", "X", "-C", "Define Y", "-d", "/elsewhere"), False),
        (("-D", "X"), False),
        (("-D", "X", "-C", "Define Y", "-c", "Define Z"), False),
        ((), False),
    ],
)
def test_what_an_httpd_reads_depends_on_its_arguments(
    root: Path, arguments: tuple[str, ...], same: bool
) -> None:
    configuration = load_configuration(
        config=write(root, ""),
        sites=None,
        store=None,
        environment={},
        parent_arguments=("-D", "X", "-C", "Define Y"),
    )
    given = tuple(word.format(root=root) for word in arguments)
    assert was_read_as(configuration, given) is same


def test_truth_is_read_without_our_assumptions(root: Path) -> None:
    configuration = load(
        write(root, "<IfDefine MDCONNECTOR>\nMDomain a.example.org\n</IfDefine>\n")
    )
    assert configuration.assumed
    assert [one.name for one in configuration.md_lines] == ["MDomain"]
    assert evaluate_as_httpd(configuration).directives == ()


def test_files_of_modules_are_remembered(root: Path) -> None:
    configuration = load(write(root, "LoadModule md_module modules/mod_md.so\n"))
    assert configuration.module_files == {"md_module": f"{root}/modules/mod_md.so"}
    assert not configuration.assumed
