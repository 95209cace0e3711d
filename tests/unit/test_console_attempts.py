"""A few wrong tokens are free, then each costs more; nobody is shut out for longer than is said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.api.console.attempts import FORGOTTEN_AFTER, OVERALL, PER_ADDRESS, Attempts


def _fail(attempts: Attempts, address: str, times: int, now: float) -> None:
    for _ in range(times):
        attempts.failed(address, now)


def test_the_wait_begins_after_the_free_ones_and_doubles_up_to_the_longest() -> None:
    attempts = Attempts()
    waits = []
    for _ in range(16):
        attempts.failed("10.0.0.1", 100.0)
        waits.append(attempts.wait("10.0.0.1", 100.0))
    assert waits[:9] == [0, 0, 0, 0, 2, 4, 8, 16, 32]
    assert waits[-1] == PER_ADDRESS.longest
    assert attempts.wait("10.0.0.2", 100.0) == 0


def test_a_wait_passes_and_is_forgotten_after_a_while() -> None:
    attempts = Attempts()
    _fail(attempts, "10.0.0.1", 6, 100.0)
    assert attempts.wait("10.0.0.1", 102.5) == 1.5
    assert attempts.wait("10.0.0.1", 104.0) == 0
    attempts.failed("10.0.0.1", 104.0)
    assert attempts.wait("10.0.0.1", 104.0) == 8
    later = 104.0 + FORGOTTEN_AFTER + 1
    attempts.failed("10.0.0.1", later)
    assert attempts.wait("10.0.0.1", later) == 0


def test_many_addresses_together_make_everybody_wait_but_not_long() -> None:
    attempts = Attempts()
    for number in range(OVERALL.free):
        attempts.failed(f"10.0.0.{number}", 100.0)
    assert attempts.wait("10.1.1.1", 100.0) == OVERALL.first
    for number in range(100):
        attempts.failed(f"10.0.1.{number}", 100.0)
    assert attempts.wait("10.1.1.1", 100.0) == OVERALL.longest


def test_an_ipv6_host_cannot_change_its_address_within_its_network() -> None:
    attempts = Attempts()
    for number in range(PER_ADDRESS.free):
        attempts.failed(f"2001:db8::{number}", 100.0)
    assert attempts.wait("2001:db8::ffff", 100.0) > 0
    assert attempts.wait("2001:db8:0:1::1", 100.0) == 0


@given(st.lists(st.tuples(st.integers(0, 3000), st.floats(0, 5000)), max_size=200))
def test_a_wait_is_never_longer_than_the_longest_and_ends(mistakes: list[tuple[int, float]]) -> None:
    attempts = Attempts()
    now = 0.0
    for number, step in mistakes:
        now += step
        address = f"10.0.{number // 256}.{number % 256}"
        attempts.failed(address, now)
        wait = attempts.wait(address, now)
        assert 0 <= wait <= PER_ADDRESS.longest
        assert attempts.wait(address, now + wait) == 0
