"""The documentation within the console: every page under `/docs`, with the way around beside it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from fastapi import FastAPI
from nicegui import ui
from starlette.responses import FileResponse, PlainTextResponse, Response

from services.api.console.documentation import ROOT, address, names, page, picture
from services.api.console.frame import Frame

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Start", ("index", "first-run", "daily-use", "console", "trades-and-runs", "people")),
    ("When something is wrong", ("emergency", "troubleshooting", "stopping")),
    ("Trade", ("strategies", "backtest", "price-files", "limits", "reading-the-numbers", "trades-and-runs")),
    (
        "Run it",
        ("docker", "backup", "operations", "grafana", "people", "scaling", "kubernetes", "reference/metrics"),
    ),
    ("Programs", ("api", "nats", "reference/errors")),
)
"""The pages by what they are for; the decisions are listed by themselves."""
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def add(application: FastAPI, frame: Frame) -> None:
    """All of them, and the pictures within."""
    for name in names():
        frame.add(address(name), _title(name), _content(name))

    @application.get(f"{ROOT}/pictures/{{name}}")
    async def get_picture(name: str) -> Response:
        path = picture(name)
        if path is None:
            return PlainTextResponse("no such picture\n", 404)
        return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})


def _title(name: str) -> str:
    return f"Docs: {page(name).title}"


def _content(name: str) -> Callable[[], None]:
    def content() -> None:
        shown = page(name)
        with ui.element("div").classes("desk-docs").props("data-docs"):
            ui.html(_around(name), sanitize=False, tag="nav").props('aria-label="Documentation"').classes(
                "desk-docs-nav"
            )
            ui.html(shown.html, sanitize=False, tag="article").classes("desk-panel desk-article")

    return content


def _around(name: str) -> str:
    groups = "".join(
        f"<h2>{title}</h2><ul>{''.join(_link(each, each == name) for each in pages)}</ul>"
        for title, pages in GROUPS
    )
    decisions = [each for each in names() if each.startswith("decisions/")]
    here = name.startswith("decisions/")
    listed = (
        "".join(_link(each, each == name) for each in decisions) if here else _link("decisions/README", False)
    )
    return (
        f'<details class="desk-docs-fold"><summary>All pages</summary></details><div>{groups}'
        f"<h2>Why it is built so</h2><ul>{listed}</ul>"
        '<h2>For machines</h2><ul><li><a href="/api/docs">Every route of the API</a></li></ul></div>'
    )


def _link(name: str, here: bool) -> str:
    current = ' aria-current="page"' if here else ""
    inner = ""
    if here:
        inner = "".join(
            f'<li><a href="#{anchor}">{escape(text)}</a></li>' for anchor, text in page(name).headings
        )
    return (
        f'<li><a href="{address(name)}"{current}>{escape(page(name).title)}</a>'
        f"{f'<ul>{inner}</ul>' if inner else ''}</li>"
    )
