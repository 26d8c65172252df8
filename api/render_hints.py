"""How an item is drawn when a request names no assets: by `renders.default`, the render extension's hint. Parameters that are given win.

Sources: stac-extensions/render 2.0.0; the parameters are those of titiler's `AssetsParams`, `ImageRenderingParams`, `ColorMapParams`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pystac
from rio_tiler.colormap import cmap

from api.problems import Problem
from api.tiles.expressions import check_expression

JSON = dict[str, Any]
PREVIEW = "federator:preview"
#: Of hints that are offered as layers and styles.
_NAME = re.compile(r"[A-Za-z0-9._~-]{1,100}")
_MOST_NAMES = 50
#: Hints that are looked at for a list, whether they can be followed or not: each may have an expression to parse.
_MOST_HINTS = 2 * _MOST_NAMES
_MAX_BANDS = 4
_HUGE = 1e300


def render_of(item: pystac.Item, name: str = "default", *more: Any) -> JSON:
    """One hint of the item as far as it can be followed, else the asset `data`; {}: there is neither. Items may be written by anybody.

    `more` are hints by name that come before the item's own, as a collection has.
    """
    for renders in _renders(item, more):
        hint = renders.get(name)
        if isinstance(hint, dict) and (found := _followed(hint, item)):
            return found
    return {"assets": ["data"]} if "data" in item.assets else {}


def is_offered(item: pystac.Item, name: str, *more: Any) -> bool:
    """Whether there is a hint of a name that can be followed; no other is looked at."""
    hints = (renders.get(name) for renders in _renders(item, more))
    return _NAME.fullmatch(name) is not None and any(isinstance(hint, dict) and _followed(hint, item) for hint in hints)


def names_of(item: pystac.Item, *more: Any) -> list[str]:
    """Names of hints that can be followed, as many as are worth a list."""
    names: dict[str, None] = {}
    for name, hint in islice(_hints(item, more), _MOST_HINTS):
        if name not in names and _NAME.fullmatch(name) and isinstance(hint, dict) and _followed(hint, item):
            names[name] = None
    return sorted(names, key=lambda name: (name != "default", name))[:_MOST_NAMES]


def _renders(item: pystac.Item, more: tuple[Any, ...]) -> list[JSON]:
    return [one for one in (*more, item.properties.get("renders")) if isinstance(one, dict)]


def _hints(item: pystac.Item, more: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """All hints by name, the default ones first."""
    renders = _renders(item, more)
    yield from (("default", one["default"]) for one in renders if "default" in one)
    for one in renders:
        yield from ((name, hint) for name, hint in one.items() if name != "default")


def _followed(hint: JSON, item: pystac.Item) -> JSON:
    assets, bands = hint.get("assets"), hint.get("bidx")
    if not isinstance(assets, list) or not all(isinstance(one, str) for one in assets):
        return {}
    found: JSON = {"assets": [one for one in assets if one in item.assets][:_MAX_BANDS]}
    if isinstance(bands, list) and 0 < len(bands) <= _MAX_BANDS and all(type(one) is int and one > 0 for one in bands):
        found["bidx"] = bands
    if ranges := _ranges(hint.get("rescale")):
        found["rescale"] = ranges
    if isinstance(colours := hint.get("colormap_name"), str) and colours in cmap.list():
        found["colormap_name"] = colours
    if isinstance(arithmetic := hint.get("expression"), str) and _is_followed(arithmetic):
        found["expression"] = arithmetic
    return found if found["assets"] else {}


def _is_followed(expression: str) -> bool:
    try:
        check_expression(expression)
    except Problem:
        return False
    return True


def layers_of(reader: Any) -> dict[str, JSON]:
    """The item's hints as parameters of the tile routes, by name: titiler offers each as a layer."""
    item: pystac.Item = reader.item
    return {name: as_parameters(render_of(item, name)) for name in names_of(item)}


def as_parameters(hint: JSON) -> JSON:
    """A hint as parameters of the tile routes."""
    names = hint["assets"]
    if "bidx" in hint and len(names) == 1:
        names = [f"{names[0]}|bidx={','.join(map(str, hint['bidx']))}"]
    parameters: JSON = {"assets": names}
    if "rescale" in hint:
        parameters["rescale"] = [f"{low},{high}" for low, high in hint["rescale"]]
    if "expression" in hint:
        parameters["expression"] = hint["expression"]
    return parameters | ({"colormap_name": hint["colormap_name"]} if "colormap_name" in hint else {})


def _ranges(told: Any) -> list[tuple[float, float]]:
    if not isinstance(told, list) or len(told) > _MAX_BANDS:
        return []
    pairs = [one for one in told if isinstance(one, list) and len(one) == 2]
    if len(pairs) != len(told) or not all(
        type(end) in (int, float) and abs(end) < _HUGE for one in pairs for end in one
    ):
        return []
    return [(float(low), float(high)) for low, high in pairs]
