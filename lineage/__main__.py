"""`python -m lineage verify FILE... | check FILE | audit | export DIR | ...`: see commands.py.

`verify`, `check`, `witness` and `follow` need no database.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["verify"]:  # before anything that needs a database is imported
        from lineage import verify

        return verify.main(words[1:])
    if words[:1] == ["check"]:
        from lineage import trace_check

        return trace_check.main(words[1:])
    if words[:1] == ["witness"]:
        from lineage import witness_command

        return witness_command.run(_options("witness", witness_command.add_arguments, words))
    if words[:1] == ["follow"]:
        from lineage import follow_command

        return follow_command.run(_options("follow", follow_command.add_arguments, words))
    from lineage import commands

    return commands.main(words)


def _options(
    name: str, add_arguments: Callable[[argparse.ArgumentParser], None], words: Sequence[str]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"lineage {name}")
    add_arguments(parser)
    return parser.parse_args(words[1:])


if __name__ == "__main__":
    sys.exit(main())
