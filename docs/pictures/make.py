"""Takes the pictures of these pages from the real thing: `make pictures`.

`screen.svg` is what `desk up --demo` wrote to a terminal until the third trade was closed, with the token and
the place of the data (a desk of its own, deleted afterwards) replaced. `backtest.png` is the report of
`desk backtest` on the packaged sample. Run by hand: the demonstration takes a minute.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
DESK = (sys.executable, "-m", "services.launcher")
WIDTH, HEIGHT = 112, 40
CLOSED_TRADES = 3
PATIENCE = 300.0
LARGEST = 300_000
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""
"""rich's own format without its web font: a picture should ask nobody for anything."""


def _read(terminal: int, within: float) -> bytes:
    """What is there to read within so many seconds; nothing once the other end is closed."""
    try:
        return os.read(terminal, 65_536) if select.select([terminal], [], [], within)[0] else b""
    except OSError:
        return b""


def terminal_output(arguments: tuple[str, ...], closed: int) -> str:
    """What a desk writes to a terminal until so many trades are closed; it is then told to stop."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    child = subprocess.Popen([*DESK, *arguments], stdin=other, stdout=other, stderr=other, env=env)
    os.close(other)
    heard, deadline = b"", time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline and child.poll() is None:
            heard += _read(main, 1.0)
            plain = _ANSI.sub("", heard.decode(errors="replace"))
            if len(re.findall(r"^.{16}  closed ", plain, re.MULTILINE)) >= closed and plain.endswith("\n"):
                return heard.decode(errors="replace").replace("\r\n", "\n")
        raise SystemExit(
            f"expected {closed} closed trades in {PATIENCE:.0f} s, was:\n{heard.decode()[-2000:]}"
        )
    finally:
        child.send_signal(signal.SIGTERM)
        while child.poll() is None:  # a full terminal would hold it up
            _read(main, 0.2)
        os.close(main)


def anonymous(text: str, root: Path) -> str:
    """Without the token and the directory; the box keeps its width."""
    shown = {str(root): "~/.local/share/tradedesk"}
    token = re.search(r"│ token +([\w-]{20,})", _ANSI.sub("", text))
    if token:
        shown[token[1]] = "printed here; desk token prints it again"
    for secret, instead in shown.items():
        text = text.replace(secret.ljust(len(instead)), instead.ljust(len(secret)))
        text = text.replace(secret, instead.ljust(len(secret)))
    return text


def draw_screen(out: Path) -> None:
    """The screen of `desk up --demo` as SVG."""
    with tempfile.TemporaryDirectory(prefix="tradedesk-docs-" + "x" * 10) as folder:
        root = Path(folder) / "desk"
        text = terminal_output(("up", "--demo", "--no-browser", "--data-dir", str(root)), CLOSED_TRADES)
        lines = anonymous(text, root).rstrip("\n").split("\n")
    kept = [line for line in lines if "first start" not in line]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text.from_ansi("\n".join(kept)))
        console.save_svg(str(out), title="make run", code_format=_SVG, unique_id="desk")


def draw_backtest(out: Path) -> None:
    """Equity and drawdown of the sample as PNG."""
    subprocess.run([*DESK, "backtest", "--report", str(out)], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Draw both; fail when one is too large for a page."""
    draw_backtest(HERE / "backtest.png")
    draw_screen(HERE / "screen.svg")
    for picture in (HERE / "backtest.png", HERE / "screen.svg"):
        size = picture.stat().st_size
        print(f"{picture.name}: {size} bytes")
        if size > LARGEST:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
