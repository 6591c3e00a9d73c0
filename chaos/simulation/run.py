"""One run of one seed: break things for a while, heal everything, ask that the cell is whole and quiet again.

`run_seed` is the way in. A run that broke a promise is a `Result` with what broke and where, not an exception.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from pykka import ActorRef, ActorRegistry

from chaos.simulation.clock import BEGIN_S, Clock, NodeLoop
from chaos.simulation.departures import DEPARTURES
from chaos.simulation.disturber import Disturber
from chaos.simulation.ending import Ending
from chaos.simulation.faults import Config, Faults
from chaos.simulation.machine import machine
from chaos.simulation.network import Network
from chaos.simulation.node import SimulatedNode, evolve
from chaos.simulation.oracle import Oracle, describe
from chaos.simulation.profiles import profile_of
from chaos.simulation.trace import KEEP, Trace
from chaos.simulation.workload import Workload
from eventlog.raft import Raft

FAULTS_S = 12.0
MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


class Options(NamedTuple):
    """How to run a seed. `without`: faults that are left out; `departure`: a mistake that is put back.

    `profile`: what the run is about, if it is not the seed that says it (see `profiles`).
    """

    seconds: float = FAULTS_S
    without: tuple[str, ...] = ()
    departure: str | None = None
    profile: str | None = None
    trace_limit: int | None = KEEP


USUAL = Options()


class Result(NamedTuple):
    """What became of a seed. `digest` covers the whole trace; `rule` and `failure` are empty where all held."""

    seed: int
    nodes: int
    profile: str
    rule: str
    failure: str
    failed_at_s: float
    steps: int
    digest: str
    simulated_s: float
    cpu_s: float
    acknowledged: int
    terms: int
    faults: dict[str, Any]
    trace: list[str]

    @property
    def ok(self) -> bool:
        return not self.rule


class Simulation:
    """A cell, its clients, what disturbs it and what judges it, made of one seed."""

    def __init__(self, seed: int, folder: Path, options: Options) -> None:
        self.seed = seed
        self.folder = folder
        self.options = options
        drawn = self.stream("configuration")
        config, faults = Config.drawn(drawn), Faults.drawn(drawn)
        self.profile, self.config, faults = profile_of(self.stream("profile"), options.profile, config, faults)
        self.faults = faults.without(options.without)
        departure = DEPARTURES[options.departure] if options.departure else None
        self.raft_class = departure.raft if departure else Raft
        self.disk_mistakes = dict.fromkeys(departure.disk, True) if departure else {}
        self.answers_early = departure is not None and departure.early
        self.changes_again = departure is not None and departure.again
        self.clock = Clock()
        self.trace = Trace(self.clock, options.trace_limit)
        self.first_names = tuple(f"n{number + 1}" for number in range(self.config.nodes))
        self.oracle = Oracle(self.trace, self.first_names)
        self.network = Network(self.clock, self.stream("network"), self.faults, self.trace)
        self.disturber = Disturber(self, self.stream("faults"), self.faults)
        self.workload = Workload(self, self.stream("workload"))
        self.nodes = {name: SimulatedNode(self, name) for name in self.first_names}
        self.graveyard: list[NodeLoop] = []  # lives that have ended

    def stream(self, purpose: str) -> random.Random:
        """Random numbers for one purpose alone, so that one more draw for it changes nothing elsewhere."""
        return random.Random(f"{self.seed}/{purpose}")

    @property
    def names(self) -> list[str]:
        """The nodes that there are, members or not; without those that were removed and know it."""
        return [name for name, node in self.nodes.items() if not node.retired]

    def add_node(self) -> SimulatedNode:
        """A machine is set up under a name that was never used; it is no member yet."""
        name = f"n{len(self.nodes) + 1}"
        node = self.nodes[name] = SimulatedNode(self, name)
        node.boot()
        return node

    def advance(self, seconds: float) -> None:
        """Lets time pass. Raises what broke, even where a caller inside the cell caught it."""
        self.clock.run_until(self.clock.now + seconds, lambda: self.oracle.broken is not None)
        if self.oracle.broken is not None:
            raise self.oracle.broken

    def run(self) -> None:
        """The whole run. Raises PromiseBroken, or whatever the program raised that it must not."""
        self.trace.add("cell", f"seed {self.seed}, {self.profile}: {self.config}")
        self.trace.add("cell", f"faults: {self.faults.active}")
        for node in self.nodes.values():
            node.boot()
        self.workload.begin()
        self.disturber.begin()
        self.advance(self.options.seconds)
        self.workload.stop()
        self.disturber.end()
        Ending(self, self.stream("ending"), evolve).run()

    def close(self) -> None:
        for node in self.nodes.values():
            if node.up:
                self.graveyard.append(node.loop)
                node.disk.power_off()
        for loop in self.graveyard:
            loop.end()
        self.clock.clear()


def run_seed(seed: int, options: Options = USUAL) -> Result:
    """Runs one seed in a folder of its own, which is removed."""
    begun_s = time.process_time()
    others = ActorRegistry.get_all()
    folder = Path(tempfile.mkdtemp(prefix="mailraft-simulation.", dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None))
    simulation = Simulation(seed, folder, options)
    rule = failure = ""
    try:
        with _quiet(), machine(simulation.clock, simulation.stream("chance"), simulation.config):
            try:
                simulation.run()
            except Exception as error:  # whatever it was, it must not have happened
                rule, failure = describe(error)
                simulation.trace.add("cell", failure)
            finally:
                simulation.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _forget_actors(others)
    return _result(simulation, rule, failure, time.process_time() - begun_s)


def _forget_actors(others: list[ActorRef[Any]]) -> None:
    """Actors of lives that ended by a crash never stopped: their registry would keep the whole run."""
    kept = set(others)
    for actor in ActorRegistry.get_all():
        if actor not in kept:
            ActorRegistry.unregister(actor)


def _result(simulation: Simulation, rule: str, failure: str, cpu_s: float) -> Result:
    trace, oracle = simulation.trace, simulation.oracle
    now_s = simulation.clock.now - BEGIN_S
    return Result(
        simulation.seed, simulation.config.nodes, simulation.profile, rule, failure, now_s if rule else 0.0,
        trace.steps, trace.digest, now_s, cpu_s, len(oracle.acknowledged), len(oracle.leaders),
        simulation.faults.active, trace.lines(),
    )  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The program's own log lines (a full disk, a lost leader) are no news here."""
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[_drop])
    try:
        with warnings.catch_warnings():  # a client whose node died before it had begun
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        structlog.configure(processors=before)


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent
