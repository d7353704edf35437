"""<Macro>, Use and UndefMacro as they are read. Pure."""

from __future__ import annotations

from mdconnector.httpd.directives import Origin
from mdconnector.httpd.lexer import (
    LineSource,
    LineTooLongError,
    lower_ascii,
    next_word,
    split_words,
)
from mdconnector.httpd.macros import MAX_BODY_LINE_BYTES, Macro, MacroError, parameters_of
from mdconnector.httpd.reading import MAX_USES, FileReading, Reading, TooMuchError
from mdconnector.managed_domain import SourceLine


class _Body:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: list[tuple[str, int]] = []


def define_macro(run: Reading, file: FileReading, args: str) -> None:
    """Read a definition up to its </Macro>."""
    location = f'defined on line {file.number} of "{file.origin.dump_name}"'
    begin = file.at
    end = args.rfind(">")
    name, rest = next_word(args[: max(end, 0)])
    if not name:
        run.report("bad-macro", begin, "<Macro has no name, or no '>'", "write <Macro NAME ...>")
    body = _read_body(file)
    if body is None:
        run.report_unclosed(file, "Macro", begin)
    elif name:
        macro = Macro(
            name=lower_ascii(name),
            parameters=parameters_of(rest),
            body=tuple(body.lines),
            places=tuple(body.places),
            location=location,
        )
        try:
            macro.check()
            run.macros[macro.name] = macro
        except MacroError as error:
            run.report("bad-macro", begin, str(error), "give each parameter a name of its own")


def _read_body(file: FileReading) -> _Body | None:
    """Return the lines before the matching </Macro>; None where there is none in time."""
    from_macro = file.stream.source.parent is not None
    body = _Body()
    depth = 1
    while True:
        try:
            line = file.stream.next_joined_line(limit=MAX_BODY_LINE_BYTES, from_macro=from_macro)
        except LineTooLongError:
            return None
        if line is None:
            return None
        if line.startswith("#"):
            continue
        match lower_ascii(next_word(line)[0]):
            case "</macro>":
                depth -= 1
                if not depth:
                    return body
            case "<macro":
                depth += 1
        body.lines.append(line)
        body.places.append(file.origin.place(file.number))


def use_macro(run: Reading, file: FileReading, args: str) -> None:
    """Splice a macro's text into the stream of lines."""
    name, rest = next_word(args)
    macro = run.macros.get(lower_ascii(name))
    if macro is None:
        hint = "define it above this line, in a part that is in force"
        run.report("unknown-macro", file.at, f"there is no macro '{name}'", hint)
        return
    outer, number = file.origin, file.number
    if f"macro '{macro.name}'" in outer.dump_name:
        run.report("bad-use", file.at, f"macro '{name}' uses itself", "end the circle")
        return
    try:
        lines = macro.expand(split_words(rest))
    except MacroError as error:
        run.report("bad-use", file.at, str(error), f"the macro is {macro.location}")
        return
    run.uses += 1
    if run.uses > MAX_USES:
        raise TooMuchError
    where = f"macro '{macro.name}' ({macro.location})"
    where += f' used on line {number} of "{outer.dump_name}"'
    used_at = (SourceLine(*outer.place(number)), *outer.used_at)
    source = LineSource(where, lines)
    file.origins[source] = Origin(where, used_at, macro.places)
    file.stream.splice(source)


def undefine_macro(run: Reading, file: FileReading, args: str) -> None:
    """Forget a macro."""
    words = run.take(file, args, name="UndefMacro")
    if words is not None and run.macros.pop(lower_ascii(words[0]), None) is None:
        run.report("unknown-macro", file.at, f"there is no macro '{words[0]}'", "remove the line")


def miss_module(run: Reading, file: FileReading, args: str) -> None:
    """Note that macros are used without mod_macro."""
    run.report(
        "macro-not-loaded",
        file.at,
        f"mod_macro is not loaded, so httpd does not know this line: {args}",
        "load macro_module before it (a2enmod macro)",
    )


def miss_module_for_definition(run: Reading, file: FileReading, args: str) -> None:
    """Pass over a definition that httpd would take for an unknown section."""
    miss_module(run, file, args)
    if _read_body(file) is None:
        run.report_unclosed(file, "Macro", file.at)
