"""Writes down how the desk does, every two seconds: who was heard, the streams, deployments, limits and their use.

For who reads the database alone, as Grafana does. It has its own connection and its own patience: whatever of
it fails is tried again two seconds later and never holds up recording. What SQL it takes is in
`state_statements`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.recorder import state_statements as statements
from services.recorder.connection import Database
from services.shared import __version__, subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import Deployment, Heartbeat
from services.shared.errors import BusError, InvalidInput, StorageUnavailable
from services.shared.limit_use import UNKNOWN, RunFacts, Use, day_opening, limit_use
from services.shared.limits import MEANING, NAMES, parse
from services.shared.pulses import Pulse, Watch
from services.shared.service import Health

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger(__name__)

EVERY: Final = 2.0
_ASK_WITHIN = 2.0
_SIZE_EVERY = 30  # rounds
_OLD_PULSE = 60.0

STREAMS: Final = (
    *(stream.name for stream in subjects.STREAMS),
    *(subjects.bucket_stream(bucket) for bucket in subjects.user(subjects.RECORDER).reads),
)
"""The streams that are looked at: all that carry messages, and those of the buckets the recorder may read."""


@dataclass(slots=True)
class Pace:
    """Batches written since the last look."""

    batches: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    messages: int = 0

    def note(self, seconds: float, messages: int) -> None:
        """A batch was written."""
        self.batches += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        self.messages += messages

    def taken(self) -> list[tuple[str, str, float]]:
        """What there was, as measures of the present minute; the next look begins at none."""
        made: list[tuple[str, str, float]] = [
            ("batches", "", self.batches),
            ("batch_seconds", "", self.seconds),
            ("batch_longest", "", self.longest),
            ("recorded", "", self.messages),
        ]
        self.batches, self.seconds, self.longest, self.messages = 0, 0.0, 0.0, 0
        return made


@dataclass(slots=True)
class Backlog:
    """What of a stream is not recorded yet: how many messages, and for how many seconds none has been."""

    messages: int = 0
    stalled: float = 0.0
    _floor: int = -1
    _moved: float = 0.0

    def note(self, messages: int, floor: int, now: float) -> None:
        """The consumer as it is at `now` (monotonic seconds): all up to `floor` is acknowledged."""
        if floor != self._floor or not messages:
            self._floor, self._moved = floor, now
        self.messages, self.stalled = messages, now - self._moved


@dataclass(slots=True)
class Seen:
    """What NATS told at one look; what it did not tell is left out."""

    streams: list[tuple[Any, ...]] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    limits: dict[str, dict[str, str]] = field(default_factory=dict)


class DeskState:
    """Looks and writes for ever. `backlogs` says of each stream what of it is not recorded yet."""

    def __init__(
        self,
        bus: Bus,
        database: Database,
        health: Health,
        *,
        instance: str,
        trader: str,
        backlogs: Mapping[str, Backlog],
        pace: Pace,
    ) -> None:
        self._bus = bus
        self._database = database
        self._health = health
        self._instance = instance
        self._trader = trader
        self._backlogs = backlogs
        self._pace = pace
        self._watch = Watch()
        self._problem: str | None = None
        self._round = 0

    async def run(self) -> None:
        """Listen to the heartbeats and write, until cancelled."""
        await self._bus.subscribe("heartbeat.>", self._watch.hear)
        while not told_to_leave():
            try:
                await self.write()
                problem = None
            except (StorageUnavailable, BusError, InvalidInput) as error:
                problem = str(error)
            if problem != self._problem:
                log.warning("state_not_written", detail=problem) if problem else log.info("state_written")
            self._problem = problem
            await asyncio.sleep(EVERY)

    async def write(self) -> None:
        """Look once and write what is seen. Raises StorageUnavailable."""
        async with self._database.connected() as connection:
            traders = sorted({self._trader, *await _traders(connection)})
        seen = await self._look(traders)
        if told_to_leave():
            return
        async with self._database.connected() as connection, connection.transaction():
            # Lost at a crash, it is written anew two seconds after it: nobody waits for the disk here.
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await self._write_services(connection)
            await self._write_streams(connection, seen)
            await _write_deployments(connection, seen.deployments)
            shares = await _write_limits(connection, seen.limits)
            await self._write_minutes(connection, seen, shares)
        self._round += 1

    # --- looking --------------------------------------------------------------------------------------

    async def _look(self, traders: Sequence[str]) -> Seen:
        seen = Seen()
        if not self._bus.connected:
            return seen
        try:
            for stream in STREAMS:
                await self._ask_stream(stream, seen)
            for trader in traders:
                await self._ask_about(trader, seen)
        except BusError as error:  # nor would the next question be answered
            log.debug("nats_not_seen", error=type(error).__name__)
        return seen

    async def _ask_stream(self, stream: str, seen: Seen) -> None:
        answer = await self._bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=_ASK_WITHIN)
        info = json.loads(answer)
        if "state" not in info:
            return  # there is no such stream yet
        state, empty = info["state"], not info["state"]["messages"]
        backlog = self._backlogs.get(stream)
        told = (
            stream,
            state["messages"],
            state["bytes"],
            info["config"]["max_bytes"],
            state["first_seq"],
            state["last_seq"],
            None if empty else datetime.fromisoformat(state["first_ts"]),
            None if empty else datetime.fromisoformat(state["last_ts"]),
            backlog.messages if backlog else None,
            backlog.stalled if backlog else None,
        )
        seen.streams.append(told)

    async def _ask_about(self, trader: str, seen: Seen) -> None:
        limits = await self._bus.get(subjects.LIMITS, trader)
        deployment = await self._bus.get(subjects.DEPLOYMENTS, trader)
        try:
            if limits is not None:
                texts = json.loads(limits[0])["limits"]
                seen.limits[trader] = {str(name): str(text) for name, text in texts.items()}
            if deployment is not None:
                seen.deployments.append(Deployment.model_validate_json(deployment[0]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.debug("bucket_unreadable", trader=trader, error=type(error).__name__)

    # --- writing --------------------------------------------------------------------------------------

    async def _write_services(self, connection: asyncpg.Connection) -> None:
        # The recorder's own sign of life is that it writes, whether NATS carries its heartbeat or not.
        mine = Heartbeat(
            service=subjects.RECORDER,
            instance=self._instance,
            version=__version__,
            time=datetime.now(UTC),
            state=self._health.state,
            lag=self._health.lag,
        )
        heard = {(pulse.beat.service, pulse.beat.instance): pulse for pulse in self._watch.pulses()}
        heard[mine.service, mine.instance] = Pulse(mine, 0.0)
        rows = [
            (beat.service, beat.instance, beat.version, beat.state, beat.lag, pulse.age)
            for pulse in heard.values()
            if pulse.age < _OLD_PULSE and (beat := pulse.beat)
        ]
        await connection.execute(statements.PULSES, *_columns(rows))
        await connection.execute(statements.FORGET_INSTANCES)

    async def _write_streams(self, connection: asyncpg.Connection, seen: Seen) -> None:
        if seen.streams:
            await connection.execute(statements.STREAMS, *_columns(seen.streams))
            await connection.execute(statements.PART, "NATS", self._bus.server_version)

    async def _write_minutes(
        self, connection: asyncpg.Connection, seen: Seen, shares: Iterable[tuple[str, str, float]]
    ) -> None:
        minutes = [*self._pace.taken(), *shares]
        for stream, messages, size, *_, pending, _ in seen.streams:
            minutes += [("stream_messages", stream, messages), ("stream_bytes", stream, size)]
            if pending is not None:
                minutes.append(("lag", stream, pending))
        if self._round % _SIZE_EVERY == 0:
            minutes.append(("database_bytes", "", await connection.fetchval(statements.SIZE)))
        await connection.execute(statements.MINUTES, *_columns(minutes))


async def _traders(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT DISTINCT trader FROM runs")
    return [row["trader"] for row in rows]


async def _write_deployments(connection: asyncpg.Connection, deployments: Iterable[Deployment]) -> None:
    rows = [
        (
            each.trader,
            each.run_id,
            each.phase,
            each.reason,
            each.paused,
            each.holding,
            each.deployment_time,
            each.expected_completion,
            each.finished,
            each.progress,
            each.updated,
        )
        for each in deployments
    ]
    if rows:
        await connection.execute(statements.DEPLOYMENTS, *_columns(rows))


async def _write_limits(
    connection: asyncpg.Connection, limits: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str, float]]:
    """Write them; returns how much of each is used, as measures of the minute."""
    if not limits:
        return []
    runs = {row["trader"]: row for row in await connection.fetch(statements.RUNS, list(limits))}
    rows, shares = [], []
    for trader, texts in limits.items():
        run = runs.get(trader)
        use = _use(texts, run)
        for place, (name, text) in enumerate(texts.items()):
            action, meaning = MEANING.get(name, ("", ""))
            of_it = use.get(name, UNKNOWN)
            run_id = run["run_id"] if run else ""
            rows.append((trader, name, place, text, action, meaning, run_id, of_it.bound, of_it.used))
            if of_it.bound and of_it.used is not None:
                shares.append(("limit_use", f"{trader} {name}", float(of_it.used / of_it.bound)))
    await connection.execute(statements.LIMITS, *_columns(rows))
    return shares


def _use(texts: Mapping[str, str], run: asyncpg.Record | None) -> dict[str, Use]:
    """As `services.shared.limit_use` has it; nothing where there is no run, or limits that are not known here."""
    if run is None:
        return {}
    try:
        limits = parse({name: text for name, text in texts.items() if name in NAMES})
    except InvalidInput:
        return {}
    terms = json.loads(run["terms"] or "{}")
    day_pnl = None
    if run["first_equity"] is not None:
        opening = day_opening(run["first_equity"], run["day_before"], _decimal(terms.get("balance")))
        day_pnl = run["equity"] - opening
    facts = RunFacts(
        risk_per_trade=_decimal(terms.get("risk_per_trade")),
        equity=run["equity"],
        peak=run["peak"],
        drawdown=run["drawdown"],
        open_risk=run["open_risk"],
        day_pnl=day_pnl,
        streak=run["streak"],
        holding=run["instruments"] or (),
    )
    return limit_use(limits, facts)


def _decimal(text: Any) -> Decimal | None:
    return None if text is None else Decimal(str(text))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


__all__ = ["Backlog", "DeskState", "Pace"]
