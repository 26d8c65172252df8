"""Whether CQL2 JSON is a predicate at all: something that is true or false of an item, every operator with as many arguments as it takes.

The cql2 package's own `validate()` compares with the whole JSON schema, which takes 40 ms; what this lets pass, the database still checks.
"""

from __future__ import annotations

from typing import Any

#: Operators on predicates -> most arguments; one is taken, as by the schema.
_LOGICAL = {"and": 1_000_000, "or": 1_000_000, "not": 1}
#: Operators whose value is true or false -> number of arguments (CQL2, 1.0, requirements 6 to 19).
_PREDICATES = {
    **dict.fromkeys(("=", "<>", "<", ">", "<=", ">=", "like", "in"), 2),
    "between": 3,
    "isnull": 1,
}
_SETS = ("s_", "t_", "a_")
#: Operators whose value is something else.
_VALUES = frozenset({"+", "-", "*", "/", "^", "%", "div", "casei", "accenti", "upper", "lower"})


def is_predicate(value: Any) -> bool:
    """True for a predicate. Depth must have been bounded before."""
    if isinstance(value, bool):
        return True
    if not isinstance(value, dict) or not isinstance(value.get("op"), str) or not isinstance(value.get("args"), list):
        return False
    op, args = value["op"].lower(), value["args"]
    if op in _LOGICAL:
        return 1 <= len(args) <= _LOGICAL[op] and all(map(is_predicate, args))
    if op == "between" and len(args) == 2:  # a draft of the standard has the bounds in a list
        return isinstance(args[1], list) and len(args[1]) == 2
    if op in _PREDICATES:
        return len(args) == _PREDICATES[op] and (op != "in" or isinstance(args[1], list))
    if op.startswith(_SETS):
        return len(args) == 2
    return op not in _VALUES  # a function
