"""The guard's limits as the API's answers have them, with what of each is used up. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.api.answers.records import PositionRow
from services.api.answers.state import LimitRow
from services.api.results import Run, Standing
from services.shared.errors import InvalidInput
from services.shared.limit_use import UNKNOWN, RunFacts, Use, limit_use
from services.shared.limits import MEANING, NAMES, parse


def limit_rows(
    texts: Mapping[str, str], run: Run | None, standing: Standing | None, positions: Sequence[PositionRow]
) -> list[LimitRow]:
    """Each limit as the guard gave it; with its bound and use where the run's marks tell them."""
    use = _use(texts, run, standing, positions)
    rows = []
    for name, text in texts.items():
        action, meaning = MEANING.get(name, ("", ""))
        of_it = use.get(name, UNKNOWN)
        rows.append(
            LimitRow(
                name=name,
                value=text,
                action=action,
                meaning=meaning,
                bound=of_it.bound,
                used=of_it.used,
                used_percent=of_it.percent,
            )
        )
    return rows


def _use(
    texts: Mapping[str, str], run: Run | None, standing: Standing | None, positions: Sequence[PositionRow]
) -> dict[str, Use]:
    if run is None or standing is None or standing.mark is None:
        return {}
    try:
        limits = parse({name: text for name, text in texts.items() if name in NAMES})
    except InvalidInput:
        return {}
    mark, today = standing.mark, standing.today
    facts = RunFacts(
        risk_per_trade=run.risk_per_trade,
        equity=mark.equity,
        peak=mark.peak,
        drawdown=mark.drawdown,
        open_risk=mark.open_risk,
        day_pnl=None if today is None else today.pnl,
        streak=standing.streak,
        holding=[row.instrument for row in positions],
    )
    return limit_use(limits, facts)
