"""`desk strategy`: lists strategies, shows their parameters, and checks one's own before it is deployed."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from services.launcher import exit_codes
from services.launcher.backtest import strategy_place
from services.launcher.deploy_options import pairs
from services.launcher.options import JsonOption, print_json
from services.launcher.strategy_check import check as check_plan
from services.shared import instruments
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput
from services.trader.feeds.replay import sample_path
from services.trader.plan import Plan, make_plan
from services.trader.strategies import catalogue
from services.trader.strategies.base import Strategy, make, timeframe_seconds

NameArgument = Annotated[str, typer.Argument(help="A name, or FILE.py:CLASS", metavar="NAME|FILE[:CLASS]")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter; repeat for more", metavar="NAME=VALUE")
]

app = typer.Typer(no_args_is_help=True, help="Lists, shows and checks strategies.", rich_markup_mode=None)


def _find(name: str) -> type[Strategy[Any]]:
    plain, folder = strategy_place(name)
    return catalogue.find(plain, folder)


def _about(kind: type[Strategy[Any]]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _parameters(kind: type[Strategy[Any]]) -> list[dict[str, Any]]:
    found = kind.Parameters.model_json_schema().get("properties", {})
    rows = []
    for name, schema in found.items():
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        rows.append(
            {
                "name": name,
                "type": schema.get("type", "text"),
                "default": schema.get("default"),
                "minimum": low,
                "above_minimum": "exclusiveMinimum" in schema,
                "maximum": high,
                "below_maximum": "exclusiveMaximum" in schema,
                "description": schema.get("description", ""),
            }
        )
    return rows


@app.command("list")
def list_strategies(as_json: JsonOption = False) -> None:
    """List the strategies that can be deployed by name."""
    found = []
    for name in catalogue.available():
        kind = catalogue.find(name)
        found.append({"name": name, "built_in": name in catalogue.BUILT_IN, "about": _about(kind)})
    if as_json:
        print_json(found)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for entry in found:
        table.add_row(str(entry["name"]), Text(str(entry["about"])))
    Console().print(table)


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what a strategy does and the parameters that --set takes."""
    kind = _find(name)
    rows = _parameters(kind)
    if as_json:
        document = {
            "name": kind.name,
            "about": inspect.getdoc(kind) or "",
            "timeframes": list(kind.timeframes),
            "instruments": list(kind.instruments),
            "parameters": rows,
        }
        print_json(document)
        return
    console = Console()
    console.print(Text(f"{kind.name}: {_about(kind)}"))
    if kind.timeframes or kind.instruments:
        console.print(Text(f"needs {', '.join((*kind.instruments, *kind.timeframes))}"))
    table = Table(box=None, pad_edge=False)
    for heading in ("parameter", "default", "range", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row["name"], str(row["default"]), _range(row), Text(row["description"]))
    console.print(table if rows else Text("It has no parameters."))


def _range(row: dict[str, Any]) -> str:
    parts = []
    if row["minimum"] is not None:
        parts.append(f"{'above' if row['above_minimum'] else 'from'} {row['minimum']:g}")
    if row["maximum"] is not None:
        parts.append(f"{'below' if row['below_maximum'] else 'to'} {row['maximum']:g}")
    return " ".join(parts) or str(row["type"])


@app.command()
def check(
    name: NameArgument,
    data: Annotated[
        str, typer.Option("--data", help="Price file [default: the packaged sample]", show_default=False)
    ] = "",
    set_: SetOption = None,
    bar: Annotated[str | None, typer.Option("--bar", help="Length of a bar", show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a strategy before it is left alone: exits with 1 when it must not be.

    Fails one that reads a clock or chance, and one that decides differently after a restore at any bar.
    """
    plan = check_plan_of(name, data, pairs(set_ or (), "--set"), bar)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("restoring at every bar", total=len(plan.feed))
        findings = check_plan(plan, lambda done, _: progress.update(task, completed=done))
    if as_json:
        print_json(
            {
                "strategy": plan.kind.name,
                "passed": findings.passed,
                "faults": findings.faults,
                "notes": findings.notes,
                "steps": findings.steps,
                "restores": findings.restores,
                "trades": findings.trades,
            }
        )
    else:
        console = Console()
        for fault in findings.faults:
            console.print(Text(f"fault: {fault}", style="red"))
        for note in findings.notes:
            console.print(Text(f"note: {note}", style="yellow"))
        verdict = "passed" if findings.passed else "must not be deployed"
        console.print(
            Text(
                f"{plan.kind.name} {verdict}: {findings.steps} bars, {findings.trades} trades, restored at "
                f"{findings.restores} bars"
            )
        )
    if not findings.passed:
        raise typer.Exit(exit_codes.FAILED)


def check_plan_of(name: str, data: str, parameters: dict[str, str], bar: str | None) -> Plan:
    """A run to check a strategy with: on the sample's prices for every instrument it declares, any rate 1,
    when no data is named. Raises InvalidInput."""
    plain, folder = strategy_place(name)
    kind = catalogue.find(plain, folder)
    make(kind, parameters)
    traded = kind.instruments or ("EURUSD",)
    rates: dict[str, str] = {}
    for symbol in traded:
        pair = instruments.find(symbol)
        if "USD" not in (pair.base, pair.quote):
            rates[f"USD{pair.quote}"] = "1"
    feed = data or ",".join(f"{symbol}={sample_path()}" for symbol in traded)
    try:
        command = Deploy(strategy=plain, instruments=traded, parameters=parameters, rates=rates)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    return make_plan(
        command,
        feed=feed,
        mode="lockstep",
        strategies=None if folder is None else Path(folder),
        bar_seconds=None if bar is None else timeframe_seconds(bar),
    )


def register(desk: typer.Typer) -> None:
    """Make it a group of commands of `desk`."""
    desk.add_typer(app, name="strategy")
