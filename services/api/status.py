"""Where a deployment stands, from the trader's own record of it; works without the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, TypeAlias, cast, get_args

from services.api.answers.state import HealthAnswer, PartHealth, ServicePulse, StatusAnswer
from services.api.desk import Desk
from services.api.watch import EXPECTED, LATE_AFTER
from services.shared import __version__
from services.shared.commands import Deployment

DeploymentStatus: TypeAlias = Literal[
    "NOT_DEPLOYED", "DEPLOYED", "STOPPING", "STOPPED", "HALTED", "COMPLETED", "FAILED"
]
_RUNNING = frozenset({"STARTING", "MONITORING"})


def deployment_status(phase: str) -> DeploymentStatus:
    """A phase as people ask for it: DEPLOYED while it runs, otherwise the phase itself."""
    if phase in _RUNNING:
        return "DEPLOYED"
    return cast(DeploymentStatus, phase) if phase in get_args(DeploymentStatus) else "NOT_DEPLOYED"


def status_of(trader: str, deployment: Deployment | None, now: datetime) -> StatusAnswer:
    """The status of a trader that may never have been deployed."""
    if deployment is None:
        deployment = Deployment(trader=trader, run_id="", phase="NOT_DEPLOYED", updated=now)
    status = deployment_status(deployment.phase)
    end = deployment.expected_completion
    left = max((end - now).total_seconds(), 0.0) if end is not None and status == "DEPLOYED" else None
    return StatusAnswer(
        trader=trader,
        deployment_status=status,
        phase=deployment.phase,
        paused=deployment.paused,
        holding=deployment.holding,
        halted=deployment.phase == "HALTED",
        reason=deployment.reason,
        run_id=deployment.run_id or None,
        deployment_time=deployment.deployment_time,
        expected_completion=end,
        finished=deployment.finished,
        seconds_left=left,
        progress=deployment.progress,
        tasks_completed=deployment.tasks_completed,
        settings=deployment.settings,
        updated=deployment.updated,
    )


async def read_status(desk: Desk, trader: str) -> StatusAnswer:
    """The trader's status now. Raises BusError."""
    return status_of(trader, await desk.line.deployment(trader), datetime.now(UTC))


def pulses(desk: Desk) -> list[ServicePulse]:
    """Every service heard of, and how long ago."""
    return [
        ServicePulse(
            service=pulse.beat.service,
            instance=pulse.beat.instance,
            version=pulse.beat.version,
            state=pulse.beat.state,
            age=pulse.age,
            lag=pulse.beat.lag,
        )
        for pulse in desk.watch.pulses()
    ]


def health(desk: Desk) -> HealthAnswer:
    """How the desk does, from what is known already: this never waits for anybody."""
    problems = []
    nats = PartHealth(ok=desk.line.connected, reason="" if desk.line.connected else "not connected")
    if not nats.ok:
        problems.append("nats: not connected")
    database = PartHealth(ok=desk.ledger.problem is None, reason=desk.ledger.problem or "")
    if not database.ok:
        problems.append(f"database: {database.reason}")
    for service in EXPECTED if nats.ok else ():
        age = desk.watch.silence(service)
        if age > LATE_AFTER:
            problems.append(f"{service}: not heard for {age:.0f} s")
    return HealthAnswer(
        status="degraded" if problems else "ok",
        version=__version__,
        uptime=(datetime.now(UTC) - desk.started).total_seconds(),
        nats=nats,
        database=database,
        services=pulses(desk),
        problems=problems,
    )
