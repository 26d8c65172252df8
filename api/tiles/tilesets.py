"""What OGC API Tiles says of tilesets, as its clients read it. titiler's answers lack the links that they follow.

Sources: OGC 20-057, 9.3 (links of relation `item` with templates of tiles), and OpenLayers' source/ogcTileUtil.js, which looks for one of
a type that it can show.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse
from titiler.core.factory import MultiBaseTilerFactory
from titiler.core.models.OGC import TileSet, TileSetList
from titiler.pgstac.factory import MosaicTilerFactory

from api.tiles.services import FORMATS

JSON = dict[str, Any]
_CRS84: Final = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
_EPSG_4326: Final = "http://www.opengis.net/def/crs/EPSG/0/4326"
_TILESETS: Final = ("/tiles", "/tiles/{tileMatrixSetId}")


def as_told(found: Any) -> Any:
    """titiler's tileset, or list of them, with a template for each format; any other answer as it is."""
    if not isinstance(found, TileSet | TileSetList):
        return found
    document: JSON = found.model_dump(mode="json", exclude_none=True)
    for one in document.get("tilesets", [document]):
        one["links"] = [
            link for each in one["links"] for link in (_templates(each) if each["rel"] == "tile" else [each])
        ]
        if one.get("boundingBox", {}).get("crs") == _EPSG_4326:
            one["boundingBox"]["crs"] = _CRS84  # longitude comes first in it
    return JSONResponse(document)


def _templates(link: JSON) -> list[JSON]:
    """titiler's own link, whose brackets no client fills in, and one for each format; PNG is the last, which OpenLayers takes."""
    href = link["href"].replace("%7B", "{").replace("%7D", "}")
    base, mark, query = href.partition("?")
    items = [
        {
            "href": f"{base}.{name}{mark}{query}",
            "rel": "item",
            "type": media_type,
            "templated": True,
            "title": f"Tiles as {name.upper()}",
        }
        for media_type, name in reversed(FORMATS.items())
    ]
    return [{**link, "href": href, "templated": True}, *items]


def _improve(router: APIRouter) -> None:
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path.endswith(_TILESETS):
            route.endpoint = route.dependant.call = _improved(route.endpoint)


def _improved(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(endpoint)
    def tilesets(*given: Any, **named: Any) -> Any:
        return as_told(endpoint(*given, **named))

    return tilesets


class ItemTiles(MultiBaseTilerFactory):
    """titiler's routes of an item."""

    def tilesets(self) -> None:
        """OGC API Tiles."""
        super().tilesets()  # type: ignore[no-untyped-call]
        _improve(self.router)


class MosaicTiles(MosaicTilerFactory):
    """titiler's routes of a mosaic."""

    def tilesets(self) -> None:
        """OGC API Tiles."""
        super().tilesets()  # type: ignore[no-untyped-call]
        _improve(self.router)
