"""Every recorded record becomes a valid item or is refused with a reason."""

from __future__ import annotations

import collections

import pytest

from tests.recordings import markdown, outcomes, row_of
from tests.shared import shared_path
from tests.stac_schemas import faults


@pytest.fixture(autouse=True)
def _recordings() -> None:
    shared_path("upstreams", "recordings")


def test_every_item_is_valid() -> None:
    items = [(one.file, contribution.item) for one in outcomes() for contribution in one.contributions]
    assert len(items) == 249
    assert {file: found for file, item in items if (found := faults(item))} == {}


def test_counts_per_source() -> None:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for one in outcomes():
        counts[one.source].update({"records": one.records, "items": len(one.contributions)})
        counts[one.source].update(error.code for error in one.refusals)
    assert {source: count["items"] for source, count in counts.items()} == {
        "cdse-odata": 26, "creodias-odata": 20, "cdse-stac": 22, "earth-search": 6, "planetary-computer": 24, "usgs-landsat": 1,
        "cdse-opensearch": 106, "resto-mirror": 4, "dhus-mirror": 36, "onda": 2, "cdse-sentinelhub": 2, "geodes": 0,
    }  # fmt: skip
    assert all(error.code and str(error) for one in outcomes() for error in one.refusals)


def test_what_is_refused_has_no_place_or_is_no_product_that_is_held() -> None:
    codes = {error.code for one in outcomes() for error in one.refusals}
    assert codes == {
        "footprint-missing", "product-type-unsupported", "test-data", "field-missing", "id-invalid", "datetime-invalid",
    }  # fmt: skip


def test_the_page_in_docs_tells_these_counts() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")
    assert markdown([row_of(one) for one in outcomes()]) in page
