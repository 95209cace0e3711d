"""Fills the tables of these pages from the code they describe: `make docs`, or `--check` for a test.

A page marks a place with `<!-- table: NAME -->` and `<!-- end -->`; what stands between is written here.
The words around the tables are written by people.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import typer.main
from typer.core import TyperGroup

from services.api.app import create_app
from services.api.auth import Doorkeeper
from services.api.console.sessions import Sessions
from services.api.console.wording import TILES
from services.api.desk import Desk
from services.api.ledger import Ledger
from services.api.line import Line
from services.api.problems import Problem
from services.launcher import exit_codes
from services.launcher.cli import build
from services.shared import limits, subjects
from services.shared.commands import COMMANDS, VERBS, Command, LimitsRequest, Signal
from services.shared.events import BODIES
from services.shared.metrics import METRICS
from services.shared.statistics import explanations

HERE = Path(__file__).resolve().parent
PAGES = (HERE.parent / "README.md", *sorted(HERE.glob("*.md")), *sorted(HERE.glob("reference/*.md")))
MARK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TRADER = "<t>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells may hold anything but line breaks."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def code(text: str) -> str:
    """`text` as code, nothing for nothing."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    """Several texts as code."""
    return " ".join(code(text) for text in texts)


def limits_table() -> str:
    """Every limit: default, what happens when it is reached, what it counts."""
    defaults = limits.DEFAULTS.as_text()
    rows = [
        (code(name), defaults[name], action, meaning) for name, (action, meaning) in limits.MEANING.items()
    ]
    return table(("limit", "default", "when reached", "what it counts"), rows)


def statistics_table() -> str:
    """Every statistic and how it is worked out."""
    rows = [(code(name), text.replace("None", "`null`")) for name, text in explanations().items()]
    return table(("field", "what it is"), rows)


def tiles_table() -> str:
    """The console's tiles and the statistics they show."""
    return table(("tile", "field"), [(label, code(name)) for name, label in TILES])


def metrics_table() -> str:
    """Every metric, what it says, what to do."""
    rows = [
        (code(metric.name), metric.kind, metric.service, metric.meaning, metric.cure) for metric in METRICS
    ]
    return table(("metric", "kind", "service", "says", "when it is bad"), rows)


def exit_codes_table() -> str:
    """What `desk` ends with."""
    return table(("code", "meaning"), [(str(number), text) for number, text in exit_codes.MEANINGS.items()])


def _first(text: str | None) -> str:
    """The first sentence of a docstring."""
    plain = " ".join((text or "").split())
    return re.split(r"(?<=\.)\s", plain, maxsplit=1)[0]


def events_table() -> str:
    """Every event: its subject, what it says, its own fields."""
    rows = []
    for kind, body in BODIES.items():
        subject = subjects.bar("<instrument>") if kind == "market.bar" else subjects.event(kind, _TRADER)
        names = [field.name for field in dataclasses.fields(body)]
        rows.append((code(subject), _first(body.__doc__), codes(names)))
    return table(("subject", "says", "fields besides the envelope's"), rows)


def _field(name: str, model: type[Command] | type[LimitsRequest] | type[Signal]) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return f"`{name}` (needed)"
    default = field.get_default(call_default_factory=True)
    if default in (None, "", (), {}) or name == "costs":
        return code(name)
    return f"`{name}` ({str(default).lower() if isinstance(default, bool) else default})"


def commands_table() -> str:
    """What can be asked on `control` and `command`, with defaults."""
    common = set(Command.model_fields)
    rows = []
    for verb in VERBS:
        model = COMMANDS[verb]
        own = [
            name
            for name in model.model_fields
            if name not in common or (verb == "reset" and name == "reason")
        ]
        fields = ", ".join(_field(name, model) for name in own)
        rows.append((code(verb), _first(model.__doc__), fields))
    asked = ", ".join(_field(name, LimitsRequest) for name in LimitsRequest.model_fields if name != "version")
    rows.append(("`limits`", f"{_first(LimitsRequest.__doc__)} Only on `control.<t>.limits`.", asked))
    return table(("verb", "does", "fields (default)"), rows)


def streams_table() -> str:
    """What is kept, how much of it, and what happens when it is full."""
    rows = [
        (
            code(stream.name),
            codes(stream.subjects),
            f"{stream.max_bytes // 1024**2} MiB",
            "refuses" if stream.refuse_when_full else "forgets the oldest",
        )
        for stream in subjects.STREAMS
    ]
    return table(("stream", "subjects", "holds", "when full"), rows)


def permissions_table() -> str:
    """Who may publish and hear what."""
    rows = []
    for user in subjects.USERS:
        keeps = [f"reads {name}" for name in user.reads] + [f"writes {name}" for name in user.writes]
        keeps += [f"copies {name}" for name in user.copies]
        rows.append((code(user.name), codes(user.publish), codes(user.subscribe), ", ".join(keeps)))
    return table(("user", "publishes", "hears", "buckets and copies"), rows)


def routes_table() -> str:
    """Every route of the API."""
    desk = Desk.assemble("main", Line("nats://127.0.0.1:4222", ""), Ledger("postgresql://127.0.0.1/desk", ""))
    doorkeeper = Doorkeeper("0123456789abcdef")
    paths = create_app(desk, doorkeeper, Sessions(desk.line, doorkeeper)).openapi()["paths"]
    rows = [
        (code(f"{method.upper()} {path}"), operation["summary"])
        for path, operations in paths.items()
        for method, operation in operations.items()
    ]
    return table(("route", "what it is"), rows)


def _kinds(kind: type[Problem]) -> Iterable[type[Problem]]:
    """A problem's kinds, those they are made of first."""
    for narrower in kind.__subclasses__():
        yield narrower
        yield from _kinds(narrower)


def errors_table() -> str:
    """Every way the API says no."""
    kinds = sorted(_kinds(Problem), key=lambda kind: (kind.status, kind.code))
    rows = [(str(kind.status), code(kind.code), _first(kind.__doc__), kind.cure) for kind in kinds]
    return table(("status", "type urn:tradedesk:problem:…", "means", "what to do"), rows)


def desk_table() -> str:
    """Every command of `desk`."""
    group = typer.main.get_command(build())
    assert isinstance(group, TyperGroup)
    rows = [(code(f"desk {name}"), _first(command.help)) for name, command in group.commands.items()]
    return table(("command", "does"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "limits": limits_table,
    "statistics": statistics_table,
    "tiles": tiles_table,
    "metrics": metrics_table,
    "exit-codes": exit_codes_table,
    "events": events_table,
    "commands": commands_table,
    "streams": streams_table,
    "permissions": permissions_table,
    "routes": routes_table,
    "errors": errors_table,
    "desk": desk_table,
}


def filled(text: str) -> str:
    """The page with its tables as the code has them now; raises KeyError for a table nobody makes."""
    return MARK.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def stale() -> list[Path]:
    """Pages whose tables are not what the code says."""
    return [page for page in PAGES if page.exists() and filled(page.read_text()) != page.read_text()]


def main(arguments: Sequence[str]) -> int:
    """Write, or with `--check` only name, the pages that are behind."""
    behind = stale()
    for page in behind:
        if "--check" not in arguments:
            page.write_text(filled(page.read_text()))
        print(page.name)
    return int(bool(behind) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
