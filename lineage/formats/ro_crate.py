"""RO-Crate 1.2 with the actions of Workflow Run Crate: files and data sets, and a CreateAction for each that came of others."""

from __future__ import annotations

from collections import defaultdict
from urllib.parse import quote

from lineage.formats.value import JSON, label_of

CONTEXT = "https://w3id.org/ro/crate/1.2/context"


def crate(graph: JSON, root: str) -> JSON:
    """The crate's metadata document, detached: data are where their items say."""
    ids = {node["id"]: _id(node, root) for node in graph["nodes"]}
    by_child: dict[str, list[JSON]] = defaultdict(list)
    for edge in graph["edges"]:
        if edge["child"] in ids and edge["parent"] in ids:
            by_child[edge["child"]].append(edge)
    nodes = {node["id"]: node for node in graph["nodes"]}
    parts = [_part(node, ids, by_child[node["id"]]) for node in graph["nodes"]]
    actions = [_action(nodes[child], ids, edges) for child, edges in by_child.items()]
    head = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.2"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Lineage of {', '.join(label_of(nodes[one]) for one in graph['roots'] if one in nodes)}",
            "description": f"As the log said it with {graph['as_of']} events",
            "hasPart": [{"@id": ids[node["id"]]} for node in graph["nodes"]],
            "mentions": [{"@id": action["@id"]} for action in actions],
        },
    ]
    return {"@context": CONTEXT, "@graph": [*head, *parts, *actions]}


def _id(node: JSON, root: str) -> str:
    if node.get("items"):
        place = node["items"][0]
        return f"{root}/stac/collections/{quote(place['collection'], safe='')}/items/{quote(place['item'], safe='')}"
    return f"#{quote(node['id'], safe='')}"


def _part(node: JSON, ids: dict[str, str], edges: list[JSON]) -> JSON:
    part: JSON = {
        "@id": ids[node["id"]],
        "@type": "File" if node["kind"] == "file" else "Dataset",
        "name": label_of(node),
    }
    if "status" in node:
        part["creativeWorkStatus"] = node["status"]
    if edges:
        part["isBasedOn"] = [{"@id": ids[edge["parent"]]} for edge in edges]
    return part


def _action(child: JSON, ids: dict[str, str], edges: list[JSON]) -> JSON:
    described = [
        f"{ids[edge['parent']]}: {edge['role']}, {edge['assertion']}"
        + (f", confidence {edge['confidence']:g}, rule {edge['rule']}" if "rule" in edge else "")
        for edge in edges
    ]
    return {
        "@id": f"#made-{quote(child['id'], safe='')}",
        "@type": "CreateAction",
        "name": f"Making of {label_of(child)}",
        "description": "; ".join(described),
        "object": [{"@id": ids[edge["parent"]]} for edge in edges],
        "result": {"@id": ids[child["id"]]},
    }
