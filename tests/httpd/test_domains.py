"""Managed domains from text: what is in force, and whose fault a mistake is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.httpd.domains import Interpretation, is_reachable
from mdconnector.httpd.evaluator import MDCONNECTOR_DEFINES, Assumptions
from mdconnector.httpd.settings import RULES
from mdconnector.httpd.vhosts import Listen
from mdconnector.keys import KeySpec
from mdconnector.managed_domain import (
    LETS_ENCRYPT,
    Address,
    RenewMode,
    Severity,
    SourceLine,
    Window,
)
from tests.httpd.trees import CA, MAIN, codes, domain, interpreted

HMAC = "c2VjcmV0LW9mLXRoZS10ZXN0"


def vhost(name: str, lines: str = "", *, port: int = 443) -> str:
    ssl = "SSLEngine on\n" if port == 443 else ""
    return f"<VirtualHost *:{port}>\nServerName {name}\n{ssl}{lines}\n</VirtualHost>\n"


def faults(interpretation: Interpretation) -> dict[str, list[str]]:
    return {one.name: [fault.code for fault in one.faults] for one in interpretation.domains}


# Names


def test_names_are_lower_case_and_each_once() -> None:
    assert domain("MDomain A.example.org b.example.org a.EXAMPLE.org").names == (
        "a.example.org",
        "b.example.org",
    )


def test_declared_at_is_the_line_of_mdomain() -> None:
    assert str(domain("\nMDomain a.example.org").declared_at) == f"{MAIN}:3"


@pytest.mark.parametrize(
    ("line", "is_auto"),
    [("MDomain a.org manual", False), ("MDomain AUTO a.org", True), ("MDomain a.org", True)],
)
def test_words_auto_and_manual(line: str, *, is_auto: bool) -> None:
    found = domain(line)
    assert (found.names, found.members_auto) == (("a.org",), is_auto)


def test_first_word_of_a_section_is_a_name() -> None:
    (finding, *_) = interpreted(CA + "<MDomain auto b.example.org>\n</MDomain>").findings
    assert finding.code == "name-refused"
    assert "'auto'" in finding.message


def test_sections_gather_members() -> None:
    found = domain(
        "<MDomainSet a.example.org>\nMDMember b.example.org\nMDMembers c.example.org manual\n"
        "</MDomainSet>"
    )
    assert found.names == ("a.example.org", "b.example.org", "c.example.org")
    assert not found.members_auto


def test_names_of_ssl_vhosts_join_the_last_vhost_first() -> None:
    found = domain(
        "MDomain a.example.org\n"
        + vhost("a.example.org", "ServerAlias B.example.org *.c.example.org")
        + vhost("d.example.org", "ServerAlias a.example.org")
        + vhost("a.example.org", "ServerAlias plain.example.org", port=80)
    )
    assert found.names == ("a.example.org", "d.example.org", "b.example.org")
    assert [one.server_name for one in found.vhosts] == [
        "a.example.org",
        "d.example.org",
        "a.example.org",
    ]


def test_manual_domain_is_warned_of_a_name_that_does_not_join() -> None:
    interpretation = interpreted(
        CA + "MDomain a.example.org manual\n" + vhost("a.example.org", "ServerAlias b.example.org")
    )
    (finding,) = interpretation.findings
    assert (finding.code, finding.severity) == ("name-not-covered", Severity.WARNING)
    assert finding.domain == "a.example.org"
    assert interpretation.domains[0].names == ("a.example.org",)


def test_manual_domain_that_names_all_is_not_warned() -> None:
    text = "MDomain a.example.org b.example.org manual\n" + vhost(
        "a.example.org", "ServerAlias b.example.org"
    )
    assert codes(interpreted(CA + text)) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("under_score.example.org", "underscore"),
        ("intranet", "not a public name"),
        ("localhost", "not a public name"),
        ("192.0.2.7", "IP address"),
        ("a.example.org,b.example.org", "blanks only"),
        ("www.*.example.org", "only its first label"),
        ("-a.example.org", "not a DNS name"),
        ("a..example.org", "not a DNS name"),
        ("bücher.example.org", "xn--bcher-kva.example.org"),
    ],
)
def test_name_that_a_ca_refuses_is_the_domain_s_fault(name: str, says: str) -> None:
    found = domain(f"MDomain good.example.org {name}")
    (fault,) = found.faults
    assert (fault.code, fault.at) == ("name-refused", f"{MAIN}:2")
    assert says in f"{fault.message} {fault.hint}"


def test_words_of_a_comment_are_explained_once() -> None:
    (fault,) = domain("MDomain a.example.org # our shop").faults
    assert "begins no comment" in fault.message


def test_name_that_joins_and_is_refused_is_blamed_on_its_vhost() -> None:
    (fault,) = domain(
        "MDomain a.example.org\n" + vhost("a.example.org", "ServerAlias intranet")
    ).faults
    assert (fault.code, fault.at) == ("name-refused", f"{MAIN}:3")


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", ".hidden.example.org", "a/b.org"])
def test_name_that_is_a_path_never_becomes_a_domain(name: str) -> None:
    interpretation = interpreted(f"{CA}MDomain {name}\nMDomain good.example.org\n")
    assert [one.name for one in interpretation.domains] == ["good.example.org"]
    assert codes(interpretation) == ["name-refused"]
    assert interpretation.findings[0].domain is None


def test_more_than_64_words_is_a_fault() -> None:
    names = " ".join(f"n{number}.example.org" for number in range(65))
    found = domain(f"MDomain {names}")
    assert len(found.names) == 64
    assert [fault.code for fault in found.faults] == ["too-many-words"]


def test_64_words_are_no_fault() -> None:
    names = " ".join(f"n{number}.example.org" for number in range(64))
    assert domain(f"MDomain {names}").faults == ()


def test_more_than_64_words_in_a_section_tag_are_no_fault() -> None:
    names = " ".join(f"n{number}.example.org" for number in range(100))
    found = domain(f"<MDomain {names}>\n</MDomain>")
    assert (len(found.names), found.faults) == (100, ())


# Overlaps and assignment


@pytest.mark.parametrize(
    "lines",
    [
        "MDomain a.example.org b.example.org\nMDomain B.example.org",
        "MDomain *.example.org\nMDomain b.example.org",
        "MDomain a.example.org\nMDomain c.example.org a.example.org",
    ],
)
def test_overlap_is_both_domains_fault(lines: str) -> None:
    interpretation = interpreted(f"{CA}{lines}\nMDomain good.example.net\n")
    first, second, good = interpretation.domains
    assert first.faults == second.faults
    (fault,) = first.faults
    assert (fault.code, fault.at) == ("overlap", f"{MAIN}:3")
    assert f"{MAIN}:2" in fault.message
    assert good.faults == ()


def test_wildcard_that_comes_later_is_no_overlap() -> None:
    text = "MDomain b.example.org\nMDomain *.example.org"
    assert faults(interpreted(CA + text)) == {"b.example.org": [], "*.example.org": []}


def test_domains_of_one_name_are_one_with_a_fault() -> None:
    for mode in ("all", "servernames"):
        interpretation = interpreted(
            f"{CA}MDMatchNames {mode}\nMDomain a.example.org\nMDomain a.example.org b.example.org"
        )
        assert faults(interpretation) == {"a.example.org": ["overlap"]}


def test_two_domains_on_an_ssl_vhost_is_both_domains_fault() -> None:
    interpretation = interpreted(
        CA
        + "MDomain a.example.org\nMDomain b.example.org\n"
        + vhost("a.example.org", "ServerAlias b.example.org")
    )
    assert faults(interpretation) == {
        "a.example.org": ["domains-on-ssl-vhost"],
        "b.example.org": ["domains-on-ssl-vhost"],
    }


ASSUMED = Assumptions(defines=MDCONNECTOR_DEFINES)
UNREAD = "<IfDefine MDCONNECTOR>\nMDomain b.example.org\n</IfDefine>\n"


def test_overlap_that_apache_does_not_see_is_told_apart() -> None:
    text = f"{CA}MDomain a.example.org b.example.org\n{UNREAD}"
    assert faults(interpreted(text, assumptions=ASSUMED)) == {
        "a.example.org": ["overlap-unread"],
        "b.example.org": ["overlap-unread"],
    }


def test_two_domains_on_an_ssl_vhost_that_apache_does_not_see_are_told_apart() -> None:
    text = f"{CA}MDomain a.example.org\n{UNREAD}" + vhost(
        "a.example.org", "ServerAlias b.example.org"
    )
    assert faults(interpreted(text, assumptions=ASSUMED)) == {
        "a.example.org": ["domains-on-ssl-vhost-unread"],
        "b.example.org": ["domains-on-ssl-vhost-unread"],
    }


def test_two_domains_on_a_plain_vhost_are_no_fault() -> None:
    interpretation = interpreted(
        CA
        + "MDomain a.example.org\nMDomain b.example.org\n"
        + vhost("a.example.org", "ServerAlias b.example.org", port=80)
    )
    assert faults(interpretation) == {"a.example.org": [], "b.example.org": []}
    assert all(one.used and not one.used_by_ssl for one in interpretation.domains)


def test_match_names_servernames_leaves_aliases_alone() -> None:
    text = "MDMatchNames servernames\nMDomain b.example.org\n" + vhost(
        "a.example.org", "ServerAlias b.example.org"
    )
    assert not domain(text).used


def test_base_server_is_used_only_with_mdbaseserver() -> None:
    text = "ServerName main.example.org\nSSLEngine on\nMDomain main.example.org\n"
    assert not domain(text).used
    (server,) = domain(text + "MDBaseServer on").vhosts
    assert server.is_base


# What is in force


def test_defaults_are_mod_md_s() -> None:
    (found,) = interpreted("MDomain a.example.org").domains
    assert found.ca_urls == ()
    assert found.effective_ca_urls == (LETS_ENCRYPT,)
    assert found.key_specs == (KeySpec("RSA", 2048),)
    assert found.renew_mode is RenewMode.AUTO
    assert (str(found.renew_window), str(found.warn_window)) == ("33%", "10%")
    assert found.agreement is None
    assert found.contact is None
    assert found.eab is None


def test_section_before_server_before_default() -> None:
    interpretation = interpreted(
        "MDCertificateAuthority https://server.example.org/dir\nMDRenewWindow 20d\n"
        "<MDomain a.example.org>\nMDCertificateAuthority https://own.example.org/dir\n</MDomain>\n"
        "MDomain b.example.org\nMDRenewWindow 10d\n"
    )
    own, plain = interpretation.domains
    assert own.ca_urls == ("https://own.example.org/dir",)
    assert plain.ca_urls == ("https://server.example.org/dir",)
    assert own.renew_window == plain.renew_window == Window(duration=timedelta(days=10))


def test_known_cas_by_name() -> None:
    found = domain("MDCertificateAuthority LETSENCRYPT buypass\nMDomain a.example.org")
    assert found.ca_urls == (LETS_ENCRYPT, "https://api.buypass.com/acme/directory")


@pytest.mark.parametrize(
    ("words", "specs"),
    [
        ("RSA", (KeySpec("RSA", 2048),)),
        ("rsa 3072", (KeySpec("RSA", 3072),)),
        ("RSA4096", (KeySpec("RSA", 4096),)),
        ("secp256r1 RSA 2048", (KeySpec("EC", curve="secp256r1"), KeySpec("RSA", 2048))),
        ("P-384", (KeySpec("EC", curve="P-384"),)),
        ("Default", (KeySpec("Default"),)),
    ],
)
def test_private_keys(words: str, specs: tuple[KeySpec, ...]) -> None:
    found = domain(f"MDPrivateKeys {words}\nMDomain a.example.org")
    assert found.configured_key_specs == specs
    assert found.faults == ()


def test_commands_keep_their_quotes() -> None:
    found = domain('MDChallengeDns01 /usr/bin/dns "one word" two\nMDomain a.example.org')
    assert found.dns01_command == '/usr/bin/dns "one word" two'
    assert found.section_settings == frozenset()


def test_own_command_is_marked_as_the_section_s() -> None:
    found = domain("<MDomain a.example.org>\nMDChallengeDns01 /own\n</MDomain>")
    assert (found.dns01_command, found.section_settings) == ("/own", frozenset({"cmd-dns-01"}))


def test_trust_anchors_none_is_the_system_s_for_the_server_only() -> None:
    assert domain("MDCACertificateFile none\nMDomain a.org").ca_certificates is None
    own = domain("<MDomain a.org>\nMDCACertificateFile none\n</MDomain>")
    assert own.ca_certificates == "none"


def test_contact_of_a_vhost_counts_where_the_server_has_none() -> None:
    text = "MDomain a.example.org\n" + vhost("a.example.org", "MDContactEmail v@example.org")
    assert domain(text).contact == "mailto:v@example.org"
    assert domain(f"ServerAdmin s@example.org\n{text}").contact == "mailto:s@example.org"


def test_shared_settings() -> None:
    shared = interpreted(
        "MDPortMap http:8080 https:-\nMDChallengeDns01Version 2\nMDRetryDelay 5mi\n"
        "MDRetryFailover 3\nMDStoreLocks 10s\nMDNotifyCmd /bin/n 'a b'\nMDStoreDir store\n"
    ).shared
    assert shared.ports == (8080, None)
    assert shared.dns01_version == 2
    assert shared.retry_delay == timedelta(minutes=5)
    assert shared.retry_failover == 3
    assert shared.store_locks == timedelta(seconds=10)
    assert shared.notify_cmd == "/bin/n 'a b'"
    assert shared.store_dir == "store"


def test_port_map_changes_only_the_port_that_it_names() -> None:
    assert interpreted("MDPortMap 443:8443\n").shared.ports == (80, 8443)


@pytest.mark.parametrize(
    ("lines", "renewed_by"),
    [
        ("MDomain a.org", "mod_md"),
        ("MDRenewMode always\nMDomain a.org", "mod_md"),
        ("MDRenewMode manual\nMDomain a.org", "mdconnector"),
        ("<MDomain a.org>\nMDCertificateFile c\nMDCertificateKeyFile k\n</MDomain>", None),
    ],
)
def test_who_renews(lines: str, renewed_by: str | None) -> None:
    assert domain(lines).renewed_by == renewed_by


def test_without_mod_md_mdconnector_renews() -> None:
    (found,) = interpreted(CA + "MDomain a.example.org", mod_md_loaded=False).domains
    assert found.renewed_by == "mdconnector"


def test_lines_that_apache_cannot_read_are_an_error_where_mod_md_is_not_loaded() -> None:
    assert "mod-md-not-loaded" in codes(interpreted(CA, mod_md_loaded=False))
    assert codes(interpreted(CA, mod_md_loaded=True)) == []


# Account bindings


def test_binding_of_one_line() -> None:
    eab = domain(f"MDExternalAccountBinding kid-1 {HMAC}\nMDomain a.example.org").eab
    assert eab is not None
    assert (eab.kid, eab.hmac) == ("kid-1", HMAC)


def test_binding_of_a_file() -> None:
    found = domain(
        "MDExternalAccountBinding eab.json\nMDomain a.example.org",
        files={"/etc/apache2/eab.json": f'{{"kid": "kid-2", "hmac": "{HMAC}"}}'},
    )
    assert found.eab is not None
    assert found.eab.kid == "kid-2"


def test_none_in_a_section_switches_the_server_s_off() -> None:
    found = domain(
        f"MDExternalAccountBinding kid {HMAC}\n"
        "<MDomain a.example.org>\nMDExternalAccountBinding None\n</MDomain>"
    )
    assert (found.eab, found.faults) == (None, ())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("kid", "is not JSON"),
        ("[]", "has no 'kid'"),
        ('{"kid": "k"}', "has no 'hmac'"),
        ('{"kid": "", "hmac": "x"}', "has no 'kid'"),
        ('{"kid": "k", "hmac": "not base64!"}', "is not base64url"),
    ],
)
def test_bad_file_of_a_binding_is_blamed_on_the_line(content: str | None, says: str) -> None:
    files = {} if content is None else {"/etc/apache2/eab.json": content}
    (fault,) = domain("MDExternalAccountBinding eab.json\nMDomain a.org", files=files).faults
    assert fault.at == f"{MAIN}:2"
    assert says in fault.message


@pytest.mark.parametrize("hmac", ["plus+slash/", "white space", "ümlaut", "a", HMAC + "!"])
def test_hmac_that_is_not_base64url_is_a_fault_and_never_shown(hmac: str) -> None:
    interpretation = interpreted(f"{CA}MDExternalAccountBinding kid {hmac}\nMDomain a.org")
    (fault,) = interpretation.domains[0].faults
    assert fault.at == f"{MAIN}:2"
    assert hmac not in f"{fault} {interpretation}" or len(hmac) == 1


def test_hmac_without_a_key_id_is_never_shown() -> None:
    interpretation = interpreted(f"{CA}MDExternalAccountBinding {HMAC}\nMDomain a.org")
    assert codes(interpretation) == ["bad-eab-file"]
    assert HMAC not in str(interpretation.findings)


def test_padded_hmac_is_a_warning() -> None:
    interpretation = interpreted(f"{CA}MDExternalAccountBinding kid {HMAC}=\nMDomain a.org")
    assert codes(interpretation) == ["eab-hmac-padded"]
    assert interpretation.domains[0].faults == ()


def test_binding_without_a_ca_is_a_fault() -> None:
    interpretation = interpreted(f"MDExternalAccountBinding kid {HMAC}\nMDomain a.org")
    (fault,) = interpretation.domains[0].faults
    assert (fault.code, fault.at) == ("eab-without-ca", f"{MAIN}:1")


# Whose fault


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("MDPrivateKeys RSA 1024", "bad-keys"),
        ("MDPrivateKeys secp521r1", "bad-keys"),
        ("MDPrivateKeys RSA RSA4096", "bad-keys"),
        ("MDPrivateKeys Default RSA", "bad-keys"),
        ("MDRenewMode sometimes", "bad-renew-mode"),
        ("MDRenewWindow soon", "bad-window"),
        ("MDRenewWindow 100%", "bad-window"),
        ("MDWarnWindow 30m", "bad-window"),
        ("MDCertificateAuthority Sectigo", "bad-ca"),
        ("MDCertificateAuthority http://ca.example.org/dir", "ca-not-https"),
        ("MDCertificateProtocol SCEP", "bad-directive"),
        ("MDCAChallenges http01", "unknown-challenge"),
        ("MDContactEmail a@example.org # me", "bad-directive"),
        ("MDMustStaple yes", "bad-directive"),
        ("MDExternalAccountBinding a b c", "bad-eab"),
    ],
)
def test_mistake_in_the_server_is_the_fault_of_all_that_inherit_it(line: str, code: str) -> None:
    word = line.split(maxsplit=1)[0]
    good = {
        "MDPrivateKeys": "RSA",
        "MDRenewMode": "manual",
        "MDRenewWindow": "30d",
        "MDWarnWindow": "7d",
        "MDCertificateAuthority": "https://own.example.org/dir",
        "MDCertificateProtocol": "ACME",
        "MDCAChallenges": "http-01",
        "MDContactEmail": "own@example.org",
        "MDMustStaple": "off",
        "MDExternalAccountBinding": "none",
    }[word]
    interpretation = interpreted(
        f"{line}\nMDomain a.example.org\n<MDomain b.example.org>\n{word} {good}\n</MDomain>"
    )
    assert faults(interpretation) == {"a.example.org": [code], "b.example.org": []}
    assert interpretation.domains[0].faults[0].at == f"{MAIN}:1"


def test_mistake_in_a_section_is_its_own_domain_s_fault() -> None:
    interpretation = interpreted(
        f"{CA}<MDomain a.example.org>\nMDPrivateKeys RSA 1\n</MDomain>\nMDomain b.example.org"
    )
    assert faults(interpretation) == {"a.example.org": ["bad-keys"], "b.example.org": []}
    assert interpretation.findings[0].domain == "a.example.org"


@pytest.mark.parametrize("line", ["MDMatchNames some", "MDPortMap 8080:80", "MDBaseServer maybe"])
def test_mistake_in_a_shared_setting_is_every_domain_s_fault(line: str) -> None:
    interpretation = interpreted(f"{CA}{line}\nMDomain a.org\nMDomain b.org")
    assert faults(interpretation) == {"a.org": ["bad-directive"], "b.org": ["bad-directive"]}


@pytest.mark.parametrize("line", ["MDRetryDelay 0", "MDRetryFailover none", "MDStoreLocks maybe"])
def test_mistake_that_changes_nothing_of_an_order_is_an_error_and_no_fault(line: str) -> None:
    interpretation = interpreted(f"{CA}{line}\nMDomain a.org")
    assert [finding.severity for finding in interpretation.findings] == [Severity.ERROR]
    assert faults(interpretation) == {"a.org": []}


@pytest.mark.parametrize(
    "line",
    [
        "MDCertificateAuthority https://x.example.org/dir",
        "MDExternalAccountBinding kid hmac",
        "MDPrivateKeys secp384r1",
        "MDRenewMode manual",
        "MDMembers manual",
        "MDCertificateFile cert.pem",
    ],
)
def test_setting_in_a_vhost_is_a_fault_of_the_domain_it_serves(line: str) -> None:
    interpretation = interpreted(
        f"{CA}MDomain a.example.org\nMDomain b.example.org\n" + vhost("a.example.org", line)
    )
    assert faults(interpretation) == {"a.example.org": ["md-setting-in-vhost"], "b.example.org": []}
    (finding,) = interpretation.findings
    assert finding.at == f"{MAIN}:7"
    assert finding.hint == "move it above <VirtualHost>, or into <MDomain a.example.org>"
    assert interpretation.domains[0].ca_urls == ("https://ca.example.org/dir",)


@pytest.mark.parametrize(
    "lines",
    [
        "MDomain a.example.org",
        "MDContactEmail a@example.org",
        "<MDomain a.example.org>\n</MDomain>",
    ],
)
def test_what_belongs_in_a_vhost_has_no_finding(lines: str) -> None:
    assert codes(interpreted(CA + vhost("a.example.org", lines))) == []


def test_global_setting_in_a_vhost_holds_and_is_a_warning() -> None:
    interpretation = interpreted(CA + vhost("a.example.org", "MDPortMap http:8080"))
    assert interpretation.shared.ports == (8080, 443)
    assert codes(interpretation) == ["md-global-in-vhost"]


@pytest.mark.parametrize(
    "text",
    [
        "<MDomain a.example.org>\nMDStoreDir x\n</MDomain>",
        "<MDomain a.example.org>\nMDomain b.example.org\n</MDomain>",
        "<MDomain a.example.org>\n<MDomain b.example.org>\n</MDomain>\n</MDomain>",
    ],
)
def test_what_may_not_stand_in_a_section_is_its_domain_s_fault(text: str) -> None:
    assert faults(interpreted(CA + text)) == {"a.example.org": ["md-wrong-place"]}


@pytest.mark.parametrize("line", ["MDMembers b.example.org", "MDCertificateFile c.pem"])
def test_what_stands_in_sections_only_is_an_error_elsewhere(line: str) -> None:
    assert codes(interpreted(f"{CA}{line}")) == ["md-wrong-place"]


@pytest.mark.parametrize("text", ["MDomain", "MDomain manual", "<MDomain>\n</MDomain>"])
def test_mdomain_without_a_name_is_an_error(text: str) -> None:
    interpretation = interpreted(CA + text)
    assert interpretation.domains == ()
    assert codes(interpretation) == ["mdomain-without-name"]


def test_unequal_static_files_are_a_fault() -> None:
    found = domain("<MDomain a.example.org>\nMDCertificateFile c.pem\n</MDomain>")
    assert [fault.code for fault in found.faults] == ["static-files-unequal"]


def test_equal_static_files_are_no_fault() -> None:
    found = domain("<MDomain a.org>\nMDCertificateFile c.pem\nMDCertificateKeyFile k\n</MDomain>")
    assert found.static_pairs == (("/etc/apache2/c.pem", "/etc/apache2/k"),)
    assert found.faults == ()


@pytest.mark.parametrize(
    ("line", "meant"),
    [("MDContactEmial a@example.org", "MDContactEmail"), ("MDomian a.example.org", "MDomain")],
)
def test_misspelled_directive_tells_the_right_one(line: str, meant: str) -> None:
    (finding,) = interpreted(line).findings
    assert finding.code == "unknown-md-directive"
    assert finding.hint == f"did you mean {meant}?"


def test_acme_tls_names_are_those_whose_ssl_vhost_offers_the_protocol() -> None:
    text = "Listen 443\nMDomain a.example.org b.example.org\n" + vhost("b.example.org")
    with_protocol = vhost("a.example.org", "Protocols h2 acme-tls/1")
    assert domain(text + with_protocol).acme_tls_names == ("a.example.org",)
    assert domain(text + vhost("a.example.org")).acme_tls_names == ()


def test_many_domains_with_wildcard_aliases_are_assigned() -> None:
    lines = [CA]
    for number in range(2000):
        name = f"n{number}.example.org"
        lines.append(f"MDomain {name}\n{vhost(name, f'ServerAlias *.n{number}.example.net')}")
    found = interpreted("".join(lines)).domains
    assert all(len(one.vhosts) == 1 and not one.faults for one in found)


_WORDS = st.sampled_from(
    [
        *(
            "a.org",
            "*.org",
            "auto",
            "RSA",
            "2048",
            "secp256r1",
            "on",
            "33%",
            "-1d",
            "#",
            '"',
            "http:-",
        ),
        *(
            "https://[",
            "https://x/",
            "none",
            "..",
            "/",
            "443:8443",
            "ü",
            "\udcff",
            "é.org",
            "x" * 300,
        ),
        *(
            "²",
            "a:²",
            "*:²",
            "9" * 5000,
            "a:" + "9" * 5000,
            "RSA" + "9" * 5000,
            "9" * 5000 + "d",
            "[::1",
        ),
    ]
)
_LINES = st.builds(
    lambda name, words, section: (
        f"<{name} {' '.join(words)}>\n</{name}>" if section else f"{name} {' '.join(words)}"
    ),
    st.sampled_from([*RULES, "MDomain", "MDomain", "ServerName", "ServerAlias", "Listen"]),
    st.lists(_WORDS, max_size=4),
    st.booleans(),
)
_SECTIONS = st.builds(
    lambda tag, words, lines: "\n".join([f"<{tag} {' '.join(words)}>", *lines, f"</{tag}>"]),
    st.sampled_from(["VirtualHost", "MDomain", "MDomainSet"]),
    st.lists(_WORDS, max_size=3),
    st.lists(_LINES, max_size=5),
)


@given(st.lists(_LINES | _SECTIONS, max_size=8))
def test_whatever_is_written_becomes_findings(lines: list[str]) -> None:
    interpretation = interpreted("\n".join(lines))
    names = [one.name for one in interpretation.domains]
    assert len(names) == len(set(names))
    assert not any("/" in name or name.startswith(".") for name in names)
    assert all(one.at and one.message and one.hint for one in interpretation.findings)


# Each setting: a section's own, else the server's, else mod_md's


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("MDCertificateAgreement accepted", "agreement", "accepted"),
        ("MDContactEmail a@b.org", "contact", "mailto:a@b.org"),
        ("MDCAChallenges http-01", "challenges", ("http-01",)),
        ("MDRenewMode always", "renew_mode", RenewMode.ALWAYS),
        ("MDRenewWindow 20d", "renew_window", Window(duration=timedelta(days=20))),
        ("MDWarnWindow 5%", "warn_window", Window(percent=5)),
        ("MDMustStaple on", "must_staple", True),
        ("MDStapling on", "stapling", True),
        ("MDRequireHttps temporary", "require_https", "temporary"),
        ("MDRequireHttps permanent", "require_https", "permanent"),
        ("MDRequireHttps off", "require_https", None),
        ("MDProfile short", "profile", "short"),
        ("MDProfileMandatory on", "profile_mandatory", True),
        ("MDRenewViaARI off", "ari_renewals", False),
        ("MDMembers manual", "members_auto", False),
        ("MDChallengeDns01 /bin/dns", "dns01_command", "/bin/dns"),
        ("MDHttpProxy http://p:3128", "proxy_url", "http://p:3128"),
        ("MDHttpProxyCACertificateFile /p.pem", "proxy_ca_certificates", "/p.pem"),
        ("MDCACertificateFile /c.pem", "ca_certificates", "/c.pem"),
    ],
)
def test_a_setting_counts_in_a_section_and_for_the_server(
    line: str, attribute: str, value: object
) -> None:
    of_section = domain(f"<MDomain a.example.org>\n{line}\n</MDomain>")
    of_server = domain(f"{line}\nMDomain a.example.org")
    assert getattr(of_section, attribute) == getattr(of_server, attribute) == value
    assert of_section.faults == of_server.faults == ()


def test_what_nobody_sets_is_as_mod_md_has_it() -> None:
    found = domain("MDomain a.example.org")
    assert (found.must_staple, found.stapling, found.profile_mandatory) == (False, False, False)
    assert (found.ari_renewals, found.members_auto) == (True, True)
    assert (found.require_https, found.profile, found.dns01_command) == (None, None, None)
    assert (found.proxy_url, found.proxy_ca_certificates, found.ca_certificates) == (None,) * 3


@pytest.mark.parametrize(
    ("server", "own", "expected"),
    [
        ("none", "", None),
        ("NONE", "", None),
        ("/s.pem", "", "/s.pem"),
        ("/s.pem", "/o.pem", "/o.pem"),
        ("/s.pem", "none", "none"),
        ("", "", None),
    ],
)
@pytest.mark.parametrize(
    ("directive", "attribute"),
    [
        ("MDCACertificateFile", "ca_certificates"),
        ("MDHttpProxyCACertificateFile", "proxy_ca_certificates"),
    ],
)
def test_roots_of_the_server_count_unless_it_names_none(
    directive: str, attribute: str, server: str, own: str, expected: str | None
) -> None:
    before = f"{directive} {server}\n" if server else ""
    within = f"{directive} {own}\n" if own else ""
    found = domain(f"{before}<MDomain a.example.org>\n{within}</MDomain>")
    assert getattr(found, attribute) == expected


def test_a_setting_of_the_section_goes_before_one_of_the_server() -> None:
    found = domain(
        "MDRequireHttps temporary\nMDCertificateAgreement x\nMDProfile p\nMDHttpProxy http://s\n"
        "<MDomain a.org>\nMDRequireHttps off\nMDCertificateAgreement y\nMDProfile q\n"
        "MDHttpProxy http://o\n</MDomain>"
    )
    assert (found.require_https, found.agreement, found.profile) == (None, "y", "q")
    assert found.proxy_url == "http://o"
    assert found.section_settings == frozenset({"proxy-url"})


def test_the_lines_that_an_error_of_the_ca_may_be_about_are_kept() -> None:
    settings = (
        "MDCertificateAgreement accepted\nMDContactEmail a@b.org\nMDCAChallenges dns-01\n"
        f"MDExternalAccountBinding kid {HMAC}\nMDPrivateKeys RSA\nMDMustStaple on\nMDProfile p\n"
        "MDChallengeDns01 /bin/dns\nMDHttpProxy http://p\nMDCACertificateFile /c.pem\n"
        "MDRenewWindow 20d\n"
    )
    found = domain(f"{settings}<MDomain a.org>\nMDProfile own\n</MDomain>\n")
    named = [line.split()[0] for line in f"{CA}{settings}".splitlines()][:-1]
    expected = {name: f"{MAIN}:{number}" for number, name in enumerate(named, start=1)}
    assert {name: str(at) for name, at in found.lines} == expected | {"MDProfile": f"{MAIN}:14"}
    without_own = domain(f"{settings}MDomain a.org\n")
    assert {name: str(at) for name, at in without_own.lines} == expected


def test_a_section_s_roots_and_proxies_are_marked_as_its_own() -> None:
    found = domain(
        "<MDomain a.org>\nMDCACertificateFile /c\nMDHttpProxyCACertificateFile /p\n</MDomain>"
    )
    assert found.section_settings == frozenset({"ca-certs", "proxy-ca-certs"})


def test_a_binding_beside_a_ca_that_is_a_mistake_is_one_fault() -> None:
    interpretation = interpreted(
        f"MDCertificateAuthority Sectigo\nMDExternalAccountBinding kid {HMAC}\nMDomain a.org"
    )
    assert faults(interpretation) == {"a.org": ["bad-ca"]}
    of_section = interpreted(
        f"MDExternalAccountBinding kid {HMAC}\n<MDomain a.org>\nMDCertificateAuthority Sectigo\n"
        "</MDomain>"
    )
    assert faults(of_section) == {"a.org": ["bad-ca"]}


def test_another_mistake_does_not_hide_that_a_binding_has_no_ca() -> None:
    interpretation = interpreted(
        f"MDPrivateKeys x\nMDExternalAccountBinding kid {HMAC}\nMDomain a.org"
    )
    assert sorted(faults(interpretation)["a.org"]) == ["bad-keys", "eab-without-ca"]


WITHOUT_CA = (
    "a.org has an account binding, but no MDCertificateAuthority: it would go to Let's Encrypt"
)


@pytest.mark.parametrize(
    ("text", "at", "message", "hint"),
    [
        (
            f"MDExternalAccountBinding kid {HMAC}\nMDomain a.org",
            1,
            WITHOUT_CA,
            "name the CA that gave the binding: MDCertificateAuthority https://...",
        ),
        (
            "<MDomain a.org>\nMDCertificateKeyFile k\n</MDomain>",
            2,
            "a.org has 0 MDCertificateFile and 1 MDCertificateKeyFile lines; Apache does not start",
            "write one MDCertificateKeyFile for each MDCertificateFile",
        ),
        (
            "<MDomain a.org>\nMDCertificateFile c\nMDCertificateFile d\n</MDomain>",
            3,
            "a.org has 2 MDCertificateFile and 0 MDCertificateKeyFile lines; Apache does not start",
            "write one MDCertificateKeyFile for each MDCertificateFile",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_in_full(
    text: str, at: int, message: str, hint: str
) -> None:
    (finding,) = interpreted(text).findings
    assert (finding.at, finding.message, finding.hint) == (f"{MAIN}:{at}", message, hint)
    assert (finding.severity, finding.domain) == (Severity.ERROR, "a.org")


# Who offers acme-tls/1

OFFERS = "Protocols http/1.1 acme-tls/1"
TWO_NAMES = "MDomain a.example.org b.example.org manual\n"


def ssl_vhost(name: str, lines: str = "", *, address: str = "*:443") -> str:
    return f"<VirtualHost {address}>\nServerName {name}\nSSLEngine on\n{lines}\n</VirtualHost>\n"


A_OFFERS, A_DOES_NOT = ssl_vhost("a.example.org", OFFERS), ssl_vhost("a.example.org")
PLAIN_A = vhost("a.example.org", OFFERS, port=80)
BASE_OFFERS = f"ServerName base.example.org\n{OFFERS}\n"
ALPN = "MDCAChallenges tls-alpn-01\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("Listen 443\n" + A_OFFERS, "a", id="an SSL vhost"),
        pytest.param("Listen 443\n" + PLAIN_A, "", id="a plain vhost does not count"),
        pytest.param("Listen 443\n" + A_OFFERS + PLAIN_A, "a", id="nor is it in the way"),
        pytest.param(
            "Listen 443\n" + A_OFFERS + ssl_vhost("b.example.org"), "a", id="another name's vhost"
        ),
        pytest.param("Listen 443\n" + A_OFFERS + A_DOES_NOT, "", id="the last vhost decides"),
        pytest.param("Listen 443\n" + A_DOES_NOT + A_OFFERS, "a", id="so this one does"),
        pytest.param(
            f"{ALPN}Listen 443\n" + A_OFFERS + A_DOES_NOT, "a", id="where it is asked for, any does"
        ),
        pytest.param("Listen 80\n" + A_OFFERS, "", id="nobody listens for HTTPS"),
        pytest.param(f"{ALPN}Listen 80\n" + A_OFFERS, "a", id="that is not looked at then"),
        pytest.param(
            "Listen 443\n" + ssl_vhost("a.example.org", OFFERS, address="*:8443"),
            "",
            id="a port that the CA does not come to",
        ),
        pytest.param(
            "Listen 443\n" + ssl_vhost("a.example.org", OFFERS, address="*:443 *:8443"),
            "",
            id="one of two ports",
        ),
        pytest.param(
            f"{ALPN}Listen 443\n" + ssl_vhost("a.example.org", OFFERS, address="*:8443"),
            "a",
            id="any port, where it is asked for",
        ),
        pytest.param(
            "Listen 443\n" + ssl_vhost("a.example.org", OFFERS, address="*:8443") + A_OFFERS,
            "a",
            id="the vhost of another port is not in the way",
        ),
        pytest.param(
            "Listen 8443 https\nMDPortMap https:8443\n"
            + ssl_vhost("a.example.org", OFFERS, address="*:8443"),
            "a",
            id="the port that public 443 leads to",
        ),
        pytest.param("Listen 443\nMDPortMap https:-\n" + A_OFFERS, "", id="no way in from outside"),
        pytest.param(
            "Listen 443\n" + ssl_vhost("a.example.org", OFFERS, address=""), "", id="no address"
        ),
        pytest.param(
            f"Listen 443\n{BASE_OFFERS}" + ssl_vhost("a.example.org"),
            "a",
            id="inherited by a vhost",
        ),
        pytest.param(f"Listen 443\n{BASE_OFFERS}", "", id="the main server is nobody's"),
        pytest.param(
            f"Listen 443\nMDBaseServer on\n{BASE_OFFERS}", "ab", id="the main server is managed too"
        ),
        pytest.param(
            f"Listen 80\nMDBaseServer on\n{BASE_OFFERS}", "ab", id="and nobody listens for HTTPS"
        ),
        pytest.param(
            "Listen 80\nMDBaseServer on\n" + A_OFFERS, "", id="it is managed and does not offer it"
        ),
        pytest.param(
            f"{ALPN}Listen 443\nMDBaseServer on\n{BASE_OFFERS}"
            + ssl_vhost("a.example.org", "Protocols h2"),
            "b",
            id="a vhost that does not stands before the main server",
        ),
        pytest.param(
            f"Listen 443\nMDBaseServer on\nServerName a.example.org\nSSLEngine on\n{OFFERS}\n",
            "ab",
            id="the main server is the name's own",
        ),
        pytest.param(
            "Listen 443\nMDBaseServer on\nServerName a.example.org\nSSLEngine on\n" + A_OFFERS,
            "",
            id="the main server is asked first",
        ),
    ],
)
def test_names_that_may_be_validated_by_tls_alpn_01(text: str, names: str) -> None:
    found = domain(TWO_NAMES + text)
    assert found.acme_tls_names == tuple(f"{letter}.example.org" for letter in names)


@pytest.mark.parametrize(
    ("port", "protocol", "expected"),
    [
        (443, "https", True),
        (443, "http", True),
        (443, "smtp", False),
        (8443, "https", False),
        (None, "https", False),
    ],
)
def test_a_port_is_reachable_where_apache_listens_for_http(
    port: int | None, protocol: str, *, expected: bool
) -> None:
    listen = Listen(Address("*", 443), protocol, SourceLine("ports.conf", 1))
    assert is_reachable([listen], port) is expected
    assert is_reachable([], port) is False
