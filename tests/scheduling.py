"""Which tests share a worker when there are several: those of a file, and all that use the demonstration, which is dear to start."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

DEMONSTRATION = ("tests/e2e/test_demo.py", "tests/e2e/test_stop_and_start.py", "tests/e2e/test_wrong_input.py")


class Scheduling(LoadFileScheduling):
    """xdist's `--dist loadfile`, with one unit of work for the files of the demonstration."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return "the demonstration" if scope in DEMONSTRATION else scope
