"""Entity tags (RFC 9110, 8.8.3 and 13): strong, made of the bytes that are answered; preconditions of writes; 304 for what a client has.

A route gives its answer a tag with `tagged`; `NotModified` then answers 304, from kept answers too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from blake3 import blake3
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
#: What a tag has at its end when its answer was sent in a content coding: it names the same content.
_CODING = re.compile(r'-(?:gzip|br|zstd|deflate)"$')
#: Hex digits of a tag: two contents meet by chance once in 2^64 (128 bits).
DIGITS = 32
#: Headers that tell of a body; a 304 has none.
_OF_BODY = ("content-length", "content-type", "content-encoding")


def etag_of(body: bytes) -> str:
    """The strong tag of an answer's bytes, with its quotation marks."""
    return f'"{blake3(body).hexdigest()[:DIGITS]}"'


def tagged(body: bytes, media_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with its tag."""
    return Response(body, status, {**(headers or {}), "ETag": etag_of(body)}, media_type)


def names_tag(header: str, etag: str | None, *, weakly: bool, in_any_coding: bool = True) -> bool:
    """Whether `If-Match` or (weakly) `If-None-Match` names the tag of what is there; None: nothing is.

    Args:
        in_any_coding: a tag that was sent with the content in a coding names the content too.
    """
    return _named(header, etag, weakly=weakly, in_any_coding=in_any_coding) is not None


def _named(header: str, etag: str | None, *, weakly: bool, in_any_coding: bool = True) -> str | None:
    """The tag by which a header names what is there."""
    if etag is None:
        return None
    if header.strip() == "*":
        return etag
    opaque = etag.removeprefix("W/")
    is_weak = opaque != etag
    for weak, tag in _TAG.findall(header):
        is_it = opaque == tag or (in_any_coding and opaque == _CODING.sub('"', tag))
        if is_it and (weakly or not (weak or is_weak)):
            return etag if opaque == tag else str(tag)
    return None


def check_write(headers: Headers, etag: str | None) -> None:
    """Look at the preconditions of a write; `etag` is the tag of what it would change, None when there is nothing yet.

    Raises:
        Problem: 412 PRECONDITION_FAILED, with the tag of what is there.
    """
    wanted, unwanted = _listed(headers, "if-match"), _listed(headers, "if-none-match")
    if (wanted is not None and not names_tag(wanted, etag, weakly=False)) or (
        unwanted is not None and names_tag(unwanted, etag, weakly=True)
    ):
        raise Problem(
            412,
            "PRECONDITION_FAILED",
            "it is another one by now than If-Match or If-None-Match asks for",
            headers={"ETag": etag} if etag else {},
        )


def _listed(headers: Headers, name: str) -> str | None:
    """A header that may be sent in several lines."""
    lines = headers.getlist(name)
    return ",".join(lines) if lines else None


class NotModified:
    """Answers 304 instead of a 200 whose tag the client names in `If-None-Match`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            known = _listed(Headers(scope=scope), "if-none-match")
        await self._app(scope, receive, send if known is None else _unless_known(known, send))


def _unless_known(known: str, send: Send) -> Send:
    is_known = False

    async def answer(message: Message) -> None:
        nonlocal is_known
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = MutableHeaders(raw=list(message["headers"]))
            tag = _named(known, headers.get("etag"), weakly=True)
            is_known = tag is not None
            if tag is not None:
                headers["etag"] = tag  # of the coding that the client has
                for name in _OF_BODY:
                    del headers[name]
                message = {**message, "status": 304, "headers": headers.raw}
        elif is_known and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return answer
