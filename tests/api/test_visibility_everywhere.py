"""The visibility matrix: every route of the three descriptions, asked by every caller for what is private, shared and public."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from db.settings import DatabaseSettings
from lineage.events import Event, Kind
from lineage.ids import uuid7
from tests.api import editing
from tests.api.sharing_site import COLLECTIONS, ITEMS, OPEN, SOURCE, Site, digest_of, sharing_site, tell
from tests.api.visibility_table import CALLERS, MOUNTS, RULES, VISIBILITIES, Rule, main, routes_of

#: rio-tiler's own, of statistics within a geometry.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
PAGE = Path(__file__).parents[2] / "docs" / "visibility.md"
#: What is put in the place of a path's parameter that names neither collection nor item.
PLACES = {
    "source_id": SOURCE, "format": "png", "tileMatrixSetId": "WebMercatorQuad", "z": "0", "x": "0", "y": "0", "minx": "0.1", "miny": "0.1",
    "maxx": "0.9", "maxy": "0.9", "lon": "0.5", "lat": "0.5", "width": "8", "height": "8", "colorMapId": "viridis", "render_id": "default",
    "algorithmId": "hillshade", "search_id": "0" * 32,
    "user_name": "ann", "group_name": "surveyors", "key_id": "none", "level": "0", "path": "000", "size": "1",
}  # fmt: skip
NO_ID = "0198f7a0-0000-7000-8000-000000000000"
ABSENT_ITEM, ABSENT_COLLECTION = "no-such-item", "no-such-collection"
#: A precondition that nothing fulfils: who may write gets 412, and nothing is changed.
UNMET = {"If-Match": '"not-this-one"'}
SQUARE = {
    "type": "Feature", "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9], [0.1, 0.1]]]},
}  # fmt: skip
MANIFEST = b'<safe><processing name="x"><resource name="S1A_IW_SLC_parent" role="input"/></processing></safe>'
#: Headers that differ from request to request.
_PASSING = ("date", "server-timing")


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sharing_site(postgres, template, tmp_path_factory.mktemp("matrix")) as started:
        yield started


def _rule(name: str) -> Rule:
    return next(rule for rule in RULES if rule.name == name)


def _sees(caller: str, visibility: str) -> bool:
    return caller in ("owner", "admin") or visibility == "public" or (visibility, caller) == ("shared", "shared")


def _all_routes(site: Site) -> list[str]:
    found = []
    for mount in MOUNTS:
        found += routes_of(mount, site.http.get(f"{mount}/api").json())
    return found


def test_the_table_knows_every_route(site: Site) -> None:
    known = [route for rule in RULES for route in rule.routes]
    assert len(known) == len(set(known)), "a route is in two rules"
    assert sorted(known) == sorted(_all_routes(site)), "say in tests/api/visibility_table.py what the route may tell"


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert PAGE.read_text() == capsys.readouterr().out, "python -m tests.api.visibility_table > docs/visibility.md"


def _asked(site: Site, caller: str, route: str, collection: str, item: str) -> httpx.Response:
    """Ask one route for an item, or for a collection."""
    method, template = route.split(" ", 1)
    names = {
        **PLACES, "collection_id": collection, "collection": collection, "item_id": item, "item": item, "name": f"{item}.SAFE",
        "digest": digest_of(item), "upload_id": site.uploads.get(item, NO_ID), "event_id": site.events.get(item, NO_ID),
        "trace_id": site.events.get(item, NO_ID),
    }  # fmt: skip
    path = re.sub(r"{([^}:]+)(?::[^}]*)?}", lambda found: names[found[1]], template)
    given: dict[str, Any] = {"headers": dict(UNMET)} if method in ("PUT", "PATCH", "DELETE", "POST") else {}
    if template.endswith("/documents"):
        given["content"] = MANIFEST
    elif method in ("POST", "PUT", "PATCH"):
        given["json"] = _body(method, template, collection, item)
    given["params"] = _parameters(method, template)
    answer = site.ask(caller, method, path, **given)
    assert answer.status_code < 500 or template.endswith("/health"), (caller, route, answer.text)  # without a worker
    return answer


def _body(method: str, template: str, collection: str, item: str) -> dict[str, Any]:
    if template == "/raster/signed":
        return {"collection": collection, "item": item}
    if template.startswith("/raster"):
        return SQUARE
    if template.startswith("/sharing"):
        return {"visibility": "private"}
    if template == "/uploads":
        return {"collection": collection, "title": "One more", "datetime": "2026-05-01T00:00:00Z"}
    if template.startswith("/uploads"):
        return {"numbers": [1]}
    if template.endswith("/bulk_items"):
        return {"items": {"new": editing.item("new", collection)}}
    if method == "PATCH":
        return {"description": "another"}
    if template.endswith("/items"):
        return editing.item("new", collection)
    if template.endswith("{item_id}"):
        return editing.item(item, collection)
    if method == "PUT":
        return editing.collection(collection)
    return {"aggregations": ["total_count", "platform_frequency"]} if "aggregat" in template else {"limit": 1000}


def _parameters(method: str, template: str) -> dict[str, str]:
    if template.endswith(("/wmts", "/wms")):
        return {"request": "GetCapabilities"}
    if template.startswith("/raster"):
        return {"assets": "data"}
    if template.endswith("/aggregate") and method == "GET":
        return {"aggregations": "total_count,platform_frequency"}
    return (
        {"limit": "1000"}
        if method == "GET" and template.endswith(("/search", "/items", "/events", "/collections"))
        else {}
    )


def _plain(answer: httpx.Response, *names: str) -> tuple[int, str, dict[str, str]]:
    """An answer without what was asked for."""
    text = answer.text
    for name in names:
        text = text.replace(name, "*")
    return (
        answer.status_code,
        text,
        {name: value for name, value in answer.headers.items() if name not in (*_PASSING, "content-length")},
    )


def _names(site: Site, collection: str, item: str) -> tuple[str, ...]:
    names = (digest_of(item), site.uploads.get(item, NO_ID), site.events.get(item, NO_ID), item)
    return names if collection == OPEN else (*names, collection)


def _checker(site: Site) -> Any:
    """Asks, and holds the outcome against the table; what is hidden must answer as what is not there, in body and headers."""

    @cache
    def absent(caller: str, route: str, collection: str) -> tuple[int, str, dict[str, str]]:
        return _plain(_asked(site, caller, route, collection, ABSENT_ITEM), *_names(site, collection, ABSENT_ITEM))

    def check(rule: Rule, route: str, caller: str, collection: str, item: str, visibility: str) -> None:
        assert rule.expected is not None
        expected = rule.expected[caller][VISIBILITIES.index(visibility)]
        answer = _asked(site, caller, route, collection, item)
        where = (rule.name, caller, route, collection, item, answer.text[:300])
        if expected in ("404", "empty"):
            elsewhere = OPEN if collection == OPEN else ABSENT_COLLECTION
            assert _plain(answer, *_names(site, collection, item)) == absent(caller, route, elsewhere), where
        if expected == "empty":
            assert answer.json() in ([], {"collection": collection, "item": item, "events": []}), where
        elif expected == "yes":
            assert answer.status_code not in (401, 403, 404), where
            assert answer.is_success or answer.is_redirect or not rule.is_read, where
        else:
            assert str(answer.status_code) == expected, where
        if caller != "anonymous":
            assert "no-store" in answer.headers["cache-control"], where

    return check


def _check_all(site: Site, name: str, subjects: list[tuple[str, str, str]]) -> None:
    rule, check = _rule(name), _checker(site)
    for route in rule.routes:
        # To render all takes long: an item's own visibility on every route, its collection's on one.
        only = OPEN if "/raster/" in route and not route.endswith(("/info", "/signed")) else None
        for caller in CALLERS:
            for collection, item, visibility in subjects:
                if only in (None, collection):
                    check(rule, route, caller, collection, item, visibility)


ALONE = [(collection, f"of-{collection}", visibility) for collection, visibility in COLLECTIONS.items()]
EVERY_ITEM = [(collection, item, visibility) for item, (collection, visibility) in ITEMS.items()]


@pytest.mark.parametrize(
    "name",
    [
        "reading a collection",
        "writing into a collection",
        "changing a collection, and who sees it",
        "telling where an item comes from",
        "an upload on its way",
    ],
)
def test_of_collections(site: Site, name: str) -> None:
    _check_all(site, name, ALONE)


def test_tiles_of_collections(site: Site) -> None:
    """What is hidden, for everybody; what is seen, once for each visibility: to draw takes long."""
    rule, check = _rule("reading the tiles of a collection"), _checker(site)
    assert rule.expected is not None
    seen = (("anonymous", "public"), ("shared", "shared"), ("owner", "private"))
    for route in rule.routes:
        for caller in CALLERS:
            for collection, item, visibility in ALONE:
                if (caller, visibility) in seen or not _sees(caller, visibility):
                    check(rule, route, caller, collection, item, visibility)


@pytest.mark.parametrize("name", ["reading an item", "the history of an item", "changing an item, and who sees it"])
def test_of_items(site: Site, name: str) -> None:
    _check_all(site, name, EVERY_ITEM)


def test_lists_name_what_the_caller_sees(site: Site) -> None:
    for caller in CALLERS:
        hidden: list[str] = []
        for item, (collection, visibility) in ITEMS.items():
            if not _sees(caller, visibility):
                hidden += [
                    f'{item}"',
                    f"{item}.SAFE",
                    f"platform-{item}",
                    f"title of {item}",
                    site.uploads[item],
                    site.events[item],
                ]
                hidden += [collection] if collection != OPEN else []
        for route in _rule("lists").routes:
            answer = _asked(site, caller, route, OPEN, ABSENT_ITEM)
            assert answer.is_success, (caller, route, answer.text)
            assert not [name for name in hidden if name in answer.text], (caller, route)
        start = site.ask(caller, "GET", "/", headers={"Accept": "text/html"}).text
        assert not [name for name in hidden if name in start], caller
    everything = _asked(site, "admin", "GET /stac/queryables", OPEN, ABSENT_ITEM).text
    assert "platform-of-c-private" in everything  # its owner sees the values of his own collection
    assert "platform-i-private" not in everything  # what not all see who see the collection is in no summary of it


def test_lists_have_what_the_caller_sees(site: Site) -> None:
    for caller in CALLERS:
        items = {item for item, (_, visibility) in ITEMS.items() if _sees(caller, visibility)}
        body = {"collections": [OPEN, *COLLECTIONS], "limit": 1000}
        page = site.done(caller, "POST", "/stac/search", json=body)
        assert {one["id"] for one in page["features"]} == items
        assert page["numberMatched"] == len(items)
        asked = {"aggregations": ["total_count"], "collections": body["collections"]}
        (counted,) = site.done(caller, "POST", "/stac/aggregate", json=asked)["aggregations"]
        assert counted["value"] == len(items)
        collections = {one["id"] for one in site.done(caller, "GET", "/stac/collections?limit=1000")["collections"]}
        assert {name for name, visibility in COLLECTIONS.items() if _sees(caller, visibility)} == collections & set(
            COLLECTIONS
        )
        behind = site.done(caller, "GET", "/stac/collections?limit=1&offset=1000")
        everything = site.done(caller, "GET", "/stac/collections?limit=1000")
        assert (behind["collections"], behind["numberMatched"]) == ([], everything["numberMatched"])
        assert everything["numberMatched"] == len(everything["collections"])
        events = site.done(caller, "GET", "/lineage/v1/events?limit=1000")["events"]
        assert {one["item_id"] for one in events} - {None} == items
        start = site.ask(caller, "GET", "/", headers={"Accept": "text/html"}).text
        in_open = {item for item in items if ITEMS[item][0] == OPEN}
        assert re.search(rf'/collections/{OPEN}".*?<td class="n">(\d+)</td>', start, re.DOTALL)[1] == str(
            len(in_open)
        ), caller  # type: ignore[index]
        metrics = site.ask(caller, "GET", "/_mgmt/metrics").text
        assert {name for name in COLLECTIONS if f'"{name}"' in metrics} == collections & set(COLLECTIONS)


def test_sources_name_no_collection_that_the_caller_may_not_see(site: Site) -> None:
    mapped = site.done("admin", "GET", "/sources")["sources"][0]["collections"][0]["id"]
    site.rows("insert into federator.collection_access (collection_id, visibility) values (%s, 'private')", mapped)
    for caller in CALLERS:
        named = {
            one["id"] for source in site.done(caller, "GET", "/sources")["sources"] for one in source["collections"]
        }
        assert (mapped in named) == (caller == "admin"), caller
    site.rows("delete from federator.collection_access where collection_id = %s", mapped)


def test_an_event_that_waits_for_its_number_is_told_to_who_may_see_it(site: Site) -> None:
    named = {"item of a collection": ("c-private", "of-c-private"), "item": (OPEN, "i-private"), "upload": (None, None)}
    for what, (collection, item) in named.items():
        event, upload = str(uuid7()), f"upload/{site.uploads['i-private']}"
        site.rows(
            "insert into lineage.event_outbox (id, kind, name, source, collection, item_id, actor_id, claimed_at, body)"
            " values (%s, %s, %s, 'own', %s, %s, 'user:ann', now(), '{}')",
            event, "UPDATE" if item else "STATE", item or upload, collection, item,
        )  # fmt: skip
        for caller in CALLERS:
            status = site.ask(caller, "GET", f"/lineage/v1/log/proof/{event}").status_code
            assert (status != 404) == (caller in ("owner", "admin")), (what, caller, status)
        site.rows("delete from lineage.event_outbox where id = %s", event)


def test_a_numbered_event_of_an_upload_is_told_to_who_may_see_the_upload(site: Site) -> None:
    event, named = uuid7(), f"upload/{site.uploads['i-private']}"
    told = Event(event, Kind.STATE, named, "own", None, None, "user:ann", datetime.now(UTC), {"to": "ready"})
    asyncio.run(tell(site, told))
    for caller in CALLERS:
        status = site.ask(caller, "GET", f"/lineage/v1/log/proof/{event}").status_code
        assert status == (200 if caller in ("owner", "admin") else 404), caller


def test_an_estimate_is_of_what_the_caller_sees(site: Site) -> None:
    """What stands for `numberMatched` where counting takes too long."""
    estimate = "select matched from federator.search_estimate('true', %s)"
    found = [site.rows(estimate, principals)[0][0] for principals in ([], ["user:ann"], ["role:admin"])]
    assert found[0] < found[1] <= found[2]


def test_judging_tells_nothing_of_what_is_hidden(site: Site) -> None:
    for caller in CALLERS:
        never = _judged(site, caller, ABSENT_ITEM)
        for item, (_, visibility) in ITEMS.items():
            judged = _judged(site, caller, item)
            assert (judged != never) == _sees(caller, visibility), (caller, item)
            assert judged[0]["success"] == _sees(caller, visibility)


def _judged(site: Site, caller: str, item: str) -> list[Any]:
    """All that judges a product by its name and hash, without what was asked."""
    digest, validate = digest_of(item), "/trace/api/v1/traces"
    trace = {
        "product": {"name": f"{item}.SAFE", "size": 0, "hash": digest}, "event": "COPY", "hash_algorithm": "SHA256",
        "signature": {"signature": "", "algorithm": "", "certificate": "", "message": ""}, "id": site.events.get(item, NO_ID),
    }  # fmt: skip
    answers = [
        site.done(caller, "GET", f"{validate}/validate", params={"product_name": f"{item}.SAFE", "hash": digest}),
        site.done(caller, "GET", f"{validate}/{item}.SAFE/validate", params={"filehash": digest}),
        site.done(caller, "POST", "/lineage/v1/verify", json=trace),
    ]
    return [{name: value for name, value in one.items() if name != "facts"} for one in answers]


def test_the_graph_names_what_the_caller_sees(site: Site) -> None:
    for caller in CALLERS:
        for item, (collection, visibility) in ITEMS.items():
            if _sees(caller, visibility):
                continue
            asked = [
                site.ask(caller, "GET", f"/lineage/v1/products/{item}.SAFE/lineage"),
                site.ask(caller, "GET", f"/lineage/v1/hashes/{digest_of(item)}/lineage"),
                site.ask(
                    caller, "GET", "/lineage/v1/path", params={"from": f"{collection}/{item}", "to": f"{OPEN}/i-public"}
                ),
            ]
            assert [one.status_code for one in asked] == [404] * 3, (caller, item)
            assert item not in site.ask(caller, "GET", "/lineage/v1/audit?limit=1000").text
            assert item not in site.ask(caller, "GET", f"/lineage/v1/collections/{collection}/orphans").text
            found = site.done(caller, "POST", "/lineage/v1/hashes/verify", json={"hashes": [digest_of(item)]})[
                "results"
            ]
            assert found == [{"hash": digest_of(item), "found": False, "matches": []}]
            asked_for = {
                "items": [{"collection": collection, "item": item}],
                "hashes": [digest_of(item)],
                "names": [item],
            }
            assert '"nodes":0' in site.ask(caller, "POST", "/lineage/v1/impact", json=asked_for).text


def test_a_watch_on_what_is_mine_tells_what_its_owner_may_see(site: Site) -> None:
    watches = {
        who: site.done(who, "POST", "/lineage/v1/watches", json={"mine": True})["id"] for who in ("owner", "other")
    }
    parents = [{"collection": OPEN, "item": one, "name": one} for one in ("i-private", "i-public")]
    now = datetime.now(UTC)
    asyncio.run(
        tell(
            site,
            Event(uuid7(), Kind.CREATE, "made-of-it", "own", OPEN, "made-of-it", "user:bob", now, {"inputs": parents}),
            *(
                Event(uuid7(), Kind.WITHDRAW, one["item"], "demo", OPEN, one["item"], "harvest:demo", now, {})
                for one in parents
            ),
        )
    )
    found = {who: site.done(who, "GET", f"/lineage/v1/watches/{one}/alerts")["alerts"] for who, one in watches.items()}
    assert [one["item_id"] for one in found["other"]] == ["i-public"]
    assert site.ask("other", "GET", f"/lineage/v1/watches/{watches['owner']}/alerts").status_code == 404
    graph = site.done("other", "GET", f"/lineage/v1/collections/{OPEN}/items/made-of-it/lineage")
    assert sorted(node["kind"] for node in graph["nodes"]) == ["item", "product", "redacted"]
    assert "i-private" not in str(graph)


def test_nothing_of_the_catalogue(site: Site) -> None:
    for route in _rule("nothing of the catalogue").routes:
        text = _asked(site, "owner", route, OPEN, ABSENT_ITEM).text
        assert not [name for name in (*ITEMS, *COLLECTIONS) if name in text], route


def test_of_people_a_person_sees_himself(site: Site) -> None:
    for route in _rule("people and keys").routes:
        if route.startswith("GET"):
            answer = _asked(site, "other", route, OPEN, ABSENT_ITEM)
            assert answer.is_success or answer.status_code == 403, route
            assert not [name for name in ("ann", "cal", "surveyors", *COLLECTIONS) if f'"{name}"' in answer.text], route


def test_ids_that_are_taken_are_refused_alike(site: Site) -> None:
    for collection in COLLECTIONS:
        answer = site.ask("other", "POST", "/stac/collections", json=editing.collection(collection))
        assert (answer.status_code, answer.json()["code"]) == (409, "COLLECTION_EXISTS")
        assert (
            site.ask("anonymous", "POST", "/stac/collections", json=editing.collection(collection)).status_code == 401
        )


def test_what_is_gone_stays_hidden(site: Site) -> None:
    """The last test: it deletes."""
    history = {
        item: f"/lineage/v1/collections/{collection}/items/{item}/events" for item, (collection, _) in ITEMS.items()
    }
    for item in ("i-private", "i-shared"):
        assert site.ask("owner", "DELETE", f"/stac/collections/{OPEN}/items/{item}").status_code == 204
    site.rows(
        "with hidden as (insert into federator.private_item values (%s, 'withdrawn', '{\"readers\": [\"group:surveyors\", \"user:ann\"]}'))"
        " insert into federator.harvested_item (collection_id, item_id, product, acquisition, datetime, item_sha256, withdrawn_at)"
        " values (%s, 'withdrawn', 'p', 'p', now(), sha256('x'), now())", OPEN, OPEN,
    )  # fmt: skip
    for item, visibility in {"i-private": "private", "i-shared": "shared", "withdrawn": "shared"}.items():
        for caller in CALLERS:
            status = site.ask(caller, "GET", f"/stac/collections/{OPEN}/items/{item}").status_code
            assert status == (410 if _sees(caller, visibility) else 404), (caller, item)
    for collection in ("c-private", "c-shared"):
        assert site.ask("owner", "DELETE", f"/stac/collections/{collection}").status_code == 204
    for caller in CALLERS:
        for item, (_, visibility) in ITEMS.items():
            events = site.done(caller, "GET", history[item])["events"]
            assert bool(events) == _sees(caller, visibility), (caller, item)
    answer = site.ask("other", "POST", "/stac/collections", json=editing.collection("c-private"))
    assert (answer.status_code, answer.json()["code"]) == (409, "COLLECTION_EXISTS")  # else its events were another's
    assert site.ask("owner", "POST", "/stac/collections", json=editing.collection("c-private")).status_code == 201
