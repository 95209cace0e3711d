"""A trader that dies at each start, as with a strategy that ends its process: the guard halts, and it ends flat.

It is heard for a moment each time, so it is never silent for long.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.desk_process import desk

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(400)]

# Its first process buys; each one that finds the position dies of it.
_ENDS_ITS_PROCESS = """
import os, signal

from services.trader.strategies.base import Context, Parameters, Strategy


class DeadlyParameters(Parameters):
    '''Nothing to set.'''


class Deadly(Strategy[DeadlyParameters]):
    '''Buys, and dies holding.'''

    name = "deadly"
    Parameters = DeadlyParameters

    @property
    def look_back(self) -> int:
        return 1

    def on_bar(self, ctx: Context) -> None:
        if ctx.position() is None:
            ctx.enter("buy", round(ctx.history().close[-1] * 0.995, 5))
        else:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_trader_that_dies_at_each_start_with_a_position_is_halted_and_flat(tmp_path: Path) -> None:
    strategy = tmp_path / "deadly.py"
    strategy.write_text(_ENDS_ITS_PROCESS)
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        running.cli("limits", "silence_alert=4", "silence_halt=12", "--reason", "a test")
        running.cli("deploy", "--strategy", f"{strategy}:Deadly")
        running.until(lambda: running.status()["phase"] == "HALTED", 120, "the desk is halted")
        running.until(lambda: running.status()["holding"] == "flat", 60, "the desk is flat")
        # It stays up without the strategy.
        running.until(lambda: running.alerts("trader_back") != [], 60, "the trader is back")
        silent = running.alerts("trader_silent")
        assert len(silent) == 2  # that it is, and that the guard halts for it
        assert all("does not stay up" in alert["text"] for alert in silent)
