"""Is this node's database file sound? Asked before the node joins its cell, in a child process.

A damaged page can abort a process inside LMDB, so the file's structure is first walked without LMDB, and everything
happens in a process whose death is itself an answer. A node that fails this must not join: what it acknowledged may be
lost, and it comes back under a new name.
"""

import os
import subprocess
import sys
from pathlib import Path

import lmdb.verify

from eventlog.errors import DamagedDatabase
from eventlog.store import Store, joined_mark, open_for_reading
from eventlog.verify import verify_store

CHECK_TIMEOUT_S = 600.0
TAIL_RECORDS = 2000  # whose chain is checked at every start; `log verify` checks all


def check_database(path: Path) -> str | None:
    """The reason why the database in this folder can not be trusted, or None. A new node has none, which is sound."""
    if not (path / "data.mdb").exists():
        mark = joined_mark(path)
        if mark.exists():
            return (
                f"{path}: there is no database, but {mark} says that this node had one: with an empty one it would "
                "vote as if it had never acknowledged anything. Is its disk mounted?"
            )
        return None
    command = [sys.executable, "-P", "-m", "eventlog.check", str(path)]
    root = str(Path(__file__).resolve().parent.parent)  # where this package is, whatever the working directory
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"the check did not end within {CHECK_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return said[-1] if said else f"the check ended with code {done.returncode}"


def find_damage(path: Path) -> str | None:
    """The check itself: the file's structure, then the newest part of the chain. May die on a damaged file."""
    try:
        problems: list[str] = lmdb.verify.verify(str(path))  # type: ignore[no-untyped-call]
    except lmdb.verify.VerifyError as error:
        return f"{path}: {error}"
    if problems:
        return f"{path}: {problems[0]} ({len(problems)} problems in the file's structure)"
    try:
        with open_for_reading(path) as store:
            with store.snapshot() as snapshot:
                last = snapshot.position
            report = verify_store(store, first=max(1, last - TAIL_RECORDS, _archived(store) + 1), last=last)
    except (lmdb.Error, DamagedDatabase) as error:
        return f"{path}: {error}"
    return None if report.ok else f"{path}: {report.problems[0]}"


def _archived(store: Store) -> int:
    """The last position in the archive, whose damage is repaired by another node's segments while this one serves."""
    with store.env.begin() as txn:
        segments = store.archive.segments(txn, store.db)
    return segments[-1].last if segments else 0


if __name__ == "__main__":
    damage = find_damage(Path(sys.argv[1]))
    if damage is not None:
        print(damage)
        sys.exit(1)
