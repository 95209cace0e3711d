"""Whether a strategy may be trusted unattended: no clock, no chance, and the same decisions after a restore.

Its source is read for what it must not use; then it trades a price file and is compared, step by step, with
itself run again, restored at every single bar, and restored once at each bar and left to go on.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError

from services.risk.guard import Guard
from services.shared.events import Body, TradeOpened
from services.shared.verdicts import Answer
from services.trader.feeds.base import MarketStep
from services.trader.loop import STATE, TradingLoop
from services.trader.plan import Plan
from services.trader.strategies.base import Strategy

_RUN = "check"
_GO_ON = 3
_FULL_RUNS = 12
_FORBIDDEN_MODULES = {
    "time": "a clock",
    "random": "chance",
    "secrets": "chance",
    "uuid": "chance",
    "asyncio": "a clock",
    "threading": "another thread",
    "multiprocessing": "another process",
    "subprocess": "another process",
    "socket": "the network",
    "urllib": "the network",
    "http": "the network",
    "httpx": "the network",
    "requests": "the network",
    "os": "the machine",
    "sys": "the machine",
}
_FORBIDDEN_CALLS = {
    "now": "a clock",
    "utcnow": "a clock",
    "today": "a clock",
}
_FORBIDDEN_NAMES = {
    "hash": "chance (it differs from process to process)",
    "id": "chance",
    "input": "a person",
}


@dataclass(slots=True)
class Findings:
    """What a check found. `faults` is empty when the strategy passed."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    restores: int = 0
    trades: int = 0

    @property
    def passed(self) -> bool:
        """Nothing speaks against it."""
        return not self.faults


def read_source(kind: type[Strategy[Any]]) -> list[str]:
    """What the file of a strategy uses that it must not, each with its line."""
    file = inspect.getsourcefile(kind)
    if file is None:
        return []
    path = Path(file)
    faults: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), path.name)):
        faults += [f"{path.name}:{line}: {text}" for line, text in _uses(node)]
    return faults


def _uses(node: ast.AST) -> list[tuple[int, str]]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Attribute):
        if node.attr in _FORBIDDEN_CALLS:
            return [(node.lineno, f".{node.attr} reads {_FORBIDDEN_CALLS[node.attr]}; use ctx.time")]
        if node.attr == "random":
            return [(node.lineno, "uses chance (.random)")]
        return []
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FORBIDDEN_NAMES:
        return [(node.lineno, f"{node.func.id}() depends on {_FORBIDDEN_NAMES[node.func.id]}")]
    else:
        return []
    found = []
    for name in names:
        parts = name.split(".")
        if parts[0] in _FORBIDDEN_MODULES:
            found.append(
                (node.lineno, f"imports {parts[0]}: a strategy must not use {_FORBIDDEN_MODULES[parts[0]]}")
            )
        elif "random" in parts:
            found.append((node.lineno, f"imports {name}: a strategy must not use chance"))
    return found


@dataclass(slots=True)
class _Reference:
    """One uninterrupted run: the steps, each one's facts and the guard's answer, and the state after it."""

    steps: list[MarketStep] = field(default_factory=list)
    facts: list[list[Body]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)
    carried: list[list[Body]] = field(default_factory=list)


def check(plan: Plan, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Run the checks over the plan's prices; `progress` is told how many of how many bars are restored."""
    findings = Findings(faults=read_source(plan.kind))
    reference = _reference(plan, findings)
    findings.steps = len(reference.steps)
    findings.trades = sum(isinstance(fact, TradeOpened) for facts in reference.facts for fact in facts)
    if not findings.trades:
        findings.notes.append("it never opened a trade on these prices, so the check says little")
    if not reference.steps or (findings.faults and not reference.states):
        return findings
    if _differs(reference, _fresh(plan), 0, len(reference.steps), findings, "run a second time"):
        findings.notes.append("the comparison with restores was left out: it does not even repeat itself")
        return findings
    _restore_everywhere(plan, reference, findings, progress)
    return findings


def _fresh(plan: Plan) -> TradingLoop:
    loop = plan.loop(_RUN)
    loop.start("check", None)
    return loop


def _reference(plan: Plan, findings: Findings) -> _Reference:
    found = _Reference()
    loop, guard = _fresh(plan), Guard()
    for step in plan.feed.steps():
        report = loop.advance(step)
        answer = guard.answer(report)
        loop.conclude(answer)
        try:
            state = STATE.dump_json(loop.snapshot())
        except (PydanticSerializationError, ValueError) as error:
            findings.faults.append(
                f"at {step.time:%Y-%m-%d %H:%M}: ctx.state holds what is no JSON: {error}"[:300]
            )
            break
        found.steps.append(step)
        found.facts.append(list(report.facts))
        # The guard's answers are kept as they were: an answer object may be the same one at every step.
        found.answers.append(Answer(answer.verdicts, answer.halt, answer.cancel_entries))
        found.states.append(state)
        found.carried.append(list(loop.carried))
        if loop.engine.state.phase == "FAILED":
            findings.faults.append(f"at {step.time:%Y-%m-%d %H:%M}: {loop.engine.state.ending.reason}")  # type: ignore[union-attr]
            break
        if loop.finished:
            break
    return found


def _restored(plan: Plan, reference: _Reference, after: int) -> TradingLoop:
    """A new loop with a new strategy, as it was after step number `after`."""
    loop = plan.loop(_RUN, STATE.validate_json(reference.states[after]), after + 1)
    loop.carry(reference.carried[after])
    return loop


def _differs(
    reference: _Reference,
    loop: TradingLoop,
    start: int,
    end: int,
    findings: Findings,
    how: str,
) -> bool:
    for row in range(start, min(end, len(reference.steps))):
        facts = list(loop.advance(reference.steps[row]).facts)
        if facts != reference.facts[row]:
            when = f"{reference.steps[row].time:%Y-%m-%d %H:%M}"
            findings.faults.append(
                f"at {when} it decides differently when {how}: {_change(reference.facts[row], facts)}"
            )
            return True
        loop.conclude(reference.answers[row])
    return False


def _change(before: Sequence[Body], now: Sequence[Body]) -> str:
    def names(facts: Sequence[Body]) -> str:
        return ", ".join(type(fact).__name__ for fact in facts) or "nothing"

    if names(before) != names(now):
        return f"{names(before)} became {names(now)}"
    changed = next((was, made) for was, made in zip(before, now, strict=True) if was != made)
    return f"{changed[0]} became {changed[1]}"[:300]


def _restore_everywhere(
    plan: Plan, reference: _Reference, findings: Findings, progress: Callable[[int, int], None] | None
) -> None:
    """Restore after each step and go on for a few; at some steps go on to the end."""
    count = len(reference.steps)
    every = max(1, count // _FULL_RUNS)
    for after in range(count - 1):
        end = count if after % every == every // 2 else after + 1 + _GO_ON
        when = f"restored after {reference.steps[after].time:%Y-%m-%d %H:%M}"
        loop = _restored(plan, reference, after)
        findings.restores += 1
        if _differs(reference, loop, after + 1, end, findings, when):
            return
        if progress is not None and not after % 64:
            progress(after, count)
