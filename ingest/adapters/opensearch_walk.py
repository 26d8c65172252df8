"""Walking along publication through a resto catalogue that can be ordered and bounded by it.

Each question asks for what was published since just before the last record seen, and drops what is known: records that appear
or vanish behind us shift nothing, and whether `publishedAfter` includes its bound does not matter. When one instant holds more
than a page, all around it is walked along startDate; what also starts at one instant is paged through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from ingest.adapters.opensearch_search import TRIES, CannotPage, Question, Row, Search, instant, stamp, step_of
from ingest.errors import UpstreamChanged

PUBLISHED, START = "published", "startDate"

Parameters = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a walk along one time has come: its text as the server writes it, and ids seen just before and at it."""

    text: str = ""
    seen: frozenset[str] = frozenset()

    @property
    def at(self) -> datetime | None:
        return instant(self.text)

    @property
    def step(self) -> timedelta:
        return step_of(self.text)

    @property
    def asked(self) -> datetime | None:
        """From when on to ask: just before, for servers that exclude the bound and those that round."""
        return self.at - self.step if self.at else None

    @property
    def crowd(self) -> tuple[datetime, datetime]:
        """Bounds around the instant; they reach over the next question's bound, whether bounds are included or not."""
        assert self.at is not None
        return self.at - self.step, self.at + 2 * self.step

    def after(self, rows: Sequence[Row], name: str) -> Position:
        """The position behind `rows`, which are not empty, ascend, and hold all that was asked for up to the last; never back."""
        last = Position(rows[-1].text(name))
        place = last if is_later(last.at, self.at) or self.at is None else self
        near = frozenset(row.id for row in rows if not is_later(place.asked, row.at(name)))
        return Position(place.text, near)

    def behind_crowd(self) -> Position:
        """The position behind all within `crowd`."""
        text = stamp(self.crowd[1])
        return Position(text if "." in self.text else f"{text[:19]}Z")

    def new(self, rows: Sequence[Row], name: str) -> list[Row]:
        """Rows that were not seen; one that was published anew is new."""
        return [row for row in rows if row.id not in self.seen or is_later(row.at(name), self.at)]


#: Reads all around an instant that holds more than a page.
_Crowd = Callable[[Position], AsyncIterator[Sequence[Row]]]


class Walk:
    """A walk through one search with fixed `parameters`; `until` bounds the publication."""

    def __init__(
        self, source_id: str, search: Search, http: httpx.AsyncClient, parameters: Parameters, until: datetime | None
    ) -> None:
        self._source_id = source_id
        self._search = search
        self._http = http
        self._parameters = tuple(parameters)
        self._until = until

    async def steps(self, position: Position) -> AsyncIterator[tuple[Sequence[Row], Position]]:
        """Yield new rows and the position behind them until the server has no more.

        Raises:
            UpstreamUnavailable: try again later.
            UpstreamChanged: the server does not do what it is asked for, or products cannot be told apart.
        """
        async for step in self._along(PUBLISHED, self._published_since, position, self._published_at_once):
            yield step

    async def count(self, position: Position) -> int | None:
        """How many there are behind `position`, as far as the server knows. Slow there."""
        return await self._search.count(self._http, self._published_since(position.asked))

    async def _along(
        self, name: str, since: Callable[[datetime | None], Question], position: Position, crowd: _Crowd
    ) -> AsyncIterator[tuple[Sequence[Row], Position]]:
        unsettled = 0
        while True:
            question = since(position.asked)
            rows = (await self._search.ask(self._http, question)).rows
            if not rows and position.seen and unsettled < TRIES:
                unsettled += 1  # what was seen last has to come again, unless it was deleted
                continue
            if not rows:
                return
            before, position = position, position.after(rows, name)
            if new := before.new(rows, name):
                yield new, position
            if position.at != before.at:
                continue
            has_more = await self._search.has_more(self._http, question, rows)
            if has_more is False:
                return
            if has_more:
                async for some in crowd(position):
                    yield position.new(some, name), position
                position, unsettled = position.behind_crowd(), 0
                continue
            unsettled += 1
            if unsettled == TRIES:
                where = f"products at {name} {position.text}"
                raise UpstreamChanged(
                    f"{self._source_id}: {where} do not hold still, or the parameter index is ignored"
                )

    def _published_since(self, asked: datetime | None) -> Question:
        bounds = _bounds(("publishedAfter", asked), ("publishedBefore", self._until))
        return Question(
            (*self._parameters, *bounds, *_ordered(PUBLISHED)), PUBLISHED, {PUBLISHED: (asked, self._until)}
        )

    async def _published_at_once(self, instant_: Position) -> AsyncIterator[Sequence[Row]]:
        """Yield all around one instant of publication in order of startDate."""
        low, high = instant_.crowd
        fixed = (*self._parameters, *_bounds(("publishedAfter", low), ("publishedBefore", high)), *_ordered(START))

        def since(asked: datetime | None) -> Question:
            return Question((*fixed, *_bounds((START, asked))), START, {PUBLISHED: (low, high)})

        async def alike(start: Position) -> AsyncIterator[Sequence[Row]]:
            question, end = since(start.asked), start.crowd[1]
            first = await self._search.ask(self._http, question)
            try:
                yield await self._search.read_all(
                    self._http, question, first, lambda last: is_later(last.at(START), end)
                )
            except CannotPage as error:
                where = f"products published at {instant_.text} with startDate {start.text}"
                raise UpstreamChanged(f"{self._source_id}: {where}: {error}") from error

        async for rows, _ in self._along(START, since, Position(), alike):
            yield rows


def is_later(one: datetime | None, other: datetime | None) -> bool:
    """True when both are known and the first is later."""
    return one is not None and other is not None and one > other


def _bounds(*bounds: tuple[str, datetime | None]) -> list[tuple[str, str]]:
    return [(name, stamp(at)) for name, at in bounds if at is not None]


def _ordered(name: str) -> tuple[tuple[str, str], ...]:
    return ("sortParam", name), ("sortOrder", "ascending")
