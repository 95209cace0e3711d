"""What pages of trades need: how many there are of each kind, and every order a page may have.

A kind is what trades can be narrowed down by: strategy, instrument, side, outcome. There are few of them, so
a page is put together from a few rows of each, read from an index in the page's own order; however narrow the
filter, nothing is read that is not shown. The counts are sums, kept like a run's totals; so are the results by
month of trading days, for a run's report.
"""

# ruff: noqa: S608 - statements are put together from fixed texts
from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TEXT = 'text COLLATE "C"'
_KIND = "strategy, instrument, side, outcome"

_KINDS = f"""
CREATE TABLE trade_kinds (trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, strategy text NOT NULL,
    instrument text NOT NULL, side text NOT NULL, outcome text NOT NULL, trades bigint NOT NULL,
    PRIMARY KEY (trader, run_id, {_KIND}))"""
_COUNT = f"""
INSERT INTO trade_kinds SELECT trader, run_id, {_KIND}, count(*) FROM trades WHERE run_id <> ''
GROUP BY trader, run_id, {_KIND}"""

_MONTH = (  # of the trading day, as services.shared.calendar has it
    "date_trunc('month', (trade_time - interval '1 microsecond') AT TIME ZONE 'America/New_York'"
    " + interval '7 hours')::date"
)
_MONTHS = f"""
CREATE TABLE trade_months (trader {_TEXT} NOT NULL, run_id {_TEXT} NOT NULL, month date NOT NULL,
    trades bigint NOT NULL, wins bigint NOT NULL, losses bigint NOT NULL, pnl numeric NOT NULL,
    r_sum numeric NOT NULL, PRIMARY KEY (trader, run_id, month))"""
_SUM = f"""
INSERT INTO trade_months SELECT trader, run_id, {_MONTH}, count(*), count(*) FILTER (WHERE outcome = 'win'),
    count(*) FILTER (WHERE outcome = 'loss'), sum(pnl), coalesce(sum(r_multiple), 0)
FROM trades WHERE run_id <> '' GROUP BY 1, 2, 3"""

# A trade without a stop has no R; it counts as below all others, so that an index has its place.
R = "coalesce(r_multiple, '-Infinity'::numeric)"
_INDEXES = (
    *(
        f"CREATE INDEX trades_{scope}_by_{name} ON trades ({column}, {_KIND}, {key}, {tie})"
        for scope, column, tie in (("of_run", "run_id", "seq"), ("of_trader", "trader", "run_id, seq"))
        for name, key in (("time", "trade_time"), ("pnl", "pnl"), ("r", f"({R})"))
    ),
    # By time over all kinds it would look cheap, and read every trade of the others on the way.
    "DROP INDEX trades_by_trader",
    "CREATE INDEX trades_by_number ON trades (run_id, trade)",
    # A trade's orders: those that say which trade they belong to.
    (
        "CREATE INDEX orders_by_trade ON orders (run_id, ((detail->>'trade')::bigint))"
        " WHERE state IN ('intended', 'filled')"
    ),
    "CREATE INDEX orders_denied ON orders (run_id, order_no) WHERE state = 'denied'",
)


def upgrade() -> None:
    """Count what is there already, and make the indexes."""
    for statement in (_KINDS, _COUNT, _MONTHS, _SUM, *_INDEXES):
        op.execute(statement)
