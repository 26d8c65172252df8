"""Products of one collection in order of sensing time: what services that know no publication date search in."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import shapely
from shapely.geometry import shape

from tests.upstreams.products import Product


@dataclass(frozen=True, slots=True, order=True)
class Sensed:
    """A product and when it was sensed, in the order of that and of its name."""

    at: datetime
    name: str
    product: Product


class SensedIndex:
    """The products, which may come and go while somebody reads."""

    def __init__(self, offered: Iterable[Product], time_of: Callable[[Product], datetime]) -> None:
        self._time_of = time_of
        self._rows = sorted(Sensed(time_of(product), product.name, product) for product in offered)
        self._shapes: dict[str, Any] = {}

    def add(self, product: Product) -> None:
        """Publish one more product."""
        insort(self._rows, Sensed(self._time_of(product), product.name, product))

    def remove(self, product: Product) -> None:
        """Take a product away."""
        self._rows.remove(Sensed(self._time_of(product), product.name, product))

    def between(self, begin: datetime, end: datetime, area: Any = None) -> Sequence[Product]:
        """Products sensed from `begin` to `end`, both included, oldest first; only those that meet `area` when it is given."""
        low = bisect_left(self._rows, begin, key=lambda row: row.at)
        high = bisect_right(self._rows, end, key=lambda row: row.at)
        found = [row.product for row in self._rows[low:high]]
        return found if area is None else [product for product in found if self._shape(product).intersects(area)]

    def _shape(self, product: Product) -> Any:
        if product.name not in self._shapes:
            footprint = shape(product.geometry())
            shapely.prepare(footprint)
            self._shapes[product.name] = footprint
        return self._shapes[product.name]
