"""Product names."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RecordRejected
from ingest.identity import Sentinel1Name, Sentinel2Name, parse, stem_of, utm_code

TIMES = st.datetimes(min_value=datetime(2014, 1, 1), max_value=datetime(2040, 1, 1)).map(
    lambda when: when.strftime("%Y%m%dT%H%M%S")
)


def test_sentinel_2() -> None:
    name = parse("S2B_MSIL1C_20240206T131259_N0510_R081_T27VWK_20240206T133903.SAFE")
    assert isinstance(name, Sentinel2Name)
    assert (name.collection, name.baseline, name.relative_orbit, name.tile) == ("sentinel-2-l1c", "05.10", 81, "27VWK")
    assert name.start == datetime(2024, 2, 6, 13, 12, 59, tzinfo=UTC)
    assert utm_code(name.tile) == "EPSG:32627"
    assert utm_code("60CWS") == "EPSG:32760"


def test_sentinel_1_and_its_cog_twin() -> None:
    plain = parse("S1A_IW_GRDH_1SDV_20240607T000653_20240607T000718_054210_0697DA_A1B2.SAFE")
    twin = parse("S1A_IW_GRDH_1SDV_20240607T000653_20240607T000718_054210_0697DA_6EE4_COG.SAFE")
    assert isinstance(plain, Sentinel1Name)
    assert isinstance(twin, Sentinel1Name)
    assert (plain.product_type, twin.product_type) == ("IW_GRDH_1S", "IW_GRDH_1S-COG")
    assert (plain.is_cog, twin.is_cog, plain.datatake) == (False, True, 0x0697DA)
    assert plain.stem != twin.stem


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("S1A_IW_SLC__1SDV_20240607T000653_20240607T000718_054210_0697DA_A1B2.SAFE", "product-type-unsupported"),
        ("S2A_MSIL2A_20240206T131259_N9999_R081_T27VWK_20240206T133903.SAFE", "test-data"),
        ("S2A_MSIL1C_20240231T131259_N0510_R081_T27VWK_20240206T133903", "product-name-unknown"),
        ("S2A_MSIL1C_20240201T131259_N0510_R144_T27VWK_20240206T133903", "product-name-unknown"),
        ("S1A_IW_GRDH_1SDV_20240607T000718_20240607T000653_054210_0697DA_A1B2", "product-name-unknown"),
        ("S2B_27VWK_20240206_0_L1C", "product-name-unknown"),
        ("S2B_MSIL1C_20240206T131259_N0510_R081_T27VWI_20240206T133903", "product-type-unsupported"),
        ("", "product-name-unknown"),
        ("\N{ARABIC-INDIC DIGIT ONE}" * 60, "product-name-unknown"),
    ],
)
def test_other_names_are_refused_with_a_code(name: str, code: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        parse(name)
    assert caught.value.code == code


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(["L1C", "L2A"]),
    TIMES,
    st.integers(0, 9899),
    st.integers(1, 143),
    st.integers(1, 60),
    TIMES,
)
def test_every_well_formed_sentinel_2_name_is_read_back(
    letter: str, level: str, start: str, baseline: int, orbit: int, zone: int, made: str
) -> None:
    stem = f"S2{letter}_MSI{level}_{start}_N{baseline:04}_R{orbit:03}_T{zone:02}VWK_{made}"
    name = parse(f"{stem}.SAFE")
    assert isinstance(name, Sentinel2Name)
    assert (name.stem, name.relative_orbit, name.tile) == (stem, orbit, f"{zone:02}VWK")
    assert name.baseline == f"{baseline:04}"[:2] + "." + f"{baseline:04}"[2:]


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(RecordRejected):
        assert parse(text).stem == stem_of(text)
