"""What users say about an upload, by JSON or by tus' metadata, and whose an upload is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request

from api.access import Caller, author_of, owns, require
from api.guard import read_body
from api.parts import Parts, parts_of
from api.problems import Problem
from ingest.sharing import parse_wish
from ingest.uploads import parts as store_parts
from ingest.uploads import service, targets
from ingest.uploads.model import Upload
from ingest.uploads.registration import describe

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_id(upload_id: str) -> UUID:
    """An upload's id; anything else is not found."""
    try:
        found = UUID(upload_id)
    except ValueError:
        raise Problem(404, "NOT_FOUND", "there is no such upload") from None
    if str(found) != upload_id:  # one name for one thing
        raise Problem(404, "NOT_FOUND", "there is no such upload")
    return found


async def own_upload(request: Request, upload_id: str) -> Upload:
    """The caller's upload; another's does not exist.

    Raises:
        Problem: 401 and 403 of `require`, 404.
        UploadUnknown
    """
    parts = parts_of(request)
    caller = require(request, "upload")  # before the id: who may not ask learns nothing of it
    identity = parse_id(upload_id)
    async with parts.pool.connection() as conn:
        upload = await service.get(conn, identity)
    if not owns(caller, upload.owner):
        raise service.UploadUnknown(upload_id)
    return upload


async def read_form(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a small body.

    Raises:
        Problem: 413, 400.
    """
    try:
        form = orjson.loads(await read_body(request, limit))
    except orjson.JSONDecodeError:
        raise Problem(400, "INVALID_BODY", "the body is no JSON") from None
    if not isinstance(form, dict):
        raise Problem(400, "INVALID_BODY", "the body is a JSON object")
    return form


async def make_upload(parts: Parts, caller: Caller, form: dict[str, Any], *, tus_metadata: str = "") -> Upload:
    """Make an upload of what a form says.

    Raises:
        Problem: 422.
        UploadRejected: see `service.create`, `targets.find_target` and `registration.describe`.
    """
    name = service.clean_file_name(_text(form, "filename", None) or _text(form, "name", None) or "")
    title = _text(form, "title", None)
    length = _length(form)
    collection = _text(form, "collection", None) or "uploads"
    visibility, readers = parse_wish(form)
    plan = service.Plan(
        length=length,
        sha256=_sha256(form),
        file_name=name,
        tus_metadata=tus_metadata,
        keep_original=_flag(form, "keep_original", default=True),
        part_bytes=_part_bytes(parts, form, length),
        visibility=visibility,
        readers=readers,
    )
    wish = targets.Wish(
        _text(form, "item", None),
        _text(form, "asset", None),
        _text(form, "replaces", None),
        _flag(form, "replace", default=False),
    )
    async with parts.pool.connection() as conn, conn.transaction():
        target = await targets.find_target(
            conn, collection, wish, owns=partial(owns, caller), principals=caller.principals
        )
        upload = await service.create(
            conn,
            collection=collection,
            when=_text(form, "datetime", None),
            title=(name or "") if title is None else title,
            owner=caller.name,
            plan=replace(plan, target=target),
            limits=parts.ingest,
            author=author_of(caller),
        )
        await describe(conn, upload.id, form)
    return upload


def _text(form: dict[str, Any], name: str, default: str | None) -> str | None:
    value = form.get(name, default)
    if value is not None and (
        not isinstance(value, str) or "\0" in value or (not value.isascii() and _is_broken(value))
    ):
        raise Problem(422, "INVALID_FIELD", f"{name} is a text", field=name)
    return value


def _is_broken(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


def _length(form: dict[str, Any]) -> int | None:
    value = form.get("length")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**18:
        raise Problem(422, "INVALID_FIELD", "length is the file's size in bytes", field="length")
    return value


def _sha256(form: dict[str, Any]) -> bytes | None:
    value = _text(form, "sha256", None)
    if not value:
        return None
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise Problem(422, "INVALID_FIELD", "sha256 is 64 hexadecimal digits", field="sha256")
    return digest


def _flag(form: dict[str, Any], name: str, *, default: bool) -> bool:
    value = form.get(name, default)
    if isinstance(value, str):
        value = _WORDS.get(value.lower())
    if not isinstance(value, bool):
        raise Problem(422, "INVALID_FIELD", f"{name} is true or false", field=name)
    return value


def _part_bytes(parts: Parts, form: dict[str, Any], length: int | None) -> int | None:
    """Size of parts when the client wants to send to the object store itself."""
    how = _text(form, "transfer", None)
    if how in (None, "", "stream"):
        return None
    if how != "parts":
        raise Problem(422, "INVALID_FIELD", "transfer is 'stream' or 'parts'", field="transfer")
    if length is None:
        raise Problem(422, "INVALID_FIELD", "parts need the file's length", field="length")
    return store_parts.part_bytes(parts.ingest, length)
