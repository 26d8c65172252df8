"""Items written through the STAC API: made, read, changed and deleted, each with its event, and refused where they should be."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.api.editing import OWN, Editor, collection, is_problem, item

ITEMS = f"/collections/{OWN}/items"
MERGE, PATCH = {"Content-Type": "application/merge-patch+json"}, {"Content-Type": "application/json-patch+json"}
TRANSACTIONS = (
    "https://api.stacspec.org/v1.0.0/ogcapi-features/extensions/transaction",
    "https://api.stacspec.org/v1.0.0/collections/extensions/transaction",
)


def without_links(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "links"}


@pytest.mark.parametrize("assets", [1, 40], ids=["small", "packed"])
def test_an_item_is_made_read_changed_and_deleted(editor: Editor, assets: int) -> None:
    name = f"life-{assets}"
    made = editor.client.post(ITEMS, json=item(name, assets=assets))
    assert made.status_code == 201, made.text
    assert made.headers["content-type"] == "application/geo+json"
    assert made.headers["location"] == f"{editor.url}/stac{ITEMS}/{name}"
    read = editor.nobody.get(made.headers["location"])
    assert (read.content, read.headers["etag"]) == (made.content, made.headers["etag"])
    assert without_links(read.json()) == without_links(item(name, assets=assets))

    changed = item(name, assets=assets, **{"eo:cloud_cover": 3, "new": "value"})
    assert editor.client.put(f"{ITEMS}/{name}", json=changed).status_code == 204
    after_put = editor.nobody.get(f"{ITEMS}/{name}")
    assert without_links(after_put.json()) == without_links(changed)
    assert after_put.headers["etag"] != read.headers["etag"]

    patched = editor.client.patch(f"{ITEMS}/{name}", json={"properties": {"new": None, "more": [1, 2]}}, headers=MERGE)
    assert patched.status_code == 204
    after_patch = editor.nobody.get(f"{ITEMS}/{name}")
    assert after_patch.headers["etag"] == patched.headers["etag"]
    assert "new" not in after_patch.json()["properties"]
    operations = [
        {"op": "test", "path": "/properties/more/0", "value": 1},
        {"op": "replace", "path": "/properties/datetime", "value": "2027-01-01T00:00:00Z"},
        {"op": "move", "from": "/properties/more", "path": "/properties/moved"},
    ]
    assert editor.client.patch(f"{ITEMS}/{name}", json=operations, headers=PATCH).status_code == 204
    properties = editor.nobody.get(f"{ITEMS}/{name}").json()["properties"]
    assert properties == {"datetime": "2027-01-01T00:00:00Z", "eo:cloud_cover": 3, "moved": [1, 2]}
    found = editor.nobody.get("/search", params={"ids": name, "datetime": "2027-01-01T00:00:00Z"}).json()
    assert [one["id"] for one in found["features"]] == [name]

    assert editor.client.delete(f"{ITEMS}/{name}").status_code == 204
    is_problem(editor.nobody.get(f"{ITEMS}/{name}"), 404, "NOT_FOUND")
    assert editor.client.delete(f"{ITEMS}/{name}").status_code == 204
    assert [kind for kind, _ in editor.events(OWN, name)] == ["CREATE", "UPDATE", "UPDATE", "UPDATE", "DELETE"]
    assert {actor for _, actor in editor.events(OWN, name)} == {"user:token"}


@pytest.mark.parametrize("assets", [1, 40], ids=["small", "packed"])
def test_what_is_read_and_put_back_is_no_change(editor: Editor, assets: int) -> None:
    name = f"same-{assets}"
    document = item(name, assets=assets)
    document["properties"] = {
        "datetime": None, "start_datetime": "2026-05-01T10:00:00Z", "end_datetime": "2026-05-02T10:00:00Z",
    }  # fmt: skip
    editor.client.post(ITEMS, json=document)
    read = editor.nobody.get(f"{ITEMS}/{name}")
    assert editor.client.put(f"{ITEMS}/{name}", json=read.json()).status_code == 204
    assert editor.client.patch(f"{ITEMS}/{name}", json={}, headers=MERGE).status_code == 204
    assert editor.client.patch(f"{ITEMS}/{name}", json=[], headers=PATCH).status_code == 204
    assert editor.nobody.get(f"{ITEMS}/{name}").content == read.content
    assert editor.events(OWN, name) == [("CREATE", "user:token")]


def test_the_path_fills_in_what_the_body_leaves_out(editor: Editor) -> None:
    document = {
        name: value for name, value in item("filled").items() if name not in ("collection", "links", "assets", "bbox")
    }
    made = editor.client.post(ITEMS, json=document).json()
    assert (made["collection"], made["bbox"], made["assets"]) == (OWN, [16, 48, 17, 49], {})
    del document["id"]
    assert editor.client.put(f"{ITEMS}/filled", json=document).status_code == 204
    assert (
        editor.client.patch(f"{ITEMS}/filled", json={"id": None, "collection": None}, headers=MERGE).status_code == 204
    )
    assert editor.nobody.get(f"{ITEMS}/filled").json()["id"] == "filled"


def test_path_and_body_agree(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("agreed"))
    is_problem(editor.client.post(ITEMS, json=item("x", within="another")), 400, "COLLECTION_MISMATCH")
    is_problem(editor.client.put(f"{ITEMS}/agreed", json=item("x")), 400, "ID_MISMATCH")
    is_problem(editor.client.put(f"{ITEMS}/agreed", json=item("agreed", within="x")), 400, "COLLECTION_MISMATCH")
    is_problem(editor.client.patch(f"{ITEMS}/agreed", json={"id": "x"}, headers=MERGE), 400, "ID_MISMATCH")
    rename = [{"op": "replace", "path": "/collection", "value": "x"}]
    is_problem(editor.client.patch(f"{ITEMS}/agreed", json=rename, headers=PATCH), 400, "COLLECTION_MISMATCH")


def test_what_prefers_the_representation_gets_it(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("preferred"))
    prefer = {"Prefer": "respond-async, return=representation"}
    for answer in (
        editor.client.put(f"{ITEMS}/preferred", json=item("preferred", a=1), headers=prefer),
        editor.client.patch(f"{ITEMS}/preferred", json={"properties": {"a": 2}}, headers=MERGE | prefer),
    ):
        assert (answer.status_code, answer.headers["preference-applied"]) == (200, "return=representation")
    read = editor.nobody.get(f"{ITEMS}/preferred")
    assert (read.content, read.headers["etag"]) == (answer.content, answer.headers["etag"])


def test_an_item_collection_is_stored_whole_or_not_at_all(editor: Editor) -> None:
    both = {"type": "FeatureCollection", "features": [item("many-1"), item("many-2")]}
    made = editor.client.post(ITEMS, json=both)
    assert (made.status_code, made.content, "location" in made.headers) == (201, b"", False)
    assert editor.nobody.get(f"{ITEMS}/many-2").status_code == 200
    third = {"type": "FeatureCollection", "features": [item("many-3"), item("many-1")]}
    assert is_problem(editor.client.post(ITEMS, json=third), 409, "ITEM_EXISTS")["ids"] == ["many-1"]
    bad = item("many-4")
    bad["geometry"]["coordinates"][0].pop()
    wrong = {"type": "FeatureCollection", "features": [item("many-3"), bad]}
    errors = is_problem(editor.client.post(ITEMS, json=wrong), 400, "INVALID_ITEMS")["errors"]
    assert [(one["number"], one["id"], one["code"]) for one in errors] == [(1, "many-4", "INVALID_GEOMETRY")]
    twice = {"type": "FeatureCollection", "features": [item("many-3"), item("many-3")]}
    is_problem(editor.client.post(ITEMS, json=twice), 400, "ID_TWICE")
    is_problem(editor.nobody.get(f"{ITEMS}/many-3"), 404, "NOT_FOUND")
    assert editor.events(OWN, "many-3") == []


def test_what_is_there_is_not_made_again_and_what_is_not_is_not_changed(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("once"))
    is_problem(editor.client.post(ITEMS, json=item("once")), 409, "ITEM_EXISTS")
    for answer in (
        editor.client.put(f"{ITEMS}/never", json=item("never")),
        editor.client.patch(f"{ITEMS}/never", json={}, headers=MERGE),
        editor.client.post("/collections/none/items", json=item("x", within="none")),
        editor.client.put("/collections/none/items/x", json=item("x", within="none")),
        editor.client.delete("/collections/none/items/x"),
    ):
        is_problem(answer, 404, "NOT_FOUND")


def test_nobody_writes_without_the_token_and_nothing_of_a_body_is_read(editor: Editor) -> None:
    bodies: list[tuple[str, str]] = [
        ("POST", ITEMS), ("PUT", f"{ITEMS}/x"), ("PATCH", f"{ITEMS}/x"), ("DELETE", f"{ITEMS}/x"), ("POST", "/collections"),
        ("PUT", f"/collections/{OWN}"), ("PATCH", f"/collections/{OWN}"), ("DELETE", f"/collections/{OWN}"),
        ("POST", f"/collections/{OWN}/bulk_items"),
    ]  # fmt: skip
    for method, path in bodies:
        for credential in (None, "Bearer wrong", "Basic dXNlcjpw"):
            headers = {"Authorization": credential} if credential else {}
            answer = editor.nobody.request(method, path, content=b"{" * 10_000_000, headers=headers)
            is_problem(answer, 401, "TOKEN_INVALID" if credential else "TOKEN_REQUIRED")
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_browser_is_told_that_it_may(editor: Editor) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        asked = {
            "Origin": "https://app.example.org",
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,if-match,content-type,prefer",
        }
        answer = editor.nobody.options(f"{ITEMS}/x", headers=asked)
        assert answer.status_code == 200
        assert method in answer.headers["access-control-allow-methods"]
        assert "if-match" in answer.headers["access-control-allow-headers"]
    exposed = editor.nobody.get("/collections", headers={"Origin": "https://app.example.org"}).headers
    assert {"ETag", "Location"} <= set(exposed["access-control-expose-headers"].split(", "))


def test_counts_are_new_after_a_change(editor: Editor) -> None:
    search = {"collections": [OWN], "ids": ["counted"], "limit": 1}
    assert editor.nobody.post("/search", json=search).json()["numberMatched"] == 0
    editor.client.post(ITEMS, json=item("counted"))
    assert editor.nobody.post("/search", json=search).json()["numberMatched"] == 1


def test_transactions_are_declared_and_described(editor: Editor) -> None:
    assert set(TRANSACTIONS) <= set(editor.nobody.get("/conformance").json()["conformsTo"])
    assert set(TRANSACTIONS) <= set(editor.nobody.get("/").json()["conformsTo"])
    paths = editor.nobody.get("/api").json()["paths"]
    assert set(paths["/collections/{collection_id}/items/{item_id}"]) >= {"get", "put", "patch", "delete"}
    assert set(paths["/collections/{collection_id}"]) >= {"get", "put", "patch", "delete"}
    assert "post" in paths["/collections/{collection_id}/bulk_items"]
    body = paths["/collections/{collection_id}/items"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "Item" in orjson.dumps(body).decode()


def test_a_private_collection_does_not_exist_for_others(editor: Editor) -> None:
    hidden = "hidden-products"
    editor.client.post("/collections", json=collection(hidden))
    editor.rows(
        "insert into federator.collection_access (collection_id, visibility, owner) values (%s, 'private', 'user:o') returning 1",
        hidden,
    )
    path = f"/collections/{hidden}/items"
    assert editor.client.post(path, json=item("secret", within=hidden)).status_code == 201
    assert editor.client.patch(f"{path}/secret", json={"properties": {"a": 1}}, headers=MERGE).status_code == 204
    for answer in (editor.nobody.get(f"{path}/secret"), editor.nobody.get(f"/collections/{hidden}")):
        is_problem(answer, 404, "NOT_FOUND")
    assert editor.nobody.get("/search", params={"ids": "secret"}).json()["features"] == []


def test_who_may_read_an_item_stays_when_it_is_changed(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("guarded"))
    editor.rows("update pgstac.items set private = '{\"readers\": [\"user:o\"]}' where id = 'guarded' returning 1")
    assert editor.client.put(f"{ITEMS}/guarded", json=item("guarded", changed=True)).status_code == 204
    assert editor.client.get(f"{ITEMS}/guarded").json()["properties"]["changed"] is True
    is_problem(editor.nobody.get(f"{ITEMS}/guarded"), 404, "NOT_FOUND")


def test_deleting_an_item_whose_links_lead_both_ways_to_one_other_writes_that_once(editor: Editor) -> None:
    rels = ("predecessor-version", "successor-version")
    for item_id, other in (("knot~v1", "knot"), ("knot", "knot~v1")):
        links = [{"rel": rel, "href": f"collections/{OWN}/items/{other}"} for rel in rels]
        answer = editor.client.post(f"/collections/{OWN}/items", json=item(item_id, assets=40) | {"links": links})
        assert answer.status_code == 201, answer.text
    answer = editor.client.delete(f"/collections/{OWN}/items/knot")
    assert answer.is_success, answer.text
    left = editor.client.get(f"/collections/{OWN}/items/knot~v1").raise_for_status().json()
    assert not {link["rel"] for link in left["links"]} & set(rels)
    assert [kind for kind, _ in editor.events(OWN, "knot~v1")] == ["CREATE", "UPDATE"]
