"""A service's bus while its NATS stands still, for longer and shorter, and is killed: nothing ends, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop
from nats.errors import FlushTimeoutError

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import BusError
from services.shared.outbox import Outbox
from tests.conftest import NatsForTests
from tests.following import when_back, when_left

_SUBJECT = subjects.event("equity", "main")
_FAULTS = ("late", "killed", "left", "late", "killed", "late")
_MESSAGES = 1000
_PATIENCE = 60


async def test_an_answer_that_comes_after_it_was_given_up_ends_nothing(
    fresh_nats: NatsForTests, caplog: pytest.LogCaptureFixture
) -> None:
    bus = await fresh_nats.connect("trader")
    fresh_nats.freeze()
    try:
        with pytest.raises(FlushTimeoutError):
            await bus.client.flush(1)
    finally:
        fresh_nats.thaw()
    outbox = Outbox(bus)
    sending = asyncio.create_task(outbox.run())
    outbox.add(_SUBJECT, b"{}", "first")
    async with asyncio.timeout(_PATIENCE):
        await outbox.drained()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await bus.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_reader_that_has_ended_is_noticed(fresh_nats: NatsForTests) -> None:
    """nats-py ends it at whatever it did not expect, and says that it is connected."""
    bus = await fresh_nats.connect("trader")
    left, back = when_left(bus), when_back(bus)
    reader = bus.client._reading_task
    assert reader is not None
    reader.cancel()
    async with asyncio.timeout(_PATIENCE):
        await back.wait()
        assert await bus.last_sequence(subjects.EVENTS) == 0
    assert left.is_set()
    await bus.close()


def test_a_connection_just_lost_is_told_as_one(fresh_nats: NatsForTests) -> None:
    """uvloop has an error of its own for it. The tasks that might meet it first are ended: nobody else tells."""

    async def work() -> None:
        bus = await fresh_nats.connect("trader")
        back, client = when_back(bus), bus.client
        for task in (client._reading_task, client._flusher_task):
            assert task is not None
            task.cancel()
            await asyncio.wait((task,))
        connection: Any = client._transport
        connection._io_writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(BusError, match="ConnectionLost"):
            await bus.publish(_SUBJECT, b"{}")
        async with asyncio.timeout(_PATIENCE):
            await back.wait()
            await bus.store(_SUBJECT, b"{}", msg_id="after")
        await bus.close()

    _on_uvloop(work)


def test_whatever_happens_to_the_server_everything_is_stored_once(fresh_nats: NatsForTests) -> None:
    async def work() -> None:
        bus = await fresh_nats.connect("trader")
        outbox = Outbox(bus)
        sending = asyncio.create_task(outbox.run())
        for number, fault in enumerate(_FAULTS):
            for message in range(_MESSAGES):
                outbox.add(_SUBJECT, b"{}", f"{number}-{message}")
            await _suffer(fault, bus, fresh_nats)
            drained = asyncio.create_task(outbox.drained())
            async with asyncio.timeout(_PATIENCE):
                await asyncio.wait((drained, sending), return_when=asyncio.FIRST_COMPLETED)
            assert not sending.done(), sending.exception()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        stored = [message async for message in bus.read(subjects.EVENTS)]
        assert len(stored) == _MESSAGES * len(_FAULTS)
        await bus.close()

    _on_uvloop(work)


def _on_uvloop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do it on the loop that services run on; a thread of its own leaves pytest's alone."""

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())

    with ThreadPoolExecutor(1) as thread:
        thread.submit(run).result()


async def _suffer(fault: str, bus: Bus, server: NatsForTests) -> None:
    """Have the server stand still until an answer was given up or until it was left, or die and start."""
    if fault == "killed":
        server.kill()
        await asyncio.to_thread(server.start)
        return
    left = when_left(bus)
    server.freeze()
    try:
        async with asyncio.timeout(_PATIENCE):
            if fault == "late":
                with pytest.raises(FlushTimeoutError):
                    await bus.client.flush(1)
            else:
                await left.wait()
    finally:
        server.thaw()
