"""Server-sent events: everything the desk says, live, and from where a reader left off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from services.api.desk import Desk
from services.api.measures import STREAMS
from services.api.params import DeskParts, Trader
from services.api.problems import BusAway, InvalidRequest, TooManyStreams, documented
from services.api.stream import (
    BEAT_EVERY,
    MOST_READERS,
    SEND_WITHIN,
    TYPES,
    Wanted,
    known_type,
    read_events,
)

router = APIRouter(tags=["events"])

_MOST = 2**53
_EXAMPLE = (
    'id: 812\nevent: trade.closed\ndata: {"type":"trade.closed","trader":"main","pnl":"19.89","seq":421}\n\n'
)


class EventStream(EventSourceResponse):
    """A stream of events, counted while it lives."""

    def __init__(self, desk: Desk, source: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(
            source,
            sep="\n",
            ping=BEAT_EVERY,
            ping_message_factory=lambda: ServerSentEvent(comment="alive", sep="\n"),
            send_timeout=SEND_WITHIN,
            cleanup_timeout=1,
        )
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._desk.readers += 1
        STREAMS.set(self._desk.readers)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._desk.readers -= 1
            STREAMS.set(self._desk.readers)


@router.get(
    "/events",
    operation_id="events",
    summary="Everything that happens, as it happens",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "One event each: `id` is its place in the stream, `event` its type, `data` the "
            "event as docs/asyncapi.yaml has it. `gap` names places that the stream no longer holds.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(TooManyStreams, BusAway),
    },
)
async def get_events(
    desk: DeskParts,
    trader: Trader,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=_MOST, description="Go on after this place; browsers send it themselves.")
    ] = None,
    after: Annotated[
        int | None,
        Query(ge=0, le=_MOST, description="The same for whoever cannot set headers; 0: from the start."),
    ] = None,
    types: Annotated[
        str | None,
        Query(
            max_length=400,
            pattern=r"^[a-z.,]+$",
            description=f"Only these types or families, with commas: {', '.join(TYPES)}.",
            examples=["trade,alert"],
        ),
    ] = None,
    limit: Annotated[int | None, Query(ge=1, le=1_000_000, description="End after so many events.")] = None,
) -> EventStream:
    """Events from a place in the stream (only new ones when none is given), then live. A reader that does
    not keep up is dropped and goes on with `Last-Event-ID`."""
    names = frozenset(name for name in (types or "").split(",") if name)
    unknown = sorted(name for name in names if not known_type(name))
    if unknown:
        raise InvalidRequest("types: expected event types or families such as trade,alert")
    if desk.readers >= MOST_READERS:
        raise TooManyStreams("too many event streams at once", headers={"Retry-After": "5"})
    start = last_event_id if last_event_id is not None else after
    source = read_events(desk.line, Wanted(trader, names, limit), start)
    first = await anext(source)  # NATS away is a 503, not a stream that breaks off
    return EventStream(desk, _joined(first, source))


async def _joined(
    first: ServerSentEvent, rest: AsyncIterator[ServerSentEvent]
) -> AsyncIterator[ServerSentEvent]:
    yield first
    async for event in rest:
        yield event
