"""What people ask of the guard's process: halts, resets, limits, and stops in a silent trader's place."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.micro import add_service
from nats.micro.service import ServiceConfig

from services.risk.control import Control
from services.risk.guard import Guard
from services.risk.silence import Heartbeats
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import (
    NAMED_BY_THE_GUARD,
    NOT_STORED,
    VERBS,
    CommandReply,
    parse_command,
)
from services.shared.errors import NoAnswer, NotStored
from services.shared.events import LimitsChanged
from services.shared.wire import decode
from tests.guard_at_work import Wired, beat, go_live, lose_3000, until
from tests.guard_facts import (
    Desk,
    WireTrader,
    closed,
    entry,
    fill,
    status,
    terms,
)


async def test_a_halt_is_stored_as_a_command_and_latched_over_restart_until_a_reset(wired: Wired) -> None:
    answer = await lose_3000(wired)
    assert answer.halt is not None
    assert answer.halt.reason.code == "drawdown"
    (stored,) = await until(lambda: wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS))
    command, _ = parse_command("halt", stored)
    assert (command.command_id, command.by) == (answer.halt.command_id, "guard")
    await wired.guard.kill()
    await wired.guard.start()
    denied = await wired.ask(wired.next(judge=[entry(20)]))
    assert [reason.code for reason in denied.verdicts[0].reasons] == ["halted"]

    await wired.ask(wired.next(status("HALTED")))
    await wired.operator.store(subjects.command(wired.trader, "reset"), b'{"reason": "mended", "by": "ann"}')

    async def resets() -> list[LimitsChanged]:
        found = [decode(data).body for data in await wired.stored(subjects.event("limits", wired.trader))]
        return [body for body in found if isinstance(body, LimitsChanged) and body.action == "reset"]

    (change,) = await until(resets)
    assert (change.by, change.reason, change.new["halted"], change.new["peak"]) == (
        "ann",
        "mended",
        None,
        "7000",
    )
    await wired.guard.kill()
    await wired.guard.start()
    second = Desk(guard=wired.desk.guard, run_id=f"{wired.wire.run_id}-2", time=wired.desk.time)
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved
    assert len(await resets()) == 1


async def test_a_run_that_begins_right_after_a_reset_is_judged_without_the_halt(wired: Wired) -> None:
    await lose_3000(wired)
    await wired.ask(wired.next(status("HALTED")))
    second = Desk(guard=Guard(), run_id=f"{wired.wire.run_id}-2", time=wired.desk.time)
    await wired.operator.store(subjects.command(wired.trader, "reset"), b'{"reason": "mended"}')
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved


async def test_a_reset_stored_before_a_halt_clears_nothing(wired: Wired) -> None:
    await wired.begin()
    await wired.operator.store(subjects.command(wired.trader, "reset"), b'{"reason": "too early"}')

    async def passed() -> bool:
        return bool((await wired.state()).get("commands_seq"))

    await until(passed)
    await wired.ask(wired.next(status("HALTED", command_id="later")))
    await wired.guard.kill()
    await wired.guard.start()
    denied = await wired.ask(wired.next(judge=[entry(20)]))
    assert "halted" in [reason.code for reason in denied.verdicts[0].reasons]


async def test_limits_tighten_while_deployed_loosen_only_after_and_every_change_is_an_event(
    wired: Wired,
) -> None:
    await wired.begin()
    tighter = await wired.change({"drawdown": "2500"}, "careful")
    assert (tighter.status, tighter.limits["drawdown"]) == ("accepted", "2500")
    looser = await wired.change({"drawdown": "2600"})
    assert looser.status == "rejected"
    assert "loosen only when flat" in looser.reason
    assert (await wired.change({"drowdown": "1"})).status == "rejected"
    assert (await wired.change({})).limits["drawdown"] == "2500"
    found = await wired.bus.get(subjects.LIMITS, wired.trader)
    assert found is not None
    assert json.loads(found[0])["limits"]["drawdown"] == "2500"
    await wired.guard.kill()
    await wired.guard.start()
    assert (await wired.change({})).limits["drawdown"] == "2500"
    await wired.ask(wired.next(status("STOPPED")))
    raised = await wired.change({"drawdown": "2600"})
    assert raised.status == "accepted"
    found_events = await until(lambda: wired.stored(subjects.event("limits", wired.trader)))
    bodies = [decode(data).body for data in found_events]
    told = [(b.old, b.new, b.by, b.reason, b.command_id) for b in bodies if isinstance(b, LimitsChanged)]
    assert told == [
        ({"drawdown": "3000"}, {"drawdown": "2500"}, "ann", "careful", tighter.command_id),
        ({"drawdown": "2500"}, {"drawdown": "2600"}, "ann", "test", raised.command_id),
    ]


@pytest.mark.parametrize("verb", ["stop", "halt"])
async def test_stop_and_halt_are_answered_and_stored_while_the_trader_is_dead(
    wired: Wired, verb: str
) -> None:
    await wired.change({})
    subject = subjects.control(wired.trader, verb)
    mine = f"{verb}-{wired.trader}"
    request = json.dumps({"command_id": mine}).encode()
    reply = CommandReply.model_validate_json(await wired.operator.request(subject, request, timeout=5))
    assert reply.status == "accepted"
    stored = await wired.stored(subjects.command(wired.trader, verb), subjects.COMMANDS)
    command, _ = parse_command(verb, stored[0])
    assert command.command_id == reply.command_id == mine
    other = json.dumps({"command_id": mine, "reason": "again"}).encode()
    answers = await asyncio.gather(
        *(wired.operator.request(subject, data, timeout=5) for data in (request, other, b"", b"{"))
    )
    replies = [CommandReply.model_validate_json(answer) for answer in answers]
    assert [reply.status for reply in replies] == ["accepted", "accepted", "accepted", "rejected"]
    assert [reply.command_id for reply in replies[:2]] == [mine, mine]
    assert all(reply.command_id for reply in replies)


async def test_a_reset_is_stored_by_the_guard_and_answered_by_it_while_the_trader_is_dead(
    wired: Wired,
) -> None:
    await wired.change({})
    subject, mine = subjects.control(wired.trader, "reset"), f"reset-{wired.trader}"
    asked = json.dumps({"command_id": mine, "reason": "looked at it"}).encode()
    reply = CommandReply.model_validate_json(await wired.operator.request(subject, asked, timeout=5))
    assert (reply.status, reply.command_id) == ("accepted", mine)
    (stored,) = await wired.stored(subjects.command(wired.trader, "reset"), subjects.COMMANDS)
    command, _ = parse_command("reset", stored)
    assert command.command_id == mine
    refused = CommandReply.model_validate_json(await wired.operator.request(subject, b"{}", timeout=5))
    assert refused.status == "rejected"


async def test_no_trader_can_command(wired: Wired) -> None:
    await wired.begin()
    for verb in VERBS:
        with pytest.raises(NotStored):
            await wired.bus.store(
                subjects.command(wired.trader, verb), b'{"reason": "all is well"}', timeout=1
            )
    await wired.change({})
    assert await wired.stored(f"command.{wired.trader}.>", subjects.COMMANDS) == []


@pytest.mark.parametrize("verb", ["deploy", "resume"])
async def test_what_raises_risk_is_refused_and_not_kept_while_the_trader_is_silent(
    wired: Wired, verb: str
) -> None:
    await wired.change({})
    subject, asked = subjects.control(wired.trader, verb), json.dumps({"command_id": wired.trader}).encode()

    async def refused() -> bool:
        reply = CommandReply.model_validate_json(await wired.operator.request(subject, asked, timeout=5))
        assert reply.command_id == wired.trader
        return reply.status == "rejected" and reply.reason.startswith(NOT_STORED)

    # A guard that has just begun gives the trader time to be heard; what is asked then is stored.
    await until(refused)
    before = await wired.stored(subjects.command(wired.trader, verb), subjects.COMMANDS)
    assert await refused()
    assert await wired.stored(subjects.command(wired.trader, verb), subjects.COMMANDS) == before


async def test_everything_asked_is_stored_at_once_in_the_order_of_asking(wired: Wired) -> None:
    await wired.change({})
    asked = [(VERBS[number * number % 5], f"{wired.trader}-{number}") for number in range(100)]
    beating = asyncio.create_task(beat(wired.bus, wired.trader))
    # A deploy that is heard before the first beat is refused, and not stored: the trader counts as silent.
    await asyncio.sleep(0)
    for _ in range(2):  # nats-py sends a flush's ping before what is still to be sent, and that with it
        await wired.bus.client.flush()
    for verb, command_id in asked:
        data = json.dumps({"command_id": command_id}).encode()
        await wired.operator.publish(subjects.control(wired.trader, verb), data)

    async def stored() -> list[tuple[str, str]]:
        found = [
            message
            async for message in wired.bus.read(subjects.COMMANDS, subject=f"command.{wired.trader}.>")
        ]
        return [(each.subject.rpartition(".")[2], json.loads(each.data)["command_id"]) for each in found]

    async def all_stored() -> bool:
        return len(await stored()) == len(asked)

    try:
        await until(all_stored)
    finally:
        beating.cancel()
    assert await stored() == asked


async def test_storing_needs_none_of_the_guards_memory(connect: Any, trader_id: str) -> None:
    """So a guard that starts again stores before it has restored anything."""
    bus: Bus = await connect("risk")
    operator: Bus = await connect("operator")
    service = await add_service(
        bus.client, ServiceConfig(name="desk-risk", version="0.0.0", queue_group="risk")
    )
    await Control(bus, trader_id, Heartbeats(asyncio.get_running_loop().time())).open(service)
    for _ in range(2):  # nats-py sends a flush's ping before what is still to be sent, and that with it
        await bus.client.flush()
    answer = await operator.request(subjects.control(trader_id, "stop"), b"{}", timeout=5)
    reply = CommandReply.model_validate_json(answer)
    assert reply.status == "accepted"
    subject = subjects.command(trader_id, "stop")
    (stored,) = [message.data async for message in bus.read(subjects.COMMANDS, subject=subject)]
    assert json.loads(stored)["command_id"] == reply.command_id
    await service.stop()


async def test_a_stop_under_a_used_id_is_stored_for_a_dead_trader(wired: Wired) -> None:
    await wired.change({})
    mine = f"used-{wired.trader}"
    used = json.dumps({"command_id": mine}).encode()
    await wired.operator.store(subjects.command(wired.trader, "deploy"), used, msg_id=mine)
    await wired.operator.store(subjects.command(wired.trader, "pause"), used)
    reply = await wired.operator.request(subjects.control(wired.trader, "stop"), used, timeout=5)
    assert CommandReply.model_validate_json(reply).command_id == mine
    assert len(await wired.stored(subjects.command(wired.trader, "stop"), subjects.COMMANDS)) == 1


@pytest.mark.parametrize("named", [True, False])
async def test_the_answer_is_left_to_a_living_trader(wired: Wired, named: bool) -> None:
    await wired.change({})
    subject = subjects.command(wired.trader, "stop")
    beating = asyncio.create_task(beat(wired.bus, wired.trader))
    try:
        asked = json.dumps({"command_id": wired.trader} if named else {}).encode()
        with pytest.raises(NoAnswer):
            await wired.operator.request(subjects.control(wired.trader, "stop"), asked, timeout=2.5)
    finally:
        beating.cancel()
    (stored,) = await wired.stored(subject, subjects.COMMANDS)
    command_id = json.loads(stored)["command_id"]
    assert command_id == wired.trader if named else command_id.startswith(NAMED_BY_THE_GUARD)


async def test_a_stop_that_a_starting_trader_did_not_hear_is_answered_though_it_is_alive(
    wired: Wired,
) -> None:
    await wired.change({})
    beating = asyncio.create_task(beat(wired.bus, wired.trader))
    try:
        reply = await wired.operator.request(subjects.control(wired.trader, "stop"), b"{}", timeout=5)
    finally:
        beating.cancel()
    assert CommandReply.model_validate_json(reply).status == "accepted"
    assert len(await wired.stored(subjects.command(wired.trader, "stop"), subjects.COMMANDS)) == 1


async def test_a_repeated_reset_does_nothing_and_a_halt_is_a_new_one_in_the_next_run(wired: Wired) -> None:
    await go_live(wired)
    halt, reset = subjects.command(wired.trader, "halt"), subjects.command(wired.trader, "reset")

    async def halts() -> list[str]:
        return [halt[0] for halt in (await wired.state())["guard"]["halts"]]

    async def carried_out() -> int:
        """Everything stored is carried out, and the state says so."""
        last = await wired.operator.store(subjects.command(wired.trader, "pause"), b"{}")

        async def passed() -> bool:
            return int((await wired.state())["commands_seq"]) >= last

        await until(passed)
        return last

    await wired.operator.store(halt, b'{"command_id": "h1"}')
    await carried_out()
    assert await halts() == ["h1"]
    over = wired.next(fill(2, "sell", "1.0921", purpose="exit"), closed("-1", "9999"), status("HALTED"))
    await wired.ask(over)
    await wired.operator.store(reset, b'{"command_id": "r1", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == []

    await wired.guard.kill()
    await wired.guard.start()
    second = Desk(guard=Guard(), run_id=f"{wired.wire.run_id}-2", terms=terms(mode="live"))
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    await wired.operator.store(halt, b'{"command_id": "h1"}')
    await carried_out()
    # Another run has begun: its halt is a new one, whatever it is called.
    assert await halts() == ["h1"]
    await wired.operator.store(halt, b'{"command_id": "h1"}')
    await wired.ask(wired.next(status("HALTED")))
    await wired.operator.store(reset, b'{"command_id": "r1", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == ["h1"]
    await wired.operator.store(reset, b'{"command_id": "r2", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == []
