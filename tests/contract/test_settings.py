"""Settings that follow from others."""

from __future__ import annotations

import pytest

from api.settings import ApiSettings
from ingest.settings import IngestSettings


@pytest.mark.parametrize("kind", [ApiSettings, IngestSettings])
def test_another_port_alone_does_not_leave_links_to_the_usual_one(
    kind: type[ApiSettings | IngestSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDERATOR_PUBLIC_URL", raising=False)
    monkeypatch.setenv("FEDERATOR_PORT", "9123")
    assert kind().public_url == "http://127.0.0.1:9123"
    monkeypatch.setenv("FEDERATOR_PUBLIC_URL", "https://catalogue.example.org")
    assert kind().public_url == "https://catalogue.example.org"
