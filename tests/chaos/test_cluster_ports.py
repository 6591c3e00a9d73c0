"""Ports for clusters that are made before they are started."""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.cluster import PORTS_PER_NODE, free_base_port
from chaos.ports import NoPorts, PortBlocks

PORTS = range(9000, 9200)  # not those that clusters get
ANOTHER = """
import pathlib, sys
from chaos.ports import PortBlocks
print(PortBlocks(range(9000, 9200), 20, pathlib.Path(sys.argv[1])).take(180))
input()
"""


def test_two_clusters_that_are_made_before_either_starts_have_no_port_in_common() -> None:
    taken: set[int] = set()
    for nodes in (1, 3, 1, 5, 1) * 4:
        first = free_base_port(nodes)
        block = set(range(first, first + nodes * PORTS_PER_NODE))
        assert taken.isdisjoint(block)
        taken |= block


def test_blocks_are_given_again_when_all_have_been(tmp_path: Path) -> None:
    blocks = PortBlocks(PORTS, 20, tmp_path / "claims")
    assert {blocks.take(100) for _ in range(30)} <= set(PORTS)


def test_what_another_process_was_given_is_its_own_until_it_ends(tmp_path: Path) -> None:
    blocks = PortBlocks(PORTS, 20, tmp_path / "claims")
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / "claims")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        with pytest.raises(NoPorts):
            blocks.take(40)
        other.communicate("\n")
    assert blocks.take(200) == PORTS.start
