"""`desk status`, `trades` and `export`: what the desk did and does."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from services.launcher import exit_codes
from services.launcher.client import DeskClient
from services.launcher.options import DataDirOption, JsonOption, data_of, desk_at, print_json, table_console
from services.shared.errors import InvalidInput

_WAIT = 60

RunOption = Annotated[
    str | None,
    typer.Option("--run", help="A deployment's run id [default: the last one]", show_default=False),
]
AllOption = Annotated[bool, typer.Option("--all", help="Over all deployments")]


def status(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Show where the deployment stands, and whether every service runs."""
    with desk_at(data_of(data_dir)) as desk:
        found = desk.get("/api/status")
        health = desk.get("/api/health")
    if as_json:
        print_json({**found, "health": health})
        return
    settings = found.get("settings") or {}
    typer.echo(f"deployment  {found['deployment_status']}{' (paused)' if found.get('paused') else ''}")
    rows = {
        "phase": found.get("phase"),
        "reason": found.get("reason"),
        "strategy": settings.get("strategy"),
        "run": found.get("run_id"),
        "holding": found.get("holding"),
        "deployed": found.get("deployment_time"),
        "ends": found.get("expected_completion"),
        "trades": found.get("tasks_completed"),
    }
    for name, value in rows.items():
        if value not in (None, ""):
            typer.echo(f"{name:<11} {value}")
    typer.echo(f"desk        {health['status']}")
    for problem in health.get("problems", []):
        typer.echo(f"            {problem}")


def trades(
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write the trades file; - is standard output", show_default=False),
    ] = None,
    run: RunOption = None,
    every: AllOption = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many to show, the newest")] = 20,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show closed trades of the last deployment, or write them all to a file.

    The file of a finished run is the very bytes desk backtest writes; it is waited for until the run is
    recorded completely.
    """
    query = _chosen(run, every)
    with desk_at(data_of(data_dir)) as desk:
        if csv is not None:
            _write(desk, {**query, "format": "csv"}, csv)
            return
        found = desk.get("/api/trades", {**query, "limit": limit})
    if as_json:
        print_json(found)
        return
    _print_trades(found["trades"])


def export(
    out: Annotated[Path, typer.Argument(help="The file to write; - is standard output")],
    form: Annotated[str, typer.Option("--format", help="csv or parquet")] = "csv",
    run: RunOption = None,
    every: AllOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Write the trades of the last deployment, of one, or of all, as CSV or Parquet."""
    if form not in ("csv", "parquet"):
        raise InvalidInput(f"--format: expected csv or parquet, was {form!r}")
    with desk_at(data_of(data_dir)) as desk:
        _write(desk, {**_chosen(run, every), "format": form}, out)


def _chosen(run: str | None, every: bool) -> dict[str, Any]:
    if run is not None and every:
        raise InvalidInput("give --run or --all, not both")
    return {"run_id": run, "all": "true" if every else None}


def _write(desk: DeskClient, query: dict[str, Any], out: Path) -> None:
    """Stream the export to a file or to standard output."""
    wanted = {**query, "wait": _WAIT}
    if str(out) != "-":
        complete = desk.download("/api/export", wanted, out)
        typer.echo(f"{out}: {out.stat().st_size} bytes", err=True)
        _say_whether(complete, desk, query.get("run_id"))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export"
        complete = desk.download("/api/export", wanted, path)
        with path.open("rb") as source:
            while chunk := source.read(1 << 16):
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    _say_whether(complete, desk, query.get("run_id"))


def _say_whether(complete: bool, desk: DeskClient, run: str | None) -> None:
    """Say it when more will come; exit with code 6 when the run is over and its end not recorded."""
    if complete:
        return
    now = desk.get("/api/status")
    if now.get("deployment_status") in ("DEPLOYED", "STOPPING") and run in (None, now.get("run_id")):
        typer.echo("the run goes on: more trades may come", err=True)
        return
    if now.get("deployment_status") == "NOT_DEPLOYED":
        return
    typer.echo("not everything is recorded yet: ask again (desk doctor says how the recorder is)", err=True)
    raise typer.Exit(exit_codes.UNDER_WAY)


def _print_trades(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not rows:
        typer.echo("no closed trades yet")
        return
    table = Table(box=None, pad_edge=False)
    for name in ("closed", "instrument", "side", "amount", "entry", "exit", "pnl", "R", "by", "balance"):
        table.add_column(name, justify="right" if name in ("amount", "pnl", "R", "balance") else "left")
    for row in reversed(rows):
        colour = {"win": "green", "loss": "red"}.get(row["outcome"], "white")
        r = row.get("r_multiple")
        table.add_row(
            row["trade_time"].replace("T", " ").removesuffix("Z"),
            row["instrument"],
            row["side"],
            row["amount"],
            row["entry_price"],
            row["exit_price"],
            f"[{colour}]{row['pnl']}[/]",
            "" if r is None else f"{float(r):.2f}",
            row["exit_reason"],
            row["equity"],
        )
    table_console().print(table)


__all__ = ["export", "status", "trades"]
