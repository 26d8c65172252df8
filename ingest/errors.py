"""What can go wrong in ingest, split by what the caller should do.

IngestError
├── UpstreamUnavailable   try again later: timeout, 429, 5xx, connection refused
├── UpstreamChanged       stop and tell a person: the answer has a new shape
├── RecordRejected        skip this one, keep its bytes, count it (has .code)
├── SourceInvalid         a person must fix the source's file or its name
├── UploadRejected        tell the user what is wrong with the file (has .code, .status)
└── EditRefused           tell the user what is wrong with the item, the collection or the wish (has .code, .status)
"""

from __future__ import annotations

from typing import Any


class IngestError(Exception):
    """Base of all errors of this package."""


class UpstreamUnavailable(IngestError):
    """Try again later. `retry_after_s` is set when the upstream said so."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UpstreamChanged(IngestError):
    """The upstream's answer has a shape that we do not know."""


class RecordRejected(IngestError):
    """One record cannot become an item. `code` is stable, kebab-case ("geometry-invalid", "name-unknown").

    `place` is the JSON pointer to what is wrong in the item, where that is known.
    """

    def __init__(self, code: str, message: str, place: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.place = place


class SourceInvalid(IngestError):
    """A source's file is wrong, or no source has that name."""


class UploadRejected(IngestError):
    """A file was refused. `code` is stable and upper case ("NO_CRS"), `status` the HTTP status that fits."""

    def __init__(self, code: str, message: str, *, status: int = 422, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.facts = facts


class EditRefused(IngestError):
    """A change that a caller asked for was refused, and nothing was changed. `code` is stable and upper case ("ITEM_EXISTS").

    `facts` may hold `place`, the JSON pointer to what is wrong in the item or collection.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.facts = facts
