"""Runs stac-api-validator without a network: schemas come from a folder, by URL, and nothing but loopback is asked.

Run by an interpreter of the contract tests' own environment: `python validate.py SCHEMAS [the validator's options]`.
"""

from __future__ import annotations

import io
import json
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlparse
from urllib.response import addinfourl

import requests
import urllib3
from requests.adapters import HTTPAdapter


class Schemas:
    """The documents of a folder with INDEX.json (URL: path)."""

    def __init__(self, folder: Path) -> None:
        index: dict[str, str] = json.loads((folder / "INDEX.json").read_text())
        self._paths = {url: folder / path for url, path in index.items()}

    def read(self, url: str) -> bytes | None:
        """A document's bytes; None when it is not here."""
        path = self._paths.get(urldefrag(url).url)
        return path.read_bytes() if path else None


def _is_loopback(url: str) -> bool:
    return urlparse(url).hostname in {"127.0.0.1", "localhost"}


def serve_requests(schemas: Schemas) -> None:
    """Answer what `requests` asks of the world."""
    send = HTTPAdapter.send

    def from_folder(self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kw: Any) -> requests.Response:
        url = request.url or ""
        if _is_loopback(url):
            return send(self, request, *args, **kw)
        if (content := schemas.read(url)) is None:
            raise requests.exceptions.ConnectionError(f"not asked, this runs without a network: {url}")
        answer = requests.Response()
        answer.status_code, answer.url, answer.request, answer.raw = 200, url, request, io.BytesIO(content)
        return answer

    HTTPAdapter.send = from_folder  # type: ignore[method-assign]


def serve_urllib3(schemas: Schemas) -> None:
    """Answer what `urllib3` itself asks of the world, for pystac."""
    urlopen = urllib3.PoolManager.urlopen

    def from_folder(self: urllib3.PoolManager, method: str, url: str, *args: Any, **kw: Any) -> Any:
        if _is_loopback(url):
            return urlopen(self, method, url, *args, **kw)
        if (content := schemas.read(url)) is None:
            raise urllib3.exceptions.HTTPError(f"not asked, this runs without a network: {url}")
        return urllib3.HTTPResponse(io.BytesIO(content), status=200, preload_content=kw.get("preload_content", True))

    urllib3.PoolManager.urlopen = from_folder  # type: ignore[assignment]


class SchemaHandler(urllib.request.BaseHandler):
    """Answer what `urllib` asks of the world."""

    handler_order = 100

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def _open(self, request: urllib.request.Request) -> addinfourl | None:
        if _is_loopback(request.full_url):
            return None
        if (content := self._schemas.read(request.full_url)) is None:
            raise urllib.error.URLError(f"not asked, this runs without a network: {request.full_url}")
        return addinfourl(io.BytesIO(content), Message(), request.full_url, 200)

    http_open = https_open = _open


def main() -> None:
    """Replace the ways out, then run the validator's command."""
    schemas = Schemas(Path(sys.argv.pop(1)))
    serve_requests(schemas)
    serve_urllib3(schemas)
    urllib.request.install_opener(urllib.request.build_opener(SchemaHandler(schemas)))
    from stac_api_validator.__main__ import main as validator

    validator(prog_name="stac-api-validator")


if __name__ == "__main__":
    main()
