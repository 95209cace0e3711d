"""Tasks are ended also when one has lost its cancellation, as `asyncio.wait_for` of Python 3.11 has it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from services.shared import bus


async def _loses_the_first() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


async def _fails() -> None:
    raise ValueError


async def test_every_task_ends_whatever_it_does_with_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "_CANCEL_AGAIN", 0.01)
    tasks = [asyncio.create_task(each) for each in (_loses_the_first(), asyncio.Event().wait(), _fails())]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await bus.end(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, False]


async def test_without_tasks_there_is_nothing_to_wait_for() -> None:
    await bus.end([])
