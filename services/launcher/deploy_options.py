"""The options of a deployment, one definition for `desk deploy` and `desk backtest`.

What an option may be and its default are `commands.Deploy`'s; here are only their names on the command
line and their words. Bringing files to where the trader reads them is `deploy_files.py`'s business.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import ValidationError

from services.shared.commands import Costs, Deploy
from services.shared.errors import InvalidInput
from services.shared.wire import explain

_COSTS = ("spread", "slippage", "commission", "leverage")


def _default(name: str) -> str:
    model = Costs if name in _COSTS else Deploy
    return f"[default: {model.model_fields[name].default}]"


def _option(help_text: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_text, metavar=metavar, show_default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """What was given; None and empty mean the default. `command()` checks it."""

    strategy: Annotated[
        str | None,
        _option(
            f"donchian, ema, rsi, signals, an installed one, or FILE.py:CLASS {_default('strategy')}",
            metavar="NAME|FILE:CLASS",
        ),
    ] = None
    instrument: Annotated[
        list[str] | None, _option("What to trade; repeat or separate by commas [default: EURUSD]")
    ] = None
    risk_per_trade: Annotated[
        str | None, _option(f"Money at risk per trade {_default('risk_per_trade')}", metavar="MONEY")
    ] = None
    hours: Annotated[
        str | None,
        _option("End after so many hours, of data in a replay [default: 72; a replay: its end]"),
    ] = None
    set: Annotated[
        list[str] | None,
        _option("A parameter of the strategy; repeat for more", "--set", metavar="NAME=VALUE"),
    ] = None
    balance: Annotated[
        str | None, _option(f"The paper account's balance {_default('balance')}", metavar="MONEY")
    ] = None
    currency: Annotated[str | None, _option(f"The account's currency {_default('currency')}")] = None
    rates: Annotated[
        list[str] | None,
        _option(
            "Prices that convert a currency, from a price file or fixed; repeat", metavar="PAIR=FILE|NUMBER"
        ),
    ] = None
    weekend: Annotated[
        str | None, _option(f"flat closes before the weekend, hold does not {_default('weekend')}")
    ] = None
    min_amount: Annotated[
        bool, typer.Option("--min-amount", help="Trade the smallest amount where the risk allows less")
    ] = False
    spread: Annotated[str | None, _option(f"Pips {_default('spread')}", metavar="PIPS")] = None
    slippage: Annotated[str | None, _option(f"Pips, each fill {_default('slippage')}", metavar="PIPS")] = None
    commission: Annotated[
        str | None, _option(f"Money per million traded, each side {_default('commission')}", metavar="MONEY")
    ] = None
    leverage: Annotated[str | None, _option(f"Sets the margin a position needs {_default('leverage')}")] = (
        None
    )

    def command(self, *, by: str = "", reason: str = "") -> Deploy:
        """The command these options make; raises InvalidInput naming what is wrong."""
        simple = ("strategy", "risk_per_trade", "hours", "balance", "currency", "weekend")
        given: dict[str, Any] = {
            name: getattr(self, name) for name in simple if getattr(self, name) is not None
        }
        instruments = [
            name.strip() for text in self.instrument or () for name in text.split(",") if name.strip()
        ]
        if instruments:
            given["instruments"] = instruments
        given["parameters"] = pairs(self.set or (), "--set")
        given["rates"] = pairs(self.rates or (), "--rates")
        given["min_amount"] = self.min_amount
        costs = {name: getattr(self, name) for name in _COSTS if getattr(self, name) is not None}
        if costs:
            given["costs"] = costs
        try:
            return Deploy.model_validate({**given, "by": by, "reason": reason})
        except ValidationError as error:
            raise InvalidInput(explain(error)) from None


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`name=value` texts as a dictionary; raises InvalidInput for what is none, or is given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise InvalidInput(f"{option}: expected name=value, was {text!r}")
        if name.strip() in found:
            raise InvalidInput(f"{option}: {name.strip()} is given twice")
        found[name.strip()] = value.strip()
    return found


def with_deploy_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a typer command every deploy option; it gets them as its first argument, a DeployOptions."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    hints = get_type_hints(DeployOptions, include_extras=True)
    shared = [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[entry.name],
            default=inspect.Parameter.empty if entry.default is MISSING else entry.default,
        )
        for entry in fields(DeployOptions)
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = DeployOptions(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(options, **given)

    # typer reads the signature: it must see what the command takes besides, and the shared options.
    del run.__wrapped__
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run


__all__ = ["DeployOptions", "pairs", "with_deploy_options"]
