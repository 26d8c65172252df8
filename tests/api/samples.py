"""Small items for the tests of the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lineage.canonical import item_sha256
from lineage.events import Event, Kind
from lineage.ids import uuid7

START = datetime(2026, 3, 1, tzinfo=UTC)


def item(number: int) -> dict[str, Any]:
    """Item `number`: one a day, cloud cover = number, a square at (number / 10, 45)."""
    west = number / 10
    ring = [[west, 45.0], [west + 0.1, 45.0], [west + 0.1, 45.1], [west, 45.1], [west, 45.0]]
    when = (START + timedelta(days=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"SAMPLE_{number:03}", "collection": "sentinel-2-l2a",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v2.0.0/schema.json"], "links": [],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, 45.0, west + 0.1, 45.1],
        "properties": {"datetime": when, "eo:cloud_cover": number, "platform": "sentinel-2a"},
        "assets": {"B02_10m": {"href": f"s3://elsewhere/{number}/B02.jp2", "type": "image/jp2", "roles": ["data"]}},
    }  # fmt: skip


def creation(document: dict[str, Any]) -> Event:
    """The event of an item's first sight."""
    body = {"item_sha256": item_sha256(document), "hashes": [{"alg": "MD5", "digest": "ab" * 16}]}
    name = f"{document['id']}.SAFE"
    return Event(
        uuid7(), Kind.REGISTER, name, "demo", document["collection"], document["id"], "harvest:demo", START, body
    )
