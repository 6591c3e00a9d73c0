"""A single-node log for tests: open it, use it, and it is stopped whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eventlog.log import EventLog, LogConfig
from tests.eventlog import ledger

MAP_BYTES = 64 * 1024 * 1024


@asynccontextmanager
async def single(folder: Path, *, evolve: Any = ledger.evolve, **config: Any) -> AsyncIterator[EventLog]:
    """A cell of one node with its data in `folder`; it leads when this is entered."""
    settings: dict[str, Any] = {"map_size_bytes": MAP_BYTES, "reserve_bytes": 1024 * 1024, **config}
    log = EventLog.open(
        LogConfig("n1", folder / "data", {"n1": "127.0.0.1:0"}, "127.0.0.1:0", **settings), evolve=evolve
    )
    await log.start()
    try:
        await log.barrier()
        yield log
    finally:
        await asyncio.wait_for(log.stop(), 20)
