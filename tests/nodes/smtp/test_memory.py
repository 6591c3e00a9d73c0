"""What a connection costs while it says nothing; `mailraft bench connections` measures the whole process."""

from __future__ import annotations

import gc
import tracemalloc

from tests.nodes.smtp.cell import Cell
from tests.nodes.smtp.dialogue import Dialogue

CONNECTIONS = 150
MOST_BYTES = 20 * 1024  # of Python objects; the rest of 40 KiB is for the transport and the allocator


def test_an_idle_connection_costs_little(cell: Cell) -> None:
    def opened(count: int) -> list[Dialogue]:
        clients = [Dialogue(cell.port("smtp")) for _ in range(count)]
        for client in clients:
            client.read()
            client.ask("EHLO idle.test")
        return clients

    def traced() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    first = opened(10)  # what is made once
    tracemalloc.start()
    try:
        before = traced()
        clients = opened(CONNECTIONS)
        each = (traced() - before) / CONNECTIONS
    finally:
        tracemalloc.stop()
        for client in [*first, *clients]:
            client.close()
    assert 1000 < each < MOST_BYTES
