"""Every page and dialog, light and dark: what axe-core calls serious, and contrast as it is really drawn.

axe leaves most contrast undecided here (it calls it incomplete), so it is computed from the page itself: the
colour of each visible text against the first ground beneath it that is not transparent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, expect

from services.api.console.frame import PAGES
from tests.browser.conftest import watched
from tests.browser.visit import PATIENCE, Visit
from tests.desk_process import DeskProcess

pytestmark = pytest.mark.xdist_group("browser")

THEMES = ("light", "dark")

TOO_FAINT = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const light = (color) => color.slice(0, 3)
    .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 1) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    const node = walk.currentNode.parentElement;
    if (!text || !node || !node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (node.closest("[disabled], [aria-disabled=true], .disabled, script, style, [aria-hidden=true]")) continue;
    const box = node.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const under = ground(node);
    let opacity = 1;
    for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const color = parse(style.color);
    color[3] *= opacity;
    const [low, high] = [light(over(color, under)), light(under)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push(`${text.slice(0, 40)} (${ratio.toFixed(2)}, ${node.className})`);
  }
  return found;
}"""


AT_REST = """async () => {
  for (let round = 0; round < 50; round += 1) {
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    const moving = document.getAnimations().filter((each) =>
      each.playState === "running" && each.effect.getComputedTiming().iterations !== Infinity);
    if (!moving.length) return;
    await Promise.all(moving.map((each) => each.finished.catch(() => null)));
  }
}"""
"""A dialog fades in, then its label moves: each is fainter meanwhile, and one begins as another ends."""


def look(visit: Visit) -> list[str]:
    """What is wrong with what is shown: serious violations of axe-core, and text that is too faint."""
    visit.page.evaluate(AT_REST)
    results: dict[str, Any] = Axe().run(visit.page).response
    wrong = [
        f"{found['id']} ({found['impact']}): {node['target']} {node['html'][:200]} {node['failureSummary'][:200]}"
        for found in results["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
    faint: list[str] = visit.page.evaluate(TOO_FAINT)
    return wrong + [f"too faint: {text}" for text in faint]


@pytest.fixture(params=THEMES)
def seen(request: pytest.FixtureRequest, context: BrowserContext, running: DeskProcess) -> Iterator[Visit]:
    """Somebody who has logged in to a desk with some trades, in one of the themes."""
    with watched(context, running) as visit:
        visit.page.emulate_media(color_scheme=request.param, reduced_motion="reduce")
        visit.deploy()
        running.until(lambda: visit.status()["tasks_completed"] >= 3, 60, "three trades")
        visit.log_in()
        expect(visit.page.locator("body.body--dark")).to_have_count(int(request.param == "dark"))
        yield visit


@pytest.mark.parametrize("path", [*(path for path, _ in PAGES), "/docs", "/docs/emergency", "/docs/limits"])
def test_a_page_has_no_serious_fault_and_no_faint_text(seen: Visit, path: str) -> None:
    seen.page.goto(seen.url + path)
    seen.until_live()
    expect(seen.page.get_by_role("heading", level=1)).to_be_visible()
    assert look(seen) == []


def _deploy(visit: Visit) -> None:
    visit.button("Deploy").click()
    expect(visit.page.locator(".desk-check-list")).to_be_visible(timeout=PATIENCE)


def _stop(visit: Visit) -> None:
    visit.button("Stop").click()
    expect(visit.button("Stop now")).to_be_visible(timeout=PATIENCE)


def _change_limit(visit: Visit) -> None:
    visit.page.goto(visit.url + "/risk")
    visit.until_live()
    visit.page.get_by_role("button", name="Change Drawdown", exact=True).click()
    visit.page.get_by_role("dialog").get_by_label("New value").fill("5000")
    expect(visit.page.get_by_role("dialog")).to_contain_text("Looser")


@pytest.mark.parametrize("opened", [_deploy, _stop, _change_limit])
def test_a_dialog_has_no_serious_fault_and_no_faint_text(
    seen: Visit, opened: Callable[[Visit], None]
) -> None:
    opened(seen)
    expect(seen.page.get_by_role("dialog")).to_be_visible()
    assert look(seen) == []


@pytest.mark.parametrize("theme", THEMES)
def test_the_login_has_no_serious_fault_and_no_faint_text(visit: Visit, theme: Any) -> None:
    visit.page.emulate_media(color_scheme=theme)
    visit.page.goto(visit.url)
    expect(visit.page.get_by_label("Token")).to_be_visible()
    assert look(visit) == []


def test_a_text_that_is_too_faint_is_found(visit: Visit) -> None:
    visit.page.set_content(
        '<html lang="en"><title>x</title><main><h1>x</h1><p style="color: #888">faint</p></main></html>'
    )
    assert [text[:24] for text in look(visit) if text.startswith("too faint")] == ["too faint: faint (3.54, "]
