"""The recorder's process: each stream's messages into the database, then acknowledged.

While one batch is written the next one comes in and is read; no more than these two are held. With the
database away nothing is acknowledged and nothing more is asked for; it catches up when it is back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from services.recorder import measures
from services.recorder.connection import Database
from services.recorder.desk_state import Backlog, DeskState, Pace
from services.recorder.intake import Intake, leave_ids_unread
from services.recorder.retention import Retention
from services.recorder.settings import RecorderSettings
from services.recorder.writer import Delivery, Writer, Written
from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.errors import StorageUnavailable
from services.shared.service import Health, beat, load_settings, read_secret, run_service

log = structlog.get_logger(__name__)

_SERVICE = "recorder"
_LOOK_EVERY = 1.0
_LOOK = "look"
_PATIENCE = 60.0
_NOTE_WITHIN = 10.0


class Recorder:
    """Records every stream that `subjects` names for it, until cancelled."""

    def __init__(self, bus: Bus, health: Health, settings: RecorderSettings) -> None:
        leave_ids_unread(bus.client)
        self._bus = bus
        self._health = health
        self._settings = settings
        self._password = read_secret(settings.database_password_file)
        self._away: dict[str, str] = {}
        self._intakes: dict[str, Intake[Delivery]] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._pace = Pace()

    async def run(self) -> None:
        """Record, watch the lag and make room in the streams."""
        looking, keeping = self._writer(), self._writer()
        noting = Database(self._settings.database_url, self._password, answer_within=_NOTE_WITHIN)
        state = DeskState(
            self._bus,
            noting,
            self._health,
            instance=self._settings.instance,
            trader=self._settings.trader,
            backlogs=self._backlogs,
            pace=self._pace,
        )
        retention = Retention(self._bus, keeping.traders, keep=timedelta(days=self._settings.keep_days))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(beat(self._bus, self._health, _SERVICE, self._settings.instance))
                tasks.create_task(self._look(looking))
                tasks.create_task(retention.run())
                tasks.create_task(state.run(), name="desk-state")
                for stream in subjects.user(subjects.RECORDER).streams:
                    tasks.create_task(self._record(stream), name=f"record-{stream}")
        finally:
            await looking.close()
            await keeping.close()
            await noting.close()

    def _writer(self) -> Writer:
        return Writer(self._settings.database_url, self._password)

    async def _record(self, stream: str) -> None:
        def read(message: Msg) -> Delivery:
            return Delivery(stream, message)

        intake = Intake(self._bus, stream, subjects.RECORDER, batch=self._settings.batch, read=read)
        self._intakes[stream] = intake
        writer = self._writer()
        held: list[Delivery] = []
        written: list[Delivery] = []
        try:
            await intake.open()
            while not told_to_leave():
                if not intake.full:
                    await intake.acknowledge(written)
                    written = []
                held = await intake.take()
                writing = asyncio.create_task(self._until_written(writer, stream, held))
                try:
                    await intake.acknowledge(written)  # while the database works
                    await asyncio.shield(writing)
                finally:
                    if not writing.done():
                        writing.cancel()
                        await asyncio.wait({writing})
                written, held = held, []
        finally:
            await intake.acknowledge(written)
            await intake.give_back(held)
            await intake.close()
            await writer.close()

    async def _until_written(self, writer: Writer, stream: str, batch: Sequence[Delivery]) -> None:
        pause = 0.1
        while True:
            try:
                began = time.perf_counter()
                written = await writer.write(batch)
                self._measure(time.perf_counter() - began, len(batch))
                break
            except StorageUnavailable as error:
                if stream not in self._away:
                    log.warning("database_away", stream=stream, detail=str(error))
                self._away[stream] = str(error)
                self._tell()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
        if self._away.pop(stream, None) is not None:
            log.info("database_back", stream=stream)
            self._tell()
        _count(stream, len(batch), written)

    def _measure(self, seconds: float, messages: int) -> None:
        measures.BATCH_SECONDS.observe(seconds)
        self._pace.note(seconds, messages)

    def _tell(self) -> None:
        problems = [intake.problem for intake in self._intakes.values() if intake.problem]
        measures.DATABASE_UP.set(0 if self._away else 1)
        if self._away:
            self._health.unready(f"database away: {next(iter(self._away.values()))}")
        elif not self._bus.connected:
            self._health.unready("NATS away")
        elif problems:
            self._health.unready(f"no consumer: {problems[0]}")
        else:
            self._health.ready("recording")

    async def _look(self, writer: Writer) -> None:
        """Ask the streams how far behind the recorder is, and the database whether it is there."""
        while not told_to_leave():
            try:
                await writer.traders()
                self._away.pop(_LOOK, None)
            except StorageUnavailable as error:
                self._away[_LOOK] = str(error)
            lag = 0
            for stream in self._intakes:
                try:
                    info = await self._bus.js.consumer_info(stream, subjects.RECORDER, timeout=2)
                except (NatsError, TimeoutError, OSError):
                    continue
                behind = (info.num_pending or 0) + (info.num_ack_pending or 0)
                measures.LAG.labels(stream).set(behind)
                floor = info.ack_floor.stream_seq if info.ack_floor else 0
                self._backlogs.setdefault(stream, Backlog()).note(behind, floor, time.monotonic())
                lag += behind
            self._health.lag = lag
            self._tell()
            await asyncio.sleep(_LOOK_EVERY)


def _count(stream: str, messages: int, written: Written) -> None:
    for kind, new in written.new.items():
        measures.RECORDED.labels(kind).inc(new)
    measures.DEAD_LETTERS.labels(stream).inc(written.dead)
    measures.DUPLICATES.inc(written.repeated)
    measures.BATCH_MESSAGES.observe(messages)
    if written.dead:
        log.warning("dead_letters", stream=stream, count=written.dead)


def serve() -> int:
    """Run the service with the environment's settings; returns the process's exit code."""
    settings = load_settings(RecorderSettings)

    async def main(health: Health) -> None:
        bus = await Bus.connect(
            settings.nats_url,
            user=_SERVICE,
            password=read_secret(settings.nats_password_file),
            patience=_PATIENCE,
        )
        try:
            await Recorder(bus, health, settings).run()
        finally:
            await bus.close()

    return run_service(_SERVICE, settings, main)


__all__ = ["Recorder", "serve"]
