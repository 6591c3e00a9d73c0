"""`mailraft bench accounts`, small: that it measures what it says on a cluster of its own."""

import json

import pytest
from click.testing import CliRunner

from cli.bench import account_rates
from cli.main import main


def test_accounts_are_made_and_log_in_and_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_rates, "LOG_INS", 2)
    words = ["bench", "accounts", "--accounts", "250", "--tenants", "3", "--nodes", "1", "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    rows = {one["name"]: one["value"] for one in json.loads(done.stdout)["rows"]}
    assert {"tenants made", "accounts made", "log-in without argon2, median", "page of 100 accounts, median"} <= set(
        rows
    )
    assert all(value > 0 for name, value in rows.items() if not name.startswith("memory for each"))
