"""Files are whole or not there; a lock is held by one process."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodes.files import Locked, finish, holder, lock, replace_pair, steady, write_atomically

HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("77\\n")
file.flush()
print(flush=True)
time.sleep(60)
"""


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_atomically(path, b"old", 0o600)
    write_atomically(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Locked) as caught:
            lock(path)
        assert str(caught.value) == "77"
        assert holder(path) == "77"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert holder(path) == ""
    assert path.read_text() == "77\n", "who looks writes nothing: the disk may be read-only"
    lock(path).close()


def test_pairs_that_are_replaced_at_once_are_never_mixed(tmp_path: Path) -> None:
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    replace_pair(certificate, b"0", key, b"0")

    def replace(number: int) -> bool:
        replace_pair(certificate, b"%d" % number, key, b"%d" % number)
        finish(certificate, key)
        with steady(certificate):
            return certificate.read_bytes() == key.read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(replace, range(100)))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["node.key", "node.pem"]


@pytest.mark.parametrize(("left", "became"), [(("pem", "key"), b"new"), (("pem",), b"new"), (("key",), b"old")])
def test_what_an_interruption_left_of_a_pair_is_put_in_its_place(
    tmp_path: Path, left: tuple[str, ...], became: bytes
) -> None:
    """A staged certificate is whole, and its key is where it was staged, or in its place already."""
    certificate, key = tmp_path / "node.pem", tmp_path / "node.key"
    certificate.write_bytes(b"old")
    key.write_bytes(b"new" if left == ("pem",) else b"old")
    for name in left:
        (tmp_path / f"node.{name}.new").write_bytes(b"new")
    finish(certificate, key)
    assert (certificate.read_bytes(), key.read_bytes()) == (became, became)
