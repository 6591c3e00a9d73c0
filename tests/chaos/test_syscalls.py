"""A process whose thread syncs is slowed by what was asked, and runs as before afterwards."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.faults import syscalls
from chaos.faults.syscalls import SlowSyncs

WRITER = """
import os, sys, threading

def sync():
    with open(sys.argv[1], "wb", buffering=0) as file:
        while True:
            os.fdatasync(file.fileno())
            file.write(b"x")
            threading.Event().wait(0.001)

threading.Thread(target=sync, daemon=True).start()
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "written"


@pytest.fixture
def writer(written: Path) -> Iterator[int]:
    if lack := syscalls.missing():
        pytest.skip(lack)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(written)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


def grown(path: Path, seconds: float) -> int:
    before = path.stat().st_size
    time.sleep(seconds)
    return path.stat().st_size - before


def test_each_sync_lasts_longer_while_it_is_slow_and_not_after(writer: int, written: Path) -> None:
    slow = SlowSyncs(writer, 0.1)
    slow.start()
    try:
        assert grown(written, 1.0) <= 11
    finally:
        slow.stop()
    assert slow.delayed >= 1
    assert grown(written, 1.0) > 11


def test_a_process_that_ends_while_it_is_slow_is_let_go(writer: int) -> None:
    slow = SlowSyncs(writer, 0.01)
    slow.start()
    subprocess.run(["kill", "-9", str(writer)], check=True)
    slow.stop()


def test_a_process_that_is_not_there_is_an_error() -> None:
    if lack := syscalls.missing():
        pytest.skip(lack)
    with subprocess.Popen(["true"]) as ended:
        pass
    with pytest.raises(OSError, match=str(ended.pid)):
        SlowSyncs(ended.pid, 0.01).start()
