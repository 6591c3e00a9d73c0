"""Ports for clusters that are made before they are started."""

from chaos.cluster import PORTS_PER_NODE, free_base_port


def test_two_clusters_that_are_made_before_either_starts_have_no_port_in_common() -> None:
    taken: set[int] = set()
    for nodes in (1, 3, 1, 5, 1) * 20:
        first = free_base_port(nodes)
        block = set(range(first, first + nodes * PORTS_PER_NODE))
        assert taken.isdisjoint(block)
        taken |= block


def test_blocks_are_given_again_when_all_have_been() -> None:
    assert all(11000 <= free_base_port(5) < 31000 for _ in range(250))
