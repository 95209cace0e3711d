"""What people ask of the guard's process: halts, resets, limits, and stops in a silent trader's place."""

from __future__ import annotations

import asyncio
import json

import pytest

from services.risk.guard import Guard
from services.shared import subjects
from services.shared.commands import (
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


async def test_no_trader_can_clear_its_own_halt(wired: Wired) -> None:
    await wired.begin()
    await wired.operator.store(subjects.command(wired.trader, "halt"), b'{"reason": "enough"}')
    with pytest.raises(NotStored):
        await wired.bus.store(subjects.command(wired.trader, "reset"), b'{"reason": "all is well"}')
    await wired.change({})
    assert await wired.stored(subjects.command(wired.trader, "reset"), subjects.COMMANDS) == []


async def test_a_stop_under_a_used_id_is_stored_for_a_dead_trader(wired: Wired) -> None:
    await wired.change({})
    mine = f"used-{wired.trader}"
    used = json.dumps({"command_id": mine}).encode()
    await wired.operator.store(subjects.command(wired.trader, "deploy"), used, msg_id=mine)
    await wired.operator.store(subjects.command(wired.trader, "pause"), used)
    reply = await wired.operator.request(subjects.control(wired.trader, "stop"), used, timeout=5)
    assert CommandReply.model_validate_json(reply).command_id == mine
    assert len(await wired.stored(subjects.command(wired.trader, "stop"), subjects.COMMANDS)) == 1


@pytest.mark.parametrize("stored_as", ["mine", None])
async def test_what_the_living_trader_stored_is_left_to_it(wired: Wired, stored_as: str | None) -> None:
    await wired.change({})
    subject = subjects.command(wired.trader, "stop")
    beating = asyncio.create_task(beat(wired.bus, wired.trader))
    try:
        asking = asyncio.create_task(
            wired.operator.request(
                subjects.control(wired.trader, "stop"),
                json.dumps({"command_id": stored_as} if stored_as else {}).encode(),
                timeout=2.5,
            )
        )
        await wired.bus.store(subject, json.dumps({"command_id": stored_as or "its-own"}).encode())
        with pytest.raises(NoAnswer):
            await asking
    finally:
        beating.cancel()
    assert len(await wired.stored(subject, subjects.COMMANDS)) == 1


async def test_what_a_trader_stored_before_it_died_is_not_stored_again(wired: Wired) -> None:
    """By then the trader may be back and have begun another run: a second stop would end that."""
    await wired.change({})
    subject = subjects.command(wired.trader, "stop")
    asking = asyncio.create_task(
        wired.operator.request(subjects.control(wired.trader, "stop"), b"{}", timeout=5)
    )
    await wired.bus.store(subject, b'{"command_id": "its-own"}')
    assert CommandReply.model_validate_json(await asking).command_id == "its-own"
    assert len(await wired.stored(subject, subjects.COMMANDS)) == 1


async def test_a_stop_that_a_starting_trader_did_not_hear_is_stored_though_it_is_alive(wired: Wired) -> None:
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
        last = await wired.bus.store(subjects.command(wired.trader, "pause"), b"{}")

        async def passed() -> bool:
            return int((await wired.state())["commands_seq"]) >= last

        await until(passed)
        return last

    await wired.bus.store(halt, b'{"command_id": "h1"}')
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
    await wired.bus.store(halt, b'{"command_id": "h1"}')
    await carried_out()
    # Another run has begun: its halt is a new one, whatever it is called.
    assert await halts() == ["h1"]
    await wired.bus.store(halt, b'{"command_id": "h1"}')
    await wired.ask(wired.next(status("HALTED")))
    await wired.operator.store(reset, b'{"command_id": "r1", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == ["h1"]
    await wired.operator.store(reset, b'{"command_id": "r2", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == []
