"""Tokens of an OpenID Connect provider: taken when they are its, for us and fresh; its absence is nobody's outage."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.people.oidc import MAX_AGE_S, MOST_FETCHES, WITHIN_S, Provider, ProviderAway
from api.people.tokens import TokenExpired, TokenInvalid
from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api import editing
from tests.api.people_site import ADMIN, PASSWORD, Idp, PeopleSite, bearer, people_on, provider

DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture(scope="module")
def idp() -> Iterator[Idp]:
    with provider() as started:
        started.new_key("first")
        yield started


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reader(idp: Idp, clock: Clock) -> AsyncIterator[Provider]:
    idp.is_down = False
    async with httpx.AsyncClient(timeout=5) as http:
        found = Provider(http, idp.url + DISCOVERY, audiences=["stac-federator"], clock=clock)
        yield found
        await found.close()


async def test_a_token_of_the_provider_is_read(idp: Idp, reader: Provider) -> None:
    told = await reader.read(idp.token())
    assert (told.issuer, told.subject) == (idp.url, "f:1:ann")
    assert told.claims["groups"] == ["/geo", "/geo/radar"]
    assert (await reader.read(idp.token(aud="stac-federator", typ=None))).subject == "f:1:ann"


def unsigned(idp: Idp, secret: bytes = b"") -> str:
    import hashlib
    import hmac

    header = {"alg": "HS256" if secret else "none", "kid": next(iter(idp.keys))}
    claims = jwt.decode(idp.token(), options={"verify_signature": False})
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims))
    mac = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=") if secret else b""
    return (signed + b"." + mac).decode()


async def test_what_is_not_the_provider_s_or_not_for_us_is_refused(idp: Idp, reader: Provider) -> None:
    public = next(iter(idp.keys.values())).public_key()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    refused = {
        "none": unsigned(idp),
        "HS256 with the public key": unsigned(idp, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)),
        "another key": idp.token(key=other),
        "another algorithm": idp.token(algorithm="RS512"),
        "a shared secret of the provider": idp.token(kid="shared"),
        "a path": idp.token(kid="../../keys"),
        "another audience": idp.token(aud=["account"]),
        "no audience": idp.token(aud=None),
        "another issuer": idp.token(iss="https://other.example.org"),
        "not yet": idp.token(nbf=int(time.time()) + 300),
        "no end": idp.token(exp=None),
        "no subject": idp.token(sub=None),
        "an empty subject": idp.token(sub=""),
        "a subject with NUL": idp.token(sub="a\0"),
        "a long subject": idp.token(sub="a" * 256),
        "an ID token": idp.token(typ="ID"),
        "a refresh token": idp.token(typ="Refresh"),
    }  # fmt: skip
    for name, token in refused.items():
        with pytest.raises(TokenInvalid) as refusal:
            print(name, await reader.read(token))
        assert refusal.type is TokenInvalid, name
    with pytest.raises(TokenExpired):
        await reader.read(idp.token(exp=int(time.time()) - 60))


async def test_a_new_key_is_found_and_a_provider_that_is_away_changes_nothing(
    idp: Idp, reader: Provider, clock: Clock
) -> None:
    assert await reader.read(idp.token())
    idp.new_key("second")
    known = idp.token()
    assert await reader.read(known)
    idp.is_down = True
    clock.now += MAX_AGE_S + 1
    assert await reader.read(known)  # fetched again beside it, in vain
    for _ in range(3):
        with pytest.raises(TokenInvalid):
            await reader.read(idp.token(kid="invented"))
        assert await reader.read(known)
    idp.is_down = False


async def test_invented_keys_make_few_requests(idp: Idp, reader: Provider, clock: Clock) -> None:
    assert await reader.read(idp.token())
    idp.asked.clear()
    for number in range(20):
        with pytest.raises(TokenInvalid):
            await reader.read(idp.token(kid=f"invented-{number}"))
    assert len(idp.asked) == 2 * (MOST_FETCHES - 1)
    idp.new_key("third")
    clock.now += WITHIN_S + 1
    assert await reader.read(idp.token())


async def test_a_provider_that_was_never_there_is_told_of(idp: Idp, reader: Provider) -> None:
    idp.is_down = True
    with pytest.raises(ProviderAway):
        await reader.read(idp.token())
    idp.is_down = False
    assert await reader.read(idp.token())


async def test_another_way_to_the_provider(idp: Idp) -> None:
    async with httpx.AsyncClient(timeout=5) as http:
        away = "http://idp.invalid/realms/x" + DISCOVERY
        reader = Provider(http, away, internal_url=idp.url + "/realms/x" + DISCOVERY)
        assert (await reader.read(idp.token(aud=None))).issuer == idp.url


@pytest.mark.parametrize("names", ["", "HS256", "RS256,HS256", "none", "RS256,none"])
def test_algorithms_with_a_shared_secret_cannot_be_set(names: str) -> None:
    with pytest.raises(ValueError, match="some of"):
        ApiSettings(oidc_algorithms=names)


@pytest.fixture(scope="module")
def site(
    idp: Idp, postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PeopleSite]:
    settings = {
        "oidc_discovery_url": idp.url + DISCOVERY, "allowed_jwt_audiences": "other, stac-federator", "oidc_admin_group": "staff",
    }  # fmt: skip
    with people_on(postgres, template, tmp_path_factory.mktemp("oidc"), **settings) as started:
        yield started


def test_people_of_the_provider_are_people_here(idp: Idp, site: PeopleSite) -> None:
    assert site.status({}) == (401, "TOKEN_REQUIRED")  # nobody is local where people can log in
    found = site.http.get("/auth/me", headers=bearer(idp.token())).json()
    assert (found["name"], found["credential"], found["groups"]) == ("ann", "oidc", ["geo", "geo/radar"])
    assert found["scopes"] == ["stac:item:create", "upload"]
    renamed = site.http.get("/auth/me", headers=bearer(idp.token(preferred_username="eve"))).json()
    assert renamed["name"] == "ann"  # a person is who the subject says
    reads = site.http.get(
        "/auth/me", headers=bearer(idp.token(scope="openid", sub="2", preferred_username=None))
    ).json()
    assert (reads["scopes"], reads["name"].startswith("oidc-")) == ([], True)
    assert site.http.get("/stac/search", headers=bearer(idp.token())).status_code == 200
    assert site.status(bearer(idp.token(aud="account"))) == (401, "TOKEN_INVALID")
    assert site.status(bearer(idp.token(exp=int(time.time()) - 60))) == (401, "TOKEN_EXPIRED")


def test_nobody_becomes_another_by_a_name_at_the_provider(idp: Idp, site: PeopleSite) -> None:
    admin = site.make_admin()
    for wish in (ADMIN, "local", "token", "Ada"):
        token = idp.token(sub=f"mallory-{wish}", preferred_username=wish, scope="admin upload")
        found = site.http.get("/auth/me", headers=bearer(token)).json()
        assert found["name"] not in (ADMIN, "local", "token")
        assert found["is_admin"] is False
    form = {"grant_type": "password", "username": "ann", "password": PASSWORD}
    assert site.http.post("/auth/token", data=form).json()["code"] == "INVALID_GRANT"
    refused = site.http.patch("/auth/users/ann", json={"password": PASSWORD}, headers=admin)
    assert refused.json()["code"] == "LOGS_IN_ELSEWHERE"


def test_signed_tiles_open_what_a_group_of_the_token_may_see_until_the_person_is_disabled(
    idp: Idp, site: PeopleSite
) -> None:
    item, collection = "seen-by-radar", "own"
    staff = bearer(idp.token(sub="4", scope="admin stac:item:create stac:collection:create", groups=["/staff"]))
    site.http.post("/stac/collections", json=editing.collection(collection), headers=staff)
    made = site.http.post(f"/stac/collections/{collection}/items", json=editing.item(item, collection), headers=staff)
    assert made.status_code == 201, made.text
    private = "update pgstac.items set private = %s where id = %s and collection = %s"
    site.rows(private, '{"readers": ["group:geo/radar"]}', item, collection)
    wanted, path = {"collection": collection, "item": item}, f"/raster/collections/{collection}/items/{item}/assets"
    token = bearer(idp.token(sub="signer", preferred_username="sig"))
    assert site.http.get(path, headers=token).status_code == 200
    signed = site.http.post("/raster/signed", json=wanted, headers=token).json()
    sig = {"sig": signed["signature"]["value"]}
    assert site.http.get(path).status_code == 404
    assert site.http.get(path, params=sig).status_code == 200
    without = bearer(idp.token(sub="signer", groups=["/geo"]))
    assert site.http.post("/raster/signed", json=wanted, headers=without).status_code == 404
    site.rows("update federator.person set disabled_at = now() where name = 'sig'")
    assert site.http.get(path, params=sig).status_code == 404
    site.rows(private, None, item, collection)


def test_administrators_are_made_here_or_by_a_group(idp: Idp, site: PeopleSite) -> None:
    token = idp.token(sub="3", preferred_username="sam", scope="admin", groups=["/staff"])
    admin = bearer(token)
    assert site.http.get("/auth/me", headers=admin).json()["is_admin"] is True
    assert site.http.patch("/auth/users/ann", json={"is_admin": True}, headers=admin).status_code == 200
    assert site.http.get("/auth/me", headers=bearer(idp.token(scope="admin"))).json()["is_admin"] is True
    assert (
        site.http.get("/auth/me", headers=bearer(idp.token())).json()["is_admin"] is False
    )  # the token has not the scope
    assert site.http.patch("/auth/users/ann", json={"disabled": True}, headers=admin).status_code == 200
    assert site.status(bearer(idp.token())) == (401, "TOKEN_REVOKED")
