"""Waiting for nodes to be ready: one that has not begun yet is not one that has ended."""

import time
from pathlib import Path

from cli import layout
from cli.watch import Seen, _has_ended


def test_a_node_whose_log_was_only_made_for_it_has_not_ended(tmp_path: Path) -> None:
    node = layout.create(tmp_path / "c", 1, 20000).nodes[0]
    begun = time.time() - 1
    one = Seen(node, None, None, "")
    assert not _has_ended(one, begun)
    node.log_file.touch()
    assert not _has_ended(one, begun)
    node.log_file.write_text("error: its file is wrong\n")
    assert _has_ended(one, begun)
    assert not _has_ended(one, time.time() + 60), "what it said before"
    assert not _has_ended(one._replace(pid=1), begun)
