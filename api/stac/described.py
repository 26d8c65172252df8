"""The API's description says what is really answered: problems, their statuses, tags, media types, who may write. Pure.

stac-fastapi and FastAPI describe what they would answer: 422 with a body of their own, 200 where a change has no body.
"""

from __future__ import annotations

from typing import Any

from api.stac.export import PARQUET

JSON = dict[str, Any]

_READS, _WRITES = ("get",), ("put", "patch", "delete")
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_SCHEMAS: JSON = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457, with the members of STAC's errors. Further members are facts for programs.",
        "required": ["type", "title", "status", "detail", "code", "description"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "description": "Stable; docs/stac-api.md and docs/transactions.md list them."},
            "description": {"type": "string"},
        },
    }
}
_RESPONSES: JSON = {
    "Problem": {
        "description": "Why it is not answered",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
    "NotModified": {"description": "What the client has is right"},
}
_TAG = {"ETag": {"description": "Of this content", "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "Where it is", "schema": {"type": "string", "format": "uri"}}}
_PARQUET = {PARQUET: {"schema": {"type": "string", "format": "binary"}}}
_FORMAT: JSON = {
    "name": "f", "in": "query", "required": False, "schema": {"type": "string"},
    "description": "`parquet` asks for GeoParquet, as the media type does; anything else for GeoJSON.",
}  # fmt: skip
#: The way of OGC API - Features (part 1, 7.15.3) to say that other parameters are passed over.
_OTHERS: JSON = {
    "name": "others", "in": "query", "required": False, "style": "form", "explode": True,
    "schema": {"type": "object", "additionalProperties": True}, "description": "Other parameters say nothing.",
}  # fmt: skip
_IF_MATCH: list[JSON] = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("If-Match", "Tags of what may be changed; anything else is 412."),
        ("If-None-Match", "`*`: only when there is nothing yet."),
    )
]


def as_answered(document: JSON) -> JSON:
    """Return a description of OpenAPI with the answers that are given."""
    components = dict(document.get("components") or {})
    components["schemas"] = {**(components.get("schemas") or {}), **_SCHEMAS}
    components["responses"] = _RESPONSES
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    paths = {
        path: {method: _operation(path, method, one) for method, one in operations.items()}
        for path, operations in document["paths"].items()
    }
    return {**document, "paths": paths, "components": components}


def _operation(path: str, method: str, one: JSON) -> JSON:
    responses = {status: answer for status, answer in one["responses"].items() if status != "422"}
    parameters = list(one.get("parameters") or [])
    told: JSON = {}
    if method in _READS:
        responses |= _read(path, responses)
        parameters += [_FORMAT, _OTHERS] if _is_page(path) else [_OTHERS]
    elif path.endswith("/search"):
        responses["200"] = _with_parquet(responses["200"])
    elif method in _WRITES or path.endswith(("/collections", "/items", "/bulk_items")):
        responses = _write(path, method, responses)
        parameters += _IF_MATCH if method in _WRITES else []
        told["security"] = [{"bearer": []}]
    responses["default"] = _PROBLEM
    return {**one, **told, **({"parameters": parameters} if parameters else {}), "responses": responses}


def _is_page(path: str) -> bool:
    return path.endswith(("/search", "/items"))


def _read(path: str, responses: JSON) -> JSON:
    answer = responses["200"]
    if path.rsplit("/", 1)[-1].endswith(("queryables", "sortables")):
        content = answer.get("content") or {}
        answer = {**answer, "content": {"application/schema+json": next(iter(content.values()), {})}}
    elif _is_page(path):
        answer = _with_parquet(answer)
    found: JSON = {"200": answer, "400": _PROBLEM}
    if "/aggregate" not in path and "/_mgmt" not in path:
        found |= {"200": {**answer, "headers": _TAG}, "304": {"$ref": "#/components/responses/NotModified"}}
    if "{" in path:
        found["404"] = _PROBLEM
    if path.endswith("/items/{item_id}"):
        found["410"] = _PROBLEM
    return found


def _with_parquet(answer: JSON) -> JSON:
    return {**answer, "content": {**(answer.get("content") or {}), **_PARQUET}}


def _write(path: str, method: str, responses: JSON) -> JSON:
    """Changes answer 204, or with `Prefer: return=representation` the document."""
    media_type = "application/geo+json" if path.endswith(("{item_id}", "/items")) else "application/json"
    content = (responses.get("200") or responses.get("201") or {}).get("content") or {}
    schema: JSON = content.get(media_type) or next(iter(content.values()), {})
    found: JSON = dict.fromkeys(("400", "401", "403", "404", "409", "413", "415"), _PROBLEM)
    if path.endswith("/bulk_items"):
        return {**responses, **found}
    if method == "post":
        made = {"description": "Made", "content": {media_type: schema}, "headers": _TAG | _LOCATION}
        return {"201": made, **found}
    found |= {"204": {"description": "Done", "headers": _TAG if method == "patch" else {}}, "412": _PROBLEM}
    if method == "delete":
        return {status: answer for status, answer in found.items() if status not in ("413", "415", "400")}
    return {"200": {"description": "Done", "content": {media_type: schema}, "headers": _TAG}, **found}
