"""What the API writes down of its own: who did what, kept until NATS takes it."""

from __future__ import annotations

import asyncio

from services.api.journal import Journal
from services.api.line import Line
from services.shared import subjects
from services.shared.events import ActionTaken
from services.shared.wire import decode
from tests.conftest import NatsForTests
from tests.following import following


async def test_an_action_taken_before_nats_was_there_is_stored_once_with_who_did_it(
    fresh_nats: NatsForTests,
) -> None:
    line = Line(fresh_nats.url, fresh_nats.password("api"))
    journal = Journal(line, "main")
    written = journal.note("ann (console)", "operator", "alert.acknowledge", subject="a1")
    again = journal.note("ann (console)", "operator", "logout")
    working = [asyncio.create_task(line.run()), asyncio.create_task(journal.run())]
    admin = await fresh_nats.connect("admin")
    try:
        async with following(admin, subjects.EVENTS, subjects.event("action", "main")) as stored:
            events = [decode((await anext(stored)).data) for _ in range(2)]
        assert await admin.last_sequence(subjects.EVENTS) == 2
    finally:
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        await line.close()
        await admin.close()
    assert [str(event.envelope.id) for event in events] == [written, again]
    assert {event.envelope.emitter for event in events} == {"api"}
    assert events[0].body == ActionTaken(
        by="ann (console)", role="operator", action="alert.acknowledge", subject="a1"
    )
