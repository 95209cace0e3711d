"""The guard's process beside a live run: plain copies, silence, what it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.shared import subjects
from services.shared.commands import (
    parse_command,
)
from services.shared.wire import decode
from tests.guard_at_work import NO_DAILY, Wired, beat, go_live, until
from tests.guard_facts import (
    closed,
    entry,
    fill,
    mark,
)


async def next_halt(wired: Wired) -> Callable[[], Awaitable[bytes]]:
    """Listen for the plain copy of a halt."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def put(message: Any) -> None:
        heard.put_nowait(bytes(message.data))

    await wired.bus.subscribe(subjects.command(wired.trader, "halt"), put)
    await wired.bus.client.flush()

    async def wait() -> bytes:
        return await asyncio.wait_for(heard.get(), 10)

    return wait


async def test_live_a_realised_loss_heard_as_a_plain_copy_halts_at_once(wired: Wired) -> None:
    await go_live(wired)
    heard = await next_halt(wired)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"))
    for data in wired.wire.messages(lost.facts, lost.time):
        await wired.bus.publish(subjects.event(decode(data).envelope.type, wired.trader), data)
    command, _ = parse_command("halt", await heard())
    assert "below its peak" in command.reason
    assert (
        len(await until(lambda: wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS))) == 1
    )
    await wired.guard.kill()
    await wired.guard.start()
    await wired.change({})
    assert (await wired.state())["guard"]["halts"][0][1] == "drawdown"
    assert len(await wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS)) == 1


async def test_live_a_persons_halt_latches_in_the_guard(wired: Wired) -> None:
    await go_live(wired)
    await wired.operator.publish(
        subjects.command(wired.trader, "halt"), b'{"command_id": "stop-it", "by": "ann"}'
    )

    async def latched() -> bool:
        return [halt[0] for halt in (await wired.state())["guard"]["halts"]] == ["stop-it"]

    await until(latched)


async def test_live_a_silent_trader_with_a_position_is_halted_and_its_restart_does_not_count_twice(
    wired: Wired,
) -> None:
    await wired.change({"silence_alert": "1", "silence_halt": "2"})
    await go_live(wired)
    heard = await next_halt(wired)
    command, _ = parse_command("halt", await heard())
    assert "was not heard" in command.reason
    alerts = await until(lambda: wired.stored(subjects.event("alert", wired.trader)))
    assert "trader_silent" in {getattr(decode(data).body, "code", "") for data in alerts}


async def test_live_another_traders_heartbeats_do_not_hide_that_its_own_is_silent(wired: Wired) -> None:
    await wired.change({"silence_alert": "1", "silence_halt": "2"})
    beating = asyncio.create_task(beat(wired.bus, f"{wired.trader}x"))
    try:
        await go_live(wired)
        command, _ = parse_command("halt", await (await next_halt(wired))())
    finally:
        beating.cancel()
    assert "was not heard" in command.reason


async def test_live_events_missed_while_it_was_dead_are_caught_up_at_the_start(wired: Wired) -> None:
    await go_live(wired)
    await wired.guard.kill()
    heard = await next_halt(wired)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    await wired.store(wired.wire.messages(lost.facts, lost.time))
    await wired.guard.start()
    command, _ = parse_command("halt", await heard())
    assert "below its peak" in command.reason


async def test_in_lockstep_plain_copies_of_events_are_ignored(wired: Wired) -> None:
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    report = wired.next(fill(1), mark(3, "10000"))
    messages = wired.wire.messages(report.facts, report.time)
    await wired.store(messages)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    later = wired.wire.messages(lost.facts, lost.time)
    await wired.store(later)
    assert (await wired.send(wired.wire.request(report, messages))).halt is None
    halted = await wired.send(wired.wire.request(lost, later))
    assert halted.halt is not None
