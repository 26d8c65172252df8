"""`/upload`: a page that sends rasters from a browser. It is a client of `/uploads` like any other (`static/upload/`)."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.access import caller_of, principals_of
from api.home import templates
from api.parts import parts_of
from api.static_files import static_files
from db.queries import sql

router = APIRouter(tags=["start"])

#: Nothing but our own files and our own service; no script and no style stands in the page itself.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@router.get("/upload", include_in_schema=False)
async def upload_page(request: Request) -> Response:
    """The page; it asks for a key at once when who asks may not upload."""
    parts = parts_of(request)
    async with parts.pool.connection() as conn:
        rows = await (
            await conn.execute(sql("uploads.writable_collections"), (list(principals_of(request)),))
        ).fetchall()
    page = templates.get_template("upload.html").render(
        title=parts.settings.title,
        root=parts.root,
        static=static_files().path,
        collections=[row["id"] for row in rows],
        is_known=caller_of(request) is not None,
        max_bytes=parts.ingest.upload_file_max_bytes,
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(page, headers=headers)
