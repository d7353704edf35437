"""What is in force of a configuration, rule by rule; and that one broken place costs no other site.

tests/httpd/test_against_httpd.py shows that the rules are httpd's.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdconnector.errors import ConfigurationError
from mdconnector.httpd.evaluator import (
    MDCONNECTOR_DEFINES,
    MDCONNECTOR_MODULES,
    STATIC_MODULES,
    Assumptions,
    World,
    evaluate,
)
from mdconnector.httpd.world import source_name
from mdconnector.managed_domain import Severity, SourceLine
from tests.httpd.memory import MACRO, MAIN, ROOT, MemoryReader, codes, live, outline, read

# directives and sections


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("ServerName a", ["ServerName a"]),
        ("ServerName\ta\tb", ["ServerName a\tb"]),
        ("ServerName   a", ["ServerName a"]),
        ('"ServerName" a', ["ServerName a"]),
        ("'ServerName'a", ["ServerName a"]),
        ('ServerName"a"', ['ServerName"a"']),
        ("ServerName> a", ["ServerName a"]),
        ("KeepAlive", ["KeepAlive"]),
        ('ServerAlias a "b c" # d', ['ServerAlias a "b c" # d']),
        ('"" a', []),
        ("<A x>\nB y\n</A>", [["A x", "B y"]]),
        ("<A>\n</A>", [["A"]]),
        ("<A x>\n<B y>\nC\n</B>\n</A>\nD", [["A x", ["B y", "C"]], "D"]),
        ("<A x>\n</a> rest is ignored", [["A x"]]),
        ("<A x>B y\nC\n</A>", [["A x", "C"]]),
        ("<A x > y> z\n</A>", [["A x > y"]]),
        ('"<A" x>\n</A>', [["A x"]]),
    ],
)
def test_lines_become_a_tree(text: str, tree: list[object]) -> None:
    """Names, arguments and nesting."""
    assert live(text) == tree


def test_directive_knows_its_words_and_its_place() -> None:
    """Both follow from what was written."""
    (section,) = read(
        '\n<VirtualHost *:80 "*:81"> # x\nserverALIAS a "" \'b c\' ""\n</VirtualHost>'
    ).directives
    (alias,) = section.children
    assert (section.words, section.tail) == (("*:80", "*:81"), "> # x")
    assert (alias.key, alias.words) == ("serveralias", ("a", "", "b c", ""))
    assert alias.argv() == ("a", "", "b c")
    assert (str(section.at), str(alias.at)) == (f"{MAIN}:2", f"{MAIN}:3")


def test_directives_that_nobody_wants_are_left_out() -> None:
    """Sections are there, and what acts while it is read acts."""
    text = "KEEP a\nDrop b\n'Drop' c\n<Drop d>\nDefine e keep\n${e} f\n</Drop>\n"
    world = World(MemoryReader({MAIN: text}), ROOT)
    evaluation = evaluate(MAIN, world=world, keeps=lambda key: key == "keep")
    assert outline(evaluation.directives) == ["KEEP a", ["Drop d", "keep f"]]


def test_argument_lists_end_at_sixty_four_words() -> None:
    """httpd drops the rest without a word."""
    words = [f"w{number}" for number in range(70)]
    (directive,) = read("MDomain " + " ".join(words)).directives
    assert directive.argv() == tuple(words[:64])
    assert directive.words == tuple(words)
    (directive,) = read("MDomain " + " ".join([*words[:63], '""', "x"])).directives
    assert directive.argv() == (*words[:63], "")


# variables


def test_variables_come_from_define_then_from_the_environment() -> None:
    """Define's are without case, the environment's are not."""
    text = "A ${x} ${X} ${e} ${E} ${NONE:x}\nDefine X 1\nA ${x} ${X}\nUnDefine X\nA ${x} ${X}"
    assert live(text, environment={"E": "env", "X": "shell", "x": ""}) == [
        "A shell ${e} env ${NONE:x}",
        "A 1 1",
        "A shell",
    ]


def test_unknown_variable_stays_and_is_told_once() -> None:
    """A name with a colon is a rewrite map's."""
    evaluation = read("A ${x}\nB ${x} ${m:k}")
    assert outline(evaluation.directives) == ["A ${x}", "B ${x} ${m:k}"]
    assert codes(evaluation) == [("undefined-variable", "main.conf:1")]
    assert evaluation.errors == ()


def test_variables_are_expanded_before_words_are_cut() -> None:
    """A value may be a name, several words, or a tag, but not a comment."""
    text = (
        'Define D "ServerName x y"\n${D}\nDefine S <A\n${S} z>\n</A>\nDefine H #\n${H} x\n'
        "Define L ${LATER}\nDefine LATER 1\nB ${L}"
    )
    assert live(text) == ["ServerName x y", ["A z"], "# x", "B ${LATER}"]


def test_line_that_is_empty_once_it_is_expanded_says_nothing() -> None:
    """Define gives no empty value, and the environment may."""
    assert live("A\n${E}\n<B x>\n ${E}${E} \n</B>\nC", environment={"E": ""}) == ["A", ["B x"], "C"]


def test_define_without_value_is_a_symbol_only() -> None:
    """So is an empty one, and what -D defines."""
    text = (
        'Define A ""\nDefine B\nX ${A}${B}${C}\n'
        "<IfDefine A>\nY\n</IfDefine>\n<IfDefine C>\nZ\n</IfDefine>"
    )
    evaluation = read(text, environment={"A": "1", "B": "2", "C": "3"}, defines=("C",))
    assert outline(evaluation.directives) == ["X 123", "Y", "Z"]
    assert evaluation.defines == {"A": "", "B": "", "C": ""}


def test_define_in_a_section_is_global() -> None:
    """It holds from its line on."""
    text = "<VirtualHost x>\nDefine A 1\n</VirtualHost>\nB ${A}"
    assert live(text) == [["VirtualHost x"], "B 1"]


@pytest.mark.parametrize("line", ["Define", "Define a b c", "Define a:b", 'Define ""', "UnDefine"])
def test_define_that_httpd_refuses(line: str) -> None:
    """It is an error at its line."""
    assert [at for _, at in codes(read(f"A\n{line}\nB"))] == ["main.conf:2"]


# conditions

_TREE = ["A", "B"]


@pytest.mark.parametrize(
    "tag",
    [
        *("IfModule core.c", "IfModule so_module", 'IfModule "core.c"', "IfModule core.c more"),
        *("IfModule !none", "IfModule ! none", 'IfModule !"none"', "IfModule late_module"),
        *("IFMODULE mod_late.c", "IfDefine D", "IfDefine !d", "IfFile main.conf", "IfFile /srv"),
        *("IfFile !none", "IfFile ../httpd", "IfVersion >= 2.4", "IfVersion 2.4.71"),
        *(
            "IfDirective listen",
            "IfDirective !SSLEngine",
            "IfSection virtualhost",
            "IfSection !MDomain",
        ),
    ],
)
def test_condition_that_is_true(tag: str) -> None:
    """Its body is read in place."""
    body = f"A\n<{tag}>\nB\n</{tag.partition(' ')[0].lower()}>\nC"
    modules = MACRO | {"event.c"}
    text = f"LoadModule late_module modules/mod_late.so\n{body}"
    assert live(text, defines=("D",), modules=modules) == ["A", "B", "C"]


@pytest.mark.parametrize(
    "tag",
    [
        *(
            "IfModule core",
            "IfModule CORE.C",
            "IfModule ssl_module",
            'IfModule "!none"',
            "IfDefine d",
        ),
        *("IfDefine E", "IfModule !core.c", "IfFile none", "IfFile *.conf", "IfFile !main.conf"),
        *("IfVersion 2.4", "IfVersion > 2.4.71", "IfDirective SSLEngine", "IfSection Listen"),
    ],
)
def test_condition_that_is_false(tag: str) -> None:
    """Its body is passed over, whatever it holds."""
    text = (
        f"A\n<{tag}>\nDefine\nInclude none\n<X y>\nB\n</X> z\n</{tag.partition(' ')[0]}> # end\nC"
    )
    assert live(text, defines=("D",), environment={"E": "1"}) == ["A", "C"]


def test_module_loaded_further_down_does_not_count() -> None:
    """Order matters."""
    text = "<IfModule ssl_module>\nA\n</IfModule>\nLoadModule ssl_module modules/mod_ssl.so\n"
    evaluation = read(text + "<IfModule mod_ssl.c>\nB\n</IfModule>")
    assert outline(evaluation.directives) == ["B"]
    assert {"ssl_module", "mod_ssl.c"} <= evaluation.modules


@pytest.mark.parametrize(
    ("identifier", "file", "name"),
    [
        ("ssl_module", "/usr/lib/mod_ssl.so", "mod_ssl.c"),
        ("ldap_module", "mod_ldap.so", "util_ldap.c"),
        ("mpm_event_module", "mod_mpm_event.so", "event.c"),
        ("mpm_itk_module", "mpm_itk.so", "mpm_itk.c"),
        ("php_module", "libphp8.2.so", "mod_php.c"),
        ("php7_module", "libphp7.4.so", "mod_php7.c"),
        ("security2_module", "mod_security2.so", "mod_security2.c"),
    ],
)
def test_source_names(identifier: str, file: str, name: str) -> None:
    """<IfModule> also knows modules by these."""
    assert source_name(identifier, file) == name


def test_version_test_needs_its_module() -> None:
    """Where mod_version is not loaded, the tag is an ordinary section."""
    assert live("<IfVersion 1>\nA\n</IfVersion>", modules=frozenset()) == [["IfVersion 1", "A"]]


def test_closing_tag_of_a_live_condition_stands_alone() -> None:
    """Text after it makes httpd refuse it; a dead one may have some."""
    text = "<IfModule core.c>\nA\n</IfModule> x\nB"
    evaluation = read(text)
    assert codes(evaluation) == [("unmatched-tag", "main.conf:3")]
    assert outline(evaluation.directives) == ["A", "B"]
    assert live(text.replace("core.c", "!core.c")) == ["B"]


def test_live_condition_may_lack_its_end() -> None:
    """So may all that is open in it; a dead one may not."""
    text = "<IfModule core.c>\n<VirtualHost x>\nA"
    evaluation = read(text)
    assert outline(evaluation.directives) == [["VirtualHost x", "A"]]
    assert [finding.severity for finding in evaluation.findings] == [Severity.WARNING] * 2
    assert codes(read(text.replace("core.c", "!core.c"))) == [("unclosed-section", "main.conf:1")]


def test_tags_in_a_dead_body_must_match() -> None:
    """By name, without regard to what they are."""
    text = "<IfModule none>\n<A x>\n</B>\n</A>\n</IfModule>\nC"
    evaluation = read(text)
    assert codes(evaluation) == [("unmatched-tag", "main.conf:3")]
    assert outline(evaluation.directives) == ["C"]


@pytest.mark.parametrize(
    "tag",
    [
        "<IfModule>",
        "<IfModule !>",
        '<IfModule "">',
        "<IfDefine D",
        "<IfVersion >=2>",
        "<IfVersion>",
    ],
)
def test_condition_that_httpd_refuses(tag: str) -> None:
    """It is an error at its line, and what follows the section is read."""
    name = tag.strip("<>").partition(" ")[0]
    evaluation = read(f"A\n{tag}\nB\n</{name}>\nC")
    assert {at for _, at in codes(evaluation)} == {"main.conf:2"}
    assert outline(evaluation.directives)[-1] == "C"


def test_directive_of_an_unknown_module_is_not_guessed() -> None:
    """A warning says that nobody can tell."""
    evaluation = read("<IfDirective PassengerRoot>\nA\n</IfDirective>")
    assert codes(evaluation) == [("unknown-directive-asked", "main.conf:1")]
    assert evaluation.errors == ()


# Include

_INC = {"inc/10.conf": "A 10", "inc/2.conf": "A 2", "inc/B.conf": "A B", "inc/a.conf": "A a"}


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        ("inc/*.conf", ["A 10", "A 2", "A B", "A a"]),
        ("inc", ["A 10", "A 2", "A B", "A a"]),
        ("inc/", ["A 10", "A 2", "A B", "A a"]),
        ("'inc/[!0-9].conf'", ["A B", "A a"]),
        ("/srv/*/inc/a*", ["A a"]),
        ("./inc/../inc//a.conf", ["A a"]),
        ("i*/?.conf", ["A 2", "A B", "A a"]),
        ("empty", []),
    ],
)
def test_included_files_are_read_in_byte_order(pattern: str, tree: list[str]) -> None:
    """Relative to ServerRoot, component by component."""
    assert live(f"Include {pattern}", files=_INC, folders=["empty"]) == tree


def test_folder_is_read_whole() -> None:
    """Hidden and stale files too, and what is below, at its place."""
    files = {"d/.h": "A h", "d/b~": "A b~", "d/a.d/x": "A x", "d/c": "A c"}
    assert live("Include d", files=files) == ["A h", "A x", "A b~", "A c"]
    assert live("Include d/a*", files=files) == ["A x"]
    assert live("Include d/*", files=files) == ["A x", "A b~", "A c"]


def test_server_root_changes_where_paths_begin() -> None:
    """From its line on."""
    text = f"Include x\nServerRoot {ROOT}/inc/\nInclude a.conf"
    evaluation = read(text, files={**_INC, "x": "A x"})
    assert outline(evaluation.directives) == ["A x", "A a"]
    assert evaluation.server_root == f"{ROOT}/inc/"
    assert evaluation.files == (MAIN, f"{ROOT}/x", f"{ROOT}/inc/a.conf")


def test_server_root_that_is_no_folder_is_refused() -> None:
    """The old one is kept."""
    evaluation = read("ServerRoot /none\nInclude x", files={"x": "A x"})
    assert codes(evaluation) == [("bad-server-root", "main.conf:1")]
    assert outline(evaluation.directives) == ["A x"]


@pytest.mark.parametrize("pattern", ["none", "none/*.conf", "inc/*.none", "inc/x*/y", "inc/none/"])
def test_only_include_needs_a_file(pattern: str) -> None:
    """IncludeOptional does without."""
    assert live(f"IncludeOptional {pattern}\nB", files=_INC) == ["B"]
    evaluation = read(f"Include {pattern}\nB", files=_INC)
    assert codes(evaluation) == [("include-failed", "main.conf:1")]
    assert outline(evaluation.directives) == ["B"]


@pytest.mark.parametrize(
    "line", ["Include", "Include a b", 'Include ""', "IncludeOptional inc/a.conf/*"]
)
def test_include_that_httpd_refuses(line: str) -> None:
    """It is an error at its line."""
    assert [at for _, at in codes(read(f"A\n{line}", files=_INC))] == ["main.conf:2"]


def test_files_are_read_as_often_as_they_are_included() -> None:
    """There is no de-duplication."""
    assert live("Include x\nInclude x", files={"x": "A"}) == ["A", "A"]


def test_included_lines_become_children_of_the_open_section() -> None:
    """But an included file cannot close it."""
    text = "<A>\nInclude x\n</A>"
    assert live(text, files={"x": "B\n<IfModule core.c>\nC"}) == [["A", "B", "C"]]
    evaluation = read(text, files={"x": "B\n</A>\nC"})
    assert codes(evaluation) == [("unmatched-tag", "x:2")]
    assert outline(evaluation.directives) == [["A", "B", "C"]]


def test_files_that_include_one_another_end_somewhere() -> None:
    """The rest is read, and nothing is there twice."""
    files = {"x": "B\nInclude y\nC", "y": "D\nInclude x", "z": "E"}
    evaluation = read("A\nInclude x\nInclude z", files=files)
    assert [code for code, _ in codes(evaluation)] == ["include-failed"]
    assert outline(evaluation.directives) == ["A", "B", "D", "E"]


def test_folder_that_includes_itself_ends_somewhere() -> None:
    """A wildcard that matches the file it stands in is the common case."""
    evaluation = read("A\nInclude *.conf", files={"b.conf": "B\nInclude *.conf"})
    assert {code for code, _ in codes(evaluation)} == {"include-failed"}
    assert len(evaluation.files) < 2000


def test_files_that_multiply_end_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file twice in the next one is more than anybody means."""
    monkeypatch.setattr("mdconnector.httpd.reading.MAX_FILES", 1000)
    files = {f"f{number}": f"Include f{number + 1}\n" * 2 for number in range(30)}
    evaluation = read("A\nInclude f0", files={**files, "f30": "B"})
    assert codes(evaluation)[-1] == ("too-much", "main.conf")


# macros


def test_macro_is_spliced_in() -> None:
    """Its name is without case, its parameters are with."""
    text = "<Macro V $n @d>\nA $n.${D} $N\nB @d\n</Macro>\nDefine D org\nuse v x 'a b'\nC\n"
    assert live(text) == ["A x.org $N", 'B "a b"', "C"]


def test_macro_text_knows_where_it_was_written_and_used() -> None:
    """File and line are the definition's, the chain of uses begins with the innermost."""
    files = {"m": "<Macro In $x>\n# note\nA \\\n$x\n</Macro>\n<Macro Out>\n\nUse In 1\n</Macro>"}
    (directive,) = read("Include m\n\nUse Out", files=files).directives
    assert directive.at == SourceLine(
        f"{ROOT}/m", 4, (SourceLine(f"{ROOT}/m", 8), SourceLine(MAIN, 3))
    )
    assert directive.dump_line == 1
    assert directive.origin.dump_name == (
        f"macro 'in' (defined on line 1 of \"{ROOT}/m\") used on line 2 of "
        f'"macro \'out\' (defined on line 6 of "{ROOT}/m") used on line 3 of "{MAIN}""'
    )


def test_macro_may_open_what_the_file_closes() -> None:
    """And the other way round; conditions included."""
    text = "<Macro O>\n<A>\n<IfModule core.c>\nB\n</Macro>\n<Macro C>\nD\n</A>\n</Macro>\n"
    assert live(f"{text}Use O\nE\n</IfModule>\nUse C\nF\n") == [["A", "B", "E", "D"], "F"]


def test_macro_may_define_macros() -> None:
    """Its text is stored unexpanded."""
    text = "<Macro M $a>\n<Macro $a $b>\nA $a $b\n</Macro>\nUse $a 1\n</Macro>\nUse M x\nUse X 2\n"
    assert live(text) == ["A x 1", "A x 2"]


def test_redefined_macro_counts_from_then_on() -> None:
    """And one that is undefined does not count any more."""
    text = "<Macro M>\nA\n</Macro>\nUse M\n<Macro m>\nB\n</Macro>\nUse M\nUndefMacro M\nUse M"
    evaluation = read(text)
    assert outline(evaluation.directives) == ["A", "B"]
    assert codes(evaluation) == [("unknown-macro", "main.conf:10")]


def test_macro_in_a_dead_part_does_not_exist() -> None:
    """One in a section is global."""
    text = (
        "<IfModule none>\n<Macro M>\nA\n</Macro>\n</IfModule>\n"
        "<S>\n<Macro N>\nB\n</Macro>\n</S>\nUse N\nUse M\n"
    )
    evaluation = read(text)
    assert outline(evaluation.directives) == [["S"], "B"]
    assert codes(evaluation) == [("unknown-macro", "main.conf:12")]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("<Macro M $a>\nA\n</Macro>\nUse M", "bad-use", 4),
        ("<Macro M>\nUse M\n</Macro>\nUse M", "bad-use", 2),
        ("<Macro M $a $a>\n</Macro>", "bad-macro", 1),
        ("<Macro>\n</Macro>", "bad-macro", 1),
        ("<Macro M\n</Macro>", "bad-macro", 1),
        ("<Macro M>\nA\n</Macro >", "unclosed-section", 1),
        ("Use M", "unknown-macro", 1),
        ("Use", "unknown-macro", 1),
        ("UndefMacro M", "unknown-macro", 1),
        ("UndefMacro", "bad-arguments", 1),
    ],
)
def test_macros_that_httpd_refuses(text: str, code: str, line: int) -> None:
    """They are errors at the line that is to blame."""
    assert codes(read(text)) == [(code, f"main.conf:{line}")]


def test_error_in_macro_text_names_the_use() -> None:
    """The definition alone would not tell which one."""
    (finding,) = read("<Macro M>\nDefine\n</Macro>\n\nUse M").findings
    assert finding.at == f"{MAIN}:2"
    assert finding.message.endswith(f"in the macro used at {MAIN}:5")


def test_last_line_after_use_is_lost_without_line_end() -> None:
    """httpd drops it, so it is not there; a warning says so."""
    text = "<Macro M>\nA\n</Macro>\nUse M\nB"
    evaluation = read(text)
    assert outline(evaluation.directives) == ["A"]
    assert codes(evaluation) == [("last-line-lost", "main.conf:5")]
    assert live(text + "\n") == ["A", "B"]


def test_macros_need_their_module() -> None:
    """Without it httpd does not know them."""
    text = "<Macro M>\nA\n</Macro>\nUse M\nB"
    evaluation = read(text, modules=STATIC_MODULES)
    assert codes(evaluation) == [
        ("macro-not-loaded", "main.conf:1"),
        ("macro-not-loaded", "main.conf:4"),
    ]
    assert outline(evaluation.directives) == ["B"]
    loading = f"LoadModule macro_module modules/mod_macro.so\n{text}\n"
    assert live(loading, modules=STATIC_MODULES) == ["A", "B"]


# the command line and other directives


def test_directives_of_the_command_line_stand_around_the_file() -> None:
    """-C before, -c after."""
    world = World(
        MemoryReader({MAIN: "A ${X}"}),
        ROOT,
        pre_directives=("Define X 1", "<B>", "C\\", "</B>"),
        post_directives=("D ${X}",),
    )
    evaluation = evaluate("main.conf", world=world)
    assert outline(evaluation.directives) == [["B", "C\\"], "A 1", "D 1"]


def test_folder_of_sites_is_read_after_the_main_file() -> None:
    """Every *.conf in byte order, no other."""
    files = {MAIN: "A", "s/b.conf": "B", "s/a.conf": "C", "s/.x.conf": "D", "s/x.bak": "E"}
    world = World(MemoryReader(files), ROOT)
    assert outline(evaluate(MAIN, world=world, sites_folder="s").directives) == ["A", "C", "B"]
    assert outline(evaluate(None, world=world, sites_folder="s").directives) == ["C", "B"]


def test_main_file_or_sites_folder_that_is_missing_ends_everything() -> None:
    """There is nothing to evaluate."""
    world = World(MemoryReader({}), ROOT)
    with pytest.raises(ConfigurationError):
        evaluate("none", world=world)
    with pytest.raises(ConfigurationError):
        evaluate(None, world=world, sites_folder="none")


def test_runtime_and_state_folder_are_kept() -> None:
    """Relative to ServerRoot."""
    assert read("DefaultRuntimeDir run").runtime_folder == f"{ROOT}/run"
    assert read("DefaultStateDir state").state_folder == f"{ROOT}/state"
    assert (read("").runtime_folder, read("").state_folder) == (None, None)


def test_error_directive_is_an_error_where_it_is_live() -> None:
    """In a dead part it is nothing."""
    text = "<IfModule core.c>\nError no\n</IfModule>"
    assert codes(read(text)) == [("error-directive", "main.conf:2")]
    assert live(text.replace("core", "!core")) == []


def test_text_in_another_language_is_passed_over() -> None:
    """Where the module is loaded that reads it."""
    text = "<Perl>\nmy $x = <<E;\n</Directory>\n  </perl>\nA"
    assert live(text, modules=frozenset({"perl_module"})) == ["A"]
    text = "<LuaHookFixups x>\n<<\\\n</LuaHookFixups>\nA"
    assert live(text, modules=frozenset({"lua_module"})) == ["A"]


@pytest.mark.parametrize(
    "name",
    [
        *("LuaHookAccessChecker", "LuaHookAuthChecker", "LuaHookCheckUserID", "LuaHookFixups"),
        *("LuaHookMapToStorage", "LuaHookPreTranslateName", "LuaHookTranslateName"),
        *("LuaHookTypeChecker", "LuaQuickHandler"),
    ],
)
def test_each_section_of_mod_lua_is_passed_over(name: str) -> None:
    """Where the module is loaded; else it is a section like any other."""
    text = f"<{name} x>\nA\n</{name}>\nB"
    assert live(text, modules=frozenset({"lua_module"})) == ["B"]
    assert live(text) == [[f"{name} x", "A"], "B"]


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("LoadFile x.so", "so_module"),
        ("MacroIgnoreEmptyArgs", "macro_module"),
        ("MacroIgnoreBadNesting", "macro_module"),
        ("RemoteIPTrustedProxyList x", "remoteip_module"),
        ("RemoteIPInternalProxyList x", "remoteip_module"),
        ("LuaAuthzProvider a b c", "lua_module"),
    ],
)
def test_what_acts_while_it_is_read_leaves_nothing(line: str, module: str) -> None:
    """Where its module is loaded; else it is a directive like any other."""
    assert live(f"{line}\nA", modules=frozenset({module})) == ["A"]
    assert live(f"{line}\nA", modules=frozenset()) == [line, "A"]


# assumptions

_OURS = Assumptions(MDCONNECTOR_MODULES, MDCONNECTOR_DEFINES, f"{ROOT}/md")


@pytest.mark.parametrize(
    "tag",
    [
        *("IfModule md_module", "IfModule mod_md.c", "IfDefine MDCONNECTOR", "IfDirective MDomain"),
        *("IfFile md/domains/a/pubcert.pem", f'IfFile "{ROOT}/md/x"', "IfSection MDomain"),
    ],
)
def test_assumption_makes_text_live_and_marks_it(tag: str) -> None:
    """Without it the text is dead; the opposite condition follows the truth."""
    name = tag.partition(" ")[0]
    text = f"A\n<{tag}>\n<S>\nB\nInclude x\n</S>\n</{name}>\nC"
    evaluation = read(text, assumptions=_OURS, files={"x": "D"})
    _, section, last = evaluation.directives
    assert outline([section]) == [["S", "B", "D"]]
    assert [each.assumed for each in (section, *section.children, last)] == [
        True,
        True,
        True,
        False,
    ]
    assert evaluation.assumed
    assert live(text) == ["A", "C"]
    opposite = read(text.replace(f"<{name} ", f"<{name} !"), assumptions=_OURS, files={"x": "D"})
    assert outline(opposite.directives) == ["A", ["S", "B", "D"], "C"]
    assert not opposite.assumed


def test_what_is_true_is_not_assumed() -> None:
    """A module that is loaded, a file that is there."""
    text = "<IfModule md_module>\n<IfFile md/x>\nA\n</IfFile>\n</IfModule>"
    evaluation = read(text, assumptions=_OURS, modules=frozenset({"md_module"}), files={"md/x": ""})
    assert [each.assumed for each in evaluation.directives] == [False]
    assert not evaluation.assumed


# mistakes cost no other site

_SITE = "<VirtualHost *:80>\nServerName good\n</VirtualHost>\n"
_GOOD = ["VirtualHost *:80", "ServerName good"]


@pytest.mark.parametrize(
    ("broken", "code", "line"),
    [
        ("<VirtualHost *:80>\nServerName a\n", "unclosed-section", 1),
        ("<VirtualHost *:80>\n<Directory /x>\n</VirtualHost>\n", "unmatched-tag", 3),
        ("</VirtualHost>\n", "unmatched-tag", 1),
        ("<VirtualHost *:80>\n</VirtualHos>\n", "unmatched-tag", 2),
        ("<VirtualHost *:80>\n<IfModule core.c>\n</VirtualHost>\n", "unmatched-tag", 3),
        ("<VirtualHost *:80\nServerName a\n</VirtualHost>\n", "unclosed-tag", 1),
        ("<IfModule none>\n<VirtualHost *:80>\n</IfModule>\n", "unmatched-tag", 3),
        ("<Macro M>\n</Macro\n</Macro>\nUse N\n", "unknown-macro", 4),
        ("Include none\n", "include-failed", 1),
        ("<IfModule >\nA\n</IfModule>\n", "bad-condition", 1),
    ],
)
def test_broken_place_costs_no_other_site(broken: str, code: str, line: int) -> None:
    """Neither one in the same file behind it, nor one in the next file."""
    evaluation = read("Include x\nInclude y", files={"x": broken + _SITE, "y": _SITE})
    assert (code, f"x:{line}") in codes(evaluation)
    assert [each for each in outline(evaluation.directives) if each == _GOOD] == [_GOOD] * 2


def test_dead_section_without_end_costs_only_its_own_file() -> None:
    """What it swallows cannot be told apart."""
    files = {"x": "<IfModule none>\n" + _SITE, "y": _SITE}
    evaluation = read("Include x\nInclude y", files=files)
    assert codes(evaluation) == [("unclosed-section", "x:1")]
    assert outline(evaluation.directives) == [_GOOD]


def test_byte_order_mark_is_named_and_passed_over() -> None:
    """httpd takes it for part of the first word and ends."""
    evaluation = read("Include x", files={"x": "\ufeff" + _SITE})
    assert codes(evaluation) == [("byte-order-mark", "x:1")]
    assert outline(evaluation.directives) == [_GOOD]


def test_file_that_cannot_be_read_costs_no_other() -> None:
    """The Include is to blame."""
    reader = MemoryReader({MAIN: "Include d/*", "d/a": "A", "d/b": "B", "d/c": "C"})
    reader.unreadable.add(f"{ROOT}/d/b")
    evaluation = evaluate(MAIN, world=World(reader, ROOT))
    assert outline(evaluation.directives) == ["A", "C"]
    assert codes(evaluation) == [("include-failed", "main.conf:1")]


def test_line_that_is_too_long_ends_only_its_file() -> None:
    """httpd ends there altogether."""
    files = {"x": f"A\nB {'x' * 17_000_000}\nC", "y": _SITE}
    evaluation = read("Include x\nInclude y", files=files)
    assert codes(evaluation) == [("line-too-long", "x:2")]
    assert outline(evaluation.directives) == ["A", _GOOD]


_PARTS = st.sampled_from(
    [
        *("<IfModule core.c>", "</IfModule>", "<IfDefine X>", "</IfDefine>", "<Macro M $a>"),
        *("</Macro>", "Use M x", "Use M", "Include main.conf", "Include x*", "Define X ${X}y"),
        *("UnDefine X", "<VirtualHost a>", "</VirtualHost>", "ServerName ${X}", "\\", "$a", "!"),
        *('"', "'", "<", ">", "\n", "\n"),
    ]
)


@given(st.lists(_PARTS, max_size=60))
def test_any_text_is_read_to_its_end(parts: list[str]) -> None:
    """Whatever stands in the files, there is a result and no exception."""
    text = "\n".join(parts[:40]) + "".join(parts[40:])
    evaluation = read(text, files={"x1": text[::2], "x2": "\n".join(parts)})
    assert evaluation.files[0] == MAIN


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end(content: bytes) -> None:
    """Whatever bytes a file holds."""
    evaluation = read(content.decode("utf-8", "surrogateescape"))
    assert all(each.at.line <= content.count(b"\n") + 2 for each in evaluation.directives)


# every word of a complaint

_QUOTES = "put quotes around a value with blanks, and a comment on a line of its own"


@pytest.mark.parametrize(
    ("text", "line", "code", "message", "hint"),
    [
        ("Define", 1, "bad-arguments", "Define takes 1 to 2 arguments", _QUOTES),
        ("Define a b c", 1, "bad-arguments", "Define takes 1 to 2 arguments", _QUOTES),
        ("UnDefine", 1, "bad-arguments", "UnDefine takes 1 argument", _QUOTES),
        ("LoadModule a", 1, "bad-arguments", "LoadModule takes 2 arguments", _QUOTES),
        ("LoadModule a b c", 1, "bad-arguments", "LoadModule takes 2 arguments", _QUOTES),
        ("ServerRoot", 1, "bad-arguments", "ServerRoot takes 1 argument", _QUOTES),
        ("DefaultStateDir", 1, "bad-arguments", "DefaultStateDir takes 1 argument", _QUOTES),
        (
            "DefaultRuntimeDir a b",
            1,
            "bad-arguments",
            "DefaultRuntimeDir takes 1 argument",
            _QUOTES,
        ),
        (
            "Define PASSWORD:hunter2",
            1,
            "bad-define",
            "the name 'PASSWORD:...' contains ':'",
            "choose another name",
        ),
        (
            "UnDefine a:b",
            1,
            "bad-define",
            "the name 'a:...' contains ':'",
            "choose another name",
        ),
        (
            "A\nServerRoot none",
            2,
            "bad-server-root",
            f"none is no folder; paths are still taken from {ROOT}",
            "name the folder that relative paths begin at",
        ),
        ("A\nError No way", 2, "error-directive", "Error No way", "httpd ends at this line"),
        (
            "A\n<Perl>\nx\n<Perl>",
            2,
            "unclosed-section",
            f"<perl> is not closed in {MAIN}",
            "add </perl> on a line of its own",
        ),
    ],
)
def test_a_line_that_httpd_refuses_is_told_in_full(
    text: str, line: int, code: str, message: str, hint: str
) -> None:
    """What, where, and what to do."""
    (finding,) = read(text, modules=STATIC_MODULES | {"perl_module"}).findings
    assert (finding.code, finding.severity) == (code, Severity.ERROR)
    assert (finding.at, finding.message, finding.hint) == (f"{MAIN}:{line}", message, hint)


def test_a_name_that_cannot_be_defined_is_not() -> None:
    """Nothing is defined by a line that httpd ends at."""
    assert read("Define a:b c").defines == {}


def test_a_symbol_that_is_undefined_again_is_unknown() -> None:
    """For conditions and in what is told."""
    evaluation = read("Define A 1\nDefine B 2\nUnDefine A\n<IfDefine A>\nX\n</IfDefine>")
    assert outline(evaluation.directives) == []
    assert evaluation.defines == {"B": "2"}


def test_the_file_of_a_module_is_absolute_and_the_first_counts() -> None:
    """Later lines for a module that is loaded do nothing."""
    long = "x" * 5000
    text = f"LoadModule a modules/a.so\nLoadModule b /b.so\nLoadModule a c.so\nLoadModule d {long}"
    assert read(text).module_files == {"a": f"{ROOT}/modules/a.so", "b": "/b.so", "d": long}


def test_a_relative_server_root_is_one_below_the_root_of_the_machine() -> None:
    """As httpd takes it."""
    evaluation = read(f"ServerRoot {ROOT[1:]}/x", folders=("x",))
    assert (evaluation.server_root, evaluation.findings) == (f"{ROOT}/x", ())


def test_an_error_line_stays_in_the_tree() -> None:
    """So that it can be shown where Apache ends."""
    assert outline(read("<A>\nError no\n</A>").directives) == [["A", "Error no"]]


def test_what_multiplies_is_told_by_the_file_that_was_read_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The main file is to blame as a whole."""
    monkeypatch.setattr("mdconnector.httpd.reading.MAX_FILES", 4)
    files = {"x": "A\n", "y": "B\n"}
    finding = read("Include x\nInclude x\nInclude x\nInclude y\n", files=files).findings[-1]
    assert (finding.code, finding.at) == ("too-much", MAIN)
    assert finding.message == f"it repeats itself, or is none: after {ROOT}/y nothing more was read"
    assert finding.hint == "end the repetition, and see what the Include lines bring in"


def test_what_multiplies_may_be_the_last_error_that_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is told like any other."""
    monkeypatch.setattr("mdconnector.httpd.reading.MAX_FILES", 2)
    monkeypatch.setattr("mdconnector.httpd.reading.MAX_ERRORS", 2)
    found = codes(read("</a>\nInclude x\nInclude x\n", files={"x": "A\n"}))
    assert [code for code, _ in found] == ["unmatched-tag", "too-much"]


def test_folder_of_other_things_is_given_up_after_so_many_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """httpd ends at the first; warnings do not count."""
    monkeypatch.setattr("mdconnector.httpd.reading.MAX_ERRORS", 3)
    files = {f"d/{number}": "A ${UNKNOWN}\n</a>\nB\n" for number in range(9)}
    evaluation = read("Include d/*\nA", files=files)
    assert [code for code, _ in codes(evaluation)] == [
        "undefined-variable",
        *["unmatched-tag"] * 3,
        "too-much",
    ]
    assert evaluation.files[-1] == f"{ROOT}/d/2"
    assert outline(evaluation.directives) == ["A ${UNKNOWN}", "B"] * 2 + ["A ${UNKNOWN}"]
