"""What `log tail` prints of a record, whatever those who wrote it put into it."""

from typing import Any

from cli.log import _line, _print_whole

RECORD: dict[str, Any] = {
    "position": 7,
    "at": "2026-11-01T10:00:00.000Z",
    "kind": "record",
    "outcome": "committed",
    "cause": "POST /v1/\x1b]0;owned\x07",
    "by": {"kind": "admin", "id": "00" * 16, "origin": "admin \x1b[2J 127.0.0.1", "address": None},
    "events": [],
    "bodies": [],
}


def mailbox_event(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "address": "alice@example.test", "data": {"folder_id": "ab", **data}}


def test_a_line_says_which_messages_it_is_about() -> None:
    events = [mailbox_event("MessagesMoved", uids=[8, 9, 10, 12], target_id="cd")]
    assert "  MessagesMoved  alice@example.test  UID 8:10,12  by " in _line({**RECORD, "events": events})
    events = [mailbox_event("ManyFlagsChanged", spans=[[1, 4000]], mode="add", flags=["\\Seen"])]
    assert "alice@example.test  +\\Seen  UID 1:4000  by " in _line({**RECORD, "events": events})
    many = _line({**RECORD, "events": [mailbox_event("MessagesExpunged", uids=range(1, 4000, 2), force=False)]})
    assert "UID 1,3,5,7,9,11,13,15,...  by " in many


def test_a_line_says_who_changed_what_belongs_to_another() -> None:
    events = [mailbox_event("MessagesExpunged", uids=[1], force=False)]
    bob = {"kind": "account", "id": "00" * 16, "origin": "imap 192.0.2.7", "address": "bob@example.test"}
    assert _line({**RECORD, "events": events, "by": bob}).endswith("  by bob@example.test, imap 192.0.2.7")
    alice = {**bob, "address": "alice@example.test"}
    assert _line({**RECORD, "events": events, "by": alice}).endswith("  UID 1  by imap 192.0.2.7")


def test_no_record_controls_the_terminal_that_it_is_shown_on(capsys: Any) -> None:
    print(_line(RECORD))
    _print_whole(RECORD)
    shown = capsys.readouterr().out
    assert "owned" in shown
    assert not any(character in shown for character in "\x1b\x07")
