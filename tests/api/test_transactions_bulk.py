"""Many items in one request: all or nothing, replaced when that is asked for, bounded, and in one transaction with their events."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.api.editing import OWN, Editor, collection, is_problem, item

BULK = f"/collections/{OWN}/bulk_items"
ITEMS = f"/collections/{OWN}/items"


def batch(*items: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"items": {one["id"]: one for one in items}, **members}


def test_many_items_are_stored_and_read_as_they_were_sent(editor: Editor) -> None:
    sent = [item(f"bulk-{number:04}", assets=1 + 30 * (number % 2)) for number in range(300)]
    answer = editor.client.post(BULK, json=batch(*sent))
    assert answer.json() == {"received": 300, "success": 300, "skipped": 0, "errors": []}, answer.text
    found = editor.nobody.get(ITEMS, params={"limit": 1000, "sortby": "id"}).json()["features"]
    own = [{name: value for name, value in one.items() if name != "links"} for one in found]
    assert own == [{name: value for name, value in one.items() if name != "links"} for one in sent]
    assert editor.events(OWN, "bulk-0299") == [("CREATE", "user:token")]


def test_upsert_replaces_and_insert_does_not(editor: Editor) -> None:
    editor.client.post(BULK, json=batch(item("up-1"), item("up-2")))
    again = batch(item("up-2", v=2), item("up-3", v=2))
    assert is_problem(editor.client.post(BULK, json=again), 409, "ITEM_EXISTS")["ids"] == ["up-2"]
    assert editor.nobody.get(f"{ITEMS}/up-3").status_code == 404
    assert editor.client.post(BULK, json={**again, "method": "upsert"}).json()["success"] == 2
    assert editor.nobody.get(f"{ITEMS}/up-2").json()["properties"]["v"] == 2
    assert [kind for kind, _ in editor.events(OWN, "up-2")] == ["CREATE", "UPDATE"]
    assert [kind for kind, _ in editor.events(OWN, "up-3")] == ["CREATE"]


def test_what_is_wrong_with_each_item_is_told_and_nothing_is_stored(editor: Editor) -> None:
    open_ring, when, other = item("open"), item("when"), item("other", within="another")
    open_ring["geometry"]["coordinates"][0][-1] = [16.5, 48.5]
    when["properties"]["datetime"] = "yesterday"
    body = batch(item("good"), open_ring, when, other)
    body["items"]["name"] = item("another-name")
    body["items"]["none"] = None
    errors = is_problem(editor.client.post(BULK, json=body), 400, "INVALID_ITEMS")["errors"]
    assert [(one["number"], one["id"], one["code"], one["place"]) for one in errors] == [
        (1, "open", "INVALID_GEOMETRY", "/geometry/coordinates/0/4"),
        (2, "when", "INVALID_DATETIME", "/properties/datetime"),
        (3, "other", "COLLECTION_MISMATCH", "/collection"),
        (4, "another-name", "ID_MISMATCH", "/id"),
        (5, None, "INVALID_ITEM", ""),
    ]
    assert editor.nobody.get(f"{ITEMS}/good").status_code == 404
    assert editor.rows("select count(*) from lineage.event_outbox where item_id in ('good', 'open')") == [(0,)]


@pytest.mark.parametrize(
    ("body", "code"),
    [([], "INVALID_BODY"), ({}, "INVALID_BODY"), ({"items": []}, "INVALID_BODY"), ({"items": {}, "method": "x"}, "INVALID_METHOD"),
     ({"items": {}, "method": ["insert"]}, "INVALID_METHOD"), (None, "INVALID_BODY")],
)  # fmt: skip
def test_other_bodies_are_refused(editor: Editor, body: Any, code: str) -> None:
    answer = editor.client.post(BULK, json=body, headers={"Content-Type": "application/json"})
    is_problem(answer, 400, code)


def test_nothing_at_all_is_stored_as_well(editor: Editor) -> None:
    assert editor.client.post(BULK, json={"items": {}}).json()["received"] == 0
    is_problem(editor.client.post("/collections/none/bulk_items", json={"items": {}}), 404, "NOT_FOUND")


def test_what_is_too_much_is_refused_before_the_database(editor: Editor) -> None:
    began = time.monotonic()
    is_problem(editor.client.post(BULK, content=b" " * (33 * 2**20)), 413, "BODY_TOO_LARGE")
    many = {"items": {str(number): None for number in range(10_001)}}
    assert is_problem(editor.client.post(BULK, json=many), 413, "TOO_MANY")["limit"] == 10_000
    is_problem(editor.client.put(f"{ITEMS}/x", content=b" " * (2**20 + 1)), 413, "BODY_TOO_LARGE")
    assert time.monotonic() - began < 5
    large = item("large", text="x" * 1_000_000)
    assert is_problem(editor.client.post(ITEMS, json=large), 413, "ITEM_TOO_LARGE")
    editor.client.post("/collections", json=collection("small"))
    assert is_problem(editor.client.patch("/collections/small", json={"x": "x" * 999_990}), 413, "COLLECTION_TOO_LARGE")


@pytest.mark.slow
def test_other_callers_are_served_while_many_items_are_looked_at(editor: Editor) -> None:
    """A batch must not hold the loop: someone who asks meanwhile gets an answer in a fraction of its time."""
    body = batch(*(item(f"slow-{number}", assets=20) for number in range(2000)))
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(editor.client.post(BULK, json=body).elapsed.total_seconds()))
    thread.start()
    waits: list[float] = []
    while thread.is_alive():
        waits.append(editor.nobody.get("/conformance").elapsed.total_seconds())
        time.sleep(0.01)
    thread.join()
    assert took[0] > 0
    assert sorted(waits)[len(waits) // 2] < took[0] / 4


def test_many_items_are_refused_as_few_are(editor: Editor) -> None:
    """More than one batch: those before the wrong one were in the database already, and go again."""
    sent = [item(f"batch-{number:04}") for number in range(250)]
    sent[240]["geometry"]["coordinates"][0][-1] = [16.5, 48.5]
    errors = is_problem(editor.client.post(BULK, json=batch(*sent)), 400, "INVALID_ITEMS")["errors"]
    assert [(one["number"], one["id"], one["code"]) for one in errors] == [(240, "batch-0240", "INVALID_GEOMETRY")]
    sent[240] = item("batch-0240")
    assert editor.rows("select count(*) from pgstac.items where starts_with(id, 'batch-')") == [(0,)]
    assert editor.client.post(BULK, json=batch(*sent[:200])).json()["success"] == 200
    assert is_problem(editor.client.post(BULK, json=batch(*sent[100:])), 409, "ITEM_EXISTS")["number"] == 100
    assert editor.client.post(BULK, json=batch(*sent[100:], method="upsert")).json()["success"] == 150
    assert editor.rows("select count(*) from pgstac.items where starts_with(id, 'batch-')") == [(250,)]
    assert [kind for kind, _ in editor.events(OWN, "batch-0150")] == ["CREATE", "UPDATE"]
    conditional = editor.client.post(BULK, json=batch(*sent), headers={"If-Match": '"x"'})
    is_problem(conditional, 409, "ITEM_EXISTS")
    is_problem(editor.client.post("/collections/none/bulk_items", json=batch(*sent)), 400, "INVALID_ITEMS")
