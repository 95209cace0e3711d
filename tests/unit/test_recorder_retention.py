"""What may leave a stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.retention import Purge, decide

_SEQUENCES = st.integers(0, 10**6)


@given(
    recorded=_SEQUENCES,
    positions=st.dictionaries(st.sampled_from(["guard.a", "trader.a", "guard.b"]), st.none() | _SEQUENCES),
    first_young=st.integers(1, 10**6),
)
def test_nothing_goes_that_somebody_still_needs(
    recorded: int, positions: dict[str, int | None], first_young: int
) -> None:
    through = decide(recorded=recorded, positions=positions, first_young=first_young).through
    assert through <= recorded
    assert through < first_young
    assert all(through <= (position or 0) for position in positions.values())
    assert through in {recorded, first_young - 1, *((position or 0) for position in positions.values())}


def test_an_unknown_position_keeps_everything_and_is_named() -> None:
    assert decide(recorded=50, positions={"guard.main": None}, first_young=99) == Purge(0, "guard.main")


def test_what_is_young_stays_although_everybody_has_passed_it() -> None:
    assert decide(recorded=50, positions={"guard.main": 60}, first_young=41) == Purge(40, "age")
