"""What routes tell about the pixels that they answer, for whoever keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

KEY: Final = "federator.rendering"
#: In the scope of a request for a tile that is to be kept for all (`Drawing`): it may take longer, and is not answered with what is kept.
DRAWING: Final = "federator.drawing"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a tile is drawn that is to be kept: whether rasters elsewhere are read for it, and whether nobody waits for it any more."""

    has_remote: bool
    is_over: Event


@dataclass(slots=True)
class Rendering:
    """What is learned of an answer while it is made.

    Attributes:
        version: of what it was made of (`api.tiles.versions`); None: the route does not say.
        is_kept: False for what is to be made anew next time, as a coarse copy or a part.
        is_for_all: False for what its key does not wholly tell: whoever waits for an equal answer gets one of his own.
        readable: uploads that the item's assets name, and those of them that the caller may read; None: the route does not say.
        until: when it is to be made anew, in seconds since 1970; None: as long as there is that version.
    """

    version: str | None = None
    is_kept: bool = True
    is_for_all: bool = True
    readable: tuple[frozenset[str], frozenset[str]] | None = None
    until: float | None = None

    def is_of(self, audience: str) -> bool:
        """Whether what it shows is what callers of this audience (`api.tiles.versions.State`) may see."""
        if self.readable is None:
            return True
        named, readable = self.readable
        return readable == named & frozenset(audience.split(","))


def rendering_of(scope: Scope) -> Rendering:
    """The note of a request; one that nobody reads for a request whose answer is not kept."""
    found: Rendering = scope.get(KEY) or Rendering()
    return found


def note_version(request: Request, version: str) -> None:
    """Say which version of an item the answer is made of."""
    rendering_of(request.scope).version = version


def note_unkept(request: Request) -> None:
    """Say that the answer is not to be kept here."""
    rendering_of(request.scope).is_kept = False


def note_foreign(request: Request) -> None:
    """Say that the answer shows rasters of other items, which may become private at any moment: it is for who asked now, and not kept."""
    note_unkept(request)
    rendering_of(request.scope).is_for_all = False


def note_readable(request: Request, named: Iterable[object], readable: Iterable[object]) -> None:
    """Say which uploads the item names, and which of them the caller may read at this moment: sharing may change while it is drawn."""
    rendering_of(request.scope).readable = frozenset(map(str, named)), frozenset(map(str, readable))


def note_until(request: Request, moment: float) -> None:
    """Say until when the answer may be kept, in seconds since 1970; the earliest holds."""
    rendering = rendering_of(request.scope)
    rendering.until = moment if rendering.until is None else min(moment, rendering.until)
