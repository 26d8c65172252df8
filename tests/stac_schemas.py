"""Validates STAC documents against the published schemas that lie beside the repository; no network."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from tests.shared import shared_path

CORE = "https://schemas.stacspec.org/v{version}/{kind}-spec/json-schema/{kind}.json"


@cache
def registry() -> tuple[Registry[Any], dict[str, Any]]:
    """All schemas by their URL."""
    folder = shared_path("schemas")
    index: dict[str, str] = json.loads((folder / "INDEX.json").read_text())
    documents = {url: json.loads((folder / path).read_text(encoding="utf-8")) for url, path in index.items()}
    resources = [
        (url, Resource.from_contents(document, default_specification=DRAFT7)) for url, document in documents.items()
    ]
    found: Registry[Any] = Registry().with_resources(resources)
    return found, documents


@cache
def validator(url: str) -> Draft7Validator:
    """Validator of one schema."""
    known, documents = registry()
    return Draft7Validator(documents[url], registry=known)


def faults(document: dict[str, Any], kind: str = "item") -> list[str]:
    """What is wrong with an item, collection or catalog: core schema and every declared extension."""
    if kind == "item" and "collection" in document:  # the link is added by the API when it serves the item
        links = [*document["links"], {"rel": "collection", "href": f"../{document['collection']}"}]
        document = {**document, "links": links}
    urls = [CORE.format(version=document["stac_version"], kind=kind), *document.get("stac_extensions", [])]
    found = []
    for url in urls:
        for error in validator(url).iter_errors(document):
            found.append(f"{url.split('/')[-3]}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}")
    return found
