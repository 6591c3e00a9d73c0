"""Many seeds over several processes, and a failing one made smaller: shorter, with no fault that it does not need."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

from chaos.simulation.faults import KINDS
from chaos.simulation.run import Options, Result, run_seed

MAX_SEEDS = 10_000_000
WAITING_A_JOB = 4


def parse_seeds(text: str) -> Sequence[int]:
    """`7`, `1..1000` or `3,5,8`. Raises ValueError."""
    spread = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if spread:
        first, last = int(spread[1]), int(spread[2])
        if not first <= last < first + MAX_SEEDS:
            raise ValueError(f"{text} is not a range of 1 to {MAX_SEEDS} seeds")
        return range(first, last + 1)
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ValueError(f"{text!r} is none of 7, 1..1000, 3,5,8")
    return [int(part) for part in text.split(",")]


def run_seeds(seeds: Sequence[int], options: Options, jobs: int) -> Iterator[Result]:
    """Results as they come, in no order where there are several jobs. Closing it ends the jobs."""
    if jobs == 1:
        for seed in seeds:
            yield run_seed(seed, options)
        return
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[Result], None] = {}
        try:
            for seed in islice(waiting, jobs * WAITING_A_JOB):
                running[pool.submit(run_seed, seed, options)] = None
            while running:
                done = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
                del running[done]
                for seed in islice(waiting, 1):
                    running[pool.submit(run_seed, seed, options)] = None
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def shrink(failed: Result, options: Options) -> Result:
    """The same failure (by its rule) with as few kinds of faults as will still bring it about, and no later."""
    smallest, without = failed, options.without
    for kind in KINDS:
        if kind not in smallest.faults:
            continue
        tried = run_seed(failed.seed, options._replace(without=(*without, kind)))
        if tried.rule == failed.rule:
            smallest, without = tried, (*without, kind)
    return smallest
