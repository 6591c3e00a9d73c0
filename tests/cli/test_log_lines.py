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


def test_no_record_controls_the_terminal_that_it_is_shown_on(capsys: Any) -> None:
    print(_line(RECORD))
    _print_whole(RECORD)
    shown = capsys.readouterr().out
    assert "owned" in shown
    assert not any(character in shown for character in "\x1b\x07")
