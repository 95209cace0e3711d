"""`make bench`: ratios measured side by side in one run, printed and written to bench.json.

Absolute times mean little on a shared machine; each figure is ours over a bare library's, or the other way
round, medians of five. `python -m tests.bench halt fsync` measures some only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    console_bench,
    dashboard_bench,
    engine_bench,
    fsync_bench,
    halt_bench,
    panels_bench,
    recorder_bench,
)

_OUT = Path("bench.json")
BENCHES: dict[str, Callable[[], dict[str, float]]] = {
    "engine": engine_bench.run,
    "recorder": recorder_bench.run,
    "halt": halt_bench.run,
    "dashboard": dashboard_bench.dashboard_bench,
    "fsync": fsync_bench.run,
    "console": console_bench.console_bench,
    "panels": panels_bench.panels_bench,
}
FIGURES: dict[str, tuple[str, str]] = {
    "engine_vs_backtesting": ("at least 1, aim 3", "bars/s of the backtest loop over backtesting.py's"),
    "recorder_vs_bare": ("at least 0.6, aim 0.8", "events/s over a loop that only fetches and acknowledges"),
    "recorder_peak_mb": ("below 150", "MB while it catches up on 1,000,000 events"),
    "blocked_p99_vs_rtt": ("at most 10", "realised loss to blocked, over a bare round trip, p99"),
    "blocked_p99_ms": ("", "the same in milliseconds"),
    "dashboard_1m_vs_10k": ("at most 1.3", "/api/dashboard at 1,000,000 trades over 10,000"),
    "dashboard_vs_csv": ("below 1", "/api/dashboard over reading a CSV of 1,000,000 trades with pandas"),
    "fsync_cost": ("", "an awaited publish that is on disk, over one that is not"),
    "panels_slowest_ms": (
        "below 200",
        "the slowest query of any panel or rule of Grafana's, at 1,000,000 trades",
    ),
    "console_usable_s": ("below 2", "seconds to a usable console at 1,000,000 trades, nothing cached"),
    "health_p99_5_consoles": ("at most 3", "/api/health with five open consoles over none, p99"),
    "console_heap_growth": ("about 1", "the page's memory after an hour of updates over the first tenth's"),
    "console_server_growth": ("about 1", "the API's memory over the same"),
}


def main() -> int:
    """Measure, print, write; 1 when a panel is too slow, 2 for a name that is none."""
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"bench: expected some of {', '.join(BENCHES)}, was {', '.join(unknown)}\n")
        return 2
    console = Console(stderr=True)
    found: dict[str, float] = {}
    for name in wanted:
        began = time.monotonic()
        with console.status(f"measuring: {name}"):
            found |= BENCHES[name]()
        console.print(f"{name} measured in {time.monotonic() - began:.0f} s")
    table = Table("figure", "measured", "asked", "what it is")
    for figure, (asked, meaning) in FIGURES.items():
        if figure in found:
            table.add_row(figure, f"{found[figure]:.3g}", asked, meaning)
    Console().print(table)
    before = json.loads(_OUT.read_text()) if _OUT.exists() and sys.argv[1:] else {}
    _OUT.write_text(
        json.dumps({**before, **{name: round(value, 4) for name, value in found.items()}}, indent=2) + "\n"
    )
    return 1 if found.get("panels_slowest_ms", 0) >= panels_bench.MOST_MS else 0


if __name__ == "__main__":
    sys.exit(main())
