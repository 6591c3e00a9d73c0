"""Cells under the faults that seeds draw. MAILRAFT_SIMULATION_SEEDS=FIRST..LAST runs others; `make simulate` many."""

import gc
import json
import os
import subprocess

import pytest
from pykka import ActorRegistry

from chaos.simulation.run import USUAL, Simulation, run_seed
from chaos.simulation.seeds import parse_seeds, run_seeds
from cli.supervisor import environment, program
from eventlog import tails

SEEDS = parse_seeds(os.environ.get("MAILRAFT_SIMULATION_SEEDS", "1..200"))
JOBS = len(os.sched_getaffinity(0))
PARTS = 4  # what one test does at a time


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_seed_keeps_every_promise(part: int) -> None:
    broken = [(r.seed, r.failure) for r in run_seeds(SEEDS[part::PARTS], USUAL, JOBS) if not r.ok]
    assert not broken, "to look at one: mailraft chaos simulate --trace --seeds " + str(broken[0][0])


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Digests cover every step. Hashes of strings, and so the order of sets, differ between these processes."""
    runs = []
    for hash_seed in ("1", "2"):
        command = program("chaos", "simulate", "--seeds", "6,8", "--seconds", "4", "--jobs", "1", "--json")
        env = {**environment(), "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout)["digests"])
    assert runs[0] == runs[1]
    assert len(set(runs[0].values())) == 2


def test_a_run_that_is_over_is_not_kept() -> None:
    """Thousands of them in one process; crashes leave actors behind that never stopped."""
    others = set(ActorRegistry.get_all())
    assert sum(run_seed(seed, USUAL._replace(seconds=4.0)).acknowledged for seed in (6, 8)) > 0
    assert set(ActorRegistry.get_all()) == others
    gc.collect()
    assert not [left for left in gc.get_objects() if isinstance(left, Simulation)]


def test_a_seed_is_the_same_run_after_other_seeds() -> None:
    short = USUAL._replace(seconds=3.0)
    first = run_seed(11, short)
    run_seed(12, short)
    again = run_seed(11, short)
    assert (first.digest, first.steps, first.trace) == (again.digest, again.steps, again.trace)


def test_cells_whose_rows_have_tails_keep_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation's records are small: to have tails, what counts as a page is made smaller still."""
    for name, size in (("PAGE_BYTES", 128), ("FIRST_BYTES", 128 - tails.HEAD_BYTES), ("MOST_BYTES", 100)):
        monkeypatch.setattr(tails, name, size)
    tail_bytes, found = tails.tail_bytes, list[int]()

    def noted(size_bytes: int) -> int:
        over = tail_bytes(size_bytes)
        if over:
            found.append(over)
        return over

    monkeypatch.setattr("eventlog.store.tail_bytes", noted)
    broken = [(r.seed, r.failure) for r in run_seeds(range(1, 9), USUAL._replace(seconds=6.0), 1) if not r.ok]
    assert not broken
    assert found
