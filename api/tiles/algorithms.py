"""titiler's algorithms by name. Their parameters are those that they declare: pydantic would take any, also the output's data type."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import Query
from pydantic import ValidationError
from titiler.core.algorithm import algorithms
from titiler.core.algorithm.base import BaseAlgorithm

from api.problems import Problem

NAMES: Final = tuple(sorted(algorithms.list()))
_MOST: Final = 2000


def algorithm_of(
    algorithm: Annotated[Literal[NAMES] | None, Query(description="Algorithm name")] = None,  # type: ignore[valid-type]
    algorithm_params: Annotated[
        str | None, Query(description="Parameters of the algorithm, a JSON object", max_length=_MOST)
    ] = None,
) -> BaseAlgorithm | None:
    """What is made of the pixels once they are read; None: nothing.

    Raises:
        Problem: 400 INVALID_ALGORITHM.
    """
    if algorithm is None:
        return None
    kind = algorithms.get(algorithm)
    asked = _asked(algorithm_params)
    declared = {name for name in kind.model_fields if not name.startswith(("input_", "output_"))} - {
        "title",
        "description",
    }
    if not asked.keys() <= declared:
        raise _refused(f"parameters of {algorithm} are {', '.join(sorted(declared)) or 'none'}")
    try:
        return kind(**asked)
    except ValidationError:
        raise _refused(f"a parameter of {algorithm} is not in its range") from None


def _asked(text: str | None) -> dict[str, Any]:
    try:
        asked = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        asked = None
    if not isinstance(asked, dict) or not all(map(_is_plain, asked.values())):
        raise _refused("its parameters are a JSON object of numbers and texts")
    return asked


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int) or (isinstance(value, str) and len(value) < 100)


def _refused(why: str) -> Problem:
    return Problem(400, "INVALID_ALGORITHM", why, field="algorithm_params")
