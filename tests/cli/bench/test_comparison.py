"""`bench compare`: gains point the same way whatever the unit, and a file that is no result is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.bench import bench
from cli.bench.comparison import CompareError, compare, load, same_machine
from cli.bench.results import Row, as_text, result


def document(*rows: Row, bench: str = "log") -> dict[str, Any]:
    return result(bench, rows)


def test_a_lower_latency_and_a_higher_rate_are_both_gains() -> None:
    old = document(Row("rate", 100, "rec/s", True), Row("latency", 2, "ms", False))
    new = document(Row("rate", 150, "rec/s", True), Row("latency", 1, "ms", False))
    found, missing = compare(old, new)
    assert [(row.name, row.gain) for row in found] == [("rate", 1.5), ("latency", 2.0)]
    assert missing == []


def test_only_a_loss_beyond_the_tolerance_counts_as_worse() -> None:
    found, _ = compare(document(Row("rate", 100, "", True)), document(Row("rate", 88, "", True)))
    assert found[0].is_worse(0.10)
    assert not found[0].is_worse(0.15)


def test_a_row_that_is_gone_is_named() -> None:
    assert compare(document(Row("rate", 1, "", True)), document()) == ([], ["rate"])


def test_results_of_different_benchmarks_are_refused() -> None:
    with pytest.raises(CompareError, match="can not be compared"):
        compare(document(), document(bench="smtp"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bench": "log", "rows": [{"name": "x"}]}'])
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(CompareError, match=r"old\.json: not a benchmark result"):
        load(path)


def test_a_result_survives_its_file_and_knows_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    written = document(Row("rate", 12.3456, "rec/s", True, "at the leader"))
    path.write_text(json.dumps(written))
    assert load(path) == written
    assert same_machine(written, load(path))
    assert "12.35 rec/s" in as_text(written)


def written(folder: Path, name: str, value: float) -> str:
    path = folder / name
    path.write_text(json.dumps(document(Row("rate", value, "records/s", True))))
    return str(path)


def test_the_command_exits_0_for_a_gain_and_1_for_a_loss_beyond_the_tolerance(tmp_path: Path) -> None:
    old, new = written(tmp_path, "old.json", 100), written(tmp_path, "new.json", 80)
    gained = CliRunner().invoke(bench, ["compare", new, old])
    assert (gained.exit_code, "1.25" in gained.output) == (0, True)
    lost = CliRunner().invoke(bench, ["compare", old, new])
    assert lost.exit_code == 1
    assert "rate became worse" in lost.output
    assert CliRunner().invoke(bench, ["compare", old, new, "--tolerance", "0.5"]).exit_code == 0


def test_the_command_names_a_file_that_it_can_not_read(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(bench, ["compare", str(tmp_path / "none.json"), str(tmp_path / "none.json")])
    assert outcome.exit_code == 1
    assert "none.json" in outcome.output
