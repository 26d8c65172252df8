"""The graph in the forms of others: nothing is lost where it can be read back, and no name leaves its quotes."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prov.model import ProvDocument

from lineage.formats import FORMATS, drawing, prov, text
from lineage.formats.value import native
from lineage.graph import Graph, Link, Node
from lineage.rules import ASSERTIONS, ROLES
from tests.shared import SHARED
from tests.size import sized

_NAMED = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}},
}
#: What OpenLineage 2-0-2 asks of a RunEvent; the published schema is held against it too, where it is.
RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "format": "uri"},
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": {"type": "object", "required": ["runId"], "properties": {"runId": {"type": "string", "format": "uuid"}}},
        "job": _NAMED,
        "inputs": {"type": "array", "items": _NAMED},
        "outputs": {"type": "array", "items": _NAMED},
    },
}
_PUBLISHED = SHARED / "lineage" / "openlineage" / "OpenLineage-2-0-2.json"
SCHEMAS = [RUN_EVENT, *([json.loads(_PUBLISHED.read_text())] if _PUBLISHED.exists() else [])]
ROOT = "https://federator.example.org"
HOSTILE = (
    'a"b', "a\\", 'x"]; end', "</script><script>alert(1)</script>", "line\nbreak\r\n%%{init}%%", "n" * 300,
    "ünïcödé 🛰 \u2028 \u202e", "&amp;<![CDATA[",
    "[(){}|]#quot;", "' onload='x", "\x01\x7f", "fed:x", "-->", "%%", "", " ",
)  # fmt: skip
#: What PostgreSQL can hold: no NUL, no half of a pair.
names = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    nodes = []
    for number in range(draw(st.integers(1, 6))):
        identity = str(UUID(int=number + 1))
        if number and draw(st.integers(0, 5)) == 0:
            nodes.append(Node(f"hidden:{identity}", "redacted", None, (), number))
            continue
        statuses = st.sampled_from(["current", "superseded", "withdrawn", "deleted"])
        places = draw(st.lists(st.tuples(names, names, statuses), max_size=2, unique_by=lambda one: one[:2]))
        nodes.append(
            Node(
                identity,
                draw(st.sampled_from(["product", "item", "file", "dataset"])),
                draw(names),
                tuple(places),
                number,
            )
        )
    links = []
    for number in range(draw(st.integers(0, 8))):
        child, parent = draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes))
        role, assertion = draw(st.sampled_from(ROLES)), draw(st.sampled_from(ASSERTIONS))
        if parent.kind == "redacted":
            links.append(Link(child.id, parent.id, role, assertion, 0.0, "", None))
            continue
        run, confidence = draw(st.none() | st.uuids().map(str)), draw(st.sampled_from([1.0, 0.95, 0.5]))
        links.append(
            Link(child.id, parent.id, role, assertion, confidence, "R4/1", number, run, draw(st.none() | names))
        )  # fmt: skip
    return native(Graph([nodes[0].id], draw(st.integers(1, 2**40)), nodes, links, draw(st.booleans())))


@settings(max_examples=sized(40, 1000), deadline=None)
@given(graphs())
def test_prov_json_and_back_loses_nothing(graph: dict[str, Any]) -> None:
    assert prov.read(prov.write(graph, "json")) == graph


@settings(max_examples=sized(15, 300), deadline=None)
@given(graphs())
def test_every_form_is_made_and_parses(graph: dict[str, Any]) -> None:
    times = {edge["seq"]: "2026-11-26T00:00:00Z" for edge in graph["edges"] if "seq" in edge}
    made = {name: one.write(graph, times, ROOT).decode() for name, one in FORMATS.items()}
    for name in ("json", "prov-json", "prov-jsonld", "openlineage", "ro-crate", "cytoscape"):
        json.loads(made[name])
    ProvDocument.deserialize(content=made["prov-jsonld"], format="jsonld")
    assert made["prov-n"].startswith("document")
    for event in json.loads(made["openlineage"]):
        for schema in SCHEMAS:
            jsonschema.validate(event, schema, format_checker=jsonschema.FormatChecker())


@settings(max_examples=sized(60, 1000), deadline=None)
@given(graphs())
def test_names_stay_within_their_quotes(graph: dict[str, Any]) -> None:
    nodes, edges = len(graph["nodes"]), len(graph["edges"])
    mermaid = text.mermaid(graph).splitlines()
    assert mermaid[0] == "flowchart LR"
    assert len(mermaid) == 1 + nodes + edges
    allowed = r'"[A-Za-z0-9 _.,:/()#;-]*"'
    for line in mermaid[1:]:
        assert re.fullmatch(rf"  n\d+(\[{allowed}\]| (==>|-->|-\.->)\|{allowed}\| n\d+)", line), line
    dot = text.dot(graph).split("\n")
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    for line in dot[3 : 3 + nodes + edges]:
        assert re.fullmatch(rf"  n\d+( -> n\d+)? \[label={quoted}(, style=\w+)?\];", line), line
    assert dot[3 + nodes + edges :] == ["}", ""]
    picture = ET.fromstring(drawing.svg(graph))
    tags = {one.tag.rpartition("}")[2] for one in picture.iter()}
    assert tags <= {"svg", "title", "defs", "marker", "path", "g", "rect", "text"}
    assert not [name for one in picture.iter() for name in one.attrib if name.startswith("on")]


@pytest.mark.parametrize("name", [one for one in HOSTILE if one.strip() and one.isprintable()])
def test_a_hostile_name_can_be_read_again(name: str) -> None:
    graph = native(Graph(["r"], 1, [Node("r", "item", name, (), 0)]))
    titles = [one.text for one in ET.fromstring(drawing.svg(graph)).iter("{http://www.w3.org/2000/svg}title")]
    assert name in titles
    (shown,) = re.findall(r'\["(.*)"\]', text.mermaid(graph))
    assert re.sub(r"#(\d+);", lambda found: chr(int(found[1])), shown) == name
    (label,) = re.findall(r'\[label="(.*)"\];', text.dot(graph))
    assert re.sub(r"\\(.)", r"\1", label) == name


def test_a_large_graph_has_a_picture_that_says_so() -> None:
    nodes = [Node(str(UUID(int=number)), "item", f"m{number}", (), -1 if number else 0) for number in range(1000)]
    assert "more than this picture shows" in drawing.svg(native(Graph([nodes[0].id], 1, nodes)))
