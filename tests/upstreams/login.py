"""Logins that hand out tokens: by OAuth2 client credentials, or by user name and password as JSON."""

from __future__ import annotations

from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tests.upstreams.answers import json_answer

CLIENT = ("demo-client", "demo-secret")


class Login:
    """Knows one client. Each token is good for `uses` requests, and told to be good for `lifetime_s` seconds."""

    def __init__(self, uses: int = 10**9, lifetime_s: int = 3600) -> None:
        self.uses = uses
        self.lifetime_s = lifetime_s
        self.issued = 0
        self._left: dict[str, int] = {}

    async def by_client_credentials(self, request: Request) -> Response:
        """`POST .../token` with a form (RFC 6749, 4.4)."""
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if form.get("grant_type") != "client_credentials":
            return json_answer({"error": "unsupported_grant_type"}, 400)
        return self._answer((form.get("client_id"), form.get("client_secret")))

    async def by_json(self, request: Request) -> Response:
        """`POST gettoken` with a JSON object."""
        body = orjson.loads(await request.body())
        return self._answer((body.get("username"), body.get("password")))

    def _answer(self, client: tuple[str | None, str | None]) -> Response:
        if client != CLIENT:
            return json_answer({"error": "unauthorized_client"}, 401)
        self.issued += 1
        token = f"token-{self.issued}"
        self._left[token] = self.uses
        return json_answer({
            "access_token": token, "refresh_token": f"refresh-{self.issued}", "token_type": "Bearer", "expires_in": self.lifetime_s,
        })  # fmt: skip

    def refuses(self, request: Request) -> bool:
        """True when the request has no token, or one that is used up."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._left.get(token, 0) < 1:
            return True
        self._left[token] -= 1
        return False
