"""Products in the order of each of their times, to answer bounded and ordered searches without looking at all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.upstreams.products import Product

TIMES: dict[str, Callable[[Product], datetime]] = {
    "startDate": lambda p: p.start, "completionDate": lambda p: p.end, "published": lambda p: p.published, "updated": lambda p: p.modified,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a time."""

    name: str
    is_lower: bool
    includes: bool
    at: datetime

    def test(self, product: Product) -> bool:
        when = TIMES[self.name](product)
        if when == self.at:
            return self.includes
        return when > self.at if self.is_lower else when < self.at


class Group:
    """Products of one collection and type in order of each time, the id being the second key."""

    def __init__(self) -> None:
        self.products: list[Product] = []
        self._orders: dict[str, tuple[list[Product], list[datetime]]] = {}

    def order(self, name: str) -> tuple[list[Product], list[datetime]]:
        if name not in self._orders:
            read = TIMES[name]
            rows = sorted(self.products, key=lambda p: (read(p), p.id))
            self._orders[name] = rows, [read(p) for p in rows]
        return self._orders[name]

    def span(self, name: str, bounds: Sequence[Bound]) -> tuple[int, int]:
        """Where products within the bounds of one time stand in its order."""
        _, times = self.order(name)
        low, high = 0, len(times)
        for bound in (one for one in bounds if one.name == name):
            place = (bisect_left if bound.is_lower == bound.includes else bisect_right)(times, bound.at)
            low, high = (max(low, place), high) if bound.is_lower else (low, min(high, place))
        return low, max(low, high)
