"""What every service needs to answer: JSON quickly, and its own URL as the client sees it."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response


def json_answer(content: Any, status: int = 200, media: str = "application/json") -> Response:
    """JSON by orjson."""
    return Response(orjson.dumps(content), status, media_type=media)


def service_root(request: Request) -> str:
    """URL of the service that the request reached (where it is mounted), without a slash behind."""
    return f"{request.url.scheme}://{request.url.netloc}{request.scope['root_path']}".rstrip("/")
