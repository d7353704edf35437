"""Random configurations that are as odd as httpd's reader allows, and now and then one step more.

Rules: everything follows from the seed. Directives are chosen so that httpd's second pass takes any
words they get; what can go wrong is the reading. Text is bytes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

_PIECES = [
    *(
        "a",
        "b.example.org",
        "Xy",
        "0",
        "-",
        "*",
        "*.w.example",
        "@",
        "%",
        "!",
        "=",
        "~",
        ",",
        ";",
        "#",
    ),
    *(
        '"',
        "'",
        '"x y"',
        "'x y'",
        '"',
        "\\",
        "\\\\",
        '\\"',
        "\\'",
        "\\ ",
        '"a\\"b"',
        "'a\\'b'",
        '""',
    ),
    *(
        "${A}",
        "${a}",
        "${B}",
        "${NONE}",
        "${E}",
        "${EMPTY}",
        "${x:y}",
        "${",
        "$",
        "}",
        "$${A}",
        "${A",
        "\\${A}",
    ),
    *("<", ">", "</", "/>", "caf\xe9", "\xff", "\xc2\xa0", "\x01", "$p", "$pq", "%q", "@r", "bare"),
]
_BLANKS = [" ", " ", " ", "  ", "\t", " \t ", "\v", "\f", " \r "]
_DEFINES = ["A", "a", "B", "C", "NONE", "D_1", "MDCONNECTOR"]
_MODULES = [
    *(
        "ssl_module",
        "mod_ssl.c",
        "md_module",
        "mod_md.c",
        "core.c",
        "mod_so.c",
        "event.c",
        "env_module",
    ),
    *(
        "mod_mpm_event.c",
        "SSL_module",
        "ssl",
        "lua_module",
        "mod_none.c",
        "version_module",
        "so_module",
    ),
]
_LOADED = ["ssl_module", "mod_ssl.c", "md_module", "mod_md.c", "core.c", "event.c", "env_module"]
_VERSIONS = [
    *(">= 2.4", "> 2.4.70", "2.4", "2.4.71", "= 2.4.71", "== 2", "< 2.4.71", "<= 2.4.71.", "!< 3"),
    *("= /^2\\.4/", "~ ^2\\.[34]", '= "2.4.71"', "!= 2.4.71", "!~ 9", "> 2..1", '"2.4.71"'),
]
_BAD_VERSIONS = [
    ">=2.4",
    "=< 2",
    "= 2.x",
    "= /2",
    "!",
    "= ( ",
    "2.4.71.1 x y",
    "~= 2",
    "= 2.4.71.2",
]
_SAFE_PATTERNS = [
    *("inc/d{n}/*", "inc/d{n}/*", "inc/d{n}", "inc/d{n}/", "inc//./d{n}/*", "inc/../inc/[d]{n}/*"),
    *("inc/d{n}/a.conf", "{f}/inc/d{n}/[!a]*", "inc/d[{n}]/*", "inc/[c-e]{n}/", "inc/d{n}/[^Z.]*"),
    *("inc/d{n}/[]-z]*", "'{f}/inc/d{n}/*'", "inc/d{n}/**", "inc/d{n}/[\\!-\xff]*"),
]
_PATTERNS = [
    *_SAFE_PATTERNS,
    *(
        "inc/d{n}/*.conf",
        "inc/d[{n}]/?.conf",
        "inc/*/[A-Z]*",
        "inc/d{n}/none/*.conf",
        "inc/[d]{n}/sub",
    ),
    *("inc/d{n}/none", "inc/d{n}/*/s.conf", "inc/d{n}/[", "inc/d{n}/[]a]*", "inc/d{n}/[^a-z.]*"),
    *(
        "inc/d{n}/\\[a]",
        '"inc/d{n}/*\\\\.conf"',
        "inc/d{n}/*.c[o-n",
        "inc/d{n}/?*f",
        "inc/d{n}/*\\",
    ),
]
_SAFE_VALUES = [
    *(
        "v1",
        '"b.org c.org"',
        "''",
        '"${A}"',
        '"\\"q\\""',
        "$p",
        "'$pq'",
        '"$p\\"$q\\"%q"',
        '"x\\\\"',
        "'@r'",
    ),
    *('"\\"\\"\\"$pq"', "'%q @p'", '"ba"', "'re'", '"\\\\\\\\$p"'),
]
_VALUES = [*_SAFE_VALUES, "${A}", "x\\\\", "a\\", "'a\\'", "\"'"]
_SECTIONS = ["VirtualHost", "Directory", "IfModule", "If"]

Line = str


class Nasty:
    """Writes one configuration into a folder; `main` is its first file."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self.folder = folder
        self.main = folder / "main.conf"
        self.macros: list[tuple[str, int, str]] = []
        """name, number of parameters, context that the body is made for"""
        self.files = 0
        self.budget = self.random.randint(20, 90)
        wildness = self.random.random()
        self.breaks = wildness < 0.15
        """whether mistakes are made on purpose"""
        self.calm = wildness > 0.3
        """whether all that httpd may refuse is kept out, so that more of the rest is compared"""

    def write(self) -> None:
        """Write all files."""
        (self.folder / "inc").mkdir()
        lines = ["Define A one", "Define B 'two words'"] if self.random.random() < 0.7 else []
        if self.random.random() < 0.8:
            lines += self._macro(0)
        lines += self._block("server", 0)
        self.main.write_bytes(self._text(lines))

    # text

    def _text(self, lines: list[Line]) -> bytes:
        choose = self.random.random
        ends = "\r\n" if choose() < 0.1 else "\n"
        text = "".join(
            self._disguised(line) + (ends if choose() < 0.98 else "\n") for line in lines
        )
        if choose() < 0.15:
            text = text.removesuffix("\n").removesuffix("\r")
        if choose() < 0.03:
            text += "\\" + ends
        return text.encode("latin-1")

    def _disguised(self, line: Line) -> str:
        """Put in what changes nothing, or little: blanks, continuations, comments."""
        choose = self.random.random
        text = line
        if choose() < 0.12 and text:
            cut = self.random.randint(0, len(text))
            joint = self.random.choice(["\n", "\r\n"] if self.calm else ["\n", "\r\n", "\n  "])
            text = text[:cut] + "\\" + joint + text[cut:]
        if choose() < 0.3:
            text = self.random.choice(["  ", "\t", " \t", "\v"]) + text
        if choose() < 0.15:
            text += self.random.choice([" ", "\t", " \r", "\f "])
        if choose() < 0.03:
            text += "\0 gone \\"
        if choose() < 0.03 and not (self.calm and "<" in line):
            text += "\\ "
        if choose() < 0.05:
            note = self.random.choice(
                ["# note", "#<VirtualHost>", "# goes on \\\n on", "", "  ", "${EMPTY}"]
            )
            text = note + "\n" + text
        return text

    def _name(self, name: str) -> str:
        """Write a name in another case, or with quotes that change nothing."""
        choose = self.random.random()
        if choose < 0.15:
            name = "".join(self.random.choice([c.lower(), c.upper()]) for c in name)
        if choose < 0.03:
            return f'"{name}"'
        return f"{name}>" if choose < 0.05 else name

    def _tag(self, name: str) -> str:
        return self._name(name).strip('">')

    def _blank(self) -> str:
        return self.random.choice(_BLANKS)

    def _words(self, least: int = 0) -> str:
        count = self.random.randint(least, 4)
        return "".join(
            self._blank()
            + "".join(self.random.choices(_PIECES, k=self.random.choice([1, 1, 1, 2, 3])))
            for _ in range(count)
        )

    # statements

    def _block(self, context: str, depth: int) -> list[Line]:
        lines: list[Line] = []
        for _ in range(self.random.randint(6, 14) if depth == 0 else self.random.randint(1, 6)):
            self.budget -= 1
            if self.budget < 0:
                break
            lines += self._statement(context, depth)
        return lines

    def _statement(self, context: str, depth: int) -> list[Line]:
        if self.breaks and self.random.random() < 0.08:
            return self._mistake()
        kinds: list[tuple[int, Callable[[str, int], list[Line]]]] = [
            (16, self._plain),
            (3, self._definition),
            (4, self._use),
        ]
        if depth < 5:
            kinds += [(5, self._section), (7, self._condition), (3, self._include)]
            kinds += [(1, lambda _context, below: self._macro(below))]
        weights = [weight for weight, _ in kinds]
        kind = self.random.choices([kind for _, kind in kinds], weights)[0]
        return kind(context, depth)

    def _plain(self, context: str, _depth: int) -> list[Line]:
        names = ["UnsetEnv x"]
        if context in {"server", "vhost"}:
            names += ["AccessFileName .x", "MDomain m.example.org"]
        if context == "vhost":
            names += ["ServerAlias", "ServerAlias", "ServerAlias y"]
        name, _, first = self.random.choice(names).partition(" ")
        head = self._name(name) + (self._blank() + first if first else "")
        return [head + (self._words() if first else self._words(1))]

    def _definition(self, _context: str, _depth: int) -> list[Line]:
        name = self.random.choice(_DEFINES)
        if self.random.random() < 0.25:
            return [f"{self._name('UnDefine')} {name}"]
        value = self.random.choice(
            [
                "",
                " 1",
                ' "p q"',
                " ''",
                ' "\\"q"',
                " 2" if self.calm else ' "${B}"',
                " 3" if self.calm else " ${B}",
                ' "UnsetEnv z"',
                " <Files",
                " '#'",
                ' "a\\\\"',
            ]
        )
        return [f"{self._name('Define')} {name}{value}"]

    def _section(self, context: str, depth: int) -> list[Line]:
        if context == "server" and self.random.random() < 0.6:
            name, argument, inner = (
                "VirtualHost",
                self.random.choice(["*:80", "*:81 127.0.0.1:82"]),
                "vhost",
            )
        elif context in {"server", "vhost"}:
            name, argument, inner = self.random.choice(
                [("Directory", "/x", "directory"), ("Location", '"/a b"', "directory")]
            )
        else:
            name, argument, inner = "Files", "'a b'", "files"
        if context == "files":
            return self._plain(context, depth)
        return [
            self._opening(name, argument),
            *self._block(inner, depth + 1),
            self._closing(name) + self._after(),
        ]

    def _opening(self, name: str, argument: str) -> str:
        choose = self.random.random()
        if choose < 0.04:
            return f'"<{name}" {argument}>'
        if choose < 0.08:
            return f"<{self._tag(name)}{self._blank()}{argument}> # text"
        return f"<{self._tag(name)}{self._blank()}{argument}>"

    def _closing(self, name: str) -> str:
        return f"</{self._tag(name)}>"

    def _after(self) -> str:
        return self.random.choice(["", "", "", "", "", "", " ", " # end", " >", "\t</x>"])

    def _condition(self, context: str, depth: int) -> list[Line]:
        name = self.random.choice(
            ["IfModule", "IfModule", "IfDefine", "IfDefine", "IfFile", "IfVersion"]
        )
        name = "IfDirective" if self.random.random() < 0.05 else name
        name = "IfSection" if self.random.random() < 0.05 else name
        after = "" if self.calm or self.random.random() < 0.95 else self._after()
        lines = [
            f"<{self._tag(name)}{self._blank()}{self._test(name)}>"
            + self.random.choice([""] if self.calm else ["", "", "", " # x", "x"]),
            *self._block(context, depth + 1),
            self._closing(name) + after,
        ]
        return lines[:-1] if self.breaks and self.random.random() < 0.1 else lines

    def _test(self, name: str) -> str:
        if name == "IfVersion":
            return self.random.choice(_VERSIONS)
        word = {
            "IfModule": lambda: self.random.choice(
                _MODULES if self.random.random() < 0.4 else _LOADED
            ),
            "IfDefine": lambda: self.random.choice(["A", "B", *_DEFINES]),
            "IfFile": lambda: self.random.choice(
                ["inc", "main.conf", "/etc", "none", "inc/*", "inc/../inc/"]
            ),
            "IfDirective": lambda: self.random.choice(["mdomain", "SSLEngine", "LuaRoot", "<If"]),
            "IfSection": lambda: self.random.choice(
                ["virtualhost", "MDomain", "LuaHookFixups", "Macro"]
            ),
        }[name]()
        negation = self.random.choice(["", "", "", "!", "! "])
        if self.random.random() < 0.15:
            word = self.random.choice([f'"{word}"', f"{word} more", f'"{word}', f"'{word}'x"])
        return negation + word

    def _include(self, context: str, depth: int) -> list[Line]:
        self.files += 1
        number = self.files
        name = self.random.choice(["Include", "IncludeOptional"])
        folder = self.folder / "inc" / f"d{number}"
        folder.mkdir()
        for file in self.random.sample(
            ["a.conf", "B.conf", "10.conf", "9.conf", ".h.conf", "x\xe9.conf", "n"], 2
        ):
            lines = self._block(context, depth + 2)
            (folder / file).write_bytes(self._text(lines))
        if self.random.random() < 0.2:
            (folder / "z.conf").symlink_to(self.random.choice(["a.conf", "gone", "../d1"]))
        if self.random.random() < 0.2:
            (folder / "sub").mkdir()
            (folder / "sub" / "s.conf").write_bytes(self._text(self._block(context, depth + 2)))
        pattern = self.random.choice(_SAFE_PATTERNS if self.calm else _PATTERNS)
        name = "IncludeOptional" if self.calm and "a.conf" in pattern else name
        pattern = pattern.format(n=number, f=self.folder)
        return [f"{self._name(name)}{self._blank()}{pattern}"]

    def _macro(self, depth: int) -> list[Line]:
        name = self.random.choice(["Mac", "m"]) if self.breaks else f"M{len(self.macros)}"
        name = self.random.choice(["", "", "/", "x y"]) + name
        name = f'"{name}"' if " " in name else name
        parameters = self.random.sample(
            ["$p", "$pq", "%q", "@r", "bare", "@p"], self.random.randint(0, 3)
        )
        flags = self.random.choice(
            ["", "", "", "", "/IgnoreEmptyArgs ", "/ignorebadnesting ", "/x "]
        )
        context = self.random.choice(["server", "files"] if self.calm else ["server", "vhost"])
        body = self._block(context, depth + 2)
        if not self.calm and self.random.random() < 0.3:
            body.append(self.random.choice(["<VirtualHost *:${A}>", "<Files x>", "</VirtualHost>"]))
        if depth == 0 or not self.calm:
            self.macros.append((name, len(parameters), context))
        head = f"<{self._tag('Macro')} {name} {flags}{' '.join(parameters)}>"
        lines = [head, *body, self._closing("Macro") + self.random.choice(["", "", " # x"])]
        return lines + self._use("server" if depth == 0 else "files", 0)

    def _use(self, context: str, _depth: int) -> list[Line]:
        fitting = [
            macro for macro in self.macros if not self.calm or macro[2] in {"files", context}
        ]
        if not fitting:
            return []
        name, count, _ = self.random.choice(fitting)
        if not self.calm and self.random.random() < 0.05:
            count += 1
        values = self.random.choices(_SAFE_VALUES if self.calm else _VALUES, k=count)
        return [f"{self._name('Use')} {name} {' '.join(values)}"]

    def _mistake(self) -> list[Line]:
        choose = self.random.choice
        return [
            choose(
                [
                    *(
                        "</VirtualHost>",
                        "</IfModule>",
                        "</Files> x",
                        "</IfModule> # x",
                        "</If",
                        "</Macro>",
                    ),
                    *(
                        "<IfModule>",
                        "<IfModule !>",
                        "<IfDefine A",
                        "<IfModule ''>",
                        "<Macro>",
                        "<Macro x $a $a>",
                    ),
                    *(
                        "Include",
                        "Include a b",
                        "Include none.conf",
                        "IncludeOptional",
                        "Include /dev/null",
                    ),
                    *(
                        "Define",
                        "Define a b c",
                        "Define a:b",
                        "UnDefine",
                        "Use",
                        "Use none",
                        "UndefMacro none",
                    ),
                    *(
                        "ServerRoot none",
                        "UndefMacro m",
                        "LoadModule x",
                        "<Files x",
                        "Use m 1 2 3 4 5",
                    ),
                    *(
                        f"<IfVersion {choose(_BAD_VERSIONS)}>",
                        f"<{choose(_SECTIONS)} *>",
                        "<Directory /y>",
                    ),
                ]
            )
        ]
