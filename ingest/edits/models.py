"""stac-pydantic's models, asked only about what is not plainly good: an item's many assets and extensions cost them most of their time.

A test holds both against each other.
"""

from __future__ import annotations

from functools import lru_cache
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
_TEXT_OR_NONE = (str, type(None))


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
    if _are_urls(item.get("stac_extensions")):
        asked["stac_extensions"] = []
    Item.model_validate(asked)


def _are_assets(assets: Any) -> bool:
    return isinstance(assets, dict) and all(
        isinstance(one, dict) and _is_named(one, "href") and _are_texts(one.get("roles")) for one in assets.values()
    )


def _are_links(links: Any) -> bool:
    return isinstance(links, list) and all(
        isinstance(one, dict) and _is_named(one, "href") and _is_named(one, "rel") for one in links
    )


def _is_named(one: JSON, name: str) -> bool:
    """Whether a member is a text that is not empty, and those that asset and link share are texts or absent."""
    return (
        type(one.get(name)) is str
        and one[name] != ""
        and type(one.get("type")) in _TEXT_OR_NONE
        and type(one.get("title")) in _TEXT_OR_NONE
        and type(one.get("description")) in _TEXT_OR_NONE
    )


def _are_texts(values: Any) -> bool:
    return values is None or (isinstance(values, list) and all(isinstance(one, str) for one in values))


def _are_urls(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) and len(one) < 500 and _is_url(one) for one in values)


@lru_cache(maxsize=1000)
def _is_url(text: str) -> bool:
    try:
        _URL.validate_python(text)
    except ValidationError:
        return False
    return True
