"""Virtual hosts and the server's facts, from the text of a configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.httpd.vhost_names import matches_vhost, pattern_expression
from mdconnector.httpd.vhosts import READ_KEYS, is_any_address, parse_address
from mdconnector.managed_domain import Address, SourceLine, VirtualHost
from tests.httpd.trees import MAIN, servers


def only_vhost(text: str) -> VirtualHost:
    (found,) = servers(text).vhosts
    return found


def vhost_of(lines: str, *, address: str = "*:443", before: str = "") -> VirtualHost:
    return only_vhost(f"{before}\n<VirtualHost {address}>\n{lines}\n</VirtualHost>\n")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("*", Address("*", None)),
        ("*:*", Address("*", None)),
        ("*:443", Address("*", 443)),
        ("_Default_:443", Address("*", 443)),
        ("192.0.2.1", Address("192.0.2.1", None)),
        ("192.0.2.1:8443", Address("192.0.2.1", 8443)),
        ("[2001:db8::1]", Address("2001:db8::1", None)),
        ("[2001:db8::1]:443", Address("2001:db8::1", 443)),
        ("[::]:*", Address("::", None)),
        ("shop.example.org:80", Address("shop.example.org", 80)),
        ("443", None),
        ("*:70000", None),
        ("*:https", None),
        ("2001:db8::1", None),
        ("[2001:db8::1", None),
        ("[nonsense]:443", None),
        (":443", None),
        ("", None),
    ],
)
def test_address_of_a_vhost(text: str, address: Address | None) -> None:
    assert parse_address(text) == address


def test_vhost_has_all_its_addresses_and_its_place() -> None:
    vhost = only_vhost("\n<VirtualHost *:80 [::1]:443>\nServerName a.example.org\n</VirtualHost>")
    assert vhost.addresses == (Address("*", 80), Address("::1", 443))
    assert str(vhost.declared_at) == f"{MAIN}:2"


@pytest.mark.parametrize(
    ("written", "name", "port"),
    [
        ("Shop.example.org", "Shop.example.org", 0),
        ("shop.example.org:8443", "shop.example.org", 8443),
        ("https://shop.example.org", "shop.example.org", 0),
        ("https://shop.example.org:8443", "shop.example.org", 8443),
    ],
)
def test_server_name_without_scheme_and_port(written: str, name: str, port: int) -> None:
    vhost = vhost_of(f"ServerName {written}")
    assert (vhost.server_name, vhost.port) == (name, port)


def test_port_is_the_first_address_s_where_no_server_name_says_one() -> None:
    assert vhost_of("", address="*:8443 *:9443").port == 8443


def test_aliases_accumulate_with_wildcards() -> None:
    vhost = vhost_of("ServerAlias a.example.org *.b.example.org\nServerAlias c.example.org")
    assert vhost.aliases == ("a.example.org", "*.b.example.org", "c.example.org")


def test_vhost_without_name_has_the_main_server_s_on_any_address() -> None:
    assert vhost_of("", before="ServerName main.example.org").server_name == "main.example.org"


def test_vhost_without_name_has_none_on_an_address_of_its_own() -> None:
    vhost = vhost_of("", address="192.0.2.1:443", before="ServerName main.example.org")
    assert vhost.server_name == ""


def test_main_server_s_lines_count_after_the_vhost_too() -> None:
    found = servers(
        "<VirtualHost *:443>\n</VirtualHost>\n"
        "ServerName main.example.org\nServerAdmin admin@example.org\nSSLEngine on\n"
        "DocumentRoot htdocs\nProtocols h2 http/1.1\n"
    )
    (vhost,) = found.vhosts
    assert vhost.server_name == "main.example.org"
    assert vhost.server_admin == "admin@example.org"
    assert vhost.ssl
    assert vhost.document_root == "/etc/apache2/htdocs"
    assert vhost.protocols == ("h2", "http/1.1")


def test_vhost_s_own_lines_win() -> None:
    vhost = vhost_of(
        "ServerAdmin own@example.org\nSSLEngine off\nDocumentRoot /srv/own\nProtocols acme-tls/1",
        before="ServerAdmin admin@example.org\nSSLEngine on\nDocumentRoot /srv\nProtocols h2",
    )
    assert vhost.server_admin == "own@example.org"
    assert not vhost.ssl
    assert vhost.document_root == "/srv/own"
    assert vhost.protocols == ("acme-tls/1",)


def test_contact_of_mod_md_in_a_vhost_is_kept_and_not_inherited() -> None:
    assert vhost_of("MDContactEmail a@b.org").contact_email == "a@b.org"
    found = servers("MDContactEmail a@b.org\n<VirtualHost *:443>\n</VirtualHost>")
    assert (found.base.contact_email, found.vhosts[0].contact_email) == ("a@b.org", None)


def test_placeholder_is_no_admin() -> None:
    assert vhost_of('ServerAdmin "[no address given]"').server_admin is None


@pytest.mark.parametrize(("written", "on"), [("On", True), ("off", False), ("Optional", True)])
def test_ssl_engine(written: str, *, on: bool) -> None:
    assert vhost_of(f"SSLEngine {written}").ssl is on


CERTIFICATE = "SSLCertificateFile ssl/cert.pem"


@pytest.mark.parametrize(
    ("listen", "address", "lines", "on"),
    [
        ("Listen 443", "*:443", CERTIFICATE, True),
        ("Listen 443", "*:443", "", False),
        ("Listen 443 http", "*:443", CERTIFICATE, False),
        ("Listen 8443 https", "*:8443", CERTIFICATE, True),
        ("Listen 8443", "*:8443", CERTIFICATE, False),
        ("Listen 192.0.2.1:443", "192.0.2.1:443", CERTIFICATE, True),
        ("Listen 443", "192.0.2.1:443", CERTIFICATE, False),
    ],
)
def test_ssl_without_ssl_engine_needs_an_https_listener_and_a_certificate(
    listen: str, address: str, lines: str, *, on: bool
) -> None:
    assert vhost_of(lines, address=address, before=listen).ssl is on


def test_certificates_are_paired_with_keys_by_position() -> None:
    vhost = vhost_of(
        "SSLCertificateFile a.pem\nSSLCertificateFile /b.pem\nSSLCertificateKeyFile a.key"
    )
    pairs = [(pair.certificate_file, pair.key_file) for pair in vhost.certificate_pairs]
    assert pairs == [("/etc/apache2/a.pem", "/etc/apache2/a.key"), ("/b.pem", "/b.pem")]
    assert str(vhost.certificate_pairs[1].declared_at) == f"{MAIN}:4"


def pairs_of(vhost: VirtualHost) -> list[tuple[str, str, bool]]:
    return [
        (one.certificate_file, one.key_file, one.key_is_named) for one in vhost.certificate_pairs
    ]


TWO_OF_MAIN = """\
SSLCertificateFile /a.pem
SSLCertificateKeyFile /a.key
SSLCertificateFile /b.pem
SSLCertificateKeyFile /b.key
"""


@pytest.mark.parametrize(
    ("lines", "pairs"),
    [
        ("", [("/a.pem", "/a.key", True), ("/b.pem", "/b.key", True)]),
        ("SSLCertificateFile /c.pem", [("/c.pem", "/a.key", True), ("/b.pem", "/b.key", True)]),
        ("SSLCertificateKeyFile /c.key", [("/a.pem", "/c.key", True), ("/b.pem", "/b.key", True)]),
        (
            "SSLCertificateFile /c.pem\nSSLCertificateKeyFile /c.key",
            [("/c.pem", "/c.key", True), ("/b.pem", "/b.key", True)],
        ),
    ],
    ids=["none of its own", "a certificate", "a key", "both"],
)
def test_vhost_s_nth_certificate_and_key_stand_for_the_main_server_s_nth(
    lines: str, pairs: list[tuple[str, str, bool]]
) -> None:
    assert pairs_of(vhost_of(lines, before=TWO_OF_MAIN)) == pairs


def test_certificate_without_a_key_file_says_so() -> None:
    vhost = vhost_of("SSLCertificateFile /a.pem\nSSLCertificateFile /b.pem")
    assert pairs_of(vhost) == [("/a.pem", "/a.pem", False), ("/b.pem", "/b.pem", False)]


def test_proxy_protocol_holds_for_all_vhosts_of_the_address() -> None:
    found = servers(
        "<VirtualHost *:443>\nRemoteIPProxyProtocol On\n</VirtualHost>\n"
        "<VirtualHost *:443>\n</VirtualHost>\n<VirtualHost *:80>\n</VirtualHost>\n"
    )
    assert [vhost.proxy_protocol for vhost in found.vhosts] == [True, True, False]


def test_proxy_protocol_of_the_main_server_holds_for_all_but_who_says_off() -> None:
    found = servers(
        "RemoteIPProxyProtocol On\n<VirtualHost *:443>\n</VirtualHost>\n"
        "<VirtualHost *:80>\nRemoteIPProxyProtocol Off\n</VirtualHost>\n"
    )
    assert [vhost.proxy_protocol for vhost in found.vhosts] == [True, False]


def test_listen_lines_with_protocol_and_options() -> None:
    found = servers(
        "Listen 80\nListen [::1]:443\nListen 192.0.2.1:8443 HTTPS\nListen 81 options=multipathtcp\n"
    )
    assert [(str(one.address), one.protocol) for one in found.listens] == [
        ("*:80", "http"),
        ("[::1]:443", "https"),
        ("192.0.2.1:8443", "https"),
        ("*:81", "http"),
    ]


def test_user_group_and_pid_file() -> None:
    found = servers("User www-data\nGroup #33\nPidFile run/httpd.pid\n")
    assert (found.user, found.group, found.pid_file) == ("www-data", "#33", "run/httpd.pid")


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("<VirtualHost 8443>\n</VirtualHost>", "bad-vhost-address", 1),
        ("<VirtualHost>\n</VirtualHost>", "bad-vhost-address", 1),
        ("<VirtualHost *:443>\nServerName *.example.org\n</VirtualHost>", "bad-server-name", 2),
        (
            "<VirtualHost *:443>\nServerName a.example.org:99999\n</VirtualHost>",
            "bad-server-name",
            2,
        ),
        ("<VirtualHost *:443>\nSSLEngine yes\n</VirtualHost>", "bad-ssl-engine", 2),
        ("Listen somewhere", "bad-listen", 1),
        ("ServerName a.example.org # ours", "bad-arguments", 1),
        ("<VirtualHost *:443>\nSSLEngine on # off\n</VirtualHost>", "bad-arguments", 2),
        ("SSLCertificateFile", "bad-arguments", 1),
        ('DocumentRoot ""', "bad-arguments", 1),
    ],
)
def test_what_cannot_be_understood_is_an_error_with_its_line(
    text: str, code: str, line: int
) -> None:
    (finding,) = servers(text).findings
    assert (finding.code, finding.severity, finding.at) == (code, "error", f"{MAIN}:{line}")
    assert finding.hint


def test_words_of_a_comment_are_aliases() -> None:
    found = servers("<VirtualHost *:443>\nServerAlias a.org # was b.org\n</VirtualHost>")
    (finding,) = found.findings
    assert (finding.code, finding.severity, finding.at) == ("comment-words", "warning", f"{MAIN}:2")
    assert finding.message.endswith("# was b.org")
    assert found.vhosts[0].aliases == ("a.org", "#", "was", "b.org")


def test_comment_of_its_own_is_no_alias() -> None:
    found = servers("<VirtualHost *:443>\nServerAlias a.org\n# was b.org\n</VirtualHost>")
    assert (found.findings, found.vhosts[0].aliases) == ((), ("a.org",))


def test_ordinary_vhost_has_no_finding() -> None:
    text = "Listen 443\n<VirtualHost *:443>\nServerName a.example.org\nSSLEngine on\n</VirtualHost>"
    assert servers(text).findings == ()


@given(st.text("ab*?.", max_size=8), st.text("abA.", max_size=10))
def test_pattern_matches_as_one_tries_all_ways(pattern: str, name: str) -> None:
    def matches(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return matches(pattern[1:], name) or (bool(name) and matches(pattern, name[1:]))
        is_first = name[:1].lower() == pattern[0] or (pattern[0] == "?" and bool(name))
        return is_first and matches(pattern[1:], name[1:])

    assert bool(pattern_expression(pattern).fullmatch(name)) is matches(pattern, name)


@pytest.mark.parametrize(
    ("name", "is_its"),
    [
        ("A.example.org", True),
        ("alias.example.org", True),
        ("x.y.wild.example.org", True),
        ("wild.example.org", False),
        ("q1.example.org", True),
        ("q12.example.org", False),
        ("host.example.org", True),
        ("other.example.org", False),
    ],
)
def test_names_of_a_vhost(name: str, *, is_its: bool) -> None:
    vhost = vhost_of(
        "ServerName a.example.org:443\n"
        "ServerAlias Alias.example.org *.wild.example.org q?.example.org",
        address="host.example.org:443",
    )
    assert matches_vhost(vhost, name) is is_its


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("ServerName", "a.org"),
        ("ServerAdmin", "a@b.org"),
        ("DocumentRoot", "/srv"),
        ("Protocol", "https"),
        ("SSLEngine", "on"),
        ("SSLCertificateFile", "/c.pem"),
        ("SSLCertificateKeyFile", "/k.pem"),
    ],
)
def test_a_directive_of_one_word_takes_no_more(name: str, word: str) -> None:
    assert servers(f"{name} {word}").findings == ()
    (finding,) = servers(f"{name} {word} more").findings
    assert finding.message == f"{name} takes one argument, not 2"


@pytest.mark.parametrize(
    ("host", "is_any"),
    [("*", True), ("0.0.0.0", True), ("::", True), ("192.0.2.1", False)],  # noqa: S104 - compared
)
def test_some_hosts_stand_for_every_address(host: str, *, is_any: bool) -> None:
    assert is_any_address(Address(host, 443)) is is_any


def test_what_is_looked_at_is_wanted_in_the_tree() -> None:
    assert {"listen", "user", "group", "pidfile", "servername", "mdcontactemail"} <= READ_KEYS
    assert "virtualhost" not in READ_KEYS


def test_vhosts_within_a_section_of_mod_md_are_vhosts() -> None:
    found = servers(
        "<MDomain a.org>\nMDMember b.org\n<VirtualHost *:443>\nServerName x.org\n</VirtualHost>\n"
        "</MDomain>\n<VirtualHost *:80>\nServerName y.org\n</VirtualHost>"
    )
    assert [vhost.server_name for vhost in found.vhosts] == ["x.org", "y.org"]


@pytest.mark.parametrize(
    ("main", "address", "ports", "port"),
    [
        ("", "192.0.2.1", [None], 0),
        ("ServerName main.org", "192.0.2.1", [None], 0),
        ("ServerName main.org:8080", "192.0.2.1", [8080], 8080),
        ("ServerName main.org:8080", "192.0.2.1:*", [None], 8080),
        ("ServerName main.org:8080", "192.0.2.1:81 [::1]", [81, 8080], 81),
    ],
)
def test_an_address_without_a_port_has_the_main_server_s(
    main: str, address: str, ports: list[int | None], port: int
) -> None:
    vhost = vhost_of("", address=address, before=main)
    assert [one.port for one in vhost.addresses] == ports
    assert vhost.port == port


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("*:1", 1),
        ("*:65535", 65535),
        ("*:00443", 443),
        ("*:65536", None),
        ("*:0", None),
        ("*:000443", None),
        ("*:\u0664\u0664\u0663", None),
    ],
)
def test_a_port_is_a_number_up_to_65535_in_five_digits(text: str, port: int | None) -> None:
    assert parse_address(text) == (Address("*", port) if port else None)


@pytest.mark.parametrize(
    ("text", "is_ssl", "port"),
    [
        ("ServerName main.org:8443\nSSLEngine on", True, 8443),
        ("ServerName main.org\nSSLEngine Optional", True, 0),
        ("SSLEngine off", False, 0),
        ("Timeout 5", False, 0),
    ],
)
def test_the_main_server_is_a_vhost_without_an_address(text: str, is_ssl: bool, port: int) -> None:
    base = servers(text).base
    assert base.server_name == ("main.org" if "main" in text else "")
    assert (base.ssl, base.port, base.addresses, base.aliases) == (is_ssl, port, (), ())
    assert (base.is_base, base.declared_at) == (True, SourceLine(MAIN, 0))


@pytest.mark.parametrize(
    ("main", "own", "on"),
    [
        ("", "", False),
        ("", "Protocol HTTPS", True),
        ("Protocol https", "", True),
        ("Protocol https", "Protocol http", False),
        ("Protocol http", "Protocol https", True),
    ],
)
def test_the_protocol_of_a_vhost_or_of_the_main_server_makes_it_ssl(
    main: str, own: str, *, on: bool
) -> None:
    assert vhost_of(f"{CERTIFICATE}\n{own}", address="*:8443", before=main).ssl is on


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/srv/a", "/srv/a"),
        ("/srv//a", "/srv/a"),
        ("/srv/./a", "/srv/a"),
        ("/srv/b/../a", "/srv/a"),
        ("a", "/etc/apache2/a"),
    ],
)
def test_a_path_is_absolute_and_as_short_as_can_be(written: str, path: str) -> None:
    assert vhost_of(f"DocumentRoot {written}").document_root == path


def test_what_stands_behind_protocol_and_options_of_listen_is_not_looked_at() -> None:
    (listen,) = servers("Listen 81 options=a options=b https").listens
    assert listen.protocol == "http"


IN_VHOST = "<VirtualHost *:443>\n{}\n</VirtualHost>"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "<VirtualHost 8443>\n</VirtualHost>",
            "'8443' is not an address for <VirtualHost>",
            "write *:443, 192.0.2.1:443 or [2001:db8::1]:443, with blanks between several",
        ),
        (
            "<VirtualHost>\n</VirtualHost>",
            "<VirtualHost> names no address",
            "write <VirtualHost *:443>",
        ),
        (
            "Listen somewhere https",
            "'somewhere https' is not an address to listen on",
            "write Listen 443 or Listen 192.0.2.1:443",
        ),
        (
            "ServerAdmin a@example.org # me",
            "ServerAdmin takes one argument, not 3",
            "put a comment on a line of its own, and quotes around a value with blanks",
        ),
        (
            'DocumentRoot ""',
            "DocumentRoot takes one argument, not 0",
            "put a comment on a line of its own, and quotes around a value with blanks",
        ),
        (
            IN_VHOST.format("ServerAlias a.org # was b.org"),
            "a '#' within a line begins no comment: its words became names, # was b.org",
            "put the comment on a line of its own",
        ),
        (
            IN_VHOST.format("ServerName a?.org"),
            "'a?.org' is not a name for ServerName",
            "ServerName takes one name; patterns belong in ServerAlias",
        ),
        (
            IN_VHOST.format("SSLEngine Yes"),
            "'Yes' is not a value for SSLEngine",
            "write SSLEngine on",
        ),
    ],
)
def test_what_cannot_be_understood_is_told_with_its_cure(
    text: str, message: str, hint: str
) -> None:
    (finding,) = servers(text).findings
    assert (finding.message, finding.hint) == (message, hint)
