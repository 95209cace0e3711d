"""The guard as a process: hears the trader, answers for its steps, keeps limits and halts, sends alerts.

It wires `guard` (what is decided), `hearing` (what is counted), `keeper` (what is written before it is
said), `control` (what is asked), `silence` and the alert channels to NATS. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from services.risk import measures
from services.risk.checks import Checks
from services.risk.control import Control
from services.risk.desk_orders import DeskOrders
from services.risk.hearing import Hearing
from services.risk.keeper import Keeper
from services.risk.silence import OTHERS_ALERT, Heartbeats, Silence
from services.shared import __version__, subjects
from services.shared.alerts import Alert, Alerter, read_urls
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import HEARTBEAT
from services.shared.errors import InvalidInput
from services.shared.events import AlertRaised, Severity
from services.shared.service import Health, ServiceSettings, beat, read_secret
from services.shared.wire import Event, decode

log = structlog.get_logger(__name__)

SERVICE = "risk"
_LOOK_EVERY = 0.5
_NOTE_EVERY = 5.0
_HEARD = ("trade.{}.*", "order.{}.*", "equity.{}", "status.{}", "adjustment.{}", "alert.{}", "outcome.{}")


class RiskSettings(ServiceSettings):
    """What the guard is told. It beats under its trader's name: `instance` is not asked for."""

    trader: str = subjects.DEFAULT_TRADER
    alert_urls_file: Path | None = None


class RiskService:
    """One guard for one trader. `run` until cancelled."""

    def __init__(self, bus: Bus, settings: RiskSettings, health: Health) -> None:
        self._bus = bus
        self._trader = settings.trader
        self._health = health
        self._keeper = Keeper(bus, settings.trader)
        self._hearing = Hearing(bus, settings.trader, self._keeper)
        self._heartbeats = Heartbeats(asyncio.get_running_loop().time())
        self._orders = DeskOrders(bus, settings.trader, self._keeper, self._hearing)
        self._control = Control(bus, settings.trader, self._heartbeats)
        self._checks = Checks(settings.trader, self._keeper, self._hearing, self._orders.read_commands)
        self._alerter = Alerter(read_urls(settings.alert_urls_file), on_trouble=self._channel_trouble)
        self._mailed: dict[str, None] = {}
        self._away_since: float | None = None
        self._away_told = False
        self._warned = False

    async def run(self) -> None:
        """Restore, listen, answer. Raises BusError or InvalidInput when it cannot begin."""
        self._health.unready("restoring")
        service = await self._open()
        await self._keeper.load()
        keeping = asyncio.create_task(self._keeper.run(), name="keeper")
        try:
            await self._work(keeping, service)
        finally:
            if not keeping.done():
                await self._keeper.settle(1.5)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self._keeper.leave()

    async def _work(self, keeping: asyncio.Task[None], service: Service) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_as_long_as(keeping))
                group.create_task(self._alerter.run())
                await self._orders.publish_limits()
                await self._listen(service)
                state = self._keeper.guard.state
                if self._live:
                    await self._hearing.read_gap(state.run_id, None)
                if told_to_leave():
                    raise asyncio.CancelledError
                group.create_task(self._hearing.follow_gaps())
                group.create_task(self._orders.follow_commands())
                group.create_task(beat(self._bus, self._health, SERVICE, self._trader))
                group.create_task(self._look())
                group.create_task(self._note())
                self._health.ready()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    # --- what is heard ----------------------------------------------------------------------------

    async def _open(self) -> Service:
        """Store what is asked from now on: that needs no memory, and nobody else does it."""
        service = await add_service(
            self._bus.client,
            ServiceConfig(
                name="desk-risk",
                version=__version__,
                description="The risk guard: permits and halts",
                # nats-py registers no endpoint without a queue group. One of its own does what none would:
                # guard and trader both hear a request. In the default group, "q", one of the two would.
                queue_group=f"risk-{self._trader}",
            ),
        )
        await self._bus.subscribe("heartbeat.>", self._guarded(self._hear_heartbeat))
        await self._control.open(service)
        return service

    async def _listen(self, service: Service) -> None:
        for pattern in _HEARD:
            await self._bus.subscribe(pattern.format(self._trader), self._guarded(self._hear_event))
        await self._bus.subscribe("market.*.bar", self._guarded(self._hear_bar))
        await self._bus.subscribe(f"command.{self._trader}.*", self._guarded(self._orders.hear_command))
        endpoints: tuple[tuple[str, str, Callable[[Request], Awaitable[None]]], ...] = (
            ("check", subjects.risk_check(self._trader), self._checks.answer),
            ("limits", subjects.control(self._trader, "limits"), self._orders.answer_limits),
        )
        for name, subject, handler in endpoints:
            await service.add_endpoint(name=name, subject=subject, handler=handler)

    def _guarded(self, handler: Callable[[Msg], Awaitable[None]]) -> Callable[[Msg], Awaitable[None]]:
        """A message that cannot be read is counted and goes no further."""

        async def handle(message: Msg) -> None:
            try:
                await handler(message)
            except InvalidInput:
                measures.IGNORED.labels(family=message.subject.partition(".")[0]).inc()

        return handle

    async def _hear_event(self, message: Msg) -> None:
        family = message.subject.partition(".")[0]
        if family != "alert" and family != "status" and self._hearing.lockstep:
            return
        event = decode(bytes(message.data))
        if subjects.event(event.envelope.type, event.envelope.trader) != message.subject:
            raise InvalidInput("an event on another event's subject")
        if isinstance(event.body, AlertRaised):
            self._mail(event, event.body)
        if event.envelope.emitter == "trader":
            self._heartbeats.heard("trader", asyncio.get_running_loop().time())
        self._hearing.take(event)

    async def _hear_bar(self, message: Msg) -> None:
        if self._live:
            self._hearing.take_bar(decode(bytes(message.data)))

    async def _hear_heartbeat(self, message: Msg) -> None:
        try:
            pulse = HEARTBEAT.validate_json(message.data)
        except ValueError:
            raise InvalidInput("no heartbeat") from None
        if not message.subject.startswith(f"heartbeat.{pulse.service}."):
            raise InvalidInput("a heartbeat in another's name")
        if pulse.service == "trader" and pulse.instance != self._trader:
            return  # another guard's to watch
        # The others may be several; there is one trader.
        process = pulse.began if pulse.service == "trader" else None
        self._heartbeats.heard(pulse.service, asyncio.get_running_loop().time(), process)

    # --- silence ----------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Twice a second: who is silent, is NATS there."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = loop.time()
            measures.HALTED.set(int(self._keeper.guard.halted))
            if not self._look_at_nats(now):
                continue
            live = self._live
            limits = self._keeper.guard.state.limits
            alert_after = {"trader": float(limits.silence_alert) if live else OTHERS_ALERT}
            for silence in self._heartbeats.look(now, alert_after):
                measures.SERVICE_SILENT.labels(service=silence.service).set(int(silence.state != "back"))
                self._on_silence(silence, live=live)

    @property
    def _live(self) -> bool:
        state = self._keeper.guard.state
        return state.mode == "live" and state.deployed

    def _look_at_nats(self, now: float) -> bool:
        """Whether NATS is there; its absence is told directly, since nothing else can carry it."""
        if self._bus.connected:
            if self._away_since is not None:
                self._heartbeats.start_over(now)
                if self._away_told:
                    self._tell_directly("INFO", "nats_back", "NATS is back.", "Nothing to do.")
                self._away_since, self._away_told = None, False
                self._health.ready()
            return True
        if self._away_since is None:
            self._away_since = now
            self._health.unready("NATS is away")
        elif not self._away_told and now - self._away_since >= OTHERS_ALERT:
            self._away_told = True
            text = (
                f"NATS has been away for {now - self._away_since:.0f} s: the services cannot hear each other."
            )
            self._tell_directly(
                "CRITICAL",
                "nats_away",
                text,
                "No entry leaves; stops at the broker stay. Look at the machine: `desk doctor`.",
            )
        return False

    def _on_silence(self, silence: Silence, *, live: bool) -> None:
        guard, service = self._keeper.guard, silence.service
        how = (
            f"was started {silence.started} times in {silence.seconds:.0f} s and does not stay up"
            if silence.started > 1
            else f"was not heard for {silence.seconds:.0f} s"
        )
        if silence.state == "fell":
            self._say_alert(
                "CRITICAL",
                f"{service}_silent",
                f"The {service} {how}.",
                "It is restarted by itself where the desk runs it; otherwise look at its log: `desk doctor`.",
            )
        elif silence.state == "back":
            self._say_alert("INFO", f"{service}_back", f"The {service} is heard again.", "Nothing to do.")
        if service == "trader" and live and silence.state != "back":
            state = guard.state
            exposed = bool(state.holdings or state.approved) or state.holding != "flat"
            if exposed and silence.seconds >= float(state.limits.silence_halt) and not guard.halted:
                text = f"the trader {how}, with a position or order open"
                self._keeper.say(guard.halt("trader_silent", text), now=True)

    # --- alerts -----------------------------------------------------------------------------------

    def _say_alert(self, severity: Severity, code: str, text: str, action: str) -> None:
        """An alert of the guard's own on the bus, stored first; it is mailed at once as well."""
        self._tell_directly(severity, code, text, action)
        self._keeper.say(self._keeper.guard.alert(severity, code, text, action), of_run=False)

    def _tell_directly(self, severity: Severity, code: str, text: str, action: str) -> None:
        log.warning("alert", severity=severity, code=code, text=text)
        self._alerter.add(Alert(severity, code, text, action, datetime.now(UTC), self._trader))

    def _mail(self, event: Event, alert: AlertRaised) -> None:
        """Hand a heard alert to the channels, once by its id; INFO is for the pages only."""
        known = str(event.envelope.id)
        if alert.severity == "INFO" or known in self._mailed:
            return
        self._mailed[known] = None
        while len(self._mailed) > 1000:
            del self._mailed[next(iter(self._mailed))]
        self._alerter.add(
            Alert(alert.severity, alert.code, alert.text, alert.action, event.envelope.time, self._trader)
        )

    def _channel_trouble(self, channel: str, failing: bool) -> None:
        text = (
            f"Alert channel {channel} does not deliver."
            if failing
            else f"Alert channel {channel} works again."
        )
        self._keeper.say(
            self._keeper.guard.alert(
                "WARNING" if failing else "INFO",
                "alert_channel",
                text,
                "Check its URL, password and network: `desk alerts test` tries it.",
            ),
            of_run=False,
        )

    async def _note(self) -> None:
        """Every few seconds: store how far it has come, so that a restart reads little."""
        while not told_to_leave():
            await asyncio.sleep(_NOTE_EVERY)
            with contextlib.suppress(NatsError):
                await self._hearing.note_places()
            self._keeper.change()


async def _as_long_as(task: asyncio.Task[None]) -> None:
    """End when `task` does, with its error."""
    await asyncio.shield(task)


async def serve(settings: RiskSettings, health: Health) -> None:
    """Connect and run the guard until cancelled."""
    bus = await Bus.connect(
        settings.nats_url, user=SERVICE, password=read_secret(settings.nats_password_file)
    )
    try:
        await RiskService(bus, settings, health).run()
    finally:
        await bus.close()
