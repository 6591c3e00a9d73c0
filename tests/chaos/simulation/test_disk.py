"""The fake disk gives back exactly what was committed, whatever the power left of the commit that it interrupted."""

import random
from pathlib import Path

import pytest

from chaos.simulation.disk import Disk, PowerLost
from eventlog.store import META


def write(disk: Disk, number: int) -> None:
    assert disk.store is not None
    for key in range(40):
        disk.store.txn.put(b"key %d" % key, b"%d " % number * 60, db=disk.store.db[META])
    disk.store.commit()


@pytest.mark.parametrize("how", ["lost", "torn"])
@pytest.mark.parametrize("seed", range(5))
def test_an_interrupted_commit_leaves_the_one_before(tmp_path: Path, how: str, seed: int) -> None:
    disk = Disk(tmp_path, random.Random(seed))
    disk.open().armed = True
    for number in range(1, 8):
        write(disk, number)
    disk.fail_at_commit = lambda: how
    with pytest.raises(PowerLost):
        write(disk, 8)
    disk.power_off()
    store = disk.open()
    with store.env.begin() as txn:
        assert {txn.get(b"key %d" % key, db=store.db[META]) for key in range(40)} == {b"7 " * 60}
    disk.fail_at_commit = lambda: None
    write(disk, 9)
    with store.env.begin() as txn:
        assert txn.get(b"key 0", db=store.db[META]) == b"9 " * 60
    disk.power_off()


def test_a_torn_commit_has_damaged_pages_that_nobody_reads(tmp_path: Path) -> None:
    disk = Disk(tmp_path, random.Random(1))
    disk.open().armed = True
    write(disk, 1)
    before = (tmp_path / "data.mdb").read_bytes()
    disk.fail_at_commit = lambda: "torn"
    with pytest.raises(PowerLost):
        write(disk, 2)
    assert (tmp_path / "data.mdb").read_bytes() != before


def test_an_unsynced_disk_loses_what_it_said_was_written(tmp_path: Path) -> None:
    disk = Disk(tmp_path, random.Random(3), unsynced=True)
    disk.open().armed = True
    for number in range(1, 6):
        write(disk, number)
    disk.power_off()
    store = disk.open()
    with store.env.begin() as txn:
        assert txn.get(b"key 0", db=store.db[META]) != b"5 " * 60
    disk.power_off()
