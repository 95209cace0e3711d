"""How much of a limit is used, as words, a level and a bar. Pure."""

from __future__ import annotations

from html import escape
from typing import Literal, TypeAlias

from services.api.answers.state import LimitRow
from services.api.console.wording import UNKNOWN, number

Level: TypeAlias = Literal["low", "half", "near", "reached", "full", "unknown"]
_HALF, _NEAR, _FULL = 50, 80, 100
_WORDS: dict[Level, str] = {
    "low": "low",
    "half": "over half",
    "near": "near",
    "reached": "reached",
    "full": "all in use",
    "unknown": "",
}
_SPELT = {"drawdown_percent": "Drawdown, percent", "equity_difference_seconds": "Equity difference, seconds"}


def title(name: str) -> str:
    """A limit's name as words."""
    return _SPELT.get(name, name.replace("_", " ").capitalize())


def level(row: LimitRow) -> Level:
    """How near the limit is. One that only denies orders may well be used up: the next order is denied."""
    share = row.used_percent
    if share is None:
        return "unknown"
    if row.action == "deny" and share >= _NEAR:
        return "full" if share >= _FULL else "half"
    if share >= _FULL:
        return "reached"
    return "near" if share >= _NEAR else "half" if share >= _HALF else "low"


def use_texts(row: LimitRow) -> dict[str, str]:
    """What is said of a limit's use, by the keys of the page's script; nothing where nobody can tell."""
    if row.used_percent is None:
        return {}
    used = UNKNOWN if row.used is None else f"{row.used.normalize():,f}"
    bound = UNKNOWN if row.bound is None else f"{row.bound.normalize():,f}"
    return {
        f"use-{row.name}": f"{used} of {bound}",
        f"share-{row.name}": f"{number(row.used_percent, 1)} %",
        f"word-{row.name}": _WORDS[level(row)],
    }


def bar(row: LimitRow) -> str:
    """The use of a limit as a bar with its words, as HTML that the page's script keeps up to date."""
    if row.value == "off":
        return '<span class="desk-minor">off</span>'
    if row.used_percent is None:
        looked_at = "checked with each order" if row.action == "deny" else "watched all the time"
        return f'<span class="desk-minor">{looked_at}</span>'
    texts = use_texts(row)
    name, share = row.name, min(max(row.used_percent, 0.0), 100.0)
    said = f"{texts[f'share-{name}']}, {texts[f'use-{name}']}, {texts[f'word-{name}']}"
    return (
        f'<div class="desk-use"><div class="desk-meter" role="meter" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{share:.1f}" aria-valuetext="{escape(said, quote=True)}"'
        f' aria-label="{escape(title(name), quote=True)}" data-meter="{name}" data-mark="use-{name}"'
        f' data-is="{level(row)}"><span style="width:{share:.1f}%"></span></div>'
        f'<span class="desk-use-words"><span data-live="share-{name}">{texts[f"share-{name}"]}</span>'
        f' <span class="desk-minor" data-live="use-{name}">{texts[f"use-{name}"]}</span>'
        f' <strong class="desk-level" data-mark="use-{name}" data-is="{level(row)}"'
        f' data-live="word-{name}">{texts[f"word-{name}"]}</strong></span></div>'
    )
