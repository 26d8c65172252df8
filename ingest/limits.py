"""Limits of a harvest as a user types them."""

from __future__ import annotations

from datetime import UTC, datetime

import typer


def parse_time(text: str | None, name: str) -> datetime | None:
    """Read an ISO 8601 date or time; no zone means UTC.

    Raises:
        typer.BadParameter: it is none.
    """
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no ISO 8601 time such as 2026-01-31T12:00:00Z", param_hint=name
        ) from None


def parse_bbox(text: str | None) -> tuple[float, float, float, float] | None:
    """Read west,south,east,north in degrees; west may lie east of east (across the antimeridian).

    Raises:
        typer.BadParameter: it is no such box.
    """
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be west,south,east,north", param_hint="--bbox") from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise typer.BadParameter(f"{text!r} is not on the globe, or south lies above north", param_hint="--bbox")
    return west, south, east, north
