"""Who may write: the holder of the token, or, when there is none, a caller on this machine. Asked before a body is read."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from api.problems import Problem
from api.settings import ApiSettings
from lineage.visibility import EVERYTHING

#: What a caller may be allowed to do. The names of transactions are those of stac-auth-proxy.
SCOPES: Final = (
    "stac:item:create", "stac:item:update", "stac:item:delete",
    "stac:collection:create", "stac:collection:update", "stac:collection:delete",
    "upload", "admin",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: `name` as the log and uploads write it, principals as the database's visibility knows callers."""

    name: str
    principals: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    tier: str = "general"


#: Where a request's scope (ASGI's) has its caller, when who it is was found out before: by a signed URL (`api.signed`).
CALLER: Final = "federator.caller"
#: A program on this machine, while the operator has set no token: it may do all, and sees what everybody sees.
LOCAL: Final = Caller("local", (), frozenset(SCOPES))
#: Whoever has the operator's token.
OPERATOR: Final = Caller("token", EVERYTHING, frozenset(SCOPES))


def caller_of(request: Request) -> Caller | None:
    """Who sends this request; None: nobody in particular."""
    known: Caller | None = request.scope.get(CALLER)
    if known is not None:
        return known
    token = _settings(request).token()
    if token is not None:
        return OPERATOR if _has_token(request, token) else None
    return LOCAL if _is_local(request) and not _is_of_another_page(request, _settings(request)) else None


def require(request: Request, scope: str) -> Caller:
    """Return the caller, who may do this.

    Raises:
        Problem: 401 without or with a wrong token, 403 from another machine when there is no token, 403 without the scope.
    """
    caller, settings = caller_of(request), _settings(request)
    if caller is None and settings.token() is None:
        detail = "writes from other machines and from other sites' pages need a token; the operator has set none"
        raise Problem(403, "WRITES_ARE_LOCAL", detail)
    if caller is None:
        raise Problem(
            401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
        )
    if scope not in caller.scopes:
        raise Problem(403, "INSUFFICIENT_SCOPE", f"this needs the scope {scope}", scope=scope)
    return caller


def owns(caller: Caller, owner: str) -> bool:
    """May this caller act on what `owner` made? Local programs and administrators own everything."""
    return caller.name in (owner, LOCAL.name) or "role:admin" in caller.principals


def principals_of(request: Request) -> tuple[str, ...]:
    """Who asks, as the database's visibility knows callers; nobody for anyone without a valid token."""
    caller = caller_of(request)
    return caller.principals if caller is not None else ()


def _settings(request: Request) -> ApiSettings:
    """The settings of the application that the request came to."""
    settings: ApiSettings = request.app.state.parts.settings
    return settings


def _is_of_another_page(request: Request, settings: ApiSettings) -> bool:
    """A page of anybody's, open in a browser on this machine, is no caller on this machine."""
    origin, ours = request.headers.get("origin"), urlsplit(settings.public_url)
    return origin is not None and origin != f"{ours.scheme}://{ours.netloc}"


def _has_token(request: Request, token: str | None) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return (
        token is not None and scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
    )


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
