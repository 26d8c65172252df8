"""What items say of their lineage when they are asked for it, filters by it, and the proof that each item links to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from db.pools import open_pool
from db.settings import DatabaseSettings
from lineage import verify
from lineage.audit_claims import claim_faults
from lineage.events import Kind
from tests.api import editing
from tests.api.editing import ADMIN, OWN, editor_on, is_problem
from tests.api.test_lineage_graph import Site, own, registered
from tests.lineage.parentage import L1C, L2A, L2A_TILES

CHILD, TILE = L2A_TILES[5]
PARENT = "S2A_MSIL1C_20230821T221941_N0509_R029_T01KAB_20230822T005958"
SECRET = "closed-products"
RULES = ("lineage:status", "lineage:parent", "lineage:root_product")


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fields")
    with editor_on(postgres, template, folder) as editor:
        made = Site(editor, folder)
        for item in (CHILD, L2A, "plain", "old", "grandchild", "of-secret"):
            assert editor.client.post(f"/collections/{OWN}/items", json=editing.item(item)).status_code == 201
        assert editor.client.post("/collections", json=editing.collection(SECRET)).status_code == 201
        item = editing.item("hidden", SECRET)
        assert editor.client.post(f"/collections/{SECRET}/items", json=item).status_code == 201
        tile = f"<a><L1C_TILE_ID>{TILE}</L1C_TILE_ID></a>"
        told = made.http.post(f"/collections/{OWN}/items/{CHILD}/documents", headers=ADMIN, content=tile)
        assert told.status_code == 201
        run = {"id": "01890000-0000-7000-8000-000000000001", "state": "COMPLETE"}
        by_hash = {"rule": "R1/1", "assertion": "explicit", "confidence": 1.0}
        inputs = [{"name": CHILD, "collection": OWN, "item": CHILD, **by_hash}]
        hidden = [{"name": "hidden", "collection": SECRET, "item": "hidden", **by_hash}]
        made.settle(
            registered(L1C),
            replace(registered(L2A), collection=OWN),
            own("grandchild", Kind.CORRECT, inputs=inputs, run=run),
            own("of-secret", Kind.CORRECT, inputs=hidden),
            own("old", Kind.OBSOLETE, successor="plain"),
        )
        closed = {"visibility": "private", "owner": "ann", "readers": []}
        assert editor.client.put(f"{editor.url}/sharing/collections/{SECRET}", json=closed).status_code == 200
        yield made
        made.http.close()


def item(site: Site, name: str, **parameters: str) -> dict[str, Any]:
    answer = site.editor.nobody.get(f"/collections/{OWN}/items/{name}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def links(document: dict[str, Any], rel: str) -> list[dict[str, Any]]:
    return [link for link in document["links"] if link["rel"] == rel]


def found(site: Site, text: str, **parameters: str) -> set[str]:
    answer = site.editor.nobody.get("/search", params={"filter": text, "limit": "100", **parameters})
    assert answer.status_code == 200, answer.text
    return {one["id"] for one in answer.json()["features"]}


def test_each_item_links_to_the_proof_of_what_it_is(site: Site) -> None:
    (link,) = links(item(site, "plain"), "lineage-proof")
    answer = site.http.get(link["href"])
    assert answer.status_code == 200, answer.text
    assert verify.verify(answer.content).ok
    event = json.loads(answer.json()["event"]["body"]) if isinstance(answer.json()["event"].get("body"), str) else {}
    assert event.get("item", "plain") == "plain"
    is_problem(site.http.get(f"/collections/{OWN}/items/none/proof"), 404, "NOT_FOUND")
    is_problem(site.http.get(f"/collections/{SECRET}/items/hidden/proof"), 404, "NOT_FOUND")


def test_an_item_says_what_it_came_of_and_how_that_is_known(site: Site) -> None:
    plain, told = item(site, CHILD), item(site, CHILD, lineage="declared")
    assert links(plain, "derived_from") == []
    (link,) = links(told, "derived_from")
    assert (link["title"], link["lineage:assertion"], link["lineage:confidence"], link["lineage:rule"]) == (
        PARENT, "declared", 0.8, "R3/1",
    )  # fmt: skip
    assert link["href"] == f"{site.editor.url}/lineage/v1/products/{PARENT}/lineage"
    assert told["properties"]["lineage:status"] == "current"
    events = site.get(f"/collections/{OWN}/items/{CHILD}/events").json()["events"]
    assert told["properties"]["lineage:log_index"] == events[0]["seq"]
    (made,) = links(item(site, "grandchild", lineage="declared"), "derived_from")
    assert made["href"] == f"{site.editor.url}/stac/collections/{OWN}/items/{CHILD}"
    (run,) = links(item(site, "grandchild", lineage="declared"), "processing-execution")
    assert run["href"].endswith("/lineage/v1/runs/01890000-0000-7000-8000-000000000001")
    assert item(site, "old", lineage="declared")["properties"]["lineage:status"] == "superseded"


def test_what_is_inferred_is_said_to_those_who_ask_for_that(site: Site) -> None:
    assert links(item(site, L2A, lineage="declared"), "derived_from") == []
    (link,) = links(item(site, L2A, lineage="inferred"), "derived_from")
    assert (link["title"], link["lineage:assertion"]) == (L1C, "inferred")
    assert found(site, f"\"lineage:parent\" = '{L1C}'") == {L2A}


def test_pages_say_it_too_in_their_own_order(site: Site) -> None:
    for answer in (
        site.editor.nobody.get("/search", params={"lineage": "declared", "ids": f"{CHILD},grandchild"}),
        site.editor.nobody.post("/search", params={"lineage": "declared"}, json={"ids": [CHILD, "grandchild"]}),
        site.editor.nobody.get(f"/collections/{OWN}/items", params={"lineage": "declared", "ids": CHILD}),
    ):
        assert answer.status_code == 200, answer.text
        told = [one for one in answer.json()["features"] if one["id"] in (CHILD, "grandchild")]
        assert {len(links(one, "derived_from")) for one in told} == {1}
        assert all("lineage:log_index" in one["properties"] for one in told)
    plain = site.editor.nobody.get("/search", params={"ids": CHILD}).json()["features"][0]
    assert "lineage:log_index" not in plain["properties"]
    only = {"lineage": "declared", "ids": CHILD, "fields": "id,properties.lineage:status"}
    (few,) = site.editor.nobody.get("/search", params=only).json()["features"]
    assert few["properties"] == {"lineage:status": "current"}


def test_what_is_asked_for_wrongly_is_refused(site: Site) -> None:
    for path in (f"/collections/{OWN}/items/plain", "/search", f"/collections/{OWN}/items"):
        is_problem(site.editor.nobody.get(path, params={"lineage": "all"}), 400, "INVALID_PARAMETER")


def test_what_comes_back_is_stored_without_what_was_added(site: Site) -> None:
    here = f"/collections/{OWN}/items/{CHILD}"
    plain = site.editor.client.get(here)
    told = site.editor.client.get(here, params={"lineage": "inferred"})
    assert told.headers["ETag"] != plain.headers["ETag"]
    again = site.editor.client.put(here, json=told.json(), headers={"If-Match": plain.headers["ETag"]})
    assert again.status_code in (200, 204), again.text
    assert site.editor.client.get(here).json() == plain.json()
    site.settle()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"\"lineage:parent\" = '{PARENT}'", {CHILD}),
        (f"\"lineage:parent\" = '{PARENT}.SAFE'", {CHILD}),
        (f"\"lineage:parent\" IN ('nothing', '{OWN}/{CHILD}')", {"grandchild"}),
        (f"\"lineage:root_product\" = '{PARENT}'", {CHILD, "grandchild"}),
        (f"\"lineage:root_product\" = '{OWN}/{CHILD}'", set()),
        ("\"lineage:status\" = 'superseded'", {"old"}),
        ("\"lineage:status\" = 'withdrawn'", set()),
        (f"\"lineage:status\" = 'current' AND id = '{CHILD}'", {CHILD}),
        ("\"lineage:status\" <> 'current'", {"old"}),
        (f"\"lineage:parent\" IS NULL AND id IN ('plain', '{CHILD}', 'of-secret')", {"plain", "of-secret"}),
        (f"NOT (\"lineage:parent\" IS NULL) AND id IN ('plain', '{CHILD}')", {CHILD}),
        (f"\"lineage:parent\" = '{SECRET}/hidden'", set()),
        ("\"lineage:parent\" = 'it''s; drop table'", set()),
    ],
)
def test_filters_by_lineage(site: Site, text: str, expected: set[str]) -> None:
    assert found(site, text) == expected
    assert found(site, text, collections=OWN) == expected
    counted = site.editor.nobody.get("/search", params={"filter": text, "limit": "1"}).json()["numberMatched"]
    assert counted == len(expected)


def test_an_operator_too_finds_only_what_everybody_may_know(site: Site) -> None:
    answer = site.editor.client.get("/search", params={"filter": f"\"lineage:parent\" = '{SECRET}/hidden'"})
    assert answer.json()["features"] == []
    (mine,) = links(
        site.editor.client.get(f"/collections/{OWN}/items/of-secret", params={"lineage": "declared"}).json(),
        "derived_from",
    )
    assert mine["title"] == "hidden"
    assert links(item(site, "of-secret", lineage="inferred"), "derived_from") == []


@pytest.mark.parametrize(
    "expression",
    [
        {"op": "=", "args": [{"property": "lineage:status"}, "good"]},
        {"op": "<", "args": [{"property": "lineage:parent"}, "a"]},
        {"op": "=", "args": [{"property": "lineage:parent"}, 7]},
        {"op": "=", "args": [{"property": "lineage:parent"}, {"property": "lineage:root_product"}]},
        {"op": "=", "args": ["a", {"property": "lineage:parent"}]},
        {"op": "in", "args": [{"property": "lineage:parent"}, [{"property": "id"}]]},
        {"op": "like", "args": [{"property": "lineage:parent"}, "S2%"]},
        {"op": "isNull", "args": [{"property": "lineage:status"}]},
        {"op": "=", "args": [{"property": "lineage:parent"}, "x" * 600]},
    ],
)
def test_filters_that_lineage_has_not_are_refused(site: Site, expression: dict[str, Any]) -> None:
    body = {"filter": expression, "filter-lang": "cql2-json"}
    is_problem(site.editor.nobody.post("/search", json=body), 400, "INVALID_FILTER")


def test_queryables_name_them_and_sortables_do_not(site: Site) -> None:
    for path in ("", f"/collections/{OWN}"):
        known = site.editor.nobody.get(f"{path}/queryables").json()["properties"]
        assert set(RULES) <= known.keys()
        assert not set(RULES) & site.editor.nobody.get(f"{path}/sortables").json()["properties"].keys()


def test_a_filter_that_cannot_look_through_all_says_so(site: Site) -> None:
    """It gave the first 50,000 descendants as if there were no more."""
    most = "create or replace function lineage.most_looked_through() returns integer language plpgsql immutable as 'begin return %d; end'"
    text = f"\"lineage:root_product\" = '{PARENT}'"
    with psycopg.connect(site.editor.database.conninfo, autocommit=True) as conn:
        before = conn.execute("select lineage.most_looked_through()").fetchone()
        for number in (1, 0):
            conn.execute((most % number).encode())
            for path in ("/search", f"/collections/{OWN}/items", "/aggregate"):
                asked = {"filter": text, "aggregations": "total_count"} if path == "/aggregate" else {"filter": text}
                is_problem(site.editor.nobody.get(path, params=asked), 400, "TOO_MANY_DESCENDANTS")
        assert before == (50_000,)
        conn.execute((most % 50_000).encode())
    assert found(site, text) == {CHILD, "grandchild"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update lineage.upstream_claim set raw = 'x'", "claim-differs"),
        ("update lineage.upstream_claim set source = 'user:eve'", "claim-added"),
        ("delete from lineage.upstream_claim", "claim-missing"),
    ],
)
async def test_a_document_that_somebody_has_changed_is_named(site: Site, change: str, code: str) -> None:
    async with (
        open_pool(site.editor.database) as pool,
        pool.connection() as conn,
        conn.transaction(force_rollback=True),
    ):
        assert [fault.code async for fault in claim_faults(conn)] == []
        await conn.execute(change.encode())
        assert [fault.code async for fault in claim_faults(conn)] == [code]
