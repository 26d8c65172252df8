"""People log in, have keys, and are who they say: on the running application."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import jwt
import pystac_client
import pytest
from click.testing import Result
from typer.testing import CliRunner

from api.__main__ import app
from api.access import SCOPES
from api.people import keys, store
from api.people.callers import People
from db.settings import DatabaseSettings
from tests.api.editing import is_problem, item
from tests.api.people_site import ADMIN, PASSWORD, PeopleSite, bearer, people_on, soon


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleSite]:
    with people_on(postgres, template, tmp_path_factory.mktemp("people")) as started:
        yield started


@pytest.fixture(scope="module")
def admin(site: PeopleSite) -> dict[str, str]:
    """Header of the first administrator; from then on nobody is `local`."""
    assert site.http.get("/auth/me").json()["name"] == "local"
    form = {"datetime": "2026-05-01T12:00:00Z", "title": "t"}
    assert site.http.post("/uploads", json=form).status_code == 201
    is_problem(
        site.http.post("/uploads", json=form, headers={"X-Forwarded-For": "203.0.113.9"}), 403, "WRITES_ARE_LOCAL"
    )
    is_problem(site.http.post("/auth/users", json={"name": "ann"}), 409, "NO_ADMINISTRATOR")
    is_problem(site.http.delete("/stac/collections/uploads"), 401, "TOKEN_REQUIRED")
    replaced, token = site.bootstrap_token(), site.bootstrap_token()
    for wrong in ("", "wrong", replaced):
        is_problem(
            site.http.post("/auth/bootstrap", json={"token": wrong, "name": ADMIN, "password": PASSWORD}), 401, "TOKEN_INVALID"
        )  # fmt: skip
    body = {"token": token, "name": ADMIN, "password": PASSWORD}
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: site.http.post("/auth/bootstrap", json=body).status_code, range(4)))
    assert sorted(made) == [201, 401, 401, 401]
    is_problem(site.http.post("/uploads", json=form), 401, "TOKEN_REQUIRED")
    is_problem(site.http.get("/auth/me"), 401, "TOKEN_REQUIRED")
    assert site.bootstrap_token() is None
    return bearer(site.log_in(ADMIN)["access_token"])


@pytest.fixture(scope="module")
def ann(site: PeopleSite, admin: dict[str, str]) -> dict[str, str]:
    """Header of somebody who is no administrator."""
    assert site.http.post("/auth/groups", json={"name": "geo", "title": "Geologists"}, headers=admin).status_code == 201
    body = {"name": "ann", "password": PASSWORD, "groups": ["geo"], "tier": "services"}
    made = site.http.post("/auth/users", json=body, headers=admin)
    assert made.status_code == 201
    assert (made.json()["groups"], made.json()["created_by"]) == (["geo"], ADMIN)
    return bearer(site.log_in("ann")["access_token"])


def test_who_is_who(site: PeopleSite, admin: dict[str, str], ann: dict[str, str]) -> None:
    found = site.http.get("/auth/me", headers=ann)
    assert found.headers["cache-control"] == "no-store"
    told = found.json()
    assert told | {"expires": None} == {
        "name": "ann", "credential": "session", "key_id": None, "expires": None, "groups": ["geo"], "is_admin": False, "tier": "services",
        "scopes": [scope for scope in SCOPES if scope != "admin"],
    }  # fmt: skip
    assert site.http.get("/auth/me", headers=admin).json()["scopes"] == list(SCOPES)


def test_an_access_token_is_a_jwt_that_others_can_check(site: PeopleSite, ann: dict[str, str]) -> None:
    token = ann["Authorization"].removeprefix("Bearer ")
    published = site.http.get("/.well-known/jwks.json")
    assert "max-age" in published.headers["cache-control"]
    (key,) = jwt.PyJWKSet.from_dict(published.json()).keys
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience=site.url, issuer=site.url)
    assert (claims["sub"], claims["groups"], claims["exp"] - claims["iat"]) == ("ann", ["geo"], 600)
    assert jwt.get_unverified_header(token)["kid"] == key.key_id


PATHS = (
    "/stac",
    "/stac/search",
    "/stac/collections",
    "/",
    "/sources",
    "/_mgmt/ping",
    "/no/such",
    "/uploads/x",
    "/auth/me",
    "/raster/",
)


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_credential_is_401_everywhere(site: PeopleSite, admin: dict[str, str], path: str) -> None:
    for header in (
        "Bearer wrong",
        "Bearer",
        "Basic dXNlcjpw",
        f"Bearer {keys.make_key().text}",
        "Bearer a.b.c",
        "Bearer " + "x" * 20_000,
    ):
        answer = site.http.get(path, headers={"Authorization": header})
        is_problem(answer, 401, "TOKEN_INVALID")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        assert answer.headers["access-control-allow-origin"] == "*"
    assert site.http.get("/stac/search").status_code == 200  # who sends none is nobody, as always


def test_a_key_does_what_its_scopes_say(site: PeopleSite, ann: dict[str, str], admin: dict[str, str]) -> None:
    made = site.key(ann, title="laptop", scopes=["upload"])
    upload = bearer(made["key"])
    assert site.http.get("/auth/me", headers=upload).json()["scopes"] == ["upload"]
    body = {"datetime": "2026-05-01T12:00:00Z", "title": "t"}
    created = site.http.post("/uploads", json=body, headers=upload)
    assert created.status_code == 201
    assert site.rows("select owner from federator.upload where id = %s", created.json()["id"]) == [("ann",)]
    refused = site.http.post("/stac/collections/uploads/items", json=item("x", "uploads"), headers=upload)
    assert is_problem(refused, 403, "INSUFFICIENT_SCOPE")["scope"] == "stac:item:create"
    is_problem(site.http.post("/auth/keys", json={"scopes": ["upload"]}, headers=upload), 403, "KEYS_NEED_A_LOGIN")
    is_problem(site.http.post("/auth/keys", json={"scopes": ["admin"]}, headers=ann), 403, "SCOPE_NOT_HELD")
    is_problem(site.http.get("/auth/users", headers=ann), 403, "INSUFFICIENT_SCOPE")
    only_uploads = bearer(site.key(admin, scopes=["upload"])["key"])
    is_problem(site.http.get("/auth/users", headers=only_uploads), 403, "INSUFFICIENT_SCOPE")
    assert site.http.get("/auth/me", headers=only_uploads).json()["is_admin"] is False


def test_an_upsert_of_many_creates_and_updates(site: PeopleSite, admin: dict[str, str]) -> None:
    creates = bearer(site.key(admin, scopes=["stac:item:create"])["key"])
    answer = site.http.post(
        "/stac/collections/uploads/bulk_items", json={"items": {}, "method": "upsert"}, headers=creates
    )
    assert is_problem(answer, 403, "INSUFFICIENT_SCOPE")["scope"] == "stac:item:update"


def test_a_key_is_shown_once_and_a_copy_of_the_database_opens_nothing(site: PeopleSite, ann: dict[str, str]) -> None:
    made = site.key(ann, title="once")
    secret = made["key"].partition(".")[2]
    listed = site.http.get("/auth/keys", headers=ann).json()["keys"]
    (one,) = [key for key in listed if key["id"] == made["id"]]
    assert one["last4"] == secret[-4:]
    assert "key" not in one
    tables = site.rows(
        "select c.oid::regclass::text from pg_class c where relkind = 'r' and relnamespace = 'federator'::regnamespace"
    )
    kept = "".join(str(site.rows(f"select t::text from {table} as t")) for (table,) in tables)
    assert made["id"] in kept
    for word in (secret, PASSWORD, made["key"]):
        assert word not in kept
    for (digest,) in site.rows("select encode(secret_sha256, 'hex') from federator.api_key"):
        assert site.status(bearer(f"fed_{made['id']}.{digest[:43]}")) == (401, "TOKEN_INVALID")


def test_a_revoked_key_opens_nothing_within_five_seconds(
    site: PeopleSite, ann: dict[str, str], admin: dict[str, str]
) -> None:
    here, elsewhere = site.key(ann), site.key(ann)
    for one in (here, elsewhere):
        assert site.status(bearer(one["key"])) == (200, "")
    assert site.http.delete(f"/auth/keys/{here['id']}", headers=ann).status_code == 204
    assert site.status(bearer(here["key"])) == (401, "TOKEN_REVOKED")
    assert site.http.delete(f"/auth/keys/{here['id']}", headers=ann).status_code == 204
    site.rows("update federator.api_key set revoked_at = now() where id = %s", elsewhere["id"])  # by another process
    assert soon(lambda: site.status(bearer(elsewhere["key"])) == (401, "TOKEN_REVOKED"))
    of_admin = site.key(admin)
    is_problem(site.http.delete(f"/auth/keys/{of_admin['id']}", headers=ann), 404, "NOT_FOUND")
    is_problem(site.http.delete("/auth/keys/no-such", headers=admin), 404, "NOT_FOUND")


def test_a_key_has_an_end(site: PeopleSite, ann: dict[str, str]) -> None:
    is_problem(
        site.http.post("/auth/keys", json={"expires": "2020-01-01T00:00:00Z"}, headers=ann), 422, "INVALID_FIELD"
    )
    made = site.key(ann, expires="2099-01-01T00:00:00Z")
    site.rows("update federator.api_key set expires_at = now() - interval '1 second' where id = %s", made["id"])
    assert site.status(bearer(made["key"])) == (401, "TOKEN_EXPIRED")


def test_refresh_tokens_are_used_once_and_a_second_use_ends_the_session(site: PeopleSite, ann: dict[str, str]) -> None:
    def refresh(token: str) -> httpx.Response:
        return site.http.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": token})

    first = site.log_in("ann")
    second = refresh(first["refresh_token"]).json()
    third = refresh(second["refresh_token"]).json()
    assert site.status(bearer(third["access_token"])) == (200, "")
    stolen = is_problem(refresh(first["refresh_token"]), 400, "INVALID_GRANT")
    assert stolen["error"] == "invalid_grant"
    is_problem(refresh(third["refresh_token"]), 400, "INVALID_GRANT")
    for one in (first, second, third):
        assert site.status(bearer(one["access_token"])) == (401, "TOKEN_REVOKED")
    is_problem(refresh("nonsense"), 400, "INVALID_GRANT")


def test_a_log_out_ends_the_session(site: PeopleSite, ann: dict[str, str]) -> None:
    session = site.log_in("ann", scope="openid upload")
    assert session["scope"] == "upload"
    header = bearer(session["access_token"])
    assert site.http.post("/auth/logout", headers=header).status_code == 204
    assert site.status(header) == (401, "TOKEN_REVOKED")
    is_problem(
        site.http.post("/auth/token", data={"grant_type": "refresh_token", "refresh_token": session["refresh_token"]}),
        400, "INVALID_GRANT",
    )  # fmt: skip
    is_problem(site.http.post("/auth/logout", headers=bearer(site.key(ann)["key"])), 409, "NOT_A_SESSION")


def test_the_token_endpoint_speaks_oauth(site: PeopleSite, ann: dict[str, str]) -> None:
    for form, error in (
        ({}, "invalid_request"), ({"grant_type": "password"}, "invalid_request"), ({"grant_type": "implicit"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "ann", "password": "wrong"}, "invalid_grant"),
        ({"grant_type": "password", "username": "Ann\0", "password": "\ud7ff"}, "invalid_grant"),
        ({"grant_type": ["password", "password"]}, "invalid_request"),
    ):  # fmt: skip
        answer = site.http.post("/auth/token", data=form or {"x": "y"})
        assert is_problem(answer, 400, error.upper())["error"] == error
        assert answer.headers["cache-control"] == "no-store"
    is_problem(site.http.post("/auth/token", json={"grant_type": "password"}), 415, "UNSUPPORTED_MEDIA_TYPE")
    form = {"grant_type": "password", "username": "ann", "password": PASSWORD, "client_id": "any"}
    assert site.http.post("/auth/token", data=form, auth=("client", "")).status_code == 200
    is_problem(site.http.post("/auth/token", content=b"x=" + b"y" * 100_000, headers={"Content-Type": "application/x-www-form-urlencoded"}),
               413, "BODY_TOO_LARGE")  # fmt: skip


def test_guesses_are_slowed_and_slow_nobody_else(site: PeopleSite, admin: dict[str, str]) -> None:
    site.http.post("/auth/users", json={"name": "bob", "password": PASSWORD}, headers=admin)
    form = {"grant_type": "password", "username": "bob", "password": "wrong"}
    is_problem(site.http.post("/auth/token", data=form), 400, "INVALID_GRANT")
    site.rows("update federator.login_failure set failures = 20, last_at = now()")
    slowed = site.http.post("/auth/token", data={**form, "password": PASSWORD})
    is_problem(slowed, 429, "LOGIN_TOO_SOON")
    assert 30 < int(slowed.headers["retry-after"]) <= 60
    is_problem(site.http.post("/auth/token", data={**form, "username": "no-such-person"}), 400, "INVALID_GRANT")
    before = site.rows("select count(*) from federator.login_failure")[0][0]
    site.rows("update federator.login_failure set last_at = now() - interval '1 minute'")  # as if waited
    assert site.log_in("bob")["token_type"] == "Bearer"
    assert site.rows("select count(*) from federator.login_failure") == [(before - 1,)]  # forgiven


def test_tries_at_a_password_cost_more_and_more_time_and_an_hour_forgets(site: PeopleSite) -> None:
    def take() -> float | None:
        ((wait,),) = site.rows("select federator.take_login('x')")
        return wait

    with ThreadPoolExecutor(6) as pool:
        waits = list(pool.map(lambda _: take(), range(6)))
    assert waits.count(None) in (4, 5)  # a second passes while six ask, when the machine is busy
    pauses = []
    for failures in range(4, 12):
        site.rows(
            "update federator.login_failure set failures = %s, last_at = clock_timestamp() where who = 'x'", failures
        )
        pauses.append(take() or 0)
    assert all(last - 0.9 < pause <= last for pause, last in zip(pauses[1:], (2, 4, 8, 16, 32, 60, 60), strict=True))
    site.rows("update federator.login_failure set last_at = now() - interval '61 minutes'")
    assert [take() for _ in range(4)] == [None] * 4
    site.rows("delete from federator.login_failure")


def test_names_that_are_not_there_take_as_long(site: PeopleSite, ann: dict[str, str]) -> None:
    def seconds(name: str) -> float:
        begun = time.perf_counter()
        assert (
            site.http.post(
                "/auth/token", data={"grant_type": "password", "username": name, "password": "x"}
            ).status_code
            == 400
        )
        return time.perf_counter() - begun

    there, absent = [seconds("ann")], [seconds("nobody-here")]
    assert min(*there, *absent) > 0.01  # a hash was made for both
    site.rows("delete from federator.login_failure")


def test_a_person_who_is_disabled_is_out_at_once(site: PeopleSite, admin: dict[str, str]) -> None:
    assert site.http.post("/auth/users", json={"name": "cleo", "password": PASSWORD}, headers=admin).status_code == 201
    session = bearer(site.log_in("cleo")["access_token"])
    key = bearer(site.key(session)["key"])
    changed = site.http.patch("/auth/users/cleo", json={"disabled": True}, headers=admin)
    assert changed.json()["disabled"]
    for one in (session, key):
        assert site.status(one) == (401, "TOKEN_REVOKED")
    form = {"grant_type": "password", "username": "cleo", "password": PASSWORD}
    is_problem(site.http.post("/auth/token", data=form), 400, "INVALID_GRANT")
    assert site.http.patch("/auth/users/cleo", json={"disabled": False}, headers=admin).json()["disabled"] is None
    assert site.status(key) == (200, "")
    assert site.status(session) == (401, "TOKEN_REVOKED")  # sessions ended, keys are revoked one by one
    is_problem(
        site.http.patch(f"/auth/users/{ADMIN}", json={"disabled": True}, headers=admin), 409, "LAST_ADMINISTRATOR"
    )
    is_problem(
        site.http.patch(f"/auth/users/{ADMIN}", json={"is_admin": False}, headers=admin), 409, "LAST_ADMINISTRATOR"
    )
    assert site.status(admin) == (200, "")


def test_a_password_is_changed_by_its_owner_and_by_administrators(site: PeopleSite, admin: dict[str, str]) -> None:
    site.http.post("/auth/users", json={"name": "dan", "password": PASSWORD}, headers=admin)
    session = bearer(site.log_in("dan")["access_token"])
    wrong = {"current": "wrong", "new": "another passphrase"}
    is_problem(site.http.post("/auth/password", json=wrong, headers=session), 400, "INVALID_GRANT")
    right = {"current": PASSWORD, "new": "another passphrase"}
    assert site.http.post("/auth/password", json=right, headers=session).status_code == 204
    assert site.status(session) == (401, "TOKEN_REVOKED")
    assert site.log_in("dan", "another passphrase")
    assert site.http.patch("/auth/users/dan", json={"password": "third passphrase"}, headers=admin).status_code == 200
    assert site.log_in("dan", "third passphrase")


def test_groups_have_members(site: PeopleSite, admin: dict[str, str], ann: dict[str, str]) -> None:
    made = site.http.post("/auth/groups", json={"name": "radar", "members": ["ann", ADMIN]}, headers=admin)
    assert (made.status_code, made.json()["members"]) == (201, [ADMIN, "ann"])
    assert site.http.get("/auth/me", headers=ann).json()["groups"] == ["geo", "radar"]
    changed = site.http.patch("/auth/groups/radar", json={"members": ["ann"], "title": "Radar"}, headers=admin).json()
    assert (changed["members"], changed["title"]) == (["ann"], "Radar")
    unknown = {"members": ["ann", "no-such-person"]}
    is_problem(site.http.patch("/auth/groups/radar", json=unknown, headers=admin), 422, "PERSON_UNKNOWN")
    assert site.http.get("/auth/groups/radar", headers=admin).json()["members"] == ["ann"]
    is_problem(site.http.post("/auth/groups", json={"name": "radar"}, headers=admin), 409, "GROUP_EXISTS")
    assert site.http.delete("/auth/groups/radar", headers=admin).status_code == 204
    is_problem(site.http.get("/auth/groups/radar", headers=admin), 404, "NOT_FOUND")
    assert site.http.get("/auth/me", headers=ann).json()["groups"] == ["geo"]


BAD = (
    (b"", 400, "INVALID_BODY"), (b"[]", 400, "INVALID_BODY"), (b'"x"', 400, "INVALID_BODY"), (b"{}", 422, "INVALID_FIELD"),
    (b'{"name": "x", "secret": 1}', 422, "UNKNOWN_FIELD"), (b'{"name": "local"}', 422, "INVALID_FIELD"),
    (b'{"name": "X"}', 422, "INVALID_FIELD"), (b'{"name": "a\\u0000"}', 422, "INVALID_FIELD"), (b'{"name": "a\\n"}', 422, "INVALID_FIELD"),
    (b'{"name": "x", "password": "short"}', 422, "INVALID_FIELD"),
    (b'{"name": "x", "scopes": ["root"]}', 422, "INVALID_FIELD"), (b'{"name": "x", "groups": ["nowhere"]}', 422, "GROUP_UNKNOWN"),
    (b'{"name": "x", "password": "\\ud800aaaaaaaaa"}', 400, "INVALID_BODY"), (b"{" * 20_000, 413, "BODY_TOO_LARGE"),
)  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code"), BAD, ids=[body[:30].decode() for body, _, _ in BAD])
def test_wrong_bodies_are_told_apart(
    site: PeopleSite, admin: dict[str, str], body: bytes, status: int, code: str
) -> None:
    answer = site.http.post("/auth/users", content=body, headers={**admin, "Content-Type": "application/json"})
    is_problem(answer, status, code)
    assert "secret" not in answer.text


def test_people_are_paged(site: PeopleSite, admin: dict[str, str], ann: dict[str, str]) -> None:
    names, url = [], "/auth/users?limit=1"
    while url:
        page = site.http.get(url, headers=admin).json()
        names += [person["name"] for person in page["users"]]
        url = next((link["href"] for link in page["links"]), "")
    assert {ADMIN, "ann"} <= set(names)
    assert names == sorted(set(names))


def test_pystac_client_sends_a_key(site: PeopleSite, ann: dict[str, str]) -> None:
    headers = bearer(site.key(ann)["key"])
    client = pystac_client.Client.open(f"{site.url}/stac", headers=headers)
    assert list(client.search(limit=1, max_items=1).items()) == []
    with pytest.raises(pystac_client.exceptions.APIError):
        pystac_client.Client.open(f"{site.url}/stac", headers=bearer("wrong"))


def test_a_wrong_key_and_a_wrong_secret_take_the_same_way(
    site: PeopleSite, ann: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look into the database and one comparison each: time tells nobody which keys there are."""
    steps: list[str] = []

    def noted(of: object, name: str) -> None:
        step = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *given: (steps.append(name), step(*given))[1])

    noted(People, "_row")
    noted(keys, "digest")
    taken = []
    for text in (f"{site.key(ann)['key'].partition('.')[0]}.{keys.make_secret()}", keys.make_key().text):
        steps.clear()
        assert site.http.get("/_mgmt/ping", headers=bearer(text)).status_code == 401
        taken.append(list(steps))
    assert taken[0] == taken[1] == ["_row", "digest"]


def test_commands_make_list_and_revoke_keys(
    site: PeopleSite, admin: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pghost", "pgport", "pguser", "pgdatabase"):
        monkeypatch.setenv(name.upper(), str(getattr(site.database, name)))
    monkeypatch.setenv("PGPASSWORD", site.database.pgpassword.get_secret_value())

    def command(*words: str) -> Result:
        return CliRunner().invoke(app, ["keys", *words])

    made = json.loads(command("create", "robot", "--admin", "--title", "nightly", "--days", "30", "--json").stdout)
    assert site.http.get("/auth/me", headers=bearer(made["key"])).json()["is_admin"] is True
    assert [key["id"] for key in json.loads(command("list", "robot", "--json").stdout)] == [made["id"]]
    assert made["id"] in command("list").stdout
    assert command("revoke", made["id"]).exit_code == 0
    assert soon(lambda: site.status(bearer(made["key"])) == (401, "TOKEN_REVOKED"))
    for words, word in (
        (("bootstrap",), "administrator"), (("create", "no-such-person"), "no such person"), (("create", "ann", "--scope", "root"), "root"),
        (("create", "ann", "--scope", "admin"), "not allowed"), (("create", "Ann"), "name"), (("revoke", "none"), "no such key"),
    ):  # fmt: skip
        refused = command(*words)
        assert (refused.exit_code, refused.stdout) == (1, ""), words
        assert word in refused.stderr


def test_a_second_person_of_the_same_name_is_none(site: PeopleSite, admin: dict[str, str], ann: dict[str, str]) -> None:
    is_problem(site.http.post("/auth/users", json={"name": "ann"}, headers=admin), 409, "PERSON_EXISTS")


def test_the_operator_s_token_works_beside_people_and_keys_tell_of_their_use(
    postgres: DatabaseSettings, template: str, tmp_path: Path
) -> None:
    with people_on(postgres, template, tmp_path, api_token="the-operator-s-own-token") as site:
        operator = bearer("the-operator-s-own-token")
        assert site.status({}) == (401, "TOKEN_REQUIRED")
        assert site.http.get("/auth/me", headers=operator).json()["name"] == "token"
        assert site.http.post("/auth/users", json={"name": "eve"}, headers=operator).status_code == 201
        made = site.key(operator, person="eve", scopes=["upload"])
        begun = datetime.now(UTC)
        assert site.http.get("/auth/me", headers=bearer(made["key"])).json()["name"] == "eve"
        use = "select last_used_at from federator.api_key"
        assert site.rows(use) == [(None,)]  # written beside the requests, once a minute and at the end
        site.stop()
        ((used,),) = site.rows(use)
        assert begun < used < datetime.now(UTC)


def test_keys_made_at_the_same_moment_are_no_more_than_a_person_may_have(
    site: PeopleSite, admin: dict[str, str]
) -> None:
    assert site.http.post("/auth/users", json={"name": "collector"}, headers=admin).status_code == 201
    site.rows(
        "insert into federator.api_key (id, person_name, secret_sha256, last4, scopes, created_by)"
        " select 'old-' || n, 'collector', sha256('x'), 'xxxx', '{}', 'test' from generate_series(1, %s) as n",
        store.MOST_KEYS - 1,
    )
    body = {"person": "collector", "scopes": ["upload"]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: site.http.post("/auth/keys", json=body, headers=admin), range(6)))
    assert sorted(one.status_code for one in answers) == [201] + [409] * 5
    assert {one.json()["code"] for one in answers if one.is_error} == {"TOO_MANY_KEYS"}
