"""The guard's limits with what of each is used up, worked out from the run's last marks.

Shown, never enforced: the guard decides by its own sums, in its own process. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal

from services.api.answers.records import PositionRow
from services.api.answers.state import LimitRow
from services.api.results import Run, Standing
from services.shared.errors import InvalidInput
from services.shared.limits import MEANING, NAMES, Bound, Limits, parse
from services.shared.money import ZERO


def limit_rows(
    texts: Mapping[str, str], run: Run | None, standing: Standing | None, positions: Sequence[PositionRow]
) -> list[LimitRow]:
    """Each limit as the guard gave it; with its bound and use where the run's marks tell them."""
    try:
        limits = parse({name: text for name, text in texts.items() if name in NAMES})
    except InvalidInput:
        limits = None
    use = _use(limits, run, standing, positions) if limits is not None else {}
    rows = []
    for name, text in texts.items():
        action, meaning = MEANING.get(name, ("", ""))
        bound, used = use.get(name, (None, None))
        percent = round(float(used / bound * 100), 1) if bound and used is not None else None
        rows.append(
            LimitRow(
                name=name,
                value=text,
                action=action,
                meaning=meaning,
                bound=bound,
                used=used,
                used_percent=percent,
            )
        )
    return rows


def _use(
    limits: Limits, run: Run | None, standing: Standing | None, positions: Sequence[PositionRow]
) -> dict[str, tuple[Decimal | None, Decimal | None]]:
    """Bound and use by limit, both in the limit's own unit."""
    if run is None or standing is None or standing.mark is None:
        return {}
    mark, today = standing.mark, standing.today
    losses = max(-(standing.streak or 0), 0)
    most = max(Counter(row.instrument for row in positions).values(), default=0)
    percent = round(mark.drawdown / mark.peak * 100, 4) if mark.peak > 0 else None
    return {
        "drawdown": (limits.drawdown, mark.drawdown),
        "drawdown_percent": (limits.drawdown_percent, percent),
        "daily_loss": (
            _bound(limits.daily_loss, run.risk_per_trade),
            None if today is None else max(-today.pnl, ZERO),
        ),
        "losing_streak": (
            None if limits.losing_streak is None else Decimal(limits.losing_streak),
            Decimal(losses),
        ),
        "trade_risk": (_bound(limits.trade_risk, run.risk_per_trade), None),
        "open_risk": (_bound(limits.open_risk, run.risk_per_trade), mark.open_risk),
        "positions_per_instrument": (Decimal(limits.positions_per_instrument), Decimal(most)),
        "positions": (Decimal(limits.positions), Decimal(len(positions))),
        "notional": (_bound(limits.notional, mark.equity), None),
    }


def _bound(bound: Bound | None, unit: Decimal | None) -> Decimal | None:
    if bound is None or (bound.times and unit is None):
        return None
    return bound.amount(unit or ZERO)
