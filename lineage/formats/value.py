"""The native form of a graph: plain JSON, which the other forms are made of and PROV-JSON is read back to."""

from __future__ import annotations

from typing import Any

from lineage.graph import Graph, Link, Node

JSON = dict[str, Any]


def native(graph: Graph) -> JSON:
    """roots (ids), as_of (log size), truncated, nodes, edges; members that are not known are left out."""
    return {
        "roots": graph.roots,
        "as_of": graph.as_of,
        "truncated": graph.truncated,
        "nodes": [node_of(node) for node in graph.nodes],
        "edges": [edge_of(link) for link in graph.links],
    }


def node_of(node: Node) -> JSON:
    """id, kind, depth; name, status and items unless it is redacted."""
    shown: JSON = {"id": node.id, "kind": node.kind, "depth": node.depth}
    if node.kind == "redacted":
        return shown
    places = [{"collection": place[0], "item": place[1], "status": place[2]} for place in sorted(node.places)]
    return shown | {"name": node.name, "status": node.status, "items": places}


def edge_of(link: Link) -> JSON:
    """child, parent, role, assertion; of what is not redacted confidence, rule, event's number, run and label where there are."""
    shown: JSON = {"child": link.child, "parent": link.parent, "role": link.role, "assertion": link.assertion}
    if link.seq is None:
        return shown
    shown |= {"confidence": link.confidence, "rule": link.rule, "seq": link.seq}
    return shown | {name: value for name, value in (("run", link.run), ("label", link.label)) if value is not None}


def label_of(node: JSON) -> str:
    """What a picture calls a node."""
    return str(node.get("name") or "not shown to you")


def words_of(edge: JSON) -> str:
    """What a picture says of an edge."""
    told = f"{edge['role'].replace('_', ' ')}, {edge['assertion']}"
    return f"{told} {edge['confidence']:g}" if "confidence" in edge else told
