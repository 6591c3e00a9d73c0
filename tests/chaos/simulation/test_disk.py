"""The fake disk gives back exactly what was committed, whatever the power left of the commit that it interrupted."""

import random
from pathlib import Path

import pytest

from chaos.simulation.disk import Disk, PowerLost
from eventlog.store import META


def write(disk: Disk, number: int, *, last: bool = True) -> None:
    assert disk.store is not None
    for key in range(40):
        disk.store.txn.put(b"key %d" % key, b"%d " % number * 60, db=disk.store.db[META])
    disk.store.commit(last=last)


def found(disk: Disk) -> set[bytes | None]:
    """What a node comes back with."""
    disk.power_off()
    store = disk.open()
    with store.env.begin() as txn:
        return {txn.get(b"key %d" % key, db=store.db[META]) for key in range(40)}


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


@pytest.mark.parametrize("how", ["lost", "torn", ""])
def test_only_the_newest_commit_may_be_undone_and_only_if_it_need_not_last(tmp_path: Path, how: str) -> None:
    seen = set()
    for seed in range(8):
        disk = Disk(tmp_path / str(seed), random.Random(seed))
        disk.open().armed = True
        write(disk, 1)
        write(disk, 2, last=False)
        write(disk, 3, last=False)
        if how:
            disk.fail_at_commit = lambda: how
            with pytest.raises(PowerLost):
                write(disk, 4)
        (value,) = found(disk)
        seen.add(value)
        disk.power_off()
    assert seen == {b"2 " * 60, b"3 " * 60}


def test_a_commit_that_must_last_keeps_the_one_before_it(tmp_path: Path) -> None:
    for seed in range(8):
        disk = Disk(tmp_path / str(seed), random.Random(seed))
        disk.open().armed = True
        write(disk, 1, last=False)
        write(disk, 2)
        assert found(disk) == {b"2 " * 60}
        disk.power_off()
