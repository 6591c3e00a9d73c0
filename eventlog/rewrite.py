"""A node's database written anew, row by row, so that nothing of what was erased is left in its file.

LMDB does not overwrite: what is deleted stays in freed pages, in the gaps of pages and in recycled page buffers, and
its own compacting copy copies pages. So a process that never held what was erased reads the rows of one snapshot and
puts them into a fresh file. `python -m eventlog.rewrite SOURCE TARGET` prints how far it is: bytes done, of how many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from eventlog.store import META, NAMES, Place, Store, open_for_reading

COMMIT_BYTES = 32 * 1024 * 1024  # of rows in one transaction of the new file
MAP_SIZE_BYTES = 1 << 40

Progress = Callable[[int, int], None]  # bytes done, of about how many


def copy_rows(source: Path, target: Path, progress: Progress) -> None:
    """Writes every row of the database in `source`, as of now, into a new database in `target`."""
    with open_for_reading(source) as live:
        fresh = Store(target, MAP_SIZE_BYTES, durable=False)
        try:
            with live.env.begin() as txn:
                total, done = live.env.info()["last_pgno"] * live.env.stat()["psize"], 0
                for name in live.db:
                    with txn.cursor(db=live.db[name]) as cursor:
                        for key, value in cursor:
                            fresh.txn.put(key, value, db=fresh.db[name], append=name != META)
                            before, done = done, done + len(key) + len(value)
                            if done // COMMIT_BYTES != before // COMMIT_BYTES:
                                fresh.commit()
                                progress(done, total)
            fresh.commit()
            fresh.env.sync(True)
        finally:
            fresh.close()


def copy_places(live: Store, fresh: Store, places: Iterable[Place]) -> None:
    """Brings these rows of `fresh` to what they are in `live`, in one transaction each."""
    with live.env.begin() as txn:
        for name, key in sorted(places):
            value = txn.get(key, db=live.db[name])
            if value is None:
                fresh.txn.delete(key, db=fresh.db[name])
            else:
                fresh.txn.put(key, value, db=fresh.db[name])
    fresh.commit()


def same_rows(one: Store, other: Store) -> bool:
    """Whether two databases hold the same in every table."""
    with one.env.begin() as first, other.env.begin() as second:
        return all(list(first.cursor(db=one.db[name])) == list(second.cursor(db=other.db[name])) for name in NAMES)


if __name__ == "__main__":
    copy_rows(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: print(done, total, flush=True))
