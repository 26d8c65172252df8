"""OpenLineage 2-0-2: one RunEvent (COMPLETE) for each entity that came of others. What it has no word for is in facets of our own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from lineage.formats.value import JSON

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
_RUN_EVENT = f"{SCHEMA}#/$defs/RunEvent"
_FACET = f"{SCHEMA}#/$defs/BaseFacet"
_EPOCH = "1970-01-01T00:00:00Z"


def events(graph: JSON, times: Mapping[int, str], root: str) -> list[JSON]:
    """RunEvents in the order in which their children stand in the graph; `times` has when events were recorded, by number."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    by_child: dict[tuple[str, str], list[JSON]] = defaultdict(list)
    for edge in graph["edges"]:
        if edge["child"] in nodes and edge["parent"] in nodes:
            by_child[edge["child"], edge.get("run", "")].append(edge)
    return [_event(nodes, child, run, edges, times, root) for (child, run), edges in by_child.items()]


def _event(
    nodes: Mapping[str, JSON], child: str, run: str, edges: list[JSON], times: Mapping[int, str], root: str
) -> JSON:
    known = [edge["seq"] for edge in edges if "seq" in edge]
    at = times.get(max(known), _EPOCH) if known else _EPOCH
    return {
        "eventType": "COMPLETE",
        "eventTime": at,
        "producer": root,
        "schemaURL": _RUN_EVENT,
        "run": {"runId": run or str(uuid5(NAMESPACE_URL, f"{root}/lineage/v1/entities/{child}"))},
        "job": {"namespace": root, "name": f"make {nodes[child].get('name') or child}"},
        "inputs": [_dataset(nodes[edge["parent"]], root, _facet(root, edge)) for edge in edges],
        "outputs": [_dataset(nodes[child], root, {})],
    }


def _dataset(node: JSON, root: str, edge: JSON) -> JSON:
    place = node["items"][0] if node.get("items") else None
    if place:
        namespace, name = f"{root}/stac/collections/{place['collection']}", place["item"]
    else:
        namespace, name = f"{root}/lineage/v1/{node['kind']}", node.get("name") or node["id"]
    facets: dict[str, Any] = {"stacFederator_entity": {**_base(root), "kind": node["kind"]}}
    if "status" in node:
        facets["stacFederator_entity"]["status"] = node["status"]
    if node.get("status") == "deleted":
        facets["lifecycleStateChange"] = {**_base(root), "lifecycleStateChange": "DROP"}
    return {"namespace": namespace, "name": name, "facets": facets, **({"inputFacets": edge} if edge else {})}


def _facet(root: str, edge: JSON) -> JSON:
    told = {name: edge[name] for name in ("role", "assertion", "confidence", "rule", "seq") if name in edge}
    return {"stacFederator_edge": {**_base(root), **told}}


def _base(root: str) -> JSON:
    return {"_producer": root, "_schemaURL": _FACET}
