"""Kernels: constants stay, slopes are followed, missing pixels have no weight; whatever the positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.tiles.kernels import Kernel, interpolated, kernel_for
from tests.size import sized

SIDE = 24
KERNELS = [
    Kernel("bilinear"),
    Kernel("cubic"),
    Kernel("bilinear", 0.6, 0.8),
    Kernel("cubic", 0.5, 0.9),
    Kernel("cubic", 1.0, 0.5),
]


def places(seed: int, margin: float = 8.0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return tuple(rng.uniform(margin, SIDE - margin, (5, 7)) for _ in range(2))  # type: ignore[return-value]


@settings(max_examples=sized(30, 300), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.sampled_from(KERNELS),
    share=st.sampled_from([0.0, 0.1, 0.5]),
    dtype=st.sampled_from(["uint8", "int16", "uint32", "float32", "float64"]),
)
def test_a_surface_of_one_value_keeps_it_whatever_is_missing(
    seed: int, kernel: Kernel, share: float, dtype: str
) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random((SIDE, SIDE)) >= share
    pixels = np.where(valid, 77, 3)[None].astype(dtype)
    columns, rows = places(seed)
    there = valid[np.floor(rows).astype(int), np.floor(columns).astype(int)]
    found = interpolated(pixels, None if share == 0 else valid, columns, rows, kernel)
    assert found.dtype == dtype
    if not (kernel.name == "cubic" and kernel.is_wide):  # whose weights may cancel each other
        assert np.allclose(found[0][there], 77)


@pytest.mark.parametrize("kernel", [Kernel("bilinear"), Kernel("cubic")])
def test_a_slope_is_followed_to_the_position(kernel: Kernel) -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    columns, rows = places(1)
    found = interpolated(np.stack([x, y, 3 * x - 2 * y]), None, columns, rows, kernel)
    assert np.allclose(found, [columns, rows, 3 * columns - 2 * rows])


def test_a_cubic_kernel_that_is_not_whole_becomes_bilinear() -> None:
    pixels = np.random.default_rng(3).normal(size=(2, SIDE, SIDE))
    valid = np.ones((SIDE, SIDE), bool)
    valid[12, 12] = False
    columns, rows = places(2, 10.0)
    column, row = np.floor(columns - 0.5), np.floor(rows - 0.5)
    touched = (abs(column - 11.5) < 2) & (abs(row - 11.5) < 2)
    cubic, plain = (interpolated(pixels, one, columns, rows, Kernel("cubic")) for one in (valid, None))
    bilinear = interpolated(pixels, valid, columns, rows, Kernel("bilinear"))
    assert touched.any()
    assert np.allclose(cubic[:, touched], bilinear[:, touched])
    assert np.allclose(cubic[:, ~touched], plain[:, ~touched])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32"])
def test_values_stay_within_their_type(dtype: str) -> None:
    """Beside a step a cubic kernel shoots over it."""
    limits = np.iinfo(dtype)
    pixels = np.full((1, SIDE, SIDE), limits.min, dtype)
    pixels[:, :, 12:] = limits.max
    columns, rows = places(4)
    found = interpolated(pixels, None, columns, rows, Kernel("cubic"))
    assert found.min() == limits.min
    assert found.max() == limits.max
    assert (found[0][columns > 13.5] > 0.9 * limits.max).all()


@pytest.mark.parametrize("kernel", KERNELS[1:3])
def test_a_large_picture_is_its_parts(kernel: Kernel) -> None:
    """It is reckoned in pieces, which bounds the memory that weights take."""
    rng = np.random.default_rng(5)
    pixels, valid = rng.integers(0, 9000, (2, SIDE, SIDE)).astype("uint16"), rng.random((SIDE, SIDE)) > 0.05
    columns, rows = (rng.uniform(8, SIDE - 8, (260, 270)) for _ in range(2))
    whole = interpolated(pixels, valid, columns, rows, kernel)
    lines = [interpolated(pixels, valid, columns[at : at + 1], rows[at : at + 1], kernel) for at in (0, 130, 259)]
    assert whole.shape == (2, 260, 270)
    for at, line in zip((0, 130, 259), lines, strict=True):
        assert np.array_equal(whole[:, at : at + 1], line)


def test_halves_go_up() -> None:
    pixels = np.zeros((1, SIDE, SIDE), "int16")
    pixels[:, :, 12:] = -1
    found = interpolated(pixels, None, np.array([12.0]), np.array([12.5]), Kernel("bilinear"))
    assert found[0, 0] == 0


@pytest.mark.parametrize(
    ("image", "window", "kernel"),
    [
        ((256, 256), (200, 200), Kernel("cubic")),
        ((256, 256), (268, 256), Kernel("cubic")),
        ((256, 256), (300, 256), Kernel("cubic", 256 / 300, 1.0)),
        ((256, 256), (512, 500), Kernel("cubic", 0.5, 0.5)),
    ],
)
def test_a_kernel_is_widened_where_the_image_is_smaller(
    image: tuple[int, int], window: tuple[int, int], kernel: Kernel
) -> None:
    assert kernel_for("cubic", image, window) == kernel
