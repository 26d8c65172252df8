"""What items say of their lineage to those who ask (`lineage=declared`, `lineage=inferred`): how they are by the log, what they came of.

Without the parameter items say what is stored with them. An answer that has more has another entity tag, so an edit's `If-Match` names
the plain one: lineage grows without the item (docs/adr/0062-lineage-on-request.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

import orjson
from starlette.requests import Request

from api.access import principals_of
from api.problems import Problem
from api.stac.features import JSON, Feature
from api.stac.links import FROM_LOG, LOG_INDEX, STATUS, root_of
from db.queries import sql
from lineage.rules import DECLARED, EXPLICIT, INFERRED

PARAMETER = "lineage"
_ASSERTIONS = {DECLARED: [EXPLICIT, DECLARED], INFERRED: [EXPLICIT, DECLARED, INFERRED]}
#: Links of one item.
MOST_LINKS = 1000


def asked(request: Request) -> str | None:
    """`declared`, `inferred`, or None: nobody asks.

    Raises:
        Problem: 400.
    """
    given = request.query_params.get(PARAMETER)
    if given is not None and given not in _ASSERTIONS:
        raise Problem(400, "INVALID_PARAMETER", f"{PARAMETER} is {' or '.join(_ASSERTIONS)}", field=PARAMETER)
    return given


async def with_lineage(request: Request, features: Sequence[Feature]) -> list[Feature]:
    """The same items with what they say of their lineage, as far as it is asked for; the caller sees these items.

    Raises:
        Problem: 400.
    """
    wanted = asked(request)
    if wanted is None or not features:
        return list(features)
    places = [one.collection for one in features], [one.id for one in features]
    async with request.app.state.get_connection(request) as conn:
        rows = await conn.fetch(sql("graph.item_facts"), *places, list(principals_of(request)), _ASSERTIONS[wanted])
    facts = {(row["collection"], row["item_id"]): row for row in rows}
    root = root_of(request)
    return [_told(one, facts[key], root) if (key := (one.collection, one.id)) in facts else one for one in features]


def _told(feature: Feature, row: Any, root: str) -> Feature:
    item = orjson.loads(feature.body)
    item["properties"][STATUS] = row["status"]
    if row["log_index"] is not None:
        item["properties"][LOG_INDEX] = row["log_index"]
    body, links = orjson.dumps(item), _links(feature.links, orjson.loads(row["edges"] or b"[]"), root)
    return replace(feature, body=body, links=links, stored=body + orjson.dumps(links))


def _links(stored: Sequence[JSON], edges: Sequence[JSON], root: str) -> list[JSON]:
    """Stored links, of which those to parents say how that is known; and links to the other parents and to runs."""
    service = root.removesuffix("/stac")
    links = [dict(link) for link in stored]
    known = {_last(link): link for link in links if link.get("rel") == "derived_from"}
    for edge in edges[:MOST_LINKS]:
        if edge["kind"] in ("file", "dataset"):  # nobody could follow a link to it
            continue
        link = known.get(edge["name"])
        if link is None:
            link = _to_parent(edge, root, service)
            known[edge["name"]] = link
            links.append(link)
        link.setdefault("lineage:assertion", edge["assertion"])
        link.setdefault("lineage:confidence", edge["confidence"])
        link.setdefault("lineage:rule", edge["rule"])
    runs = dict.fromkeys(edge["run"] for edge in edges if edge["run"])
    links += [
        {
            "rel": "processing-execution",
            "href": f"{service}/lineage/v1/runs/{run}",
            "type": "application/json",
            FROM_LOG: True,
        }
        for run in list(runs)[:MOST_LINKS]
    ]
    return links


def _to_parent(edge: JSON, root: str, service: str) -> JSON:
    """To the item, or to what is known of a product that nobody has."""
    places = [one for one in edge["items"] or () if one[2] in ("current", "superseded")]
    if places:
        collection, item = (quote(part, safe="") for part in places[0][:2])
        kind, href = "application/geo+json", f"{root}/collections/{collection}/items/{item}"
    else:
        kind, href = "application/json", f"{service}/lineage/v1/products/{quote(edge['name'], safe='')}/lineage"
    return {"rel": "derived_from", "href": href, "type": kind, "title": edge["name"], FROM_LOG: True}


def _last(link: JSON) -> str:
    """The name at the end of a link's href."""
    return unquote(str(link.get("href", "")).partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2])
