"""What the OpenAPI document says of answers is what comes: statuses, media types, headers."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from api.stac.described import as_answered
from tests.api.editing import OWN, Editor, collection, item

OPERATIONS = [
    ("GET", "/", "/", 200), ("GET", "/conformance", "/conformance", 200), ("GET", "/collections", "/collections", 200),
    ("GET", "/collections", "/collections?limit=0", 400), ("GET", "/collections/{collection_id}", f"/collections/{OWN}", 200),
    ("GET", "/collections/{collection_id}", "/collections/none", 404), ("GET", "/search", "/search", 200),
    ("GET", "/search", "/search?f=parquet", 200), ("GET", "/search", "/search?whatever=1", 200), ("GET", "/search", "/search?bbox=1", 400),
    ("GET", "/collections/{collection_id}/items", f"/collections/{OWN}/items", 200),
    ("GET", "/collections/{collection_id}/items", f"/collections/{OWN}/items?f=parquet", 200),
    ("GET", "/collections/{collection_id}/items/{item_id}", f"/collections/{OWN}/items/none", 404),
    ("GET", "/queryables", "/queryables", 200), ("GET", "/sortables", "/sortables", 200), ("GET", "/aggregate", "/aggregate", 200),
    ("GET", "/collections/{collection_id}/queryables", f"/collections/{OWN}/queryables", 200), ("GET", "/children", "/children", 200),
    ("GET", "/collections-queryables", "/collections-queryables", 200), ("GET", "/collections-sortables", "/collections-sortables", 200),
    ("GET", "/catalogs", "/catalogs", 200), ("GET", "/catalogs/{source_id}", "/catalogs/none", 404),
    ("GET", "/aggregations", "/aggregations", 200),
]  # fmt: skip


@pytest.fixture(scope="module")
def document(editor: Editor) -> dict[str, Any]:
    found: dict[str, Any] = editor.nobody.get("/api").json()
    return found


def assert_told(document: dict[str, Any], operation: str, path: str, answer: httpx.Response) -> None:
    told = document["paths"][path][operation.lower()]["responses"]
    assert "422" not in told
    assert str(answer.status_code) in told, (operation, path, answer.status_code, sorted(told))
    one = told[str(answer.status_code)]
    if "$ref" in one:
        one = document["components"]["responses"][one["$ref"].rsplit("/", 1)[-1]]
    if answer.content:
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in one["content"], (operation, path, kind, one)
    for name in one.get("headers", ()):
        assert name in answer.headers or "parquet" in answer.headers.get("content-type", ""), (operation, path, name)


@pytest.mark.parametrize(("operation", "path", "asked", "status"), OPERATIONS, ids=lambda one: str(one))
def test_answers_to_reads_are_those_that_are_described(
    editor: Editor, document: dict[str, Any], operation: str, path: str, asked: str, status: int
) -> None:
    answer = editor.nobody.request(operation, asked)
    assert answer.status_code == status, answer.text[:300]
    assert_told(document, operation, path, answer)
    if tag := answer.headers.get("etag"):
        assert_told(document, operation, path, editor.nobody.get(asked, headers={"If-None-Match": tag}))


def test_answers_to_writes_are_those_that_are_described(editor: Editor, document: dict[str, Any]) -> None:
    items, one, all_, bulk = (
        "/collections/{collection_id}/items", "/collections/{collection_id}/items/{item_id}", "/collections",
        "/collections/{collection_id}/bulk_items",
    )  # fmt: skip
    here = "/collections/{collection_id}"
    new, merge = item("told"), {"Content-Type": "application/merge-patch+json"}

    def tell(
        method: str, path: str, status: int, *, of: str = "told", by: httpx.Client = editor.client, **sent: Any
    ) -> None:
        asked = path.replace("{collection_id}", of if path == here else OWN).replace("{item_id}", of)
        answer = by.request(method, asked, **sent)
        assert answer.status_code == status, (method, asked, answer.status_code, answer.text[:300])
        assert_told(document, method, path, answer)

    tell("POST", items, 201, json=new)
    tell("POST", items, 409, json=new)
    tell("POST", items, 401, by=editor.nobody, json=new)
    tell("POST", items, 415, content=b"x", headers={"Content-Type": "text/plain"})
    tell("PUT", one, 204, json=new)
    tell("PUT", one, 200, json=new, headers={"Prefer": "return=representation"})
    tell("PUT", one, 412, json=new, headers={"If-Match": '"old"'})
    tell("PUT", one, 404, of="none", json=item("none"))
    tell("PATCH", one, 204, content=b'{"properties":{"gsd":3}}', headers=merge)
    tell("PATCH", one, 400, content=b"[", headers=merge)
    tell("DELETE", one, 204)
    tell("DELETE", one, 401, by=editor.nobody)
    tell("POST", bulk, 200, json={"items": {"told": new}, "method": "upsert"})
    tell("POST", bulk, 400, json={"items": {"other": new}})
    tell("POST", all_, 201, json=collection("told"))
    tell("POST", all_, 409, json=collection("told"))
    tell("PUT", here, 204, json=collection("told", title="Other"))
    tell("PATCH", here, 204, content=b'{"title":"Third"}', headers=merge)
    tell("DELETE", here, 204)


def test_the_description_says_who_may_write_and_that_other_parameters_are_passed_over(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, one in operations.items():
            is_write = method in ("put", "patch", "delete") or (
                method == "post" and not re.search(r"(search|aggregate|aggregations)$", path)
            )
            assert ("security" in one) == is_write, (method, path)
            if method == "get":
                assert any(part.get("name") == "others" for part in one["parameters"]), path


def test_what_is_described_twice_is_the_same(document: dict[str, Any]) -> None:
    stock = {"paths": {"/search": {"get": {"responses": {"200": {"description": "x"}, "422": {}}}}}}
    before = json.dumps(stock)
    assert as_answered(stock)["paths"]["/search"]["get"]["responses"].keys() >= {"200", "304", "400", "default"}
    assert json.dumps(stock) == before
