"""Every recorded Sentinel-1/-2 record becomes a valid item or is refused with a reason."""

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
    assert len(items) == 52
    assert {file: found for file, item in items if (found := faults(item))} == {}


def test_counts_per_source() -> None:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for one in outcomes():
        counts[one.source].update({"records": one.records, "items": len(one.contributions)})
        counts[one.source].update(error.code for error in one.refusals)
    assert counts["cdse-odata"]["items"] == 24
    assert counts["creodias-odata"] == {"records": 20, "items": 20}
    assert counts["cdse-stac"]["items"] == 6
    assert counts["earth-search"]["items"] == 2
    assert all(error.code and str(error) for one in outcomes() for error in one.refusals)


def test_all_sentinel_1_and_2_products_of_supported_types_are_items() -> None:
    """The refused ones are other missions, other product types, or records that the recording left without their product's name."""
    codes = {error.code for one in outcomes() for error in one.refusals}
    assert codes <= {"product-type-unsupported", "product-name-unknown"}


def test_the_page_in_docs_tells_these_counts() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")
    assert markdown([row_of(one) for one in outcomes()]) in page
