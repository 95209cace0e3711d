"""Requests as the trader's inbox answers them, with the test in the guard's place: stored in time, late, or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import NAMED_BY_THE_GUARD, NOT_STORED, CommandReply, parse_command
from services.shared.repeats import CarriedOut, identity
from services.shared.verbs import VERBS
from services.trader.inbox import Inbox, StoredCommand
from services.trader.requests import TOO_LATE


async def test_a_plain_copy_of_a_repeat_blocks_nothing(connect: Any, trader_id: str) -> None:
    """NATS drops the second message of one Nats-Msg-Id, whoever chose that; its plain copy is heard."""
    bus: Bus = await connect("trader")
    operator: Bus = await connect("operator")
    done = CarriedOut()
    inbox = Inbox(bus, trader_id, done, commands_seq=0, signals_seq=0)
    heard: asyncio.Queue[str] = asyncio.Queue()
    inbox.on_block = heard.put_nowait
    await inbox.open()
    await bus.client.flush()
    pause = b'{"command_id": "a"}'
    await operator.store(subjects.command(trader_id, "pause"), pause, msg_id=f"{trader_id}-a")
    assert await asyncio.wait_for(heard.get(), 10) == "pause"
    done.note(identity("pause", parse_command("pause", pause)[0]), 1)
    inbox.blocked = None
    await operator.store(subjects.command(trader_id, "pause"), pause, msg_id=f"{trader_id}-a")
    await operator.store(subjects.command(trader_id, "stop"), pause)
    assert await asyncio.wait_for(heard.get(), 10) == "stop"
    assert heard.empty()
    await inbox.close()


class Twins:
    """A trader's inbox whose guard is the test: what is asked is stored when the test says so, or never."""

    def __init__(self, bus: Bus, operator: Bus, trader: str) -> None:
        self._operator = operator
        self._trader = trader
        self.inbox = Inbox(bus, trader, CarriedOut(), commands_seq=0, signals_seq=0)

    def ask(self, verb: str, data: bytes) -> asyncio.Task[bytes]:
        """Ask on `control`."""
        return asyncio.create_task(
            self._operator.request(subjects.control(self._trader, verb), data, timeout=10)
        )

    async def store(self, verb: str, data: bytes) -> None:
        """What the guard, or the API, does."""
        await self._operator.store(subjects.command(self._trader, verb), data)

    async def take(self) -> StoredCommand:
        """The next command."""
        async with asyncio.timeout(10):
            while not isinstance(found := self.inbox.take(), StoredCommand):
                await self.inbox.wait()
        return found

    def carry_out(self, command: StoredCommand, reason: str = "") -> None:
        """Say that it was carried out."""
        self.inbox.carried_out(
            command, CommandReply(status="accepted", command_id=command.command_id, reason=reason)
        )


@pytest.fixture
async def twins(connect: Any, trader_id: str) -> AsyncIterator[Twins]:
    bus: Bus = await connect("trader")
    twins = Twins(bus, await connect("operator"), trader_id)
    await twins.inbox.open()
    for _ in range(2):  # nats-py sends a flush's ping before what is still to be sent, and that with it
        await bus.client.flush()
    reading = asyncio.create_task(twins.inbox.run())
    yield twins
    reading.cancel()
    await twins.inbox.close()


async def answered(asking: asyncio.Task[bytes]) -> CommandReply:
    return CommandReply.model_validate_json(await asking)


async def test_a_request_does_not_wait_for_the_one_before_it(twins: Twins) -> None:
    asked = (b'{"command_id": "a"}', b'{"command_id": "b"}')
    asking = [twins.ask("pause", data) for data in asked]
    for data in asked:
        await twins.store("pause", data)
    taken = [await twins.take() for _ in asked]
    assert not any(request.done() for request in asking)
    for command in reversed(taken):
        twins.carry_out(command, f"at {command.seq}")
    answers = [await answered(request) for request in asking]
    assert [answer.command_id for answer in answers] == ["a", "b"]
    assert [answer.reason for answer in answers] == [f"at {command.seq}" for command in taken]


async def test_requests_without_an_id_are_answered_in_the_order_of_asking(twins: Twins) -> None:
    asking = [twins.ask("resume", b"{}") for _ in range(3)]
    for number in range(3):
        await twins.store("resume", b'{"command_id": "%s%d"}' % (NAMED_BY_THE_GUARD.encode(), number))
    taken = [await twins.take() for _ in asking]
    for command in reversed(taken):
        twins.carry_out(command)
    answers = [await answered(request) for request in asking]
    assert [answer.command_id for answer in answers] == [f"{NAMED_BY_THE_GUARD}{n}" for n in range(3)]


async def test_what_is_stored_and_not_carried_out_in_time_is_answered_as_that(twins: Twins) -> None:
    asking = twins.ask("pause", b'{"command_id": "a"}')
    await twins.store("pause", b'{"command_id": "a"}')
    answer = await answered(asking)
    assert (answer.status, answer.reason) == ("accepted", "stored; not carried out yet")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("named", [True, False])
async def test_what_nobody_stores_is_refused_and_a_late_deploy_or_resume_comes_to_nothing(
    twins: Twins, verb: str, named: bool
) -> None:
    content = {"reason": "why not"} | ({"command_id": "mine"} if named else {})
    refused = await answered(twins.ask(verb, json.dumps(content).encode()))
    assert refused.status == "rejected"
    assert refused.reason.startswith(NOT_STORED)
    assert "the guard" in refused.reason
    # The guard stores it all the same: it was frozen.
    late = json.dumps(content | {"command_id": "mine" if named else f"{NAMED_BY_THE_GUARD}1"}).encode()
    await twins.store(verb, late)
    taken = await twins.take()
    assert (taken.command is None) == (verb in ("deploy", "resume"))
    assert taken.error == (TOO_LATE if verb in ("deploy", "resume") else "")
    # Asked again, and stored in time: that is done.
    again = twins.ask(verb, json.dumps(content).encode())
    await twins.store(verb, late)
    taken = await twins.take()
    assert taken.command is not None
    twins.carry_out(taken)
    assert (await answered(again)).status == "accepted"


async def test_what_an_operator_stores_is_not_taken_for_what_was_refused(twins: Twins) -> None:
    assert (await answered(twins.ask("deploy", b"{}"))).status == "rejected"
    await twins.store("deploy", b"{}")
    await twins.store("deploy", b'{"command_id": "mine"}')
    assert [(await twins.take()).error for _ in range(2)] == ["", ""]
