"""Access tokens of ours, keys and names: nothing but what was made here is taken."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from api.people import keys, scopes, store
from api.people.tokens import LEEWAY_S, AccessTokens, TokenExpired, TokenInvalid, maker_of

SEED = bytes(range(32))
ISSUER = "https://eo.example.org"
TOKENS = AccessTokens(SEED, ISSUER)
PRIVATE = Ed25519PrivateKey.from_private_bytes(SEED)
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def forged(key: Any = PRIVATE, algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token like ours but for what is given; None leaves a claim out."""
    now = int(time.time())
    body = {
        "iss": ISSUER, "aud": ISSUER, "sub": "ann", "sid": str(uuid4()), "jti": "1", "iat": now, "nbf": now, "exp": now + 600,
        "scope": "upload", **claims,
    }  # fmt: skip
    body = {name: value for name, value in body.items() if value is not None}
    return jwt.encode(body, key, algorithm=algorithm, headers={"kid": TOKENS.kid, "typ": "at+jwt", **(header or {})})


def by_hand(header: dict[str, Any], secret: bytes = b"") -> str:
    """A token that libraries do not make: without a signature, or with a public key as the secret."""
    import hashlib
    import hmac

    claims = jwt.decode(forged(), options={"verify_signature": False})
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims)]
    signed = b".".join(parts)
    mac = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=") if secret else b""
    return (signed + b"." + mac).decode()


def test_what_was_made_is_read() -> None:
    session = uuid4()
    claims = TOKENS.read(TOKENS.make("ann", session, {"upload"}, ["geo"]))
    assert (claims.session_id, claims.scopes) == (session, {"upload"})
    assert TOKENS.read(forged()).scopes == {"upload"}
    assert maker_of(forged()) == ISSUER


FORGED = {
    "alg none": by_hand({"alg": "none", "kid": TOKENS.kid, "typ": "at+jwt"}),
    "HS256 with the public key": by_hand({"alg": "HS256", "kid": TOKENS.kid, "typ": "at+jwt"}, PEM),
    "HS256 with the raw public key": by_hand(
        {"alg": "HS256", "kid": TOKENS.kid, "typ": "at+jwt"},
        PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
    ),
    "another key": forged(Ed25519PrivateKey.generate()),
    "kid is a path": forged(header={"kid": "../../../../dev/null"}),
    "kid is SQL": forged(header={"kid": "' or 1=1 --"}),
    "another type": forged(header={"typ": "JWT"}),
    "a key of its own": forged(Ed25519PrivateKey.generate(), header={"jwk": TOKENS.jwks()["keys"][0], "jku": "http://127.0.0.1/"}),
    "critical words": forged(header={"crit": ["exp", "b64"], "b64": False}),
    "another audience": forged(aud="https://other.example.org"),
    "no audience": forged(aud=None),
    "another issuer": forged(iss="https://other.example.org"),
    "not yet": forged(nbf=int(time.time()) + 300),
    "made tomorrow": forged(iat=int(time.time()) + 86_400),
    "no end": forged(exp=None),
    "an end in words": forged(exp="tomorrow"),
    "no session": forged(sid=None),
    "a session that is none": forged(sid="1; drop table"),
    "a session that is a number": forged(sid=5),
    "a subject that is a list": forged(sub=["ann"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_was_not_made_here_is_refused(name: str) -> None:
    with pytest.raises(TokenInvalid):
        TOKENS.read(FORGED[name])


def test_what_was_good_once_has_expired() -> None:
    with pytest.raises(TokenExpired):
        TOKENS.read(forged(exp=int(time.time()) - LEEWAY_S - 1))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_breaks_the_reader(text: str) -> None:
    for token in (text, f"{text}.{text}.{text}", f"e30.{text}.", FORGED["alg none"] + text):
        with pytest.raises(TokenInvalid):
            TOKENS.read(token)
        assert maker_of(token) is None or isinstance(maker_of(token), str)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_sign_changed_is_another_token(place: int, byte: int) -> None:
    token = bytearray(forged().encode())
    place %= len(token)
    last_bits = place in (len(token) - 1,)  # of the last sign, base64 leaves some bits without a meaning
    if token[place] == byte or last_bits:
        return
    token[place] = byte
    with pytest.raises(TokenInvalid):
        TOKENS.read(token.decode("latin-1"))


def test_keys_are_read_back_and_nothing_else_is() -> None:
    made = {keys.make_key().text for _ in range(200)}
    assert len(made) == 200
    for text in made:
        identity, secret = keys.parse(text) or ("", "")
        assert text == f"fed_{identity}.{secret}"
        assert len(base64.urlsafe_b64decode(secret + "=")) == 32
        for wrong in (text[1:], text[:-1], text + "a", text + "\n", text.replace(".", ","), text.upper()):
            assert keys.parse(wrong) is None


@settings(max_examples=100)
@given(st.one_of(st.text(max_size=80), st.integers(), st.none(), st.lists(st.text(max_size=3))))
def test_a_name_made_of_anything_is_a_name_or_nothing(wish: object) -> None:
    name = store.slug(wish)
    assert name == "" or scopes.is_name(name) or name in scopes.RESERVED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100)
@given(JSON)
def test_claims_of_any_shape_give_scopes_and_groups_or_none(claim: object) -> None:
    assert scopes.scopes_of(claim) <= frozenset(scopes.SCOPES)
    assert all("\n" not in group and not group.startswith("/") for group in scopes.groups_of(claim))


def test_only_the_scope_admin_sees_what_administrators_see() -> None:
    ada = {"name": "ada", "is_admin": True, "allowed": [], "groups": ["b", "a"], "tier": "general"}
    ann = {**ada, "name": "ann", "is_admin": False, "allowed": ["upload", "admin"]}
    assert scopes.caller(ada, scopes.SCOPES).principals == ("user:ada", "group:a", "group:b", "role:admin")
    assert scopes.caller(ada, ["upload"], ["c"]).principals == ("user:ada", "group:a", "group:b", "group:c")
    assert scopes.caller(ann, scopes.SCOPES).scopes == {"upload"}
    assert "role:admin" not in scopes.caller(ann, scopes.SCOPES).principals


def test_a_seed_makes_one_key() -> None:
    assert AccessTokens(SEED, ISSUER).kid == TOKENS.kid != AccessTokens(os.urandom(32), ISSUER).kid
