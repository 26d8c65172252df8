"""Items as columns after the stac-geoparquet specification (1.0.0): properties beside the other members, geometry as WKB, bbox as a struct.

Parquet wants to know every column before the first row, so items are read twice: `Shape` learns types from all, then makes batches.
What has different types in different items becomes JSON text, whose columns the file names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json as pj
import shapely

JSON = dict[str, Any]
#: Member names from the top; `[]` for what is in a list.
Path = tuple[str, ...]

TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated", "expires", "published", "unpublished")
#: More leaves than any catalogue's items have together; a name of its own in each item would make a column of its own for each.
MOST_LEAVES = 5000
_TOP = ("type", "stac_version", "stac_extensions", "id", "collection", "links", "assets")
_PROJECTED = "proj:geometry"
_CHANGED = re.compile(r"Column\(/(.*?)\) changed from")
_TIME = pa.timestamp("us", tz="UTC")
#: Times are looked at as texts: what the reader takes for one has lost its zone.
_TEXTS = pa.schema([(name, pa.string()) for name in TIMES])
_LINK = pa.struct([(name, pa.string()) for name in ("rel", "href", "type", "title")])
_BASE = pa.struct(
    [("type", pa.string()), ("stac_version", pa.string()), ("id", pa.string()), ("collection", pa.string()),
     ("bbox", pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])), ("datetime", pa.string()),
     ("links", pa.list_(_LINK))]
)  # fmt: skip
_GEOARROW = {
    b"ARROW:extension:name": b"geoarrow.wkb",
    b"ARROW:extension:metadata": b'{"crs":"OGC:CRS84","crs_type":"authority_code"}',
}


class TooWide(Exception):
    """The items have too many columns together, or types that go into none."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some items: geometries as WKB (None: none), and everything else as one JSON object a line."""

    geometries: list[bytes | None]
    lines: bytes


def rows_of(items: Sequence[JSON]) -> Rows:
    """Take items apart; they are used up."""
    geometries = [_wkb(item.get("geometry")) for item in items]
    return Rows(geometries, b"\n".join([orjson.dumps(_row(item)) for item in items]))


def _row(item: JSON) -> JSON:
    properties = item.get("properties") or {}
    # A property with a member's name has no place here; the specification leaves it out.
    row = {name: value for name, value in properties.items() if name not in _TOP and name not in ("bbox", "geometry")}
    if row.get(_PROJECTED):
        row[_PROJECTED] = _hex(row[_PROJECTED])
    row |= {name: item[name] for name in _TOP if name in item}
    for asset in (row.get("assets") or {}).values():
        if isinstance(asset, dict) and asset.get(_PROJECTED):
            asset[_PROJECTED] = _hex(asset[_PROJECTED])
    box = item.get("bbox")
    if box:
        names = ("xmin", "ymin", "xmax", "ymax") if len(box) == 4 else ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax")
        row["bbox"] = dict(zip(names, map(float, box), strict=False))
    return row


def _wkb(geometry: Any) -> bytes | None:
    return shapely.to_wkb(shapely.from_geojson(orjson.dumps(geometry)), flavor="iso") if geometry else None


def _hex(geometry: Any) -> str | None:
    """A geometry inside of a row: JSON holds no bytes."""
    try:
        return str(shapely.to_wkb(shapely.from_geojson(orjson.dumps(geometry)), hex=True, flavor="iso"))
    except shapely.errors.GEOSException:
        return None


@dataclass(slots=True)
class Shape:
    """What columns items need, learned from all of them."""

    type: pa.StructType = _BASE
    as_text: set[Path] = field(default_factory=set)
    collections: set[str] = field(default_factory=set)
    no_times: set[str] = field(default_factory=set)

    def learn(self, rows: Rows) -> None:
        """Take types of these rows in.

        Raises:
            TooWide: see there.
        """
        table = self._parsed(rows, _TEXTS, is_all=False)
        known = [one for one in table.schema if one.name not in TIMES or table[one.name].null_count < table.num_rows]
        self.type = _merged(self.type, pa.struct(known), (), self.as_text)
        if _leaves(self.type) > MOST_LEAVES:
            raise TooWide
        self.collections |= set(table["collection"].unique().to_pylist()) - {None}
        self.no_times |= {name for name in TIMES if not _are_times(table[name])}

    def schema(self) -> pa.Schema:
        """Columns of the file, without metadata of the file."""
        fields = [pa.field(one.name, self._column_type(one)) for one in _stored(self.type)]
        return pa.schema([*fields, pa.field("geometry", pa.binary(), metadata=_GEOARROW)])

    def batch(self, rows: Rows) -> pa.Table:
        """Rows in the columns of the file; all must have been learned."""
        table = self._parsed(rows, pa.schema(_stored(self.type)), is_all=True)
        schema = self.schema()
        columns = [table[one.name].cast(one.type) for one in schema if one.name != "geometry"]
        return pa.table([*columns, pa.array(rows.geometries, pa.binary())], schema=schema)

    def _column_type(self, one: pa.Field) -> pa.DataType:
        return (
            _TIME if one.name in TIMES and one.name not in self.no_times and pa.types.is_string(one.type) else one.type
        )

    def _parsed(self, rows: Rows, schema: pa.Schema, *, is_all: bool) -> pa.Table:
        """Rows as a table. A member whose type changes from row to row becomes text, then it is tried again."""
        options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if is_all else "infer")
        while True:
            lines = _with_texts(rows.lines, self.as_text) if self.as_text else rows.lines
            reading = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
            try:
                return pj.read_json(io.BytesIO(lines), read_options=reading, parse_options=options)
            except pa.ArrowInvalid as error:
                changed = _CHANGED.search(str(error))
                path = tuple(changed[1].split("/")) if changed else ()
                if not path or path in self.as_text:
                    raise TooWide from error
                _note(path, self.as_text)


def _merged(one: pa.DataType, two: pa.DataType, path: Path, as_text: set[Path]) -> pa.DataType:
    """The type that takes values of both; where none does, the path becomes text."""
    one, two = (pa.string() if pa.types.is_timestamp(each) else each for each in (one, two))
    if one == two or pa.types.is_null(two):
        return one
    if pa.types.is_null(one):
        return two
    if {one, two} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_struct(one) and pa.types.is_struct(two):
        names = dict.fromkeys([*(each.name for each in one), *(each.name for each in two)])
        return pa.struct(
            [(name, _merged(_member(one, name), _member(two, name), (*path, name), as_text)) for name in names]
        )
    if pa.types.is_list(one) and pa.types.is_list(two):
        return pa.list_(_merged(one.value_type, two.value_type, (*path, "[]"), as_text))
    _note(path, as_text)
    return pa.string()


def _note(path: Path, as_text: set[Path]) -> None:
    """What is there becomes text as a whole, whatever of it was text before."""
    as_text -= {one for one in as_text if one[: len(path)] == path}
    as_text.add(path)


def _member(struct: pa.StructType, name: str) -> pa.DataType:
    index = struct.get_field_index(name)
    return struct.field(index).type if index >= 0 else pa.null()


def _stored(struct: pa.StructType) -> list[pa.Field]:
    """Fields as Parquet can hold them: structs without members are left out, what is null everywhere is text."""
    return [pa.field(one.name, kind) for one in struct if (kind := _storable(one.type)) is not None]


def _storable(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_struct(kind):
        return pa.struct(_stored(kind)) if _stored(kind) else None
    if pa.types.is_list(kind):
        inner = _storable(kind.value_type)
        return pa.list_(pa.string() if inner is None else inner)
    return pa.string() if pa.types.is_null(kind) or pa.types.is_timestamp(kind) else kind


def _leaves(kind: pa.DataType) -> int:
    if pa.types.is_struct(kind):
        return sum(_leaves(one.type) for one in kind)
    return _leaves(kind.value_type) if pa.types.is_list(kind) else 1


def _are_times(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(_TIME)
    except pa.ArrowInvalid:
        return False
    return True


def _with_texts(lines: bytes, paths: set[Path]) -> bytes:
    rows = [orjson.loads(line) for line in lines.split(b"\n") if line]
    for row in rows:
        for path in paths:
            _make_text(row, path)
    return b"\n".join([orjson.dumps(row) for row in rows])


def _make_text(value: Any, path: Path) -> None:
    """Replace what is at a path by its JSON text."""
    head, rest = path[0], path[1:]
    if head == "[]":
        members: Any = range(len(value)) if isinstance(value, list) else ()
    else:
        members = (head,) if isinstance(value, dict) and head in value else ()
    for member in members:
        if rest:
            _make_text(value[member], rest)
        elif value[member] is not None:
            value[member] = orjson.dumps(value[member]).decode()
