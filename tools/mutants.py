"""The small changes of a module that its tests ought to notice."""

from __future__ import annotations

import ast
import copy
import dataclasses
import difflib
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Any

EXCUSE = re.compile(r"#\s*mutate: ok\b\W*(.*)")

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.MatMult: ast.Mult,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NEGATED_BY_OPERATOR = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
DIFF_HEADERS = ("---", "+++", "@@ ")
NOT_MUTATED = {"annotation", "returns", "decorator_list", "type_params"}
"""Fields of nodes that say something to readers and checkers only."""


class NoVerdictError(Exception):
    """The tests cannot be used to judge; the message says why."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    line: int
    source: str
    """The whole module, without its comments."""
    diff: str
    """The lines that differ, before and after."""
    excuse: str | None
    """What the comment on its line says, if there is one."""


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of a module, from the top to the bottom.

    Raises:
        NoVerdictError: An excuse has no reason.
    """
    tree = ast.parse(source)
    before = ast.unparse(tree)
    excuses = _excuses(source)
    for parent, field, index, node in _places(tree):
        for spot, variant in _variants(node):
            _put(parent, field, index, variant)
            after = ast.unparse(tree)
            _put(parent, field, index, node)
            lines = range(spot.lineno, spot.end_lineno + 1)
            excuse = next((excuses[at] for at in lines if at in excuses), None)
            yield Mutant(spot.lineno, after, _diff(before, after), excuse)


def _places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """The nodes below a node, each with the field of its parent that holds it."""
    for field, value in ast.iter_fields(node):
        if field in NOT_MUTATED:
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST) and not _is_for_checkers(child):
                yield node, field, index, child
                yield from _places(child)


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _is_for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "__name__ == '__main__'",
    )


def _variants(node: ast.AST) -> Iterator[tuple[Any, ast.AST]]:
    """Copies of a node with one change each, and the node that has the change's lines.

    The copies share their children.
    """
    match node:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp():
            yield node, _with(node, op=OPERATORS[type(node.op)]())
        case ast.Compare(ops=ops):
            for at, op in enumerate(ops):
                changed = [*ops[:at], OPERATORS[type(op)](), *ops[at + 1 :]]
                yield node, _with(node, ops=changed)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield node, operand
        case ast.Constant(value=bool(value)):
            yield node, _with(node, value=not value)
        case ast.Constant(value=int(value) | float(value)):
            yield node, _with(node, value=value + 1)
        case ast.Return(value=ast.expr() as result) if ast.unparse(result) != "None":
            yield node, _with(node, value=ast.Constant(None))
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not _is_negated_elsewhere(test):
                yield test, _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=ifs):
            for at, test in enumerate(ifs):
                if not _is_negated_elsewhere(test):
                    negated = ast.UnaryOp(ast.Not(), test)
                    yield test, _with(node, ifs=[*ifs[:at], negated, *ifs[at + 1 :]])


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_negated_elsewhere(test: ast.expr) -> bool:
    """Whether a change inside a condition is the condition's negation."""
    match test:
        case ast.Compare(ops=[op]):
            return isinstance(op, NEGATED_BY_OPERATOR)
        case ast.UnaryOp(op=ast.Not()) | ast.Constant(value=bool()):
            return True
    return False  # mutate: ok None is as false


def _excuses(source: str) -> dict[int, str]:
    """The reasons in `# mutate: ok` comments, by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and (match := EXCUSE.match(token.string)):
            if not match[1]:
                raise NoVerdictError(f"line {token.start[0]}: an excuse needs a reason")
            found[token.start[0]] = match[1]
    return found


def _diff(before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), lineterm="", n=0
    )
    return "\n".join(f"    {line}" for line in lines if line[:3] not in DIFF_HEADERS)
