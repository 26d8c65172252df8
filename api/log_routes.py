"""`/lineage/v1/log`: the log for those who check it: checkpoint, tiles (C2SP tlog-tiles), consistency, the verifier as one file."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api.access import principals_of
from api.parts import parts_of
from api.problems import Problem
from lineage import history, proof
from lineage.sealing import time_text
from lineage.verify import tile_name
from lineage.verify.single_file import single_file

router = APIRouter(prefix="/lineage/v1/log", tags=["lineage"])

#: A tile never changes, and a client that has it may keep it for good.
_FOR_GOOD = "max-age=31536000, immutable"
_KEPT = {"Cache-Control": f"public, {_FOR_GOOD}"}
_MAX_NUMBER = 2**62
_LEVELS = range(64)
_PATH = re.compile(r"((?:x[0-9]{3}/){0,4}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@router.get("/checkpoint")
async def checkpoint(request: Request) -> Response:
    """The newest signed checkpoint (C2SP tlog-checkpoint), with the cosignatures of witnesses that are there."""
    async with parts_of(request).pool.connection() as conn:
        note = await history.newest_note(conn, cosigned=True)
    if note is None:
        raise Problem(404, "LOG_EMPTY", "the log has not begun")
    return PlainTextResponse(note, headers={"Cache-Control": "max-age=1"})


@router.get("/consistency")
async def consistency(
    request: Request,
    old: Annotated[int, Query(alias="from", ge=1, le=_MAX_NUMBER)],
    new: Annotated[int | None, Query(alias="to", ge=1, le=_MAX_NUMBER)] = None,
    cosigned: bool = False,
) -> Response:
    """Proof that the log of `to` events (default: as it is now) goes on from that of `from`, for `python -m lineage verify`; `cosigned`:
    with the lines of witnesses.
    """
    witnesses = request.app.state.witnesses if cosigned else None
    async with parts_of(request).pool.connection() as conn:
        found = await proof.consistency(conn, old, new, witnesses=witnesses)
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no checkpoint of one of these sizes, or the first is larger")
    return Response(found, media_type="application/json")


@router.get("/stamps")
async def stamps(
    request: Request,
    before: Annotated[int, Query(ge=1, le=_MAX_NUMBER, description="of checkpoints smaller than this")] = _MAX_NUMBER,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> JSONResponse:
    """What time-stamping authorities (RFC 3161) have said of checkpoints, newest first. `size`: events; `stamped_at`: by their clock."""
    root = f"{parts_of(request).root}/lineage/v1/log/stamps"
    async with parts_of(request).pool.connection() as conn:
        rows = await history.stamps(conn, before, limit + 1)
    listed = [
        {
            "size": row["size"],
            "stamped_at": time_text(row["stamped_at"]),
            "authority": row["authority"],
            "links": [
                {"rel": "item", "type": "application/timestamp-reply", "href": f"{root}/{row['size']}"},
                {"rel": "describes", "type": "text/plain", "href": f"{root}/{row['size']}/checkpoint"},
            ],
        }
        for row in rows[:limit]
    ]
    links = []
    if len(rows) > limit:
        links.append({"rel": "next", "href": f"{root}?limit={limit}&before={rows[limit - 1]['size']}"})
    return JSONResponse({"stamps": listed, "links": links})


@router.get("/stamps/{size}")
async def stamp(size: str, request: Request) -> Response:
    """The authority's answer (TimeStampResp, DER): `openssl ts -verify -data CHECKPOINT -in STAMP -CAfile AUTHORITY`."""
    found = await _stamp(size, request)
    return Response(bytes(found["reply"]), media_type="application/timestamp-reply", headers=_KEPT)


@router.get("/stamps/{size}/checkpoint")
async def stamped_checkpoint(size: str, request: Request) -> Response:
    """The checkpoint that a stamp is of, as it was stamped."""
    return PlainTextResponse((await _stamp(size, request))["note"], headers=_KEPT)


async def _stamp(size: str, request: Request) -> dict[str, Any]:
    found = None
    if re.fullmatch(r"[1-9][0-9]{0,17}", size):
        async with parts_of(request).pool.connection() as conn:
            found = await history.stamp(conn, int(size))
    if found is None:
        raise Problem(404, "NOT_FOUND", "there is no stamp of a checkpoint of this size")
    return found


@router.get("/verify.py")
async def verifier() -> Response:
    """The offline verifier as one Python file: standard library and `cryptography`."""
    headers = {"Content-Disposition": 'attachment; filename="verify.py"'}
    return PlainTextResponse(_verifier(), media_type="text/x-python", headers=headers)


@cache
def _verifier() -> str:
    return single_file()


@router.get("/tile/entries/{path:path}")
async def entries(path: str, request: Request) -> Response:
    """An entry bundle: leaves, each behind its length. Leaves name products and people: who may not see one of them gets none."""
    index, width = _place(path)
    async with parts_of(request).pool.connection() as conn:
        data = await history.entries(conn, index, width, principals_of(request))
    return _tile(data, f"private, {_FOR_GOOD}")


@router.get("/tile/{level}/{path:path}")
async def tile(level: str, path: str, request: Request) -> Response:
    """A tile of hashes, full or partial."""
    index, width = _place(path)
    if not re.fullmatch(r"0|[1-9][0-9]?", level) or int(level) not in _LEVELS:
        raise _no_tile()
    async with parts_of(request).pool.connection() as conn:
        data = await history.tile(conn, int(level), index, width)
    return _tile(data, f"public, {_FOR_GOOD}")


def _place(path: str) -> tuple[int, int]:
    """Index and width of a tile's path. What would be written otherwise is no path: every tile has one address."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise _no_tile()
    index = int(found[1].replace("x", "").replace("/", ""))
    width = int(found[2] or 256)
    if tile_name(index) != found[1] or (found[2] is not None and width > 255):
        raise _no_tile()
    return index, width


def _tile(data: bytes | None, kept: str) -> Response:
    if data is None:
        raise _no_tile()
    return Response(data, media_type="application/octet-stream", headers={"Cache-Control": kept})


def _no_tile() -> Problem:
    return Problem(404, "NOT_FOUND", "there is no such tile")
