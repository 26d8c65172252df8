"""Collections of Google Earth Engine's catalogue become STAC 1.1 Collections of ours.

Source: google/earthengine-catalog (Jsonnet sources of the catalogue, 2026). The catalogue has no items; a document
describes a dataset: an image, an image collection, a table.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from ingest.errors import RecordRejected
from ingest.model import JSON
from ingest.normalise.fields import PREFIXES, STAC_VERSION, Fields
from ingest.normalise.stac_assets import COMMON_NAMES, is_number, numbers
from ingest.sanitise import check_content, parse_time, time_text

MAX_BYTES = 200_000
#: Times of datasets: tree rings and ice cores reach far back, projections far ahead.
YEARS = (1, 9999)
ROLES = ("producer", "licensor", "processor", "host")
EO = PREFIXES["eo:"]
SCIENTIFIC = "https://stac-extensions.github.io/scientific/v1.0.0/schema.json"
VERSION = "https://stac-extensions.github.io/version/v1.2.0/schema.json"
_SLUG = re.compile(r"[^a-z0-9._-]+")
_DOI = re.compile(r"10\.[0-9a-zA-Z]{4,}/[^\s]+")


def collection_id(dataset: str) -> str:
    """Our id of a dataset: "COPERNICUS/S2_SR" is "gee-copernicus-s2_sr"."""
    return f"gee-{_SLUG.sub('-', dataset.lower()).strip('-')}"[:200]


def earth_engine_collection(document: JSON) -> JSON:
    """Return our Collection of one of Earth Engine's; `gee:id` is the dataset's own id. Pure.

    Raises:
        RecordRejected: "record-malformed", "field-missing", "field-malformed", "datetime-invalid", "content-invalid", "too-deep",
            "too-large".
    """
    told = Fields(document, "")
    if told.take("type") != "Collection":
        raise RecordRejected("record-malformed", "the document is no Collection")
    dataset = told.require("id", str)
    if not re.fullmatch(r"[\w./~-]{1,300}", dataset, re.ASCII):
        raise RecordRejected("field-malformed", f"no dataset's id: {dataset[:80]!r}")
    found: JSON = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": collection_id(dataset),
        "title": told.optional("title", str) or dataset,
        "description": told.require("description", str),
        "keywords": _texts(told.optional("keywords", list)),
        "license": _license(told.optional("license", str)),
        "providers": _providers(told.optional("providers", list)),
        "extent": _extent(Fields(told.require("extent", dict), "extent.")),
        "summaries": _summaries(told.optional("summaries", dict) or {}),
        "gee:id": dataset,
        **_extras(told),
    }
    links = [link for link in told.optional("links", list) or [] if _is_link(link)]
    found["links"] = _links(links)
    if thumbnail := next((link for link in links if link["rel"] == "preview"), None):
        asset = {"href": thumbnail["href"], "type": thumbnail.get("type", "image/png"), "roles": ["thumbnail"]}
        found["assets"] = {"thumbnail": {"title": "Quicklook", **asset}}
    return _bounded(
        {name: value for name, value in found.items() if value != [] or name in ("links", "stac_extensions")}
    )


def _texts(values: list[Any] | None) -> list[str]:
    return [one for one in values or [] if isinstance(one, str)]


def _license(told: str | None) -> str:
    """An SPDX id; STAC 1.1 knows "other" where older versions say "proprietary" or "various"."""
    if told is None or told in ("proprietary", "various") or not re.fullmatch(r"[\w.+-]+", told, re.ASCII):
        return "other"
    return told


def _providers(told: list[Any] | None) -> list[JSON]:
    found = []
    for one in told or []:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not one["name"]:
            continue
        provider: JSON = {"name": one["name"]}
        if roles := [role for role in ROLES if isinstance(one.get("roles"), list) and role in one["roles"]]:
            provider["roles"] = roles
        if _is_url(one.get("url")):
            provider["url"] = one["url"]
        found.append(provider)
    return found


def _extent(told: Fields) -> JSON:
    boxes = Fields(told.require("spatial", dict), "extent.spatial.").require("bbox", list)
    intervals = Fields(told.require("temporal", dict), "extent.temporal.").require("interval", list)
    if not boxes or not all(numbers(4, 6)(box) for box in boxes):
        raise RecordRejected("field-malformed", "extent.spatial.bbox is no list of boxes")
    if not intervals or not all(isinstance(one, list) and len(one) == 2 for one in intervals):
        raise RecordRejected("field-malformed", "extent.temporal.interval is no list of intervals")
    flat = [box if len(box) == 4 else [*box[:2], *box[3:5]] for box in boxes]
    if len(flat) == 2:  # the first of several is their union, so there are never two
        flat.insert(0, [min(a, b) if edge < 2 else max(a, b) for edge, (a, b) in enumerate(zip(*flat, strict=True))])
    times = [[None if end is None else time_text(parse_time(end, YEARS)) for end in one] for one in intervals]
    return {"spatial": {"bbox": flat}, "temporal": {"interval": times}}


def _summaries(told: JSON) -> JSON:
    """Summaries of a kind that STAC allows; `eo:bands` become `bands`."""
    found = {name: value for name, value in told.items() if name != "eo:bands" and _is_summary(value)}
    bands = told.get("eo:bands")
    if made := [_band(band) for band in (bands if isinstance(bands, list) else []) if isinstance(band, dict)]:
        found["bands"] = made
    return found


def _is_summary(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value)
    return isinstance(value, dict) and {"minimum", "maximum"} <= set(value)


def _band(told: JSON) -> JSON:
    """A band of STAC 1.1; what Earth Engine says of it (`gee:*`) stays."""
    found = {name: told[name] for name in ("name", "description") if isinstance(told.get(name), str)}
    found |= {name: value for name, value in told.items() if name.startswith("gee:")}
    gsd = told["gsd"][0] if isinstance(told.get("gsd"), list) and told["gsd"] else told.get("gsd")
    if gsd is not None and is_number(gsd) and gsd > 0:
        found["gsd"] = gsd
    if isinstance(told.get("common_name"), str) and told["common_name"] in COMMON_NAMES:
        found["eo:common_name"] = told["common_name"]
    for name in ("center_wavelength", "full_width_half_max"):
        if is_number(told.get(name)) and told[name] > 0:
            found[f"eo:{name}"] = told[name]
    return found


def _extras(told: Fields) -> JSON:
    """Top-level members that are kept: Earth Engine's own, how to cite, which version it is."""
    found: JSON = {
        name: value for name in told.names() if name.startswith("gee:") and (value := told.take(name)) is not None
    }
    for name in ("sci:citation", "version"):
        if isinstance(value := told.take(name), str):
            found[name] = value
    if isinstance(doi := told.take("sci:doi"), str) and _DOI.fullmatch(doi):
        found["sci:doi"] = doi
    publications = told.take("sci:publications")
    made = [
        _publication(one) for one in (publications if isinstance(publications, list) else []) if isinstance(one, dict)
    ]
    if any(made):
        found["sci:publications"] = [one for one in made if one]
    if told.take("deprecated") is True or found.get("gee:status") == "deprecated":
        found["deprecated"] = True
    return found


def _publication(told: JSON) -> JSON:
    found = {"citation": told["citation"]} if isinstance(told.get("citation"), str) else {}
    if isinstance(told.get("doi"), str) and _DOI.fullmatch(told["doi"]):
        found["doi"] = told["doi"]
    return found


def _is_link(link: Any) -> bool:
    return isinstance(link, dict) and isinstance(link.get("rel"), str) and _is_url(link.get("href"))


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"https?://[^\s<>\"{}|\\^`]{3,2000}", value) is not None


def _links(links: list[JSON]) -> list[JSON]:
    """Where the document is, and under which terms it is offered."""
    found = []
    for rel, ours, media in (("self", "via", "application/json"), ("license", "license", "text/html")):
        for link in links:
            if link["rel"] == rel:
                kind = link["type"] if isinstance(link.get("type"), str) else media
                title = {"title": "Google Earth Engine"} if ours == "via" else {}
                found.append({"rel": ours, "href": link["href"], "type": kind, **title})
    return found


def _bounded(found: JSON) -> JSON:
    """The collection, without its luxuries when it is too large: pictures, then classes of bands, then what images have."""
    check_content(found)
    summaries = found["summaries"]
    bands = [(band, name) for band in summaries.get("bands", []) for name in ("gee:classes", "gee:bitmask")]
    steps = [[], [(summaries, "gee:visualizations")], bands, [(summaries, "gee:schema"), (found, "sci:publications")]]
    for step in steps:
        for holder, name in step:
            holder.pop(name, None)
        if len(orjson.dumps(found)) <= MAX_BYTES:
            return found | {"stac_extensions": _extensions(found)}
    raise RecordRejected("too-large", f"the collection is larger than {MAX_BYTES} bytes")


def _extensions(found: JSON) -> list[str]:
    used = set()
    if any(name.startswith("eo:") for band in found["summaries"].get("bands", []) for name in band):
        used.add(EO)
    if any(name.startswith("sci:") for name in found):
        used.add(SCIENTIFIC)
    if {"version", "deprecated"} & set(found):
        used.add(VERSION)
    return sorted(used)
