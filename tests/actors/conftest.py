"""Every test of decide and evolve runs over both kinds of tables: the contract is one."""

from collections.abc import Iterator

import pytest

from tests.actors.stage import DictTables, LmdbTables, Stage, Tables


@pytest.fixture(params=[DictTables, LmdbTables], ids=["dict", "lmdb"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stream = b"a" * 16
    tables: Tables = request.param(stream)
    yield Stage(tables, stream)
    tables.close()
