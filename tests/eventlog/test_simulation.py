"""A cell under random faults, one seed a run: nothing that was acknowledged is lost, and it works again once healed.

MAILRAFT_SIMULATION_SEEDS says how many seeds (20 unless told otherwise), MAILRAFT_SIMULATION_FIRST_SEED the first.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.eventlog.simulation import Simulation

FIRST = int(os.environ.get("MAILRAFT_SIMULATION_FIRST_SEED", "1"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("MAILRAFT_SIMULATION_SEEDS", "20")))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A full disk is logged by every tick that meets it."""
    with capture_logs():
        yield


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cell_keeps_its_promises_under_faults_and_recovers(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = (3, 3, 5, 3, 1)[seed % 5]
    simulation = Simulation(seed, members, tmp_path, monkeypatch)
    try:
        simulation.run()
    finally:
        simulation.close()


def test_a_seed_means_the_same_run_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for attempt in ("first", "second"):
        simulation = Simulation(4, 3, tmp_path / attempt, monkeypatch)
        try:
            simulation.run(seconds=4.0)
            ends.append((simulation.ticks, simulation.oracle.committed))
        finally:
            simulation.close()
    assert ends[0] == ends[1]
