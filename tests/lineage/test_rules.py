"""Who is whose parent by names and by tile metadata, on samples whose parentage is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.names import product_id, read, stem_of
from lineage.rules import R3_FOUND, R3_NEAR, R3_UNSEEN, R4, R5, R6, R7, R8, inferred_parent, parent_of_tile, tile_rule
from tests.lineage.parentage import GRD, GRD_COG, L1C, L2A, L2A_TILES, L2A_TWIN, RAW, SLC
from tests.size import sized


def names(*stems: str):  # type: ignore[no-untyped-def]
    return [read(stem) for stem in stems]


def test_the_parent_is_built_of_the_tile_for_every_sample() -> None:
    built = [parent_of_tile(read(name), tile) for name, tile in L2A_TILES]  # type: ignore[arg-type]
    assert all(read(one).level == "L1C" for one in built if one)  # type: ignore[union-attr]
    assert None not in built
    assert built[2] == built[3] == L1C


def test_a_tile_of_another_place_is_no_parent() -> None:
    other = L2A_TILES[0][1]
    assert parent_of_tile(read(L2A), other) is None  # type: ignore[arg-type]
    assert parent_of_tile(read(L2A), "no tile") is None  # type: ignore[arg-type]


def test_a_built_name_is_as_sure_as_the_catalogue_makes_it() -> None:
    near = L1C[:-1] + "9"
    assert tile_rule(L1C, names(L1C, near)) == (L1C, R3_FOUND)
    assert tile_rule(L1C, names(near)) == (near, R3_NEAR)
    assert tile_rule(L1C, names(L1C[:-2] + "39", L2A)) == (L1C, R3_UNSEEN)


def test_names_alone_tell_by_how_many_fit() -> None:
    child = read(L2A)
    assert child is not None
    later, earlier = L1C[:-6] + "235959", L1C[:-6] + "001008"
    assert inferred_parent(child, names(L1C)) == (L1C, "input", R4)
    assert inferred_parent(child, names(later)) is None
    assert inferred_parent(child, names(L1C, earlier)) == (L1C, "input", R6)
    origins = {child.stem: "ESA", L1C: "CLOUDFERRO", earlier: "ESA"}
    assert inferred_parent(child, names(L1C, earlier), origins) == (earlier, "input", R5)
    assert inferred_parent(child, names(L1C.replace("N0509", "N0300"))) == (L1C.replace("N0509", "N0300"), "input", R6)


def test_sentinel_1_by_datatake_and_twin() -> None:
    grd, cog = read(GRD), read(GRD_COG)
    assert grd is not None
    assert cog is not None
    assert inferred_parent(grd, names(GRD, SLC, RAW)) == (SLC, "input", R7)
    assert inferred_parent(cog, names(GRD, SLC, GRD_COG)) == (GRD, "alternate_of", R8)
    assert inferred_parent(grd, names(GRD, GRD_COG)) is None


@settings(max_examples=sized(60, 1000), deadline=None)
@given(st.permutations([L1C, L2A, L2A_TWIN, L1C[:-6] + "001008", GRD, SLC]))
def test_the_order_of_the_members_is_of_no_account(stems: list[str]) -> None:
    child = read(L2A)
    assert child is not None
    assert inferred_parent(child, names(*stems)) == inferred_parent(child, names(*sorted(stems)))


@settings(max_examples=sized(100, 2000), deadline=None)
@given(st.text(max_size=120) | st.from_regex(r"S[12][A-D]_[A-Z0-9_]{4,90}", fullmatch=True))
def test_any_text_is_a_name(text: str) -> None:
    read(stem_of(text))
    assert product_id(f"{text.rstrip('/')}.SAFE") == product_id(stem_of(text)) or not stem_of(text)
