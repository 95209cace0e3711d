"""Risk, Alerts, Settings and the documentation as a person meets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from tests.browser.conftest import watched
from tests.browser.test_accessibility import look
from tests.browser.visit import PATIENCE, Visit
from tests.desk_process import DeskProcess, desk
from tests.mail_server import SECRET, MailServer

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    """A desk of this module's own: its tests halt it and change its limits."""
    with desk(tmp_path_factory.mktemp("risk") / "desk", "--speed", "7200") as process:
        yield process


def _limit(visit: Visit, name: str) -> Locator:
    return visit.page.locator(f'[data-limit="{name}"]')


def _open_limit(visit: Visit, name: str, title: str) -> Locator:
    _limit(visit, name).get_by_role("button", name=f"Change {title}").click()
    dialog = visit.page.get_by_role("dialog", name=title)
    expect(dialog).to_be_visible()
    return dialog


def _stopped(visit: Visit) -> None:
    """Nothing deployed, nothing halted."""
    visit.desk.cli("stop", "--wait", "30", check=False)
    visit.desk.cli("reset", "--reason", "for the next test", check=False)
    visit.desk.until(lambda: visit.status()["phase"] != "HALTED", 30, "reset")


def test_a_limit_tightens_at_once_and_loosens_only_when_nothing_is_deployed(visit: Visit) -> None:
    _stopped(visit)
    visit.deploy()
    visit.log_in("/risk")
    before = _limit(visit, "drawdown").locator("td strong").first.inner_text()
    dialog = _open_limit(visit, "drawdown", "Drawdown")
    dialog.get_by_label("New value").fill("290")
    expect(dialog).to_contain_text("Tighter: taken at any time")
    expect(dialog).to_contain_text("290.00 · 29 R · 2.9 % of equity")
    expect(dialog.get_by_role("button", name="Tighten")).to_be_disabled()
    dialog.get_by_label("Reason").fill("smaller account")
    dialog.get_by_role("button", name="Tighten").click()
    expect(dialog).to_be_hidden()
    assert before != "290"
    expect(_limit(visit, "drawdown")).to_contain_text("290")
    expect(visit.page.get_by_role("region", name="History")).to_contain_text(
        "smaller account", timeout=PATIENCE
    )

    dialog = _open_limit(visit, "drawdown", "Drawdown")
    dialog.get_by_label("New value").fill("2000")
    dialog.get_by_label("Reason").fill("more room")
    expect(dialog).to_contain_text("Looser: taken only while flat and not deployed")
    loosen = dialog.get_by_role("button", name="Loosen")
    expect(loosen).to_be_disabled()
    dialog.get_by_role("checkbox").click()
    loosen.click()
    expect(dialog.get_by_role("alert")).to_have_text(
        "Refused: drawdown: limits loosen only when flat and not deployed; stop first", timeout=PATIENCE
    )
    with visit.api() as api:
        limits = {row["name"]: row["value"] for row in api.get("/api/risk").json()["limits"]}
    assert limits["drawdown"] == "290"


def test_the_use_of_a_limit_moves_without_reloading(visit: Visit) -> None:
    _stopped(visit)
    visit.deploy()
    visit.log_in("/risk")
    meter = visit.page.get_by_role("meter", name="Drawdown", exact=True)
    expect(meter).to_be_visible(timeout=PATIENCE)
    loaded = visit.page.evaluate("performance.timeOrigin")
    said = meter.get_attribute("aria-valuetext")
    assert said is not None
    expect(meter).not_to_have_attribute("aria-valuetext", said, timeout=60_000)
    approved = visit.page.locator("[data-approved]")
    expect(approved).not_to_have_text("0", timeout=120_000)
    assert visit.page.evaluate("performance.timeOrigin") == loaded


def test_a_halt_tells_its_story_and_is_reset_with_a_reason(visit: Visit) -> None:
    _stopped(visit)
    visit.deploy()
    visit.log_in("/risk")
    expect(visit.button("Reset …")).to_have_count(0)
    visit.desk.cli("halt", "--reason", "prices look wrong")
    visit.button("Reset …").click(timeout=PATIENCE)
    dialog = visit.page.get_by_role("dialog", name="Reset the halt")
    expect(dialog.get_by_role("button", name="Reset now")).to_be_disabled()
    dialog.get_by_label("Reason").fill("read the trades")
    dialog.get_by_role("button", name="Reset now").click()
    expect(dialog).to_be_hidden(timeout=PATIENCE)
    story = visit.page.locator(".desk-story > li").first
    expect(story).to_contain_text("prices look wrong", timeout=PATIENCE)
    expect(story).to_contain_text("Flat and latched at")
    expect(story).to_contain_text(
        re.compile(r"Reset .* by operator \(console\): read the trades\."), timeout=PATIENCE
    )
    expect(visit.button("Reset …")).to_have_count(0, timeout=PATIENCE)
    assert visit.status()["phase"] == "STOPPED"


def test_an_alert_is_acknowledged_for_everybody(context: BrowserContext, visit: Visit) -> None:
    _stopped(visit)
    visit.desk.cli("halt", "--reason", "for an alert")
    visit.log_in("/alerts")
    badge = visit.page.locator(".desk-badge")
    expect(badge).to_contain_text("critical, unacknowledged", timeout=PATIENCE)
    newest = visit.page.locator("[data-alert]", has_text="for an alert").first
    expect(newest).to_be_visible(timeout=PATIENCE)
    alert = newest.get_attribute("data-alert")
    expect(newest.get_by_role("link", name="What to do")).to_have_attribute("href", "/docs/emergency#a-halt")
    other = context.new_page()
    other.goto(visit.url + "/alerts")
    theirs = other.locator(f'[data-alert="{alert}"]')
    expect(theirs).to_have_attribute("data-open", "true", timeout=PATIENCE)

    newest.get_by_role("button", name=re.compile("^Acknowledge")).press("Enter")
    for seen in (visit.page.locator(f'[data-alert="{alert}"]'), theirs):
        expect(seen).to_have_attribute("data-open", "false", timeout=PATIENCE)
        expect(seen).to_contain_text(
            re.compile(r"✓ operator \(console\), \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
        )
    other.get_by_role("checkbox", name="Only unacknowledged").click()
    expect(theirs).to_have_count(0)
    every = visit.page.get_by_role("button", name=re.compile(r"^Acknowledge all \d+ shown"))
    if every.count():
        every.click()
    expect(visit.page.locator('[data-open="true"]')).to_have_count(0, timeout=PATIENCE)
    for page in (visit.page, other):
        expect(page.locator(".desk-badge")).to_have_count(0, timeout=PATIENCE)
    expect(other.locator("[data-alert]")).to_have_count(0, timeout=PATIENCE)
    _stopped(visit)


def test_every_channel_is_tried_and_no_secret_shown(visit: Visit) -> None:
    mail = MailServer()
    mail.start()
    file = visit.desk.folder / "secrets" / "alert-urls"
    try:
        file.write_text(mail.url() + "\n")
        file.chmod(0o600)
        for path in ("/alerts", "/settings"):
            if path == "/alerts":
                visit.log_in(path)
            else:
                visit.page.goto(visit.url + path)
                visit.until_live()
            panel = visit.page.get_by_role("region", name="Alert channels")
            expect(panel).to_contain_text("1-mailto")
            expect(panel).to_contain_text("127.0.0.1")
            visit.button("Test every channel").click()
            expect(panel).to_contain_text("✓ taken", timeout=PATIENCE)
            assert SECRET not in visit.page.content()
        assert len(mail.mails) == 2
        mail.stop()
        visit.button("Test every channel").click()
        expect(panel).to_contain_text("✕ failed", timeout=60_000)
    finally:
        mail.stop()
        file.unlink(missing_ok=True)


def test_parameters_chosen_in_settings_are_those_that_deploy_shows(visit: Visit) -> None:
    _stopped(visit)
    visit.log_in("/settings")
    form = visit.page.get_by_role("region", name="Strategy")
    form.get_by_label("Period", exact=True).fill("1")
    expect(form).to_contain_text("Expected a whole number, 2 to 500")
    expect(visit.button("Deploy with these …")).to_be_disabled()
    form.get_by_label("Period", exact=True).fill("33")
    visit.button("Deploy with these …").click()
    dialog = visit.page.get_by_role("dialog", name="Deploy")
    expect(dialog.get_by_label("Period", exact=True)).to_have_value("33", timeout=PATIENCE)
    expect(dialog.locator(".desk-summary")).to_contain_text("period 33")


def test_the_documentation_is_one_click_away_and_leads_on(visit: Visit) -> None:
    visit.log_in()
    visit.page.get_by_role("link", name="Docs", exact=True).click()
    visit.until_live()
    around = visit.page.get_by_role("navigation", name="Documentation")
    around.get_by_role("link", name="Emergency", exact=True).click()
    expect(visit.page.get_by_role("heading", name="It will not stop")).to_be_visible()
    visit.page.goto(visit.url + "/docs/emergency#a-run-has-failed")
    visit.until_live()
    expect(visit.page.get_by_role("heading", name="A run has failed")).to_be_in_viewport()
    visit.page.goto(visit.url + "/docs/backtest")
    visit.until_live()
    picture = visit.page.locator(".desk-article img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    around.get_by_role("link", name="Every route of the API").click()
    expect(visit.page.get_by_role("heading", name="tradedesk API")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_no_page_sideways(browser: Browser, running: DeskProcess, theme: str) -> None:
    context = browser.new_context(
        viewport={"width": 375, "height": 667}, color_scheme="dark" if theme == "dark" else "light"
    )
    with watched(context, running) as visit:
        visit.log_in()
        for path in (
            "/risk",
            "/alerts",
            "/settings",
            "/docs",
            "/docs/limits",
            "/docs/emergency",
            "/docs/nats",
        ):
            visit.page.goto(visit.url + path)
            visit.until_live()
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= 375, path
        expect(visit.page.get_by_role("link", name="Emergency", exact=True)).to_be_hidden()
        visit.page.get_by_text("All pages").click()
        expect(visit.page.get_by_role("link", name="Emergency", exact=True)).to_be_visible()
    context.close()


def test_a_limit_is_changed_with_the_keyboard_alone(visit: Visit) -> None:
    _stopped(visit)
    visit.log_in("/risk")
    change = _limit(visit, "entries_per_minute").get_by_role("button")
    change.focus()
    assert change.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    change.press("Enter")
    dialog = visit.page.get_by_role("dialog", name="Entries per minute")
    value = dialog.get_by_label("New value")
    value.press("ControlOrMeta+a")
    value.press_sequentially("9")
    dialog.get_by_label("Reason").press_sequentially("fewer")
    tighten = dialog.get_by_role("button", name="Tighten")
    expect(tighten).to_be_enabled()
    tighten.press("Enter")
    expect(dialog).to_be_hidden(timeout=PATIENCE)
    expect(_limit(visit, "entries_per_minute").locator("td strong").first).to_have_text("9", timeout=PATIENCE)
    dialog = _open_limit(visit, "entries_per_minute", "Entries per minute")
    visit.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_pictures_folder_gives_out_pictures_only(visit: Visit, tmp_path: Path) -> None:
    visit.log_in()
    for name, status in (("backtest.png", 200), ("make.py", 404), ("..%2Findex.md", 404)):
        answer = visit.page.request.get(f"{visit.url}/docs/pictures/{name}")
        assert answer.status == status, name


def test_a_viewer_reads_everything_and_what_they_send_changes_nothing(browser: Browser, visit: Visit) -> None:
    _stopped(visit)
    visit.desk.cli("halt", "--reason", "for a viewer")
    context = browser.new_context()
    page = context.new_page()
    page.goto(visit.url)
    page.get_by_label("Token").fill(visit.desk.cli("token", "--viewer").stdout.strip())
    page.get_by_role("button", name="Log in").click()
    Visit(page, visit.url, visit.token, visit.desk).until_live()
    page.goto(visit.url + "/alerts")
    alert = page.locator("[data-alert]", has_text="for a viewer").first
    expect(alert).to_contain_text("not acknowledged", timeout=PATIENCE)
    sends = "([what, to]) => window.emitEvent('desk_do', { do: what, to })"
    page.evaluate(sends, ["acknowledge", alert.get_attribute("data-alert")])
    page.evaluate(sends, ["acknowledge-all", ""])
    page.get_by_role("checkbox", name="Only unacknowledged").click()  # answered after what was sent before
    expect(alert).to_contain_text("not acknowledged")
    for path, names in (
        ("/alerts", ["Acknowledge", "Test every channel"]),
        ("/risk", ["Change", "Reset …"]),
        ("/settings", ["Deploy with these …", "Log out everywhere", "Test every channel"]),
    ):
        page.goto(visit.url + path)
        expect(page.locator("[data-connection]")).to_have_attribute(
            "data-connection", "live", timeout=PATIENCE
        )
        for name in names:
            expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.goto(visit.url + "/risk")
    expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "live", timeout=PATIENCE)
    for what, to in (("limit", "drawdown"), ("reset", "")):
        page.evaluate(sends, [what, to])
    expect(page.get_by_role("heading", name="Halted", exact=True)).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    context.close()
    with visit.api() as api:
        assert api.get("/api/alerts", params={"acknowledged": "true"}).json()["alerts"] == [
            found
            for found in api.get("/api/alerts").json()["alerts"]
            if found["acknowledged_by"] == "operator (console)"
        ]
    _stopped(visit)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_halted_desk_has_no_serious_fault_and_no_faint_text(visit: Visit, theme: Any) -> None:
    _stopped(visit)
    visit.deploy()
    visit.desk.cli("halt", "--reason", "to look at it")
    visit.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visit.log_in("/alerts")
    expect(visit.page.locator("[data-alert]").first).to_be_visible()
    assert look(visit) == []
    visit.page.goto(visit.url + "/risk")
    visit.until_live()
    visit.button("Reset …").click(timeout=PATIENCE)
    expect(visit.page.get_by_role("dialog", name="Reset the halt")).to_be_visible()
    assert look(visit) == []
    visit.button("Stay halted").click()
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    assert look(visit) == []
    _stopped(visit)


def test_the_sessions_are_listed_and_all_ended_at_once(browser: Browser, visit: Visit) -> None:
    visit.log_in("/settings")
    sessions = visit.page.get_by_role("region", name="Sessions", exact=True)
    expect(sessions).to_contain_text("operator (this one)")
    visit.button("Log out everywhere").click()
    expect(visit.page.get_by_label("Token")).to_be_visible(timeout=PATIENCE)
    expect(visit.page.get_by_text("Every session has been ended")).to_be_visible()
