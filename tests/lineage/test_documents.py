"""Manifests and metadata files: what they tell of a product's making, and that no file of anybody's harms who reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.documents import MAX_DEPTH, DocumentInvalid, Told, inputs_of, read
from lineage.names import read as read_name
from tests.lineage.parentage import GRD, L1C, L2A, L2A_TILES
from tests.shared import shared_path
from tests.size import sized

SL1 = "S1A_IW_SL1__1_DV_20210809T173951_20210809T174021_039156_049F13_E33E"
RAW = "S1A_IW_RAW__0SDV_20210809T173949_20210809T174021_039156_049F13_3092"
#: The form of a Sentinel-1 manifest: resources within processing steps within resources, default namespaces in the depth.
MANIFEST = f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0"><metadataSection>
<safe:processing name="GRD Post Processing"><safe:facility country="France" name="S1 Core Ground Segment"><safe:software
 name="Sentinel-1 IPF" version="003.31"/></safe:facility>
<safe:resource name="{SL1}.SAFE" role="Level-1 Intermediate SLC Product">
<safe:processing name="SLC Processing"><safe:facility name="S1 Core Ground Segment"><safe:software
 name="Sentinel-1 IPF" version="003.31"/></safe:facility>
<safe:resource name="/data/localWD/1/S1A_AUX_PP1_V20190228T092500_G20210104T141253.SAFE" role="AUX_PP1"/>
<safe:resource name="/data/localWD/1/S1A_AUX_CAL_V20190228T092500_G20210104T141310.SAFE" role="AUX_CAL"/>
<safe:resource name="/data/localWD/1/S1A_AUX_INS_V20190228T092500_G20190227T100643.SAFE" role="AUX_INS"/>
<safe:resource name="{RAW}.SAFE" role="Level-0 Product">
<safe:processing name="Generation of L0"><safe:facility name="PAC1"><safe:software name="" version=""/></safe:facility>
<safe:resource name="Product Format Specifications" role="Applicable Document" version="13.0"/>
<safe:resource name="Unknown" role="Raw Data"><processing xmlns="http://www.esa.int/safe/sentinel-1.0" name="Slice"><resource
 name="Downlinked Stream" role="Raw Data"/></processing></safe:resource>
</safe:processing></safe:resource></safe:processing></safe:resource></safe:processing></metadataSection></xfdu:XFDU>""".encode()
MTL = b"""GROUP = LANDSAT_METADATA_FILE
  GROUP = PRODUCT_CONTENTS
    LANDSAT_PRODUCT_ID = "LC08_L2SP_193026_20200914_20200919_02_T1"
  END_GROUP = PRODUCT_CONTENTS
  GROUP = LEVEL2_PROCESSING_RECORD
    PROCESSING_SOFTWARE_VERSION = "LPGS_15.3.1c"
  END_GROUP = LEVEL2_PROCESSING_RECORD
  GROUP = LEVEL1_PROCESSING_RECORD
    LANDSAT_PRODUCT_ID = "LC08_L1TP_193026_20200914_20200919_02_T1"
    PROCESSING_SOFTWARE_VERSION = "LPGS_15.3.1c"
  END_GROUP = LEVEL1_PROCESSING_RECORD
END_GROUP = LANDSAT_METADATA_FILE
"""


def tile(identity: str) -> bytes:
    head = f"<n1:General_Info><L1C_TILE_ID>{identity}</L1C_TILE_ID></n1:General_Info>"
    return f"<n1:Level-2A_Tile_ID xmlns:n1='x'>{head}</n1:Level-2A_Tile_ID>".encode()


def published_manifest() -> bytes:
    return shared_path("lineage", "safe", "S1A_IW_GRDH_1SDV_20210809T173953_manifest.safe").read_bytes()


@pytest.mark.parametrize("manifest", [lambda: MANIFEST, published_manifest], ids=["form", "published"])
def test_a_sentinel_1_manifest_tells_the_whole_tree(manifest: Callable[[], bytes]) -> None:
    found = read(manifest())
    assert (found.kind, found.software) == ("safe-manifest", {"Sentinel-1 IPF": "003.31"})
    assert [one for one in found.parents if one.role == "input"] == [Told("", SL1, "input"), Told(SL1, RAW, "input")]
    assert {one.parent[:11] for one in found.parents if one.role == "aux"} == {
        "S1A_AUX_PP1",
        "S1A_AUX_CAL",
        "S1A_AUX_INS",
    }
    inputs, derivations, _ = inputs_of(found, read_name(GRD))
    assert [one["name"] for one in inputs] == [SL1]
    assert {one["child"] for one in derivations} == {SL1}


def test_a_sentinel_2_tile_names_its_parent() -> None:
    found = read(tile(L2A_TILES[2][1]))
    assert inputs_of(found, read_name(L2A))[2] == L1C
    assert inputs_of(found, read_name(GRD))[2] is None


@pytest.mark.parametrize("as_xml", [False, True])
def test_a_landsat_mtl_names_level_1(as_xml: bool) -> None:
    data = MTL
    if as_xml:
        data = (
            b"<LANDSAT_METADATA_FILE><PRODUCT_CONTENTS><LANDSAT_PRODUCT_ID>LC08_L2SP_193026_20200914_20200919_02_T1</LANDSAT_PRODUCT_ID>"
            b"</PRODUCT_CONTENTS><LEVEL1_PROCESSING_RECORD><LANDSAT_PRODUCT_ID>LC08_L1TP_193026_20200914_20200919_02_T1</LANDSAT_PRODUCT_ID>"
            b"</LEVEL1_PROCESSING_RECORD></LANDSAT_METADATA_FILE>"
        )
    found = read(data)
    assert found.kind == "landsat-mtl"
    assert found.product == "LC08_L2SP_193026_20200914_20200919_02_T1"
    assert found.parents == [Told("", "LC08_L1TP_193026_20200914_20200919_02_T1", "input")]


def test_a_landsat_mtl_names_one_parent_whatever_is_in_it() -> None:
    lines = [b'    LANDSAT_PRODUCT_ID = "LC08_L1TP_193026_%08d_20200919_02_T1"' % n for n in range(5000)]
    found = read(b"GROUP = LANDSAT_METADATA_FILE\nGROUP = LEVEL1_PROCESSING_RECORD\n" + b"\n".join(lines))
    assert len(found.parents) == 1
    with contextlib.suppress(DocumentInvalid):
        assert "\0" not in str(read(MTL.replace(b"LPGS_15", b"LPGS\0")).software)


def test_a_manifest_with_too_many_programs_is_refused() -> None:
    programs = "".join(f'<software name="p{n}"/>' for n in range(101))
    with pytest.raises(DocumentInvalid):
        read(f"<a><facility name='f'>{programs}</facility></a>".encode())


BOMB = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 50 + b'"><!ENTITY c "' + b"&b;" * 50 + b'">]><a>&c;</a>'


@pytest.mark.parametrize(
    "data",
    [
        BOMB, b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', b'<!DOCTYPE a [<!ENTITY x SYSTEM "http://localhost/">]><a>&x;</a>',
        b"<a>" * 5,
        b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1), b"<a>" + b"<b/>" * 200_001 + b"</a>", b"", b"{}", b"<a><b></a></b>",
        b'<?xml version="1.0" encoding="utf-7"?><a/>', b'<?xml version="1.0" encoding="x"?><a/>', b"<\xff\xfe",
        b"<a" + b" x='1'" * 3 + b"/>",
        b"<r>" + b"".join(b'<resource name="S1A_PARENT_%d" role="i"/>' % number for number in range(2001)) + b"</r>",
    ],
)  # fmt: skip
def test_hostile_documents_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        read(data)


def test_names_that_are_none_are_left_out() -> None:
    names = [
        "Unknown",
        "../../etc/passwd",
        "a b_c",
        "<x>",
        "x" * 500 + "_y",
        "S1A_OK_NAME.SAFE",
        "/data/S1A_OTHER.SAFE",
    ]
    texts = [name.replace("<", "&lt;") for name in names]
    data = "<r>" + "".join(f'<resource name="{text}" role="Level-0 Product"/>' for text in texts) + "</r>"
    assert [one.parent for one in read(data.encode()).parents] == ["S1A_OK_NAME", "S1A_OTHER"]


@settings(max_examples=sized(100, 3000), deadline=None)
@given(
    st.binary(max_size=200)
    | st.integers(0, len(MANIFEST)).map(lambda cut: MANIFEST[:cut])
    | st.text(max_size=200).map(lambda t: b"GROUP" + t.encode())
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(DocumentInvalid):
        read(data)
