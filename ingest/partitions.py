"""The partitions of pgstac.items that rows belong to, made where they are not there.

pgstac is asked for whole months, so that an ascending harvest does not rebuild a partition's check constraint, and lock its readers out, at
every page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Protocol

from db.pools import Connection
from db.queries import sql

#: Bounds of the check constraint of a collection that is one partition.
_EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
#: How far past its month an item may end before the constraint has to be widened.
_SLACK = timedelta(days=31)


class Spanned(Protocol):
    """What has a place in time: an item's row, in whatever form."""

    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class _Bucket[R: Spanned]:
    """Rows of one partition, and what its check constraints must let in."""

    rows: list[R]
    start: datetime
    end: datetime
    latest_end: datetime


@dataclass(frozen=True, slots=True)
class _Known:
    """A partition whose check constraints let in at least this."""

    name: str
    start: datetime
    end: datetime
    latest_end: datetime

    def fits[R: Spanned](self, bucket: _Bucket[R]) -> bool:
        return self.start <= bucket.start and bucket.end <= self.end and bucket.latest_end <= self.latest_end


class Partitions:
    """The partitions of one collection, for one transaction, which asks the database once for each.

    Rows that the transaction has stored keep others from narrowing a partition's constraints meanwhile.
    """

    def __init__(self, conn: Connection, collection: str, trunc: str | None) -> None:
        self._conn = conn
        self._collection = collection
        self._trunc = trunc
        self._known: list[_Known] = []

    async def of[R: Spanned](self, rows: Sequence[R]) -> dict[str, list[R]]:
        """The rows, which come in order of their start, by their partition, which is there now; in order of the partitions' names.

        Partitions are made in order of time, so that two writers cannot deadlock on the catalogue.
        """
        buckets = _buckets(rows, self._trunc)
        await self._find([bucket for bucket in buckets if self._name(bucket) is None])
        await self._make([bucket for bucket in buckets if self._name(bucket) is None])
        found: dict[str, list[R]] = {}
        for bucket in buckets:
            name = self._name(bucket)
            assert name is not None
            found.setdefault(name, []).extend(bucket.rows)
        return dict(sorted(found.items()))

    async def note_stored(self, names: Iterable[str]) -> None:
        """Do what pgstac's trigger on the parent table would have done after rows were stored in these partitions."""
        await self._conn.execute(sql("harvest.note_partitions"), (sorted(names),))

    def _name[R: Spanned](self, bucket: _Bucket[R]) -> str | None:
        return next((one.name for one in reversed(self._known) if one.fits(bucket)), None)

    async def _find[R: Spanned](self, buckets: Sequence[_Bucket[R]]) -> None:
        await self._ask("harvest.partitions_that_fit", buckets, timedelta())

    async def _make[R: Spanned](self, buckets: Sequence[_Bucket[R]]) -> None:
        await self._ask("harvest.make_partitions", buckets, _SLACK)

    async def _ask[R: Spanned](self, query: str, buckets: Sequence[_Bucket[R]], slack: timedelta) -> None:
        if not buckets:
            return
        ends = [bucket.latest_end + slack for bucket in buckets]
        starts_and_ends = ([bucket.start for bucket in buckets], [bucket.end for bucket in buckets], ends)
        cursor = await self._conn.execute(sql(query), (self._collection, list(range(len(buckets))), *starts_and_ends))
        for row in await cursor.fetchall():
            bucket = buckets[row["number"]]
            self._known.append(_Known(str(row["partition"]), bucket.start, bucket.end, ends[row["number"]]))


def _buckets[R: Spanned](rows: Sequence[R], trunc: str | None) -> list[_Bucket[R]]:
    found = []
    for (first, last), group in groupby(rows, key=lambda row: _bounds(row.start, trunc)):
        members = list(group)
        start = min(first, *(row.start for row in members))
        end = max(last, *(row.start for row in members))
        found.append(_Bucket(members, start, end, max(last, *(row.end for row in members))))
    return found


def _bounds(when: datetime, trunc: str | None) -> tuple[datetime, datetime]:
    """First and last microsecond of the partition that `when` belongs to, in UTC as pgstac's `partition_name`."""
    if trunc is None:
        return _EVER
    first = datetime(when.year, when.month if trunc == "month" else 1, 1, tzinfo=UTC)
    after = (first + timedelta(days=31 if trunc == "month" else 366)).replace(day=1)
    return first, after - timedelta(microseconds=1)
