"""Takes the pictures of the console from the real thing: `make pictures`.

A desk of its own replays the packaged sample until some trades are closed; then every page is looked at in
light, in dark and on a phone, and the dialogs in light. Whatever is shown is what a person would see. The
machine's Chromium is used, nothing is downloaded.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

HERE = Path(__file__).resolve().parent / "console"
DESK = (sys.executable, "-m", "services.launcher")
PAGES = {
    "overview": "/",
    "trades": "/trades",
    "runs": "/runs",
    "risk": "/risk",
    "alerts": "/alerts",
    "settings": "/settings",
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 375, "height": 760},
        "color_scheme": "light",
        "is_mobile": True,
        "has_touch": True,
    },
}
CLOSED_TRADES = 25
PATIENCE = 300.0
COLORS = 96
LARGEST = 150_000


def until(holds: Callable[[], bool], what: str) -> None:
    """Look twice a second until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"expected {what} within {PATIENCE:.0f} s")
        time.sleep(0.5)


@contextmanager
def running(folder: Path) -> Iterator[dict[str, Any]]:
    """A desk, and how to reach it."""
    where = ("--data-dir", str(folder))
    arguments = ("up", "--no-browser", "--speed", "54000", *where)
    child = subprocess.Popen([*DESK, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = (*DESK, "status", "--json", *where)
        until(lambda: subprocess.run(status, capture_output=True).returncode == 0, "a desk that answers")
        said = subprocess.run([*DESK, "info", "--json", *where], capture_output=True, check=True)
        yield json.loads(said.stdout)
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(60)


def deploy(info: dict[str, Any]) -> None:
    """A deployment that somebody would leave alone, until it has something to show."""
    auth = {"Authorization": f"Bearer {info['token']}"}
    with httpx.Client(base_url=info["api_url"], headers=auth, timeout=30) as api:
        api.put("/api/risk", json={"values": {"drawdown": "300"}, "reason": "30 R"}).raise_for_status()
        api.post("/api/deploy", json={"strategy": "donchian"}).raise_for_status()
        until(
            lambda: bool(api.get("/api/status").json()["tasks_completed"] >= CLOSED_TRADES),
            f"{CLOSED_TRADES} trades",
        )


def log_in(page: Page, info: dict[str, Any]) -> None:
    """As the operator."""
    page.goto(info["api_url"])
    page.get_by_label("Token").fill(info["token"])
    page.get_by_label("Token").press("Enter")
    live(page)


def live(page: Page) -> None:
    """Wait until the page hears from the desk and has drawn what it shows."""
    expect(page.locator("[data-connection]")).to_have_attribute("data-connection", "live", timeout=60_000)
    page.wait_for_timeout(1500)  # charts move into their place


def keep(page: Page, name: str) -> None:
    """The picture, in few colours: the console has no photographs."""
    taken = Image.open(BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(COLORS).save(HERE / f"{name}.png", optimize=True)


def take(browser: Browser, info: dict[str, Any], look: str) -> None:
    """Every page in one look, and in light the dialogs too."""
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    log_in(page, info)
    for name, path in PAGES.items():
        page.goto(info["api_url"] + path)
        live(page)
        keep(page, f"{name}-{look}")
    if look != "dark":
        page.goto(info["api_url"])
        live(page)
        for button, name in (("Deploy", "deploy"), ("Stop", "stop")):
            page.get_by_role("button", name=button, exact=True).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            page.wait_for_timeout(1500)
            keep(page, f"{name}-{look}")
            page.keyboard.press("Escape")
            expect(page.get_by_role("dialog")).to_be_hidden()
    context.close()


def first_visit(browser: Browser, info: dict[str, Any]) -> None:
    """The door, and an empty desk."""
    context = browser.new_context(**LOOKS["light"])
    page = context.new_page()
    page.goto(info["api_url"])
    keep(page, "login-light")
    log_in(page, info)
    keep(page, "first-visit-light")
    context.close()


def main() -> int:
    """Take them all; fail when one is too large for a page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("expected Chromium (Debian, Ubuntu: apt install chromium)")
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    with (
        tempfile.TemporaryDirectory(prefix="tradedesk-docs-") as folder,
        running(Path(folder) / "desk") as info,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        first_visit(browser, info)
        deploy(info)
        for look in LOOKS:
            take(browser, info, look)
        browser.close()
    large = [path.name for path in HERE.glob("*.png") if path.stat().st_size > LARGEST]
    print(f"console: {len(list(HERE.glob('*.png')))} pictures" + (f", too large: {large}" if large else ""))
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
