"""What the plan of a restore says of messages that a mail program would remove again."""

from typing import Any, cast

import pytest

from actors.mailbox import Message
from cli.mailbox import _print_plan
from nodes.restore_plan import FolderPlan, Plan


def message(uid: int, *flags: str) -> Message:
    return Message(uid, bytes(16), bytes(32), 10, 0, flags, 1, b"")


def plan(bring_back: tuple[Message, ...], flags: dict[tuple[str, ...], tuple[int, ...]]) -> FolderPlan:
    folder = cast(Any, type("Folder", (), {"name": "INBOX"}))
    return FolderPlan(folder, folder, False, bring_back, {}, flags, (), ())


def test_what_comes_back_marked_deleted_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan((message(1, "\\Deleted"), message(2, "\\Seen")), {("\\Deleted", "\\Seen"): (3, 4), ("x",): (5,)})
    assert found.deleted == 3
    _print_plan(Plan((found,), (), (), False).as_json())
    assert "3 messages were marked \\Deleted then" in capsys.readouterr().err


def test_folders_that_were_made_since_are_said_to_stay(capsys: pytest.CaptureFixture[str]) -> None:
    _print_plan(Plan((), (), (), True, ("Work",)).as_json())
    assert "made since then, and staying: Work" in capsys.readouterr().err


def test_nothing_is_said_where_nothing_was(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan((message(2, "\\Seen"),), {})
    assert found.deleted == 0
    _print_plan(Plan((found,), (), (), False).as_json())
    assert "Deleted" not in capsys.readouterr().err
