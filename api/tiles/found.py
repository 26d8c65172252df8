"""Items of a mosaic, read from the database page by page: while a picture has holes, and no longer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import psycopg
import pystac
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool
from shapely.geometry.base import BaseGeometry

from api.problems import Problem
from db.queries import sql
from ingest.edits.hrefs import drop_foreign_assets, named_uploads

JSON = dict[str, Any]
#: Items of the first page, and of those after it: most pictures are full after one or two.
_PAGES: Final = (6, 24, 70)


@dataclass(frozen=True, slots=True)
class Found:
    """An item that the caller may see, and whether everybody may."""

    item: pystac.Item
    is_public: bool


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
    pool: ConnectionPool, search: JSON, principals: Sequence[str], area: BaseGeometry | None, most: int
) -> Iterator[list[Found]]:
    """Give pages of at most `most` items whose footprints touch an area in WGS 84; a page that is not full is the last.

    Raises:
        Problem: 400.
    """
    outline = None if area is None else area.wkb
    asked, offset = orjson.dumps(search).decode(), 0
    for size in pages_of(most):
        with pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor, asking():
            rows = cursor.execute(sql("tiles.mosaic_page"), (asked, list(principals), outline, size, offset)).fetchall()
            leave_out_foreign(cursor, [row["item"] for row in rows], principals)
        if rows:
            yield [Found(as_item(row["item"]), row["is_public"]) for row in rows]
        if len(rows) < size:
            return
        offset += size


def leave_out_foreign(cursor: Any, documents: Sequence[JSON], principals: Sequence[str]) -> None:
    """Take out of items the rasters of others that their assets name and that the caller may not read."""
    if not (named := named_uploads(documents)):
        return
    rows = cursor.execute(sql("sharing.readable_uploads"), (list(named), list(principals))).fetchall()
    readable = {one["id"] for one in rows}
    for document in documents:
        drop_foreign_assets(document, readable)


def as_item(document: JSON) -> pystac.Item:
    """A stored item as readers take it; the document is used up."""
    document["properties"].pop("deprecated", None)  # pystac would warn of every tile of an older version
    return pystac.Item.from_dict(document, preserve_dict=False)
