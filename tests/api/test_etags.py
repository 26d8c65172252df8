"""Entity tags: what names them, what they let pass, and that of several writers one wins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from api.problems import Problem
from api.stac.etags import check_write, etag_of, names_tag
from tests.api.editing import OWN, Editor, is_problem, item

ITEMS = f"/collections/{OWN}/items"
MERGE = {"Content-Type": "application/merge-patch+json"}
WRITERS = 12


@pytest.mark.parametrize(
    ("header", "etag", "strongly", "weakly"),
    [
        ('"a"', '"a"', True, True),
        ('W/"a"', '"a"', False, True),
        ('"a"', 'W/"a"', False, True),
        ('"b", "a"', '"a"', True, True),
        ('"b,\t"', '"a"', False, False),
        ('"b,c", "a"', '"b,c"', True, True),  # a comma within the tag
        ("*", '"a"', True, True),
        ("*", None, False, False),
        ('"a"', None, False, False),
        ("a", '"a"', False, False),
        ('"a-gzip"', '"a"', True, True),
        ('W/"a-br"', '"a"', False, True),
        ('"a-other"', '"a"', False, False),
        ("", '"a"', False, False),
        ('""', '""', True, True),
    ],
)
def test_rfc_9110_comparison(header: str, etag: str | None, strongly: bool, weakly: bool) -> None:
    assert names_tag(header, etag, weakly=False) is strongly
    assert names_tag(header, etag, weakly=True) is weakly


@given(st.binary(), st.binary())
def test_a_tag_tells_bytes_apart(one: bytes, other: bytes) -> None:
    assert (etag_of(one) == etag_of(other)) == (one == other)
    assert names_tag(f'W/"x", {etag_of(one)}', etag_of(other), weakly=False) == (one == other)


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_read(header: str) -> None:
    names_tag(header, '"a"', weakly=True)


@pytest.mark.parametrize(
    ("headers", "etag", "passes"),
    [
        ({}, '"a"', True),
        ({}, None, True),
        ({"if-match": '"a"'}, '"a"', True),
        ({"if-match": '"b"'}, '"a"', False),
        ({"if-match": "*"}, None, False),
        ({"if-none-match": "*"}, None, True),
        ({"if-none-match": "*"}, '"a"', False),
        ({"if-none-match": 'W/"a"'}, '"a"', False),
        ({"if-match": '"a"', "if-none-match": '"a"'}, '"a"', False),
    ],
)
def test_preconditions(headers: dict[str, str], etag: str | None, passes: bool) -> None:
    if passes:
        check_write(Headers(headers), etag)
    else:
        with pytest.raises(Problem) as refused:
            check_write(Headers(headers), etag)
        assert (refused.value.status, refused.value.code) == (412, "PRECONDITION_FAILED")


@pytest.mark.parametrize("path", [f"{ITEMS}/tagged", f"/collections/{OWN}"])
def test_what_a_client_has_is_not_sent_again(editor: Editor, path: str) -> None:
    editor.client.post(ITEMS, json=item("tagged"))
    for _ in range(2):  # made, then kept
        tag = editor.nobody.get(path).headers["etag"]
        assert not tag.startswith("W/")
        for named in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            known = editor.nobody.get(path, headers={"If-None-Match": named})
            assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
            assert "content-type" not in known.headers
        assert editor.nobody.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_client_that_has_it_in_a_coding_is_told_that_it_has_that_and_may_change_it(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("coded", note="a" * 4000))
    packed = editor.nobody.get(f"{ITEMS}/coded", headers={"Accept-Encoding": "gzip"})
    tag = packed.headers["etag"]
    assert tag.endswith('-gzip"')
    known = editor.nobody.get(f"{ITEMS}/coded", headers={"Accept-Encoding": "gzip", "If-None-Match": tag})
    assert (known.status_code, known.headers["etag"]) == (304, tag)
    assert editor.client.delete(f"{ITEMS}/coded", headers={"If-Match": tag}).status_code == 204


@pytest.mark.parametrize("path", [f"{ITEMS}/conditional", f"/collections/{OWN}"])
def test_a_change_of_what_was_changed_meanwhile_is_refused(editor: Editor, path: str) -> None:
    editor.client.post(ITEMS, json=item("conditional"))
    old = editor.nobody.get(path)
    patch = {"properties": {"a": 1}} if "items" in path else {"title": "Another"}
    new = editor.client.patch(path, json=patch, headers=MERGE | {"If-Match": old.headers["etag"]})
    assert new.status_code == 204
    assert editor.nobody.get(path).headers["etag"] == new.headers["etag"] != old.headers["etag"]
    for headers in ({"If-Match": old.headers["etag"]}, {"If-None-Match": new.headers["etag"]}, {"If-None-Match": "*"}):
        for answer in (
            editor.client.put(path, json=old.json(), headers=headers),
            editor.client.patch(path, json=patch, headers=MERGE | headers),
            editor.client.delete(path, headers=headers),
        ):
            is_problem(answer, 412, "PRECONDITION_FAILED")
            assert answer.headers["etag"] == new.headers["etag"]
    assert editor.nobody.get(path).headers["etag"] == new.headers["etag"]
    assert editor.client.put(path, json=old.json(), headers={"If-Match": "*"}).status_code == 204
    assert editor.nobody.get(path).content == old.content


def test_conditions_on_what_is_not_there(editor: Editor) -> None:
    is_problem(editor.client.post(ITEMS, json=item("absent"), headers={"If-Match": "*"}), 412, "PRECONDITION_FAILED")
    is_problem(editor.client.delete(f"{ITEMS}/absent", headers={"If-Match": '"a"'}), 412, "PRECONDITION_FAILED")
    answer = editor.client.put(f"{ITEMS}/absent", json=item("absent"), headers={"If-Match": "*"})
    is_problem(answer, 404, "NOT_FOUND")
    assert editor.events(OWN, "absent") == []
    assert editor.client.post(ITEMS, json=item("absent"), headers={"If-None-Match": "*"}).status_code == 201


def at_once(work: Callable[[int], httpx.Response]) -> list[int]:
    with ThreadPoolExecutor(WRITERS) as threads:
        return sorted(answer.status_code for answer in threads.map(work, range(WRITERS)))


def test_of_all_who_make_an_item_at_once_one_does(editor: Editor) -> None:
    assert at_once(lambda number: editor.client.post(ITEMS, json=item("raced", number=number))) == [201] + [409] * (
        WRITERS - 1
    )
    assert editor.events(OWN, "raced") == [("CREATE", "user:token")]


def test_of_all_who_change_the_same_state_one_does(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("contested"))
    tag = {"If-Match": editor.nobody.get(f"{ITEMS}/contested").headers["etag"]}

    def change(number: int) -> httpx.Response:
        if number % 2:
            return editor.client.put(f"{ITEMS}/contested", json=item("contested", number=number), headers=tag)
        return editor.client.patch(f"{ITEMS}/contested", json={"properties": {"number": number}}, headers=MERGE | tag)

    assert at_once(change) == [204] + [412] * (WRITERS - 1)
    assert len(editor.events(OWN, "contested")) == 2


def test_no_patch_is_lost(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("patched"))

    def patch(number: int) -> httpx.Response:
        properties: dict[str, Any] = {f"p{number}": number, "datetime": f"2026-{number % 12 + 1:02}-01T00:00:00Z"}
        return editor.client.patch(f"{ITEMS}/patched", json={"properties": properties}, headers=MERGE)

    assert at_once(patch) == [204] * WRITERS
    properties = editor.nobody.get(f"{ITEMS}/patched").json()["properties"]
    assert {name: properties.get(name) for name in (f"p{n}" for n in range(WRITERS))} == {
        f"p{n}": n for n in range(WRITERS)
    }
    assert editor.rows("select count(*) from pgstac.items where id = 'patched'") == [(1,)]


def test_an_item_is_deleted_once(editor: Editor) -> None:
    editor.client.post(ITEMS, json=item("deleted"))
    tag = {"If-Match": editor.nobody.get(f"{ITEMS}/deleted").headers["etag"]}
    assert at_once(lambda _: editor.client.delete(f"{ITEMS}/deleted", headers=tag)) == [204] + [412] * (WRITERS - 1)
    assert [kind for kind, _ in editor.events(OWN, "deleted")] == ["CREATE", "DELETE"]
