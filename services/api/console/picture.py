"""One look at the desk, as all consoles show it: made from what the API's answers are made of.

Values arrive here worded (`wording`); what came new since the look before is told apart by
`changes_since`. The equity curve and the bars as a whole are `curves`' business: only what is new of them
is here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.api import halts, queries, trade_pages
from services.api.acknowledgements import MOST_COUNTED
from services.api.answers.records import PositionRow
from services.api.answers.state import StatusAnswer
from services.api.console import wording
from services.api.console.curves import Bar, Point, bars_after, points_after
from services.api.console.limit_use import level, use_texts
from services.api.console.stops import last_stop
from services.api.dashboard import chosen_run, status_or_none
from services.api.desk import Desk
from services.api.positions import open_positions
from services.api.results import Run, Standing
from services.api.risk_in_use import limit_rows
from services.api.status import health
from services.api.verdicts import verdicts
from services.shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from services.api.ledger import Proxy

SHOWN_TRADES = 12
SHOWN_ALERTS = 6
_MODES = {"paper": "PAPER", "sim": "SIM", "saxo-sim": "SIM", "live": "LIVE", "saxo": "LIVE"}
_ADDED = ("points", "bars")


@dataclass(slots=True)
class Picture:
    """What a page shows. `text` and `mark` go by key: words, and what colours them; `points` and `bars`
    are those since the look before."""

    text: dict[str, str] = field(default_factory=dict)
    mark: dict[str, str] = field(default_factory=dict)
    clock: dict[str, int | None] = field(default_factory=dict)
    run: str | None = None
    note: str = ""
    first_steps: bool = False
    trades: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    position: dict[str, Any] | None = None
    stop: dict[str, Any] | None = None
    verdicts: dict[str, Any] | None = None
    points: list[Point] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    last_point: datetime | None = None
    last_bar: datetime | None = None
    status: StatusAnswer | None = None
    positions: list[PositionRow] = field(default_factory=list)

    def whole(self) -> dict[str, Any]:
        """Everything, for a page that knows nothing yet."""
        return {name: getattr(self, name) for name in _TOLD if name not in _ADDED}

    def changes_since(self, before: Picture) -> dict[str, Any]:
        """What is not as it was."""
        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in _TOLD
            if name not in (*_ADDED, "text", "mark") and getattr(self, name) != getattr(before, name)
        }
        for name in ("text", "mark"):
            known = getattr(before, name)
            fresh = {key: value for key, value in getattr(self, name).items() if known.get(key) != value}
            if fresh:
                changes[name] = fresh
        changes.update({name: getattr(self, name) for name in _ADDED if getattr(self, name)})
        return changes


_TOLD = tuple(
    entry.name
    for entry in fields(Picture)
    if entry.name not in ("last_point", "last_bar", "status", "positions")
)


async def look(desk: Desk, before: Picture) -> Picture:
    """The desk now. What cannot be had keeps its last value, and `note` says so."""
    now = datetime.now(UTC)
    status, _ = await status_or_none(desk, desk.trader)
    problems = health(desk).problems
    seen = Picture(
        note="; ".join(problems),
        text=dict(before.text),
        mark=dict(before.mark),
        clock=before.clock,
        run=before.run,
        first_steps=before.first_steps,
        trades=before.trades,
        alerts=before.alerts,
        position=before.position,
        stop=before.stop,
        verdicts=before.verdicts,
        last_point=before.last_point,
        last_bar=before.last_bar,
        status=status or before.status,
        positions=before.positions,
    )
    if status is not None:
        _take_status(seen, status)
    try:
        async with (
            desk.ledger.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await _take_records(desk, connection, seen, status, now)
    except StorageUnavailable as error:
        if not any(problem.startswith("database") for problem in problems):
            problems.append(f"database: {error}")
            seen.note = "; ".join(problems)
    # The guard's silence is worth a word, but makes no figure old.
    seen.mark["doubtful"] = str(any(not problem.startswith("risk") for problem in problems)).lower()
    return seen


def _take_status(seen: Picture, status: StatusAnswer) -> None:
    broker = str(status.settings.get("broker", "paper"))
    mode = _MODES.get(broker, broker.upper())
    phase = "PAUSED" if status.paused and status.phase == "MONITORING" else status.phase
    seen.text.update(mode=mode, phase=phase.replace("_", " ").lower(), reason=status.reason)
    seen.mark.update(mode=mode.lower(), phase=phase.lower(), deployed=str(status.phase in _UNDER_WAY).lower())
    ended = status.finished or (status.updated if status.phase not in _UNDER_WAY else None)
    moments = {"start": status.deployment_time, "end": status.expected_completion, "ended": ended}
    seen.clock = {name: None if at is None else wording.milliseconds(at) for name, at in moments.items()}
    strategy, instruments = status.settings.get("strategy"), status.settings.get("instruments", ())
    seen.text["standing"] = _STANDING.get(status.phase, "").format(reason=status.reason)
    seen.text["running"] = f"{strategy} on {', '.join(instruments)}" if strategy else wording.UNKNOWN


_STANDING = {
    "HALTED": "Halted: {reason}. Nothing can be deployed until somebody resets it, with a reason.",
    "FAILED": "Failed: {reason}",
}
"""What is said below the header of a phase that somebody has to do something about."""
_UNDER_WAY = frozenset({"STARTING", "MONITORING", "STOPPING"})


async def _take_records(
    desk: Desk, connection: Proxy, seen: Picture, status: StatusAnswer | None, now: datetime
) -> None:
    run = await chosen_run(desk, connection, desk.trader, None, status)
    alerts = (await queries.alerts(connection, desk.trader, limit=SHOWN_ALERTS)).alerts
    seen.alerts = [wording.alert(row) for row in alerts]
    open_critical = await desk.acknowledgements.open_critical(connection, desk.trader)
    seen.text["open-critical"] = f"{open_critical}{'+' if open_critical == MOST_COUNTED else ''}"
    newest = alerts[0].id if alerts else ""
    seen.text["alerts-news"] = f"{newest} {desk.acknowledgements.version}"
    run_id = run.run_id if run else ""
    phase = status.phase if status else ""
    seen.text["risk-news"] = f"{await halts.news(connection, desk.trader, run_id)} {phase} {run_id}"
    seen.stop = await last_stop(desk, connection, now)
    seen.first_steps = run is None and (status is None or status.run_id is None)
    if run is None:  # nothing of it is recorded yet: an older run's figures are not its
        seen.run, seen.trades, seen.positions, seen.verdicts = None, [], [], None
        _take_standing(seen, None, None)
        _take_position(seen)
        return
    if run.run_id != seen.run:
        seen.run, seen.last_point, seen.last_bar = run.run_id, None, None
    standing = await desk.results.standing(connection, run)
    _take_standing(seen, run, standing)
    last = trade_pages.TradeFilter(trader=desk.trader, run_id=run.run_id)
    seen.trades = [
        wording.trade(row) for row in (await trade_pages.trades(connection, last, limit=SHOWN_TRADES)).trades
    ]
    seen.positions = await open_positions(connection, run.run_id)
    _take_position(seen)
    seen.verdicts = (await verdicts(connection, desk.trader, run.run_id)).model_dump()
    _take_limits(desk, seen, run, standing)
    await _take_curves(connection, seen, run, standing)


def _take_limits(desk: Desk, seen: Picture, run: Run, standing: Standing) -> None:
    """How much of each limit is used; nobody waits here for a guard that does not answer."""
    known = desk.limits.latest(desk.trader)
    if known is not None and known.limits is not None:
        rows = limit_rows(known.limits, run, standing, seen.positions)
        for row in rows:
            seen.text.update(use_texts(row))
            seen.mark[f"use-{row.name}"] = level(row)


async def _take_curves(connection: Proxy, seen: Picture, run: Run, standing: Standing) -> None:
    """What is new of them; before the first look at a run there is nothing to be new to."""
    end = standing.mark.time if standing.mark else None
    if seen.last_point is not None and end is not None and end > seen.last_point:
        seen.points = await points_after(connection, run, seen.last_point)
        seen.bars = await bars_after(connection, run, seen.last_bar or seen.last_point)
    seen.last_point = seen.last_bar = end


def _take_standing(seen: Picture, run: Run | None, standing: Standing | None) -> None:
    mark = standing.mark if standing else None
    today = standing.today if standing else None
    currency = (run.currency if run else None) or ""
    seen.text.update(
        currency=currency,
        equity=wording.money(mark.equity if mark else None),
        today=wording.money(today.pnl if today else None, signed=True),
        today_percent=f"{wording.number(today.percent, 2, signed=True)} %" if today and today.percent else "",
        drawdown=wording.money(mark.drawdown if mark else None),
        open_risk=wording.money(mark.open_risk if mark else None),
        unrealised=wording.money(mark.unrealised if mark else None, signed=True),
        marked_at=wording.moment(mark.time if mark else None),
    )
    seen.mark.update(
        today=wording.sign(today.pnl if today else None),
        unrealised=wording.sign(mark.unrealised if mark else None),
    )
    statistics = standing.statistics if standing else None
    seen.text.update({f"tile-{name}": text for name, text in wording.tile_texts(statistics).items()})


def _take_position(seen: Picture) -> None:
    first = seen.positions[0] if seen.positions else None
    known = " | ".join(wording.position(row) for row in seen.positions)
    seen.text["position"] = known or ("flat" if seen.run else wording.UNKNOWN)
    seen.mark["position"] = first.side if first else "flat"
    seen.position = (
        None
        if first is None
        else {
            "instrument": first.instrument,
            "side": first.side,
            "entered": wording.milliseconds(first.entry_time),
            "entry": float(first.entry_price),
            "stop": None if first.stop is None else float(first.stop),
            "target": None if first.target is None else float(first.target),
        }
    )
