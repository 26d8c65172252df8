"""The lineage page in headless Chromium, reached by the item's own link."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.settings import DatabaseSettings
from tests.api import editing
from tests.api.editing import OWN, editor_on
from tests.api.test_lineage_graph import Site, own, registered
from tests.e2e.browser import NotHere, browsing
from tests.e2e.test_upload_page import keep
from tests.lineage.parentage import L1C, L2A

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


def test_graph_history_and_proof_are_to_be_seen(postgres: DatabaseSettings, template: str, tmp_path: Path) -> None:
    try:
        with browsing(tmp_path / "profile") as browser, editor_on(postgres, template, tmp_path) as editor:
            item = editing.item("fields-2026")
            assert editor.client.post(f"/collections/{OWN}/items", json=item).status_code == 201
            site = Site(editor, tmp_path)
            hostile = {"name": "<img src=x onerror=alert(1)>.tif", "hash": "07" * 32}
            site.settle(
                registered(L1C), registered(L2A), own("fields-2026", inputs=[hostile, {"name": L2A}], upload="u"),
                own("harvest-map", inputs=[{"collection": OWN, "item": "fields-2026", "name": ""}]),
            )  # fmt: skip
            links = editor.nobody.get(f"/collections/{OWN}/items/fields-2026").json()["links"]
            (page,) = [one["href"] for one in links if (one["rel"], one.get("type")) == ("lineage", "text/html")]
            browser.open(page)
            assert browser.complaints() == []
            assert browser.run("return document.querySelectorAll('#graph svg rect').length") == 5
            assert browser.run("return document.querySelectorAll('#graph svg path[stroke-dasharray]').length") == 1
            assert browser.run("return document.querySelectorAll('img, script, iframe, link').length") == 0
            text = browser.run("return document.body.innerText")
            for word in ("R4/1", "inferred", "declared", "0.95", L1C, "in the log", "CREATE"):
                assert word in text
            box = browser.run(
                "const b = document.querySelector('#graph svg').getBoundingClientRect(); return [b.width, b.height]"
            )
            assert min(box) > 50
            keep(browser, "lineage.png")
            site.http.close()
    except NotHere as error:
        pytest.skip(str(error))
