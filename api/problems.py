"""Errors become RFC 9457 problems, in one table. Nothing of a foreign exception's text reaches a client.

STAC's own error members `code` and `description` are in every problem, so STAC clients find what they expect.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import Any

import asyncpg
import psycopg
import rasterio
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from rasterio.errors import RasterioError
from rio_tiler.errors import RioTilerError, TileOutsideBounds
from stac_fastapi.types.errors import ConflictError, InvalidQueryParameter, NotFoundError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from titiler.core.errors import TilerError

from db.errors import DbError
from ingest.errors import EditRefused, UploadRejected
from ingest.store import CollectionUnknown
from ingest.uploads.model import IllegalArrow
from ingest.uploads.originals import StoreFailed
from ingest.uploads.service import UploadUnknown
from lineage.errors import EventInvalid, LogConflict, ProofPending

log = logging.getLogger(__name__)


class Problem(Exception):
    """An answer that is no success: status, stable code, words for a person, facts for a program."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **facts: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.facts = status, code, detail, facts
        self.headers = dict(headers or {})


_TOO_MANY_DESCENDANTS = (
    "more came of this product than a filter looks through; POST /lineage/v1/impact streams all of it"
)

#: Exception -> status, code, detail. The first entry that fits the exception's classes, from the narrowest on, decides.
TABLE: dict[type[Exception], tuple[int, str, str]] = {
    UploadUnknown: (404, "NOT_FOUND", "there is no such upload"),
    IllegalArrow: (409, "STATE_CONFLICT", "the upload is in another state by now"),
    LogConflict: (503, "LOG_DAMAGED", "the log contradicts itself; whoever runs this service has to look at it"),
    EventInvalid: (400, "INVALID_CONTENT", "what was sent has no form in which it can be logged"),
    ProofPending: (409, "PROOF_PENDING", "the event waits for its number; ask again in a moment"),
    CollectionUnknown: (404, "NOT_FOUND", "there is no such collection or item"),
    NotFoundError: (404, "NOT_FOUND", "there is no such collection or item"),
    InvalidQueryParameter: (400, "INVALID_PARAMETER", "a parameter of the query is not valid"),
    ConflictError: (409, "CONFLICT", "it exists already"),
    # As lineage.items_from raises it.
    asyncpg.TooManyArgumentsError: (400, "TOO_MANY_DESCENDANTS", _TOO_MANY_DESCENDANTS),
    psycopg.errors.TooManyArguments: (400, "TOO_MANY_DESCENDANTS", _TOO_MANY_DESCENDANTS),
    asyncpg.QueryCanceledError: (503, "QUERY_TIMEOUT", "the query took too long; make it narrower"),
    asyncpg.DataError: (400, "INVALID_QUERY", "the database cannot make sense of the query"),
    asyncpg.RaiseError: (400, "INVALID_QUERY", "the database cannot make sense of the query"),
    # PostGIS reports a text that is no geometry, and GEOS its topology errors, as internal errors.
    asyncpg.InternalServerError: (400, "INVALID_QUERY", "the database cannot make sense of the query"),
    asyncpg.SyntaxOrAccessError: (400, "INVALID_QUERY", "the database cannot make sense of the query"),
    # Too many columns, too deep an expression: what the guard lets through is far below, so far as it knows.
    asyncpg.ProgramLimitExceededError: (400, "INVALID_QUERY", "the database cannot make sense of the query"),
    asyncpg.PostgresConnectionError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    asyncpg.InternalClientError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    asyncpg.InterfaceError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    asyncpg.CannotConnectNowError: (503, "DATABASE_UNAVAILABLE", "the database is starting; try again"),
    asyncpg.AdminShutdownError: (503, "DATABASE_UNAVAILABLE", "the database is being restarted; try again"),
    asyncpg.TooManyConnectionsError: (503, "DATABASE_BUSY", "the database is busy; try again"),
    psycopg.errors.QueryCanceled: (503, "QUERY_TIMEOUT", "the query took too long"),
    psycopg.DataError: (400, "INVALID_CONTENT", "the database cannot store what was sent"),
    psycopg.OperationalError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    PoolTimeout: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    DbError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    StoreFailed: (503, "STORE_UNAVAILABLE", "the object store does not answer; try again"),
    ConnectionError: (503, "DATABASE_UNAVAILABLE", "the database does not answer; try again"),
    TimeoutError: (503, "TIMEOUT", "it took too long; try again"),
    TileOutsideBounds: (404, "TILE_OUTSIDE_BOUNDS", "the tile is outside the raster"),
    RioTilerError: (400, "INVALID_PARAMETER", "the raster has no such asset, band or option"),
    TilerError: (400, "INVALID_PARAMETER", "the raster has no such asset, band or option"),
    rasterio._err.CPLE_BaseError: (400, "INVALID_PARAMETER", "the coordinates have no place in the raster"),
    RasterioError: (422, "RASTER_UNREADABLE", "the raster cannot be read"),
}
CODES = {
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    400: "BAD_REQUEST",
    413: "TOO_LARGE",
    422: "INVALID_PARAMETER",
    503: "UNAVAILABLE",
}


def answer(status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **facts: Any) -> Response:
    """A problem+json response."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    content = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "description": detail,
        **facts,
    }
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type="application/problem+json")


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer(error.status, error.code, error.detail, error.headers, **error.facts)


async def _on_upload_rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, UploadRejected)
    return answer(error.status, error.code, str(error), **error.facts)


async def _on_edit_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, EditRefused)
    headers = {"Retry-After": "2"} if error.status == 503 else {}
    return answer(error.status, error.code, str(error), headers, **error.facts)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Framework and library errors: their status is right, their text may quote a foreign exception, so it is ours."""
    assert isinstance(error, HTTPException)
    details = {404: "there is nothing here", 405: "this method is not allowed here", 400: "the request is not valid"}
    detail = details.get(error.status_code, "the request cannot be answered")
    return answer(error.status_code, CODES.get(error.status_code, "HTTP_ERROR"), detail, error.headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = list(dict.fromkeys(_printable(_place(fault["loc"])) for fault in error.errors()))[:10]
    return answer(400, "INVALID_PARAMETER", f"not valid: {', '.join(fields)}", fields=fields)


def _place(parts: Sequence[str | int]) -> str:
    """Where a fault is, without the types of ours that were tried there."""
    named = takewhile(lambda part: "[" not in str(part), parts[1:])
    return ".".join(map(str, named)) or str(parts[0])


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable())[:80]


async def _on_known(request: Request, error: Exception) -> Response:
    for kind in type(error).__mro__:
        if kind in TABLE:
            status, code, detail = TABLE[kind]
            headers = {"Retry-After": "2"} if status == 503 else {}
            return answer(status, code, detail, headers)
    return await _on_unknown(request, error)


async def _on_unknown(request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error, extra={"path": request.scope.get("path", "")})
    return answer(500, "INTERNAL", "something went wrong here; it has been logged")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of an application, and of those mounted in it that call this too, with a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(UploadRejected, _on_upload_rejected)
    app.add_exception_handler(EditRefused, _on_edit_refused)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    for kind in TABLE:
        app.add_exception_handler(kind, _on_known)
    app.add_exception_handler(Exception, _on_unknown)
