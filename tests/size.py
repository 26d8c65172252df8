"""How large the large tests are. With `FEDERATOR_TEST_FULL=1` (`make test-full`) they have the size that the documentation names; else they
are smaller, so that all tests together end soon.
"""

from __future__ import annotations

import os

FULL = os.environ.get("FEDERATOR_TEST_FULL") == "1"


def sized(usual: int, full: int) -> int:
    """A number of things to test with."""
    return full if FULL else usual
