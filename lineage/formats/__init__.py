"""A graph in the forms of others. All take the native value (`native`) and know neither database nor HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from lineage.formats import drawing, openlineage, prov, ro_crate, text
from lineage.formats.value import JSON, native

__all__ = ["BY_MEDIA_TYPE", "FORMATS", "Format", "native"]


@dataclass(frozen=True, slots=True)
class Format:
    """One form: its media type, and what makes it of (native value, times of events by number, our URL)."""

    media_type: str
    write: Callable[[JSON, Mapping[int, str], str], bytes]
    needs_times: bool = False


def _json(make: Callable[[JSON], Any], graph: JSON, times: Mapping[int, str], root: str) -> bytes:
    return orjson.dumps(make(graph))


def _text(make: Callable[[JSON], str], graph: JSON, times: Mapping[int, str], root: str) -> bytes:
    return make(graph).encode()


def _prov(form: str, graph: JSON, times: Mapping[int, str], root: str) -> bytes:
    return prov.write(graph, form)


def _openlineage(graph: JSON, times: Mapping[int, str], root: str) -> bytes:
    return orjson.dumps(openlineage.events(graph, times, root))


def _ro_crate(graph: JSON, times: Mapping[int, str], root: str) -> bytes:
    return orjson.dumps(ro_crate.crate(graph, root))


FORMATS: dict[str, Format] = {
    "json": Format("application/json", partial(_json, lambda graph: graph)),
    "prov-json": Format("application/prov+json", partial(_prov, "json")),
    "prov-jsonld": Format("application/ld+json", partial(_prov, "jsonld")),
    "prov-n": Format("text/provenance-notation", partial(_prov, "provn")),
    "openlineage": Format("application/vnd.openlineage+json", _openlineage, needs_times=True),
    "ro-crate": Format("application/ld+json;profile=https://w3id.org/ro/crate/1.2", _ro_crate),
    "mermaid": Format("text/vnd.mermaid", partial(_text, text.mermaid)),
    "dot": Format("text/vnd.graphviz", partial(_text, text.dot)),
    "svg": Format("image/svg+xml", partial(_text, drawing.svg)),
    "cytoscape": Format("application/vnd.cytoscape+json", partial(_json, text.cytoscape)),
}
#: For `Accept`; where two share one the first is meant.
BY_MEDIA_TYPE: dict[str, str] = {one.media_type.partition(";")[0]: name for name, one in reversed(FORMATS.items())}
