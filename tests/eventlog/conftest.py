"""Stores in temporary folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.store import Store

MAP_BYTES = 64 * 1024 * 1024


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store that does not wait for the disk: what is tested with it is not durability."""
    store = Store(tmp_path / "data", MAP_BYTES, durable=False)
    yield store
    store.close()
