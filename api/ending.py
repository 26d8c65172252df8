"""Whether this process is about to end: answers that would go on for ever, such as streams, end themselves then."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

_events: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Event] = WeakKeyDictionary()


def ending_of(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """The event that is set when the server of this loop accepts nothing new any more."""
    return _events.setdefault(loop, asyncio.Event())
