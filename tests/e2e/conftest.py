"""One demonstration system for all end-to-end tests that use it as its people do; what they change, they undo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.system import System


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`make demo` without make: started once, stopped at the end."""
    system = System(
        tmp_path_factory.mktemp("demo") / "data", ("-m", "tests.demo"), extra_env={"FEDERATOR_DEMO_PRODUCTS": "240"}
    )
    try:
        system.first_start_s = system.start(until="ready in", timeout_s=240)
        yield system
    finally:
        if system.process is not None:
            system.stop()
    assert system.processes() == []
