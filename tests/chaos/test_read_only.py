"""A mailbox that differs between nodes, or whose UIDs are out of order, is named."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos import read_only
from chaos.checkers import Check
from chaos.read_only import differences, inspect, unordered
from cli.client import AdminClient
from cli.layout import Cluster, Node
from cli.watch import Seen


def mailbox(*uids: int, uidnext: int = 10, folder: str = "INBOX") -> dict[str, Any]:
    messages = [{"uid": uid, "flags": [], "size": 1, "sha256": "", "internaldate": ""} for uid in uids]
    return {
        "folders": [{"name": folder, "uidvalidity": 1, "uidnext": uidnext, "highestmodseq": 1, "messages": messages}]
    }


class Answering:
    """In place of the nodes: all is well with those that are asked."""

    def get(self, _path: str, _node: str) -> dict[str, Any]:
        return {"chain": "ab"}

    def pages(self, *_: str) -> list[dict[str, Any]]:
        return [{"address": "alice@example.test"}]

    def stream(self, _path: str, _node: str) -> list[dict[str, Any]]:
        return [{"result": {"ok": True, "equal": True}}]

    def get_text(self, _path: str, _node: str) -> str:
        return json.dumps(mailbox(1, 2))


def checks_of(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | None) -> list[Check]:
    nodes = tuple(Node(f"n{number}", Path(), {}) for number in range(1, len(answers) + 1))
    seen = [Seen(node, 1, answer, "no answer in time") for node, answer in zip(nodes, answers, strict=True)]
    monkeypatch.setattr(read_only, "look", lambda *_: seen)
    cluster = cast(Cluster, SimpleNamespace(folder=Path("x")))
    return inspect(cluster, cast(AdminClient, Answering()), 10, 1, lambda *_: None)


def test_nothing_is_said_of_every_node_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    well = {"applied": 7, "ready": True}
    assert all(check.ok for check in checks_of(monkeypatch, well, well))
    first, *others = checks_of(monkeypatch, well, None)
    assert [violation.node for violation in first.violations] == ["n2"]
    assert [(check.violations, check.undecided) for check in others] == [([], ("n2 does not answer",))] * 4


def test_equal_mailboxes_are_sound() -> None:
    views = {"n1": mailbox(1, 2), "n2": mailbox(1, 2), "n3": mailbox(1, 2)}
    assert list(differences("a@b.test", views)) == []
    assert list(unordered("a@b.test", "n1", views["n1"])) == []


@pytest.mark.parametrize(
    ("other", "named"),
    [(mailbox(1), "INBOX"), (mailbox(1, 2, folder="Sent"), "INBOX, Sent"), (None, "INBOX")],
    ids=["a message fewer", "another folder", "no mailbox"],
)
def test_a_node_that_shows_something_else_is_named_with_the_folders(other: Any, named: str) -> None:
    (violation,) = differences("a@b.test", {"n1": mailbox(1, 2), "n2": mailbox(1, 2), "n3": other})
    assert violation.node == "n3"
    assert f"differs from n1 in {named}" in violation.text


@pytest.mark.parametrize("uids", [(2, 1), (1, 1)], ids=["backwards", "twice"])
def test_uids_that_do_not_increase_are_found(uids: tuple[int, ...]) -> None:
    assert [v.text for v in unordered("a@b.test", "n1", mailbox(*uids))] == ["a@b.test INBOX: UIDs do not increase"]


def test_a_uid_that_reaches_uidnext_is_found() -> None:
    (violation,) = unordered("a@b.test", "n1", mailbox(9, 10))
    assert "UIDNEXT is 10" in violation.text
