"""The documentation within the console: every page is there, and every link in it leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.api.console.docs_pages import GROUPS
from services.api.console.documentation import FOLDER, address, anchor, names, page, picture
from services.api.console.guidance import named_places

_LINK = re.compile(r'<a href="([^"]+)"')


def _pages() -> dict[str, str]:
    return {address(name): page(name).html for name in names()}


def _leads(link: str, here: str) -> bool:
    path, _, heading = link.partition("#")
    found = _pages().get(path or here)
    return found is not None and (not heading or f'id="{heading}"' in found)


def _links() -> Iterator[tuple[str, str]]:
    for here, html in _pages().items():
        for link in _LINK.findall(html):
            yield here, link


def test_every_link_leads_to_a_page_and_a_heading_or_to_another_site() -> None:
    found = list(_links())
    assert len(found) > 50
    assert [
        (here, link) for here, link in found if not re.match(r"https?:", link) and not _leads(link, here)
    ] == []


def test_whatever_an_alert_points_to_is_there() -> None:
    assert [place for place in named_places() if not _leads(place, "")] == []


def test_every_page_is_listed_and_every_listed_page_is_there() -> None:
    listed = {name for _, group in GROUPS for name in group}
    assert listed <= set(names())
    assert {name for name in names() if not name.startswith("decisions/")} == listed


@pytest.mark.parametrize("name", names())
def test_a_page_has_a_title_and_nothing_that_a_reader_should_not_see(name: str) -> None:
    shown = page(name)
    assert shown.title != name
    assert "<!--" not in shown.html
    assert "&lt;!--" not in shown.html
    assert "<script" not in shown.html
    assert "<h1" not in shown.html
    assert re.findall(r'<img src="(?!/docs/pictures/)', shown.html) == []


def test_a_file_of_the_source_tree_is_words_and_no_link() -> None:
    html = page("emergency").html
    assert "a test</" not in html
    assert "test_fail_closed" not in html


def test_headings_are_called_what_github_calls_them() -> None:
    assert anchor("Why an order was denied") == "why-an-order-was-denied"
    assert anchor("It won't stop: `desk stop`") == "it-wont-stop-desk-stop"


def test_only_pictures_of_the_pages_are_given_out() -> None:
    assert picture("backtest.png") is not None
    for name in ("../index.md", "make.py", "nothing.png", "../../pyproject.toml", ""):
        assert picture(name) is None
    assert Path(__file__).parents[2] / "docs" == FOLDER
