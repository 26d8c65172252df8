"""`/static/{release}/...`: scripts and styles of our pages, and the packages that they use, unchanged (`api/static/README.md`).

The release is a hash over all the files. What an address gives never changes, so browsers may keep it for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from api.problems import Problem

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
}
KEPT: Final = "public, max-age=31536000, immutable"

router = APIRouter(tags=["start"])


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """All files by their path under the folder, and the hash over them."""

    release: str
    files: dict[str, bytes]

    @property
    def path(self) -> str:
        """Path of the files, below the root."""
        return f"static/{self.release}"


@cache
def static_files() -> StaticFiles:
    """Read the files, once a process."""
    found, digest = {}, hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in TYPES:
            name, content = path.relative_to(FOLDER).as_posix(), path.read_bytes()
            found[name] = content
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return StaticFiles(digest.hexdigest()[:16], found)


@router.get("/static/{release}/{path:path}", include_in_schema=False)
async def static_file(release: str, path: str) -> Response:
    """One file. Another release's name gives what is here now, which nobody may keep: a page of before an update still works."""
    static = static_files()
    content = static.files.get(path)
    if content is None:
        raise Problem(404, "NOT_FOUND", "there is no such file")
    headers = {
        "Cache-Control": KEPT if release == static.release else "no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(content, media_type=TYPES[Path(path).suffix], headers=headers)
