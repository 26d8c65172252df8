"""`/raster/collections/{collection_id}/...`: which items a collection's mosaic is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import Path, Query
from psycopg.rows import dict_row
from starlette.requests import Request

from api.access import principals_of
from api.problems import Problem
from api.settings import ApiSettings
from api.signed import NAME, SIGNED, note_private
from api.tiles.asked import as_asked, search_of, time_of
from api.tiles.limits import check_request
from api.tiles.mosaics import WORLD, Mosaic
from db.queries import sql

JSON = dict[str, Any]
_LANGUAGES: Final = ("cql2-text", "cql2-json")
#: Routes whose standards have a box and a time of their own.
_WITH_OWN: Final = ("/map", "/wms", "/wmts", "/WMTSCapabilities.xml")
Text = str | None


def mosaic_of(settings: ApiSettings) -> Callable[..., Mosaic]:
    """The path dependency of collections: what titiler-pgstac's `CollectionIdParams` takes, and `time` as map services call it."""

    def of_collection(
        request: Request,
        collection_id: Annotated[str, Path(pattern=NAME, description="Collection")],
        ids: Annotated[Text, Query(description="Ids of items, with commas between.")] = None,
        bbox: Annotated[Text, Query(description="Items in this box, in degrees.")] = None,
        datetime: Annotated[Text, Query(description="Items of this time or interval (RFC 3339).")] = None,
        time: Annotated[Text, Query(description="The same as map services write it; a day is the whole of it.")] = None,
        query: Annotated[Text, Query(description="The query extension's object, as JSON.")] = None,
        sortby: Annotated[
            Text,
            Query(description="What lies on top: `-datetime`, `eo:cloud_cover`, or `newest`, `oldest`, `least-cloud`."),
        ] = None,
        filter_: Annotated[Text, Query(alias="filter", description="CQL2.")] = None,
        filter_lang: Annotated[Text, Query(alias="filter-lang", description="cql2-text or cql2-json.")] = None,
    ) -> Mosaic:
        check_request(request)
        if filter_lang is not None and filter_lang not in _LANGUAGES:
            raise Problem(400, "INVALID_PARAMETER", "filter-lang is cql2-text or cql2-json", fields=["filter-lang"])
        is_ours = not request.scope["route"].path.endswith(_WITH_OWN)
        told = {
            "collections": collection_id, "ids": ids, "bbox": bbox if is_ours else None,
            "datetime": datetime if datetime is not None or not is_ours else time_of(time), "query": query, "sortby": sortby,
            "filter": filter_, "filter-lang": filter_lang,
        }  # fmt: skip
        return _mosaic(request, collection_id, search_of(as_asked(told), settings))

    return of_collection


def _mosaic(request: Request, collection_id: str, search: JSON) -> Mosaic:
    asked = (collection_id, list(principals_of(request)), SIGNED in request.scope)
    with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(sql("tiles.collection_mosaic"), asked).fetchone()
    if row is None or row["content"] is None:
        raise Problem(404, "NOT_FOUND", "there is no such collection or item")
    note_private(request, is_private=not row["is_public"])
    return described(row["content"], search, row["principals"], row["hint"])


def described(content: JSON, search: JSON, principals: list[str], hint: JSON | None = None) -> Mosaic:
    """A mosaic of a collection with what its document says of it; `hint` is as what it is drawn when that says nothing."""
    renders = content.get("renders")
    renders = renders if isinstance(renders, dict) else {}
    return Mosaic(
        name=content["id"],
        title=str(content.get("title") or content["id"]),
        search=search,
        principals=tuple(principals),
        bounds=_bounds(content),
        renders={"default": hint, **renders} if hint else renders,
        times=_times(content),
    )


def _bounds(content: JSON) -> tuple[float, float, float, float]:
    """Of the extent: west, south, east, north on the Earth."""
    try:
        numbers = [float(one) for one in content["extent"]["spatial"]["bbox"][0]]
        west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
    except (KeyError, IndexError, TypeError, ValueError):
        return WORLD
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        return WORLD
    return (west, south, east, north)


def _times(content: JSON) -> tuple[str, str] | None:
    """Of the extent: from and to; an open end is today's."""
    try:
        begin, end = content["extent"]["temporal"]["interval"][0]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return (begin, end if isinstance(end, str) else "") if isinstance(begin, str) else None
