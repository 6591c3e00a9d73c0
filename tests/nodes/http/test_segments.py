"""Segments over the admin API: what a backup of a running cell is made of."""

import asyncio
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import free_base_port
from cli import layout
from cli.backup_feed import find_feed
from cli.client import AdminClient
from cli.output import CommandError
from eventlog.segment_frames import SegmentError
from eventlog.segment_source import records_of
from eventlog.segments import SegmentRecord, read_stream
from eventlog.store import open_for_reading
from nodes.config import sources as config_sources
from nodes.server import Node

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def cell(tmp_path: Path) -> layout.Cluster:
    return layout.create(tmp_path / "cell", 1, free_base_port(1))


def while_it_runs(run: Run, cell: layout.Cluster, ask: Callable[[AdminClient], None]) -> None:
    """Calls `ask` in a thread while the cell's node runs on this thread's loop and has a tenant in its log."""

    async def session() -> None:
        async with Node(config_sources.load(cell.nodes[0].config, {})).running() as state:
            async with asyncio.timeout(15):
                while state.unready():
                    await asyncio.sleep(0.05)
            client = AdminClient(cell)
            tenant = {"name": "example", "domains": ["example.test"]}
            await asyncio.to_thread(client.change, "POST", "/v1/tenants", tenant)
            await asyncio.to_thread(ask, client)

    run(session())


def stored(cell: layout.Cluster, last: int) -> list[SegmentRecord]:
    with open_for_reading(cell.nodes[0].folder / "data") as store:
        return list(records_of(store, 1, last))


@pytest.mark.parametrize("most_bytes", [1, 1 << 20])
def test_a_running_node_gives_its_log_in_segments_of_the_size_that_is_asked_for(
    run: Run, cell: layout.Cluster, most_bytes: int
) -> None:
    found: list[SegmentRecord] = []

    def ask(_: AdminClient) -> None:
        segments = 0
        with find_feed(cell.folder, None, most_bytes) as (feed, key):
            last = feed.last()
            while len(found) < last:
                header, records = feed.segment(len(found) + 1, last)
                assert (header.cell, header.first) == (cell.id, len(found) + 1)
                found.extend(records)
                segments += 1
        assert segments == (last if most_bytes == 1 else 1)
        assert key is not None

    while_it_runs(run, cell, ask)
    assert len(found) > 3
    assert found == stored(cell, len(found))


def test_positions_that_are_not_there_are_refused(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        for query, said in (
            ("first=1&last=999", "no position 999"),
            ("first=3&last=2", "two positions"),
            ("", "first: is missing"),
        ):
            with pytest.raises(CommandError, match=said):
                client.open(f"/v1/log/segment?{query}", "n1")

    while_it_runs(run, cell, ask)


def test_an_answer_that_is_cut_short_is_no_segment(run: Run, cell: layout.Cluster) -> None:
    def ask(client: AdminClient) -> None:
        whole = client.open("/v1/log/segment?first=1&last=2", "n1").read()
        with pytest.raises(SegmentError, match=r"n1: its digest is not"):
            list(read_stream(io.BytesIO(whole[:-1]).read, "n1")[1])

    while_it_runs(run, cell, ask)
