"""Memory that grows for as long as a node runs is a leak: what a process held early and late in its life."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from chaos.checkers import Violation
from chaos.history import Footprint

WARM_UP_S = 120.0  # caches fill and buffers find their size
LEAST_S = 300.0  # of a life after its warm-up: a shorter one says nothing about growth
GROWTH = 1.10
SLACK_KIB = 8 * 1024


class Life(NamedTuple):
    """One process of a node, from its warm-up on: the medians of the first and of the last third."""

    node: str
    pid: int
    lasted_s: float
    early_kib: float
    late_kib: float

    @property
    def grew(self) -> bool:
        return self.late_kib > self.early_kib * GROWTH + SLACK_KIB


def lives(footprints: Sequence[Footprint]) -> list[Life]:
    """The processes that lived long enough to be judged."""
    by_process: dict[tuple[str, int], list[Footprint]] = defaultdict(list)
    for one in footprints:
        by_process[one.node, one.pid].append(one)
    found = []
    for (node, pid), samples in by_process.items():
        warm = [one for one in samples if one.at_s >= samples[0].at_s + WARM_UP_S]
        if len(warm) < 3 or warm[-1].at_s - warm[0].at_s < LEAST_S:
            continue
        third = len(warm) // 3
        early, late = (median(one.anonymous_kib for one in part) for part in (warm[:third], warm[-third:]))
        found.append(Life(node, pid, warm[-1].at_s - samples[0].at_s, early, late))
    return found


def check_memory(footprints: Sequence[Footprint]) -> list[Violation]:
    """No process that lived for long held more than a tenth and 8 MiB more at its end than at its beginning."""
    return [
        Violation(
            "memory",
            life.node,
            f"process {life.pid} held {life.early_kib / 1024:.1f} MiB early and {life.late_kib / 1024:.1f} MiB late "
            f"in its {life.lasted_s:.0f} s",
        )
        for life in lives(footprints)
        if life.grew
    ]
