"""What the program asks of the machine it runs on, answered by the simulation: clocks, random bytes, threads, sockets.

Each is a name in a module of the program; while a simulation is entered, the name leads here. Nothing else of the
program is changed, and one process holds one simulation at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import actors.authentication
import actors.directory
import actors.runtime
import eventlog.barrier
import eventlog.folding
import eventlog.log
import eventlog.proposals
import eventlog.pump
import eventlog.record
import eventlog.replication
import eventlog.wiring
import eventlog.writer
from chaos.simulation.clock import Clock
from chaos.simulation.faults import Config


@contextmanager
def replaced(*names: tuple[Any, str, Any]) -> Iterator[None]:
    """Sets attributes of modules for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in names]
    try:
        for owner, name, value in names:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextmanager
def machine(clock: Clock, rng: random.Random, config: Config) -> Iterator[None]:
    """Time and chance as the simulation has them, and the limits that its configuration sets."""
    time = SimpleNamespace(
        monotonic=lambda: clock.now,
        time=clock.wall_s,
        time_ns=lambda: int(clock.wall_s() * 1000) * 1_000_000,
    )
    chance = SimpleNamespace(urandom=rng.randbytes)
    lives = SimpleNamespace(urandom=random.Random(0).randbytes)  # apart: they decide nothing, and move no seed
    dice = SimpleNamespace(uniform=rng.uniform, Random=lambda: random.Random(rng.random()))
    eventlog.record._random.clear()
    with replaced(
        (eventlog.writer, "time", time),
        (eventlog.writer, "random", dice),
        (eventlog.folding, "time", time),
        (eventlog.folding, "FOLD_BUDGET_S", config.fold_budget_s),
        (eventlog.replication, "MAX_MESSAGE_BYTES", config.message_bytes),
        (eventlog.replication, "MAX_IN_FLIGHT_BYTES", config.in_flight_bytes),
        (eventlog.proposals, "time", time),
        (eventlog.proposals, "os", lives),
        (eventlog.log, "time", time),
        (eventlog.wiring, "time", time),
        (eventlog.wiring, "os", chance),
        (eventlog.pump, "time", time),
        (eventlog.barrier, "os", chance),
        (eventlog.record, "time", time),
        (eventlog.record, "os", chance),
        (actors.runtime, "random", dice),
        (actors.runtime, "os", chance),
        (actors.authentication, "os", chance),
        (actors.authentication, "time", time),
        (actors.directory, "Passwords", SimpleNamespace),
    ):
        try:
            yield
        finally:
            eventlog.record._random.clear()
