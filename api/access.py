"""Who may do what, asked before a body is read. Who somebody is was found out before the request was routed (`api.people.callers`)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from api.problems import Problem
from api.settings import ApiSettings
from ingest.edits.author import Author
from lineage.visibility import EVERYTHING

#: What a caller may be allowed to do. The names of transactions are those of stac-auth-proxy.
SCOPES: Final = (
    "stac:item:create", "stac:item:update", "stac:item:delete",
    "stac:collection:create", "stac:collection:update", "stac:collection:delete",
    "upload", "trace:register", "admin",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: `name` as the log and uploads write it, principals as the database's visibility knows callers."""

    name: str
    principals: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    tier: str = "general"


#: Where a request's scope (ASGI's) has its caller, when it came with a credential.
CALLER: Final = "federator.caller"
#: A program on this machine, while there is neither an operator's token nor any person: it may do all, and sees what everybody sees.
LOCAL: Final = Caller("local", (), frozenset(SCOPES))
#: Whoever has the operator's token.
OPERATOR: Final = Caller("token", EVERYTHING, frozenset(SCOPES))


def caller_of(request: Request) -> Caller | None:
    """Who sends this request; None: nobody in particular."""
    caller: Caller | None = request.scope.get(CALLER)
    if caller is None and _is_open(request) and _is_local(request) and not _is_of_another_page(request):
        return LOCAL
    return caller


def known(request: Request) -> Caller:
    """Return the caller, whatever it may do.

    Raises:
        Problem: 401 for nobody in particular, 403 from another machine when nobody can have a credential.
    """
    caller = caller_of(request)
    if caller is not None:
        return caller
    if _is_open(request):
        detail = "writes from other machines and from other sites' pages need a token; the operator has set none"
        raise Problem(403, "WRITES_ARE_LOCAL", detail)
    raise Problem(401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"})


def require(request: Request, scope: str) -> Caller:
    """Return the caller, who may do this.

    Raises:
        Problem: 401 and 403 of `known`, 403 without the scope.
    """
    caller = known(request)
    if scope not in caller.scopes:
        raise Problem(403, "INSUFFICIENT_SCOPE", f"this needs the scope {scope}", scope=scope)
    return caller


def owns(caller: Caller, owner: str) -> bool:
    """May this caller act on what `owner` made? Local programs and administrators own everything."""
    return caller == LOCAL or caller.name == owner or "role:admin" in caller.principals


def rights_of(caller: Caller | None) -> tuple[str, ...]:
    """Principals that decide what a caller may write: a program on this machine everything, though it sees what everybody sees."""
    if caller is None:
        return ()
    return EVERYTHING if caller == LOCAL else caller.principals


def author_of(caller: Caller) -> Author:
    """The caller as the author of what he writes."""
    return Author(f"user:{caller.name}", caller.principals, rights_of(caller))


def principals_of(request: Request) -> tuple[str, ...]:
    """Who asks, as the database's visibility knows callers; nobody for anyone without a valid token."""
    caller: Caller | None = request.scope.get(CALLER)
    return (caller or LOCAL).principals


def _is_open(request: Request) -> bool:
    """Whether programs on this machine need no credential."""
    return bool(request.app.state.parts.people.is_open)


def _is_of_another_page(request: Request) -> bool:
    """A page of anybody's, open in a browser on this machine, is no caller on this machine."""
    settings: ApiSettings = request.app.state.parts.settings
    origin, ours = request.headers.get("origin"), urlsplit(settings.public_url)
    return origin is not None and origin != f"{ours.scheme}://{ours.netloc}"


#: Whoever sends one of these is behind a proxy, or has a credential that was not looked at.
_OF_PROXIES: Final = ("authorization", "x-forwarded-for", "forwarded", "x-real-ip", "via")


def _is_local(request: Request) -> bool:
    """Whether the caller is on this machine: not somebody behind a proxy on it, nor with a credential that was not looked at."""
    if any(name in request.headers for name in _OF_PROXIES):
        return False
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
