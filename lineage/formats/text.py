"""Mermaid, DOT and Cytoscape. Names are users' and upstreams' texts: none of them can leave its quotes."""

from __future__ import annotations

import re

from lineage.formats.value import JSON, label_of, words_of

#: What stands for itself in Mermaid's quoted texts; everything else is written as its number.
_PLAIN = re.compile(r"[^A-Za-z0-9 _.,:/()-]")
_ARROWS = {"explicit": "==>", "declared": "-->", "inferred": "-.->"}
_STYLES = {"explicit": "bold", "declared": "solid", "inferred": "dashed"}


def _mermaid_text(text: str) -> str:
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", text)


def mermaid(graph: JSON) -> str:
    """A flow chart, parents on the left."""
    ids = {node["id"]: f"n{number}" for number, node in enumerate(graph["nodes"])}
    lines = ["flowchart LR"]
    lines += [f'  {ids[node["id"]]}["{_mermaid_text(label_of(node))}"]' for node in graph["nodes"]]
    for edge in _inner(graph, ids):
        words = _mermaid_text(words_of(edge))
        lines.append(f'  {ids[edge["parent"]]} {_ARROWS[edge["assertion"]]}|"{words}"| {ids[edge["child"]]}')
    return "\n".join(lines) + "\n"


def _dot_text(text: str) -> str:
    """A quoted string: backslashes doubled, for the layout program reads escapes in labels; no line breaks and no NUL."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", plain) + '"'


def dot(graph: JSON) -> str:
    """A directed graph, parents on the left."""
    ids = {node["id"]: f"n{number}" for number, node in enumerate(graph["nodes"])}
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f"  {ids[node['id']]} [label={_dot_text(label_of(node))}];" for node in graph["nodes"]]
    for edge in _inner(graph, ids):
        style = _STYLES[edge["assertion"]]
        lines.append(
            f"  {ids[edge['parent']]} -> {ids[edge['child']]} [label={_dot_text(words_of(edge))}, style={style}];"
        )
    return "\n".join([*lines, "}"]) + "\n"


def cytoscape(graph: JSON) -> JSON:
    """Elements as Cytoscape.js reads them; edges go from parent to child."""
    ids = {node["id"]: "" for node in graph["nodes"]}
    nodes = [{"data": {**node, "label": label_of(node)}} for node in graph["nodes"]]
    edges = [
        {"data": {"id": f"e{number}", "source": edge["parent"], "target": edge["child"], **edge}}
        for number, edge in enumerate(_inner(graph, ids))
    ]
    return {"elements": {"nodes": nodes, "edges": edges}}


def _inner(graph: JSON, ids: dict[str, str]) -> list[JSON]:
    """Edges of which both ends are in the graph: of one that was cut some lead out of it."""
    return [edge for edge in graph["edges"] if edge["child"] in ids and edge["parent"] in ids]
