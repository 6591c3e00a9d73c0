"""`mailraft log verify` where a node is not there to be asked, and where it is damaged."""

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from chaos.cluster import free_base_port
from cli import layout
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
