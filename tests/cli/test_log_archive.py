"""`mailraft log archive` while a node is down: the others are told of and worked on all the same, and it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli import log_archive
from cli.client import NothingDone
from cli.main import main
from cli.output import FAILED, CommandError

WHOLE = {"segments": 2, "last": 19, "damaged": []}
DAMAGED = {"segments": 2, "last": 19, "damaged": [{"first": 1, "last": 9, "problem": "1-9 is not there"}]}
STATUS = {"wanted": 19, "archived": 19, "swept": 19, "segments": 2, "size_bytes": 7, "error": "", "files": []}
SIZES = {"before_bytes": 2_000_000, "after_bytes": 1_000_000}


class Cell:
    """In place of three nodes: n2 does not answer."""

    node_names = ("n1", "n2", "n3")

    def whole(self, _path: str, _name: str, node: str) -> dict[str, Any]:
        return self._answer(STATUS, node)

    def change(self, _method: str, _path: str, node: str) -> dict[str, Any]:
        return self._answer(SIZES, node)

    def _answer(self, found: dict[str, Any], node: str) -> dict[str, Any]:
        if node == "n2":
            raise NothingDone("n2: nothing listens there", "", 4, "unreachable")
        return found


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the nodes that answer say of their segments."""
    found = {"n1": WHOLE, "n3": WHOLE}

    def verified(_cluster: Path, name: str) -> dict[str, Any]:
        if name not in found:
            raise NothingDone(f"{name}: nothing listens there", "", 4, "unreachable")
        return found[name]

    monkeypatch.setattr(log_archive, "_verified", verified)
    return found


def asked(monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr(log_archive, "open_client", lambda *_, **__: Cell())
    return CliRunner().invoke(main, ["log", "archive", *words, "--cluster", "x"])


def test_the_list_says_which_node_is_down_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, "list")
    assert [line.split(maxsplit=5)[0::5] for line in found.stdout.splitlines()[1:]] == [
        ["n1", "-"],
        ["n2", "nothing listens there"],
        ["n3", "-"],
    ]
    told = json.loads(asked(monkeypatch, "list", "--json").stdout)
    assert told == {"n1": STATUS, "n2": {"down": "nothing listens there"}, "n3": STATUS}


def test_a_refusal_is_not_listed_as_a_node_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: str) -> dict[str, Any]:
        raise CommandError("operator may not", "", FAILED, "forbidden")

    monkeypatch.setattr(Cell, "whole", forbidden)
    found = asked(monkeypatch, "list")
    assert "operator may not" in found.stderr
    assert found.exit_code == FAILED


def test_the_segments_behind_a_node_that_is_down_are_verified(
    monkeypatch: pytest.MonkeyPatch, reports: dict[str, dict[str, Any]]
) -> None:
    found = asked(monkeypatch, "verify")
    assert "n1: 2 segments" in found.stderr
    assert "n3: 2 segments" in found.stderr
    assert "n2: nothing listens there" in found.stderr
    assert found.exit_code == FAILED
    assert json.loads(asked(monkeypatch, "verify", "--json").stdout) == reports


def test_what_is_damaged_is_named_beside_what_could_not_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, reports: dict[str, dict[str, Any]]
) -> None:
    reports["n3"] = DAMAGED
    found = asked(monkeypatch, "verify")
    assert "n3: 1-9 is not there" in found.stderr
    assert "not looked at: n2: nothing listens there" in found.stderr
    assert found.exit_code == FAILED


def test_segments_are_repaired_behind_a_node_that_is_down(
    monkeypatch: pytest.MonkeyPatch, reports: dict[str, dict[str, Any]]
) -> None:
    reports["n3"] = DAMAGED
    monkeypatch.setattr(log_archive, "_repair", lambda *_: "n1")
    found = asked(monkeypatch, "repair")
    assert "n3: positions 1 to 9, from n1" in found.stderr
    assert "n2: nothing listens there" in found.stderr
    assert found.exit_code == FAILED


def test_nothing_is_called_whole_that_was_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, reports: dict[str, dict[str, Any]]
) -> None:
    assert "every segment is whole" not in asked(monkeypatch, "repair").stderr
    reports["n2"] = WHOLE
    found = asked(monkeypatch, "repair")
    assert "every segment is whole" in found.stderr
    assert found.exit_code == 0


def test_databases_are_compacted_behind_a_node_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, "compact")
    assert "n1: 2.0 MB before, 1.0 MB now" in found.stderr
    assert "n3: 2.0 MB before, 1.0 MB now" in found.stderr
    assert "n2: nothing listens there" in found.stderr
    assert found.exit_code == FAILED
    assert json.loads(asked(monkeypatch, "compact", "--json").stdout) == {"n1": SIZES, "n3": SIZES}


def test_a_node_that_is_named_and_down_is_all_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, "compact", "--node", "n2")
    assert found.stderr.startswith("error: n2: nothing listens there")
    assert found.exit_code == 4
