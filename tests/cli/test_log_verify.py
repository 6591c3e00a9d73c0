"""`mailraft log verify` where a node is not there to be asked, and where it is damaged."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout, log_proof
from cli.client import AdminClient, Unreachable
from cli.main import main
from eventlog.store import LOG, POSITION, Store
from tests.eventlog import ledger
from tests.eventlog.opened import MAP_BYTES, single


def test_verifying_all_nodes_names_the_one_that_does_not_answer(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 3, free_base_port(3))
    result = CliRunner().invoke(main, ["log", "verify", "--all", "--cluster", str(cluster.folder)])
    assert result.exit_code != 0
    assert "n1 does not answer" in result.stderr
    assert "mailraft log verify --node NAME" in result.stderr


PROVEN = {"ok": True, "records": 7, "head": "ab", "first_bad": None, "problems": [], "chains": {"5": "ab"}}


def test_the_nodes_that_answer_are_verified_and_compared_behind_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(_client: AdminClient, node: layout.Node) -> dict[str, int]:
        if node.name == "n2":
            raise Unreachable("no answer in time")
        return {"applied": 5}

    reports = {"n1": PROVEN, "n3": PROVEN}
    monkeypatch.setattr(AdminClient, "status", status)
    monkeypatch.setattr(log_proof, "run_job", lambda _cluster, _path, name, _what: reports[name])
    words = ["log", "verify", "--all", "--cluster", str(layout.create(tmp_path / "cell", 3, free_base_port(3)).folder)]
    result = CliRunner().invoke(main, words)
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["n1: 7 records", "n3: 7 records"]
    assert "n2 does not answer: no answer in time" in result.stderr
    assert result.exit_code == 1
    reports["n3"] = {**PROVEN, "chains": {"5": "cd"}}
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert told["ok"] is False
    assert [problem.split(":")[0] for problem in told["problems"]] == [
        "the nodes differ at position 5",
        "n2 does not answer",
    ]


def test_a_folder_of_anchors_without_any_proves_nothing(tmp_path: Path) -> None:
    cluster = layout.create(tmp_path / "cell", 1, free_base_port(1))
    (tmp_path / "heads").mkdir()
    words = ["log", "verify", "--anchor", str(tmp_path / "heads"), "--cluster", str(cluster.folder)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert f"{tmp_path / 'heads'} has no heads" in result.stderr
    assert "log anchor --collect" in result.stderr


async def three_records(folder: Path) -> int:
    async with single(folder) as log:
        return [await log.propose(ledger.record(ledger.event(number))) for number in range(3)][1].position


def test_what_is_wrong_with_a_nodes_folder_is_said_to_people_and_to_programs(tmp_path: Path) -> None:
    position = asyncio.run(three_records(tmp_path))
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    value = store.txn.get(POSITION.pack(position), db=store.db[LOG]) or b""
    store.txn.put(POSITION.pack(position), value[:-1] + b"?", db=store.db[LOG])
    store.commit()
    store.close()
    result = CliRunner().invoke(main, ["log", "verify", "--data", str(tmp_path / "data"), "--json"])
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["ok"], report["first_bad"]) == (False, position)
    assert report["problems"][0] == f"damaged at position {position}"
    assert f"record {position}: it does not fit the chain" in report["problems"][1]
    assert all(problem in result.stderr for problem in report["problems"])
    assert "stop this node" in result.stderr
