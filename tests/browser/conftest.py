"""Chromium as the machine has it, driven by Playwright, and a page that keeps account of what it does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Request, sync_playwright

from tests.browser.visit import Visit
from tests.conftest import lacking
from tests.desk_process import DeskProcess, desk

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the distribution; nothing is downloaded. Not for longer than a module: while Playwright
    runs, this thread counts as one with a running event loop, in which no test with `async` could be run."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        lacking("no Chromium (Debian, Ubuntu: apt install chromium)")
    with sync_playwright() as playwright:
        # The sandbox needs rights that root in a container does not have; the pages are our own.
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    """A desk whose replay takes half a second for a bar; every test deploys for itself."""
    with desk(tmp_path_factory.mktemp("browser") / "desk", "--speed", "7200") as process:
        yield process


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that nobody has used before."""
    made = browser.new_context(viewport={"width": 1280, "height": 800})
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, running: DeskProcess) -> Iterator[Visit]:
    """Somebody before the shared desk. At the end: no error in the console, no request to elsewhere."""
    with watched(context, running) as made:
        yield made


class watched:  # noqa: N801 - reads as the word it is: `with watched(context, desk) as visit:`
    """A page on a desk, whose console and requests are looked at when it is left."""

    def __init__(self, context: BrowserContext, running: DeskProcess) -> None:
        self._errors: list[str] = []
        self._elsewhere: list[str] = []
        self._desk = running
        self._page = context.new_page()

    def __enter__(self) -> Visit:
        page, info = self._page, self._desk.info()
        here = urlsplit(info["api_url"]).netloc

        def said(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self._errors.append(message.text)

        def asked(request: Request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != here:
                self._elsewhere.append(request.url)

        page.on("console", said)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("request", asked)
        page.on(
            "websocket", lambda socket: self._elsewhere.extend([] if here in socket.url else [socket.url])
        )
        return Visit(page, info["api_url"], info["token"], self._desk)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            assert self._errors == []
            assert self._elsewhere == []
