"""Words of sharing, and hrefs: pure."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.edits.hrefs import check_hrefs, drop_foreign_assets, named_uploads
from ingest.errors import EditRefused, UploadRejected
from ingest.sharing import Sharing, default_of_upload, parse_sharing, parse_wish, private_of, sharing_of

PRINCIPALS = (
    st.lists(st.sampled_from(["user:ann", "user:ben", "group:g", "group:h"]), unique=True).map(sorted).map(tuple)
)
ROOT = "http://127.0.0.1:8080"
UPLOAD = "0198f7a0-0000-7000-8000-000000000000"


@given(
    st.sampled_from(["private", "shared", "public"]),
    PRINCIPALS,
    st.sampled_from([None, "user:ann"]),
    st.sampled_from([None, "user:own"]),
)
@settings(max_examples=60)
def test_what_an_item_keeps_is_read_as_it_was(
    visibility: str, readers: tuple[str, ...], owner: str | None, collection_owner: str | None
) -> None:
    before = Sharing(visibility, owner, readers if visibility == "shared" else ())
    private = private_of(before, collection_owner)
    assert sharing_of(private, owner) == before
    if private is not None:
        assert set(private["readers"]) == {*before.readers, owner, collection_owner} - {None}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
)


def _code(body: Any) -> str:
    try:
        parse_sharing(body, "user:own", is_item=False)
    except EditRefused as error:
        return error.code
    return ""


@given(ANY_JSON)
@settings(max_examples=60)
def test_any_json_is_a_sharing_or_refused(body: Any) -> None:
    for one in (
        body,
        {"visibility": body},
        {"visibility": "shared", "readers": body},
        {"visibility": "shared", "readers": [body]},
    ):
        assert _code(one) in ("", "INVALID_FIELD")


def test_readers_of_an_upload_come_as_list_or_text() -> None:
    wanted = ("shared", ("group:g", "user:ann"))
    for readers in (["user:ann", "group:g"], '["user:ann", "group:g"]', "user:ann, group:g"):
        assert parse_wish({"readers": readers}) == wanted
    assert parse_wish({}) == parse_wish({"visibility": "", "readers": ""}) == (None, ())
    for wrong in ("ann", "[1", 7, ["role:admin"]):
        with pytest.raises(UploadRejected):
            parse_wish({"readers": wrong})


def test_only_persons_hide_from_the_common_collection() -> None:
    assert default_of_upload(("user:ann", "group:g"), is_common=True) == "private"
    assert default_of_upload(("user:ann",), is_common=False) is None
    assert default_of_upload(("user:root", "role:admin"), is_common=True) is None
    assert default_of_upload((), is_common=True) is None


def _is_refused(href: str) -> bool:
    try:
        check_hrefs({"assets": {"a": {"href": href}}}, ROOT)
    except EditRefused as error:
        return error.code == "HREF_REFUSED"
    return False


def _notations(address: IPv4Address) -> list[str]:
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(address), str(number), hex(number), f"0{number:o}", f"{a}.{number & 0xFFFFFF}", f"{a}.{b}.{c * 256 + d}",
        f"0x{a:x}.{b}.{c}.0{d:o}", f"[::ffff:{address}]", f"{address}.",
    ]  # fmt: skip


@given(st.integers(0, 2**24 - 1))
@settings(max_examples=60)
def test_this_machine_is_known_in_every_notation(rest: int) -> None:
    for notation in _notations(IPv4Address(127 << 24 | rest)):
        assert _is_refused(f"http://{notation}/a.tif"), notation
    for notation in _notations(IPv4Address(93 << 24 | rest)):
        assert not _is_refused(f"http://{notation}/a.tif"), notation


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_any_text_is_good_or_refused(text: str) -> None:
    for href in (text, f"http://{text}", f"//{text}", f"s3://{text}"):
        _is_refused(href)


def test_own_urls_are_good_though_they_are_of_this_machine() -> None:
    assert not _is_refused(f"{ROOT}/raster/collections/uploads/items/a/preview.png")
    assert _is_refused("http://127.0.0.1:80800/a.tif")
    with pytest.raises(EditRefused):
        check_hrefs({"assets": {"a": {"href": "/etc/passwd"}}}, "")


def test_assets_that_name_others_rasters_are_taken_away() -> None:
    own, other = f"{ROOT}/uploads/{UPLOAD}/data.tif", f"https://elsewhere/uploads/{UPLOAD[:-1]}1/data.tif"
    item = {
        "assets": {"own": {"href": own}, "other": {"href": other}, "plain": {"href": "https://example.org/uploads/x"}}
    }
    ids = sorted(named_uploads([item]), key=str)
    assert [str(one) for one in ids] == [UPLOAD, f"{UPLOAD[:-1]}1"]
    drop_foreign_assets(item, {ids[0]})
    assert set(item["assets"]) == {"own", "plain"}
