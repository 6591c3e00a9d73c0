"""`mailraft log what-if` says nothing of a part of the log that is not there."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import what_if
from cli.main import main


def test_what_begins_behind_the_end_of_the_log_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_cluster: Path, body: dict[str, Any], _node: str | None) -> tuple[list[Any], dict[str, Any]]:
        return [], {"first": body["selection"]["first"], "last": 75, "differences": {}}

    monkeypatch.setattr(what_if, "_run", nothing)
    rule = tmp_path / "rule.toml"
    rule.write_text('[[refuse]]\nrecipient = "*"\n')
    words = ["log", "what-if", "--rule", str(rule), "--cluster", "x", "--since"]
    behind = CliRunner().invoke(main, [*words, "#76"])
    assert (behind.exit_code, behind.stdout) == (1, "")
    assert "--since #76: the log ends at 75" in behind.stderr
    assert CliRunner().invoke(main, [*words, "#75"]).exit_code == 0
