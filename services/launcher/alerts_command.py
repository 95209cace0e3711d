"""`desk alerts`: what the desk has alerted to, and whether an alert would reach a person.

Trying the channels needs no running desk: it reads the very file that the services are given.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from services.launcher import exit_codes
from services.launcher.data_dir import ALERT_URLS
from services.launcher.options import DataDirOption, JsonOption, data_of, desk_at, print_json
from services.shared.alerts import read_urls, trial_alert, try_channels
from services.shared.errors import InvalidInput
from services.shared.subjects import DEFAULT_TRADER

_COLOURS = {"INFO": "cyan", "WARNING": "yellow", "CRITICAL": "red"}

app = typer.Typer(rich_markup_mode=None)


class Severities(StrEnum):
    """What an alert can be."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


@app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    severity: Annotated[
        Severities | None,
        typer.Option(case_sensitive=False, help="Only those of this severity", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest")] = 20,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the latest alerts, the newest last; desk alerts test tries the channels.

    Each says what happened and what to do. They are those of all deployments.
    """
    if context.invoked_subcommand is not None:
        context.obj = data_dir, as_json
        return
    query = {"limit": limit, "severity": None if severity is None else severity.value}
    with desk_at(data_of(data_dir)) as desk:
        found = desk.get("/api/alerts", query)
    if as_json:
        print_json(found)
        return
    if not found["alerts"]:
        typer.echo("no alerts")
    for alert in reversed(found["alerts"]):
        _show(alert)


def _show(alert: dict[str, Any]) -> None:
    when = str(alert["recorded"])[:19].replace("T", " ")
    severity = typer.style(f"{alert['severity']:<8}", fg=_COLOURS.get(alert["severity"]))
    typer.echo(f"{when}  {severity}  {alert['code']}: {alert['text']}")
    typer.echo(f"                     → {alert['action']}")


@app.command("test")
def try_them(context: typer.Context, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Send a test alert through every channel, once; works whether the desk is up or not.

    The channels are the Apprise URLs in secrets/alert-urls of the data directory, one a line. Exit code 1 when
    one did not take it, 2 when there is none or a line is no URL.
    """
    before: tuple[Path | None, bool] = context.obj or (None, False)  # said in front of the word test
    data_dir, as_json = data_dir or before[0], as_json or before[1]
    path = data_of(data_dir).secret(ALERT_URLS)
    urls = read_urls(path)
    if not urls:
        raise InvalidInput(f"no alert channel: write Apprise URLs, one a line (mailto://…), into {path}")
    try:
        answers = asyncio.run(try_channels(urls, trial_alert(DEFAULT_TRADER, datetime.now(UTC))))
    except ImportError:
        raise InvalidInput("Apprise, which sends alerts, is not installed here: make install") from None
    if as_json:
        print_json({"channels": [{"channel": name, "delivered": taken} for name, taken in answers.items()]})
    else:
        for name, taken in answers.items():
            typer.echo(f"channel {name}: {'delivered' if taken else 'failed'}")
    failed = [name for name, taken in answers.items() if not taken]
    if failed:
        typer.echo(f"desk: {', '.join(failed)}: check URL, password and network", err=True)
        raise typer.Exit(exit_codes.FAILED)


def register(main: typer.Typer) -> None:
    """Add the command and its own."""
    main.add_typer(app, name="alerts")


__all__ = ["register"]
