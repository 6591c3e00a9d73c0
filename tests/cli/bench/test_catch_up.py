"""`bench catch-up`: a node comes while mail flows, and the load kept its pace."""

import shutil

import pytest

from cli.bench.catch_up import bench_catch_up


@pytest.mark.skipif(shutil.which("smtp-source") is None, reason="needs smtp-source (Debian: postfix)")
def test_a_node_is_added_under_a_steady_load() -> None:
    said: list[str] = []
    votes, taken, share = bench_catch_up(100, 20.0, said.append)
    assert votes.value > 0
    assert taken.value > 5
    assert 0.5 < share.value < 1.5
    assert said == ["100 messages before the node comes", "a fourth node, under 20 messages a second"]
