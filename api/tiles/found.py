"""Items of a mosaic, read from the database page by page: while a picture has holes, and no longer."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import psycopg
import pystac
from psycopg.rows import dict_row
from shapely.geometry.base import BaseGeometry
from starlette.requests import Request

from api.problems import Problem
from api.tiles.items import stored_item
from api.tiles.remote_headers import FRESH_S
from api.tiles.rendering import note_foreign, note_until
from db.queries import sql
from ingest.edits.hrefs import drop_foreign_assets, hrefs_of, named_uploads, upload_of

JSON = dict[str, Any]
#: Items of the first page, and of those after it: most pictures are full after one or two.
_PAGES: Final = (6, 24, 70)


@dataclass(slots=True)
class Found:
    """An item that the caller may see, and whether everybody may; made of its document when it is needed."""

    _made: pystac.Item | JSON
    is_public: bool

    @property
    def item(self) -> pystac.Item:
        """The item as readers take it."""
        if isinstance(self._made, dict):
            self._made = as_item(self._made)
        return self._made


@contextmanager
def asking() -> Iterator[None]:
    """Around statements that are made of what a caller asks. Raises Problem: 400 for what the database cannot make sense of."""
    try:
        yield
    except (psycopg.errors.QueryCanceled, psycopg.OperationalError):
        raise
    except (psycopg.DataError, psycopg.ProgrammingError, psycopg.InternalError, psycopg.errors.RaiseException):
        raise Problem(400, "INVALID_QUERY", "the database cannot make sense of the query") from None


def pages_of(most: int) -> Iterator[int]:
    """Sizes of pages, `most` together."""
    number = 0
    while most > 0:
        size = min(_PAGES[min(number, len(_PAGES) - 1)], most)
        yield size
        most, number = most - size, number + 1


def items_in(
    request: Request, search: JSON, principals: Sequence[str], area: BaseGeometry | None, most: int
) -> Iterator[list[Found]]:
    """Give pages of at most `most` items whose footprints touch an area in WGS 84; a page that is not full is the last.

    An answer that shows rasters of other items is not kept: those may become private without a change of what is kept for.

    Raises:
        Problem: 400.
    """
    outline = None if area is None else area.wkb
    asked, offset = orjson.dumps(search).decode(), 0
    for size in pages_of(most):
        with request.app.state.dbpool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor, asking():
            rows = cursor.execute(sql("tiles.mosaic_rows"), (asked, list(principals), outline, size, offset)).fetchall()
            documents = [stored_item(row) for row in rows]
            named = uploads_named(cursor, documents)
            if named.is_borrowing:
                note_foreign(request)
            if not named.are_own:  # whoever sees an item may read its own uploads
                leave_out_foreign(cursor, documents, principals)
        note_age(request, documents)
        if rows:
            yield [Found(one, row["is_public"]) for one, row in zip(documents, rows, strict=True)]
        if len(rows) < size:
            return
        offset += size


@dataclass(frozen=True, slots=True)
class Named:
    """Uploads that items name: whether some is another item's, and whether each is the item's own."""

    is_borrowing: bool
    are_own: bool


def uploads_named(cursor: Any, documents: Sequence[JSON]) -> Named:
    """Whose uploads items name, readable or not; one that is not known is nobody's."""
    named = [(one, upload) for one in documents for upload in named_uploads([one])]
    if not named:
        return Named(is_borrowing=False, are_own=True)
    rows = cursor.execute(sql("tiles.owners_of_uploads"), (list({upload for _, upload in named}),)).fetchall()
    owners = {row["id"]: (row["collection_id"], row["item_id"]) for row in rows}
    found = [(owners.get(upload), (one["collection"], one["id"])) for one, upload in named]
    return Named(
        is_borrowing=any(owner is not None and owner != item for owner, item in found),
        are_own=all(owner == item for owner, item in found),
    )


def note_age(request: Request, documents: Sequence[JSON]) -> None:
    """An answer made of files elsewhere is kept for a while: they may be replaced under their names, which changes no item."""
    if is_elsewhere(documents):
        note_until(request, time.time() + FRESH_S)


def is_elsewhere(documents: Sequence[JSON]) -> bool:
    """Whether some asset is no upload of ours."""
    return any(upload_of(href) is None for document in documents for href in hrefs_of(document))


def leave_out_foreign(
    cursor: Any, documents: Sequence[JSON], principals: Sequence[str]
) -> tuple[Collection[object], Collection[object]]:
    """Take out of items the rasters of others that their assets name and that the caller may not read.

    Returns:
        Uploads that are named, and those that he may read.
    """
    if not (named := named_uploads(documents)):
        return (), ()
    rows = cursor.execute(sql("sharing.readable_uploads"), (list(named), list(principals))).fetchall()
    readable = {one["id"] for one in rows}
    for document in documents:
        drop_foreign_assets(document, readable)
    return named, readable


def as_item(document: JSON) -> pystac.Item:
    """A stored item as readers take it; the document is used up."""
    document["properties"].pop("deprecated", None)  # pystac would warn of every tile of an older version
    return pystac.Item.from_dict(document, preserve_dict=False)
