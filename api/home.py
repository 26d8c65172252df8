"""`/`: a page for people, links for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from api.access import caller_of, principals_of, rights_of
from api.map_page import map_path
from api.parts import parts_of
from api.sources import sources_state
from db.queries import sql

router = APIRouter(tags=["start"])

templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def links(root: str) -> list[dict[str, str]]:
    """Where everything is."""
    return [
        {"rel": "self", "href": f"{root}/", "title": "This page"},
        {"rel": "data", "href": f"{root}/stac", "title": "STAC API"},
        {"rel": "service-doc", "href": f"{root}/stac/api.html", "title": "STAC API: documentation"},
        {"rel": "service-desc", "href": f"{root}/stac/api", "title": "STAC API: OpenAPI"},
        {"rel": "service-doc", "href": f"{root}/raster/api.html", "title": "Tiles: documentation"},
        {"rel": "service-doc", "href": f"{root}/api.html", "title": "Uploads, lineage, management: documentation"},
        {"rel": "upload", "href": f"{root}/upload", "title": "Upload a raster"},
        {"rel": "sources", "href": f"{root}/sources", "title": "Sources"},
        {"rel": "log", "href": f"{root}/lineage/v1/events", "title": "Log: events"},
        {"rel": "quota", "href": f"{root}/quota", "title": "What you may ask for"},
        {"rel": "health", "href": f"{root}/_mgmt/health", "title": "Health"},
        {"rel": "metrics", "href": f"{root}/_mgmt/metrics", "title": "Metrics"},
    ]


async def _catalogue(request: Request) -> dict[str, Any]:
    """What the caller may see of the catalogue."""
    parts, principals = parts_of(request), list(principals_of(request))
    async with parts.pool.connection() as conn:
        collections = await (await conn.execute(sql("api.collections"), (principals,))).fetchall()
        for collection in collections:
            asked = (collection["id"], 3, principals)
            collection["newest"] = await (await conn.execute(sql("api.newest_items"), asked)).fetchall()
        uploads = await (
            await conn.execute(sql("api.newest_uploads"), (10, list(rights_of(caller_of(request)))))
        ).fetchall()
        log = await (await conn.execute(sql("api.log_state"))).fetchone()
    return {
        "collections": collections,
        "uploads": uploads,
        "log": log,
        "sources": await sources_state(parts, principals),
    }


@router.get("/", include_in_schema=False)
async def home(request: Request) -> Response:
    """HTML for browsers, JSON for everything else."""
    parts = parts_of(request)
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"title": parts.settings.title, "links": links(parts.root)})
    page = templates.get_template("home.html").render(
        title=parts.settings.title,
        root=parts.root,
        links=links(parts.root),
        map_path=map_path,
        **await _catalogue(request),
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


@router.get("/favicon.ico", include_in_schema=False)
async def favicon() -> Response:
    """Browsers ask for it."""
    return Response(status_code=204)
