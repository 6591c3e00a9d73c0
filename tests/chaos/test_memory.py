"""A leak is told from a warm-up and from noise, by the processes' own lives."""

import os
from collections.abc import Callable

import pytest

from chaos.checkers.memory import check_memory, lives
from chaos.history import Footprint
from chaos.memory import anonymous_kib

MIB = 1024


def life(held_mib: Callable[[int], float], until_s: int = 1800, pid: int = 7) -> list[Footprint]:
    return [Footprint(float(at), "n1", pid, int(held_mib(at) * MIB)) for at in range(0, until_s, 5)]


def test_a_leak_is_found() -> None:
    (found,) = check_memory(life(lambda at: 60 + at * 0.05))
    assert found.node == "n1"
    assert "process 7 held 79.9 MiB early and 135.9 MiB late in its 1795 s" in found.text


@pytest.mark.parametrize(
    "held_mib",
    [lambda at: 60, lambda at: min(60 + at, 170), lambda at: 60 + at % 30, lambda at: 60 + 200 * (at == 1500)],
    ids=["flat", "warming up", "noise", "one peak"],
)
def test_what_does_not_grow_is_no_leak(held_mib: Callable[[int], float]) -> None:
    assert check_memory(life(held_mib)) == []


def test_a_process_that_did_not_live_long_is_not_judged() -> None:
    assert lives(life(lambda at: 60 + at, until_s=400)) == []


def test_each_process_is_judged_by_itself() -> None:
    early = life(lambda at: 60, until_s=900, pid=7)
    late = [one.__class__(one.at_s + 900, "n1", 8, 200 * MIB) for one in life(lambda at: 0, until_s=900)]
    assert [one.pid for one in lives(early + late)] == [7, 8]
    assert check_memory(early + late) == []


def test_the_kernel_says_what_a_process_holds() -> None:
    held = anonymous_kib(os.getpid())
    assert held is not None
    assert held > 4 * MIB
    assert anonymous_kib(2**22 + 1) is None
