"""`desk up`, `down`, `info` and `token`: the desk itself, and how to reach it."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from services.launcher import process
from services.launcher.client import elsewhere, find
from services.launcher.data_dir import TOKEN, VIEWER_TOKEN, DataDir
from services.launcher.options import BarOption, DataDirOption, JsonOption, data_of, print_json
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput
from services.shared.nats_configuration import nats_secret

_DOWN_WITHIN = 90.0


def up(
    data_dir: DataDirOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="The API's port [default: 8000, or a free one]", show_default=False
        ),
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option(
            metavar="replay:FILE",
            help="Prices: a CSV or Parquet file, or replay:EURUSD=FILE,GBPUSD=FILE [default: the sample]",
            show_default=False,
        ),
    ] = None,
    bar: BarOption = None,
    broker: Annotated[str, typer.Option(help="Where orders go; paper is the only one yet")] = "paper",
    speed: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds of data in a second, 0 as fast as it goes [default: 36000]",
            show_default=False,
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Deploy donchian on EURUSD when nothing is deployed")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the console")] = False,
    log_level: Annotated[
        str, typer.Option(help="What the services write to their logs", hidden=True)
    ] = "INFO",
) -> None:
    """Start the desk and show what happens, until Ctrl-C.

    NATS, PostgreSQL and the four services run as processes of this one, on this machine only. What dies is
    started again. Stopping the desk does not stop a deployment: the next desk up continues it.
    """
    from services.launcher.desk import DeskOptions
    from services.launcher.up_command import absolute_feed
    from services.launcher.up_command import up as run
    from services.trader.strategies.base import timeframe_seconds

    if broker != "paper":
        raise InvalidInput(f"--broker: expected paper, was {broker!r}")
    options = DeskOptions(
        port=port,
        feed=absolute_feed(feed),
        bar_seconds=None if bar is None else timeframe_seconds(bar),
        speed=None if speed is None else f"{speed:.12g}",
        broker=broker,
        log_level=log_level.upper(),
    )
    run(data_of(data_dir), options, demo=demo, browser=not no_browser)


def down(data_dir: DataDirOption = None) -> None:
    """Stop the desk that runs on this data, in order, and wait until it is gone.

    A deployment is not stopped by it (see desk stop): the next desk up continues it.
    """
    data = data_of(data_dir)
    launcher = process.recall(data.run / "launcher.json")
    if launcher is None:
        if _tidy(data):
            typer.echo("the desk was killed earlier; what it left behind has been stopped")
            return
        raise DeskNotRunning(f"no desk runs on {data.root}")
    launcher.send_signal(signal.SIGTERM)
    if not process.wait_gone(launcher, _DOWN_WITHIN):
        raise DeskError(f"the desk (pid {launcher.pid}) is still stopping after {_DOWN_WITHIN:.0f} s")
    typer.echo("the desk is down")


def _tidy(data: DataDir) -> bool:
    """End what a killed launcher left; False when there was nothing."""
    from services.launcher.leftovers import end_leftovers

    if not data.run.is_dir():
        return False
    data.lock()
    ended = end_leftovers(data)
    data.notice.unlink(missing_ok=True)
    (data.run / "launcher.json").unlink(missing_ok=True)
    data.unlock()
    return bool(ended)


def facts(data: DataDir) -> dict[str, Any]:
    """How to reach the running desk, credentials included; of one that `DESK_URL` names, what is known of it.

    Raises DeskNotRunning.
    """
    if elsewhere() is not None:
        address = find(data)
        return {"api_url": address.url, "token": address.token}
    notice = data.running()
    password = data.read_secret(nats_secret("operator"))
    return {
        "api_url": notice.get("api_url"),
        "token": data.read_secret(TOKEN),
        "nats_url": f"nats://operator:{password}@127.0.0.1:{notice.get('nats_port')}",
        "data_dir": str(data.root),
        "trader": notice.get("trader"),
        "feed": notice.get("feed") or "the packaged sample",
        "version": notice.get("version"),
        "pid": notice.get("pid"),
        "started": notice.get("started"),
        "logs": str(data.logs),
        "python": sys.executable,
        "services": notice.get("children", {}),
    }


def info(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Print how to reach the desk: address, token, NATS with its credentials, data directory.

    With the nats command line: nats --server "$(desk info --json | jq -r .nats_url)" sub 'trade.>'
    """
    found = facts(data_of(data_dir))
    if as_json:
        print_json(found)
        return
    for name in ("api_url", "token", "nats_url", "data_dir", "logs", "feed", "version", "pid", "started"):
        if name in found:
            typer.echo(f"{name:<10} {found[name]}")
    for name, child in found.get("services", {}).items():
        typer.echo(
            f"{name:<10} {child['state']}, pid {child['pid']}, started again {child['restarts']} times"
        )


def token(
    data_dir: DataDirOption = None,
    viewer: Annotated[bool, typer.Option("--viewer", help="The token of somebody who only looks")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the token of console and API; it works whether the desk is up or not.

    The operator's may do everything, the viewer's may look at everything and change nothing.
    """
    found = data_of(data_dir).read_secret(VIEWER_TOKEN if viewer else TOKEN)
    if as_json:
        print_json({"token": found})
    else:
        typer.echo(found)


__all__ = ["down", "facts", "info", "token", "up"]
