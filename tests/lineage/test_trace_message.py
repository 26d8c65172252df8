"""The bytes that are signed of a trace, against what Go writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage.trace_message import agreement, go_text, message_of
from tests.lineage.trace_making import product
from tests.shared import shared_path
from tests.size import sized

#: (bytes of a Go string, what json.Marshal makes of it). Go 1.19 and 1.27 were asked: 1.19 has \u0008 and \u000c for \b and \f, 1.27 writes
#: U+FFFD itself where earlier ones write \ufffd; all else is the same.
GO = [
    (b"", '""'),
    (b"plain /'", '"plain /\'"'),
    (b'"\\', '"\\"\\\\"'),
    (b"\b\f\n\r\t", '"\\b\\f\\n\\r\\t"'),
    (b"\x01\x1f\x7f", '"\\u0001\\u001f\x7f"'),
    (b"<>&", '"\\u003c\\u003e\\u0026"'),
    ("\u2028\u2029\u2027\u2030".encode(), '"\\u2028\\u2029\u2027\u2030"'),
    ("é€😀".encode(), '"é€😀"'),
    (b"a\xffb", '"a\\ufffdb"'),
    (b"\xe2\x82A", '"\\ufffd\\ufffdA"'),
    (b"\xed\xa0\x80", '"\\ufffd\\ufffd\\ufffd"'),
    (b"\xc0\xaf", '"\\ufffd\\ufffd"'),
    (b"\xf4\x90\x80\x80", '"\\ufffd\\ufffd\\ufffd\\ufffd"'),
    (b"\xf0\x9f\x98", '"\\ufffd\\ufffd\\ufffd"'),
    ("\ufffd".encode(), '"\ufffd"'),
]


@pytest.mark.parametrize(("data", "text"), GO)
def test_strings_as_go_writes_them(data: bytes, text: str) -> None:
    assert go_text(data) == text


def test_a_lone_surrogate_is_what_gos_decoder_makes_of_it() -> None:
    assert go_text("a\ud800b") == '"a\ufffdb"'
    assert go_text("\udfff\udc80") == '"\ufffd\ufffd"'


@settings(max_examples=sized(60, 2000), deadline=None)
@given(st.text())
def test_strings_read_back_as_they_were(text: str) -> None:
    written = go_text(text)
    assert (
        json.loads(written) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not _has_lone(text)
        else True
    )
    assert not set(written) & set("<>&\u2028\u2029")
    assert written == go_text(text.encode()) if not _has_lone(text) else True


def _has_lone(text: str) -> bool:
    return any("\ud800" <= sign <= "\udfff" for sign in text)


@settings(max_examples=sized(60, 2000), deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_become_one_sign_each(data: bytes) -> None:
    written = json.loads(go_text(data))
    assert written == data.decode("utf-8", "surrogateescape").translate(dict.fromkeys(range(56448, 56576), "�"))


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
ENTRIES = st.none() | st.lists(st.fixed_dictionaries({"path": TEXT, "name": TEXT, "hash": TEXT}), max_size=3)
PRODUCTS = st.fixed_dictionaries(
    {"name": TEXT, "size": st.integers(0, 2**63 - 1), "hash": TEXT, "contents": ENTRIES, "inputs": ENTRIES}
)


@settings(max_examples=sized(60, 2000), deadline=None)
@given(PRODUCTS, st.sampled_from(["CREATE", "COPY", "DELETE", "OBSOLETE"]))
def test_a_message_says_all_in_gos_order(described: dict[str, Any], event: str) -> None:
    message = message_of(described, event)
    said = json.loads(message)
    order = ["contents", "hash", "inputs", "name", "size", "event"]
    assert list(said) == [name for name in order if name == "event" or described[name] is not None]
    assert said["size"] == described["size"]
    for name, members in (("contents", ["hash", "path"]), ("inputs", ["hash", "name"])):
        for ours, theirs in zip(said.get(name, []), described[name] or [], strict=True):
            assert list(ours) == members
            assert ours == {member: theirs[member] for member in members}
    assert agreement(message, described, event) == "exact"
    assert agreement(json.dumps(said, indent=1), described, event) == "equal"
    assert agreement(message, {**described, "hash": described["hash"] + "0"}, event) == "differs"


def test_an_empty_list_is_said_and_an_absent_one_is_not() -> None:
    assert message_of(product(1, inputs=[]), "COPY").startswith('{"hash":"00')
    assert ',"inputs":[],"name"' in message_of(product(1, inputs=[]), "COPY")
    assert "contents" not in message_of(product(1, contents=None), "COPY")


def test_how_far_a_message_agrees() -> None:
    described = product(1, contents=[{"path": "a", "hash": "00"}])
    said = json.loads(message_of(described, "CREATE"))
    assert agreement(json.dumps({"hash": said["hash"], "event": "CREATE"}), described, "CREATE") == "partial"
    for name, other in (("hash", "01"), ("event", "COPY"), ("name", "x"), ("size", 2), ("contents", [])):
        assert agreement(json.dumps({**said, name: other}), described, "CREATE") == "differs"
    for text in ("", "[]", "nope", "[" * 10_000, '{"a":' * 10_000, "9" * 5000, "NaN", "\0"):
        assert agreement(text, described, "CREATE") == "unreadable"


def test_a_product_as_large_as_the_real_one() -> None:
    """The facts of a real message (46 contents, 735,683,295 bytes, 10,436 characters), with files named by the same pattern."""
    root = "S2A_MSIL1C_20230420T100021_N0509_R122_T33UVP_20230420T120027.SAFE"
    paths = [
        f"{root}/GRANULE/L1C_T33UVP_A040874_20230420T100024/QI_DATA/MSK_QUALIT_B{number:02}.jp2" for number in range(46)
    ]
    contents = [{"path": path, "hash": f"{number:064x}"} for number, path in enumerate(paths)]
    whole = "0a160fabf0cd69e782aa6a6128e392e0a63788218ceffaf9c5992980788d5ac3"
    message = message_of(
        {"name": f"{root}.zip", "size": 735683295, "hash": whole, "contents": contents, "inputs": None}, "CREATE"
    )
    entries = ",".join(f'{{"hash":"{number:064x}","path":"{path}"}}' for number, path in enumerate(paths))
    assert (
        message == f'{{"contents":[{entries}],"hash":"{whole}","name":"{root}.zip","size":735683295,"event":"CREATE"}}'
    )


def test_the_real_message_byte_for_byte() -> None:
    path = shared_path("lineage", "cdse-trace", "trace_S2A_MSIL1C_20230420T100021_T33UVP_create.json")
    (trace,) = json.loads(path.read_text())
    assert message_of(trace["product"], trace["event"]) == trace["signature"]["message"]
    assert len(trace["signature"]["message"]) == 10_436
