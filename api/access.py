"""Who may write: the holder of the token, or, when there is none, a caller on this machine. Asked before a body is read."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from starlette.requests import Request

from api.problems import Problem
from api.settings import ApiSettings


def require_writer(request: Request, settings: ApiSettings) -> str:
    """Return who writes.

    Raises:
        Problem: 401 without or with a wrong token, 403 from another machine when there is no token.
    """
    token = settings.token()
    if token is None:
        if not _is_local(request):
            raise Problem(403, "WRITES_ARE_LOCAL", "writes need a token from other machines; the operator has set none")
        return "local"
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Problem(
            401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>", headers={"WWW-Authenticate": "Bearer"}
        )
    return "token"


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
