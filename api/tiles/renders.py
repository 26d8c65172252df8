"""`.../renders` of an item: its render hints, and where each is drawn, as titiler's render extension tells them (`stacRenderExtension`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import pystac
from fastapi import APIRouter, Depends, Path
from starlette.responses import JSONResponse, Response

from api.map_page import item_path
from api.problems import Problem
from api.render_hints import as_parameters, names_of, render_of
from api.tiles.drawing import signed_links

JSON = dict[str, Any]
_ITEM: Final = "/collections/{collection_id}/items/{item_id}"


def renders_router(root: str, path_dependency: Callable[..., Any]) -> APIRouter:
    """Its two routes."""
    router = APIRouter(tags=["items"])
    found = Depends(path_dependency)

    @router.get(f"{_ITEM}/renders")
    def renders(item: pystac.Item = found) -> Response:
        """All hints of an item by name."""
        here = _here(root, item)
        told = {name: _told(here, name, parameters) for name, parameters in _parameters(item).items()}
        links = [_link("self", f"{here}/renders", "Render hints")]
        return JSONResponse({"renders": told, "links": links})

    @router.get(f"{_ITEM}/renders/{{render_id}}")
    def render(render_id: Annotated[str, Path(description="Name of a hint")], item: pystac.Item = found) -> Response:
        """One of them."""
        parameters = _parameters(item).get(render_id)
        if parameters is None:
            raise Problem(404, "NO_SUCH_RENDER", "there is no render hint of this name")
        return JSONResponse(_told(_here(root, item), render_id, parameters))

    return router


def _parameters(item: pystac.Item) -> dict[str, JSON]:
    """Of each hint; of an item without any what it is drawn by all the same."""
    hints = {name: render_of(item, name) for name in names_of(item) or ["default"]}
    return {name: as_parameters(hint) for name, hint in hints.items() if hint}


def _here(root: str, item: pystac.Item) -> str:
    return f"{root}/{item_path(str(item.collection_id), item.id)}"


def _told(here: str, name: str, parameters: JSON) -> JSON:
    query = urlencode(signed_links({name: parameters})[name], doseq=True)
    return {
        "valid": True,
        "params": parameters,
        "links": [
            _link("self", f"{here}/renders/{quote(name, safe='')}", f"Render hint {name}"),
            {
                **_link("tilesets-map", f"{here}/{{tileMatrixSetId}}/tilejson.json?{query}", f"TileJSON of {name}"),
                "templated": True,
            },
            _link("tilesets-map", f"{here}/WMTSCapabilities.xml?{query}", f"WMTS of {name}", "text/xml"),
        ],
    }


def _link(rel: str, href: str, title: str, media_type: str = "application/json") -> JSON:
    return {"rel": rel, "href": href, "type": media_type, "title": title}
