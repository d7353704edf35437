"""The ways in which the code of one module can be made a little wrong, one at a time.

Rules: a mutant is one changed expression or one statement left out. Docstrings, annotations,
decorators and what is written to the log are no behaviour and stay as they are.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OTHER_WAY = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BOUNDARY = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_UNTOUCHED_CALLS = frozenset(
    {"getLogger", "debug", "info", "warning", "error", "assert_never", "TypeVar"}
)
_UNTOUCHED_FIELDS = frozenset({"annotation", "returns", "decorator_list", "type_comment"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    module: str
    path: Path
    number: int
    line: int
    statement: range
    """the lines of the statement up to the change; a test that runs it runs one of them"""
    kind: str
    change: str
    function: tuple[str, int] | None
    """name and first line of the outermost function that is changed; None: code of the module"""
    source: str
    """the line of the source that is changed, stripped: what names a mutant from day to day"""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.change}   | {self.source}"


@dataclass(slots=True)
class _Site:
    """A place in the tree, where a node may be replaced."""

    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    function: tuple[str, int] | None
    first_line: int

    def put(self, node: ast.AST) -> None:
        """Replace what stands here."""
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants_of(module: str, path: Path) -> tuple[Mutant, ...]:
    """Return every mutant of a module."""
    text = path.read_text()
    lines = text.splitlines()
    return tuple(
        Mutant(
            module=module,
            path=path,
            number=number,
            line=_line(site.node),
            statement=range(site.first_line, _end_line(site.node) + 1),
            kind=kind,
            change=_told(site.node, replacement),
            function=site.function,
            source=lines[_line(site.node) - 1].strip(),
        )
        for number, (site, kind, replacement) in enumerate(_changes(ast.parse(text)))
    )


def compile_mutant(mutant: Mutant) -> object:
    """Return the code of the module with this one change."""
    tree = ast.parse(mutant.path.read_text())
    for number, (site, _, replacement) in enumerate(_changes(tree)):
        if number == mutant.number:
            ast.copy_location(replacement, site.node)
            site.put(ast.fix_missing_locations(replacement))
            break
    return compile(tree, str(mutant.path), "exec", dont_inherit=True)


def _changes(tree: ast.Module) -> Iterator[tuple[_Site, str, ast.AST]]:
    for site in _sites(tree, None, "", 1):
        for kind, replacement in _replacements(site):
            yield site, kind, replacement


def _sites(
    node: ast.AST, function: tuple[str, int] | None, prefix: str, first_line: int
) -> Iterator[_Site]:
    if _is_untouched(node):
        return
    inside = function
    if isinstance(node, ast.ClassDef):
        prefix = f"{prefix}{node.name}."
    for name, value in ast.iter_fields(node):
        if name in _UNTOUCHED_FIELDS:
            continue
        if function is None and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # what defaults arguments have belongs to the module
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            inside = (f"{prefix}{node.name}", first) if name == "body" else None
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            begins = child.lineno if isinstance(child, ast.stmt) else first_line
            place = index if isinstance(value, list) else None
            yield _Site(node, name, place, child, inside, begins)
            yield from _sites(child, inside, prefix, begins)


def _is_untouched(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name in _UNTOUCHED_CALLS
        case ast.Raise(exc=ast.Call(func=ast.Name(id="AssertionError"))):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
        case _:
            return isinstance(node, ast.Import | ast.ImportFrom)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _replacements(site: _Site) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(site.node, ast.stmt):
        yield from _other_statements(site.node)
    else:
        yield from _other_expressions(site.node)
    if _is_condition(site):
        assert isinstance(site.node, ast.expr)
        yield "condition", ast.UnaryOp(ast.Not(), copy.copy(site.node))


def _other_expressions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(ops=[op]):
            for table in (_OTHER_WAY, _BOUNDARY):
                if type(op) in table:
                    yield "comparison", _with(node, ops=[table[type(op)]()])
        case ast.BoolOp(op=op):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "boolean", _with(node, op=other)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "boolean", operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            yield "arithmetic", _with(node, op=_ARITHMETIC[type(op)]())
        case ast.Constant(value=value):
            yield from (("constant", ast.Constant(other)) for other in _other_values(value))
        case _:
            pass


def _other_statements(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Continue():
            yield "statement", ast.Break()
        case ast.Break():
            yield "statement", ast.Continue()
        case ast.Expr(value=value) if _is_untouched(value):
            pass
        case ast.Raise() if _is_untouched(node):
            pass
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield "statement", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", ast.Pass()
        case _:
            pass


def _is_condition(site: _Site) -> bool:
    """Say whether a bare value decides here; comparisons are changed as such."""
    if isinstance(site.node, ast.Compare | ast.BoolOp | ast.UnaryOp):
        return False
    return (site.field == "test" and not isinstance(site.parent, ast.Assert)) or (
        site.field == "ifs"
    )


def _other_values(value: object) -> Iterator[bool | int | float | str | bytes]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
        case str():
            yield f"XX{value}XX"
        case bytes():
            yield b"XX" + value + b"XX"
        case _:
            return


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 1))


def _end_line(node: ast.AST) -> int:
    return int(getattr(node, "end_lineno", None) or _line(node))


def _told(before: ast.AST, after: ast.AST) -> str:
    return f"{_source(before)} -> {_source(after)}"


def _source(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
