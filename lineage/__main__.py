"""`python -m lineage verify FILE... | audit | export DIR | ...`: see commands.py. `verify` and `witness` need no database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["verify"]:  # before anything that needs a database is imported
        from lineage import verify

        return verify.main(words[1:])
    if words[:1] == ["witness"]:
        return _witness(words[1:])
    from lineage import commands

    return commands.main(words)


def _witness(words: Sequence[str]) -> int:
    from lineage import witness_command

    parser = argparse.ArgumentParser(prog="lineage witness", description="a witness of logs (C2SP tlog-witness)")
    witness_command.add_arguments(parser)
    return witness_command.run(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main())
