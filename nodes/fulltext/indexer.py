"""Makes a node's index follow its log: in a process of its own, at the lowest priority, a slice of the log at a time.

The rule that makes answers right: within a folder, messages go in by ascending UID and are committed in that order; so
up to the highest UID that the index has, it has them all, and whatever comes after is for a scan. UIDs are never used
twice. A shard is made anew beside the one in use, which then goes with all its files: that is how a rebuild is done
while searches go on, and how what was redacted leaves the disk.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import tantivy

from actors import tenant
from actors.mailbox_rows import Message, counters, folders, messages, tenant_of, uids_in
from eventlog.store import Snapshot, open_for_reading
from nodes.fulltext import schema, stamp
from nodes.fulltext.changes import Changes, changes
from nodes.fulltext.shard import Shard
from nodes.fulltext.stamp import Point, Stamp
from nodes.fulltext.terms import Indexed, indexed

WRITER_BYTES = 24 * 1024 * 1024
SLICE_MESSAGES = 200  # bodies read in one snapshot
SLICE_BYTES = 4 * 1024 * 1024
COMMIT_MESSAGES = 5000  # of a shard, before they can be found
REMEMBERED = 64  # bodies that many mailboxes get one after the other

Progress = Callable[[int, int], None]


class _New(NamedTuple):
    account: bytes
    folder: bytes
    row: Message
    data: bytes


class Indexer:
    """One pass at a time over what has changed. Raises OSError, ValueError (tantivy's) and lmdb.Error."""

    def __init__(self, database: Path, root: Path, committed: Callable[[], None]) -> None:
        self._database = database
        self._root = root
        self._committed = committed
        self._done = self._total = 0
        self._progress: Progress = lambda done, total: None
        self._remembered: dict[bytes, Indexed] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stamp = stamp.read(root, schema.VERSION)

    def catch_up(self, progress: Progress) -> bool:
        """Brings the index to where the log is; False where it was there."""
        self._progress = progress
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            if not stamp.is_of(self.stamp, snapshot):
                self.stamp = Stamp(schema.VERSION)
            target = stamp.point(snapshot, snapshot.position)
        self._remembered.clear()
        self._tidy()
        if target.position <= self.stamp.done.position:
            return False
        if self.stamp.done.position == 0:
            self._anew(range(schema.SHARDS))
        else:
            self._follow(target)
        self._write(self.stamp._replace(done=target))
        return True

    def rebuild(self, progress: Progress) -> None:
        """Makes every shard anew, and catches up."""
        self.catch_up(lambda done, total: None)
        self._progress = progress
        target = self._now()
        self._anew(range(schema.SHARDS))
        self._write(self.stamp._replace(done=target))

    def _now(self) -> Point:
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            return stamp.point(snapshot, snapshot.position)

    def _commit(self, writer: tantivy.IndexWriter) -> None:
        self._write(self.stamp._replace(newest=self._now()))
        writer.commit()
        self._committed()

    def _write(self, fresh: Stamp) -> None:
        stamp.write(self._root, fresh)
        self.stamp = fresh
        self._committed()

    def _tidy(self) -> None:
        """Removes what no stamp names: of a rebuild that was interrupted, of another history."""
        named = {self.stamp.folder(self._root, shard) for shard in self.stamp.generations}
        for folder in self._root.iterdir():
            if folder.is_dir() and folder not in named:
                shutil.rmtree(folder)

    # -- following the log

    def _follow(self, target: Point) -> None:
        with open_for_reading(self._database) as store:
            found = changes(store, self.stamp.done.position + 1, target.position, lambda done, total: None)
        anew = self._redacted(found)
        if anew:
            self._anew(anew)
        accounts = sorted(found.grown | found.shrunk | found.redacted, key=schema.shard_of)
        self._done, self._total = 0, self._count(accounts)
        for number in range(schema.SHARDS):
            of_shard = [one for one in accounts if schema.shard_of(one) == number]
            if of_shard and number not in anew:
                self._update(number, of_shard, found.shrunk)

    def _redacted(self, found: Changes) -> set[int]:
        """The shards in which something that was redacted is, if only as what was deleted and not yet merged away."""
        anew = {schema.shard_of(one) for one in found.redacted}
        for number in self.stamp.generations:
            if found.digests and number not in anew:
                shard = self._shard(number)
                if any(shard.mentions("digest", digest.hex()) for digest in found.digests):
                    anew.add(number)
        return anew & set(self.stamp.generations)

    def _update(self, number: int, accounts: list[bytes], shrunk: set[bytes]) -> None:
        if number not in self.stamp.generations:
            folder = self._fresh_folder(number, 1)
            self._write(self.stamp._replace(generations={**self.stamp.generations, number: 1}))
            assert folder == self.stamp.folder(self._root, number)
        shard = self._shard(number)
        with shard.writing(WRITER_BYTES) as writer:
            for account in accounts:
                if account in shrunk:
                    self._remove(shard, writer, account)
            self._add(shard, writer, accounts)

    def _shard(self, number: int) -> Shard:
        folder = self.stamp.folder(self._root, number)
        assert folder is not None
        return Shard(folder, make=True)

    def _remove(self, shard: Shard, writer: tantivy.IndexWriter, account: bytes) -> None:
        """Takes out what is no longer in the account's mailbox."""
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            view = snapshot.view(account)
            present = {folder.id: frozenset(uids_in(view, folder.id)) for folder in folders(view)}
        writer.delete_documents_by_query(schema.outside(account, present))
        for folder, uids in present.items():
            for uid in shard.uids(folder):
                if uid not in uids:
                    writer.delete_documents_by_term("place", schema.place(folder, uid))

    # -- making anew

    def _anew(self, numbers: Iterable[int]) -> None:
        """Fresh shards of all messages that there are, each put in place of the old one when it is whole."""
        wanted = set(numbers)
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            accounts = [one for one in _accounts(snapshot) if schema.shard_of(one) in wanted]
        self._done, self._total = 0, self._count(accounts)
        for number in sorted(wanted):
            of_shard = [one for one in accounts if schema.shard_of(one) == number]
            old = self.stamp.folder(self._root, number)
            generations = {shard: made for shard, made in self.stamp.generations.items() if shard != number}
            if of_shard:
                generations[number] = self._made(number, of_shard)
            self._write(self.stamp._replace(generations=generations))
            if old is not None:
                shutil.rmtree(old)

    def _made(self, number: int, accounts: list[bytes]) -> int:
        """A shard in a folder of its own; gives its generation."""
        generation = self.stamp.generations.get(number, 0) + 1
        shard = Shard(self._fresh_folder(number, generation), make=True)
        with shard.writing(WRITER_BYTES) as writer:
            self._add(shard, writer, accounts)
        return generation

    def _fresh_folder(self, number: int, generation: int) -> Path:
        folder = Stamp(schema.VERSION, generations={number: generation}).folder(self._root, number)
        assert folder is not None
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    # -- messages

    def _add(self, shard: Shard, writer: tantivy.IndexWriter, accounts: Iterable[bytes]) -> None:
        """Puts in what each folder has beyond what is in the index, by UID."""
        waiting = 0
        for account in accounts:
            for new in self._news(shard, account):
                made = schema.document(account, new.folder, new.row.uid, new.row.digest, self._indexed(new))
                writer.add_document(made)
                waiting += 1
                self._done += 1
                self._progress(self._done, max(self._done, self._total))
                if waiting >= COMMIT_MESSAGES:
                    self._commit(writer)
                    waiting = 0
        self._commit(writer)

    def _indexed(self, new: _New) -> Indexed:
        """A body that is delivered to many is taken apart once."""
        key = new.row.digest + new.row.trace
        found = self._remembered.get(key)
        if found is None:
            found = indexed(new.data)
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        return found

    def _news(self, shard: Shard, account: bytes) -> Iterator[_New]:
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            view = snapshot.view(account)
            places = [(one.id, shard.last_uid(one.id)) for one in folders(view)] if tenant_of(view) else []
        for folder, last_uid in places:
            while batch := self._batch(account, folder, last_uid + 1):
                yield from batch
                last_uid = batch[-1].row.uid

    def _batch(self, account: bytes, folder: bytes, first: int) -> list[_New]:
        found: list[_New] = []
        read_bytes = 0
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            view = snapshot.view(account)
            owner = tenant_of(view)
            for row in islice(messages(view, folder, first), SLICE_MESSAGES):
                body = snapshot.body(owner, row.digest)
                data = b"" if body is None else row.trace + body
                found.append(_New(account, folder, row, data))
                read_bytes += len(data)
                if read_bytes >= SLICE_BYTES:
                    break
        return found

    def _count(self, accounts: Iterable[bytes]) -> int:
        with open_for_reading(self._database) as store, store.snapshot() as snapshot:
            views = [snapshot.view(account) for account in accounts]
            return sum(counters(view, folder.id).messages for view in views for folder in folders(view))


def _accounts(snapshot: Snapshot) -> list[bytes]:
    return [one.id for each in tenant.tenants(snapshot) for one in tenant.accounts(snapshot.view(each.id))]


def keep_up(indexer: Indexer, progress: Progress, linger_s: float, poll_s: float) -> None:
    """Catches up again and again, until nothing has come for `linger_s`."""
    quiet_since_s = time.monotonic()
    while time.monotonic() - quiet_since_s < linger_s:
        if indexer.catch_up(progress):
            quiet_since_s = time.monotonic()
            gc.collect()
        time.sleep(poll_s)
