"""Reference data beside the repository, when it is there: real recordings, schemas, vectors, rasters."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def shared_path(*parts: str) -> Path:
    """Path below ../shared; skips the test when the reference data is not there."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data is absent: ../shared/{'/'.join(parts)}")
    return path
