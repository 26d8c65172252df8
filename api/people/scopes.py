"""Names, and what a person, a key and a token together allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from api.access import SCOPES, Caller

#: What people are allowed unless an administrator says otherwise.
OF_EVERYBODY: Final = tuple(scope for scope in SCOPES if scope != "admin")
#: Of people, and of groups that are kept here (db/migrations/*_people.sql says the same).
NAME: Final = r"^[a-z0-9][a-z0-9._-]{0,62}$"
#: Names that `api.access` and the log give to programs.
RESERVED: Final = frozenset({"local", "token", "worker", "unattributed", "anonymous"})
_NAME = re.compile(NAME)
#: Groups of an identity provider may be paths, as Keycloak's are.
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,126}")
MOST_GROUPS = 200


def is_name(text: str) -> bool:
    """Whether a person or a group may be called that."""
    return _NAME.fullmatch(text) is not None and text not in RESERVED


def allowed_to(person: Mapping[str, Any]) -> frozenset[str]:
    """All that a person (`name`, `is_admin`, `allowed`) may do."""
    return frozenset(SCOPES) if person["is_admin"] else frozenset(person["allowed"]) & frozenset(OF_EVERYBODY)


def caller(person: Mapping[str, Any], asked: Iterable[str], groups: Iterable[str] = ()) -> Caller:
    """The caller that a credential with these scopes makes of a person (`name`, `groups`, `tier`, ...).

    Only a credential with the scope `admin` sees what administrators see: a key for uploads, lost by one, opens nothing else.
    """
    name, scopes = str(person["name"]), allowed_to(person) & frozenset(asked)
    member_of = sorted({*person["groups"], *groups})
    principals = [f"user:{name}", *(f"group:{group}" for group in member_of)]
    if "admin" in scopes:
        principals.append("role:admin")
    return Caller(name, tuple(principals), scopes, str(person["tier"]))


def groups_of(claim: Any) -> list[str]:
    """Groups that a claim names; what is no name of a group is left out."""
    names = claim if isinstance(claim, list) else []
    found = [name.removeprefix("/") for name in names[:MOST_GROUPS] if isinstance(name, str)]
    return [name for name in found if _GROUP.fullmatch(name)]


def scopes_of(claim: Any) -> frozenset[str]:
    """Scopes of ours that a claim names: a text with blanks (RFC 8693) or a list."""
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(name for name in names if isinstance(name, str)) & frozenset(SCOPES)
