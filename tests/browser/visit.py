"""Somebody at the console: logs in, reads, clicks, and counts the clicks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.desk_process import DeskProcess

PATIENCE = 30_000.0
"""Milliseconds for what takes as long as it takes."""


@dataclass
class Visit:
    """A page on a running desk."""

    page: Page
    url: str
    token: str
    desk: DeskProcess
    clicks: int = 0

    def click(self, what: Locator) -> None:
        """Click, and count it."""
        self.clicks += 1
        what.click()

    def button(self, name: str) -> Locator:
        """The button of that name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def live(self, key: str) -> Locator:
        """Where a value of the header or the overview stands."""
        return self.page.locator(f"[data-live={key}]").first

    def log_in(self, path: str = "/") -> None:
        """Paste the token and press Enter, which counts as a click."""
        self.page.goto(self.url)
        self.page.get_by_label("Token").fill(self.token)
        self.clicks += 1
        self.page.get_by_label("Token").press("Enter")
        self.until_live()
        if path != "/":
            self.page.goto(self.url + path)
            self.until_live()

    def until_live(self, patience: float = PATIENCE) -> None:
        """Wait until the page hears from the desk."""
        expect(self.page.locator("[data-connection]")).to_have_attribute(
            "data-connection", "live", timeout=patience
        )

    def until_phase(self, phase: str) -> None:
        """Wait until the header says so."""
        expect(self.live("phase")).to_have_text(phase, timeout=PATIENCE)

    def api(self) -> httpx.Client:
        """The API, with the token."""
        key = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=key, timeout=30)

    def status(self) -> dict[str, Any]:
        """`GET /api/status`."""
        return self.desk.status()

    def deploy(self) -> str:
        """Deploy by way of the API, unless something runs; returns the run."""
        with self.api() as api:
            answer = api.post("/api/deploy", json={"strategy": "donchian"}, params={"wait": 30})
            assert answer.status_code in (200, 409), answer.text
        self.desk.until(lambda: self.status()["phase"] == "MONITORING", 60, "the deployment runs")
        return str(self.status()["run_id"])
