"""W3C PROV (2013-04-30) by the library `prov`: PROV-JSON, PROV-JSONLD, PROV-N. What PROV has no word for stands under `fed:`.

PROV-JSON can be read back: nothing is lost.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from prov.constants import PROV_LABEL, PROV_TYPE
from prov.model import ProvDocument, ProvEntity

from lineage.formats.value import JSON

NAMESPACE = "urn:stac-federator:lineage#"
_EDGE = ("role", "assertion", "confidence", "rule", "seq", "run", "label")


def write(graph: JSON, form: str) -> bytes:
    """The graph as a PROV document; `form` is json, jsonld or provn."""
    return str(document(graph).serialize(format=form)).encode()


def document(graph: JSON) -> ProvDocument:
    """Nodes are entities, edges derivations, runs activities; `fed:graph` says what the graph is of."""
    made = ProvDocument()
    made.add_namespace("fed", NAMESPACE)
    told = [("fed:as_of", graph["as_of"]), ("fed:truncated", graph["truncated"])]
    told += [("fed:root", orjson.dumps([number, root]).decode()) for number, root in enumerate(graph["roots"])]
    made.entity("fed:graph", [(PROV_TYPE, "fed:Graph"), *told])
    for number, node in enumerate(graph["nodes"]):
        _entity(made, number, node)
    for number, edge in enumerate(graph["edges"]):
        _derivation(made, number, edge)
    return made


def _name(identity: str) -> str:
    return f"fed:node-{quote(identity, safe='').replace('%', '_')}"


def _entity(made: ProvDocument, number: int, node: JSON) -> None:
    told: list[tuple[Any, Any]] = [("fed:number", number), ("fed:id", node["id"]), ("fed:kind", node["kind"])]
    told.append(("fed:depth", node["depth"]))
    if "name" in node:
        told += [(PROV_LABEL, node["name"]), ("fed:status", node["status"])]
        told += [("fed:item", orjson.dumps(list(place.values())).decode()) for place in node["items"]]
    made.entity(_name(node["id"]), told)
    if node.get("status") == "deleted":
        made.wasInvalidatedBy(_name(node["id"]))


def _derivation(made: ProvDocument, number: int, edge: JSON) -> None:
    child, parent = _name(edge["child"]), _name(edge["parent"])
    told: list[tuple[Any, Any]] = [("fed:number", number), ("fed:child", edge["child"]), ("fed:parent", edge["parent"])]
    told += [(f"fed:{name}", edge[name]) for name in _EDGE if name in edge]
    if edge["role"] == "revision_of":
        told.append((PROV_TYPE, "prov:Revision"))
    activity = None
    if "run" in edge:
        activity = f"fed:run-{edge['run']}"
        made.activity(activity)
        made.used(activity, parent)
        made.wasGeneratedBy(child, activity)
    made.wasDerivedFrom(child, parent, activity=activity, identifier=f"fed:edge-{number}", other_attributes=told)
    if edge["role"] in ("alternate_of", "copy_of"):
        made.alternateOf(child, parent)


def read(text: bytes) -> JSON:
    """The native value of a PROV-JSON document that was written here.

    Raises:
        ValueError: it is another's.
    """
    found = ProvDocument.deserialize(content=text.decode(), format="json")
    assert isinstance(found, ProvDocument)
    graph: JSON = {}
    nodes: list[tuple[int, JSON]] = []
    edges: list[tuple[int, JSON]] = []
    for record in found.get_records():
        told = _told(record)
        if str(record.identifier) == "fed:graph":
            roots = sorted(orjson.loads(one) for one in told["root"])
            graph = {"roots": [one[1] for one in roots], "as_of": told["as_of"][0], "truncated": told["truncated"][0]}
        elif isinstance(record, ProvEntity):
            nodes.append((told["number"][0], _read_node(told)))
        elif "child" in told:
            members = ("child", "parent", *_EDGE)
            edges.append((told["number"][0], {name: told[name][0] for name in members if name in told}))
    if not graph:
        raise ValueError("no graph of ours")
    by_number = lambda one: one[0]  # noqa: E731
    return graph | {
        "nodes": [node for _, node in sorted(nodes, key=by_number)],
        "edges": [edge for _, edge in sorted(edges, key=by_number)],
    }


def _told(record: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in record.attributes:
        if name.namespace.uri == NAMESPACE:
            found.setdefault(name.localpart, []).append(value)
        elif name == PROV_LABEL:
            found["label"] = [value]
    return found


def _read_node(told: dict[str, list[Any]]) -> JSON:
    node: JSON = {"id": told["id"][0], "kind": told["kind"][0], "depth": told["depth"][0]}
    if "label" not in told:
        return node
    places = sorted(orjson.loads(one) for one in told.get("item", ()))
    members = ("collection", "item", "status")
    node |= {"name": told["label"][0], "status": told["status"][0]}
    return node | {"items": [dict(zip(members, place, strict=True)) for place in places]}
