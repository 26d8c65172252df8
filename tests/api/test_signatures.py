"""Signatures of tile URLs, as values: good for one path and until one moment, and for nothing else."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.signatures import (
    MOST,
    Place,
    SignatureExpired,
    SignatureInvalid,
    Signer,
    SignerTooLong,
    place_of,
    sign,
    verify,
)

KEY = bytes(range(32))
ANN = Signer("ann", ("user:ann", "group:maps"), "general")
ITEM = Place("uploads", "field-1")
GOOD = sign(KEY, ITEM, ANN, 1000)
names = st.text("AZaz09._~-", min_size=1, max_size=20)
places = st.builds(Place, names, st.none() | names) | st.builds(lambda name: Place("", None, name), names)


@settings(max_examples=60)
@given(places, names, st.integers(1, 2**40), st.lists(st.text(max_size=20), max_size=5))
def test_who_signed_is_read_below_the_path_and_nowhere_else(
    place: Place, other: str, expires: int, principals: list[str]
) -> None:
    signer = Signer(other, tuple(principals), "services")
    signature = sign(KEY, place, signer, expires)
    below = place.path + (
        "items/x/tiles/0" if place.item is None and place.search is None else "tiles/WebMercatorQuad/0/0/0.png"
    )
    assert verify(KEY, below, signature, expires - 1) == (signer, expires)
    with pytest.raises(SignatureExpired):
        verify(KEY, below, signature, expires)
    elsewhere = Place(place.collection + "x", place.item).path + "items/x/tiles/0"
    other_kind = (
        below.replace("/collections/", "/searches/")
        if place.search is None
        else below.replace("/searches/", "/collections/")
    )
    for path in (elsewhere, f"/stac{below}", other_kind, "/raster/", "/raster/wmts", ""):
        with pytest.raises(SignatureInvalid):
            verify(KEY, path, signature, 0)


def test_the_signature_of_an_item_is_not_good_for_another_or_the_collection() -> None:
    for path in ("/raster/collections/uploads/items/field-2/info", "/raster/collections/uploads/info"):
        with pytest.raises(SignatureInvalid):
            verify(KEY, path, GOOD, 0)


@settings(max_examples=80)
@given(st.integers(0, len(GOOD) * 6 - 1))
def test_a_signature_with_one_bit_changed_is_worthless(bit: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place, shift = divmod(bit, 6)
    changed = GOOD[:place] + alphabet[alphabet.index(GOOD[place]) ^ (1 << shift)] + GOOD[place + 1 :]
    with pytest.raises(SignatureInvalid):
        verify(KEY, ITEM.path, changed, 0)


@settings(max_examples=60)
@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_anything_else_is_worthless(text: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(KEY, ITEM.path, text, 0)


def test_another_key_or_later_expiry_is_worthless() -> None:
    with pytest.raises(SignatureInvalid):
        verify(KEY[::-1], ITEM.path, GOOD, 0)
    raw = urlsafe_b64decode(GOOD + "=" * (-len(GOOD) % 4))
    longer = urlsafe_b64encode(raw.replace(b"1000", b"9000")).rstrip(b"=").decode()
    with pytest.raises(SignatureInvalid):
        verify(KEY, ITEM.path, longer, 0)


def test_a_signature_fits_a_url() -> None:
    assert len(GOOD) < 200
    with pytest.raises(SignerTooLong):
        sign(KEY, ITEM, Signer("ann", tuple(f"group:{n}" for n in range(MOST)), "general"), 1000)


def test_a_path_s_place() -> None:
    assert place_of("/raster/collections/a/items/b/tiles/x") == Place("a", "b")
    assert place_of("/raster/collections/a/items/b") is None
    assert place_of("/raster/collections/a/") == Place("a", None)
