"""`mailraft account import` that is broken off: its exit code tells whether anything may have been done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import account_import
from cli.main import main
from cli.output import FAILED, UNKNOWN, CommandError

NOT_NOW = 4


class Cell:
    """In place of a cell that takes `taken` batches and then fails."""

    def __init__(self, taken: int, exit_code: int) -> None:
        self._left, self._exit_code = taken, exit_code

    def change(self, _method: str, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self._left:
            raise CommandError("no answer", "", self._exit_code)
        self._left -= 1
        return {"accounts": [{"address": one["address"], "outcome": "added"} for one in body["accounts"]]}


@pytest.mark.parametrize(
    ("taken", "failure", "told"),
    [(0, NOT_NOW, NOT_NOW), (1, NOT_NOW, FAILED), (0, UNKNOWN, UNKNOWN), (1, UNKNOWN, UNKNOWN)],
)
def test_what_broke_it_off_is_told_by_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: int, failure: int, told: int
) -> None:
    monkeypatch.setattr(account_import, "open_client", lambda *_: Cell(taken, failure))
    monkeypatch.setattr(account_import, "AT_ONCE", 1)
    file = tmp_path / "accounts.jsonl"
    file.write_text("".join(json.dumps({"address": f"{name}@example.test"}) + "\n" for name in "ab"))
    found = CliRunner().invoke(main, ["account", "import", str(file), "--cluster", "x"])
    assert found.exit_code == told
    assert f"{taken} of 2 done, then: no answer" in found.stderr
