"""Band arithmetic that callers write: bounded before rio-tiler gives it to numexpr. Pure.

rio-tiler 9 parses each block with `ast`, takes names for bands and lets numexpr look up what is left in the caller's globals; numexpr also
knows functions that reduce an array to one number, and texts. Here only bands, finite numbers and functions of single pixels pass.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Final

from api.problems import Problem

MOST_CHARACTERS: Final = 500
#: Results of one expression, divided by `;`.
MOST_BLOCKS: Final = 4
MOST_NODES: Final = 120
MOST_DEPTH: Final = 20
_BAND: Final = re.compile(r"b[1-9]\d{0,2}", re.IGNORECASE)
_LARGEST: Final = 1e30
_FUNCTIONS: Final = frozenset({
    "where", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "log", "log10", "log1p", "exp",
    "expm1", "sqrt", "abs", "floor", "ceil",
})  # fmt: skip
_NODES: Final = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Constant, ast.Name, ast.Call, ast.Load, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_REFUSED: Final = (ast.Not, ast.MatMult, ast.LShift, ast.RShift, ast.Is, ast.IsNot, ast.In, ast.NotIn)


def check_expression(text: str) -> str:
    """Return an expression that may be evaluated.

    Raises:
        Problem: 400 INVALID_EXPRESSION.
    """
    if not text.isascii() or len(text) > MOST_CHARACTERS:
        raise _refused(f"it has at most {MOST_CHARACTERS} characters, of ASCII")
    blocks = [block.strip() for block in text.split(";") if block.strip()]
    if not 0 < len(blocks) <= MOST_BLOCKS:
        raise _refused(f"it has one to {MOST_BLOCKS} results, divided by ';'")
    for block in blocks:
        _check_block(block)
    return ";".join(blocks)


def _check_block(block: str) -> None:
    if _depth(block) > MOST_DEPTH:
        raise _refused(f"it nests at most {MOST_DEPTH} brackets")
    try:
        tree = ast.parse(block, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _refused("it cannot be read") from None
    nodes = list(ast.walk(tree))
    if len(nodes) > MOST_NODES:
        raise _refused(f"it has at most {MOST_NODES} parts")
    if not any(isinstance(node, ast.Name) and _BAND.fullmatch(node.id) for node in nodes):
        raise _refused("it names bands as b1, b2")
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    for node in nodes:
        _check_node(node, is_function=any(node is one for one in functions))


def _check_node(node: ast.AST, *, is_function: bool) -> None:
    if not isinstance(node, _NODES) or isinstance(node, _REFUSED):
        raise _refused(f"it is of numbers, bands, operators and functions, not {type(node).__name__}")
    if isinstance(node, ast.Call) and (node.keywords or not isinstance(node.func, ast.Name)):
        raise _refused("a function takes numbers and bands")
    if isinstance(node, ast.Compare) and len(node.ops) != 1:
        raise _refused("a comparison has two sides")
    if isinstance(node, ast.Constant) and not _is_number(node.value):
        raise _refused("a number is finite and real")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not _is_small(node.right):
        raise _refused("a power is a number up to 16")
    if isinstance(node, ast.Name):
        known = node.id.lower() in _FUNCTIONS if is_function else _BAND.fullmatch(node.id) is not None
        if not known:
            raise _refused(f"there is no {node.id[:40]!r}")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= _LARGEST  # type: ignore[arg-type]


def _is_small(node: ast.AST) -> bool:
    """Whether a power is a constant: numexpr multiplies it out."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    return isinstance(node, ast.Constant) and _is_number(node.value) and abs(node.value) <= 16  # type: ignore[arg-type]


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        deepest = max(deepest, depth)
    return deepest


def _refused(why: str) -> Problem:
    return Problem(400, "INVALID_EXPRESSION", f"not an expression that is evaluated here: {why}", field="expression")
