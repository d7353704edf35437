"""What httpd prints of itself, read back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mdconnector.httpd.dumps import (
    DUMP_CONFIG,
    DUMP_VHOSTS,
    DumpedDirective,
    DumpedVhost,
    Refusal,
    dumped,
    parse_config_dump,
    parse_refusal,
    parse_vhosts_dump,
)
from tests.httpd.trees import evaluated
from tests.parts import Apache

CONFIG = """\
# In file: /etc/apache2/apache2.conf
#   3:
Listen 443
#  12:
<VirtualHost *:80>
# In file: macro 'v' (defined on line 2 of "a.conf") used on line 14 of "a.conf"
#   1:
<VirtualHost *:443>
  #   2:
  ServerName a.example.org
  #   3:
  <Directory />
    #   4:
    Require  all   "granted"
  </Directory>
</VirtualHost>
"""
MACRO = """macro 'v' (defined on line 2 of "a.conf") used on line 14 of "a.conf\""""


def test_dumps_are_asked_for_by_httpd_s_own_words() -> None:
    assert (DUMP_CONFIG, DUMP_VHOSTS) == ("DUMP_CONFIG", "DUMP_VHOSTS")


def test_directives_have_their_depth_and_their_place() -> None:
    main = "/etc/apache2/apache2.conf"
    assert list(parse_config_dump(CONFIG)) == [
        DumpedDirective(0, "listen", "443", main, 3),
        DumpedDirective(0, "<virtualhost", "*:80>", main, 12),
        DumpedDirective(0, "<virtualhost", "*:443>", MACRO, 1),
        DumpedDirective(1, "servername", "a.example.org", MACRO, 2),
        DumpedDirective(1, "<directory", "/>", MACRO, 3),
        DumpedDirective(2, "require", ' all   "granted"', MACRO, 4),
    ]


def test_our_tree_is_written_in_the_same_way() -> None:
    text = "Listen 443\n<VirtualHost *:443>\n<Files x> y\nRequire all\n</Files>\n</VirtualHost>\n"
    main = "/etc/apache2/apache2.conf"
    assert list(dumped(evaluated(text).directives)) == [
        DumpedDirective(0, "listen", "443", main, 1),
        DumpedDirective(0, "<virtualhost", "*:443>", main, 2),
        DumpedDirective(1, "<files", "x> y", main, 3),
        DumpedDirective(2, "require", "all", main, 4),
    ]


VHOSTS = f"""\
VirtualHost configuration:
[::1]:77               x.org (/etc/x.conf:21)
*:443                  is a NameVirtualHost
         default server a.example.org ({MACRO}:1)
         port 443 namevhost a.example.org ({MACRO}:1)
                 alias www.a.example.org
                 wild alias *.a.example.org
         port 443 namevhost b.example.org (/etc/b (old).conf:3)
*:*                    is a NameVirtualHost
         default server a.example.org (/etc/a.conf:1)
         port * namevhost a.example.org (/etc/a.conf:1)
                 alias c
# In file: /etc/apache2/apache2.conf
#   3:
Listen 443
"""


def test_vhosts_have_their_address_their_place_and_their_aliases() -> None:
    assert list(parse_vhosts_dump(VHOSTS)) == [
        DumpedVhost("[::1]:77", "x.org", "/etc/x.conf", 21, None),
        DumpedVhost("*:443", "a.example.org", MACRO, 1, ("www.a.example.org", "*.a.example.org")),
        DumpedVhost("*:443", "b.example.org", "/etc/b (old).conf", 3, ()),
        DumpedVhost("*:*", "a.example.org", "/etc/a.conf", 1, ("c",)),
    ]


def test_the_last_vhost_of_a_text_is_told_as_well() -> None:
    text = "*:443 is a NameVirtualHost\n  port 443 namevhost a.org (/a.conf:1)\n    alias b.org"
    assert list(parse_vhosts_dump(text)) == [
        DumpedVhost("*:443", "a.org", "/a.conf", 1, ("b.org",))
    ]
    alone = "*:443 a.org (/a.conf:1)"
    assert list(parse_vhosts_dump(alone)) == [DumpedVhost("*:443", "a.org", "/a.conf", 1, None)]


def test_what_another_dump_says_is_no_vhost() -> None:
    text = "# In file: /etc/apache2/apache2.conf\n*:443 a.org (/a.conf:1)\n"
    assert list(parse_vhosts_dump(text)) == []


def test_a_text_that_is_cut_off_names_what_it_has() -> None:
    assert list(parse_config_dump("#  12:")) == [DumpedDirective(0, "", "", "", 12)]
    text = "  port 443 namevhost a.org (/a.conf:1)"
    assert list(parse_vhosts_dump(text)) == [DumpedVhost("", "a.org", "/a.conf", 1, ())]


def test_both_dumps_may_stand_in_one_text() -> None:
    assert len(list(parse_config_dump(VHOSTS))) == 1


@pytest.mark.parametrize(
    ("errors", "refusal"),
    [
        (
            "AH00526: Syntax error on line 25 of /etc/a.conf:\nServerName takes one argument\n",
            Refusal("ServerName takes one argument", "/etc/a.conf:25"),
        ),
        (
            "httpd: Syntax error on line 3 of /a.conf: Syntax error on line 4 of /x.conf: Cannot\n",
            Refusal("Cannot", "/x.conf:4"),
        ),
        (
            "AH02297: Cannot access directory '/none/'\nAH00014: Configuration check failed\n",
            Refusal("AH02297: Cannot access directory '/none/'", None),
        ),
        (
            (
                "AH00558: apache2: Could not reliably determine the server's fully qualified name\n"
                "AH02291: Cannot access directory '/a/'\n\nAH02297: Cannot access directory '/b/'\n"
            ),
            Refusal(
                "AH02291: Cannot access directory '/a/'; AH02297: Cannot access directory '/b/'",
                None,
            ),
        ),
        ("AH00014: Configuration check failed\n", Refusal("it says nothing", None)),
        ("", Refusal("it says nothing", None)),
    ],
)
def test_why_httpd_refuses(errors: str, refusal: Refusal) -> None:
    assert parse_refusal(errors) == refusal


@pytest.mark.apache
def test_a_real_httpd_prints_so(make_apache: Callable[..., Apache]) -> None:
    lines = "ServerName {0}.test\nServerAlias www.{0}.test *.{0}.test\n"
    site = f"<VirtualHost *:81>\n{lines}</VirtualHost>\n"
    apache = make_apache(modules=["info"], sites={name: site.format(name) for name in ("a", "b")})
    text = apache.dump("DUMP_CONFIG", "DUMP_VHOSTS")

    files = [str(apache.sites_folder / f"{name}.conf") for name in ("a", "b")]
    assert list(parse_vhosts_dump(text)) == [
        DumpedVhost("*:81", f"{name}.test", file, 1, (f"www.{name}.test", f"*.{name}.test"))
        for name, file in zip(("a", "b"), files, strict=True)
    ]
    assert [one for one in parse_config_dump(text) if one.file == files[1]] == [
        DumpedDirective(0, "<virtualhost", "*:81>", files[1], 1),
        DumpedDirective(1, "servername", "b.test", files[1], 2),
        DumpedDirective(1, "serveralias", "www.b.test *.b.test", files[1], 3),
    ]
