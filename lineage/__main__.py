"""`python -m lineage verify FILE... | audit | export DIR | ...`; `verify` needs no database. The commands: lineage/commands.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["verify"]:  # before anything that needs a database is imported
        from lineage import verify

        return verify.main(words[1:])
    from lineage import commands

    return commands.main(words)


if __name__ == "__main__":
    sys.exit(main())
