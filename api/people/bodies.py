"""What is sent to `/auth`: small JSON bodies and forms, bounded and read before anything else looks at them; answers that nobody keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic import field_validator as checked
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.access import SCOPES
from api.guard import read_body
from api.people import scopes
from api.people.passwords import LONGEST, SHORTEST
from api.problems import Problem, answer
from ingest.sanitise import time_text

MOST_BYTES = 16_384
MOST_GROUPS = scopes.MOST_GROUPS
#: PostgreSQL keeps no NUL; the rest are signs that change how others' words are read.
_TITLE = r"^[^\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]*$"

Name = Annotated[str, StringConstraints(pattern=scopes.NAME)]
Title = Annotated[str, StringConstraints(max_length=200, pattern=_TITLE)]
Tier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Scopes = Annotated[list[str], Field(max_length=len(SCOPES))]
Password = Annotated[SecretStr, Field(min_length=SHORTEST, max_length=LONGEST)]


class Body(BaseModel):
    """A body; members that it does not have are refused, for they would be mistakes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @checked("scopes", check_fields=False)
    @classmethod
    def _known_scopes(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and not set(value) <= set(SCOPES):
            raise ValueError("unknown scope")
        return value if value is None else sorted(set(value))

    @checked("name", check_fields=False)
    @classmethod
    def _free_name(cls, value: str) -> str:
        if not scopes.is_name(value):
            raise ValueError("not a name")
        return value


class Bootstrap(Body):
    """`POST /auth/bootstrap`."""

    token: SecretStr
    name: Name
    password: Password


class NewPerson(Body):
    """`POST /auth/users`; without a password this person has keys only."""

    name: Name
    password: Password | None = None
    is_admin: bool = False
    scopes: Scopes = Field(default_factory=lambda: list(scopes.OF_EVERYBODY))
    tier: Tier = "general"
    groups: list[Name] = Field(default_factory=list, max_length=MOST_GROUPS)


class PersonChange(Body):
    """`PATCH /auth/users/{user_name}`; what is absent stays."""

    password: Password | None = None
    is_admin: bool | None = None
    scopes: Scopes | None = None
    tier: Tier | None = None
    groups: list[Name] | None = Field(default=None, max_length=MOST_GROUPS)
    disabled: bool | None = None


class PasswordChange(Body):
    """`POST /auth/password`, of one's own."""

    current: SecretStr
    new: Password


class NewGroup(Body):
    """`POST /auth/groups`."""

    name: Name
    title: Title = ""
    members: list[Name] = Field(default_factory=list, max_length=10_000)


class GroupChange(Body):
    """`PATCH /auth/groups/{group_name}`; what is absent stays."""

    title: Title | None = None
    members: list[Name] | None = Field(default=None, max_length=10_000)


class NewKey(Body):
    """`POST /auth/keys`; `person` is for administrators. Without an end a key lives until it is revoked."""

    title: Title = ""
    scopes: Scopes = Field(default_factory=list)
    expires: AwareDatetime | None = None
    person: Name | None = None


async def read[B: Body](request: Request, model: type[B]) -> B:
    """A JSON body.

    Raises:
        Problem: 413, 415, 400 INVALID_BODY, 422 INVALID_FIELD with the first member that is wrong.
    """
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "send application/json")
    body = await read_body(request, MOST_BYTES if model not in (NewGroup, GroupChange) else 2**20)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if not fault["loc"]:
            raise Problem(400, "INVALID_BODY", "the body is a JSON object") from None
        raise _wrong(model, fault) from None


def _wrong(model: type[Body], fault: Any) -> Problem:
    place = str(fault["loc"][0])
    if place not in model.model_fields:  # a member's name is the client's, and not for an answer
        return Problem(
            422, "UNKNOWN_FIELD", f"members here are {', '.join(model.model_fields)}", fields=[*model.model_fields]
        )
    words = {"missing": "is needed", "too_short": "is too short", "too_long": "is too long"}
    hints = {
        "password": f"{SHORTEST} to {LONGEST} signs", "new": f"{SHORTEST} to {LONGEST} signs", "scopes": f"of {', '.join(SCOPES)}",
        "name": "1 to 63 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit; some names are taken by the system",
        "expires": "RFC 3339 with a zone",
    }  # fmt: skip
    hint = f" ({hints[place]})" if place in hints else ""
    return Problem(422, "INVALID_FIELD", f"{place} {words.get(str(fault['type']), 'is not valid')}{hint}", field=place)


async def read_form(request: Request) -> dict[str, str]:
    """A form (application/x-www-form-urlencoded), each member once.

    Raises:
        Problem: 413, 415, 400.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "send application/x-www-form-urlencoded")
    body = await read_body(request, MOST_BYTES)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise bad_request("the body is no form") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad_request("a member of the form is there twice")
    return found


def bad_request(detail: str) -> Problem:
    """RFC 6749, 5.2: the members of OAuth beside those of a problem."""
    return oauth_problem("INVALID_REQUEST", detail)


def oauth_problem(code: str, detail: str) -> Problem:
    """A refusal of the token endpoint."""
    return Problem(400, code, detail, error=code.lower(), error_description=detail)


class AuthRoute(APIRoute):
    """No answer is kept by anybody, a refusal neither."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                response = await handler(request)
            except Problem as error:
                response = answer(error.status, error.code, error.detail, error.headers, **error.facts)
            response.headers.setdefault("Cache-Control", "no-store")
            return response

        return handle


def takes(model: type[Body]) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def at(value: datetime | None) -> str | None:
    """A time in an answer."""
    return time_text(value) if value is not None else None


def told(content: Any, status: int = 200) -> Response:
    """An answer."""
    return JSONResponse(content, status_code=status)
