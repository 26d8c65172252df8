"""The API's description in OpenAPI 3.0, which STAC API asks for; FastAPI writes 3.1. Pure but for the hook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from api.stac.described import as_answered

JSON = dict[str, Any]

VERSION = "3.0.3"
#: Members whose values are data and no schemas.
_DATA = frozenset({"example", "default", "enum"})
#: Members that hold schemas by names that are no keywords.
_BY_NAME = frozenset({"properties", "schemas", "paths", "responses", "parameters", "content"})
_NULL: JSON = {"type": "null"}


def describe_in_3_0(app: FastAPI) -> None:
    """Let the application describe itself in OpenAPI 3.0; made once, when it is asked for first."""
    stock = app.openapi

    def openapi() -> JSON:
        document: JSON = stock()
        if document["openapi"] != VERSION:
            document = app.openapi_schema = {**as_answered(as_3_0(document)), "openapi": VERSION}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def as_3_0(node: Any) -> Any:
    """Return a part of a description of 3.1 in the words of 3.0."""
    if isinstance(node, list):
        return [as_3_0(one) for one in node]
    if not isinstance(node, dict):
        return node
    found: JSON = {}
    for name, value in node.items():
        if name in _DATA:
            found[name] = value
        elif name in _BY_NAME and isinstance(value, dict):
            found[name] = {key: as_3_0(one) for key, one in value.items()}
        else:
            found.update(_member(name, value))
    if found.get("type") == "array" and "items" not in found:
        found["items"] = {}
    if "$ref" in found and len(found) > 1:  # in 3.0 nothing stands beside it
        found = {"allOf": [{"$ref": found.pop("$ref")}], **found}
    return found


def _member(name: str, value: Any) -> JSON:
    """A member of a schema, or of anything else where they are the same."""
    match name, value:
        case (("anyOf" | "oneOf"), list()) if _NULL in value:
            return _nullable(name, [as_3_0(one) for one in value if one != _NULL])
        case "$defs", dict():  # what they define stands where it is used too
            return {}
        case "type", "null":
            return {"nullable": True}
        case "type", list():
            return _nullable("anyOf", [{"type": one} for one in value if one != "null"], is_null="null" in value)
        case "const", _:
            return {"enum": [value]}
        case "examples", list():
            return {"example": value[0]} if value else {}
        case (("exclusiveMinimum" | "exclusiveMaximum"), int() | float()) if not isinstance(value, bool):
            return {name.removeprefix("exclusive").lower(): value, name: True}
        case "prefixItems", list():
            return {"items": _either([as_3_0(one) for one in value])}
    return {name: as_3_0(value)}


def _nullable(name: str, kinds: list[JSON], *, is_null: bool = True) -> JSON:
    more: Mapping[str, bool] = {"nullable": True} if is_null else {}
    if len(kinds) == 1:
        return {**({"allOf": kinds} if "$ref" in kinds[0] else kinds[0]), **more}
    return {name: kinds, **more}


def _either(kinds: list[JSON]) -> JSON:
    different = [one for place, one in enumerate(kinds) if one not in kinds[:place]]
    return different[0] if len(different) == 1 else {"anyOf": different}
