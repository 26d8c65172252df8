"""Who may write: the holder of the token, or, when there is none, a caller on this machine. Asked before a body is read."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from api.problems import Problem
from api.settings import ApiSettings
from lineage.visibility import EVERYTHING


def require_writer(request: Request, settings: ApiSettings) -> str:
    """Return who writes.

    Raises:
        Problem: 401 without or with a wrong token, 403 from another machine when there is no token.
    """
    token = settings.token()
    if token is None:
        if not _is_local(request):
            raise Problem(403, "WRITES_ARE_LOCAL", "writes need a token from other machines; the operator has set none")
        if _is_of_another_page(request, settings):
            raise Problem(
                403, "WRITES_ARE_LOCAL", "writes from other sites' pages need a token; the operator has set none"
            )
        return "local"
    if not _has_token(request, token):
        raise Problem(
            401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
        )
    return "token"


def owner_of(request: Request) -> str:
    """Who owns what this request makes.

    Raises:
        Problem: see `require_writer`.
    """
    settings: ApiSettings = request.app.state.parts.settings
    return require_writer(request, settings)


def owns(request: Request, owner: str) -> bool:
    """May this caller act on what `owner` made? On a machine without a token its callers own everything.

    Raises:
        Problem: see `require_writer`.
    """
    caller = owner_of(request)
    return caller in (owner, "local") or "role:admin" in principals_of(request)


def principals_of(request: Request) -> tuple[str, ...]:
    """Who asks, as the database's visibility knows callers; nobody for anyone without a valid token."""
    settings: ApiSettings = request.app.state.parts.settings
    return EVERYTHING if _has_token(request, settings.token()) else ()


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
