"""Filters by lineage: `lineage:status`, `lineage:parent`, `lineage:root_product`. Pure.

They are no members of items: what is known of lineage changes without them. Each becomes an operator of ours (0034_lineage_fields.sql),
which finds the items through the graph. They know what everybody may know, whoever asks.
"""

from __future__ import annotations

from typing import Any

from lineage.names import item_id, product_id

JSON = dict[str, Any]

STATUS, PARENT, ROOT = "lineage:status", "lineage:parent", "lineage:root_product"
NAMES = frozenset({STATUS, PARENT, ROOT})
STATUSES = ("current", "superseded", "withdrawn", "deleted")
_MAX_NAME = 512
#: pgstac gives texts beside a column as they are.
_ID: JSON = {"property": "id"}

#: What can be filtered by besides what items have (`api.stac.schemas`).
QUERYABLES: dict[str, JSON] = {
    STATUS: {"title": "How the item is, by the log: current or superseded", "type": "string"},
    PARENT: {"title": "Product, or collection/item, that the item came of", "type": "string"},
    ROOT: {"title": "Product, or collection/item, at the very beginning of what the item came of", "type": "string"},
}


class NotComparable(Exception):
    """The message says what is possible, in words for people."""


def lineage_property(value: Any) -> str | None:
    """The name of such a property; None for anything else."""
    name = value.get("property") if isinstance(value, dict) else None
    plain = name.removeprefix("properties.") if isinstance(name, str) else None
    return plain if plain in NAMES else None


def comparison(op: str, args: list[Any]) -> Any:
    """A predicate on one of these properties, of operators on operators: =, <>, in, isNull.

    Raises:
        NotComparable
    """
    name = lineage_property(args[0])
    if name is None or any(lineage_property(one) for one in args[1:]):
        raise NotComparable("lineage:* stands on the left side, with a text on the right")
    match op, args[1:]:
        case "=", [str(text)]:
            return _equal(name, text)
        case "<>", [str(text)]:
            return _not(_equal(name, text))
        case "in", [[*texts]] if texts and all(isinstance(one, str) for one in texts):
            found = [_equal(name, one) for one in texts]
            return found[0] if len(found) == 1 else {"op": "or", "args": found}
        case "isnull", [] if name != STATUS:
            return _not({"op": "federator_lineage_known", "args": [_ID]})
    raise NotComparable("lineage:* is compared with texts by =, <> and IN; a parent besides by IS NULL")


def _not(said: JSON) -> JSON:
    return {"op": "not", "args": [said]}


def _equal(name: str, text: str) -> JSON:
    if len(text) > _MAX_NAME:
        raise NotComparable(f"a name has at most {_MAX_NAME} letters")
    if name == STATUS:
        if text not in STATUSES:
            raise NotComparable(f"lineage:status is one of {', '.join(STATUSES)}")
        return {
            "op": "federator_lineage_current" if text == "current" else "federator_lineage_status",
            "args": [text, _ID],
        }
    ids = [product_id(text)]
    collection, slash, item = text.partition("/")
    if slash:  # an own item, or one that is a product: then its id is the product's name
        ids = [item_id(collection, item), product_id(item)]
    op = "federator_lineage_parent" if name == PARENT else "federator_lineage_root"
    return {"op": op, "args": [f"{{{','.join(map(str, ids))}}}", _ID]}
