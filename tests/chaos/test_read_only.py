"""A mailbox that differs between nodes, or whose UIDs are out of order, is named."""

from typing import Any

import pytest

from chaos.read_only import differences, unordered


def mailbox(*uids: int, uidnext: int = 10, folder: str = "INBOX") -> dict[str, Any]:
    messages = [{"uid": uid, "flags": [], "size": 1, "sha256": "", "internaldate": ""} for uid in uids]
    return {
        "folders": [{"name": folder, "uidvalidity": 1, "uidnext": uidnext, "highestmodseq": 1, "messages": messages}]
    }


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
