"""Band arithmetic: what is bounded, what is refused, and that what passes is evaluated as numpy does."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rio_tiler.errors import InvalidExpression
from rio_tiler.models import ImageData

from api.problems import Problem
from api.tiles.expressions import MOST_CHARACTERS, MOST_DEPTH, check_expression
from tests.size import sized

BANDS = np.ma.MaskedArray(np.random.default_rng(1).integers(1, 5000, (3, 8, 8)).astype("float64"))


@pytest.mark.parametrize(
    "text",
    [
        "", ";", "1", "b0", "b1+c2", "b1.real", "b1[0]", "__import__('os')", "sum(b1)", "prod(b1)", "max(b1)", "contains(b1, 'a')",
        "b1 if b2 else 1", "b1+'text'", "b1+1j", "b1 + 1e400", "b1 ** b2", "b1**999999", "b1 < b2 < b3", "b1 and b2", "not b1", "b1 << 3",
        "lambda: b1", "b1, b2", "(" * (MOST_DEPTH + 1) + "b1" + ")" * (MOST_DEPTH + 1), "b1+" * MOST_CHARACTERS + "b1",
        "+".join(["b1"] * 70), "b1;b1;b1;b1;b1", "b1:=5", "where(b1=3, 1, 2)", "b\u0661", "b1 + re", "sqrt(numpy)", "b1 in b2",
        "10**400 + b1", "b1 + \0", "*b1", "f'{b1}'", "b1 is b2",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_of_bands_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        check_expression(text)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_EXPRESSION")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(b2-b1)/(b2+b1)", (BANDS[1] - BANDS[0]) / (BANDS[1] + BANDS[0])),
        (
            "2.5*(b1-b2)/(b1+6*b2-7.5*b3+10000)",
            2.5 * (BANDS[0] - BANDS[1]) / (BANDS[0] + 6 * BANDS[1] - 7.5 * BANDS[2] + 10000),
        ),
        ("where(b1>b2, b1, -1)", np.where(BANDS[0] > BANDS[1], BANDS[0], -1)),
        ("sqrt(B1**2 + b2**2)", np.hypot(BANDS[0], BANDS[1])),
        ("(b1>2)&(b2<9)|(b3==4)", (BANDS[0] > 2) & (BANDS[1] < 9) | (BANDS[2] == 4)),
    ],
)
def test_what_passes_is_evaluated(text: str, expected: object) -> None:
    image = ImageData(BANDS).apply_expression(check_expression(text))
    assert np.allclose(image.data[0], expected, rtol=1e-6)


@settings(max_examples=sized(100, 3000), deadline=None)
@given(st.text("b123+-*/()., <>=&|;sqrtwhe%~^!'\"[]{}:@\\_ \n", max_size=60) | st.text(max_size=40))
def test_no_text_does_harm(text: str) -> None:
    with contextlib.suppress(Problem, InvalidExpression):
        ImageData(BANDS).apply_expression(check_expression(text))
