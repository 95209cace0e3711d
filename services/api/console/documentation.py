"""The desk's own documentation as HTML, from the Markdown that is packaged with it. Nothing is asked of a network.

Pages link to one another under `/docs/`; a link to a file of the source tree that is no page stays as its words.
Headings are called what GitHub calls them, so that one link works in both places. How a page looks around its text is
`docs_pages`' business.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

_PACKAGED = Path(__file__).parent / "docs"
_IN_THE_TREE = Path(__file__).parents[3] / "docs"
FOLDER = _PACKAGED if _PACKAGED.is_dir() else _IN_THE_TREE
"""Where the pages are: in the package, or in the tree the package is installed from for work on it."""
ROOT = "/docs"
FIRST = "index"
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:")
_PICTURES = (".png", ".svg")


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its address, its title, its text as HTML, and the headings within, as (name, text)."""

    address: str
    title: str
    html: str
    headings: tuple[tuple[str, str], ...]


def names() -> tuple[str, ...]:
    """Every page by its path within the folder, without `.md`; the first page first."""
    found = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.md"))
    return (FIRST, *(name for name in found if name != FIRST))


def address(name: str) -> str:
    """Where a page is shown."""
    if name == FIRST:
        return ROOT
    return f"{ROOT}/{name.removesuffix('/README')}"


@cache
def page(name: str) -> Page:
    """The page of that name. Raises OSError when there is none."""
    text = _COMMENT.sub("", (FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    headings: list[tuple[str, str]] = []
    title = name
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            words = _words(tokens[place + 1])
            if token.tag == "h1":
                title = words
            elif token.tag == "h2":
                headings.append((anchor(words), words))
            token.attrSet("id", anchor(words))
        _lead(token, name)
    renderer = markdown.renderer
    assert isinstance(renderer, RendererHTML)
    html = renderer.render(tokens, markdown.options, {})
    return Page(address(name), title, _reachable(html), tuple(headings))


def anchor(heading: str) -> str:
    """The name under which a heading can be linked."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _words(token: Token) -> str:
    return "".join(child.content for child in token.children or () if child.type in ("text", "code_inline"))


def _lead(token: Token, name: str) -> None:
    """Have links and pictures within `token` lead to where they are shown here."""
    children = token.children or []
    for place, child in enumerate(children):
        if child.type == "image":
            child.attrSet("src", _picture(str(child.attrGet("src") or ""), name))
            child.attrSet("loading", "lazy")
        if child.type != "link_open":
            continue
        target = _target(str(child.attrGet("href") or ""), name)
        if target is None:
            closing = next(later for later in children[place:] if later.type == "link_close")
            child.type = closing.type = "text"
            child.tag = closing.tag = ""
        else:
            child.attrSet("href", target)


def _target(link: str, name: str) -> str | None:
    """Where a link of a page leads here: None for what is not shown. Other sites open as anywhere."""
    if _ELSEWHERE.match(link) or link.startswith("#"):
        return link
    path, _, rest = link.partition("#")
    within = _within(path, name)
    if within.endswith(".md") and (FOLDER / within).is_file():
        return address(within.removesuffix(".md")) + (f"#{rest}" if rest else "")
    if (FOLDER / within / "README.md").is_file():
        return address(within.rstrip("/"))
    return None


def _picture(source: str, name: str) -> str:
    return f"{ROOT}/{_within(source, name)}"


def _within(path: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), path))


def picture(name: str) -> Path | None:
    """The file of a picture of the pages, or None; never anything but a picture."""
    path = FOLDER / "pictures" / name
    return path if "/" not in name and path.suffix in _PICTURES and path.is_file() else None


def _reachable(html: str) -> str:
    """Wide tables and code scroll by themselves, also by keyboard."""
    html = html.replace("<table>", '<div class="desk-scroll" tabindex="0"><table>')
    html = html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    # The page around it has the first heading.
    return re.sub(r"(</?h)([1-5])\b", lambda found: f"{found[1]}{int(found[2]) + 1}", html)
