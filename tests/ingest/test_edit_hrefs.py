"""Hrefs that are looked at all at once are let through, and refused, as those that are looked at one by one."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.edits import hrefs
from ingest.errors import EditRefused

ROOT = "http://127.0.0.1:8080"
PARTS = st.sampled_from([
    "https", "s3", "file", "localhost", "127.0.0.1", "0x7f.1", "example.org", "user@example.org:80", "bucket", "/vsicurl/", "abcdefgh",
    "://", ":", "//", "/", "?", "#", "\\", " ", "\n", "\u2028", "\u00e9", "x", "", ROOT + "/", "abcdefghi", "%2f", "[::1]",
])  # fmt: skip
HREFS = st.lists(PARTS, max_size=7).map("".join) | st.builds("{}://{}/{}".format, PARTS, PARTS, PARTS)


@given(st.lists(HREFS, max_size=4), st.lists(HREFS, max_size=2))
def test_all_at_once_is_as_one_by_one(given_hrefs: list[str], others: list[str]) -> None:
    document: dict[str, Any] = {"assets": {str(n): {"href": href} for n, href in enumerate(given_hrefs)}}
    document["assets"]["other"] = {
        "alternate": {str(n): {"href": href} for n, href in enumerate(others)} | {"odd": None}
    }
    document["assets"] |= {"odd": None, "number": {"href": 1, "alternate": []}}
    found = True
    with contextlib.suppress(EditRefused):
        hrefs.check_hrefs(document, ROOT)
        found = False
    assert found != all(hrefs._is_url(href, ROOT) for href in given_hrefs + others)


def test_uploads_are_found_in_assets_and_their_alternates() -> None:
    ids = ["0190a1b2-0000-7000-8000-00000000000" + str(n) for n in range(2)]
    assets = {
        "a": {
            "href": f"https://x.org/uploads/{ids[0]}/content",
            "alternate": {"s": {"href": f"s3://b/uploads/{ids[1]}"}},
        },
        "b": None,
    }
    assert {str(one) for one in hrefs.named_uploads([{"assets": assets}])} == set(ids)
