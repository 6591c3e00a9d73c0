"""`mailraft node reload` of a whole cell: what became of each node is told, whatever became of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cli import node as node_commands
from cli.main import main
from cli.output import UNKNOWN, CommandError

CHANGED = {"changes": [{"key": "limits.errors", "before": "3", "after": "4"}], "restart": []}


class Cell:
    """In place of three nodes: n2's file is wrong, n3's answer is lost."""

    node_names = ("n1", "n2", "n3")

    def change(self, _method: str, _path: str, node: str) -> dict[str, Any]:
        if node == "n2":
            raise CommandError("nothing was changed: line 7", "mend it")
        if node == "n3":
            raise CommandError("the answer was lost", "", UNKNOWN)
        return CHANGED


@pytest.mark.parametrize("as_json", [False, True])
def test_a_node_that_refuses_hides_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setattr(node_commands, "open_client", lambda _: Cell())
    found = CliRunner().invoke(main, ["node", "reload", "--cluster", "x", *(["--json"] if as_json else [])])
    if as_json:
        assert json.loads(found.stdout) == {"n1": CHANGED}
    else:
        assert found.stdout == "n1: limits.errors was 3 and is 4\n"
    assert "n2: nothing was changed: line 7" in found.stderr
    assert "n3: the answer was lost" in found.stderr
    assert found.exit_code == UNKNOWN
