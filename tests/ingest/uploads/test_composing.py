"""One item of several files: footprints united, versions linked, whatever the files; and who may add to it."""

from __future__ import annotations

from typing import Any

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping, shape

from db.pools import Pool
from ingest.collection_files import ensure_collections
from ingest.errors import UploadRejected
from ingest.store import lock_items, write_items
from ingest.uploads import composing, service
from ingest.uploads.targets import Wish, find_target
from tests.stac_schemas import faults

RENDER = {"title": "Default", "assets": ["a"], "bidx": [1]}
places = st.tuples(st.integers(-170, 160), st.integers(-80, 70), st.integers(1, 10), st.integers(1, 10))


def item(item_id: str = "field", key: str = "a") -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": item_id, "collection": "uploads",
        "geometry": mapping(box(0, 0, 1, 1)), "bbox": [0, 0, 1, 1], "links": [],
        "properties": {"datetime": "2026-05-01T00:00:00Z", "updated": "2026-05-02T00:00:00Z", "renders": {"default": RENDER}},
        "assets": {
            key: {"href": f"http://x/uploads/{key}.tif", "roles": ["data"]},
            "thumbnail": {"href": "http://x/raster/collections/uploads/items/field/preview.png", "roles": ["thumbnail"]},
        },
    }  # fmt: skip


@settings(max_examples=60)
@given(st.lists(places, min_size=1, max_size=6))
def test_the_footprint_is_the_union_of_all(boxes: list[tuple[int, int, int, int]]) -> None:
    shown = {
        f"k{number}": {"geometry": _geojson(box(west, south, west + width, south + height)), "render": RENDER}
        for number, (west, south, width, height) in enumerate(boxes)
    }
    whole = item(key="k0")
    whole["assets"] |= {key: {"href": f"http://x/{key}", "roles": ["data"]} for key in shown}
    made = composing.finished(whole, shown, max_vertices=500)
    union = shapely.union_all([shape(one["geometry"]) for one in shown.values()])
    filled = shapely.union_all([shapely.Polygon(part.exterior) for part in getattr(union, "geoms", [union])])
    assert shape(made["geometry"]).symmetric_difference(filled).area < 1e-9
    assert made["bbox"] == pytest.approx(union.bounds)
    assert faults(made) == []
    for key in shown:
        alone = made["assets"][key].get(composing.FOOTPRINT, made["geometry"])
        assert shape(alone).equals(shape(shown[key]["geometry"]))


def _geojson(area: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[list(point) for point in area.exterior.coords]]}


def test_both_sides_of_the_antimeridian_are_one_footprint() -> None:
    sides = [_geojson(box(178, 10, 180, 12)), _geojson(box(-180, 10, -179, 12))]
    _, bbox = composing.united(sides, 500)
    assert bbox == [178, 10, -179, 12]


def test_versions_point_at_each_other() -> None:
    first = item()
    second = composing.newer_version(item(), 2)
    older = composing.older_version(first, 1, raster_url="http://x/raster", updated="2026-05-03T00:00:00Z")
    assert (older["id"], composing.version_id(second, "predecessor-version")) == ("field~v1", "field~v1")
    assert older["assets"]["thumbnail"]["href"].startswith("http://x/raster/collections/uploads/items/field~v1/")
    again = composing.older_version(second, 2, raster_url="http://x/raster", updated="2026-05-04T00:00:00Z")
    moved = composing.with_versions(older, {"successor-version": again["id"]}, updated="2026-05-04T00:00:00Z")
    rels = {link["rel"]: link["href"] for link in moved["links"]}
    root = "collections/uploads/items"
    assert rels == {"successor-version": f"{root}/field~v2", "latest-version": f"{root}/field"}
    assert {link["rel"] for link in again["links"]} == {"predecessor-version", "successor-version", "latest-version"}
    assert first["id"] == "field", "nothing is changed in place"


async def test_what_is_anothers_is_no_target(pool: Pool) -> None:
    await ensure_collections(pool)

    async def refusal(name: str, who: str = "ann") -> tuple[int, str]:
        wish = Wish(item=name, asset="b")
        async with pool.connection() as conn:
            with pytest.raises(UploadRejected) as caught:
                await find_target(conn, "uploads", wish, owns=who.__eq__, principals=[f"user:{who}"])
        return caught.value.status, caught.value.code

    async with pool.connection() as conn, conn.transaction():
        upload = await service.create(
            conn, collection="uploads", when="2026-05-01T00:00:00Z", title="Field", owner="bob"
        )
        seen = await find_target(
            conn, "uploads", Wish(item=str(upload.id), asset="b"), owns="bob".__eq__, principals=[]
        )
        assert seen.item_id == upload.target_item
    assert upload.target_item is not None
    assert await refusal(str(upload.id)) == (404, "ITEM_UNKNOWN")
    assert await refusal(upload.target_item) == (422, "ITEM_UNKNOWN"), "as unknown as any, while it is in no catalogue"
    async with pool.connection() as conn, conn.transaction():
        await lock_items(conn, "uploads")
        await write_items(conn, "uploads", [item(upload.target_item)], {})
    assert await refusal(upload.target_item) == (404, "ITEM_UNKNOWN")
    async with pool.connection() as conn:
        await conn.execute("update pgstac.items set private = '[\"user:bob\"]'")
    assert await refusal(upload.target_item) == (422, "ITEM_UNKNOWN"), "what he may not see does not exist"
