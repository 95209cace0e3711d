"""A service's bus while its NATS stands still, for longer and shorter, and is killed: nothing ends, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from nats.errors import FlushTimeoutError

from services.shared import subjects
from services.shared.outbox import Outbox
from tests.conftest import NatsForTests

_SUBJECT = subjects.event("equity", "main")
_FAULTS = (("freeze", 1.2), ("kill", 0.0), ("freeze", 2.5), ("freeze", 0.6), ("kill", 1.0), ("freeze", 1.6))
"""What happens to the server, and for how many seconds: the bus gives an answer a second, twice."""


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
    async with asyncio.timeout(60):
        await outbox.drained()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await bus.close()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_reader_that_has_ended_is_noticed(
    fresh_nats: NatsForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py ends it at whatever it did not expect, and says that it is connected."""
    bus = await fresh_nats.connect("trader")
    leave, left = bus.client.leave_server, asyncio.Event()

    async def leaving() -> None:
        left.set()
        await leave()

    monkeypatch.setattr(bus.client, "leave_server", leaving)
    reader = bus.client._reading_task
    assert reader is not None
    reader.cancel()
    async with asyncio.timeout(60):
        while bus.client._reading_task is reader or not bus.connected:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
        assert await bus.last_sequence(subjects.EVENTS) == 0
    assert left.is_set()
    await bus.close()


def test_whatever_happens_to_the_server_everything_is_stored_once(fresh_nats: NatsForTests) -> None:
    """On uvloop, as services run: it has errors of its own for a connection that is gone."""

    async def work() -> None:
        bus = await fresh_nats.connect("trader")
        outbox = Outbox(bus)
        sending = asyncio.create_task(outbox.run())
        made = 0

        async def make() -> None:
            nonlocal made
            while True:
                made += 1
                outbox.add(_SUBJECT, b"{}", f"message-{made}")
                await asyncio.sleep(0.005)

        making = asyncio.create_task(make())
        for fault, seconds in _FAULTS:
            if fault == "freeze":
                fresh_nats.freeze()
                await asyncio.sleep(seconds)
                fresh_nats.thaw()
            else:
                fresh_nats.kill()
                await asyncio.sleep(seconds)
                await asyncio.to_thread(fresh_nats.start)
            before = made
            async with asyncio.timeout(60):
                while made - len(outbox) < before and not sending.done():  # noqa: ASYNC110 - a length tells nobody
                    await asyncio.sleep(0.05)
            assert not sending.done(), sending.exception()
        making.cancel()
        async with asyncio.timeout(60):
            await outbox.drained()
        sending.cancel()
        await asyncio.gather(making, sending, return_exceptions=True)
        ids = [message async for message in bus.read(subjects.EVENTS)]
        assert len(ids) == made
        await bus.close()

    def on_uvloop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())

    with ThreadPoolExecutor(1) as thread:
        thread.submit(on_uvloop).result()
