"""Tables as HTML: what the console's lists are made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from services.shared.errors import StorageUnavailable

Cell = tuple[str, str]
"""A cell's text and its class."""


def unavailable(error: StorageUnavailable) -> str:
    """What stands where something could not be read."""
    return f'<p role="alert">Not to be had now: {escape(str(error))}.</p>'


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str) -> str:
    """A table as HTML; a column whose name begins with `#` has numbers."""
    head = "".join(
        f'<th scope="col"{" class=desk-number" if column.startswith("#") else ""}>{escape(column.lstrip("#"))}</th>'
        for column in columns
    )
    body = "".join(
        "<tr>" + "".join(f'<td class="{css}">{escape(text)}</td>' for text, css in row) + "</tr>"
        for row in rows
    )
    if not body:
        return f'<p class="desk-minor">{escape(empty)}</p>'
    return (
        f'<div class="desk-scroll" tabindex="0" role="region" aria-label="{escape(name, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def plain(*texts: str) -> list[Cell]:
    """Cells of text without a class."""
    return [(text, "") for text in texts]
