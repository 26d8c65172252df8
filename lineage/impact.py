"""Everything that came of something, line by line (NDJSON)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from db.pools import Connection
from lineage.formats.value import edge_of, node_of
from lineage.graph import Filter, Found, Node, portions


async def lines(
    conn: Connection,
    roots: Sequence[Node],
    wanted: Filter,
    *,
    skip: int,
    limit: int,
    own: Collection[str] | None = None,
) -> AsyncGenerator[bytes]:
    """`limit` descendants after the first `skip`, some hundred lines at once.

    Each is {"node": ..., "via": edge}; the last is {"done": {"nodes", "as_of", "truncated", "next"}}.

    Args:
        own: ids; only nodes among them are told.
    """
    number, sent = 0, 0
    is_truncated = False
    async with aclosing(portions(conn, roots, upward=False, wanted=wanted)) as walked:
        async for some in walked:
            met = [one for one in some if one.node is not None and one.link is not None]
            is_truncated = number + len(met) > skip + limit
            shown = met[max(0, skip - number) : skip + limit - number]
            number += min(len(met), skip + limit - number)
            told = [_line(one) for one in shown if own is None or one.node.id in own]  # type: ignore[union-attr]
            sent += len(told)
            if told:
                yield b"".join(told)
            if is_truncated:
                break
    done: dict[str, Any] = {"nodes": sent, "as_of": wanted.as_of, "truncated": is_truncated}
    if is_truncated:
        done["next"] = {"skip": number, "as_of": wanted.as_of}
    yield orjson.dumps({"done": done}) + b"\n"


def _line(found: Found) -> bytes:
    assert found.node is not None
    assert found.link is not None
    return orjson.dumps({"node": node_of(found.node), "via": edge_of(found.link)}, option=orjson.OPT_APPEND_NEWLINE)
