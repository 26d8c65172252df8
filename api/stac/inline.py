"""stac-fastapi's request models are classes, which FastAPI makes in a thread; here they are made at once, as they only keep values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI


def make_models_inline(app: FastAPI) -> None:
    """Replace the class behind each dependency of the application's routes by a coroutine that makes it: spares two changes of threads.

    To be called when all routes are there. FastAPI has no setting for this; a test sees that it works with the locked release.
    """
    for route in served(app.routes):
        dependant = getattr(route, "dependant", None)
        for dependency in dependant.dependencies if dependant else ():
            if inspect.isclass(dependency.call):
                dependency.call = _making(dependency.call)


def served(routes: Any) -> Iterator[Any]:
    """Routes as they are served: those of an included router are made of its own when they are first asked for, and kept."""
    for route in routes:
        if hasattr(route, "effective_candidates"):
            yield from served(route.effective_candidates())
        else:
            yield route


def _making(model: Any) -> Any:
    async def make(**values: Any) -> Any:
        return model(**values)

    return make
