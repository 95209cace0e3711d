"""Counting the trader's events: each once, in order, by run and seq, however it came; gaps from the stream.

Live, plain copies are taken in at once. In lockstep only requests count, and what is read from the stream
after a restart was answered before (PROTOCOL 3 and 4). What follows from a fact is the guard's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from nats.errors import Error as NatsError

from services.risk.keeper import Keeper
from services.shared import subjects
from services.shared.bus import Bus, Stored, told_to_leave
from services.shared.errors import BusError, InvalidInput
from services.shared.events import BarClosed, OrderIntended, StatusChanged
from services.shared.market import Quote
from services.shared.wire import Event, decode

log = structlog.get_logger(__name__)

_EARLY_KEPT = 2000
_INTENTS_KEPT = 200


class Hearing:
    """Takes in the events of one trader."""

    def __init__(self, bus: Bus, trader: str, keeper: Keeper) -> None:
        self._bus = bus
        self._trader = trader
        self._keeper = keeper
        self._early: dict[int, Event] = {}
        self._reading = asyncio.Lock()
        self._gap = asyncio.Event()
        self._passed: dict[str, int] = {}
        self.intents: dict[int, OrderIntended] = {}

    @property
    def lockstep(self) -> bool:
        """Whether the run under way is in lockstep."""
        state = self._keeper.guard.state
        return state.mode == "lockstep" and state.deployed

    # --- plain copies, live -----------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Take in a plain copy: in its turn at once, early ones when the gap before them is filled."""
        envelope = event.envelope
        if envelope.emitter != "trader" or envelope.trader != self._trader:
            return
        keeper, state = self._keeper, self._keeper.guard.state
        if envelope.run_id != state.run_id:
            if not _begins(event) or envelope.run_id in keeper.places.runs:
                return
            if event.body.terms.mode == "lockstep":  # type: ignore[union-attr]
                return
            self._begin(envelope.run_id, envelope.seq - 1)
        elif state.mode == "lockstep":
            return
        seq = envelope.seq
        if seq <= keeper.places.trader_seq:
            return
        if seq > keeper.places.trader_seq + 1:
            self._take_early(event)
            return
        self._count(event)
        self._take_waiting()

    def take_bar(self, event: Event) -> None:
        """Live: take in the price of a bar of the run under way."""
        state, bar = self._keeper.guard.state, event.body
        if state.mode == "live" and event.envelope.run_id == state.run_id and isinstance(bar, BarClosed):
            self._keeper.guard.see_price(_closing(bar, event.envelope.time))

    def _take_early(self, event: Event) -> None:
        if len(self._early) < _EARLY_KEPT:
            self._early[event.envelope.seq] = event
        guard = self._keeper.guard
        answer = guard.hear_ahead(event.envelope.run_id, event.body, event.envelope.time)
        if answer.events:
            self._keeper.say(answer, now=True)
        self._gap.set()

    def _take_waiting(self) -> None:
        while self._early:
            event = self._early.pop(self._keeper.places.trader_seq + 1, None)
            if event is None:
                break
            self._count(event)

    def _begin(self, run_id: str, counted: int) -> None:
        """Begin a run at its STARTING; what it said before that (that a command is accepted) is no matter."""
        self._keeper.places.begin_run(run_id, counted)
        self._early.clear()
        self.intents.clear()
        self._passed.clear()

    def _count(self, event: Event) -> None:
        """Book the next event of the run; in lockstep it was answered before."""
        keeper, envelope = self._keeper, event.envelope
        keeper.places.trader_seq = envelope.seq
        self.remember_intent(event)
        guard = keeper.guard
        terms = event.body.terms if isinstance(event.body, StatusChanged) else None
        mode = guard.state.mode if terms is None else terms.mode
        if mode == "lockstep":
            guard.catch_up(envelope.run_id, event.body, envelope.time)
            return
        answer = guard.hear(envelope.run_id, event.body, envelope.time)
        if answer.events:
            keeper.say(answer, now=True)

    def remember_intent(self, event: Event) -> None:
        """Keep an order's intent: it may be asked about again in a later step."""
        if isinstance(event.body, OrderIntended):
            self.intents[event.body.order] = event.body
            while len(self.intents) > _INTENTS_KEPT:
                del self.intents[min(self.intents)]

    # --- requests ---------------------------------------------------------------------------------

    def uncounted(self, run_id: str, found: Sequence[Event]) -> list[Event] | None:
        """The events of a request that are new, in order, now counted; None when some before are missing."""
        keeper = self._keeper
        ordered = sorted(found, key=lambda event: event.envelope.seq)
        new_run = run_id != keeper.guard.state.run_id
        if new_run and (run_id in keeper.places.runs or not any(_begins(event) for event in ordered)):
            return None
        counted = ordered[0].envelope.seq - 1 if new_run else keeper.places.trader_seq
        fresh = [event for event in ordered if event.envelope.seq > counted]
        if any(event.envelope.seq != counted + at for at, event in enumerate(fresh, start=1)):
            return None
        if new_run:
            self._begin(run_id, counted)
        if fresh:
            keeper.places.trader_seq = fresh[-1].envelope.seq
        for event in ordered:
            self.remember_intent(event)
        return fresh

    # --- the stream ---------------------------------------------------------------------------------

    async def read_gap(self, run_id: str, upto: int | None) -> bool:
        """Count what the stream has of the run up to seq `upto` (None: all there is); whether it was found.

        Reads from what the stored state has passed. Runs the guard never heard of are begun on the way.
        """
        async with self._reading:
            places = self._keeper.places
            waiting: dict[int, Event] = {}
            try:
                # Up to here: a live trader may write as fast as we read.
                last = await self._bus.last_sequence(subjects.EVENTS)
                async with contextlib.aclosing(
                    self._bus.read(subjects.EVENTS, after=places.stream_seq)  # type: ignore[type-var]
                ) as messages:
                    async for message in messages:
                        self._take_stored(message, waiting)
                        if message.seq >= last or (upto is not None and self._reached(run_id, upto)):
                            break
                if self._keeper.guard.state.mode == "lockstep":
                    await self._read_spreads()
            except BusError as error:
                log.warning("gap_not_read", detail=str(error))
                return False
            return self._reached(run_id, upto or 0)

    def _reached(self, run_id: str, upto: int) -> bool:
        return self._keeper.guard.state.run_id == run_id and self._keeper.places.trader_seq >= upto

    def _take_stored(self, message: Stored, waiting: dict[int, Event]) -> None:
        parts = message.subject.split(".")
        if len(parts) < 2 or parts[1] != self._trader or parts[0] in ("signal", "limits"):
            return
        keeper, state = self._keeper, self._keeper.guard.state
        head = _head(message.data)
        if head is None or head.get("emitter") != "trader":
            return
        run_id, seq = head.get("run_id"), head.get("seq")
        if not isinstance(run_id, str) or not isinstance(seq, int):
            return
        known = run_id == state.run_id
        if (known and seq <= keeper.places.trader_seq) or (not known and head.get("type") != "status"):
            return
        try:
            event = decode(message.data)
        except InvalidInput:
            return
        if not known:
            if not _begins(event) or run_id in keeper.places.runs:
                return
            self._begin(run_id, seq - 1)
            waiting.clear()
        waiting[seq] = event
        while (following := waiting.pop(keeper.places.trader_seq + 1, None)) is not None:
            self._count(following)
        self._take_waiting()

    async def _read_spreads(self) -> None:
        """The spreads of bars that were seen before a restart, for their median."""
        guard, places = self._keeper.guard, self._keeper.places
        async with contextlib.aclosing(
            self._bus.read(subjects.MARKET, after=places.market_seq)  # type: ignore[type-var]
        ) as messages:
            async for message in messages:
                head = _head(message.data)
                if head is None or head.get("run_id") != guard.state.run_id:
                    continue
                with contextlib.suppress(InvalidInput):
                    event = decode(message.data)
                    bar = event.body
                    if isinstance(bar, BarClosed) and event.envelope.time <= guard.state.time:
                        guard.see_spread(
                            Quote(
                                bar.instrument,
                                event.envelope.time,
                                float(bar.bid_close),
                                float(bar.ask_close),
                            )
                        )

    async def follow_gaps(self) -> None:
        """Live: fill each gap that a plain copy showed, soon after."""
        while not told_to_leave():
            await self._gap.wait()
            await asyncio.sleep(0.05)
            self._gap.clear()
            self._take_waiting()
            if self._early:
                await self.read_gap(self._keeper.guard.state.run_id, min(self._early) - 1)
                self._take_waiting()
                if self._early:
                    await asyncio.sleep(0.2)
                    self._gap.set()

    async def note_places(self) -> None:
        """Note which stream positions the counted events have passed, so that a restart reads little.

        The place is taken one look late: a message sent again may lie behind one with a higher seq.
        """
        state, places = self._keeper.guard.state, self._keeper.places
        if not state.run_id:
            return
        seen = await self._last(subjects.EVENTS, subjects.event("equity", self._trader))
        if seen is not None and seen[1].get("run_id") == state.run_id:
            place, head = seen
            if isinstance(head.get("seq"), int) and head["seq"] <= places.trader_seq:
                places.stream_seq = max(places.stream_seq, self._passed.get(subjects.EVENTS, 0))
                self._passed[subjects.EVENTS] = place
        bars = [await self._last(subjects.MARKET, subjects.bar(name)) for name in state.instruments]
        known = [bar for bar in bars if bar is not None and bar[1].get("run_id") == state.run_id]
        if known and len(known) == len(bars):
            places.market_seq = max(places.market_seq, self._passed.get(subjects.MARKET, 0))
            self._passed[subjects.MARKET] = min(place for place, _ in known)

    async def _last(self, stream: str, subject: str) -> tuple[int, dict[str, Any]] | None:
        try:
            found = await self._bus.js.get_last_msg(stream, subject, direct=True)
        except (TimeoutError, NatsError, OSError):
            return None
        head = _head(found.data or b"")
        return None if head is None or found.seq is None else (found.seq, head)


def _closing(bar: BarClosed, time: datetime) -> Quote:
    return Quote(bar.instrument, time, float(bar.bid_close), float(bar.ask_close))


def _begins(event: Event) -> bool:
    return isinstance(event.body, StatusChanged) and event.body.terms is not None


def _head(data: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) else None
