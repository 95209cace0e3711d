"""Every subject, stream and key-value bucket of the desk, and which service may use which.

The launcher and the container images generate the NATS server's users from `USERS`; nothing else says
who may do what. Whatever a person might guess works: `nats sub 'trade.>'`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.shared.verbs import VERBS

DEFAULT_TRADER = "main"

EVENTS = "EVENTS"
COMMANDS = "COMMANDS"
MARKET = "MARKET"

STANDBY = "standby"
"""The service that a trader beats as while another of its id owns the account."""

RECORDER = "recorder"
"""The recorder's durable consumer, of the same name on each stream."""


def event(kind: str, trader: str) -> str:
    """The subject of an event type: `trade.closed` of `main` goes to `trade.main.closed`."""
    family, _, rest = kind.partition(".")
    return f"{family}.{trader}.{rest}" if rest else f"{family}.{trader}"


def bar(instrument: str) -> str:
    """Closed bars of an instrument; kept."""
    return f"market.{instrument}.bar"


def command(trader: str, verb: str) -> str:
    """A command to be stored and carried out."""
    return f"command.{trader}.{verb}"


def control(trader: str, verb: str) -> str:
    """The same command as a request, answered accepted or rejected."""
    return f"control.{trader}.{verb}"


def signal(trader: str) -> str:
    """Decisions from outside."""
    return f"signal.{trader}"


def risk_check(trader: str) -> str:
    """May these orders go? Asked by the trader, answered by the guard."""
    return f"risk.{trader}.check"


def heartbeat(service: str, instance: str) -> str:
    """Alive; not kept."""
    return f"heartbeat.{service}.{instance}"


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream and what it keeps. Both `EVENTS` and `COMMANDS` refuse when full; `MARKET` forgets its
    oldest bars, which can be had again from where they came."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    refuse_when_full: bool = True


STREAMS: tuple[Stream, ...] = (
    Stream(
        EVENTS,
        (
            "trade.>",
            "adjustment.>",
            "order.>",
            "limits.>",
            "equity.>",
            "status.>",
            "alert.>",
            "signal.>",
            "outcome.>",
            "action.>",
        ),
        4 * 1024**3,
    ),
    Stream(COMMANDS, ("command.>",), 256 * 1024**2),
    Stream(MARKET, ("market.*.bar",), 1024**3, refuse_when_full=False),
)

DEPLOYMENTS = "deployments"
SNAPSHOTS = "snapshots"
LEASES = "leases"
LIMITS = "limits"
CREDENTIALS = "credentials"
SESSIONS = "sessions"
BUCKETS: tuple[str, ...] = (DEPLOYMENTS, SNAPSHOTS, LEASES, LIMITS, CREDENTIALS, SESSIONS)
FORGOTTEN_AFTER: dict[str, float] = {LEASES: 15.0, SESSIONS: 31 * 24 * 3600.0}
"""Seconds after which a bucket forgets a key that nobody wrote. The others forget nothing. A lease outlasts the
election of a cluster's leader."""


def bucket_stream(bucket: str) -> str:
    """The stream that keeps a bucket."""
    return f"KV_{bucket}"


@dataclass(frozen=True, slots=True)
class User:
    """What one NATS user may publish and subscribe to. Its inbox is `_INBOX_<name>.>`.

    `streams` are consumed through a durable of the user's name, `watches` are read directly, by sequence,
    `copies` are had as snapshots.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...] = ()
    answers: bool = False
    admin: bool = False
    streams: tuple[str, ...] = field(default=())
    reads: tuple[str, ...] = field(default=())
    writes: tuple[str, ...] = field(default=())
    watches: tuple[str, ...] = field(default=())
    copies: tuple[str, ...] = field(default=())

    def may_publish(self) -> tuple[str, ...]:
        """Every subject the user may publish to, those of streams and buckets included."""
        subjects = list(self.publish)
        for stream in self.streams:
            subjects += [
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{self.name}",
                f"$JS.API.CONSUMER.INFO.{stream}.{self.name}",
                f"$JS.ACK.{stream}.{self.name}.>",
            ]
        for stream in self.copies:
            subjects += [
                f"$JS.API.STREAM.INFO.{stream}",
                f"$JS.API.STREAM.SNAPSHOT.{stream}",
                f"$JS.SNAPSHOT.ACK.{stream}.>",
            ]
        buckets = (bucket_stream(bucket) for bucket in dict.fromkeys(self.reads + self.writes))
        for stream in dict.fromkeys((*self.watches, *buckets)):
            subjects += [
                f"$JS.API.STREAM.INFO.{stream}",
                f"$JS.API.DIRECT.GET.{stream}",
                f"$JS.API.DIRECT.GET.{stream}.>",
            ]
        subjects += [f"$KV.{bucket}.>" for bucket in self.writes]
        if self.answers:
            subjects.append("_INBOX.>")
            subjects += [f"_INBOX_{user}.>" for user in ("trader", "risk", "api", "recorder", "operator")]
        return tuple(subjects)

    def may_subscribe(self) -> tuple[str, ...]:
        """Every subject the user may subscribe to, its own inbox included."""
        services = tuple(f"$SRV.{verb}{rest}" for verb in ("PING", "INFO", "STATS") for rest in ("", ".>"))
        return (*self.subscribe, f"_INBOX_{self.name}.>", *(services if self.answers else ()))


_ORDER_LIFE = ("intended", "denied", "accepted", "filled", "rejected", "cancelled")

USERS: tuple[User, ...] = (
    User("admin", publish=(">",), subscribe=(">",), admin=True),
    User(
        "trader",
        publish=(
            "trade.>",
            "adjustment.*",
            *(f"order.*.{step}" for step in _ORDER_LIFE),
            "equity.*",
            "status.*",
            "alert.*",
            "outcome.*",
            "market.*.bar",
            "market.*.quote",
            "risk.*.check",
            "heartbeat.trader.*",
            f"heartbeat.{STANDBY}.*",
        ),
        subscribe=("command.>", "control.*.*", "signal.*", "heartbeat.>"),
        answers=True,
        watches=(COMMANDS, EVENTS),
        reads=(LIMITS,),
        writes=(DEPLOYMENTS, SNAPSHOTS, LEASES),
    ),
    User(
        "risk",
        publish=(
            "order.*.approved",
            "order.*.denied",
            "limits.*",
            "alert.*",
            "outcome.*",
            # What is asked on control.*, and its own halts: nobody else of the desk's core may command.
            *(f"command.*.{verb}" for verb in VERBS),
            "heartbeat.risk.*",
        ),
        subscribe=(
            "command.>",
            "control.*.*",
            "risk.*.check",
            "trade.>",
            "order.>",
            "equity.*",
            "status.*",
            "adjustment.*",
            "market.>",
            "alert.*",
            "outcome.*",
            "heartbeat.>",
        ),
        answers=True,
        watches=(EVENTS, COMMANDS, MARKET),
        reads=(DEPLOYMENTS,),
        writes=(SNAPSHOTS, LIMITS),
    ),
    User(
        "recorder",
        publish=(
            "heartbeat.recorder.*",
            "$JS.API.STREAM.PURGE.EVENTS",
            "$JS.API.STREAM.PURGE.COMMANDS",
        ),
        subscribe=("heartbeat.>",),
        streams=(EVENTS, COMMANDS, MARKET),
        watches=(EVENTS, COMMANDS, MARKET),
        reads=(SNAPSHOTS, DEPLOYMENTS, LIMITS),
    ),
    User(
        "api",
        publish=("control.*.*", "command.>", "signal.*", "alert.*", "action.*", "heartbeat.api.*"),
        subscribe=(
            "trade.>",
            "adjustment.*",
            "order.>",
            "limits.*",
            "equity.*",
            "status.*",
            "alert.*",
            "outcome.*",
            "signal.*",
            "action.*",
            "market.>",
            "heartbeat.>",
        ),
        watches=(EVENTS, COMMANDS, MARKET, bucket_stream(SESSIONS)),
        reads=(DEPLOYMENTS, LIMITS),
        writes=(SESSIONS,),
    ),
    User(
        "backup",
        publish=(),
        reads=(SNAPSHOTS,),
        copies=(
            EVENTS,
            COMMANDS,
            MARKET,
            *(bucket_stream(name) for name in (SNAPSHOTS, DEPLOYMENTS, LIMITS)),
        ),
    ),
    User(
        "operator",
        publish=("command.>", "control.>", "signal.>", "$SRV.>"),
        subscribe=(">",),
    ),
)


def user(name: str) -> User:
    """The user of that name."""
    return next(user for user in USERS if user.name == name)
