"""Every text of the console stands out from its ground by 4.5:1, in light and in dark."""

from __future__ import annotations

import re

import pytest

from services.api.console.entrance import ASSETS

ENOUGH = 4.5
_ON_PANEL = ("ink", "minor", "accent", "up", "down", "amber")
PAIRS = (
    *((text, ground) for text in _ON_PANEL for ground in ("panel", "ground")),
    *((name, f"{name}-tint") for name in ("up", "down", "amber", "accent")),
    ("on-strong", "go"),
    ("on-strong", "stop"),
    ("on-strong", "accent"),
    ("accent", "down-tint"),
    ("ink", "chip"),
    *((text, "chip") for text in ("minor", "accent", "up", "down")),
    ("ink", "amber-tint"),
    ("ink", "down-tint"),
    ("minor", "down-tint"),
)


def _colors(mode: str) -> dict[str, str]:
    css = (ASSETS / "desk.css").read_text()
    light, dark = (
        re.search(rf"^{selector} {{(.*?)}}", css, re.MULTILINE | re.DOTALL)
        for selector in (":root", r"body\.body--dark")
    )
    assert light is not None
    assert dark is not None
    found = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light[1]))
    return found | dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", dark[1])) if mode == "dark" else found


def _luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_stands_out(mode: str, text: str, ground: str) -> None:
    colors = _colors(mode)
    low, high = sorted(_luminance(colors[name]) for name in (text, ground))
    assert (high + 0.05) / (low + 0.05) >= ENOUGH
