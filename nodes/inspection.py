"""How far the log of a stopped node goes, read from its database, so that one can tell which node has the longest.

Changes nothing. Of two logs the one whose last entry has the higher term is the later; of equal terms, the longer.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import lmdb

from eventlog.check import check_database
from eventlog.errors import DamagedDatabase
from eventlog.journal import LmdbJournal
from eventlog.store import LOG, POSITION, Snapshot, Store, open_for_reading
from nodes.process import LOCK_NAME
from nodes.record_json import utc


class NotInspected(Exception):
    """There is no database in the folder, or none that can be trusted; the text says which."""


def inspect(data_dir: Path) -> dict[str, Any]:
    """The facts by name. `running`: the numbers may have grown meanwhile. Raises NotInspected."""
    if not (data_dir / "data.mdb").is_file():
        raise NotInspected(f"{data_dir}: there is no database (data.mdb)")
    running = _is_running(data_dir)
    if not running and (damage := check_database(data_dir)) is not None:
        raise NotInspected(f"the database is damaged: {damage}")
    try:
        with open_for_reading(data_dir) as store:
            journal = LmdbJournal(store)
            with store.env.begin() as txn:
                records = _count(txn, store)
            with store.snapshot() as snapshot:
                return {"data_dir": str(data_dir), "running": running, **_facts(journal, snapshot), "records": records}
    except (OSError, lmdb.Error, DamagedDatabase) as error:
        raise NotInspected(f"{data_dir}: can not be read: {error}") from None


def _count(txn: Any, store: Store) -> int:
    """Entries of the log, in the database and in the archive."""
    segments = store.archive.segments(txn, store.db)
    entries = int(txn.stat(store.db[LOG])["entries"])
    if not segments:
        return entries
    with txn.cursor(db=store.db[LOG]) as cursor:
        beyond = cursor.set_range(POSITION.pack(segments[-1].last + 1))
        return segments[-1].last + (sum(1 for _ in cursor.iternext(values=False)) if beyond else 0)


def _facts(journal: LmdbJournal, snapshot: Snapshot) -> dict[str, Any]:
    return {
        "last_term": journal.last_term,
        "last_index": journal.last_index,
        "last_at": utc(journal.last_at_ms) if journal.last_index else None,
        "term": journal.getCurrentTerm(),
        "commit": journal.getRaftCommitIndex(),
        "applied": snapshot.position,
        "chain": snapshot.chain.hex(),
    }


def _is_running(data_dir: Path) -> bool:
    """Whether a process holds the node's lock. Looks without writing into it."""
    try:
        with (data_dir / LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
