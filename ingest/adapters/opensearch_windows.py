"""Reading a collection that cannot be walked along its publication: closed windows of sensing time, halved until they are small.

resto 2 knows no `publishedAfter`, and its order (newest first) leaves equal times to chance. Its `startDate` and
`completionDate` are both bounds of a product's startDate, both inclusive (jjrom/resto, RestoModel: time:start, time:end).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import httpx

from ingest.adapters.opensearch_search import TRIES, Answer, CannotPage, Question, Row, Search, stamp
from ingest.errors import UpstreamChanged

#: Where halving begins when nothing bounds the window; what is older is still read.
EARLIEST = datetime(1972, 1, 1, tzinfo=UTC)
#: Windows are read whole before they are stored, so many pages long.
PAGES = 4
#: Begin of a window before the end of the last: whether the bounds include themselves is the server's secret.
_OVERLAP = timedelta(milliseconds=1)


class Windows:
    """Windows of startDate over one search. `total` is how many records there are, as soon as the server said so."""

    def __init__(self, source_id: str, search: Search, parameters: Sequence[tuple[str, str]], now: datetime) -> None:
        self.total: int | None = None
        self._source_id = source_id
        self._search = search
        self._parameters = tuple(parameters)
        self._now = now
        self._last: frozenset[str] = frozenset()
        self._fullest = 0

    async def read(
        self, http: httpx.AsyncClient, begin: datetime | None
    ) -> AsyncIterator[tuple[list[Row], datetime | None]]:
        """Yield new rows, and up to when everything is read now; None when that has not changed.

        Raises:
            UpstreamUnavailable: try again later.
            UpstreamChanged: a second holds more than can be paged through, or the windows do not hold together.
        """
        async for rows, done in self._read(http, begin, None):
            new = [row for row in rows if row.id not in self._last]
            self._last = frozenset(row.id for row in rows) or self._last
            yield new, done

    async def _read(
        self, http: httpx.AsyncClient, begin: datetime | None, end: datetime | None
    ) -> AsyncIterator[tuple[list[Row], datetime | None]]:
        question = self._question(begin, end)
        first = await self._search.ask(http, question)
        self.total = first.total if self.total is None else self.total
        middle = self._middle(begin, end)
        if middle is None or not self._is_large(first):
            try:
                yield await self._search.read_all(http, question, first), end
                return
            except CannotPage as error:
                if middle is None:
                    raise UpstreamChanged(f"{self._source_id}: startDate {_told(begin, end)}: {error}") from error
        for _ in range(TRIES):
            number = 0
            for half in ((begin, middle), (middle, end)):
                async for rows, until in self._read(http, *half):
                    number += len(rows)
                    yield rows, None if self._is_countable(first) else until
            if number >= self._least(first):
                yield [], end
                return
            first = await self._search.ask(http, question)  # there may be fewer by now
        counts = f"{self._least(first)} records, but {number} in its halves"
        raise UpstreamChanged(f"{self._source_id}: startDate {_told(begin, end)} holds {counts}")

    def _question(self, begin: datetime | None, end: datetime | None) -> Question:
        low = begin - _OVERLAP if begin else None
        bounds = [(name, stamp(at)) for name, at in (("startDate", low), ("completionDate", end)) if at]
        return Question((*self._parameters, *bounds), within={"startDate": (low, end)})

    def _is_large(self, first: Answer) -> bool:
        self._fullest = max(self._fullest, len(first.rows))
        if first.total is None:
            return len(first.rows) >= self._search.limit
        is_short = len(first.rows) < self._fullest and not first.is_exact  # an estimate that this page refutes
        return first.total > min(PAGES * self._search.limit, self._search.max_offset) and not is_short

    def _middle(self, begin: datetime | None, end: datetime | None) -> datetime | None:
        """A whole second inside, None when there is none."""
        low, high = begin or EARLIEST, end or self._now
        middle = (low + (high - low) / 2).replace(microsecond=0)
        return middle if low < middle < high else None

    def _least(self, whole: Answer) -> int:
        """How many records two halves must hold, or the bounds mean something else here."""
        return whole.total or 0 if self._is_countable(whole) else len(whole.rows)

    def _is_countable(self, whole: Answer) -> bool:
        """True for windows whose number is exact and will hardly change while they are read: done when it was found."""
        return whole.is_exact and whole.total is not None and whole.total <= 2 * PAGES * self._search.limit


def _told(begin: datetime | None, end: datetime | None) -> str:
    return f"{stamp(begin) if begin else '..'} to {stamp(end) if end else '..'}"
