"""Answers a collection's tiles of z0 to z8 with kept pictures, where those show all that the caller may see; else they are drawn.

Which are kept is found out by drawing: a picture that took many items, or more than one picture is made of, is one to keep from then on
(`api.tiles.afar_drawing`). Only what is asked for without any choice of items or looks is kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import asyncpg
import numpy as np
from morecantile import Tile
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.models import ImageData
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from titiler.core.resources.enums import ImageType

from api.access import principals_of
from api.signatures import PARAMETER
from api.signed import SIGNED
from api.tiles.afar_drawing import Overviews
from api.tiles.afar_pictures import SIDE, joined, unpacked
from api.tiles.encode import render_image
from api.tiles.notes import DEADLINE, ITEMS, PENDING, note_partial
from api.tiles.rendering import DRAWING, KEY, Rendering, note_unkept
from db.queries import sql
from ingest.overviews.stale import FINEST

#: Header of a picture that was made before: of which level its tiles are.
OVERVIEW: Final = "Federator-Overview"
#: A picture of more items than these is one to keep.
MANY: Final = 12
_PATH: Final = re.compile(
    r"/collections/([^/]+)/tiles/WebMercatorQuad/(\d)/(\d{1,3})/(\d{1,3})(?:\.(png|jpg|jpeg|webp))?"
)
_DATABASE_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_CRS: Final = "<http://www.opengis.net/def/crs/EPSG/0/3857>"


@dataclass(frozen=True, slots=True)
class Asked:
    """A tile; `deeper` 1: of 512 x 512 pixels, which are those of the four tiles of the next zoom. `form` None: as its mask asks for."""

    collection: str
    zoom: int
    x: int
    y: int
    form: ImageType | None
    deeper: int


class FromAfar:
    """Stands in front of the routes of tiles."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        overviews = _overviews(scope)
        asked = None if overviews is None or DRAWING in scope else _asked(scope)
        if overviews is None or asked is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        rows = await _kept(request, asked)
        if rows:
            note_unkept(request)  # it is kept already, and changes without a change of any item
            response = await asyncio.to_thread(_picture, asked, rows)
            if partial := _partial(rows):
                note_partial(request, partial)
            await response(scope, receive, send)
            return
        rendering = scope.setdefault(KEY, Rendering())
        state: dict[str, Any] = scope.setdefault("state", {})
        await self._app(scope, receive, send)
        is_much = state.get("items_read", 0) > MANY or state.get("partial") in (ITEMS, DEADLINE)
        if is_much and (overviews.has_remote or rendering.until is None):
            overviews.ask(asked.collection)


def _overviews(scope: Scope) -> Overviews | None:
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    found: Overviews | None = getattr(scope["app"].state, "overviews", None)
    return found if found is not None and found.is_on else None


def _asked(scope: Scope) -> Asked | None:
    """A tile that may be kept; None: some other request."""
    match = _PATH.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
    if match is None:
        return None
    collection, form = match[1], match[5]
    zoom, x, y = (int(match[group]) for group in (2, 3, 4))
    if zoom > FINEST or max(x, y) >= 1 << zoom:
        return None
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    query.pop(PARAMETER, None)
    size = query.pop("tilesize", str(SIDE))
    if query.pop("render", "default") not in ("", "default") or size not in (str(SIDE), str(2 * SIDE)) or query:
        return None
    return Asked(collection, zoom, x, y, ImageType(form) if form else None, int(size != str(SIDE)))


async def _kept(request: Request, asked: Asked) -> Sequence[Any]:
    """Tiles, for this caller; none: it is to be drawn."""
    values = (asked.collection, list(principals_of(request)), SIGNED in request.scope)
    try:
        found: Sequence[Any] = await request.app.state.primary().fetch(
            sql("tiles.overview_at"), *values, asked.zoom, asked.x, asked.y, asked.deeper
        )
    except _DATABASE_ERRORS:
        return ()  # the route says what is wrong
    if found and all(row["picture"] is None and row["partial"] for row in found):
        return ()
    return found


def _partial(rows: Sequence[Any]) -> str | None:
    why: str | None = next((row["partial"] for row in rows if row["partial"]), None)
    return why or (PENDING if rows[0]["pending"] else None)


def _picture(asked: Asked, rows: Sequence[Any]) -> Response:
    """The answer; 204 where nothing is, as tiles that are drawn."""
    headers = {OVERVIEW: f"z{asked.zoom + asked.deeper}"}
    if all(row["picture"] is None for row in rows):
        return Response(status_code=204, headers=headers)
    bounds = tuple(WEB_MERCATOR_TMS.xy_bounds(Tile(asked.x, asked.y, asked.zoom)))
    headers |= {"Content-Bbox": ",".join(map(str, bounds)), "Content-Crs": _CRS}
    if asked.form == ImageType.webp and not asked.deeper:
        return Response(rows[0]["picture"], media_type=ImageType.webp.mediatype, headers=headers)
    if asked.deeper:
        pixels = joined((2 * asked.x, 2 * asked.y), ((row["x"], row["y"], row["picture"]) for row in rows))
    else:
        pixels = unpacked(rows[0]["picture"])
    colours, alpha = np.moveaxis(pixels[..., :3], 2, 0), np.ascontiguousarray(pixels[..., 3])
    shown = np.ma.MaskedArray(colours, mask=np.broadcast_to(alpha == 0, colours.shape))
    body, media_type = render_image(ImageData(shown, alpha_mask=alpha, bounds=bounds), output_format=asked.form)
    return Response(body, media_type=media_type, headers=headers)
