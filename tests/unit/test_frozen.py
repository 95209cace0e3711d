"""Events that are made quickly are as frozen, equal and complete as any frozen dataclass."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest

from services.shared.events import OrderAccepted, OrderIntended
from services.shared.frozen import quickly_made
from services.shared.money import ZERO


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """As `dataclasses` makes it."""

    order: int
    name: str = "none"


@quickly_made
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """The same, made quickly."""

    order: int
    name: str = "none"


def test_it_cannot_be_changed_and_has_its_own_class() -> None:
    made = Quick(order=1)
    assert type(made) is Quick
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.order = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.order
    assert not hasattr(made, "__dict__")


def test_it_is_made_equal_hashed_and_copied_as_a_plain_one() -> None:
    made = Quick(order=1)
    assert made == Quick(order=1, name="none") != Quick(order=2)
    assert hash(made) == hash(Quick(order=1))
    assert repr(made) == repr(Plain(order=1)).replace("Plain", "Quick")
    assert dataclasses.replace(made, order=3) == Quick(order=3)
    assert copy.copy(made) == made == pickle.loads(pickle.dumps(made))
    assert str(inspect.signature(Quick)) == str(inspect.signature(Plain))


@pytest.mark.parametrize("given", [{}, {"order": 1, "other": 2}])
def test_missing_and_unknown_fields_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(TypeError):
        Quick(**given)  # type: ignore[arg-type]


def test_what_it_could_not_fill_in_is_refused() -> None:
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class WithFactory:
        items: list[int] = dataclasses.field(default_factory=list)

    with pytest.raises(TypeError, match="WithFactory"):
        quickly_made(WithFactory)


def test_an_order_of_the_desk_is_frozen() -> None:
    order = OrderAccepted(
        order=1, instrument="EURUSD", purpose="entry", side="buy", kind="market", amount=ZERO, price=None
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        order.amount = ZERO  # type: ignore[misc]
    assert "reason" in {field.name for field in dataclasses.fields(OrderIntended)}
