"""How an item is drawn without parameters: hints that anybody may have written are followed as far as they can be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pystac
import pytest

from api import render_hints
from api.render_hints import is_offered, names_of, render_of

GOOD = {
    "assets": ["own"],
    "bidx": [3, 2, 1],
    "rescale": [[0, 255.0]],
    "colormap_name": "viridis",
    "resampling": "nearest",
}


def item(renders: Any, *assets: str) -> pystac.Item:
    made = pystac.Item("a", None, None, datetime(2026, 1, 1, tzinfo=UTC), {"renders": renders})
    for key in assets or ("own", "data"):
        made.add_asset(key, pystac.Asset("http://example.org/a.tif"))
    return made


def test_the_default_hint_is_followed_wherever_it_stands() -> None:
    found = render_of(item({"ndvi": {"assets": ["data"]}, "default": GOOD}))
    assert found == {"assets": ["own"], "bidx": [3, 2, 1], "rescale": [(0.0, 255.0)], "colormap_name": "viridis"}


@pytest.mark.parametrize(
    "renders",
    [
        None, [], {}, "text",
        *({"default": one} for one in (None, [], "text", {}, {"assets": "abc"}, {"assets": [5]}, {"assets": ["absent"]})),
    ],
)  # fmt: skip
def test_without_a_hint_that_can_be_followed_it_is_the_asset_data(renders: Any) -> None:
    assert render_of(item(renders)) == {"assets": ["data"]}
    assert render_of(item(renders, "own")) == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"bidx": ["a"]}, {"bidx": "12"}, {"bidx": [0]}, {"bidx": [True]}, {"bidx": [1] * 9}, {"rescale": [1]}, {"rescale": "text"},
        {"rescale": [[0, 10**400]]}, {"rescale": [[False, True]]}, {"rescale": [[0, 1, 2]]}, {"colormap_name": {"a": 1}},
        {"colormap_name": "no-such"},
    ],
)  # fmt: skip
def test_what_is_odd_in_a_hint_is_passed_over(odd: dict[str, Any]) -> None:
    assert render_of(item({"default": {"assets": ["own"], **odd}})) == {"assets": ["own"]}


def test_many_hints_do_not_slow_down_each_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each expression is parsed; a tile needs the one of its name, a list a fixed number of them."""
    parsed: list[str] = []
    monkeypatch.setattr(render_hints, "check_expression", parsed.append)
    many = {f"hint-{number:05}": {"assets": ["own"], "expression": f"b1+{number}"} for number in range(5000)}
    made = item({**many, "default": GOOD})
    assert is_offered(made, "hint-04000")
    assert not is_offered(made, "absent")
    assert not is_offered(made, "no name")
    assert parsed == ["b1+4000"]
    names = names_of(made)
    assert names[:2] == ["default", "hint-00000"]
    assert (len(names), len(parsed)) == (50, 100)
