"""`/quota` and the headers of limits, on the whole application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from api.settings import ApiSettings
from db.settings import DatabaseSettings
from tests.api.corpus import fill
from tests.api.server import listening, running
from tests.conftest import cloned

TOKEN = "a-token-for-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
TIERS = "[general]\n[anonymous]\nrequests_per_minute = 6\nprocessing_per_month = 2\nconnections = 4\n"


@pytest.fixture(scope="module")
def site(postgres: DatabaseSettings, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("quota")
    (folder / "tiers.toml").write_text(TIERS, encoding="utf-8")
    listener, url = listening()
    settings = ApiSettings(
        data_dir=folder, public_url=url, api_token=TOKEN, rate_limits=True, tiers_file=folder / "tiers.toml"
    )
    with cloned(postgres, template) as database:
        asyncio.run(fill(database, 6))
        with (
            running(settings, database, listener, clock=lambda: 1_790_000_000.0),
            httpx.Client(base_url=url, timeout=30) as http,
        ):
            yield http


def test_who_asks_is_told_what_is_left(site: httpx.Client) -> None:
    seen = []
    for path in ("/stac/search", "/stac/collections", "/stac/collections", "/sources"):
        answer = site.get(path, headers={"Origin": "https://example.org"})
        assert answer.status_code == 200
        exposed = answer.headers["access-control-expose-headers"]
        assert "RateLimit" in exposed
        assert len(answer.headers.get_list("ratelimit")) == 1
        seen.append(answer.headers["ratelimit"].split(";")[1])
    assert seen == ["r=5", "r=4", "r=3", "r=2"]
    assert (
        site.get("/raster/collections/c/items/i/info")
        .headers["ratelimit"]
        .startswith('"default";r=1;t=40, "processing";r=1;t=')
    )
    found = site.get("/quota")
    assert found.headers["cache-control"] == "no-store"
    state = found.json()
    assert (state["caller"], state["tier"], state["limits"], state["uploads"]) == (None, "anonymous", True, None)
    quotas = {one["quota"]: one for one in state["quotas"]}
    assert quotas["default"] == {
        "quota": "default", "limit": 6, "used": 5, "remaining": 1, "period": "minute", "resets": "2026-09-21T14:14:00.000000Z",
    }  # fmt: skip
    assert (quotas["processing"]["limit"], quotas["processing"]["used"]) == (2, 0)  # there was no such item
    assert quotas["cog-reads"]["remaining"] is None
    assert (quotas["connections"]["limit"], quotas["connections"]["used"]) == (4, 0)
    assert site.get("/stac/search").status_code == 200
    assert site.get("/stac/search").status_code == 429
    assert site.get("/stac/search", headers=ADMIN).status_code == 200
    assert 'federator_refusals_total{quota="default"} 1.0' in site.get("/_mgmt/metrics").text


def test_the_operator_has_no_limits_but_those_of_uploads(site: httpx.Client) -> None:
    state = site.get("/quota", headers=ADMIN).json()
    assert (state["caller"], state["tier"], state["quotas"]) == ("token", None, [])
    assert state["uploads"]["open"] == {"quota": "open_uploads", "limit": 10, "used": 0, "remaining": 10}
    assert state["uploads"]["bytes"]["remaining"] == 500 * 10**9
