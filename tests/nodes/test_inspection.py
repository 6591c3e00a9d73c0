"""How far the log of a stopped node goes, told without starting it."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.client import AdminClient
from cli.main import main
from nodes.files import lock
from nodes.inspection import inspect
from nodes.server import Node
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["node", "inspect", *map(str, arguments)])


@pytest.fixture
def ran(run: Run, make_cell: MakeCell) -> tuple[Path, Path, dict[str, Any]]:
    """A node that wrote something and was stopped: its configuration, its data folder, its last status."""
    cluster, config = make_cell()

    async def live() -> Any:
        async with Node(config).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            client = AdminClient(cluster)
            tenant = {"name": "example", "domains": ["example.test"]}
            await asyncio.to_thread(client.change, "POST", "/v1/tenants", tenant)
            with state.services.log.snapshot() as snapshot:  # type: ignore[union-attr]
                return {**state.status(), "last_at_ms": snapshot.at_ms}

    status = run(live())
    return cluster.nodes[0].config, config.node.data_dir, status


def test_a_stopped_node_tells_how_far_its_log_goes(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    config, data_dir, status = ran
    by_config, by_data = invoke("--config", config, "--json"), invoke("--data", data_dir, "--json")
    assert (by_config.exit_code, by_data.stdout) == (0, by_config.stdout)
    facts = json.loads(by_config.stdout)
    assert (facts["term"], facts["applied"], facts["chain"]) == (status["term"], status["applied"], status["chain"])
    assert facts["last_index"] == facts["records"] == facts["commit"] == facts["applied"] > 1
    assert (facts["last_term"], facts["running"]) == (status["term"], False)
    assert f"last index  {facts['last_index']}\n" in invoke("--data", data_dir).stdout


def test_looking_changes_nothing(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    data_dir = ran[1]
    before = sorted(data_dir.iterdir()), (data_dir / "data.mdb").read_bytes()
    inspect(data_dir)
    assert (sorted(data_dir.iterdir()), (data_dir / "data.mdb").read_bytes()) == before


def test_a_node_that_runs_is_told_apart(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    with lock(ran[1] / "node.lock"):
        result = invoke("--data", ran[1], "--json")
    assert json.loads(result.stdout)["running"] is True
    assert "this node runs" in result.stderr


def test_a_folder_without_a_database_is_a_sentence(tmp_path: Path) -> None:
    result = invoke("--data", tmp_path)
    assert (result.exit_code, "there is no database" in result.stderr) == (1, True)
    assert invoke("--data", tmp_path, "--config", tmp_path).exit_code == 2


def test_a_damaged_database_is_not_counted_on(ran: tuple[Path, Path, dict[str, Any]]) -> None:
    data_dir = ran[1]
    size = (data_dir / "data.mdb").stat().st_size
    with (data_dir / "data.mdb").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(size - 2 * 4096))
    result = invoke("--data", data_dir)
    assert (result.exit_code, "the database is damaged" in result.stderr) == (1, True)
