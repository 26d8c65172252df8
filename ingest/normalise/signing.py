"""Hrefs that need a signature are stored without one; the item says where to get it (authentication extension 1.1)."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ingest.model import JSON, Signing


def needs_signing(href: str, signing: Signing | None) -> bool:
    """True for an href on one of the hosts whose files are fetched with a signature."""
    if signing is None:
        return False
    host = _host(href)
    return any(host.endswith(name[1:]) if name.startswith("*.") else host == name for name in signing.hosts)


def unsigned(href: str, signing: Signing | None) -> str:
    """The href without a signature: one that came along soon ends, and is nobody else's business."""
    if signing is None or "?" not in href or not needs_signing(href, signing):
        return href
    parts = urlsplit(href)
    kept = [pair for pair in parts.query.split("&") if pair.partition("=")[0].lower() not in signing.parameters]
    return urlunsplit(parts._replace(query="&".join(kept)))


def scheme(signing: Signing) -> JSON:
    """The entry of `auth:schemes`."""
    parameter = {
        "in": "query",
        "required": True,
        "description": "the href to be signed",
        "schema": {"type": "string", "format": "uri"},
    }
    flow = {
        "authorizationApi": signing.url,
        "method": "GET",
        "parameters": {"href": parameter},
        "responseField": "href",
    }
    description = signing.description or "the href is signed for a short time just before it is fetched"
    return {"type": "signedUrl", "description": description, "flows": {"sign": flow}}


def _host(href: str) -> str:
    try:
        return urlsplit(href).hostname or ""
    except ValueError:
        return ""
