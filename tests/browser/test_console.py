"""Deploy, watch, stop: what a person does at the console, and what they see when the desk is lost."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.conftest import watched
from tests.browser.visit import PATIENCE, Visit
from tests.desk_process import DeskProcess, desk

pytestmark = pytest.mark.xdist_group("browser")


def test_from_the_first_visit_to_a_run_on_paper_in_five_clicks_at_most(
    context: BrowserContext, tmp_path: Path
) -> None:
    with desk(tmp_path / "desk") as process, watched(context, process) as visit:
        visit.log_in()
        expect(visit.page.get_by_role("heading", name="Nothing has been deployed yet")).to_be_visible()
        expect(visit.page.locator("[data-chart]").first).to_be_hidden()
        expect(visit.live("phase")).to_have_text("not deployed")
        visit.click(visit.button("Deploy"))
        expect(visit.page.locator(".desk-check-list")).to_contain_text("No alert channel")
        expect(visit.page.get_by_role("dialog")).to_contain_text("drawdown")
        shown = visit.page.locator(".desk-summary").inner_text()
        visit.click(visit.button("Start on paper"))
        visit.until_phase("monitoring")
        assert visit.clicks <= 5

        settings = visit.status()["settings"]
        assert (settings["broker"], settings["risk_per_trade"]) == ("paper", "10")
        parameters = ", ".join(f"{name} {float(value):g}" for name, value in settings["parameters"].items())
        assert shown == (
            f"Starts {settings['strategy']} ({parameters}) on EURUSD, risking 10.00 USD a trade on a paper account"
            " of 10,000.00 USD, until its data ends."
        )
        expect(visit.live("mode")).to_have_text("PAPER")
        expect(visit.page.locator("[data-chart=equity] canvas").first).to_be_visible(timeout=PATIENCE)
        expect(visit.live("equity")).to_have_text(re.compile(r"^\d{1,3},\d{3}\.\d\d$"), timeout=PATIENCE)


def test_an_address_opens_deploy_or_stop_and_does_nothing_by_itself(visit: Visit) -> None:
    visit.log_in()
    for address, heading in (("/?open=deploy", "Deploy"), ("/?open=stop", "Stop the deployment")):
        visit.page.goto(visit.url + address)
        expect(visit.page.get_by_role("dialog").get_by_role("heading", name=heading).first).to_be_visible(
            timeout=PATIENCE
        )
    visit.page.goto(visit.url + "/?open=else")
    visit.until_live()
    expect(visit.page.get_by_role("dialog")).to_have_count(0)


def test_a_wrong_parameter_cannot_be_started(visit: Visit) -> None:
    visit.log_in()
    visit.button("Deploy").click()
    field = visit.page.get_by_label("Period", exact=True)
    field.fill("1")
    expect(visit.page.get_by_role("dialog")).to_contain_text("Expected a whole number, 2 to 500")
    expect(visit.button("Start on paper")).to_be_disabled()
    expect(field).to_have_attribute("aria-invalid", "true")


def test_a_trade_appears_within_a_second_of_its_event(visit: Visit) -> None:
    run = visit.deploy()
    visit.log_in()
    loaded = visit.page.evaluate("performance.timeOrigin")
    for trade in islice(_closed_trades(visit, run), 2):
        visit.page.locator(f'[data-trade="{run}-{trade["seq"]}"]').wait_for(timeout=1000)
    assert visit.page.evaluate("performance.timeOrigin") == loaded


def _closed_trades(visit: Visit, run: str) -> Iterator[dict[str, Any]]:
    """Trades as they are closed, at the moment they are."""
    with (
        visit.api() as api,
        api.stream(
            "GET", "/api/events", params={"types": "trade.closed"}, timeout=httpx.Timeout(120)
        ) as told,
    ):
        for line in told.iter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                if event["run_id"] == run:
                    yield event


def test_stop_names_what_it_closes_and_is_followed_until_it_is_flat(visit: Visit) -> None:
    visit.deploy()
    visit.log_in()
    expect(visit.live("position")).to_have_text(re.compile("from"), timeout=120_000)
    visit.page.goto(visit.url + "/settings")
    visit.until_live()
    visit.button("Stop").click()
    dialog = visit.page.get_by_role("dialog")
    # Both at once: the dialog is renewed each second, and a trade of the sample may last no longer.
    expect(dialog).to_contain_text(
        re.compile(
            r"Closes at market\s*(long|short) [\d,]+ EURUSD.*Cancels\s*(target|stop) order \d+", re.DOTALL
        ),
        timeout=60_000,
    )
    visit.button("Stop now").click()
    progress = visit.page.locator("[data-stop]")
    expect(progress).to_have_attribute("data-is", "done", timeout=PATIENCE)
    expect(progress.locator("li[data-reached=true]")).to_have_count(5)
    status = visit.status()
    assert (status["phase"], status["holding"]) == ("STOPPED", "flat")
    visit.page.reload()
    expect(progress).to_contain_text("done: the broker has confirmed", timeout=PATIENCE)


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_a_lost_server_is_seen_within_three_seconds_and_found_again(
    context: BrowserContext, running: DeskProcess, how: str
) -> None:
    page = context.new_page()
    info = running.info()
    visit = Visit(page, info["api_url"], info["token"], running)
    visit.deploy()
    visit.log_in()
    banner = page.locator("[data-lost]")
    expect(banner).to_be_hidden()
    began = time.monotonic()
    assert running.kill("api", signal.SIGSTOP if how == "frozen" else signal.SIGKILL)
    try:
        expect(banner).to_be_visible(timeout=3000)
        expect(page.locator("body")).to_have_class(re.compile("desk-gone"))
        assert time.monotonic() - began < 3
        expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "lost")
        assert float(visit.live("equity").evaluate("node => getComputedStyle(node).opacity")) < 0.5
        header = page.locator(".desk-header").bounding_box()
        below = banner.bounding_box()
        assert header is not None
        assert below is not None
        assert below["y"] >= header["y"] + header["height"]
    finally:
        running.kill("api", signal.SIGCONT)
    visit.until_live(60_000)
    expect(banner).to_be_hidden()
    assert page.url == visit.url + "/"
    visit.until_phase("monitoring")


def test_a_phone_has_stop_in_sight_on_every_page(browser: Browser, running: DeskProcess) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 667})
    with watched(context, running) as visit:
        visit.log_in()
        for path in ("/", "/trades", "/runs", "/risk", "/alerts", "/settings"):
            visit.page.goto(visit.url + path)
            visit.until_live()
            box = visit.button("Stop").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 375
            assert box["y"] + box["height"] <= 667
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
    context.close()


def test_a_chosen_theme_stays(visit: Visit) -> None:
    visit.log_in()
    body = visit.page.locator("body")
    expect(body).to_have_class(re.compile("body--light"))
    for name in ("light", "dark"):
        visit.page.get_by_role("button", name=re.compile("^Theme")).click()
        expect(visit.button(f"Theme: {name}")).to_be_visible()
    expect(body).to_have_class(re.compile("body--dark"))
    visit.page.goto(visit.url + "/risk")
    expect(body).to_have_class(re.compile("body--dark"))


def test_what_runs_already_cannot_be_started_again(visit: Visit) -> None:
    visit.deploy()
    visit.log_in("/trades")
    visit.button("Deploy").click()
    expect(visit.page.locator(".desk-check-list li[data-is=red]")).to_have_text(
        re.compile("Already deployed")
    )
    expect(visit.button("Start on paper")).to_be_disabled()


def test_a_silent_recorder_makes_the_figures_old(visit: Visit) -> None:
    visit.deploy()
    visit.log_in()
    trouble = visit.page.locator("[data-trouble]")
    expect(trouble).to_be_hidden()
    assert visit.desk.kill("recorder", signal.SIGSTOP)
    try:
        expect(trouble).to_contain_text("recorder: not heard", timeout=PATIENCE)
        expect(visit.page.locator("body")).to_have_class(re.compile("desk-doubtful"))
    finally:
        visit.desk.kill("recorder", signal.SIGCONT)
    expect(trouble).to_be_hidden(timeout=PATIENCE)


def test_two_tabs_see_the_same_stop(context: BrowserContext, visit: Visit) -> None:
    visit.deploy()
    visit.log_in()
    other = context.new_page()
    other.goto(visit.url + "/risk")
    visit.button("Stop").click()
    visit.page.get_by_text("Graceful").click()
    visit.button("Stop now").click()
    progress = other.locator("[data-stop]")
    expect(progress).to_contain_text("Stop (graceful)", timeout=PATIENCE)
    # Graceful: at once when it is flat, otherwise when the open trade ends.
    for stop in (progress, visit.page.locator("[data-stop]")):
        expect(stop).to_have_attribute("data-is", "done", timeout=120_000)


def _tab_to(visit: Visit, name: str) -> None:
    """Press Tab until the button of that name has the focus."""
    for _ in range(60):
        if visit.page.evaluate("document.activeElement.textContent.trim()") == name:
            return
        visit.page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached with the keyboard")


def test_a_run_is_deployed_and_stopped_with_the_keyboard_alone(visit: Visit) -> None:
    with visit.api() as api:
        api.post("/api/stop", params={"wait": 30})
    visit.page.goto(visit.url)
    expect(visit.page.get_by_label("Token")).to_be_focused()
    visit.page.keyboard.type(visit.token)
    visit.page.keyboard.press("Enter")
    visit.until_live()
    _tab_to(visit, "Deploy")
    visit.page.keyboard.press("Enter")
    expect(visit.button("Start on paper")).to_be_enabled(timeout=PATIENCE)
    _tab_to(visit, "Start on paper")
    visit.page.keyboard.press("Enter")
    visit.until_phase("monitoring")
    expect(visit.page.get_by_role("dialog")).to_be_hidden()
    _tab_to(visit, "Stop")
    visit.page.keyboard.press("Enter")
    expect(visit.button("Stop now")).to_be_enabled(timeout=PATIENCE)
    _tab_to(visit, "Stop now")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("[data-stop]")).to_have_attribute("data-is", "done", timeout=PATIENCE)
