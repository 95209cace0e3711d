"""Logging in and out in a real browser: who gets in, who may act, and what an ended session looks like."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import watched
from tests.browser.test_accessibility import look
from tests.browser.visit import PATIENCE, Visit
from tests.desk_process import DeskProcess, desk

pytestmark = pytest.mark.xdist_group("browser")


def _viewer_token(running: DeskProcess) -> str:
    return running.cli("token", "--viewer").stdout.strip()


def _log_in(page: Page, token: str, name: str = "") -> None:
    """On the login page that is shown."""
    page.get_by_label("Token").fill(token)
    if name:
        page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Log in").click()


def test_a_name_stands_on_the_page_and_a_wrong_token_is_told(visit: Visit, context: BrowserContext) -> None:
    other = context.new_page()  # its refusal is an error in the browser's console
    other.goto(visit.url + "/runs")
    expect(other).to_have_url(visit.url + "/login?next=/runs")
    _log_in(other, "not-the-token-of-this-desk")
    expect(other.get_by_role("alert")).to_have_text("That is not this desk's token.")
    expect(other.get_by_label("Token")).to_have_value("")
    _log_in(other, visit.token, "Anna")
    expect(other).to_have_url(visit.url + "/runs")
    expect(other.locator(".desk-who")).to_have_text("Anna", timeout=PATIENCE)
    other.close()


def test_too_many_wrong_tokens_have_to_wait(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with desk(tmp_path_factory.mktemp("attempts") / "desk") as running:
        info = running.info()
        context = browser.new_context()
        page = context.new_page()
        page.goto(info["api_url"])
        told = page.get_by_role("alert")
        for _ in range(12):
            _log_in(page, "not-the-token-of-this-desk")
            if "Too many wrong tokens" in told.inner_text():
                break
        expect(told).to_have_text(
            re.compile(r"Too many wrong tokens\. Try again in \d+ (seconds?|minutes)\.")
        )
        # The right one has to wait as well, and gets in when the wait is over.
        for _ in range(60):
            _log_in(page, info["token"])
            with suppress(AssertionError):
                expect(page.locator("[data-connection]")).to_have_attribute(
                    "data-connection", "live", timeout=2000
                )
                break
        Visit(page, info["api_url"], info["token"], running).until_live()
        context.close()


def test_a_viewer_sees_everything_and_can_do_nothing(browser: Browser, running: DeskProcess) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    with watched(context, running) as visit:
        visit.token = _viewer_token(running)
        visit.log_in()
        for path in ("/", "/trades", "/runs", "/risk", "/alerts", "/settings"):
            visit.page.goto(visit.url + path)
            visit.until_live()
            for name in ("Deploy", "Stop"):
                expect(visit.button(name)).to_be_disabled()
                expect(visit.button(name)).to_have_attribute("title", re.compile("viewer"))
        expect(visit.page.locator(".desk-who")).to_contain_text("only looks")
        key = {"Authorization": f"Bearer {visit.token}"}
        assert httpx.post(f"{visit.url}/api/stop", headers=key, json={}).status_code == 403
    context.close()


def _until_login(page: Page, url: str, path: str) -> None:
    expect(page).to_have_url(re.compile(f"^{re.escape(url)}/login\\?said=ended&next="), timeout=10_000)
    expect(page.get_by_role("status")).to_have_text("Your session has ended. Log in to go on where you were.")
    expect(page.locator("input[name=next]")).to_have_value(path)


@pytest.mark.parametrize("how", ["everywhere", "in another tab"])
def test_an_ended_session_leads_to_the_login_and_back(
    browser: Browser, running: DeskProcess, how: str
) -> None:
    info = running.info()
    url = info["api_url"]
    context, other = browser.new_context(), browser.new_context()
    page = context.new_page()
    page.goto(url + "/risk")
    _log_in(page, info["token"], "Anna")
    Visit(page, url, info["token"], running).until_live()
    if how == "everywhere":
        elsewhere = other.new_page()
        elsewhere.goto(url)
        _log_in(elsewhere, info["token"], "Bert")
        Visit(elsewhere, url, info["token"], running).until_live()
        _post_from(elsewhere, "/logout/everywhere")
        expect(elsewhere.get_by_role("status")).to_have_text("Every session has been ended, this one too.")
    else:
        tab = context.new_page()
        tab.goto(url)
        tab.get_by_role("button", name="Log out").click()
        expect(tab).to_have_url(url + "/login")
    _until_login(page, url, "/risk")
    _log_in(page, info["token"], "Anna")
    expect(page).to_have_url(url + "/risk")
    Visit(page, url, info["token"], running).until_live()
    context.close()
    other.close()


def _post_from(page: Page, path: str) -> None:
    """Send the form that a page of the console has for it."""
    page.evaluate(
        """path => {
            const form = document.createElement("form");
            form.method = "post";
            form.action = path;
            document.body.append(form);
            form.requestSubmit();
        }""",
        path,
    )


def test_a_restarted_api_keeps_people_logged_in(browser: Browser, running: DeskProcess) -> None:
    info = running.info()
    context = browser.new_context()
    page = context.new_page()
    visit = Visit(page, info["api_url"], info["token"], running)
    visit.log_in("/alerts")
    before = running.pid("api")
    assert running.kill("api")
    expect(page.locator("[data-lost]")).to_be_visible(timeout=5000)
    running.until(lambda: running.pid("api") not in (None, before), 60, "another API process")
    visit.until_live(60_000)
    expect(page).to_have_url(info["api_url"] + "/alerts")
    context.close()


def test_two_people_at_once_and_the_journal_knows_who(browser: Browser, running: DeskProcess) -> None:
    anna, bert = (browser.new_context(viewport={"width": 1280, "height": 800}) for _ in range(2))
    with watched(anna, running) as first, watched(bert, running) as second:
        first.deploy()
        first.page.goto(first.url)
        _log_in(first.page, first.token, "Anna")
        first.until_live()
        second.page.goto(second.url)
        _log_in(second.page, _viewer_token(running), "Bert")
        second.until_live()
        expect(second.button("Stop")).to_be_disabled()
        first.button("Stop").click()
        first.button("Stop now").click()
        for visit in (first, second):
            expect(visit.page.locator("[data-stop]")).to_have_attribute("data-is", "done", timeout=60_000)
        wanted = {("login", "Anna (console)", "operator"), ("login", "Bert (console)", "viewer")}
        for entry in _journal(first):
            wanted.discard(entry)
            if not wanted:
                break
    anna.close()
    bert.close()


def _journal(visit: Visit) -> Iterator[tuple[str, str, str]]:
    """Who did what, in which role, from the beginning on."""
    with (
        visit.api() as api,
        api.stream("GET", "/api/events", params={"types": "action", "after": 0}) as told,
    ):
        for line in told.iter_lines():
            if line.startswith("data:"):
                event = json.loads(line.removeprefix("data:"))
                yield event["action"], event["by"], event["role"]


def test_the_login_can_be_filled_in_by_keyboard(visit: Visit) -> None:
    visit.page.goto(visit.url)
    expect(visit.page.get_by_label("Token")).to_be_focused()
    visit.page.keyboard.type(visit.token)
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_label("Your name")).to_be_focused()
    visit.page.keyboard.type("Carla")
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.until_live()
    expect(visit.page.locator(".desk-who")).to_have_text("Carla")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_login_after_a_mistake_and_a_viewers_page_are_legible(
    browser: Browser, running: DeskProcess, scheme: Literal["light", "dark"]
) -> None:
    info = running.info()
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    visit = Visit(page, info["api_url"], info["token"], running)
    page.goto(visit.url + "/login?said=ended&next=/risk")
    expect(page.get_by_role("status")).to_be_visible()
    assert look(visit) == []
    _log_in(page, "not-the-token-of-this-desk")
    expect(page.get_by_role("alert")).to_be_visible()
    assert look(visit) == []
    _log_in(page, _viewer_token(running), "Bert")
    visit.until_live()
    assert look(visit) == []
    context.close()
