"""Two hundred answers to random requests are valid STAC: item, collection and catalog schemas and every extension that an item names."""

from __future__ import annotations

import random
from typing import Any

import httpx
import pytest

from tests.api.corpus import COLLECTIONS
from tests.contract.conftest import Served
from tests.stac_schemas import faults

ANSWERS = 200


def _request(rng: random.Random) -> tuple[str, dict[str, Any]]:
    west, south = rng.uniform(-180, 150), rng.uniform(-90, 60)
    box = f"{west},{south},{west + rng.uniform(1, 30)},{south + rng.uniform(1, 30)}"
    collection = rng.choice(COLLECTIONS)
    search: dict[str, Any] = rng.choice(
        [
            {"bbox": box}, {"datetime": "2025-03-01T00:00:00Z/.."}, {"sortby": rng.choice(("-eo:cloud_cover", "id", "+platform"))},
            {"filter": "eo:cloud_cover < 50", "filter-lang": "cql2-text"}, {"query": '{"platform": {"startsWith": "sentinel"}}'}, {},
        ]
    )  # fmt: skip
    search |= {"limit": rng.randrange(1, 6)}
    return rng.choice(
        [
            ("/search", search), ("/search", {**search, "collections": collection}), (f"/collections/{collection}/items", search),
            (f"/collections/{collection}", {}), ("/collections", {"limit": rng.randrange(1, 40)}), ("/", {}), ("/catalogs", {}),
        ]
    )  # fmt: skip


def _faults(answer: Any) -> list[str]:
    match answer:
        case {"type": "FeatureCollection", "features": list(items)}:
            return [fault for item in items for fault in faults(item)]
        case {"collections": list(collections)}:
            return [fault for collection in collections for fault in faults(collection, "collection")]
        case {"type": "Collection"}:
            return faults(answer, "collection")
        case {"type": "Catalog"}:
            return faults(answer, "catalog")
        case {"catalogs": list(catalogs)}:
            return [fault for catalog in catalogs for fault in faults(catalog, "catalog")]
    return [f"an answer of no known kind: {str(answer)[:200]}"]


@pytest.mark.slow
def test_two_hundred_random_answers_are_valid_stac(served: Served) -> None:
    rng = random.Random(20)
    with httpx.Client(base_url=f"{served.url}/stac", timeout=30) as client:
        for _ in range(ANSWERS):
            path, parameters = _request(rng)
            answer = client.get(path, params=parameters)
            assert answer.status_code == 200, (path, parameters, answer.text[:300])
            assert _faults(answer.json()) == [], (path, parameters)
