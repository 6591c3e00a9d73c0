"""`mailraft search` while a node is down: the others are told of and worked on all the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import search
from cli.client import NothingDone
from cli.main import main
from cli.output import FAILED, CommandError

STATUS = {"state": "current", "position": 7, "log": 7, "messages": 3, "error": ""}


class Cell:
    """In place of three nodes: n2 does not answer."""

    node_names = ("n1", "n2", "n3")

    def get(self, _path: str, node: str) -> dict[str, Any]:
        if node == "n2":
            raise NothingDone("n2: nothing listens there", "", 4, "unreachable")
        return STATUS

    def change(self, _method: str, path: str, node: str) -> dict[str, Any]:
        return self.get(path, node)


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr(search, "open_client", lambda _: Cell())
    return CliRunner().invoke(main, ["search", *words, "--cluster", "x"])


def test_the_status_of_a_node_that_is_down_is_that(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, "status")
    assert [line.split()[:2] for line in found.stdout.splitlines()[1:]] == [
        ["n1", "current"],
        ["n2", "down"],
        ["n3", "current"],
    ]
    assert json.loads(asked(monkeypatch, "status", "--json").stdout) == {"n1": STATUS, "n2": {}, "n3": STATUS}


def test_a_refusal_is_not_shown_as_a_node_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: str) -> dict[str, Any]:
        raise CommandError("operator may not", "", FAILED, "forbidden")

    monkeypatch.setattr(Cell, "get", forbidden)
    assert "operator may not" in asked(monkeypatch, "status").stderr


def test_an_index_is_made_anew_behind_a_node_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, "rebuild")
    assert "n1: 3 messages indexed anew" in found.stderr
    assert "n3: 3 messages indexed anew" in found.stderr
    assert "n2: nothing listens there" in found.stderr
    assert found.exit_code == FAILED
