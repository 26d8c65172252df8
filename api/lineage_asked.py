"""What the graph's routes are asked: names, filters, times, forms of answers. All bounded before the database sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Path, Query
from starlette.requests import Request

from api.accept import best_of
from api.access import principals_of
from api.problems import Problem
from db.pools import Connection
from lineage.formats import BY_MEDIA_TYPE, FORMATS
from lineage.graph import MAX_DEPTH, USUAL_ROLES, Direction, Filter, log_size
from lineage.rules import ASSERTIONS, ROLES

MAX_NAME = 512
MAX_NODES = 10_000
#: How far an answer may begin behind the root: what lies behind it is for the stream of `/impact`.
MAX_SKIP = 1_000_000
HTML = "text/html"

CollectionName = Annotated[str, Path(max_length=MAX_NAME, pattern=r"^[^\x00]+$")]
ItemName = CollectionName


def time_of(text: str) -> datetime:
    """An RFC 3339 time with its zone.

    Raises:
        Problem: 400.
    """
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that was not percent-encoded
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise Problem(400, "INVALID_PARAMETER", "a time is written 2026-11-26T00:00:00Z")


def size_or_time(text: str) -> int | datetime:
    """A size of the log, or a time. Raises Problem: 400."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else time_of(text)


def listed(text: str, allowed: tuple[str, ...], field: str) -> tuple[str, ...]:
    """Names divided by commas; `all` is all of them.

    Raises:
        Problem: 400, with the field.
    """
    names = tuple(dict.fromkeys(text.split(",")))
    if names == ("all",):
        return allowed
    if unknown := [name for name in names if name not in allowed]:
        raise Problem(
            400, "INVALID_PARAMETER", f"{field} is any of {', '.join(allowed)}", field=field, unknown=unknown[0][:100]
        )
    return names


class Asked:
    """The parameters of a walk; use as a dependency."""

    def __init__(
        self,
        request: Request,
        direction: Annotated[Direction, Query(description="`up`: what it came of; `down`: what came of it")] = "up",
        depth: Annotated[int, Query(ge=1, le=MAX_DEPTH, description="steps")] = 20,
        min_confidence: Annotated[float, Query(ge=0, le=1)] = 0.0,
        assertion: Annotated[str, Query(max_length=100, description="any of explicit, declared, inferred")] = "all",
        roles: Annotated[
            str, Query(max_length=200, description="any of input, aux, copy_of, revision_of, alternate_of; or all")
        ] = ",".join(USUAL_ROLES),
        as_of: Annotated[str | None, Query(max_length=40, description="a size of the log, or a time")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_NODES, description="nodes")] = 1000,
        skip: Annotated[int, Query(ge=0, le=MAX_SKIP, description="nodes; see `next`")] = 0,
        f: Annotated[str | None, Query(max_length=20, description=f"form: {', '.join(FORMATS)}")] = None,
        format: Annotated[str | None, Query(max_length=20, description="the same as f")] = None,
    ) -> None:
        self.direction: Direction = direction
        self.limit, self.skip = limit, skip
        self.form = _form(request, f or format)
        self._request, self._depth, self._min_confidence = request, depth, min_confidence
        self._assertions, self._roles = listed(assertion, ASSERTIONS, "assertion"), listed(roles, ROLES, "roles")
        self._as_of = None if as_of is None else size_or_time(as_of)

    async def filter(self, conn: Connection) -> Filter:
        """The filter, with the size of the log that the walk is of."""
        size = await log_size(conn, self._as_of if isinstance(self._as_of, datetime) else None)
        if isinstance(self._as_of, int):
            size = min(size, self._as_of)
        return Filter(
            tuple(principals_of(self._request)), size, self._depth, self._min_confidence, self._assertions, self._roles
        )

    def following(self, root: str, size: int) -> str:
        """Where the nodes are that come after those of this answer."""
        request = self._request
        given = {name: value for name, value in request.query_params.items() if name not in ("skip", "as_of")}
        given |= {"as_of": str(size), "skip": str(self.skip + self.limit)}
        return f"{root}{request.url.path}?{urlencode(given)}"


Walk = Annotated[Asked, Depends(Asked)]


def _form(request: Request, named: str | None) -> str:
    """The form of the answer: as it is named, else as `Accept` has it.

    Raises:
        Problem: 400, 406.
    """
    if named is not None:
        if named not in FORMATS:
            raise Problem(400, "INVALID_PARAMETER", f"f is one of {', '.join(FORMATS)}", field="f")
        return named
    accepted = request.headers.get("accept", "*/*").encode("latin-1", "replace")
    best = best_of(accepted, ("application/json", *BY_MEDIA_TYPE))
    if best is None:
        raise Problem(406, "NOT_ACCEPTABLE", f"there are {', '.join(BY_MEDIA_TYPE)}")
    return BY_MEDIA_TYPE[best]
