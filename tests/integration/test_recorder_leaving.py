"""A recorder that is told to leave leaves, whatever comes in that very moment."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from services.recorder.intake import Intake
from services.shared import subjects
from tests.conftest import NatsForTests

LAST = "$JS.ACK.EVENTS.recorder.1.1.1.1700000000000000000.0"


class Taken:
    """A delivery, as far as an intake looks at it."""

    def __init__(self, message: Msg) -> None:
        self.reply = message.reply


async def test_a_cancellation_in_the_moment_of_a_message_is_not_lost(fresh_nats: NatsForTests) -> None:
    bus = await fresh_nats.connect("recorder")
    try:
        intake = Intake(bus, subjects.EVENTS, "nobody-has-this", batch=10, read=Taken)
        await intake.open()
        taking = asyncio.create_task(intake.take())
        while not intake._wake._waiters:  # noqa: ASYNC110 - it waits inside
            await asyncio.sleep(0)
        await intake._receive(Msg(bus.client, subject="trade.main.closed", reply=LAST, data=b"{}"))
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await intake.close()
    finally:
        await bus.close()
