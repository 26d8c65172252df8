"""HTTP caching (RFC 9111): everything may be kept and must be asked about, for visibility and content change at any moment.

Kept documents and items have a strong entity tag of their bytes (`api.stac.etags`). A page of a search has a weak one of the items as
they are stored: its paging tokens differ from second to second and lead to the same pages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from blake3 import blake3
from starlette.requests import Request
from starlette.responses import Response

from api.stac.etags import DIGITS

_ANYBODY, _CALLER = "public, no-cache", "private, no-store"
_VARY = "Accept, Accept-Encoding, Authorization"


def weak_tag(parts: Iterable[bytes]) -> str:
    """The entity tag of everything that was made of these parts."""
    found = list(parts)
    sizes = array("Q", map(len, found)).tobytes()  # tell where parts end
    return f'W/"{blake3(b"".join([sizes, *found])).hexdigest()[:DIGITS]}"'


def cache_control(*, is_private: bool) -> str:
    """Who may keep an answer: anybody, or, when a caller has said who he is, nobody."""
    return _CALLER if is_private else _ANYBODY


def headers_of(request: Request) -> dict[str, str]:
    """Headers of an answer that depends on who asks."""
    return {"Cache-Control": cache_control(is_private="authorization" in request.headers), "Vary": _VARY}


def not_modified(headers: dict[str, str]) -> Response:
    """304: what the client has is right."""
    return Response(status_code=304, headers=headers)
