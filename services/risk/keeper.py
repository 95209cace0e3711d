"""What the guard writes before it says anything: its state with every message it is about to publish.

One key holds both, so that a restart publishes the same bytes again under the same ids and no seq is ever
used for a second, different event (PROTOCOL 1 and 4). It decides nothing.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from services.risk import measures
from services.risk.guard import Guard
from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import Halt
from services.shared.errors import BusError, Conflict, InvalidInput, NotStored
from services.shared.events import TYPE_OF
from services.shared.limits import DEFAULTS
from services.shared.outbox import Outbox
from services.shared.repeats import CarriedOut
from services.shared.verdicts import Answer
from services.shared.wire import encode, event_id

log = structlog.get_logger(__name__)

VERSION = 1
_RUNS_KEPT = 32
_SIZE_WARNED = 64 * 1024


@dataclass(slots=True)
class Output:
    """A message on its way: where to, under which id, and its bytes."""

    subject: str
    msg_id: str
    data: bytes


@dataclass(slots=True)
class Places:
    """How far the guard has come in what it reads: stream sequences it has passed, the last seq counted of
    the trader's run, the last seq used of its own per run, the runs it has begun, and the commands carried
    out, to tell a repeat by."""

    stream_seq: int = 0
    market_seq: int = 0
    commands_seq: int = 0
    trader_seq: int = 0
    seqs: dict[str, int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    carried_out: CarriedOut = field(default_factory=CarriedOut)

    def begin_run(self, run_id: str, counted: int) -> None:
        """A run began, with nothing of interest in its first `counted` events. Only the latest runs are
        remembered."""
        if run_id not in self.runs:
            self.runs.append(run_id)
            self.carried_out.run_began()
        for old in self.runs[:-_RUNS_KEPT]:
            self.seqs.pop(old, None)
        del self.runs[:-_RUNS_KEPT]
        self.trader_seq = counted


class Keeper:
    """Guard, places and outputs of one trader, kept under `snapshots/guard.<trader>`."""

    def __init__(self, bus: Bus, trader: str) -> None:
        self._bus = bus
        self._trader = trader
        self._key = f"guard.{trader}"
        self.desk_run = f"desk.{trader}.guard"
        self.guard = Guard(DEFAULTS, trader=trader)
        self.places = Places()
        self._outbox = Outbox(bus)
        self._in_outbox: list[Output] = []
        self._pending: list[Output] = []
        self._revision = 0
        self._changed = asyncio.Event()
        self._changes = self._stored = 0
        self._left = False
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._halting: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Take up what was stored, and publish its outputs again. Raises BusError and InvalidInput."""
        found = await self._bus.get(subjects.SNAPSHOTS, self._key)
        if found is None:
            return
        value, self._revision = found
        try:
            data = json.loads(value)
            if data["version"] != VERSION:
                raise InvalidInput(f"the guard's stored state has version {data['version']}")
            self.guard = Guard.restore(data["guard"])
            self.places = Places(
                data["stream_seq"],
                data["market_seq"],
                data["commands_seq"],
                data["trader_seq"],
                dict(data["seqs"]),
                list(data["runs"]),
                CarriedOut(data.get("carried_out")),
            )
            outputs = [Output(subject, msg_id, text.encode()) for subject, msg_id, text in data["outputs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"the guard's stored state is unreadable: {type(error).__name__}") from None
        self._hand_over(outputs)

    def say(self, answer: Answer, *, of_run: bool = True, now: bool = False) -> list[Output]:
        """Take on what an answer says: its events, numbered, and the halt's command.

        `of_run`: at the run's time and under its id; otherwise the desk's, at the wall's. With `now` the
        halt is published before anything is stored, since it has to block within milliseconds.
        """
        state = self.guard.state
        run_id = state.run_id if of_run and state.run_id else self.desk_run
        recorded = datetime.now(UTC)
        time = recorded if run_id == self.desk_run else state.time
        made = []
        if answer.halt is not None:
            halt = answer.halt
            command = Halt(
                command_id=halt.command_id, by="guard", reason=halt.reason.text, run_id=state.run_id
            )
            output = Output(
                subjects.command(self._trader, "halt"), halt.command_id, command.model_dump_json().encode()
            )
            made.append(output)
            measures.HALTS.labels(code=halt.reason.code).inc()
            log.error("halted", code=halt.reason.code, reason=halt.reason.text)
            if now:
                task = asyncio.get_running_loop().create_task(self._send_now(output))
                self._halting.add(task)
                task.add_done_callback(self._halting.discard)
        for body in answer.events:
            seq = self.places.seqs[run_id] = self.places.seqs.get(run_id, 0) + 1
            data = encode(
                body,
                trader=self._trader,
                run_id=run_id,
                emitter="guard",
                seq=seq,
                time=time,
                recorded=recorded,
            )
            subject = subjects.event(TYPE_OF[type(body)], self._trader)
            made.append(Output(subject, str(event_id(run_id, "guard", seq)), data))
        self._pending += made
        self.change()
        return made

    async def _send_now(self, output: Output) -> None:
        """Publish a halt at once; should this fail, the outbox sends it again under the same id."""
        try:
            await self._bus.store(output.subject, output.data, msg_id=output.msg_id, timeout=1)
        except NotStored as error:
            log.warning("halt_not_stored_yet", detail=str(error))

    def change(self) -> None:
        """The state differs from what is stored."""
        self._changes += 1
        self._changed.set()

    async def saved(self) -> None:
        """Wait until everything up to now is stored. Raises BusError when the guard leaves before that."""
        if self._stored == self._changes:
            return
        if self._left:
            raise BusError("the guard is leaving")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._changes, done))
        await done

    def _value(self) -> bytes:
        unsent = self._in_outbox[len(self._in_outbox) - len(self._outbox) :]
        data: dict[str, Any] = {
            "version": VERSION,
            "stream_seq": self.places.stream_seq,
            "market_seq": self.places.market_seq,
            "commands_seq": self.places.commands_seq,
            "trader_seq": self.places.trader_seq,
            "seqs": self.places.seqs,
            "runs": self.places.runs,
            "carried_out": self.places.carried_out.kept(),
            "guard": self.guard.snapshot(),
            "outputs": [[out.subject, out.msg_id, out.data.decode()] for out in (*unsent, *self._pending)],
        }
        return json.dumps(data, separators=(",", ":")).encode()

    def _hand_over(self, outputs: list[Output]) -> None:
        del self._in_outbox[: len(self._in_outbox) - len(self._outbox)]
        for output in outputs:
            self._in_outbox.append(output)
            self._outbox.add(output.subject, output.data, output.msg_id)

    async def run(self) -> None:
        """Store and publish for ever. Ends with Conflict when another guard writes the same key."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outbox.run())
            group.create_task(self._write())

    async def _write(self) -> None:
        while not told_to_leave():
            await self._changed.wait()
            self._changed.clear()
            version, count = self._changes, len(self._pending)
            value = self._value()
            if len(value) > _SIZE_WARNED:
                log.warning("guard_state_large", bytes=len(value))
            with measures.STORE_SECONDS.time():
                await self._put(value)
            self._stored = version
            self._hand_over(self._pending[:count])
            del self._pending[:count]
            waiting, self._waiters = self._waiters, []
            for wanted, waiter in waiting:
                if wanted > version:
                    self._waiters.append((wanted, waiter))
                elif not waiter.done():
                    waiter.set_result(None)

    async def _put(self, value: bytes) -> None:
        pause = 0.02
        while not told_to_leave():
            try:
                self._revision = await self._bus.put(
                    subjects.SNAPSHOTS, self._key, value, revision=self._revision
                )
                return
            except Conflict:
                raise
            except BusError as error:
                log.warning("guard_state_not_stored", detail=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
        raise asyncio.CancelledError

    async def settle(self, seconds: float) -> None:
        """Before leaving: store and publish what is waiting, for at most so long. Nothing is stored after."""
        try:
            async with asyncio.timeout(seconds):
                await self.saved()
                await self._outbox.drained()
        except TimeoutError:
            log.warning("left_with_outputs_unsent", count=len(self._outbox))
        self._left = True

    def leave(self) -> None:
        """Nothing is stored any more: whoever waits for it hears so."""
        self._left = True
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(BusError("the guard is leaving"))
