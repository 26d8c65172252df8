"""Named SQL: `sql("harvest.save_cursor")` is the statement `-- name: save_cursor` of `db/queries/harvest.sql`.

Values are `$1`, `$2`, ... for both drivers; nothing is ever built from strings.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import LiteralString

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)\s*$", re.MULTILINE)


@cache
def _file(area: str) -> dict[str, LiteralString]:
    path = Path(__file__).parent / f"{area}.sql"
    parts = _NAME.split(path.read_text(encoding="utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{path.name} names a statement twice")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


def sql(name: str) -> LiteralString:
    """Return the statement `area.name`, comments included.

    Raises:
        KeyError: there is no such file or statement.
    """
    area, _, statement = name.partition(".")
    try:
        return _file(area)[statement]
    except (FileNotFoundError, KeyError):
        raise KeyError(f"no statement {name!r} in db/queries") from None
