"""Which items a mosaic is of: parameters of a collection's tiles, or a registered search, as pgstac's functions take a search."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import cql2
import orjson

from api.bounds import refuse
from api.guard import check_search, zoned
from api.problems import Problem
from api.settings import ApiSettings
from api.stac.client import on_the_map
from api.stac.filters import planned

JSON = dict[str, Any]

#: Members of a search that say which items, and in which order.
MEMBERS: Final = ("collections", "ids", "bbox", "intersects", "datetime", "query", "sortby", "filter", "filter-lang")
#: Short words for what is on top.
_ORDERS: Final = {"newest": "-datetime", "oldest": "+datetime", "least-cloud": "+eo:cloud_cover"}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
#: A day as clients write it that know times only (QGIS, Leaflet.TimeDimension): the dimension's values are days.
_MIDNIGHT: Final = re.compile(r"(\d{4}-\d\d-\d\d)T00:00(?::00(?:\.0+)?)?(?:Z|[+-]00:?00)?")
#: What services call "as it is now, all times".
_ANY_TIME: Final = frozenset({"", "default", "current", "../.."})


def as_asked(parameters: Mapping[str, str | None]) -> JSON:
    """Parameters of a GET as the members of a POST, not looked at yet.

    Raises:
        Problem: 400.
    """
    asked: JSON = {name: value for name, value in parameters.items() if value is not None}
    for name in ("collections", "ids"):
        if name in asked:
            asked[name] = [one for one in asked[name].split(",") if one]
    return asked


def search_of(asked: Mapping[str, Any], settings: ApiSettings) -> JSON:
    """Return a search that has been looked at, as pgstac's functions take it. Members are texts, as of a GET, or JSON, as of a POST.

    Raises:
        Problem: 400, as `api.guard.check_search`.
    """
    present = {name: value for name, value in asked.items() if value is not None}
    if "datetime" in present:
        present["datetime"] = zoned(present["datetime"])
    check_search(present, settings)
    search: JSON = {name: present[name] for name in ("collections", "ids", "datetime") if name in present}
    if "bbox" in present:
        box = present["bbox"]
        numbers = [float(one) for one in (box.split(",") if isinstance(box, str) else box)]
        search["bbox"] = numbers if len(numbers) == 4 else [*numbers[:2], *numbers[3:5]]  # heights do not matter
    for name in ("query", "intersects"):
        if name in present:
            search[name] = orjson.loads(present[name]) if isinstance(present[name], str) else present[name]
    if "bbox" in search and "intersects" in search:
        raise refuse("INVALID_PARAMETER", "bbox or intersects, not both", field="bbox")
    if "sortby" in present:
        search["sortby"] = order_of(present["sortby"])
    if "filter" in present:
        search["filter"] = _filter(present["filter"], str(present.get("filter-lang", "")))
    return planned(on_the_map(search))


def order_of(sortby: Any) -> list[JSON]:
    """`-eo:cloud_cover,datetime`, or `newest`, `oldest`, `least-cloud`; what comes first lies on top."""
    if not isinstance(sortby, str):
        return [{"field": one["field"], "direction": _direction(one.get("direction", "asc"))} for one in sortby]
    names = [_ORDERS.get(one.strip(), one.strip()) for one in sortby.split(",")]
    return [{"field": one.lstrip("+-"), "direction": "desc" if one.startswith("-") else "asc"} for one in names]


def time_of(text: str | None) -> str | None:
    """What map services call TIME, as STAC's `datetime`: an instant, a day (midnight in UTC is the day), or an interval.

    Raises:
        Problem: 400.
    """
    if text is None or text.strip().lower() in _ANY_TIME:
        return None
    ends = [_MIDNIGHT.sub(r"\1", one) if _MIDNIGHT.fullmatch(one) else one for one in text.strip().split("/")[:2]]
    begin, end = ends[0], ends[-1]
    if len(ends) == 1 and not _DAY.fullmatch(begin):
        return begin
    return f"{_with_clock(begin, '00:00:00Z')}/{_with_clock(end, '23:59:59.999Z')}"


def _with_clock(text: str, clock: str) -> str:
    if not _DAY.fullmatch(text):
        return text
    try:
        date.fromisoformat(text)
    except ValueError:
        raise Problem(400, "INVALID_DATETIME", "there is no such day", field="time") from None
    return f"{text}T{clock}"


def _direction(value: Any) -> str:
    if value not in ("asc", "desc"):
        raise refuse("INVALID_SORTBY", "a direction is asc or desc", field="sortby")
    return str(value)


def _filter(value: Any, language: str) -> JSON:
    """The guard has let it pass."""
    if isinstance(value, str):
        value = orjson.loads(value) if language == "cql2-json" else cql2.parse_text(value).to_json()
    return {"op": "and", "args": [value]} if isinstance(value, bool) else value
