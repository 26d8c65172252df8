"""A whole search as one GeoParquet file (`Accept: application/vnd.apache.parquet` or `f=parquet`), written while it is sent.

The database is read once, by pages of the search's own walk, into a file of compressed rows on this machine, from which columns are
learned and then written: no connection is held while a client reads, and memory holds one part at a time.
"""

from __future__ import annotations

import asyncio
import io
import struct
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import IO, TYPE_CHECKING, Any

import orjson
import zstandard
from stac_fastapi.types.errors import NotFoundError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.accept import best_of
from api.access import principals_of
from api.parts import Parts
from api.problems import Problem
from api.stac.caching import headers_of
from api.stac.collections import find_collection
from api.stac.features import Feature, FeatureWriter
from api.stac.fields import Fields
from api.stac.links import root_of
from api.stac.search import Searcher

if TYPE_CHECKING:  # pyarrow takes a third of a second to import, for what few ask for
    from api.stac.columns import Rows, Shape

PARQUET = "application/vnd.apache.parquet"
_OFFERED = ("application/geo+json", "application/json", PARQUET)
_FORMATS = ("parquet", "geoparquet", PARQUET)
_PAGE = 500
#: Bytes of JSON that make a part of the file (a row group).
_PART_BYTES = 8 * 2**20
#: Members that a file has whatever `fields` asks for.
_NEEDED = ("type", "stac_version", "id", "collection", "geometry", "bbox")
_VERSION = "1.0.0"


def wants_parquet(request: Request) -> bool:
    """True when the caller accepts Parquet better than JSON."""
    if b"f=" in request.scope["query_string"] and (named := request.query_params.get("f")) is not None:
        return named.lower() in _FORMATS
    accepted = request.headers.get("accept", "")
    return "parquet" in accepted and best_of(accepted.encode("latin-1"), _OFFERED) == PARQUET


async def exported(request: Request, search: Mapping[str, Any], limit: int | None, fields: Fields | None) -> Response:
    """Answer with all items of a search, the first `limit` of them when that is given.

    Raises:
        Problem: 400 too many items, a token, or items that make no table; 503 too many exports at once.
    """
    parts: Parts = request.app.state.parts
    most = parts.settings.export_max_items
    if request.query_params.get("token"):
        raise Problem(400, "INVALID_TOKEN", "an export has no pages", field="token")
    async with AsyncExitStack() as stack:
        slots: asyncio.Semaphore = request.app.state.exports
        if slots.locked():
            raise Problem(
                503, "EXPORTS_BUSY", "too many exports are being made; try again", headers={"Retry-After": "10"}
            )
        await stack.enter_async_context(slots)
        spool = Spool(stack.enter_context(tempfile.TemporaryFile()), FeatureWriter(root_of(request)), fields)  # noqa: SIM115
        searcher: Searcher = request.app.state.searcher
        walk = searcher.walk(search, min(_PAGE, limit or _PAGE), principals_of(request))
        await _read(spool, walk, most, limit)
        metadata = _metadata(await _collections(request, sorted(spool.shape.collections)), spool.shape)
        held = stack.pop_all()  # the answer ends it
    headers = {**headers_of(request), "Content-Disposition": 'attachment; filename="items.parquet"'}
    return _Export(_sent(spool, metadata), held, headers)


class _Export(StreamingResponse):
    """A streamed file that gives back what it holds when it ends, however it ends."""

    def __init__(self, content: AsyncIterator[bytes], held: AsyncExitStack, headers: dict[str, str]) -> None:
        super().__init__(content, headers=headers, media_type=PARQUET)
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _read(spool: Spool, walk: AsyncIterator[list[Feature]], most: int, limit: int | None) -> None:
    from api.stac.columns import TooWide

    pending: list[Feature] = []
    number = 0
    try:
        async with aclosing(walk) as pages:  # type: ignore[type-var]
            async for page in pages:
                page = page[: limit - number] if limit else page
                number += len(page)
                if number > most:
                    detail = f"an export has at most {most} items; make the search narrower, or set limit"
                    raise Problem(400, "EXPORT_TOO_LARGE", detail, limit=most)
                pending += page
                if sum(len(one.body) for one in pending) >= _PART_BYTES:
                    await asyncio.to_thread(spool.add, pending)
                    pending = []
                if number == limit:
                    break
        if pending:
            await asyncio.to_thread(spool.add, pending)
    except TooWide:
        detail = "these items have too many different members for one table; search fewer collections, or name fields"
        raise Problem(400, "EXPORT_TOO_WIDE", detail) from None


class Spool:
    """Rows in a file, and the columns that they need."""

    def __init__(self, file: IO[bytes], writer: FeatureWriter, fields: Fields | None) -> None:
        from api.stac.columns import Shape

        self._file, self._writer, self._fields = file, writer, fields
        self.shape: Shape = Shape()

    def add(self, features: Sequence[Feature]) -> None:
        """Take items in."""
        from api.stac.columns import rows_of

        rows = rows_of([self._item(one) for one in features])
        self.shape.learn(rows)
        sizes = array("I", [len(one or b"") for one in rows.geometries])
        packer = zstandard.ZstdCompressor(level=1)
        for blob in (sizes.tobytes(), b"".join(one or b"" for one in rows.geometries), packer.compress(rows.lines)):
            self._file.write(struct.pack("<Q", len(blob)) + blob)

    def parts(self) -> Iterator[Rows]:
        """Give everything back, in order."""
        from api.stac.columns import Rows

        self._file.seek(0)
        while size := self._file.read(8):
            sizes = array("I", self._file.read(struct.unpack("<Q", size)[0]))
            joined, packed = self._blob(), self._blob()
            found: list[bytes | None] = []
            at = 0
            for length in sizes:
                found.append(joined[at : at + length] or None)
                at += length
            yield Rows(found, zstandard.ZstdDecompressor().decompress(packed))

    def _blob(self) -> bytes:
        return self._file.read(struct.unpack("<Q", self._file.read(8))[0])

    def _item(self, feature: Feature) -> dict[str, Any]:
        item: dict[str, Any] = orjson.loads(self._writer.write(feature, None))
        if self._fields is None:
            return item
        wanted = self._fields.apply(item)
        properties = {"datetime": item["properties"].get("datetime"), **wanted.get("properties", {})}
        needed = {name: item[name] for name in _NEEDED if name in item}
        return {"links": [], "assets": {}, **wanted, **needed, "properties": properties}


class _Sink(io.RawIOBase):
    """What is written since the last `take`."""

    def __init__(self) -> None:
        self._written = bytearray()
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        self._written += data
        self._at += len(data)
        return len(data)

    def take(self) -> bytes:
        """Return it and forget it."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


async def _sent(spool: Spool, metadata: Mapping[bytes, bytes]) -> AsyncIterator[bytes]:
    """The file's bytes, a row group at a time."""
    import pyarrow.parquet as pq

    sink = _Sink()
    schema = spool.shape.schema().with_metadata(metadata)
    writer = await asyncio.to_thread(pq.ParquetWriter, sink, schema, compression="zstd")
    rows = spool.parts()
    while (part := await asyncio.to_thread(next, rows, None)) is not None:
        await asyncio.to_thread(_write, writer, spool.shape, part)
        yield sink.take()
    await asyncio.to_thread(writer.close)
    yield sink.take()


def _write(writer: Any, shape: Shape, rows: Rows) -> None:
    writer.write_table(shape.batch(rows))


async def _collections(request: Request, names: Sequence[str]) -> dict[str, Any]:
    """The items' collections as they are, which belong into the file."""
    found = {}
    for name in names[:100]:
        try:
            found[name] = await find_collection(request, name)
        except NotFoundError:  # deleted meanwhile
            continue
    return found


def _metadata(collections: Mapping[str, Any], shape: Shape) -> dict[bytes, bytes]:
    """The file's keys of GeoParquet 1.1 and stac-geoparquet, and which columns hold JSON texts. No CRS is WGS 84, longitude first."""
    covering = {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}}
    geometry = {"encoding": "WKB", "geometry_types": [], "covering": covering}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    stac = {"version": _VERSION, "collections": collections}
    found = {b"geo": orjson.dumps(geo), b"stac-geoparquet": orjson.dumps(stac)}
    if shape.as_text:
        found[b"federator:json_columns"] = orjson.dumps(sorted("/".join(path) for path in shape.as_text))
    return found
