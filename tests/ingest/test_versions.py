"""What becomes of the holdings of one acquisition: one item a version, whatever the order; no false merge."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.identity import parse
from ingest.model import Contribution, Source
from ingest.normalise.fields import assemble
from ingest.versions import Held, Version, resolve
from tests.ingest.providers import PROVIDERS, held_by
from tests.size import sized
from tests.stac_schemas import faults
from tests.upstreams.products import Product, catalogue, product

SQUARE = [[10.0, 45.0], [11.0, 45.0], [11.0, 46.0], [10.0, 46.0], [10.0, 45.0]]
EAST = [[10.9, 45.0], [12.0, 45.0], [12.0, 46.0], [10.9, 46.0], [10.9, 45.0]]
S2 = "S2B_MSIL2A_20240206T131259_N{baseline}_R081_T27VWK_{made}"
S1 = "S1A_IW_GRDH_1SDV_20240607T000653_20240607T000718_054210_0697DA"
S3 = "S3A_OL_1_EFR____20160406T012156_20160406T012355_{made}_0119_002_345_1440_{centre}_R_{timeliness}_{collection}"


def held(
    name: str, source: str = "a", *, published: str = "2024-06-07T01:00:00Z", ring: Any = None, record_id: str | None = None, rank: int = 10
) -> Held:  # fmt: skip
    """A holding that says little more than a name."""
    parsed = parse(name)
    properties = {"datetime": "2024-06-07T00:06:53Z", "published": published}
    assets = {"Product": {"href": f"https://{source}.example.org/{name}.zip"}}
    contribution = assemble(parsed, {"type": "Polygon", "coordinates": [ring or SQUARE]}, properties, [], assets, None)
    from ingest.sanitise import parse_time

    contribution = replace(contribution, published=parse_time(published))
    return Held(
        Source(source, source, "odata", f"https://{source}.example.org", rank),
        record_id or f"{source}-{name}",
        contribution,
    )


def ids(versions: list[Version]) -> list[str]:
    return [version.id for version in versions]


def rels(version: Version) -> dict[str, str]:
    return {link["rel"]: link["title"] for link in version.item["links"]}


def frozen(versions: list[Version]) -> bytes:
    members = [sorted(one.key for one in version.members) for version in versions]
    return orjson.dumps([[version.item for version in versions], members], option=orjson.OPT_SORT_KEYS)


PRODUCTS = [product(number, seed=11) for number in range(40)]


@given(st.integers(0, 9), st.data())
@settings(max_examples=sized(15, 40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_holdings_of_a_scene_give_the_same_items_in_any_order(scene: int, data: st.DataObject) -> None:
    members = [one for one in PRODUCTS if one.scene == PRODUCTS[scene * 4].scene]
    by_acquisition: dict[str, list[Held]] = {}
    for one in members:
        for provider in PROVIDERS:
            if (provider, one.kind) == ("shortened", "COG"):
                continue  # it would have the name of the plain product's record
            holding = held_by(provider, one)
            by_acquisition.setdefault(holding.name.acquisition, []).append(holding)
    assert len(by_acquisition) == 3, "L1C, L2A, and radar with its COG twin"
    for holdings in by_acquisition.values():
        expected = resolve(holdings)
        assert len(expected) == 1
        assert frozen(resolve(data.draw(st.permutations(holdings)))) == frozen(expected)
        (version,) = expected
        assert set(version.item["properties"]["federation:backends"]) == set(PROVIDERS)
        assert "alternate" in version.item["assets"]["Product"]
        assert faults(version.item) == []


def test_a_cog_twin_is_the_same_product_with_further_files() -> None:
    (version,) = resolve([held(f"{S1}_A1B2.SAFE"), held(f"{S1}_6EE4_COG.SAFE")])
    assert version.id == f"{S1}_A1B2"
    assert set(version.item["assets"]) == {"Product", "Product-cog"}
    assert len(version.members) == 2


def test_a_cog_twin_alone_is_an_item_until_its_product_comes() -> None:
    assert ids(resolve([held(f"{S1}_6EE4_COG.SAFE"), held(S1, "b")])) == [f"{S1}_6EE4_COG"]


def test_deliveries_that_differ_in_the_crc_are_versions_and_never_copies() -> None:
    versions = resolve(
        [
            held(f"{S1}_A1B2.SAFE"),
            held(f"{S1}_0A0E.SAFE", published="2024-06-09T00:00:00Z"),
            held(f"{S1}_A1B2.SAFE", "b"),
        ]
    )
    assert ids(versions) == [f"{S1}_0A0E", f"{S1}_A1B2"]
    new, old = versions
    assert (new.item["properties"]["deprecated"], old.item["properties"]["deprecated"]) == (False, True)
    assert rels(old)["successor-version"] == rels(old)["latest-version"] == new.id
    assert rels(new)["predecessor-version"] == old.id
    assert old.successor_id == new.id
    assert set(old.item["properties"]["federation:backends"]) == {"a", "b"}
    assert faults(old.item) == faults(new.item) == []


def test_what_may_be_of_two_deliveries_stays_on_its_own() -> None:
    """A COG twin or a name without CRC does not say which delivery it is of: a false merge is worse than a missed one."""
    deliveries = [held(f"{S1}_A1B2.SAFE"), held(f"{S1}_0A0E.SAFE", published="2024-06-09T00:00:00Z")]
    versions = resolve([*deliveries, held(f"{S1}_6EE4_COG.SAFE", "b"), held(S1, "c")])
    assert ids(versions) == [S1, f"{S1}_0A0E", f"{S1}_6EE4_COG", f"{S1}_A1B2"]
    assert [set(version.item["properties"]["federation:backends"]) for version in versions] == [
        {"c"},
        {"a"},
        {"b"},
        {"a"},
    ]


def test_a_new_baseline_is_a_new_version() -> None:
    old, new = S2.format(baseline="0500", made="20240206T150000"), S2.format(baseline="0510", made="20240506T150000")
    newer, older = sorted(resolve([held(old), held(new)]), key=lambda one: one.id, reverse=True)
    assert (older.id, newer.id) == (old, new)
    assert (older.item["properties"]["deprecated"], newer.item["properties"]["deprecated"]) == (True, False)


def test_two_parts_of_a_tile_are_no_versions() -> None:
    west, east = S2.format(baseline="0510", made="20240206T150000"), S2.format(baseline="0510", made="20240206T150001")
    versions = resolve([held(west), held(east, ring=EAST)])
    assert ids(versions) == [west, east]
    assert all("deprecated" not in version.item["properties"] for version in versions)


def test_a_tile_made_again_under_one_baseline_is_a_version() -> None:
    old, new = S2.format(baseline="0510", made="20240206T150000"), S2.format(baseline="0510", made="20240208T150000")
    versions = resolve([held(old), held(new)])
    assert [version.item["properties"]["deprecated"] for version in versions] == [True, False]


def test_a_name_without_baseline_joins_the_version_that_it_can_only_be_of() -> None:
    old, new = S2.format(baseline="0500", made="20240206T150000"), S2.format(baseline="0510", made="20240506T150000")
    short = new.replace("_N0510", "")
    other = short.replace("20240506", "20240706")
    versions = resolve([held(old), held(new), held(short, "b"), held(other, "c")])
    assert ids(versions) == sorted([old, new, other])
    assert set(next(v for v in versions if v.id == new).item["properties"]["federation:backends"]) == {"a", "b"}


def test_near_real_time_and_final_are_one_product_and_the_final_one_speaks() -> None:
    quick = S3.format(made="20160406T031156", centre="SVL", timeliness="NR", collection="004")
    final = S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="004")
    (version,) = resolve([held(quick), held(final, "b", rank=99)])
    assert version.id == final
    assert version.item["properties"]["federation:backends"] == ["b"]
    assert len(version.members) == 2


def test_another_processing_collection_is_another_version() -> None:
    old = S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="002")
    new = S3.format(made="20241003T093342", centre="MAR", timeliness="NT", collection="004")
    versions = resolve([held(new), held(old)])
    assert [version.item["properties"]["deprecated"] for version in versions] == [True, False]
    assert ids(versions) == [old, new]


def test_halves_of_a_landsat_product_at_one_source_are_one_item() -> None:
    name = "LC08_L2SP_047027_20201204_20210313_02_T1"
    (version,) = resolve([held(f"{name}_SR"), held(f"{name}_ST"), held("LC08_L2SP_047027_20201204_02_T1", "b")])
    assert version.id == name
    assert len(version.members) == 3
    assert set(version.item["properties"]["federation:backends"]) == {"a", "b"}


def test_a_real_time_landsat_scene_gives_way_to_the_final_one() -> None:
    (version,) = resolve(
        [
            held("LC08_L1TP_047027_20201204_20201204_02_RT"),
            held("LC08_L1TP_047027_20201204_20201210_02_T1"),
            held("LC08_L1TP_047027_20201204_02_RT", "b"),
        ]
    )
    assert version.id == "LC08_L1TP_047027_20201204_20201210_02_T1"
    assert version.item["properties"]["federation:backends"] == ["a"], "the other source has the real-time one only"


def test_of_two_records_of_one_name_the_later_published_speaks() -> None:
    name = f"{S1}_A1B2.SAFE"
    (version,) = resolve(
        [
            held(name, record_id="2", published="2024-06-08T00:00:00Z"),
            held(name, record_id="1", published="2024-06-07T00:00:00Z"),
        ]
    )
    assert version.item["properties"]["published"].startswith("2024-06-08")
    assert len(version.members) == 2


NEAR = [
    "S2B_MSIL2A_20240206T131259_N0510_R081_T27VWK_20240206T150000",
    "S2B_MSIL2A_20240206T131259_N0510_R081_T27VWL_20240206T150000",
    "S2A_MSIL2A_20240206T131259_N0510_R081_T27VWK_20240206T150000",
    "S2B_MSIL1C_20240206T131259_N0510_R081_T27VWK_20240206T150000",
    "S2B_MSIL2A_20240206T131258_N0510_R081_T27VWK_20240206T150000",
    "S2B_MSIL2A_20240206T131259_N0510_R082_T27VWK_20240206T150000",
    "S2B_MSIL2A_20240206T131259_N0509_R081_T27VWK_20240206T150000",
    "S2B_MSIL2A_20240206T131259_N0510_R081_T27VWK_20240206T150001",
    f"{S1}_A1B2", f"{S1}_A1B3", f"{S1[:-1]}B_A1B2", S1.replace("GRDH", "GRDM") + "_A1B2", S1.replace("1SDV", "1SDH") + "_A1B2",
    S1.replace("1SDV", "1ADV") + "_A1B2", S1.replace("S1A", "S1B") + "_A1B2", S1.replace("000653", "000652") + "_A1B2",
    S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="004"),
    S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="003"),
    S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="004").replace("_1440_", "_1620_"),
    S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="004").replace("_345_", "_346_"),
    S3.format(made="20160407T093342", centre="MAR", timeliness="NT", collection="004").replace("_002_", "_003_"),
    "LC08_L2SP_047027_20201204_20210313_02_T1", "LC09_L2SP_047027_20201204_20210313_02_T1", "LC08_L1TP_047027_20201204_20210313_02_T1",
    "LC08_L2SP_047028_20201204_20210313_02_T1", "LC08_L2SP_047027_20201205_20210313_02_T1", "LE07_L2SP_047027_20201204_20210313_02_T1",
    "S5P_OFFL_L2__CO_____20211211T104909_20211211T123039_21566_02_020301_20211213T003805",
    "S5P_RPRO_L2__CO_____20211211T104909_20211211T123039_21566_03_020400_20220905T000938",
    "S5P_OFFL_L2__CH4____20211211T104909_20211211T123039_21566_02_020301_20211213T003805",
    "S5P_NRTI_L2__CO_____20211211T104909_20211211T105409_21566_02_020301_20211211T113805",
    "S5P_NRTI_L2__CO_____20211211T105409_20211211T105909_21566_02_020301_20211211T114305",
    "Copernicus_DSM_COG_10_N40_00_E016_00_DEM", "Copernicus_DSM_COG_30_N40_00_E016_00_DEM", "Copernicus_DSM_COG_10_N40_00_E017_00_DEM",
    "Copernicus_DSM_COG_10_S40_00_E016_00_DEM",
]  # fmt: skip


def test_names_that_are_nearly_the_same_are_never_one_item() -> None:
    groups: dict[str, list[Held]] = {}
    for name in NEAR:
        one = held(name)
        groups.setdefault(one.name.acquisition, []).append(one)
    assert sorted(item for group in groups.values() for item in ids(resolve(group))) == sorted(NEAR)


@pytest.mark.parametrize("name", NEAR)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_no_change_of_one_character_makes_two_products_one(name: str, data: st.DataObject) -> None:
    """Whatever other product the changed name is of: it is not merged with the first one, but for what rank and part are for."""
    from ingest.errors import RecordRejected

    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("0123456789ABCDEFNRSTVLHM_"))
    changed = name[:place] + letter + name[place + 1 :]
    try:
        other = parse(changed)
    except RecordRejected:
        return
    first = parse(name)
    if changed == name or (other.acquisition, other.version) == (first.acquisition, first.version):
        return  # another delivery of the same product: created, centre, timeliness, tier
    versions = (
        resolve([held(name), held(changed)])
        if other.acquisition == first.acquisition
        else [*resolve([held(name)]), *resolve([held(changed)])]
    )
    assert len(versions) == 2


def test_the_invented_catalogue_has_no_two_products_in_one_item() -> None:
    rng = random.Random(3)
    offered: list[Product] = [one for one in catalogue(400) if one.geometry()]
    held_products = [held_by("named", one) for one in offered]
    rng.shuffle(held_products)
    groups: dict[str, list[Held]] = {}
    for one in held_products:
        groups.setdefault(one.name.acquisition, []).append(one)
    items = [version for group in groups.values() for version in resolve(group)]
    plain = [one for one in offered if one.kind != "COG"]
    assert sorted(item.id for item in items) == sorted(one.stem for one in plain)


def test_contributions_are_not_changed() -> None:
    ones = [held(f"{S1}_A1B2.SAFE"), held(f"{S1}_0A0E.SAFE", published="2024-06-09T00:00:00Z")]
    before: list[Contribution] = [one.contribution for one in ones]
    frozen_before = orjson.dumps([one.item for one in before])
    resolve(ones)
    assert orjson.dumps([one.contribution.item for one in ones]) == frozen_before
    assert timedelta(0) < before[1].published - before[0].published  # type: ignore[operator]
