"""`python -m lineage follow URL`: the catalogue's present state from the change feed alone. No database."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import httpx

from lineage.follow import FeedFailed, State, compare, follow

_MAX_SHOWN = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Words of the command."""
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="the service (default: %(default)s)")
    parser.add_argument(
        "--from", dest="start", type=int, default=0, metavar="SEQ", help="number of the first event (default: 0)"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="where the state is kept; if it is there, it goes on from it"
    )
    parser.add_argument("--compare", action="store_true", help="compare with the catalogue and name what differs")
    parser.add_argument("--token-env", metavar="NAME", help="environment variable with a key, to see what it may see")


def run(options: argparse.Namespace) -> int:
    """Follow; exit status 0: done, and equal if compared; 1: it differs, or the service does not answer."""
    try:
        return asyncio.run(_follow(options))
    except FeedFailed as error:
        print(error, file=sys.stderr)
        return 1


async def _follow(options: argparse.Namespace) -> int:
    state = _stored(options.state) or State(options.start)
    token = os.environ.get(options.token_env or "", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=60) as http:
        read = await follow(http, state)
        print(
            f"{read} events read; {state.number} items in {len(state.collections)} collections after event {state.next_seq - 1}"
        )
        if options.state:
            _store(options.state, state)
        if not options.compare:
            return 0
        differences = [one async for one in compare(http, state)]
    for one in differences[:_MAX_SHOWN]:
        print(one)
    print(f"{len(differences)} differences" if differences else "the catalogue is what the feed says")
    return 1 if differences else 0


def _stored(path: Path | None) -> State | None:
    return State(**json.loads(path.read_text(encoding="utf-8"))) if path and path.exists() else None


def _store(path: Path, state: State) -> None:
    path.write_text(json.dumps(asdict(state), sort_keys=True), encoding="utf-8")
