"""The console with a million trades recorded: how soon it can be used, whether a page's memory stays flat over an
hour of updates, and what five open consoles cost everybody else.

Real servers, a real API process, the machine's Chromium. An hour of updates is compressed: as many looks as an
hour has seconds would bring, each with new equity, as quickly as the feed takes them.

    console_usable_s         from asking for the page, nothing cached, to live figures and a drawn curve; median of 5
    console_heap_growth      the page's script heap after the hour over that after the first tenth, collected
    console_server_growth    the API's memory over the same
    health_p99_5_consoles    p99 of `/api/health` with five open consoles over that with none, in turns
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
from playwright.async_api import Browser, Page, async_playwright, expect

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.database_roles import DATABASE
from tests.api_process import ApiProcess, api_process
from tests.bench.dashboard_bench import _ONE_MORE, _fill, _servers
from tests.conftest import Database

TRADES = 1_000_000
VISITS = 5
UPDATES = 3600
MARKS_A_LOOK = 5
CONSOLES = 5
TURNS = 3
ASKED = 2000
MARK_EVERY = 100
_PATIENCE = 60_000.0


class _NoChromium(RuntimeError):
    """There is no browser to measure with."""


async def _log_in(page: Page, api: ApiProcess) -> None:
    await page.goto(api.url)
    await page.get_by_label("Token").fill(api.token)
    await page.get_by_label("Token").press("Enter")
    await _usable(page)


async def _usable(page: Page) -> None:
    await expect(page.locator("[data-connection]")).to_have_attribute(
        "data-connection", "live", timeout=_PATIENCE
    )
    await expect(page.locator("[data-live=equity]").first).not_to_have_text("–", timeout=_PATIENCE)
    await expect(page.locator("[data-chart=equity] canvas").first).to_be_visible(timeout=_PATIENCE)


async def _first_paint(browser: Browser, api: ApiProcess) -> float:
    """Seconds from asking for the page to being able to use it, in a browser that has cached nothing."""
    took = []
    for _ in range(VISITS):
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        page = await context.new_page()
        await _log_in(page, api)
        cookies = await context.cookies()
        await context.close()
        context = await browser.new_context(viewport={"width": 1280, "height": 800})
        await context.add_cookies([{**cookie} for cookie in cookies])  # type: ignore[typeddict-item]
        page = await context.new_page()
        began = time.perf_counter()
        await page.goto(api.url)
        await _usable(page)
        took.append(time.perf_counter() - began)
        await context.close()
    return statistics.median(took)


async def _heap(page: Page) -> float:
    """Bytes of the page's script heap, after collecting what nobody holds."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return float(usage["usedSize"])


async def _soak(
    browser: Browser, api: ApiProcess, writer: asyncpg.Connection[asyncpg.Record], bus: Bus
) -> dict[str, float]:
    """An hour's worth of marks, each look of the feed seen on the page before the next."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    await _log_in(page, api)
    served = psutil.Process(api.process.pid)
    early: tuple[float, float] | None = None
    shown = page.locator("[data-live=equity]").first
    for number in range(UPDATES // MARKS_A_LOOK):
        before = await shown.inner_text()
        for _ in range(MARKS_A_LOOK):
            await writer.execute(_ONE_MORE, "large")
        await bus.publish(
            subjects.event("alert", api.trader), b"{}"
        )  # that something came is what wakes the feed
        await expect(shown).not_to_have_text(before, timeout=_PATIENCE)
        if number == UPDATES // MARKS_A_LOOK // 10:
            early = await _heap(page), float(served.memory_info().rss)
    assert early is not None
    late = await _heap(page), float(served.memory_info().rss)
    await _usable(page)
    await context.close()
    return {"console_heap_growth": late[0] / early[0], "console_server_growth": late[1] / early[1]}


async def _health(api: ApiProcess, writer: asyncpg.Connection[asyncpg.Record]) -> list[float]:
    """How long each answer took, one after the other, with a new mark now and then."""
    took: list[float] = []
    for number in range(ASKED):
        if number % MARK_EVERY == 0:
            await writer.execute(_ONE_MORE, "large")
        began = time.perf_counter()
        answer = await api.client.get("/api/health")
        took.append(time.perf_counter() - began)
        assert answer.status_code in (200, 503)
    return took


async def _crowd(browser: Browser, api: ApiProcess, writer: asyncpg.Connection[asyncpg.Record]) -> float:
    """p99 with five consoles over p99 with none."""
    took: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(TURNS):
        for crowded in took:
            contexts = [
                await browser.new_context(viewport={"width": 1280, "height": 800})
                for _ in range(CONSOLES if crowded else 0)
            ]
            for context in contexts:
                await _log_in(await context.new_page(), api)
            took[crowded] += await _health(api, writer)
            for context in contexts:
                await context.close()
    none, five = (statistics.quantiles(took[crowded], n=100)[98] for crowded in (False, True))
    return five / none


async def _run(folder: Path, trades: int) -> dict[str, float]:
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if found is None:
        raise _NoChromium("no Chromium (Debian, Ubuntu: apt install chromium)")
    trader = f"bench{secrets.token_hex(3)}"
    with _servers(folder) as (nats, postgres):
        database = Database(postgres, DATABASE)
        await _fill(database, trader, 100, trades)
        writer = await database.connect("recorder")
        try:
            async with api_process(nats, database, trader, folder) as api, async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
                usable = await _first_paint(browser, api)
                crowd = await _crowd(browser, api, writer)
                bus = await nats.connect("admin")
                grown = await _soak(browser, api, writer, bus)
                await bus.close()
                await browser.close()
        finally:
            await writer.close()
    return {"console_usable_s": usable, "health_p99_5_consoles": crowd, **grown}


def console_bench(*, trades: int = TRADES) -> dict[str, float]:
    """All four; most of the time goes into filling the tables."""
    with tempfile.TemporaryDirectory(prefix="desk-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        return asyncio.run(_run(Path(folder), trades))


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(console_bench(trades=int(sys.argv[1]) if sys.argv[1:] else TRADES), indent=2))
