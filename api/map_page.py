"""Items on a map for people: titiler's page with its packages from here instead of a CDN, and an address that knows how to show an item."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote

import jinja2
import pystac
from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.templating import Jinja2Templates
from starlette.types import Scope

from api.static_files import static_files

#: Parameters of OGC API Maps.
_OF_MAPS: Final = frozenset({"f", "bbox", "bbox-crs", "crs", "width", "height"})
CDN: Final = "https://unpkg.com/"


def item_path(collection_id: str, item_id: str) -> str:
    """Where the tile server has an item, below the service's root."""
    return f"raster/collections/{quote(collection_id, safe='')}/items/{quote(item_id, safe='')}"


def map_path(collection_id: str, item_id: str) -> str:
    """Where an item is on a map, below the service's root."""
    return f"{item_path(collection_id, item_id)}/map"


def map_templates(root: str) -> Jinja2Templates:
    """titiler's templates; packages come from `api/static`, which names its folders as the CDN does.

    The page's `integrity` attributes are kept: a browser runs only what titiler meant.
    """
    titiler = jinja2.PackageLoader("titiler.core", "templates")

    def with_our_packages(name: str) -> str | None:
        if name != "map.html":
            return None
        source, _, _ = titiler.get_source(jinja2.Environment(autoescape=True), name)
        return source.replace(CDN, f"{root}/{static_files().path}/")

    loaders = [jinja2.FunctionLoader(with_our_packages), titiler]
    return Jinja2Templates(
        env=jinja2.Environment(autoescape=jinja2.select_autoescape(["html"]), loader=jinja2.ChoiceLoader(loaders))
    )


class _ForPeople(APIRoute):
    """A route that leaves what OGC API Maps asks of the same path to titiler's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette's."""
        names = {
            name.lower()
            for name, _ in parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        }
        is_picture = dict(scope.get("headers", ())).get(b"accept", b"").startswith(b"image/")
        return (Match.NONE, {}) if is_picture or names & _OF_MAPS else super().matches(scope)


def map_router(root: str, path_dependency: Any) -> APIRouter:
    """The route `/collections/{collection_id}/items/{item_id}/map`."""
    router = APIRouter(tags=["items"], route_class=_ForPeople)

    @router.get("/collections/{collection_id}/items/{item_id}/map", status_code=307, response_class=RedirectResponse)
    def on_the_map(
        request: Request,
        item: pystac.Item = Depends(path_dependency),  # noqa: B008 - an annotation would not find the name
    ) -> Response:
        """The item on a map: tiles without parameters are drawn by its render hint, others are passed on."""
        place = item_path(str(item.collection_id), item.id)
        query = f"?{request.url.query}" if request.url.query else ""
        address = f"{root}/{place}/WebMercatorQuad/map.html{query}"
        return RedirectResponse(address, headers={"Cache-Control": "no-store"})

    return router
