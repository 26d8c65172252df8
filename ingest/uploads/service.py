"""What there is to know and to say about uploads: create, get, where files are; and the one way from state to state.

Bytes come in `receiving`, a worker's part is `processing`, what ends and goes is in `removal`. Every arrow is one transaction with
one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from db.pools import Connection
from db.queries import sql
from ingest.collection_files import is_described
from ingest.edits.author import OPERATOR, Author
from ingest.errors import RecordRejected, UploadRejected
from ingest.sanitise import parse_time
from ingest.settings import IngestSettings
from ingest.sharing import default_of_upload
from ingest.uploads import quota
from ingest.uploads.item import new_item_id
from ingest.uploads.model import ARROWS, OPEN, IllegalArrow, Role, State, Upload, from_row
from ingest.uploads.partial import sync_folder
from ingest.uploads.text import clean_text
from lineage import log as lineage_log
from lineage.events import Event, Kind
from lineage.ids import uuid7

__all__ = ["asset_href", "clean_title", "cog_path", "create", "folder_of", "get", "move", "sync_folder"]

MAX_TITLE_BYTES = 255


class UploadUnknown(LookupError):
    """There is no upload of that id."""


def folder_of(settings: IngestSettings, upload_id: UUID) -> Path:
    """Folder of an upload's original."""
    return settings.data_dir / "uploads" / str(upload_id)


def cog_path(settings: IngestSettings, upload_id: UUID) -> Path:
    """Where the finished COG is; the only file of an upload that is ever served."""
    return settings.data_dir / "cogs" / f"{upload_id}.tif"


#: An empty file in the folder of COGs: a volume that is not mounted does not have it.
VOLUME_MARK = ".volume"


def asset_href(settings: IngestSettings, upload_id: UUID) -> str:
    """URL of the finished COG."""
    return f"{settings.public_url.rstrip('/')}/uploads/{upload_id}/data.tif"


async def get(conn: Connection, upload_id: UUID) -> Upload:
    """Return an upload.

    Raises:
        UploadUnknown
    """
    row = await (await conn.execute(sql("uploads.get"), (upload_id,))).fetchone()
    if row is None:
        raise UploadUnknown(str(upload_id))
    return from_row(row)


@dataclass(frozen=True, slots=True)
class Target:
    """The item that an upload becomes or becomes part of (None: one of its own), what it is to it, and the key of its asset."""

    item_id: str | None = None
    role: Role = Role.NEW
    asset_key: str = "data"
    replaces_asset: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What is said about an upload before its bytes come. `length` in bytes; `sha256` is of the whole file.

    `tus_metadata` is the header as it came. `part_bytes`: sent in parts of this size to the object store. `target`: which item it becomes.
    `visibility` and `readers` are of the item (`ingest.sharing`); None: as is usual.
    """

    length: int | None = None
    sha256: bytes | None = None
    file_name: str | None = None
    tus_metadata: str = ""
    keep_original: bool = True
    part_bytes: int | None = None
    target: Target = Target()
    visibility: str | None = None
    readers: tuple[str, ...] = ()


async def create(
    conn: Connection,
    *,
    collection: str,
    when: str | None,
    title: str,
    owner: str,
    plan: Plan | None = None,
    limits: IngestSettings | None = None,
    author: Author = OPERATOR,
) -> Upload:
    """Make an upload that waits for its bytes.

    Args:
        when: None: a range in what is told of it, or the file's own tag.
        author: what he may see and write decides whether he may upload into the collection.
        limits: quotas that hold for the owner; None: none.

    Raises:
        UploadRejected: COLLECTION_UNKNOWN (404), COLLECTION_NOT_WRITABLE, NOT_ALLOWED (403), DATETIME_INVALID, TITLE_INVALID,
            EMPTY_FILE, TOO_LARGE (413), QUOTA_EXCEEDED (403).
    """
    plan, name = plan or Plan(), clean_title(title)
    moment = moment_of(when)
    if limits and plan.length is not None:
        quota.check_length(limits, plan.length)
    hours = limits.upload_expiry_h if limits else 48.0
    async with conn.transaction():
        is_common = await _check_collection(conn, collection, author)
        visibility = plan.visibility or default_of_upload(author.principals, is_common=is_common)
        if limits:
            await quota.check_new(conn, limits, owner, plan.length)
        identity, target = uuid7(), plan.target
        parameters = (
            identity, owner, collection, name, moment, plan.length, plan.sha256, plan.file_name, plan.tus_metadata,
            plan.keep_original, plan.part_bytes, hours,
            target.item_id or new_item_id(name, identity), target.role, target.asset_key, target.replaces_asset,
            visibility, list(plan.readers),
        )  # fmt: skip
        made = await (await conn.execute(sql("uploads.insert"), parameters)).fetchone()
        assert made is not None
        upload = from_row(made)
        await lineage_log.append(conn, _state_event(upload, None, upload.state, f"user:{owner}"))
    return upload


def moment_of(when: object) -> datetime | None:
    """A moment that a user names, RFC 3339 with zone; None: none is named. Raises UploadRejected: DATETIME_INVALID."""
    if when is None:
        return None
    try:
        return parse_time(when)
    except RecordRejected as error:
        raise UploadRejected("DATETIME_INVALID", str(error), field="datetime") from None


async def _check_collection(conn: Connection, collection: str, author: Author) -> bool:
    """May the author upload into this collection? Returns whether everybody may."""
    parameters = (collection, list(author.principals), list(author.rights))
    row = await (await conn.execute(sql("sharing.upload_target"), parameters)).fetchone()
    if row is None:
        raise UploadRejected("COLLECTION_UNKNOWN", "there is no such collection", status=404, field="collection")
    if row["is_common"]:
        return True
    if is_described(collection):
        raise UploadRejected(
            "COLLECTION_NOT_WRITABLE", "this collection takes no uploads", status=403, field="collection"
        )
    if not row["may_write"]:
        why = "you may see this collection, but not write into it: its owner can let you"
        raise UploadRejected("NOT_ALLOWED", why, status=403, field="collection")
    return False


def clean_title(title: str) -> str:
    """The title as it is shown: NFC, without control and direction characters.

    Raises:
        UploadRejected: TITLE_INVALID when nothing or too much is left.
    """
    cleaned = clean_text(title, None)
    if not 0 < len(cleaned.encode()) <= MAX_TITLE_BYTES:
        raise UploadRejected(
            "TITLE_INVALID", f"a title has 1 to {MAX_TITLE_BYTES} bytes", field="title", limit=MAX_TITLE_BYTES
        )
    return cleaned


def clean_file_name(name: str) -> str | None:
    """A user's file name for display only: its last part, cleaned and shortened to 255 bytes; None when nothing is left."""
    last = clean_text(name, None).replace("\\", "/").rsplit("/", 1)[-1].strip(". ")
    return last.encode()[:MAX_TITLE_BYTES].decode("utf-8", "ignore") or None


async def move(
    conn: Connection, upload_id: UUID, to: State, *, error: UploadRejected | None = None, actor: str | None = None
) -> Upload:
    """Go along one arrow in the caller's transaction, with its event.

    Args:
        actor: who; None: the owner while the upload is open, the worker afterwards.

    Raises:
        IllegalArrow: the upload is elsewhere by now.
        UploadUnknown
    """
    row = await (await conn.execute(sql("uploads.lock"), (upload_id,))).fetchone()
    if row is None:
        raise UploadUnknown(str(upload_id))
    before = from_row(row)
    if to not in ARROWS[before.state]:
        raise IllegalArrow(f"an upload does not go from {before.state} to {to}")
    facts = error.facts if error else {}
    values = (upload_id, to.value, error.code if error else None, str(error) if error else None, Jsonb(facts))
    after = await (await conn.execute(sql("uploads.set_state"), values)).fetchone()
    assert after is not None
    upload = from_row(after)
    who = actor or (f"user:{before.owner}" if before.state in OPEN else "worker")
    await lineage_log.append(conn, _state_event(upload, before.state, to, who))
    return upload


def _state_event(upload: Upload, before: State | None, after: State, actor: str) -> Event:
    body: dict[str, Any] = {"upload": str(upload.id), "from": before, "to": after.value}
    if upload.error_code:
        body["code"] = upload.error_code
    return Event(uuid7(), Kind.STATE, f"upload/{upload.id}", "own", None, None, actor, datetime.now(UTC), body)
