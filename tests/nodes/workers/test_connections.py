"""Connections of several processes count together against the limits of the node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from nodes.config.node import LimitsSection
from nodes.workers.connections import Counts, SharedConnections

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def pair(**limits: int) -> tuple[SharedConnections, SharedConnections]:
    """Two processes, each told what the other counts."""
    section = LimitsSection().model_copy(update=limits)

    def to_second(counts: Counts) -> None:
        second.heard("first", counts)

    first = SharedConnections(section, to_second)
    second = SharedConnections(section, lambda counts: first.heard("second", counts))
    return first, second


async def told() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_an_address_has_as_many_connections_as_it_may_whichever_process_it_comes_to(run: Run) -> None:
    async def scenario() -> None:
        first, second = pair(connections_per_address=2)
        assert first.admit("192.0.2.1")
        await told()
        assert second.admit("192.0.2.1")
        assert not second.admit("192.0.2.1")
        await told()
        assert not first.admit("192.0.2.1")
        assert first.admit("192.0.2.2")
        second.release("192.0.2.1")
        await told()
        assert first.admit("192.0.2.1")

    run(scenario())


def test_all_connections_together_are_as_many_as_a_node_may_have(run: Run) -> None:
    async def scenario() -> None:
        first, second = pair(connections=3)
        for number, one in enumerate((first, second, second)):
            assert one.admit(f"192.0.2.{number}")
            await told()
        assert not first.admit("192.0.2.9")
        assert (first.open, second.open) == (3, 3)

    run(scenario())


def test_the_connections_of_a_process_that_has_ended_do_not_count(run: Run) -> None:
    async def scenario() -> None:
        first, second = pair(connections_per_address=1)
        assert second.admit("192.0.2.1")
        await told()
        assert not first.admit("192.0.2.1")
        assert first.of("second") == [("192.0.2.1", 1)]
        first.gone("second")
        assert first.open == 0
        assert first.admit("192.0.2.1")

    run(scenario())
