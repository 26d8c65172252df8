"""OpenLineage RunEvents (2-0-2) as they come in: checked field by field, and what of them the log keeps. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

TYPES = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
_ENDED = frozenset({"COMPLETE", "ABORT", "FAIL"})
MAX_DATASETS, MAX_TEXT, MAX_PARAMS = 1000, 1000, 100
#: Edges that one call may make: each input with each output.
MAX_PAIRS = 10_000
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]{0,2000}")
#: As RFC 3339, 5.6; Python reads more.
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class RunInvalid(Exception):
    """The event is none; `place` is a JSON Pointer to what is wrong."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place or '/'}: {why}")
        self.place = place


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a run read or wrote, as its namespace and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One event of a run."""

    run_id: UUID
    type: str
    at: datetime
    namespace: str
    job: str
    producer: str
    inputs: tuple[Dataset, ...]
    outputs: tuple[Dataset, ...]
    software: dict[str, str] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """The member `run` of the log's events."""
        at = self.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {
            "id": str(self.run_id), "namespace": self.namespace, "job": self.job, "state": self.type, "producer": self.producer,
            "software": self.software, "params": self.params, "at": at,
        }  # fmt: skip
        if self.type == "START":
            told["started"] = at
        if self.type in _ENDED:
            told["ended"] = at
        return told


def parse(value: Any) -> RunEvent:
    """Read one RunEvent.

    Raises:
        RunInvalid
    """
    event = _object(value, "")
    run, job = _object(event.get("run"), "/run"), _object(event.get("job"), "/job")
    kind = event.get("eventType", "OTHER")
    if kind not in TYPES:
        raise RunInvalid("/eventType", f"one of {', '.join(TYPES)}")
    try:
        run_id = UUID(_text(run.get("runId"), "/run/runId"))
    except ValueError:
        raise RunInvalid("/run/runId", "a UUID") from None
    for name in ("producer", "schemaURL"):
        if not _URI.fullmatch(_text(event.get(name), f"/{name}", 2048)):
            raise RunInvalid(f"/{name}", "a URI")
    facets = {**_facets(job, "/job"), **_facets(run, "/run")}
    return RunEvent(
        run_id, kind, _time(event.get("eventTime")), _text(job.get("namespace"), "/job/namespace"), _text(job.get("name"), "/job/name"),
        event["producer"], _datasets(event, "inputs"), _datasets(event, "outputs"), _software(facets), _params(facets),
    )  # fmt: skip


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RunInvalid(place, "an object")
    return value


def _text(value: Any, place: str, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or "\0" in value:
        raise RunInvalid(place, f"a text of 1 to {most} letters")
    return value


def _time(value: Any) -> datetime:
    text = _text(value, "/eventTime", 40)
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise RunInvalid("/eventTime", "an RFC 3339 time")


def _facets(owner: dict[str, Any], place: str) -> dict[str, Any]:
    facets = _object(owner.get("facets", {}), f"{place}/facets")
    for name, facet in facets.items():
        told = _object(facet, f"{place}/facets/{name[:100]}")
        if not told.get("_deleted") and not (
            isinstance(told.get("_producer"), str) and isinstance(told.get("_schemaURL"), str)
        ):
            raise RunInvalid(f"{place}/facets/{name[:100]}", "a facet has _producer and _schemaURL")
    return facets


def _datasets(event: dict[str, Any], member: str) -> tuple[Dataset, ...]:
    listed = event.get(member, [])
    if not isinstance(listed, list) or len(listed) > MAX_DATASETS:
        raise RunInvalid(f"/{member}", f"a list of at most {MAX_DATASETS}")
    found = []
    for number, one in enumerate(listed):
        place = f"/{member}/{number}"
        told = _object(one, place)
        found.append(
            Dataset(_text(told.get("namespace"), f"{place}/namespace"), _text(told.get("name"), f"{place}/name"))
        )
    return tuple(dict.fromkeys(found))


def _software(facets: dict[str, Any]) -> dict[str, str]:
    """The facet processing_engine (OpenLineage 1-1-1) and adapters' versions in it."""
    engine = facets.get("processing_engine")
    if not isinstance(engine, dict) or not isinstance(engine.get("version"), str):
        return {}
    found = {str(engine.get("name") or "engine")[:200]: engine["version"][:200]}
    if isinstance(engine.get("openlineageAdapterVersion"), str):
        found["openlineage"] = engine["openlineageAdapterVersion"][:200]
    return found


def _params(facets: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a facet `parameters`; what is no text, truth or small number is left out."""
    told = facets.get("parameters")
    pairs = told.items() if isinstance(told, dict) else ()
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name.startswith("_") or "\0" in name or len(found) >= MAX_PARAMS:
            continue
        if isinstance(value, str) and "\0" not in value:
            found[name[:200]] = value[:MAX_TEXT]
        elif isinstance(value, bool | int | float) and abs(value) < 2**53:
            found[name[:200]] = value
    return found
