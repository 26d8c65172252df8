"""Signed tile URLs: the route that gives them, and the middleware that lets them in.

A map client can send no `Authorization`. So whoever may read an item gets a URL template with a signature in it, good for every tile
below one path, for an hour at most. It is worth what its signer's rights are worth when it is used: the item is read with his principals,
as the database knows them then, while the key or session that he signed with is good (docs/limits.md).
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import CALLER, LOCAL, OPERATOR, Caller, caller_of, principals_of
from api.parts import parts_of
from api.people.login import identity_of
from api.problems import Problem, answer
from api.signatures import (
    PARAMETER,
    Place,
    SignatureExpired,
    SignatureInvalid,
    Signer,
    SignerTooLong,
    sign,
    verify,
)
from api.upload_forms import read_form
from db.queries import sql
from ingest.sanitise import ID, time_text

NAME: Final = f"^{ID}$"
#: Signature of the request that is being answered, for the links in its answer.
SIGNATURE: Final[ContextVar[str | None]] = ContextVar("signature", default=None)
#: Where the scope of a request has its signature, when it came with a good one.
SIGNED: Final = "federator.signature"
_PIXELS = "federator.pixels"
#: Names that people give credentials in a query. They would be in logs, histories, caches and Referer headers.
_CREDENTIALS = frozenset(
    {"api_key", "apikey", "api-key", "x-api-key", "key", "token", "access_token", "authorization", "bearer", "password"}
)
_PRIVATE = (b"cache-control", b"private, no-store")
#: Maps show others' tiles and scripts beside ours: these learn where the page is, not its signature.
_NO_REFERER = (b"referrer-policy", b"strict-origin")
_MAX_BODY = 10_000

router = APIRouter(tags=["signed URLs"])


@dataclass(slots=True)
class Pixels:
    """What is learned of a request for pixels while it is answered."""

    is_private: bool = False


def note_private(request: Request, *, is_private: bool) -> None:
    """Say whether everybody may see what the answer is made of."""
    pixels: Pixels | None = request.scope.get(_PIXELS)
    if pixels is not None:
        pixels.is_private = pixels.is_private or is_private


class Wanted(BaseModel):
    """What to sign for."""

    model_config = ConfigDict(extra="forbid")

    collection: str | None = Field(None, pattern=NAME)
    item: str | None = Field(None, pattern=NAME, description="None: the collection's mosaic and every item of it.")
    search: str | None = Field(
        None, pattern=r"^[0-9a-f]{32}$", description="A registered search, in the place of a collection."
    )
    expires_in: int | None = Field(None, ge=1, le=3600, description="Seconds; None: as long as the operator allows.")
    assets: list[str] | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Assets that the tiles show; None: `data`, of mosaics as the render hint says.",
    )
    tile_matrix_set: str = Field("WebMercatorQuad", pattern=r"^[A-Za-z0-9_]{1,64}$")

    @model_validator(mode="after")
    def _one_place(self) -> Wanted:
        if (self.collection is None) == (self.search is None) or (self.search and self.item):
            raise ValueError("a collection, an item of it, or a search")
        return self

    @property
    def place(self) -> Place:
        """What is signed for."""
        return Place(self.collection or "", self.item, self.search)


@router.post(
    "/signed",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": Wanted.model_json_schema()}},
        }
    },
)
async def signed_urls(request: Request) -> Response:
    """Tile URL template, TileJSON and map with a signature, for an item, a collection or a search that the caller may read."""
    parts = parts_of(request)
    form = await read_form(request, _MAX_BODY)
    try:
        wanted = Wanted.model_validate(form)
    except ValidationError as error:
        fields = [".".join(map(str, one["loc"]))[:80] for one in error.errors()[:10]]
        raise Problem(400, "INVALID_PARAMETER", f"not valid: {', '.join(fields)}", fields=fields) from None
    await _check_readable(request, wanted)
    signer = await _signer(request)
    seconds = min(wanted.expires_in or parts.settings.signed_url_max_s, parts.settings.signed_url_max_s)
    expires = int(time.time()) + seconds
    try:
        signature = sign(request.app.state.tile_key, wanted.place, signer, expires)
    except SignerTooLong:
        raise Problem(422, "TOO_MANY_GROUPS", "you are in more groups than a URL can hold") from None
    return JSONResponse(_shown(parts.root, wanted, signature, expires), headers={"Cache-Control": "no-store"})


async def map_query(request: Request, place: Place) -> str:
    """What a link to a map of the item needs behind it: a signature of the caller's, `?sig=...`; nothing where everybody may see it."""
    caller = caller_of(request)
    if caller is None or not caller.principals or place.item is None:
        return ""
    async with parts_of(request).pool.connection() as conn:
        if await (await conn.execute(sql("api.has_item"), (place.item, place.collection, []))).fetchone():
            return ""
    expires = int(time.time()) + parts_of(request).settings.signed_url_max_s
    signer = await _signer(request)
    try:
        return f"?{urlencode({PARAMETER: sign(request.app.state.tile_key, place, signer, expires)})}"
    except SignerTooLong:
        return ""


async def _signer(request: Request) -> Signer:
    """The caller as a signature tells of him. Programs sign without a name: who has the URL is none of them, and is counted by address.

    With what `federator.present_principals` looks at when the signature is used: the key or session, and what only a token of an identity
    provider says of him, which nobody can be asked for then.
    """
    caller, identity = caller_of(request), identity_of(request)
    if caller is None:
        return Signer("", (), "general")
    name = "" if caller.name in (LOCAL.name, OPERATOR.name) else caller.name
    principals = caller.principals
    if identity is not None and identity.kind in ("key", "session"):
        principals = (*principals, f"{identity.kind}:{identity.id}")
    elif identity is not None and identity.kind == "oidc":
        async with parts_of(request).pool.connection() as conn:
            row = await (await conn.execute(sql("api.present_principals"), (list(principals),))).fetchone()
        known = set(row["principals"]) if row else set()
        principals = tuple(one if one in known else f"given:{one}" for one in principals)
    return Signer(name, principals, caller.tier)


async def _check_readable(request: Request, wanted: Wanted) -> None:
    """What the caller may not see does not exist.

    Raises:
        Problem: 404.
    """
    principals = list(principals_of(request))
    row: dict[str, Any] | None
    async with parts_of(request).pool.connection() as conn:
        if wanted.search is not None:
            cursor = await conn.execute(sql("tiles.search"), (wanted.search, principals, False))
        elif wanted.item is None:
            cursor = await conn.execute(sql("api.collection"), (wanted.collection, principals))
        else:
            cursor = await conn.execute(sql("api.has_item"), (wanted.item, wanted.collection, principals))
        row = await cursor.fetchone()
    if row is None or not next(iter(row.values())):
        raise Problem(404, "NOT_FOUND", "there is no such collection or item")


def _shown(root: str, wanted: Wanted, signature: str, expires: int) -> dict[str, Any]:
    place, tms = wanted.place, wanted.tile_matrix_set
    of_item = Place(place.collection, place.item or "{item}")
    is_mosaic = place.item is None
    shown: dict[str, Any] = {
        "collection": wanted.collection,
        "item": wanted.item,
        "expires": time_text(datetime.fromtimestamp(expires, UTC)),
        "signature": {"parameter": PARAMETER, "value": signature},
    }
    mosaic = _templates(f"{root}{place.path}".rstrip("/"), tms, wanted.assets or [], signature)
    if place.search is not None:
        return shown | {"search": place.search} | mosaic
    if is_mosaic:
        shown["mosaic"] = mosaic
    return shown | _templates(f"{root}{of_item.path}".rstrip("/"), tms, wanted.assets or ["data"], signature)


def _templates(base: str, tms: str, assets: list[str], signature: str) -> dict[str, str]:
    query = urlencode([*(("assets", one) for one in assets), (PARAMETER, signature)])
    return {
        "tiles": f"{base}/tiles/{tms}/{{z}}/{{x}}/{{y}}.png?{query}",
        "tilejson": f"{base}/{tms}/tilejson.json?{query}",
        "wmts": f"{base}/WMTSCapabilities.xml?{query}",
        "map": f"{base}/{tms}/map.html?{query}",
    }


class Signed:
    """Takes signatures out of requests for pixels, before anything logs, traces or counts them, and says who signed.

    `raster_app` has the key in `state.tile_key` while it is open.
    """

    def __init__(self, app: ASGIApp, raster_app: Any) -> None:
        self._app, self._raster_app = app, raster_app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/raster/"):
            await self._app(scope, receive, send)
            return
        try:
            self._read(scope)
        except Problem as problem:
            headers = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
            await answer(problem.status, problem.code, problem.detail, headers)(scope, receive, send)
            return
        pixels = scope[_PIXELS] = Pixels()
        is_signed = SIGNED in scope

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _marked(message, pixels, is_signed=is_signed)}
            await send(message)

        await self._app(scope, receive, marked)

    def _read(self, scope: Scope) -> None:
        """Note the signer in the scope, and take the signature out of it: out of the server's own, whose access log reads it at the end.

        Raises:
            Problem: 400, 403.
        """
        if not scope["query_string"]:
            return
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        signatures = [value for name, value in asked if name.lower() == PARAMETER]
        keys = [name for name, _ in asked if name.lower() in _CREDENTIALS]
        if keys or signatures:
            kept = [(name, value) for name, value in asked if name.lower() not in _CREDENTIALS | {PARAMETER}]
            scope["query_string"] = urlencode(kept).encode()
        if keys:
            detail = (
                "credentials in a URL leak; send Authorization: Bearer, or ask POST /raster/signed for a signed URL"
            )
            raise Problem(400, "CREDENTIALS_IN_QUERY", detail)
        if signatures:
            scope[CALLER] = self._signer(scope, signatures)
            scope[SIGNED] = signatures[0]

    def _signer(self, scope: Scope, signatures: list[str]) -> Caller:
        if scope["method"] not in ("GET", "HEAD"):
            raise Problem(403, "SIGNATURE_READS_ONLY", "a signed URL is for reading: GET and HEAD")
        key: bytes | None = getattr(self._raster_app.state, "tile_key", None)
        try:
            if len(signatures) != 1 or key is None:
                raise SignatureInvalid
            signer, _ = verify(key, scope["path"], signatures[0], time.time())
        except SignatureExpired:
            raise Problem(
                403, "SIGNATURE_EXPIRED", "the signature of this URL has expired; ask for a new one"
            ) from None
        except SignatureInvalid:
            raise Problem(403, "SIGNATURE_INVALID", "the signature of this URL is not good for it") from None
        return Caller(signer.name, signer.principals, frozenset(), tier=signer.tier)


def _marked(message: Message, pixels: Pixels, *, is_signed: bool) -> list[tuple[bytes, bytes]]:
    """Headers that keep out of caches private pixels, and what was refused: another caller, or the same one later, may get an answer."""
    headers: list[tuple[bytes, bytes]] = list(message["headers"])
    if pixels.is_private or message["status"] >= 400:
        headers = [*(one for one in headers if one[0] != b"cache-control"), _PRIVATE]
    return [*headers, _NO_REFERER] if is_signed else headers


class Resigned:
    """Inside of the tile server: gives the signature back to what makes links of the query, as TileJSON, WMTS and the map do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        signature = scope.get(SIGNED)
        if signature is None:
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        query = f"{query}&{PARAMETER}={signature}" if query else f"{PARAMETER}={signature}"
        token = SIGNATURE.set(signature)
        try:
            await self._app({**scope, "query_string": query.encode("latin-1")}, receive, send)
        finally:
            SIGNATURE.reset(token)
