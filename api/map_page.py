"""Items on a map for people: titiler's page with its packages from here instead of a CDN, and an address that knows how to show an item."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlencode

import jinja2
import pystac
from fastapi import APIRouter, Depends
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from api.static_files import static_files

CDN: Final = "https://unpkg.com/"


def map_path(collection_id: str, item_id: str) -> str:
    """Where an item is on a map, below the service's root."""
    return f"raster/collections/{quote(collection_id, safe='')}/items/{quote(item_id, safe='')}/map"


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


def query_of(render: dict[str, Any]) -> str:
    """The tile server's parameters of a render hint (render extension 2.0); of any hint that names bands of one asset."""
    assets = render.get("assets") or ["data"]
    bands = ",".join(str(number) for number in render.get("bidx", []))
    parts = [("assets", f"{asset}|bidx={bands}" if bands else asset) for asset in assets]
    parts += [("rescale", f"{low},{high}") for low, high in render.get("rescale", [])]
    parts += [(name, str(render[name])) for name in ("colormap_name", "resampling") if name in render]
    return urlencode(parts)


def map_router(root: str, path_dependency: Any) -> APIRouter:
    """The route `/collections/{collection_id}/items/{item_id}/map`."""
    router = APIRouter(tags=["items"])

    @router.get("/collections/{collection_id}/items/{item_id}/map", status_code=307, response_class=RedirectResponse)
    def on_the_map(item: pystac.Item = Depends(path_dependency)) -> Response:  # noqa: B008 - an annotation would not find the name
        """The item on a map, shown as its first render hint says."""
        renders: dict[str, dict[str, Any]] = item.properties.get("renders") or {}
        render = next(iter(renders.values()), {})
        place = map_path(str(item.collection_id), item.id).removesuffix("/map")
        address = f"{root}/{place}/WebMercatorQuad/map.html?{query_of(render)}"
        return RedirectResponse(address, headers={"Cache-Control": "no-store"})

    return router
