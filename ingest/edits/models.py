"""stac-pydantic's models, asked only about what is not plainly good: an item's many assets and extensions cost them most of their time.

A test holds both against each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import chain
from types import NoneType
from typing import Any

from pydantic import AnyUrl, TypeAdapter, ValidationError
from stac_pydantic import Item
from stac_pydantic.shared import StacCommonMetadata

from ingest.model import JSON

_URL = TypeAdapter(AnyUrl)
#: Members of an item that others check (`ingest.edits.geometry`), or that the models leave as they are.
_CHECKED = {"geometry": None, "bbox": None}
_MEMBERS = ("type", "id", "stac_version", "collection", "properties", "assets", "links", "stac_extensions")
_PROPERTIES = tuple(StacCommonMetadata.model_fields)
_TEXT_OR_NONE = {str, NoneType}


def validate_item(item: JSON) -> None:
    """Validate an item with geometry and bbox that were looked at before.

    Raises:
        pydantic.ValidationError
    """
    asked: JSON = {name: item[name] for name in _MEMBERS if name in item} | _CHECKED
    if isinstance(properties := item.get("properties"), dict):
        asked["properties"] = {name: properties[name] for name in _PROPERTIES if name in properties}
    if _are_assets(item.get("assets")):
        asked["assets"] = {}
    if _are_links(item.get("links")):
        asked["links"] = []
    if are_urls(item.get("stac_extensions")):
        asked["stac_extensions"] = []
    Item.model_validate(asked)


def _are_assets(assets: Any) -> bool:
    if not isinstance(assets, dict) or not _are_named(assets.values(), ("href",)):
        return False
    roles = [one["roles"] for one in assets.values() if "roles" in one]
    return set(map(type, roles)) <= {list} and set(map(type, chain.from_iterable(roles))) <= {str}


def _are_links(links: Any) -> bool:
    return isinstance(links, list) and _are_named(links, ("href", "rel"))


def _are_named(ones: Collection[Any], names: Iterable[str]) -> bool:
    """Whether all are objects of which these members are texts that are not empty, and those that asset and link share texts or absent."""
    if not set(map(type, ones)) <= {dict}:
        return False
    for name in names:
        values = [one.get(name) for one in ones]
        if not set(map(type, values)) <= {str} or "" in values:
            return False
    return all({type(one.get(name)) for one in ones} <= _TEXT_OR_NONE for name in ("type", "title", "description"))


def are_urls(values: Any) -> bool:
    """Whether this is a list of URLs as the models take them."""
    return isinstance(values, list) and all(isinstance(one, str) and len(one) < 500 and _is_url(one) for one in values)


@lru_cache(maxsize=1000)
def _is_url(text: str) -> bool:
    try:
        _URL.validate_python(text)
    except ValidationError:
        return False
    return True
