"""Layers of a WMS request: which they are, each with its style, and several drawn over each other. Source: OGC 06-042, 7.3.3."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from starlette.concurrency import run_in_threadpool

from api.tiles.afar_pictures import Pixels, pixels_of
from api.tiles.inside import Answer
from api.tiles.layers import Offer
from api.tiles.services import Asked, ServiceError, drawn
from api.tiles.wmts import place_named

#: Layers of one picture: capabilities say so.
MOST_SHOWN: Final = 8
#: Rows that are mixed at once: eight bytes for each of their colours, for a moment.
_ROWS: Final = 256
Query = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A layer as it is asked for: where it is, and the query that draws it."""

    name: str
    path: str
    query: Query

    def within(self, seconds: float) -> Query:
        """The query with no more time than is left for the whole picture; a layer of one item knows no such limit, and needs none."""
        told = [float(value) for name, value in self.query if name == "time_limit" and _is_number(value)]
        rest = [one for one in self.query if one[0] != "time_limit"]
        return [*rest, ("time_limit", repr(min([seconds, *told])))]


def shown_in(asked: Asked, offer: Offer, parameter: str) -> list[Shown]:
    """The layers that `LAYERS` or `QUERY_LAYERS` names, the lowest first, with the styles that `STYLES` gives those of `LAYERS`.

    Raises:
        ServiceError
    """
    names = asked.need(parameter).split(",")
    if len(names) > MOST_SHOWN:
        raise ServiceError("InvalidParameterValue", f"at most {MOST_SHOWN} layers at a time", locator=parameter)
    styles = _styles(asked, names)
    return [_shown(asked, offer, name, style, parameter) for name, style in zip(names, styles, strict=True)]


def _styles(asked: Asked, names: list[str]) -> list[str]:
    """A style for each of these layers; one that is not among `LAYERS` has the usual one."""
    layers, styles = asked.get("LAYERS", ",".join(names)).split(","), asked.get("STYLES").split(",")
    if styles == [""]:
        return [""] * len(names)
    if len(styles) != len(layers):
        raise ServiceError("StyleNotDefined", "STYLES is empty, or has a style for each layer", locator="STYLES")
    if names == layers:  # the same layer twice may have two styles
        return styles
    told = dict(zip(layers, styles, strict=True))
    return [told.get(name, "") for name in names]


def _shown(asked: Asked, offer: Offer, name: str, style: str, parameter: str) -> Shown:
    place = place_named(offer, name, parameter, "LayerNotDefined")
    query = [*asked.others]
    if style not in ("", "default"):
        query.append(("render", style))
    if place.has_time and (moment := asked.get("TIME")):
        query.append(("time", moment))
    return Shown(name, place.path, query)


async def laid_over(
    layers: Sequence[Shown], seconds: float, ask: Callable[[Shown, Query], Awaitable[Answer | None]]
) -> tuple[Pixels | None, bool]:
    """Draw layers one over the other, the first at the bottom, one at a time: two of them are in memory at most.

    Args:
        layers: what is drawn.
        seconds: for all of them.
        ask: gives a layer's picture as PNG, all of one size; None: it has no pixel there.

    Returns:
        The picture, None: nothing is there; and whether the time was over before the last one was drawn.
    """
    until, ground = time.monotonic() + seconds, None
    for layer in layers:
        left = until - time.monotonic()
        if left <= 0:
            return ground, True
        answer = await ask(layer, layer.within(left))
        if answer is not None:
            ground = await run_in_threadpool(_over, answer.body, ground)
    return ground, False


def _over(png: bytes, ground: Pixels | None) -> Pixels:
    """A picture over another (Porter and Duff's `over`)."""
    picture = pixels_of(png)
    return picture if ground is None else over(picture, ground)


def over(picture: Pixels, ground: Pixels) -> Pixels:
    """A picture in RGBA over another of its size; exact where either is opaque or nothing."""
    found = ground.copy()
    for first in range(0, len(picture), _ROWS):
        rows = slice(first, first + _ROWS)
        _lay(picture[rows], found[rows])
    return found


def _lay(top: Pixels, found: Pixels) -> None:
    alpha = top[..., 3]
    is_whole, is_mixed = alpha == 255, (alpha > 0) & (alpha < 255)
    found[is_whole] = top[is_whole]
    if is_mixed.any():
        above, below = top[is_mixed].astype("float64"), found[is_mixed].astype("float64")
        share = above[:, 3:] / 255
        rest = (1 - share) * below[:, 3:] / 255
        colours = (above[:, :3] * share + below[:, :3] * rest) / (share + rest)
        found[is_mixed] = np.rint(np.hstack([colours, (share + rest) * 255])).astype("uint8")


def encoded(pixels: Pixels, name: str, background: tuple[int, int, int] | None) -> bytes:
    """A picture in RGBA in a format, transparent or on a ground of one colour; JPEG has always one."""
    if background is None and name != "jpeg":
        bands = np.moveaxis(pixels, -1, 0)
        missing = np.broadcast_to(bands[3] == 0, bands[:3].shape)
        return drawn(np.ma.MaskedArray(bands[:3], mask=missing), name, with_mask=True, alpha=bands[3])
    ground = np.empty_like(pixels)
    ground[...] = (*(background or (255, 255, 255)), 255)
    whole: Any = np.moveaxis(over(pixels, ground), -1, 0)[:3]
    return drawn(np.ma.MaskedArray(whole, mask=False), name, with_mask=False)


def _is_number(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
