"""The pages say what is there: links lead somewhere, commands and names exist, tables are not behind.

Whether a sentence is true is for its writer; whether a name in it exists is looked at here.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from typer.core import TyperGroup

from services.api import openapi
from services.launcher.backtest import strategy_place
from services.launcher.cli import build
from services.launcher.strategy_check import check
from services.launcher.strategy_command import check_plan_of
from services.shared import commands, limits, metrics, subjects, trades_file
from services.shared.errors import InvalidInput
from services.shared.statistics import Statistics
from services.trader.strategies import catalogue

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
_ALL = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PHASES = {"NOT_DEPLOYED", "STARTING", "MONITORING", "STOPPING", "STOPPED", "HALTED", "COMPLETED", "FAILED"}


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _anchors(file: Path) -> set[str]:
    """The names under which a page's headings can be linked, as GitHub makes them."""
    headings = _HEADING.findall(file.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _fenced(page: Path, *languages: str) -> Iterator[str]:
    for language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def _shell_lines(page: Path) -> Iterator[str]:
    """Lines of the page's shell blocks, continued lines joined, comments gone."""
    for text in _fenced(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            yield re.sub(r"(^|\s)#\s.*$", "", line).strip()


@cache
def _desk() -> TyperGroup:
    group = typer.main.get_command(build())
    assert isinstance(group, TyperGroup)
    return group


def _complaints(words: list[str]) -> list[str]:
    """What of a `desk …` line does not exist: its command, or an option."""
    place: Any = _desk()
    rest = list(words)
    while isinstance(place, TyperGroup):
        if not rest or rest[0].startswith("-"):
            break
        name = rest.pop(0)
        if name not in place.commands:
            return [f"there is no command {name}"]
        place = place.commands[name]
    known = {option for parameter in place.params for option in parameter.opts} | {"--help", "-h"}
    given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return [f"there is no option {option}" for option in given if option not in known]


def _desk_commands(text: str) -> Iterator[list[str]]:
    """Every `desk …` in a line of shell, also within `$( )` and after a pipe."""
    for part in re.split(r"\$\(|[|;&]|\)(?=[\s\"/]|$)", text):
        clean = part.strip().strip('"')
        found = re.match(r"(?:\.venv/bin/)?desk(?: |$)(.*)", clean)
        if found:
            words = re.sub(r"[…]", "", found[1]).replace("'", '"')
            yield shlex.split(words if words.count('"') % 2 == 0 else words.replace('"', ""))


@_ALL
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken


@_ALL
def test_every_desk_command_and_option_exists(page: Path) -> None:
    lines = list(_shell_lines(page))
    lines += _CODE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    wrong = []
    for line in lines:
        for words in _desk_commands(line):
            wrong += [f"{line}: {complaint}" for complaint in _complaints(words)]
    assert not wrong


def test_the_check_of_commands_finds_what_does_not_exist() -> None:
    assert _complaints(["fly"]) == ["there is no command fly"]
    assert _complaints(["stop", "--softly", "--mode", "freeze"]) == ["there is no option --softly"]
    assert _complaints(["strategy", "guess", "x"]) == ["there is no command guess"]
    assert list(_desk_commands('curl -H "Authorization: Bearer $(desk token)" x')) == [["token"]]
    assert list(_desk_commands("nats_url=$(desk info --json | jq -r .nats_url)")) == [["info", "--json"]]


@_ALL
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z]+)", text)
    named += [line.split()[1] for line in _shell_lines(page) if re.match(r"make [a-z]", line)]
    assert not set(named) - targets


def test_the_readme_begins_with_the_two_commands() -> None:
    first = next(_fenced(README, "sh"))
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]


@_ALL
def test_every_named_route_exists(page: Path) -> None:
    known = [re.sub(r"\{\w+\}", "[^/]+", path) for path in json.loads(openapi.render())["paths"]]
    known += ["/api/openapi.json", "/api/docs"]
    named = re.findall(
        r"(/api/[a-z-]+(?:\.json)?(?:/(?:[<{]\w+[>}]|\w+))*)", page.read_text(encoding="utf-8")
    )
    assert not [path for path in named if not any(re.fullmatch(pattern, path) for pattern in known)]


@_ALL
def test_every_limit_that_is_set_exists_and_takes_the_value(page: Path) -> None:
    for line in _shell_lines(page):
        for words in _desk_commands(line):
            if words[:1] == ["limits"]:
                values = [word for word in words[1:] if re.match(r"[a-z_]+=", word)]
                limits.parse(limits.parse_assignments(values))


def test_the_limits_page_names_every_limit_and_no_other() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    table = page.split("<!-- table: limits -->")[1].split("<!-- end -->")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == limits.NAMES
    off = {name for name in limits.NAMES if _can_be_off(name)}
    stated = re.search(r"^- (.+) can be `off`\.", page, re.MULTILINE)
    assert stated is not None
    assert set(re.findall(r"`(\w+)`", stated[1])) == off


def _can_be_off(name: str) -> bool:
    try:
        limits.parse({name: "off"})
    except InvalidInput:
        return False
    return True


def test_every_reason_for_a_denial_is_said_somewhere_in_the_code() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    rows = page.split("## Why an order was denied")[1]
    named = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|([^|]+)\|", rows, re.MULTILINE))))
    source = "".join(
        path.read_text(encoding="utf-8")
        for service in ("trader", "risk")
        for path in (ROOT / "services" / service).rglob("*.py")
    )
    said = set(re.findall(r'(?:code=|_reason\(\s*)"([a-z_]+)"', source)) | set(limits.NAMES)
    assert named
    assert not named - said
    judged = (ROOT / "services" / "risk" / "judge.py").read_text(encoding="utf-8")
    assert set(re.findall(r'_reason\(\s*"([a-z_]+)"', judged)) <= named, "a denial nobody explains"


def test_every_column_of_the_trades_file_is_explained() -> None:
    page = (DOCS / "reading-the-numbers.md").read_text(encoding="utf-8")
    rows = page.split("## The trades file")[1]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]+)\|", rows, re.MULTILINE)))
    assert set(named) == set(trades_file.COLUMNS)


def test_every_statistic_and_phase_is_explained() -> None:
    page = (DOCS / "reading-the-numbers.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert set(Statistics.model_fields) <= named
    assert named >= _PHASES


def test_tables_are_what_the_code_says_now() -> None:
    assert [page.name for page in _generator().stale()] == [], "make docs"


@_ALL
def test_every_metric_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"`(desk_[a-z_]+)`", page.read_text(encoding="utf-8")))
    assert not named - {metric.name for metric in metrics.METRICS}


@_ALL
def test_every_subject_that_is_asked_exists(page: Path) -> None:
    for line in _shell_lines(page):
        for subject in re.findall(r"(?:req|pub) ([a-z.]+)", line):
            family, trader, verb = subject.split(".")
            assert trader == subjects.DEFAULT_TRADER
            assert family in ("control", "command")
            assert verb in (*commands.VERBS, "limits")


@_ALL
def test_bodies_that_are_shown_are_taken(page: Path) -> None:
    """Every JSON in a curl or nats line is read by the model that would get it, with no field ignored."""
    for line in _shell_lines(page):
        found = re.search(r"(?:req control|pub command)\.main\.([a-z]+) '(\{.*\})'", line)
        posted = re.search(r"/api/([a-z]+)\"?.* -d '(\{.*\})'", line)
        match = found or posted
        if match is None:
            continue
        kinds: dict[str, type[BaseModel]] = {
            "limits": commands.LimitsRequest,
            "risk": commands.LimitsRequest,
            "signals": commands.Signal,
        }
        kinds.update({str(verb): kind for verb, kind in commands.COMMANDS.items()})
        model = kinds[match[1]]
        model.model_validate_json(match[2])
        assert set(json.loads(match[2])) <= set(model.model_fields), line


def test_the_strategy_that_is_shown_loads_and_passes_the_check(tmp_path: Path) -> None:
    text = next(text for text in _fenced(DOCS / "strategies.md", "python"))
    file = tmp_path / "three_up.py"
    file.write_text(text, encoding="utf-8")
    plain, folder = strategy_place(str(file))
    kind = catalogue.find(plain, folder)
    assert set(re.findall(r"--set (\w+)=", "\n".join(_shell_lines(DOCS / "strategies.md")))) <= {
        *kind.Parameters.model_fields,
        *catalogue.find("rsi").Parameters.model_fields,
    }
    prices = tmp_path / "prices.csv"
    sample = (ROOT / "services/trader/feeds/sample/EURUSD-1h.csv").read_text(encoding="utf-8").splitlines()
    prices.write_text("\n".join(sample[:400]) + "\n", encoding="utf-8")
    findings = check(check_plan_of(str(file), str(prices), {}, None))
    assert findings.faults == []
    assert findings.trades > 0


def test_pictures_are_there_and_small() -> None:
    named = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert named
    for picture in named:
        assert 0 < picture.stat().st_size < 300_000


@_ALL
def test_no_page_names_a_place_or_secret_of_the_machine_it_was_written_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not re.search(r"/(home|root|tmp|work)/", text)
    assert not re.search(r"nats://operator:", text)
