"""Ports for clusters that are made before they are started."""

import subprocess
import sys

import pytest

from chaos.cluster import PORTS_PER_NODE, free_base_port
from chaos.ports import NoPorts, PortBlocks

PORTS, OTHERS = range(9000, 9200), range(9200, 9400)  # not those that clusters get
ANOTHER = f"from chaos.ports import PortBlocks; print(PortBlocks({OTHERS!r}, 20).take(180)); input()"


def test_two_clusters_that_are_made_before_either_starts_have_no_port_in_common() -> None:
    taken: set[int] = set()
    for nodes in (1, 3, 1, 5, 1) * 4:
        first = free_base_port(nodes)
        block = set(range(first, first + nodes * PORTS_PER_NODE))
        assert taken.isdisjoint(block)
        taken |= block


def test_blocks_are_given_again_when_all_have_been() -> None:
    blocks = PortBlocks(PORTS, 20)
    assert {blocks.take(100) for _ in range(30)} <= set(PORTS)


def test_what_another_process_was_given_is_its_own_until_it_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(NoPorts):
            PortBlocks(OTHERS, 20).take(40)
        other.communicate("\n")
    assert PortBlocks(OTHERS, 20).take(200) == OTHERS.start
