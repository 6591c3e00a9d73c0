"""When a filter rests, and when it is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nodes.config.filters import FiltersSection
from nodes.filters.health import Down, Garbage, Health
from nodes.metrics import Metrics

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health("one", FiltersSection(down_after=2, retry_s=10.0), Metrics("n1"), clock)


async def ask(health: Health, error: Exception | None = None) -> str:
    """What comes of it: "", or the reason of Down; the question is asked unless it says so."""
    asked = False
    try:
        async with health.asked(5.0):
            asked = True
            await asyncio.sleep(0)
            if error is not None:
                raise error
    except Down as down:
        return down.reason if asked else f"not asked: {down.reason}"
    return ""


def test_it_rests_after_failures_in_a_row_and_then_one_question_is_an_attempt(
    run: Run, health: Health, clock: Clock
) -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    assert run(ask(health, refused)) == "can not be reached: Connection refused"
    assert run(ask(health)) == ""
    assert run(ask(health, EOFError())) == run(ask(health, ConnectionResetError())) == "it closed the connection"
    assert run(ask(health)) == "not asked: it closed the connection"
    clock.now_s += 10.0

    async def at_once() -> list[str]:
        return list(await asyncio.gather(ask(health, refused), ask(health)))

    assert run(at_once()) == ["can not be reached: Connection refused", "not asked: it closed the connection"]
    clock.now_s += 10.0
    assert run(ask(health)) == run(ask(health)) == ""


def test_a_filter_that_nobody_served_is_well_when_it_can_be_reached(run: Run, health: Health) -> None:
    for _ in range(3):
        health.failed("a look failed")
        run(ask(health, ConnectionRefusedError(111, "Connection refused")))
    assert health.is_up is False
    health.looked_well()
    assert health.is_up


def test_a_look_that_succeeds_ends_the_rest_after_failures_at_mail(run: Run, health: Health) -> None:
    for _ in range(2):
        run(ask(health, Garbage("x")))
    assert run(ask(health)).startswith("not asked")
    health.looked_well()
    assert not health.is_up  # until it does what it is there for
    assert run(ask(health)) == ""
    assert health.is_up


def test_the_metrics_say_whether_it_is_up_and_how_long_it_took(run: Run, health: Health) -> None:
    registry = health.metrics.registry
    run(ask(health))
    assert registry.get_sample_value("mailraft_filter_up", {"filter": "one"}) == 1
    run(ask(health, EOFError()))
    assert registry.get_sample_value("mailraft_filter_up", {"filter": "one"}) == 0
    assert registry.get_sample_value("mailraft_filter_seconds_count", {"filter": "one"}) == 2


def test_a_fault_of_ours_is_no_failure_of_the_filter(run: Run, health: Health) -> None:
    async def fail() -> None:
        async with health.asked(5.0):
            raise KeyError("ours")

    with pytest.raises(KeyError):
        run(fail())
    assert health.is_up is None
