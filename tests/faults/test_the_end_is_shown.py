"""How a run ended is shown, also when nothing could be shown while it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.shared import subjects
from services.shared.streams import prepare
from tests.desk_process import administering, desk, listening
from tests.hearing import until_step

pytestmark = pytest.mark.xdist_group("desk")


@pytest.mark.timeout(300)
async def test_a_stop_while_deployments_cannot_be_written_is_shown_when_they_can(tmp_path: Path) -> None:
    """As in a cluster whose node that leads the bucket is gone: here it is gone as a whole."""
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        running.cli("deploy", "--strategy", "donchian")
        run_id = running.status()["run_id"]
        async with listening(running) as client, administering(running) as admin:
            await until_step(client, 20)
            await admin.js.delete_stream(subjects.bucket_stream(subjects.DEPLOYMENTS))
            assert running.post("/api/stop", {})["state"] == "done"
            await prepare(admin)
        running.until(lambda: running.status()["phase"] == "STOPPED", 30, "the stop is shown")
        assert running.status()["run_id"] == run_id
        running.cli("deploy", "--strategy", "ema")
        assert running.status()["phase"] == "MONITORING"
