"""What is seen in many texts at once is what is seen in each."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.edits.texts import doubtful, with_null
from tests.size import sized

PIECES = [".0", "e-", "e+", "1", "0", ",", "]", "}", "null", "nu", "ll", '"', ".", "e", "-", "\n", "ü"]
TEXTS = st.lists(
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: ("".join(parts) + "}").encode()), max_size=5
)
DOUBTFUL = re.compile(rb"\.0[,\]}]|\de[-+]\d+[,\]}]|[^\x00-\x7f]")


@given(texts=TEXTS)
@settings(max_examples=sized(200, 5_000), deadline=None)
def test_many_texts_show_what_each_shows(texts: list[bytes]) -> None:
    assert doubtful(texts) == [DOUBTFUL.search(text) is not None for text in texts]
    assert with_null(texts) == [b"null" in text for text in texts]
