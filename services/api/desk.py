"""The parts of the desk that routes need, in one place: the line to NATS, the ledger, what was heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from services.api.acknowledgements import Acknowledgements
from services.api.alert_channels import AlertChannels
from services.api.journal import Journal
from services.api.ledger import Ledger
from services.api.limits_in_force import LimitsInForce
from services.api.line import Line
from services.api.results import Results
from services.api.verbs import Verbs
from services.shared.pulses import Watch


@dataclass
class Desk:
    """Everything a request may use; made once, when the service starts."""

    trader: str
    line: Line
    ledger: Ledger
    watch: Watch
    verbs: Verbs
    results: Results
    limits: LimitsInForce
    journal: Journal
    acknowledgements: Acknowledgements
    channels: AlertChannels
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    readers: int = 0
    exports: int = 0

    @classmethod
    def assemble(cls, trader: str, line: Line, ledger: Ledger, channels: Path | None = None) -> Desk:
        """The parts that hang on line and ledger, put together; to be done before the line runs. `channels`
        is the file of alert channels."""
        watch = Watch()
        verbs = Verbs(line)
        limits = LimitsInForce(verbs)
        line.listen("heartbeat.>", watch.hear)
        line.listen("limits.*", limits.hear)
        journal = Journal(line, trader)
        return cls(
            trader,
            line,
            ledger,
            watch,
            verbs,
            Results(ledger),
            limits,
            journal,
            Acknowledgements(line, ledger, journal),
            AlertChannels(channels),
        )
