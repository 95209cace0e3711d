"""`desk backtest`: runs a strategy over a price file and shows, saves and draws what came of it.

What a backtest does is in `backtest`; here are its options, its table and its files.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services.launcher.backtest import Result, plan_backtest, run_backtest
from services.launcher.backtest_report import ambiguity, assumptions, rows, write_html, write_png
from services.launcher.deploy_options import DeployOptions, with_deploy_options
from services.launcher.options import BarOption, JsonOption, print_json
from services.shared import trades_file
from services.shared.errors import InvalidInput
from services.shared.limits import DEFAULTS, Limits, deploy_check, parse
from services.shared.wire import wire_time
from services.trader.strategies.base import timeframe_seconds

DataOption = Annotated[
    str,
    typer.Option(
        "--data",
        help="Price file, CSV or Parquet; for several instruments EURUSD=FILE,GBPUSD=FILE "
        "[default: the packaged sample]",
        metavar="FILE",
        show_default=False,
    ),
]
TradesOption = Annotated[
    Path | None,
    typer.Option(
        "--trades", help="Write the closed trades here, as CSV", metavar="OUT.csv", show_default=False
    ),
]
LimitsOption = Annotated[
    Path | None,
    typer.Option(
        "--limits",
        help="JSON or TOML file with the guard's limits by name",
        metavar="FILE",
        show_default=False,
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Draw equity and drawdown: a directory for equity.png and report.html, or a .png or .html file",
        metavar="DIR|FILE",
        show_default=False,
    ),
]


@with_deploy_options
def backtest(
    options: DeployOptions,
    data: DataOption = "",
    trades: TradesOption = None,
    limits: LimitsOption = None,
    bar: BarOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a strategy over a price file: the desk's own engine, guard and paper broker, without a desk.

    The same data through desk up at speed 0 gives the same trades file, byte for byte.
    """
    in_force = read_limits(limits)
    seconds = None if bar is None else timeframe_seconds(bar)
    plan = plan_backtest(options.command(), data, bar_seconds=seconds)
    with _progress() as progress:
        task = progress.add_task(
            f"{plan.terms.strategy} on {', '.join(plan.terms.instruments)}", total=len(plan.feed)
        )
        result = run_backtest(plan, in_force, lambda done: progress.update(task, completed=done))
    written = _write(result, trades, report)
    if as_json:
        print_json(as_document(result, written))
    else:
        show(result, written, Console())


def read_limits(path: Path | None) -> Limits:
    """The limits of a file, the defaults for what it does not name; raises InvalidInput."""
    if path is None:
        return DEFAULTS
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except OSError as error:
        raise InvalidInput(f"--limits {path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"--limits {path}: expected JSON (or TOML, named .toml): {error}") from None
    if isinstance(found, dict) and isinstance(found.get("limits"), dict):
        found = found["limits"]
    if not isinstance(found, dict) or any(isinstance(value, dict | list) for value in found.values()):
        raise InvalidInput(f'--limits {path}: expected names and values such as {{"drawdown": 2500}}')
    return parse({name: "off" if value is None else str(value) for name, value in found.items()})


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _write(result: Result, trades: Path | None, report: Path | None) -> dict[str, str]:
    written: dict[str, str] = {}
    try:
        if trades is not None:
            with trades.open("w", encoding="utf-8", newline="") as out:
                trades_file.write(result.ledger.trades, result.plan.terms.currency, out)
            written["trades"] = str(trades)
        if report is not None:
            suffix = report.suffix.lower()
            if suffix not in {".png", ".html"}:
                report.mkdir(parents=True, exist_ok=True)
            if suffix != ".html":
                picture = report if suffix == ".png" else report / "equity.png"
                write_png(result, picture)
                written["picture"] = str(picture)
            if suffix != ".png":
                page = report if suffix == ".html" else report / "report.html"
                write_html(result, page)
                written["page"] = str(page)
    except OSError as error:
        raise InvalidInput(f"{error.filename or 'a file'} cannot be written: {error.strerror}") from None
    return written


def as_document(result: Result, written: dict[str, str]) -> dict[str, Any]:
    """The result for programs: money as text, ratios as numbers, what is undefined null."""
    terms, ledger = result.plan.terms, result.ledger
    return {
        "strategy": terms.strategy,
        "parameters": terms.parameters,
        "instruments": list(terms.instruments),
        "currency": terms.currency,
        "balance": format(terms.balance, "f"),
        "risk_per_trade": format(terms.risk_per_trade, "f"),
        "weekend": terms.weekend,
        "costs": terms.costs,
        "rates": dict(result.plan.command.rates),
        "limits": result.limits.as_text(),
        "feed": [
            {
                "instrument": found.instrument,
                "file": found.file,
                "rows": found.rows,
                "bar_seconds": found.seconds,
                "gaps": found.gaps,
                "weekends": found.weekends,
                "crossed": found.crossed,
                "first": wire_time(found.first),
                "last": wire_time(found.last),
            }
            for found in result.plan.feed.reports
        ],
        "phase": ledger.phase,
        "reason": ledger.reason,
        "statistics": result.statistics.model_dump(mode="json"),
        "ambiguous_bars": result.ambiguous,
        "target_first": None if result.target_first is None else result.target_first.model_dump(mode="json"),
        "denied": dict(sorted(ledger.denied.items())),
        "interventions": [
            {"time": wire_time(when), "action": change.action, "reason": change.reason}
            for when, change in ledger.interventions
        ],
        "steps": result.bars,
        "seconds": round(result.seconds, 3),
        "written": written,
    }


def show(result: Result, written: dict[str, str], console: Console) -> None:
    """The result for people: costs and assumptions first, then the numbers."""
    facts = Table(
        title="Costs and assumptions", title_justify="left", show_header=False, box=None, pad_edge=False
    )
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in assumptions(result):
        facts.add_row(name, Text(value))
    terms = result.plan.terms
    checked = deploy_check(result.limits, terms.risk_per_trade, terms.balance)
    for limit in checked:
        text = Text(f"{limit.name} {limit.amount:,.2f}: {limit.in_r} R, {limit.percent} % of the balance")
        if limit.amber:
            text.append(f" - wide; {limit.proposed:,.2f} is proposed", style="yellow")
        facts.add_row("Limit", text)
    console.print(facts)
    console.print()
    table = Table(
        title=f"Result: {result.ledger.phase}", title_justify="left", show_header=False, pad_edge=False
    )
    for _ in range(2):
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
    shown = [(row.label, row.value) for row in rows(result)]
    half = (len(shown) + 1) // 2
    for left, right in zip(shown[:half], [*shown[half:], ("", "")], strict=False):
        table.add_row(*left, *right)
    console.print(table)
    console.print(Text(ambiguity(result)))
    if result.ledger.denied:
        reasons = ", ".join(f"{code} {count}" for code, count in sorted(result.ledger.denied.items()))
        console.print(Text(f"Entries denied, by reason: {reasons}."))
    for when, change in result.ledger.interventions:
        console.print(Text(f"{wire_time(when)} {change.action}: {change.reason}", style="yellow"))
    console.print(
        Text(f"{result.bars:,} steps in {result.seconds:.2f} s ({result.ledger.reason}).", style="dim")
    )
    for kind, path in written.items():
        console.print(Text(f"{kind}: {path}", style="dim"))


def register(app: typer.Typer) -> None:
    """Make it a command of `desk`."""
    app.command()(backtest)
