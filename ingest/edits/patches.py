"""Changes that say what differs: JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396), bounded. Pure.

What is passed in was looked at by `ingest.sanitise.check_content`, so that it does not nest too deep.
"""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from ingest.errors import EditRefused
from ingest.model import JSON

_OPERATIONS = frozenset({"add", "remove", "replace", "move", "copy", "test"})
#: Members, counted at any depth, that a document may have while it is being patched: `copy` can double it with every operation.
MAX_MEMBERS = 200_000


def merged(document: Any, patch: Any) -> Any:
    """The document after a merge patch; null removes a member. Neither is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def patched(document: JSON, operations: Any, max_operations: int) -> Any:
    """The document after all operations, in order. None is carried out unless all can be; neither argument is changed.

    Raises:
        EditRefused: INVALID_PATCH (400), PATCH_TOO_LONG (400), PATCH_TEST_FAILED (409), PATCH_CONFLICT (409: a place is not there);
            `operation` counts from 0.
    """
    if not isinstance(operations, list):
        raise EditRefused("INVALID_PATCH", "a JSON Patch is a list of operations")
    if len(operations) > max_operations:
        raise EditRefused(
            "PATCH_TOO_LONG",
            f"a patch has at most {max_operations} operations",
            limit=max_operations,
            actual=len(operations),
        )
    result: Any = document
    members = _members(document)
    for number, operation in enumerate(operations):
        one = _operation(operation, number)
        members += _growth(result, operation)
        if members > MAX_MEMBERS:
            raise _refusal(
                "PATCH_TOO_LONG", number, "the document grows too large while it is patched", 400, limit=MAX_MEMBERS
            )
        # The first operation is carried out on a copy, which is ours from then on.
        result = _applied(one, result, number, in_place=number > 0)
    return result


def _operation(operation: Any, number: int) -> jsonpatch.JsonPatch:
    """One operation, looked at as far as that is possible without a document."""
    kind = operation.get("op") if isinstance(operation, dict) else None
    if not isinstance(kind, str) or kind not in _OPERATIONS:
        raise _refusal("INVALID_PATCH", number, f"an operation is one of {', '.join(sorted(_OPERATIONS))}", 400)
    needed = ["path", *(["from"] if kind in ("move", "copy") else [])]
    for name in needed:
        text = operation.get(name)
        if not isinstance(text, str) or not _is_pointer(text):
            raise _refusal("INVALID_PATCH", number, f"{name} is a JSON pointer", 400, member=name)
    if kind in ("add", "replace", "test") and "value" not in operation:
        raise _refusal("INVALID_PATCH", number, f"{kind} has a value", 400, member="value")
    return jsonpatch.JsonPatch([operation])


def _is_pointer(text: str) -> bool:
    try:
        jsonpointer.JsonPointer(text)
    except jsonpointer.JsonPointerException:
        return False
    return True


def _growth(document: Any, operation: JSON) -> int:
    """How many members an operation may add."""
    match operation["op"]:
        case "add" | "replace":
            return 1 + _members(operation["value"])
        case "copy":
            source = jsonpointer.resolve_pointer(document, operation["from"], None)
            return 1 + _members(source)
        case _:
            return 0


def _applied(patch: jsonpatch.JsonPatch, document: Any, number: int, *, in_place: bool) -> Any:
    try:
        return patch.apply(document, in_place=in_place)
    except jsonpatch.JsonPatchTestFailed:
        raise _refusal("PATCH_TEST_FAILED", number, "the value is another one", 409) from None
    except (
        jsonpatch.JsonPatchConflict,
        jsonpointer.JsonPointerException,
        jsonpatch.InvalidJsonPatch,
        TypeError,
        RecursionError,
    ):
        raise _refusal(
            "PATCH_CONFLICT", number, "there is no such place in the document, or nothing can be put there", 409
        ) from None


def _refusal(code: str, number: int, why: str, status: int, **facts: Any) -> EditRefused:
    return EditRefused(code, f"operation {number}: {why}", status=status, operation=number, **facts)


def _members(value: Any) -> int:
    """Members of all objects and elements of all lists in a value, at any depth."""
    number, pending = 0, [value]
    while pending:
        one = pending.pop()
        children = list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        number += len(children)
        pending += [child for child in children if isinstance(child, dict | list)]
    return number
