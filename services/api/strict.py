"""A parameter nobody knows is refused: a misspelt filter must not give somebody else's rows."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.api.problems import InvalidRequest


def _names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _names(inner)


_KNOWN: dict[int, frozenset[str]] = {}


def _known(route: APIRoute) -> frozenset[str]:
    """By the route's identity: routes are as long-lived as the process, and cannot be hashed."""
    if id(route) not in _KNOWN:
        _KNOWN[id(route)] = frozenset(_names(route.dependant))
    return _KNOWN[id(route)]


async def only_known_parameters(request: Request) -> None:
    """Raise InvalidRequest for query parameters that the route does not take, or that come twice."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    given = [name for name, _ in request.query_params.multi_items()]
    if set(given) - _known(route):
        known = ", ".join(sorted(_known(route))) or "none"
        raise InvalidRequest(f"query: expected only these parameters: {known}")
    if len(given) != len(set(given)):
        raise InvalidRequest("query: expected each parameter once")
