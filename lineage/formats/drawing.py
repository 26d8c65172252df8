"""A graph as SVG: layers by depth, parents on the left. No scripts, no styles from elsewhere, names as text only."""

from __future__ import annotations

import re
from collections import defaultdict
from xml.sax.saxutils import escape

from lineage.formats.value import JSON, label_of, words_of

BOX_W, BOX_H, GAP_X, GAP_Y, MARGIN = 300, 44, 90, 18, 12
LETTERS = 36
#: Nodes beyond which a picture is of no use; the rest is in the other forms.
MAX_NODES = 400
_FILL = {"product": "#e8f1fb", "item": "#e9f7ec", "file": "#f6f1e3", "dataset": "#f1eaf7", "redacted": "#e6e6e6"}
_LINE = {"current": "#2b5d8c", "superseded": "#a07000", "withdrawn": "#b02a2a", "deleted": "#b02a2a"}
_DASH = {"explicit": "", "declared": "", "inferred": ' stroke-dasharray="6 4"'}
_WIDTH = {"explicit": 2.4, "declared": 1.6, "inferred": 1.4}
#: What XML 1.0 has no way to write.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Places = dict[str, tuple[int, int]]


def svg(graph: JSON) -> str:
    """The picture; what is beyond `MAX_NODES` is told at its foot."""
    nodes = graph["nodes"][:MAX_NODES]
    places, width, height = _layout(nodes)
    edges = [edge for edge in graph["edges"] if edge["child"] in places and edge["parent"] in places]
    left_out = len(graph["nodes"]) - len(nodes)
    foot = "more than this picture shows" if left_out or graph["truncated"] else ""
    body = [*(_edge(edge, places) for edge in edges), *(_node(node, places, graph["roots"]) for node in nodes)]
    if foot:
        body.append(f'<text x="{MARGIN}" y="{height - 4}" class="small">{foot}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12"><title>Lineage</title>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>' + "".join(body) + "</svg>\n"
    )


def _layout(nodes: list[JSON]) -> tuple[Places, int, int]:
    """Top left corner of each box, and the size of it all."""
    layers: dict[int, list[str]] = defaultdict(list)
    for node in nodes:
        layers[-node["depth"]].append(node["id"])
    rows = max((len(layer) for layer in layers.values()), default=1)
    height = 2 * MARGIN + rows * (BOX_H + GAP_Y) + 8
    places: Places = {}
    for column, depth in enumerate(sorted(layers)):
        layer = layers[depth]
        top = MARGIN + (rows - len(layer)) * (BOX_H + GAP_Y) // 2
        for row, identity in enumerate(layer):
            places[identity] = (MARGIN + column * (BOX_W + GAP_X), top + row * (BOX_H + GAP_Y))
    return places, 2 * MARGIN + len(layers) * BOX_W + max(0, len(layers) - 1) * GAP_X, height


def _text(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text), {'"': "&quot;"})


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else f"{text[: LETTERS // 2 - 1]}…{text[-LETTERS // 2 :]}"


def _node(node: JSON, places: Places, roots: list[str]) -> str:
    x, y = places[node["id"]]
    status = node.get("status", "unknown")
    second = node["kind"] if node["kind"] in ("redacted", "file") else f"{node['kind']}, {status}"
    line = _LINE.get(status, "#777")
    width = 3 if node["id"] in roots else 1.2
    return (
        f'<g><title>{_text(label_of(node))}</title><rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="5" '
        f'fill="{_FILL.get(node["kind"], "#fff")}" stroke="{line}" stroke-width="{width}"/>'
        f'<text x="{x + 8}" y="{y + 18}">{_text(_short(label_of(node)))}</text>'
        f'<text x="{x + 8}" y="{y + 35}" fill="#444" font-size="11">{_text(second)}</text></g>'
    )


def _edge(edge: JSON, places: Places) -> str:
    (from_x, from_y), (to_x, to_y) = places[edge["parent"]], places[edge["child"]]
    start, end = (from_x + BOX_W, from_y + BOX_H // 2), (to_x, to_y + BOX_H // 2)
    if from_x >= to_x:  # within a layer, or backwards: from below to above
        start, end = (from_x + BOX_W // 2, from_y + BOX_H), (to_x + BOX_W // 2, to_y + BOX_H)
    middle = (start[0] + end[0]) // 2
    words = words_of(edge)
    label = edge["rule"].partition("/")[0] + f" {edge['confidence']:g}" if "rule" in edge else ""
    return (
        f'<g><title>{_text(words)}</title><path d="M{start[0]} {start[1]}C{middle} {start[1]} {middle} {end[1]} {end[0]} {end[1]}" '
        f'fill="none" stroke="#555" stroke-width="{_WIDTH[edge["assertion"]]}"{_DASH[edge["assertion"]]} marker-end="url(#tip)"/>'
        f'<text x="{middle}" y="{(start[1] + end[1]) // 2 - 4}" text-anchor="middle" fill="#333" font-size="10">{_text(label)}</text></g>'
    )
