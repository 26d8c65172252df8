"""Refusals, and what they share: how much is in a value, and which characters."""

from __future__ import annotations

import math
from typing import Any

from api.problems import Problem


def refuse(code: str, detail: str, **facts: Any) -> Problem:
    """A 400."""
    return Problem(400, code, detail, **facts)


def check_text(value: str, field: str) -> None:
    """No NUL, no half characters."""
    if "\0" in value or (not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise refuse("INVALID_TEXT", f"{field} holds a character that is not allowed", field=field)


def measure(value: Any, most: int, too_many: Problem) -> int:
    """The depth; without recursion, so that no input exhausts the stack. Raises `too_many` as soon as there are more members."""
    members = deepest = 0
    pending = [(value, 1)]
    while pending:
        one, depth = pending.pop()
        deepest = max(deepest, depth)
        children = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        members += len(children)
        if members > most:
            raise too_many
        pending += [(child, depth + 1) for child in children if isinstance(child, dict | list)]
        if isinstance(one, dict):
            for key in one:
                check_text(str(key), "body")
        for child in children:
            if isinstance(child, str):
                check_text(child, "body")
            elif isinstance(child, float) and not math.isfinite(child):
                raise refuse("INVALID_NUMBER", "a number that is not finite")
    return deepest
