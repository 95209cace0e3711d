"""Trades and runs at the console: narrowed down, sorted, told, exported, reported and compared."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from services.shared.trades_file import COLUMNS
from tests.browser.conftest import watched
from tests.browser.test_accessibility import THEMES, look
from tests.browser.visit import PATIENCE, Visit
from tests.desk_process import DeskProcess, desk

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    """A desk on which two runs have been made from beginning to end, as fast as they go."""
    with desk(tmp_path_factory.mktemp("records") / "desk", "--speed", "0") as process:
        for strategy, risk in (("donchian", "10"), ("ema", "20")):
            process.cli("deploy", "--strategy", strategy, "--risk-per-trade", risk)
            process.until_finished(120)
        # Both are recorded to their end before anybody looks.
        process.until(lambda: all(_over(run) for run in process.get("/api/runs")["runs"]), 60, "recorded")
        yield process


def _over(run: dict[str, object]) -> bool:
    return run["phase"] == "COMPLETED" and run["end_reason"] is not None


def _rows(page: Page) -> Locator:
    return page.locator("[data-rows] tr[data-open]")


def _count(visit: Visit) -> Locator:
    return visit.page.locator("[data-count]")


def test_a_trades_whole_story_is_one_click_away_and_has_an_address(visit: Visit) -> None:
    visit.log_in("/trades")
    first = _rows(visit.page).first
    key = str(first.get_attribute("data-open"))
    run, _, trade = key.rpartition("/")
    first.locator("td").nth(3).click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    with visit.api() as api:
        told = api.get(f"/api/trades/{run}/{trade}").json()
    assert told["working"]["agrees"]
    expect(dialog).to_have_accessible_name(re.compile(rf"^Trade {trade}: (long|short) [\d,]+ EURUSD"))
    for text in (
        told["verdict"]["digest"],
        told["fills"][0]["price"],
        "risk asked ÷",
        "Worked out again from the fills: the same as was booked",
    ):
        expect(dialog).to_contain_text(text)
    visit.page.reload()
    expect(dialog).to_contain_text(told["verdict"]["digest"])
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(_rows(visit.page).first.locator("a")).to_be_focused()
    assert "open=" not in visit.page.url


def test_a_row_that_comes_after_its_story_was_closed_is_where_the_keyboard_goes_on(visit: Visit) -> None:
    visit.log_in("/trades")
    _rows(visit.page).first.locator("a").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    held: list[Route] = []
    released: list[bool] = []
    visit.page.route(
        "**/console/data/trades?*", lambda route: route.continue_() if released else held.append(route)
    )
    visit.page.reload()
    expect(dialog).to_contain_text("risk asked ÷")
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    released.append(True)
    for route in held:
        route.continue_()
    expect(_rows(visit.page).first.locator("a")).to_be_focused()


def test_filters_stand_in_the_address_and_outlive_a_reload(visit: Visit) -> None:
    visit.log_in("/trades")
    with visit.api() as api:
        losses = api.get("/api/trades", params={"outcome": "loss"}).json()["count"]
        everything = api.get("/api/trades", params={"all": "true"}).json()["count"]
    visit.page.get_by_label("Outcome").select_option("loss")
    expect(_count(visit)).to_have_text(f"{losses} trades")
    assert visit.page.url.endswith("/trades?outcome=loss")
    visit.page.reload()
    expect(_count(visit)).to_have_text(f"{losses} trades")
    expect(visit.page.get_by_label("Outcome")).to_have_value("loss")
    visit.page.go_back()
    expect(visit.page.get_by_label("Outcome")).to_have_value("")
    visit.page.get_by_label("Run", exact=True).select_option("all")
    expect(_count(visit)).to_have_text(f"{everything} trades")
    visit.page.get_by_label("From (UTC)").fill("2017-06-01")
    visit.page.get_by_label("To", exact=True).fill("2017-06-30")
    with visit.api() as api:
        june = {"all": "true", "from": "2017-06-01T00:00:00Z", "to": "2017-07-01T00:00:00Z"}
        expect(_count(visit)).to_have_text(f"{api.get('/api/trades', params=june).json()['count']} trades")
    visit.button("Clear").click()
    expect(visit.page).to_have_url(re.compile("/trades$"))


def test_sorting_by_keyboard_keeps_the_focus_and_is_said(visit: Visit) -> None:
    visit.log_in("/trades")
    expect(_rows(visit.page).first).to_be_visible()
    button = visit.page.locator("th[data-sort=pnl] button")
    button.focus()
    for order in ("descending", "ascending"):
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("th[data-sort=pnl]")).to_have_attribute("aria-sort", order)
        expect(visit.page.locator("th[aria-sort]")).to_have_count(1)
        with visit.api() as api:
            page = api.get("/api/trades", params={"sort": "pnl", "order": order}).json()["trades"]
        expect(_rows(visit.page).first).to_have_attribute("data-open", re.compile(rf"/{page[0]['trade']}$"))
        expect(button).to_be_focused()


def test_pages_go_forth_and_back_to_the_end_and_to_the_beginning(visit: Visit) -> None:
    visit.log_in("/trades?run=all")
    first = _rows(visit.page).first
    newest = str(first.get_attribute("data-open"))
    visit.button("Next").click()
    expect(first).not_to_have_attribute("data-open", newest)
    visit.button("Previous").click()
    expect(first).to_have_attribute("data-open", newest)
    expect(visit.button("Previous")).to_be_disabled()
    visit.button("Last").click()
    expect(_rows(visit.page).last).to_have_attribute("data-open", re.compile("/1$"))
    expect(visit.button("Next")).to_be_disabled()
    visit.button("First").click()
    expect(first).to_have_attribute("data-open", newest)


def test_an_export_is_a_csv_of_what_is_filtered_with_the_seven_columns_first(
    visit: Visit, tmp_path: Path
) -> None:
    visit.log_in("/trades?outcome=win")
    expect(_count(visit)).to_have_text(re.compile("trades$"))
    shown = int(_count(visit).inner_text().split()[0].replace(",", ""))
    files = {}
    for form in ("CSV", "Parquet"):
        with visit.page.expect_download() as download:
            visit.page.get_by_role("link", name=form, exact=True).click()
        files[form] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[form])
    with files["CSV"].open(newline="") as opened:
        rows = list(csv.reader(opened))
    seven = ["trade_time", "entry_price", "exit_price", "pnl", "outcome", "r_multiple", "equity"]
    assert rows[0][:7] == seven == list(COLUMNS[:7])
    assert {row[4] for row in rows[1:]} == {"win"}
    assert len(rows) == shown + 1
    assert files["Parquet"].read_bytes()[:4] == b"PAR1"


def test_a_report_opens_and_needs_nothing_else(visit: Visit) -> None:
    visit.log_in("/runs")
    said: list[tuple[Page | None, str]] = []
    visit.page.context.on("console", lambda message: said.append((message.page, message.text)))
    with visit.page.expect_popup() as opened:
        visit.page.get_by_role("link", name=re.compile("^Report of")).first.click()
    report = opened.value
    expect(report.get_by_role("heading", level=2).first).to_have_text("Costs and assumptions")
    expect(report.get_by_role("img", name=re.compile("^Equity over time"))).to_be_visible()
    assert report.locator("script, link, iframe").count() == 0
    assert [text for page, text in said if page is report] == []
    report.close()


def test_two_runs_are_compared_with_what_differs_marked(visit: Visit) -> None:
    visit.log_in("/runs")
    compare = visit.button("Compare two")
    ticks = visit.page.locator("input[name=run]")
    expect(ticks).to_have_count(2)
    ticks.nth(0).check()
    expect(compare).to_be_disabled()
    ticks.nth(1).check()
    compare.click()
    visit.until_live()
    chart = visit.page.get_by_role("img", name=re.compile("^Results of both runs"))
    expect(chart.locator(".plot-a")).to_have_count(1)
    expect(chart.locator(".plot-b")).to_have_count(1)
    differing = visit.page.locator("tr[data-differs] th")
    expect(differing.filter(has_text="Strategy")).to_have_count(1)
    expect(differing.filter(has_text="Risk a trade")).to_have_count(1)
    expect(differing.filter(has_text="Opening balance")).to_have_count(0)
    visit.page.get_by_role("link", name=re.compile("^R, the money risked")).click()
    visit.until_live()
    expect(visit.page.get_by_role("img", name=re.compile("in r, the money risked"))).to_be_visible()


def test_a_run_shows_who_deployed_it_and_how_it_ended(visit: Visit) -> None:
    visit.log_in("/runs")
    visit.page.locator(".desk-runs tbody th a").first.click()
    visit.until_live()
    expect(visit.page.locator(".desk-page")).to_contain_text(
        re.compile(r"by \w+ \(desk\); data from .* completed")
    )
    visit.page.get_by_role("link", name="Its trades").click()
    visit.until_live()
    expect(_count(visit)).to_have_text(re.compile(r"^\d+ trades$"), timeout=PATIENCE)
    visit.page.get_by_text("Orders that were refused").click()
    expect(visit.page.locator("[data-denied-rows]")).to_contain_text("was refused")


@pytest.mark.parametrize("path", ["/trades", "/runs"])
def test_on_a_phone_the_table_scrolls_and_the_page_does_not(
    browser: Browser, running: DeskProcess, path: str
) -> None:
    context = browser.new_context(viewport={"width": 375, "height": 667}, has_touch=True)
    with watched(context, running) as visit:
        visit.log_in(path)
        region = visit.page.locator(".desk-scroll").first
        expect(region.locator("tbody tr").nth(1)).to_be_visible()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375
        assert region.evaluate("node => node.scrollWidth > node.clientWidth")
        if path == "/trades":
            _rows(visit.page).first.tap()
            dialog = visit.page.get_by_role("dialog")
            expect(dialog).to_contain_text("Worked out again")
            assert dialog.evaluate("node => node.scrollWidth <= node.clientWidth")
    context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_stories_runs_comparisons_and_reports_have_no_serious_fault_and_no_faint_text(
    context: BrowserContext, running: DeskProcess, theme: Literal["light", "dark"]
) -> None:
    runs = [run["run_id"] for run in running.get("/api/runs")["runs"]]
    with watched(context, running) as visit:
        visit.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        visit.log_in(f"/trades?run=all&sort=pnl&open={runs[1]}/5")
        expect(visit.page.get_by_role("dialog")).to_contain_text("Worked out again")
        assert look(visit) == []
        visit.page.goto(
            f"{visit.url}/trades"
        )  # anew each time: axe itself asks for style sheets, which shows a bar
        visit.page.get_by_text("Orders that were refused").click()
        expect(visit.page.locator("[data-denied-rows]")).to_contain_text("was refused")
        assert look(visit) == []
        for path in (f"/runs?run={runs[0]}", f"/runs?run={runs[0]}&run={runs[1]}"):
            visit.page.goto(visit.url + path)
            visit.until_live()
            assert look(visit) == []
        visit.page.goto(f"{visit.url}/runs/report/{runs[0]}")
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        assert look(visit) == []
