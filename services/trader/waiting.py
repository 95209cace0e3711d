"""A run whose strategy, price or rate file cannot be read when the trader restarts: it waits, and says so.

The trader stays up meanwhile. Here is what it waits for, when looking again makes sense, and what people are
told. Nothing can be priced without the feed, so nothing is called flat that is not: a stop or halt is taken on
and done once the files are back (`between_runs` decides that), and the run goes on from its snapshot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import structlog

from services.shared.commands import WAITS_FOR_FILE, Deploy, Deployment
from services.shared.errors import InvalidInput
from services.shared.events import AlertRaised
from services.trader.deployment import EngineState
from services.trader.feeds.rate_files import parse_rates
from services.trader.feeds.replay import parse_spec
from services.trader.loop import STATE
from services.trader.plan import Plan, make_plan
from services.trader.run import Run, asked, resume
from services.trader.settings import TraderSettings
from services.trader.snapshot import Deferred, RunSnapshot
from services.trader.strategies import catalogue

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5
_TRY_ANYWAY_AFTER = 30.0

Mark = tuple[int, int, int] | str


BACK = AlertRaised(
    severity="INFO",
    code="files_back",
    text="The run's files can be read again: it goes on from where it stood.",
    action="Nothing to do.",
)
"""What is told when the waiting is over."""


class FilesGone(InvalidInput):
    """A run cannot go on now because something it was deployed with cannot be read; the text says what."""


def take_up(kept: RunSnapshot, settings: TraderSettings) -> Run:
    """The run a snapshot was taken of. Raises FilesGone, after which trying again is worthwhile."""
    try:
        plan = _plan(kept, settings)
    except (InvalidInput, OSError) as error:
        raise FilesGone(str(error)) from None
    log.info("resumed", run_id=kept.run_id, cursor=kept.cursor)
    return resume(kept, plan, settings.trader)


def _plan(kept: RunSnapshot, settings: TraderSettings) -> Plan:
    plan = make_plan(
        asked(kept),
        feed=kept.feed,
        mode="live" if kept.speed else "lockstep",
        strategies=settings.data_dir / "strategies",
        rates=settings.data_dir / "rates",
        bar_seconds=kept.bar_seconds,
    )
    if len(plan.feed) < kept.steps:
        raise InvalidInput(
            f"{plan.feed.name}: expected {kept.steps} steps of prices, as when it was deployed, "
            f"was {len(plan.feed)}: a part of the file is missing"
        )
    return plan


class Waiting:
    """A run that waits for its files. `why` says for what; `look` finds out whether they are back."""

    def __init__(self, kept: RunSnapshot, settings: TraderSettings, why: str) -> None:
        self.kept = kept
        self.why = why
        self._settings = settings
        self._files = _files(asked(kept), kept.feed, settings.data_dir)
        self._state: EngineState = STATE.validate_python(kept.loop).engine
        self._seen = self._tried = self._marks()
        self._tried_at = asyncio.get_running_loop().time()

    @property
    def holds(self) -> bool:
        """Whether the run has a position or a working order."""
        state = self._state
        return bool(state.book.positions or state.orders.working)

    def _marks(self) -> tuple[Mark, ...]:
        return tuple(_mark(path) for path in self._files)

    async def look(self) -> Run | None:
        """The run, when its files can be read again; otherwise None, and `why` may be another.

        Files are read when they have changed and have then been left alone from one look to the next, so that
        one which is just being copied is not taken for whole; and every half minute in any case.
        """
        marks, now = self._marks(), asyncio.get_running_loop().time()
        settled, self._seen = marks == self._seen, marks
        changed = marks != self._tried
        if not settled or not (changed or now - self._tried_at >= _TRY_ANYWAY_AFTER):
            return None
        self._tried, self._tried_at = marks, now
        try:
            return await asyncio.to_thread(take_up, self.kept, self._settings)
        except FilesGone as error:
            self.why = str(error)
            return None

    def alert(self) -> AlertRaised:
        """What a person is told once."""
        stake = (
            "It has an open position, which nobody watches meanwhile." if self.holds else "It holds nothing."
        )
        return AlertRaised(
            severity="CRITICAL",
            code="files_missing",
            text=f"The run waits and does nothing, since a file it needs cannot be read: {self.why}. {stake}"[
                :1000
            ],
            action="Put the very same file back where it was: the run then goes on by itself from where it stood. "
            "A `desk stop` or `desk halt` is taken on at once and carried out then, not before.",
        )

    def deployment(self, shown: Deployment | None, deferred: Sequence[Deferred], now: datetime) -> Deployment:
        """What the API shows meanwhile: the run as it stood, and what it waits for."""
        kept, state = self.kept, self._state
        if shown is None or shown.run_id != kept.run_id:
            shown = self._unshown(now)
        verbs = " and ".join(dict.fromkeys(each.verb for each in deferred))
        reason = f"{WAITS_FOR_FILE}: {self.why}" + (f"; {verbs} will be carried out then" if verbs else "")
        return shown.model_copy(
            update={
                "phase": state.phase,
                "reason": reason,
                "paused": state.paused and state.ending is None,
                "holding": "open" if self.holds else "flat",
                "expected_completion": None,
                "finished": None,
                "tasks_completed": state.book.trades,
                "last_seq": kept.seqs.get("trader", 0),
                "updated": now,
            }
        )

    def _unshown(self, now: datetime) -> Deployment:
        """The run as far as its snapshot alone tells: what was shown of it has been lost."""
        command = asked(self.kept)
        return Deployment(
            trader=self._settings.trader,
            run_id=self.kept.run_id,
            phase="MONITORING",
            command_id=self.kept.command_id,
            settings={"strategy": command.strategy, "instruments": list(command.traded())},
            deployment_time=datetime.fromisoformat(self.kept.deployment_time),
            updated=now,
        )


def _files(command: Deploy, feed: str, data_dir: Path) -> tuple[Path, ...]:
    """Every file that the run is read from."""
    strategy = catalogue.file_of(command.strategy, data_dir / "strategies")
    _, rates = parse_rates(command.rates)
    return (
        *(() if strategy is None else (strategy,)),
        *parse_spec(feed, command.traded()).values(),
        *(data_dir / "rates" / path for path in rates.values()),
    )


def _mark(path: Path) -> Mark:
    """What changes when a file comes back, is written or may be read again."""
    try:
        found = path.stat()
    except OSError as error:
        return type(error).__name__
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


__all__ = ["BACK", "LOOK_EVERY", "FilesGone", "Waiting", "take_up"]
