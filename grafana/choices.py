"""What is chosen on more than one dashboard."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.panels import chosen

_TRADERS = "SELECT trader FROM grafana.runs UNION SELECT trader FROM grafana.limits ORDER BY 1"
_RUNS = """
SELECT concat_ws(' · ', to_char(deployed AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), strategy, instruments, phase)
    AS __text, run_id AS __value
FROM grafana.runs WHERE trader = '$trader' ORDER BY deployed DESC NULLS LAST LIMIT 500"""


def trader_choice() -> dashboard.QueryVariable:
    """Whose runs; the variable `trader`."""
    return chosen("trader", "Trader", _TRADERS, about="Whose runs.")


def run_choice() -> dashboard.QueryVariable:
    """Which run of the trader, the latest by itself; the variable `run`."""
    return chosen("run", "Run", _RUNS, about="By when it was deployed, the latest first.")
