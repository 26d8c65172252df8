"""FastAPI gives each dependency that is no coroutine a turn in a thread. titiler's only read parameters, and a tile has a dozen of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

#: Where the dependencies are that wait for nothing.
_READERS = "titiler.core."


def call_at_once(
    app: FastAPI, also: Collection[Callable[..., Any]] = (), instead: Mapping[Any, Callable[..., Any]] | None = None
) -> None:
    """Call titiler-core's dependencies, and these of ours, where they are needed. They wait for nothing; parameters stay as they are.

    `instead`: others of the same parameters to call in the place of some; FastAPI's own way to do so looks at all of them at every request.
    """
    for one in _dependants(app):
        _change(one, also, instead or {})


def _dependants(app: FastAPI) -> Iterator[Dependant]:
    """What each route depends on. FastAPI keeps that of included routes in contexts of their inclusion."""
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield route.dependant
        elif contexts := getattr(route, "effective_route_contexts", None):
            yield from (one.dependant for one in contexts() if one.dependant is not None)


def _change(
    dependant: Dependant, also: Collection[Callable[..., Any]], instead: Mapping[Any, Callable[..., Any]]
) -> None:
    for one in dependant.dependencies:
        _change(one, also, instead)
        one.call = instead.get(one.call, one.call)
        if one.call is not None and (one.call in also or one.call.__module__.startswith(_READERS)):
            one.call = _at_once(one.call)


@cache
def _at_once(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a coroutine; one for each call, for FastAPI asks a dependency once a request and knows it by this."""

    async def called(**values: Any) -> Any:
        return call(**values)

    return called
