"""The graph, time travel, audit and hashes over real HTTP, on one running application whose log the test sequences itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.pools import open_pool
from db.settings import DatabaseSettings
from ingest.past_items import settle_past_items
from lineage import log as lineage_log
from lineage import verify
from lineage.canonical import canonical
from lineage.events import Event, Kind
from lineage.ids import uuid7
from lineage.keys import load_signer
from lineage.projector import project
from lineage.sequencer import sequence
from lineage.settings import LineageSettings
from tests.api import editing
from tests.api.editing import OWN, Editor, editor_on, is_problem
from tests.lineage.parentage import L1C, L2A, L2A_TWIN

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
    is_problem(site.http.post("/impact", json={"names": "all"}), 400, "INVALID_FIELD")
    is_problem(site.http.post("/impact", content=b"[" * 100), 400, "INVALID_JSON")
    path = site.get("/path", params={"from": L1C, "to": f"{OWN}/poster"}).json()
    assert [node["name"] for node in path["nodes"]] == ["poster", "map-of-it", L2A, L1C]
    is_problem(site.http.get("/path", params={"from": L2A, "to": L2A_TWIN}), 404, "NO_PATH")


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
