"""A running application with people in it, and how they log in; and an OpenID Connect provider with real keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import rsa

from api.people.store import offer_bootstrap
from api.settings import ApiSettings
from db.pools import connect
from db.settings import DatabaseSettings
from tests.api.editing import _fill
from tests.api.server import listening, running
from tests.conftest import cloned

ADMIN, PASSWORD = "ada", "correct horse battery staple"


@dataclass
class PeopleSite:
    """A client that sends nothing of its own, and the database behind the application."""

    http: httpx.Client
    url: str
    database: DatabaseSettings
    stop: Callable[[], object]

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database.conninfo, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def bootstrap_token(self) -> str | None:
        async def offer() -> str | None:
            async with await connect(self.database) as conn:
                return await offer_bootstrap(conn)

        return asyncio.run(offer())

    def make_admin(self) -> dict[str, str]:
        """The first administrator, by a bootstrap token; returns the header of a session."""
        body = {"token": self.bootstrap_token(), "name": ADMIN, "password": PASSWORD}
        assert self.http.post("/auth/bootstrap", json=body).status_code == 201
        return bearer(self.log_in(ADMIN)["access_token"])

    def log_in(self, name: str, password: str = PASSWORD, **more: str) -> dict[str, Any]:
        form = {"grant_type": "password", "username": name, "password": password, **more}
        answer = self.http.post("/auth/token", data=form)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def key(self, by: dict[str, str], **body: Any) -> dict[str, Any]:
        """A new key."""
        answer = self.http.post("/auth/keys", json=body, headers=by)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self, by: dict[str, str], path: str = "/auth/me") -> tuple[int, str]:
        """Status and code of a request."""
        answer = self.http.get(path, headers=by)
        return answer.status_code, "" if answer.is_success else answer.json()["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def soon(holds: Any, within_s: float = 5.0) -> bool:
    """Whether something holds within a while."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def people_on(postgres: DatabaseSettings, template: str, folder: Path, **settings: Any) -> Iterator[PeopleSite]:
    """Start the application on a database of its own, without an operator's token and without people."""
    listener, url = listening()
    chosen = ApiSettings(**{"data_dir": folder, "public_url": url, "api_token": "", **settings})
    with cloned(postgres, template) as database:
        asyncio.run(_fill(database))
        with contextlib.ExitStack() as application, httpx.Client(base_url=url, timeout=60) as http:
            application.enter_context(running(chosen, database, listener))
            yield PeopleSite(http, url, database, application.close)


@dataclass
class Idp:
    """An OpenID Connect provider: a discovery document, keys that can be changed, and tokens signed with them."""

    url: str = ""
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)
    is_down: bool = False
    asked: list[str] = field(default_factory=list)

    def new_key(self, kid: str) -> rsa.RSAPrivateKey:
        """From now on the only one."""
        self.keys = {kid: rsa.generate_private_key(public_exponent=65537, key_size=2048)}
        return self.keys[kid]

    def document(self, path: str) -> dict[str, Any] | None:
        if path.endswith("/openid-configuration"):
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            one = jwt.algorithms.RSAAlgorithm
            public = [
                {**one.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": "RS256", "use": "sig"} for kid, key in self.keys.items()
            ]  # fmt: skip
            return {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, "nonsense", *public]}
        return None

    def token(self, *, key: Any = None, kid: str | None = None, algorithm: str = "RS256", **claims: Any) -> str:
        """A token; claims given as None are left out."""
        known, private = next(iter(self.keys.items()))
        now = int(time.time())
        body = {
            "iss": self.url, "aud": ["stac-federator", "account"], "sub": "f:1:ann", "preferred_username": "Ann", "typ": "Bearer",
            "iat": now, "exp": now + 300, "scope": "openid profile upload stac:item:create", "groups": ["/geo", "/geo/radar"], **claims,
        }  # fmt: skip
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(body, key or private, algorithm=algorithm, headers={"kid": kid or known})


@contextlib.contextmanager
def provider() -> Iterator[Idp]:
    """Serve one on a port of its own."""
    idp = Idp()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            idp.asked.append(self.path)
            found = None if idp.is_down else idp.document(self.path)
            body = json.dumps(found).encode()
            self.send_response(200 if found else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    idp.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield idp
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
