"""The graph, time travel, audit and hashes over real HTTP, on one running application whose log the test sequences itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.settings import ApiSettings
from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.past_items import settle_past_items
from lineage import graph, verify
from lineage import log as lineage_log
from lineage.canonical import canonical
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import load_signer
from lineage.projector import project
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api import editing
from tests.api.editing import OWN, Editor, editor_on, is_problem
from tests.lineage.parentage import L1C, L2A, L2A_TILES, L2A_TWIN

NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Site:
    """The application, and its log."""

    def __init__(self, editor: Editor, folder: Path) -> None:
        self.editor, self.folder = editor, folder
        self.http = httpx.Client(base_url=f"{editor.url}/lineage/v1", timeout=60)

    def settle(self, *events: Event) -> None:
        """What a worker does: numbers, the graph, documents of the past."""
        asyncio.run(self._settle(events))

    async def _settle(self, events: tuple[Event, ...]) -> None:
        async with open_pool(self.editor.database) as pool:
            async with pool.connection() as conn, conn.transaction():
                await lineage_log.append(conn, *events)
            await sequence(pool, load_signer(LineageSettings(data_dir=self.folder)))
            await project(pool)
            await settle_past_items(pool)

    def get(self, path: str, status: int = 200, **given: Any) -> httpx.Response:
        answer = self.http.get(path, **given)
        assert answer.status_code == status, answer.text
        return answer


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("graph")
    with editor_on(postgres, template, folder) as editor:
        made = Site(editor, folder)
        made.settle(registered(L1C), registered(L2A), registered(L2A_TWIN))
        yield made
        made.http.close()


def registered(stem: str, **body: Any) -> Event:
    told = {"hashes": [{"alg": "MD5", "digest": hashlib.md5(stem.encode()).hexdigest()}], **body}
    return Event(uuid7(), Kind.REGISTER, f"{stem}.SAFE", "demo", "s2", stem, "harvest:demo", NOW, told)


def own(item: str, kind: Kind = Kind.CREATE, **body: Any) -> Event:
    return Event(uuid7(), kind, item, "own", OWN, item, "user:ann", NOW, body)


def lineage_of(item: str, collection: str = "s2") -> str:
    return f"/collections/{collection}/items/{item}/lineage"


def names(graph: dict[str, Any]) -> set[str]:
    return {node["name"] for node in graph["nodes"]}


def test_ancestors_and_descendants_of_a_product(site: Site) -> None:
    up = site.get(lineage_of(L2A)).json()
    assert names(up) == {L2A, L1C}
    (edge,) = up["edges"]
    assert (edge["assertion"], edge["confidence"], edge["rule"]) == ("inferred", 0.95, "R4/1")
    assert names(site.get(lineage_of(L1C), params={"direction": "down"}).json()) == {L1C, L2A, L2A_TWIN}
    assert names(site.get(f"/products/{L1C}.SAFE/lineage", params={"direction": "both"}).json()) == {L1C, L2A, L2A_TWIN}
    assert names(site.get(f"/hashes/{hashlib.md5(L2A.encode()).hexdigest()}/lineage").json()) == {L2A, L1C}
    assert names(site.get(lineage_of(L2A), params={"assertion": "explicit,declared"}).json()) == {L2A}
    assert names(site.get(lineage_of(L2A), params={"min_confidence": 0.96}).json()) == {L2A}
    assert names(site.get(lineage_of(L2A), params={"as_of": 2}, follow_redirects=True).json()) == {L2A}


@pytest.mark.parametrize(
    "form",
    ["json", "prov-json", "prov-jsonld", "prov-n", "openlineage", "ro-crate", "mermaid", "dot", "svg", "cytoscape"],
)
def test_forms_by_name_and_by_accept(site: Site, form: str) -> None:
    named = site.get(lineage_of(L2A), params={"f": form})
    assert L1C in named.text or form == "svg"
    media_type = named.headers["content-type"].partition(";")[0]
    assert (
        media_type
        == site.get(lineage_of(L2A), headers={"Accept": media_type}).headers["content-type"].partition(";")[0]
    )


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"depth": 0}, "INVALID_PARAMETER"), ({"f": "xml"}, "INVALID_PARAMETER"), ({"roles": "mother"}, "INVALID_PARAMETER"),
        ({"as_of": "yesterday"}, "INVALID_PARAMETER"), ({"as_of": "0001-01-01T00:00:00+23:00"}, "INVALID_PARAMETER"),
        ({"limit": 10**9}, "INVALID_PARAMETER"), ({"direction": "sideways"}, "INVALID_PARAMETER"),
        ({"min_confidence": "nan"}, "INVALID_PARAMETER"),
    ],
)  # fmt: skip
def test_bad_questions_are_refused(site: Site, parameters: dict[str, Any], code: str) -> None:
    is_problem(site.http.get(lineage_of(L2A), params=parameters), 400, code)


def test_what_is_not_there_is_not_found(site: Site) -> None:
    is_problem(site.http.get(lineage_of("none")), 404, "NOT_FOUND")
    is_problem(site.http.get("/products/none/lineage"), 404, "NOT_FOUND")
    is_problem(site.http.get(lineage_of("a%00b")), 400, "INVALID_PARAMETER")
    is_problem(site.http.get("/hashes/xyz/lineage"), 400, "INVALID_HASH")


def test_impact_is_streamed_and_knows_what_is_mine(site: Site) -> None:
    site.settle(
        own("map-of-it", inputs=[{"name": L2A}]),
        own("poster", inputs=[{"collection": OWN, "item": "map-of-it", "name": ""}]),
    )
    answer = site.http.post("/impact", json={"names": [f"{L1C}.SAFE"], "scope": "all"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["node"]["name"] for line in lines[:-1]} == {L2A, L2A_TWIN, "map-of-it", "poster"}
    assert lines[-1]["done"]["truncated"] is False
    items = [{"collection": OWN, "item": one} for one in ("map-of-it", "nothing", "map-of-it")]
    answer = site.http.post("/impact", json={"items": items})
    assert [json.loads(line)["node"]["name"] for line in answer.text.splitlines()[:-1]] == ["poster"]
    is_problem(site.http.post("/impact", json={"names": "all"}), 400, "INVALID_FIELD")
    is_problem(site.http.post("/impact", content=b"[" * 100), 400, "INVALID_JSON")
    path = site.get("/path", params={"from": L1C, "to": f"{OWN}/poster"}).json()
    assert [node["name"] for node in path["nodes"]] == ["poster", "map-of-it", L2A, L1C]
    is_problem(site.http.get("/path", params={"from": L2A, "to": L2A_TWIN}), 404, "NO_PATH")


def test_who_reads_no_further_gives_his_place_to_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, portions = {"names": [L1C]}, graph.portions

    async def endless(*given: Any, **named: Any) -> AsyncIterator[Sequence[graph.Found]]:
        while True:
            async for some in portions(*given, **named):
                yield some

    with monkeypatch.context() as patched, contextlib.ExitStack() as open_streams:
        patched.setattr("api.lineage_graph.STREAM_S", 0.5)
        patched.setattr("lineage.impact.portions", endless)
        for _ in range(
            ApiSettings.model_fields["export_concurrency"].default
        ):  # nobody reads more than the headers of these
            answer = open_streams.enter_context(site.http.stream("POST", "/impact", json=asked))
            assert answer.status_code == 200
        statuses, until = [503], time.monotonic() + 30
        while statuses[-1] == 503 and time.monotonic() < until:
            with site.http.stream("POST", "/impact", json=asked) as answer:
                statuses.append(answer.status_code)
            time.sleep(0.05)
        assert statuses[-1] == 200
    assert '"done"' in site.http.post("/impact", json=asked).text


def test_a_thousand_hashes_at_once(site: Site) -> None:
    known, unknown = hashlib.md5(L1C.encode()).hexdigest(), "00" * 32
    results = site.http.post(
        "/hashes/verify", json={"hashes": [known, f"d50110{known}", f"MD5:{known}", *[unknown] * 997]}
    ).json()["results"]
    assert [one["found"] for one in results[:4]] == [True, True, True, False]
    (match,) = results[0]["matches"]
    assert (match["name"], match["part"], match["status"]) == (f"{L1C}.SAFE", "product", "current")
    assert site.editor.nobody.get(match["proof"]).status_code == 200
    for body in ({"hashes": []}, {"hashes": [unknown] * 1001}, {"hashes": "x"}):
        is_problem(site.http.post("/hashes/verify", json=body), 400, "INVALID_FIELD")
    is_problem(site.http.post("/hashes/verify", json={"hashes": [unknown, 7]}), 400, "INVALID_HASH")


def test_an_item_as_it_was_after_edits_a_deletion_and_a_return(site: Site) -> None:
    client, here = site.editor.client, f"/collections/{OWN}/items/travelled"
    seen: list[tuple[str, dict[str, Any] | None]] = []

    def note() -> None:
        answer = client.get(here)
        seen.append((datetime.now(UTC).isoformat(), answer.json() if answer.is_success else None))
        time.sleep(0.002)

    assert (
        client.post(f"/collections/{OWN}/items", json=editing.item("travelled", assets=30, depth=1.5)).status_code
        == 201
    )
    note()
    for number in range(5):
        assert (
            client.patch(here, json={"properties": {"depth": number * 1e-7, "title": f"edit {number} <ü>"}}).status_code
            < 300
        )
        note()
    assert client.delete(here).status_code == 204
    note()
    assert client.post(f"/collections/{OWN}/items", json=editing.item("travelled", depth=2)).status_code == 201
    note()
    site.settle()
    listed = site.get(f"{here}/versions").json()["versions"]
    assert [one["kind"] for one in listed] == ["CREATE", *["UPDATE"] * 5, "DELETE", "CREATE"]
    for when, expected in seen:
        if expected is None:
            is_problem(site.http.get(here, params={"as_of": when}), 410, "ITEM_GONE")
            continue
        found = site.get(here, params={"as_of": when}).json()
        plain = {name: value for name, value in found["item"].items() if name not in ("links", "stac_version")}
        assert plain == {name: value for name, value in expected.items() if name not in ("links", "stac_version")}
        assert hashlib.sha256(canonical(plain)).hexdigest() == found["version"]["item_sha256"]
        proof = site.editor.nobody.get(found["version"]["links"][0]["href"]).content
        assert verify.verify(proof).ok
        assert json.loads(json.loads(proof)["event"]["body"])["item_sha256"] == found["version"]["item_sha256"]
        size = found["version"]["from_seq"] + 1
        assert site.get(here, params={"as_of": size}).json() == found
    is_problem(site.http.get(here, params={"as_of": "2020-01-01T00:00:00Z"}), 404, "NOT_FOUND")
    changed = site.get(f"{here}/diff", params={"a": 2, "b": 3}).json()["changes"]
    assert {one["path"] for one in changed} >= {"/properties/depth", "/properties/title"}
    assert site.get(f"{here}/status").json()["status"] == "current"


def test_audit_tells_who_did_what(site: Site) -> None:
    site.settle(own("audited"), own("audited", Kind.UPDATE))
    found = site.get("/audit", params={"item": "audited", "collection": OWN, "kind": "CREATE,UPDATE"}).json()["events"]
    assert [(one["kind"], one["actor"], one["key_id"] is not None) for one in found] == [
        ("CREATE", "user:ann", True),
        ("UPDATE", "user:ann", True),
    ]
    page = site.get("/audit", params={"actor": "user:ann", "limit": 1}).json()
    following = site.editor.nobody.get(page["links"][0]["href"]).json()
    assert following["events"][0]["seq"] > page["events"][0]["seq"]
    is_problem(site.http.get("/audit", params={"kind": "BIRTH"}), 400, "INVALID_PARAMETER")


def test_orphans_are_listed_page_by_page(site: Site) -> None:
    site.settle(own("orphan"), own("stray", inputs=[{"name": "S2A_NOBODY_HAS_THIS"}]))
    found, following = [], f"/collections/{OWN}/orphans?limit=1"
    while following:
        page = site.get(following).json()
        found += page["orphans"]
        following = page["links"][0]["href"] if page["links"] else ""
    by_item = {one["item"]: one["reason"] for one in found}
    assert by_item["orphan"] == "no_parent"
    assert by_item["stray"] == "parent_missing"
    assert "map-of-it" not in by_item


def test_the_page_shows_graph_history_and_proof(site: Site) -> None:
    page = site.get(f"/collections/s2/items/{L2A}.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src" not in page.headers["content-security-policy"]
    assert "<svg" in page.text
    assert "R4/1" in page.text
    assert "in the log</a>" in page.text
    assert "<script" not in page.text
    site.settle(own("hostile", inputs=[{"name": "'\"><script>alert(1)"}]))
    hostile = site.get(f"/collections/{OWN}/items/hostile.html").text
    assert "<script" not in hostile
    assert "&lt;script&gt;" in hostile
    is_problem(site.http.get("/collections/s2/items/none.html"), 404, "NOT_FOUND")


def run_event(run: str, kind: str = "COMPLETE", **members: Any) -> dict[str, Any]:
    """A RunEvent of OpenLineage 2-0-2."""
    return {
        "eventType": kind, "eventTime": "2026-11-26T10:00:00Z", "producer": "https://example.org/tool",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent", "run": {"runId": run},
        "job": {"namespace": "airflow", "name": "mosaic"}, **members,
    }  # fmt: skip


def test_a_run_links_what_it_made_once(site: Site) -> None:
    assert site.editor.client.post(f"/collections/{OWN}/items", json=editing.item("mosaic")).status_code == 201
    ours = f"{site.editor.url}/stac/collections/{OWN}"
    engine = {"processing_engine": {"_producer": "x:y", "_schemaURL": "x:y", "name": "gdal", "version": "3.12"}}
    run, inputs = (
        str(uuid7()),
        [{"namespace": "s3://esa", "name": f"{L2A}.SAFE"}, {"namespace": "s3://me", "name": "scratch.tif"}],
    )
    events = [
        run_event(run, "START") | {"run": {"runId": run, "facets": engine}},
        run_event(
            run, inputs=inputs, outputs=[{"namespace": ours, "name": "mosaic"}, {"namespace": "s3://me", "name": "log"}]
        ),
    ]
    told = [site.http.post("/runs", json=events, headers=editing.ADMIN) for _ in range(2)]
    assert [one.status_code for one in told] == [201, 200], told[0].text
    assert [one["is_item"] for one in told[0].json()["runs"][1]["outputs"]] == [True, False]
    site.settle()
    graph = site.get(lineage_of("mosaic", OWN), headers=editing.ADMIN).json()
    assert {(edge["rule"], edge["assertion"], edge["run"]) for edge in graph["edges"] if edge["rule"] == "R1/1"} == {
        ("R1/1", "explicit", run)
    }
    assert {node["name"] for node in graph["nodes"]} >= {"mosaic", L2A, "s3://me/scratch.tif", L1C}
    everybodys = site.get(lineage_of("mosaic", OWN))
    assert "scratch" not in everybodys.text
    assert [node["kind"] for node in everybodys.json()["nodes"]].count("redacted") == 1
    assert "scratch" not in site.get("/audit?limit=1000").text
    shown = site.get(f"/runs/{run}", headers=editing.ADMIN).json()
    assert (shown["state"], shown["software"], shown["job"]) == ("COMPLETE", {"gdal": "3.12"}, "mosaic")
    assert site.http.get(f"/runs/{run}").status_code in (401, 404)
    assert site.get("/log/checkpoint").text  # the same event again did not stop the log


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"run": {"runId": "7"}}, "/run/runId"), ({"eventTime": "now"}, "/eventTime"), ({"eventType": "BEGIN"}, "/eventType"),
        ({"job": {"name": "x"}}, "/job/namespace"), ({"producer": "no uri"}, "/producer"),
        ({"inputs": [{"name": "x"}]}, "/inputs/0/namespace"),
        ({"inputs": [{"namespace": "n", "name": "x"}] * 1001}, "/inputs"),
        ({"run": {"runId": str(uuid7()), "facets": {"f": {}}}}, "/run/facets/f"),
    ],
)  # fmt: skip
def test_runs_that_are_none_are_refused(site: Site, change: dict[str, Any], place: str) -> None:
    problem = is_problem(
        site.http.post("/runs", json=run_event(str(uuid7())) | change, headers=editing.ADMIN), 400, "INVALID_RUN"
    )
    assert problem["place"] == place


def test_runs_that_would_make_a_million_edges_are_refused(site: Site) -> None:
    many = [{"namespace": "s3://me", "name": f"{n}"} for n in range(101)]
    big = run_event(str(uuid7()), inputs=many, outputs=many)
    is_problem(site.http.post("/runs", json=big, headers=editing.ADMIN), 400, "INVALID_RUN")
    half = [run_event(str(uuid7()), inputs=many[:80], outputs=many[:80]) for _ in range(2)]
    is_problem(site.http.post("/runs", json=half, headers=editing.ADMIN), 400, "INVALID_RUN")


def test_a_document_of_one_item_takes_nothing_from_another_product(site: Site) -> None:
    site.settle(registered(L2A), registered(L1C))
    before = site.get(f"/products/{L2A}/lineage").json()["edges"]
    assert any(edge["assertion"] == "inferred" for edge in before)
    assert site.editor.client.post(f"/collections/{OWN}/items", json=editing.item("claims")).status_code == 201
    nested = f'<resource name="{L2A}"><resource name="BOGUS_PARENT_1"/></resource>'
    manifest = f'<a><resource name="S1A_IW_SLC__1SDV_X_1">{nested}</resource></a>'
    told = site.http.post(f"/collections/{OWN}/items/claims/documents", content=manifest, headers=editing.ADMIN)
    assert told.status_code == 201, told.text
    site.settle()
    assert site.get(f"/products/{L2A}/lineage").json()["edges"] == before


def test_a_document_declares_parents_and_a_watch_tells_of_their_withdrawal(site: Site) -> None:
    product, parent = L2A_TILES[5][0], "S2A_MSIL1C_20230821T221941_N0509_R029_T01KAB_20230822T005958"
    assert site.editor.client.post(f"/collections/{OWN}/items", json=editing.item(product)).status_code == 201
    here, tile = f"/collections/{OWN}/items/{product}/documents", f"<a><L1C_TILE_ID>{L2A_TILES[5][1]}</L1C_TILE_ID></a>"
    is_problem(site.http.post(here, content=tile), 401, "TOKEN_REQUIRED")
    is_problem(site.http.post(here, content="<!DOCTYPE a><a/>", headers=editing.ADMIN), 400, "DOCUMENT_INVALID")
    is_problem(site.http.post(here, content="<a/>", headers=editing.ADMIN), 422, "DOCUMENT_SAYS_NOTHING")
    other = f"<a><L1C_TILE_ID>{L2A_TILES[0][1]}</L1C_TILE_ID></a>"
    is_problem(site.http.post(here, content=other, headers=editing.ADMIN), 422, "DOCUMENT_OF_ANOTHER")
    told = [site.http.post(here, content=tile, headers=editing.ADMIN) for _ in range(2)]
    assert [one.status_code for one in told] == [201, 200], told[0].text
    (named,) = told[0].json()["parents"]
    assert (named["name"], named["confidence"]) == (parent, 0.8)
    watch = site.http.post("/watches", json={"product": f"{parent}.SAFE"}, headers=editing.ADMIN)
    assert watch.status_code == 201
    alerts = f"{watch.json()['links'][0]['href']}/alerts"
    withdrawn = Event(
        uuid7(),
        Kind.WITHDRAW,
        f"{parent}.SAFE",
        "demo",
        "s2",
        parent,
        "harvest:demo",
        NOW,
        {"reason": "Corrupted product"},
    )
    site.settle(registered(parent), withdrawn)
    graph = site.get(lineage_of(product, OWN)).json()
    assert [(edge["assertion"], edge["rule"]) for edge in graph["edges"]] == [("declared", "R3/1")]
    assert [node["status"] for node in graph["nodes"]] == ["current", "withdrawn"]
    found = site.http.get(alerts, headers=editing.ADMIN).json()
    assert [(one["kind"], one["body"]["reason"]) for one in found["alerts"]] == [("WITHDRAW", "Corrupted product")]
    assert site.http.get(alerts, params={"from_seq": found["next_seq"]}, headers=editing.ADMIN).json()["alerts"] == []
    assert site.http.delete(watch.json()["links"][0]["href"], headers=editing.ADMIN).status_code == 204
    is_problem(site.http.get(alerts, headers=editing.ADMIN), 404, "NOT_FOUND")
    is_problem(site.http.post("/watches", json={"product": 7}, headers=editing.ADMIN), 400, "INVALID_FIELD")
    is_problem(site.http.get("/watches"), 401, "TOKEN_REQUIRED")
