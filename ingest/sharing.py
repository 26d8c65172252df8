"""Who sees a collection or an item and who writes into it: the words, checked, and how an item keeps them. Pure.

`private`: the owner alone. `shared`: the owner, and those who are named. `public`: everybody; of an item: all who see its collection.
Administrators see and write everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import orjson

from ingest.errors import EditRefused, UploadRejected
from ingest.model import JSON

PRIVATE, SHARED, PUBLIC = "private", "shared", "public"
VISIBILITIES: Final = (PRIVATE, SHARED, PUBLIC)
MAX_PRINCIPALS = 100
#: Whom one can share with. Roles are given by the operator and not by owners.
_PRINCIPAL = re.compile(r"(user|group):[A-Za-z0-9._~@+|/=-]{1,200}")

#: Called with the field and what is wrong with it; raises.
_Refuse = Callable[[str, str], NoReturn]


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who sees and who writes; principals in the order of the alphabet. `owner` None: nobody in particular."""

    visibility: str = PUBLIC
    owner: str | None = None
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()


def parse_sharing(body: Any, owner: str | None, *, is_item: bool) -> Sharing:
    """What a caller wishes: `{"visibility": "shared", "readers": ["user:ann", "group:surveyors"], "writers": ["user:ben"]}`.

    Raises:
        EditRefused: INVALID_FIELD (400), with the field.
    """

    def refuse(field: str, why: str) -> NoReturn:
        raise EditRefused("INVALID_FIELD", why, field=field)

    if not isinstance(body, dict):
        refuse("", 'the body is an object with visibility: "private", "shared" or "public"')
    visibility = _visibility(body.get("visibility"), refuse)
    readers, writers = (_principals(name, body.get(name), refuse) for name in ("readers", "writers"))
    if readers and visibility != SHARED:
        refuse("readers", "readers go with the visibility shared")
    if writers and (is_item or visibility == PRIVATE):
        refuse("writers", "only a collection that is shared or public has writers")
    return Sharing(visibility, owner, readers, writers)


def parse_wish(form: JSON) -> tuple[str | None, tuple[str, ...]]:
    """Visibility and readers of an upload's item, by form or tus' metadata; None: as it is usual in the collection.

    Raises:
        UploadRejected: INVALID_FIELD.
    """

    def refuse(field: str, why: str) -> NoReturn:
        raise UploadRejected("INVALID_FIELD", why, field=field)

    readers = _principals("readers", _listed(form.get("readers")), refuse)
    visibility = _visibility(form["visibility"], refuse) if form.get("visibility") else SHARED if readers else None
    if readers and visibility != SHARED:
        refuse("readers", "readers go with the visibility shared")
    return visibility, readers


def private_of(sharing: Sharing, collection_owner: str | None) -> JSON | None:
    """What pgstac's column `private` holds of an item; null when everybody sees it who sees the collection.

    `readers` is all that the database asks for: the item's owner, the collection's, who answers for what lies in it, and who is named.
    """
    if sharing.visibility == PUBLIC:
        return None
    owners = [one for one in (sharing.owner, collection_owner) if one is not None]
    return {
        "visibility": sharing.visibility,
        "owner": sharing.owner,
        "shared_with": list(sharing.readers),
        "readers": list(dict.fromkeys([*owners, *sharing.readers])),
    }


def sharing_of(private: JSON | None, owner: str | None) -> Sharing:
    """The same the other way round; what others have put there has readers only."""
    if private is None:
        return Sharing(PUBLIC, owner)
    readers: list[str] = private["shared_with"] if "shared_with" in private else private.get("readers") or []
    return Sharing(private.get("visibility", SHARED), private.get("owner", owner), tuple(readers))


def changed_members(before: Sharing, after: Sharing) -> list[str]:
    """Names of what differs."""
    return [name for name in ("visibility", "readers", "writers") if getattr(before, name) != getattr(after, name)]


def _visibility(value: Any, refuse: _Refuse) -> str:
    if not isinstance(value, str) or value not in VISIBILITIES:
        refuse("visibility", f"visibility is one of {', '.join(VISIBILITIES)}")
    return value


def _listed(value: Any) -> Any:
    """A list that came as a text: JSON, or divided by commas."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return [one.strip() for one in value.split(",") if one.strip()]


def _principals(name: str, value: Any, refuse: _Refuse) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_PRINCIPALS:
        refuse(name, f"{name} is a list of at most {MAX_PRINCIPALS} principals")
    if not all(isinstance(one, str) and _PRINCIPAL.fullmatch(one) for one in value):
        refuse(name, f"{name} are written user:NAME or group:NAME")
    return tuple(sorted(set(value)))


def default_of_upload(principals: Sequence[str], *, is_common: bool) -> str | None:
    """The visibility of an upload whose sender says nothing: a person's is private where everybody uploads, else as its collection."""
    is_person = any(one.startswith("user:") for one in principals) and "role:admin" not in principals
    return PRIVATE if is_person and is_common else None
