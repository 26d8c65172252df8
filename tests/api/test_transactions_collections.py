"""Collections written through the STAC API: seen at once on every route, with their events; those of the house are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.settings import DatabaseSettings
from tests.api.editing import Editor, collection, editor_on, is_problem, item

MERGE, PATCH = {"Content-Type": "application/merge-patch+json"}, {"Content-Type": "application/json-patch+json"}


def titles(editor: Editor) -> dict[str, str]:
    return {one["id"]: one.get("title") for one in editor.nobody.get("/collections").json()["collections"]}


def test_a_collection_is_made_changed_and_deleted_and_every_answer_is_new_at_once(editor: Editor) -> None:
    assert "rivers" not in titles(editor)
    made = editor.client.post("/collections", json=collection("rivers", keywords=["water"]))
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{editor.url}/stac/collections/rivers"
    read = editor.nobody.get("/collections/rivers")
    assert (read.content, read.headers["etag"]) == (made.content, made.headers["etag"])
    assert titles(editor)["rivers"] == "Own products"
    assert editor.nobody.get("/collections/rivers/queryables").status_code == 200

    assert editor.client.put("/collections/rivers", json=collection("rivers", title="Rivers")).status_code == 204
    assert titles(editor)["rivers"] == "Rivers"
    assert "keywords" not in editor.nobody.get("/collections/rivers").json()
    assert editor.client.patch("/collections/rivers", json={"title": "Lakes"}, headers=MERGE).status_code == 204
    assert titles(editor)["rivers"] == "Lakes"
    operations = [{"op": "add", "path": "/keywords", "value": ["ice"]}, {"op": "remove", "path": "/title"}]
    assert editor.client.patch("/collections/rivers", json=operations, headers=PATCH).status_code == 204
    assert titles(editor)["rivers"] is None

    items = [item(f"river-{number}", within="rivers", assets=number * 40) for number in range(3)]
    editor.client.post("/collections/rivers/items", json={"type": "FeatureCollection", "features": items})
    assert len(editor.nobody.get("/collections/rivers/items").json()["features"]) == 3
    assert editor.client.delete("/collections/rivers").status_code == 204
    assert "rivers" not in titles(editor)
    for path in ("", "/items", "/items/river-1", "/queryables"):
        is_problem(editor.nobody.get(f"/collections/rivers{path}"), 404, "NOT_FOUND")
    assert editor.nobody.get("/search", params={"collections": "rivers"}).json()["features"] == []
    kinds = [kind for kind, _ in editor.events("rivers", None)]
    assert kinds == ["CREATE", "UPDATE", "UPDATE", "UPDATE", "DELETE"]
    assert editor.events("rivers", "river-2") == [("CREATE", "user:token"), ("DELETE", "user:token")]
    assert editor.rows("select count(*) from federator.packed_item where collection = 'rivers'") == [(0,)]

    assert editor.client.post("/collections", json=collection("rivers")).status_code == 201
    assert editor.nobody.get("/collections/rivers/items").json()["features"] == []
    assert editor.client.post("/collections/rivers/items", json=items[2]).status_code == 201


def test_what_is_read_and_put_back_is_no_change(editor: Editor) -> None:
    editor.client.post(
        "/collections", json=collection("same", links=[{"rel": "license", "href": "https://example.org/l"}])
    )
    read = editor.nobody.get("/collections/same")
    assert editor.client.put("/collections/same", json=read.json()).status_code == 204
    assert editor.client.patch("/collections/same", json={}, headers=MERGE).status_code == 204
    assert editor.nobody.get("/collections/same").content == read.content
    assert editor.events("same", None) == [("CREATE", "user:token")]


def test_what_items_tell_of_a_collection_is_not_written_into_it(editor: Editor) -> None:
    editor.client.post("/collections", json=collection("told"))
    editor.client.post("/collections/told/items", json=item("told-1", within="told"))
    read = editor.nobody.get("/collections/told")
    assert read.json()["extent"]["spatial"]["bbox"] == [[16, 48, 17, 49]]
    assert editor.client.put("/collections/told", json=read.json()).status_code == 204
    assert editor.events("told", None) == [("CREATE", "user:token")]
    tag = {"If-Match": read.headers["etag"]}
    assert editor.client.patch("/collections/told", json={"title": "Told"}, headers=MERGE | tag).status_code == 204
    ((stored,),) = editor.rows("select content -> 'extent' from pgstac.collections where id = 'told'")
    assert stored == collection("told")["extent"]


def test_what_is_wrong_with_a_collection_is_told(editor: Editor) -> None:
    is_problem(editor.client.post("/collections", json=collection("own-products")), 409, "COLLECTION_EXISTS")
    is_problem(editor.client.put("/collections/none", json=collection("none")), 404, "NOT_FOUND")
    is_problem(editor.client.patch("/collections/none", json={}, headers=MERGE), 404, "NOT_FOUND")
    is_problem(editor.client.delete("/collections/none"), 404, "NOT_FOUND")
    is_problem(editor.client.put("/collections/own-products", json=collection("x")), 400, "ID_MISMATCH")
    is_problem(editor.client.post("/collections", json=collection("a/b")), 400, "INVALID_ID")
    is_problem(editor.client.post("/collections", json=[]), 400, "INVALID_COLLECTION")
    is_problem(
        editor.client.post("/collections", json=collection("x", stac_version="0.9.0")), 400, "STAC_VERSION_UNSUPPORTED"
    )
    missing = {name: value for name, value in collection("x").items() if name not in ("license", "extent")}
    errors = is_problem(editor.client.post("/collections", json=missing), 400, "INVALID_COLLECTION")["errors"]
    assert {one["place"] for one in errors} == {"/license", "/extent"}
    for extent in (
        {"spatial": {"bbox": [[0, 10, 1, 5]]}, "temporal": {"interval": [[None, None]]}},
        {"spatial": {"bbox": [[0, 0, 1000, 1]]}, "temporal": {"interval": [[None, None]]}},
        {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [["yesterday", None]]}},
        {"spatial": {"bbox": []}, "temporal": {"interval": []}},
        {"spatial": {"bbox": [[]]}, "temporal": {"interval": [[]]}},
        {"spatial": None, "temporal": None},
    ):
        answer = editor.client.post("/collections", json=collection("x", extent=extent))
        assert (answer.status_code, answer.json()["code"]) in ((400, "INVALID_EXTENT"), (400, "INVALID_COLLECTION"))


def test_a_collection_may_have_a_long_id(editor: Editor) -> None:
    assert editor.client.post("/collections", json=collection("x" * 512)).status_code == 201
    assert editor.client.delete(f"/collections/{'x' * 512}").status_code == 204


def test_collections_of_the_house_are_kept_by_their_files(editor: Editor) -> None:
    described = editor.nobody.get("/collections/sentinel-2-l2a").json()
    is_problem(editor.client.put("/collections/sentinel-2-l2a", json=described), 409, "COLLECTION_IS_KEPT")
    is_problem(editor.client.patch("/collections/sentinel-2-l2a", json={}, headers=MERGE), 409, "COLLECTION_IS_KEPT")
    is_problem(editor.client.delete("/collections/uploads"), 409, "COLLECTION_IS_KEPT")
    is_problem(editor.client.post("/collections", json=collection("landsat-c2-l1")), 409, "COLLECTION_IS_KEPT")
    assert editor.nobody.get("/collections/sentinel-2-l2a").json() == described


def test_a_collection_is_not_deleted_under_a_running_harvest(editor: Editor) -> None:
    editor.client.post("/collections", json=collection("harvested-now"))
    editor.rows(
        "insert into federator.harvest_run (source_id, collection_id, query_key) values ('s', 'harvested-now', '') returning 1"
    )
    is_problem(editor.client.delete("/collections/harvested-now"), 409, "HARVEST_RUNNING")
    editor.rows(
        "update federator.harvest_run set heartbeat_at = now() - interval '1 day' where collection_id = 'harvested-now' returning 1"
    )
    assert editor.client.delete("/collections/harvested-now").status_code == 204


@pytest.mark.slow
def test_who_has_switched_transactions_off_has_none(postgres: DatabaseSettings, template: str, tmp_path: Path) -> None:
    with editor_on(postgres, template, tmp_path, transactions=False) as editor:
        assert not any("transaction" in uri for uri in editor.client.get("/conformance").json()["conformsTo"])
        is_problem(editor.client.post("/collections", json=collection("x")), 405, "METHOD_NOT_ALLOWED")
        for method, path in (("PUT", "/collections/uploads"), ("DELETE", "/collections/uploads/items/x")):
            is_problem(editor.client.request(method, path, json={}), 405, "METHOD_NOT_ALLOWED")
        assert "post" not in editor.client.get("/api").json()["paths"]["/collections"]
