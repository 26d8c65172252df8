"""Pictures from afar: packed and unpacked, and one made of four."""

from __future__ import annotations

import numpy as np
import pytest
from imagecodecs import png_encode

from api.tiles.afar_pictures import SIDE, halved, joined, packed, pixels_of, unpacked

RNG = np.random.default_rng(1)


def flat(*colour: int) -> np.ndarray:
    return np.broadcast_to(np.array(colour, "uint8"), (SIDE, SIDE, 4)).copy()


def test_flat_pictures_are_kept_exactly_and_photographs_nearly() -> None:
    classes = flat(10, 20, 30, 255)
    classes[100:, 50:] = (200, 0, 7, 255)
    classes[:9] = 0
    assert (unpacked(packed(classes) or b"") == classes).all()
    noise = RNG.integers(60, 120, (SIDE, SIDE, 4)).astype("uint8")
    noise[..., 3] = 255
    kept = packed(noise)
    assert kept is not None
    assert len(kept) < 60_000
    assert abs(unpacked(kept).astype(int) - noise).mean() < 12
    assert packed(flat(9, 9, 9, 0)) is None


def test_colours_are_counted_by_their_alpha() -> None:
    pixels = np.zeros((2, 2, 4), "uint8")
    pixels[0, 0], pixels[0, 1] = (200, 100, 0, 255), (90, 90, 90, 0)
    assert halved(pixels).tolist() == [[[200, 100, 0, 64]]]
    assert (halved(flat(3, 4, 5, 255))[..., :] == (3, 4, 5, 255)).all()
    assert not halved(flat(3, 4, 5, 0)).any()


def test_four_tiles_lie_side_by_side() -> None:
    tiles = [(6, 9, packed(flat(1, 2, 3, 255))), (7, 8, packed(flat(4, 5, 6, 255))), (7, 9, None)]
    found = joined((6, 8), tiles)
    assert found.shape == (512, 512, 4)
    assert not found[:256, :256].any()
    assert (found[256:, :256] == (1, 2, 3, 255)).all()
    assert (found[:256, 256:] == (4, 5, 6, 255)).all()
    assert not found[256:, 256:].any()


@pytest.mark.parametrize(
    ("bands", "kind", "expected"),
    [
        (1, "uint8", (10, 10, 10, 255)),
        (2, "uint8", (10, 10, 10, 20)),
        (3, "uint8", (10, 20, 30, 255)),
        (4, "uint8", (10, 20, 30, 40)),
        (4, "uint16", (10, 20, 30, 40)),
    ],
)
def test_any_png_of_a_tile_becomes_colours_and_alpha(bands: int, kind: str, expected: tuple[int, ...]) -> None:
    values = np.array([10, 20, 30, 40][:bands], kind) * (257 if kind == "uint16" else 1)
    pixels = np.ascontiguousarray(np.broadcast_to(values, (8, 8, bands)).squeeze())
    assert (pixels_of(bytes(png_encode(pixels))) == expected).all()
