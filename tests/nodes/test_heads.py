"""Heads that a node signs by itself: kept, bounded, given out, and what a later log is compared with."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families as families

from cli.client import AdminClient
from cli.layout import Cluster
from cli.main import main
from nodes.anchors import check
from nodes.config.node import NodeConfig
from nodes.server import Node
from tests.nodes.conftest import MakeCell

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def invoke(cluster: Cluster, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["log", *map(str, arguments), "--cluster", str(cluster.folder)])


def often(config: NodeConfig, keep: int = 1000) -> NodeConfig:
    return config.model_copy(update={"heads": config.heads.model_copy(update={"every_s": 0.05, "keep": keep})})


async def ready(state: Any) -> None:
    async with asyncio.timeout(20):
        while state.unready():
            await asyncio.sleep(0.05)


async def add_tenant(cluster: Cluster, name: str) -> None:
    tenant = {"name": name, "domains": [f"{name}.test"]}
    await asyncio.to_thread(AdminClient(cluster).change, "POST", "/v1/tenants", tenant)


def test_a_node_signs_its_head_by_itself_and_gives_it_out(run: Run, make_cell: MakeCell, tmp_path: Path) -> None:
    cluster, config = make_cell()
    elsewhere = tmp_path / "elsewhere"

    async def scenario() -> None:
        async with Node(often(config)).running() as state:
            await ready(state)
            for name in ("one", "two"):
                await add_tenant(cluster, name)
                assert state.log is not None
                position = state.log.status().applied
                async with asyncio.timeout(20):
                    while state.heads is None or max(state.heads.positions(), default=0) < position:
                        await asyncio.sleep(0.02)
            listed = await asyncio.to_thread(invoke, cluster, "anchor", "--list", "--json")
            heads = json.loads(listed.stdout)
            assert len(heads) >= 2
            assert check(heads[-1], cluster.folder / "ca" / "ca.pem").position == position
            collected = await asyncio.to_thread(invoke, cluster, "anchor", "--collect", elsewhere)
            assert collected.exit_code == 0, collected.output
            assert len(list(elsewhere.glob("*.json"))) == len(heads)
            verified = await asyncio.to_thread(invoke, cluster, "verify", "--anchor", elsewhere)
            assert verified.output.count("the chain leads to the head") == len(heads)
            state.measure()
            metrics = {
                one.name: one.samples[0].value for one in families(state.metrics.exposition().decode()) if one.samples
            }
            assert metrics["mailraft_signed_head_position"] == position

    run(scenario())


def test_a_log_that_was_made_anew_does_not_lead_to_the_heads_of_the_old_one(
    run: Run, make_cell: MakeCell, tmp_path: Path
) -> None:
    cluster, config = make_cell()

    async def live(name: str) -> None:
        async with Node(config).running() as state:
            await ready(state)
            await add_tenant(cluster, name)

    run(live("one"))
    kept = (config.node.data_dir / "heads").rename(tmp_path / "kept")
    for path in (config.node.data_dir / "data.mdb", config.node.data_dir / "lock.mdb"):
        path.unlink()
    config.node.data_dir.with_name(f"{config.node.data_dir.name}.joined").unlink()
    run(live("two"))
    verified = CliRunner().invoke(
        main,
        ["log", "verify", "--data", str(config.node.data_dir), "--anchor", str(kept), "--ca",
         str(cluster.folder / "ca" / "ca.pem")],
    )  # fmt: skip
    assert verified.exit_code == 1
    assert "not the log that was anchored" in verified.output


def test_a_node_keeps_so_many_heads_and_signs_one_when_it_stops(run: Run, make_cell: MakeCell) -> None:
    cluster, config = make_cell()

    async def scenario() -> int:
        async with Node(often(config, keep=2)).running() as state:
            await ready(state)
            for name in ("one", "two", "three", "four"):
                await add_tenant(cluster, name)
                await asyncio.sleep(0.12)
            assert state.log is not None
            return state.log.status().applied

    last = run(scenario())
    kept = sorted(path.name for path in (config.node.data_dir / "heads").iterdir())
    assert len(kept) == 2
    assert kept[-1] == f"head-{last:012}.json"
