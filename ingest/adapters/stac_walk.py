"""How far a walk over a STAC API has come: where a run resumes, and what of a page is new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ingest.adapters.stac_search import Window, instant, next_instant, rfc3339, watermark_of
from ingest.model import JSON, Cursor

#: The cursor of a walk that has seen nothing.
START: Cursor = {"watermark": None, "seen": []}


@dataclass(frozen=True, slots=True)
class Instant:
    """All items of one instant of the watermark; None: all items there are."""

    text: str | None = None
    seen: frozenset[str] = frozenset()

    @property
    def window(self) -> Window:
        return Window(instant(self.text), next_instant(self.text)) if self.text else Window()

    def stranger(self, features: Sequence[JSON], name: str) -> JSON | None:
        """The first feature whose property `name` is not within this instant; what is not a time is not."""
        if self.text is None:
            return None
        return next((feature for feature in features if not self._holds(watermark_of(feature, name))), None)

    def _holds(self, when: str | None) -> bool:
        lower, upper = self.window.lower, self.window.upper
        try:
            return when is not None and lower <= instant(when) < upper  # type: ignore[operator]
        except ValueError:
            return False

    def cursor(self, after: str) -> Cursor:
        """The cursor behind the item `after`."""
        return {"watermark": self.text, "seen": [], "after": after}


class Walk:
    """How far a walk along the watermark has come.

    `place` is the cursor behind the last item: its instant, and every id seen at it.
    """

    def __init__(self, name: str, start: Cursor) -> None:
        self._name = name
        self._start = start
        self.place = start
        self.is_sorted = True

    def take(self, features: Sequence[JSON], bound: str | None) -> tuple[list[JSON], Cursor]:
        """Return what is new among the features of a page, and the cursor behind them; `bound` is what was asked for."""
        rows = [feature for feature in features if not self._is_before(bound, feature)]
        self.is_sorted = self.is_sorted and self._ascends(rows)
        known = self.place if self.is_sorted else self._start
        new = [row for row in rows if row["id"] not in known["seen"] or not self._is_at(known, row)]
        if self.is_sorted and rows:
            self.place = self._behind(rows)
        return new, self.place if self.is_sorted else self._start

    def crowd(self, bound: str | None) -> Instant | None:
        """The instant to be walked by id, when a walk from `bound` on got no further than that; None when it did."""
        if bound is None or instant(bound) < instant(self.place["watermark"]):
            return None
        return Instant(self.place["watermark"], frozenset(self.place["seen"]))

    def leave(self, crowd: Instant) -> None:
        """Go on behind an instant that was read."""
        assert crowd.text is not None
        self.place = {"watermark": rfc3339(next_instant(crowd.text)), "seen": []}

    def _is_before(self, bound: str | None, feature: JSON) -> bool:
        """True for what lies before the bound: a search by `datetime` also answers with what began earlier and goes on."""
        try:
            return bound is not None and instant(watermark_of(feature, self._name) or bound) < instant(bound)
        except ValueError:
            return False

    def _is_at(self, place: Cursor, feature: JSON) -> bool:
        """True when the feature stands at the cursor's own instant."""
        when = watermark_of(feature, self._name)
        return when is not None and instant(when) == instant(place["watermark"])

    def _ascends(self, rows: Sequence[JSON]) -> bool:
        times = [watermark_of(row, self._name) for row in rows]
        if self.place["watermark"] is not None:
            times.insert(0, self.place["watermark"])
        try:
            instants = [instant(time or "") for time in times]
        except ValueError:
            return False
        return all(earlier <= later for earlier, later in pairwise(instants))

    def _behind(self, rows: Sequence[JSON]) -> Cursor:
        last = watermark_of(rows[-1], self._name) or ""
        seen = {row["id"] for row in rows if self._is_at({"watermark": last}, row)}
        if self.place["watermark"] is not None and instant(self.place["watermark"]) == instant(last):
            seen |= set(self.place["seen"])
        return {"watermark": last, "seen": sorted(seen)}
