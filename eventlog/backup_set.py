"""A backup: a folder of segments that follow each other from position 1 on, and a manifest that lists them.

A chain begins with the base (position 1) and grows by increments; a folder may hold several chains, of which the last
is the one that grows. What the manifest does not list does not count, and it is replaced whole and only after the
segment that it adds is on disk: whatever is killed, and when, leaves a backup that is good and that the next run goes
on with.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eventlog.backup_manifest import BackupError, Chain, Listed, ListedTables, Manifest, read_manifest, write_manifest
from eventlog.backup_tables import TablesHead
from eventlog.database_folder import sync_folder
from eventlog.segment_frames import SegmentError
from eventlog.segment_keys import KeyRing
from eventlog.segments import PARTIAL, SegmentHeader, SegmentWriter, read_header
from eventlog.store import GENESIS

MANIFEST = "backup.json"
LOCK = "backup.lock"
OURS = ("segment-", "tables-")
KEEP_TABLES = 2  # the newest; older ones would let a restore of a moment before them begin later
_NONCE_BYTES = 12
_SEALED_FOR = b"mailraft/backup/cluster-key\0"


class BackupSet:
    """The backup in a folder, as its manifest was when it was opened or last written.

    `keys` open what is encrypted; the newest of them is what new segments and the manifest's MAC are made with. None:
    what is written is not encrypted.
    """

    def __init__(self, folder: Path, manifest: Manifest, keys: KeyRing | None) -> None:
        self.folder = folder
        self.keys = keys
        self._manifest = manifest

    @classmethod
    def open(cls, folder: Path, keys: KeyRing | None = None) -> Self:
        """The backup that is there. Raises BackupError, KeyFileError."""
        manifest = read_manifest(folder / MANIFEST, keys)
        for chain in manifest.chains:
            _check_continuity(folder, chain)
        return cls(folder, manifest, keys)

    @classmethod
    def create(cls, folder: Path, cell: str, keys: KeyRing | None = None) -> Self:
        """A backup without segments; its manifest is written with the first of them. Raises BackupError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(
            path.name not in (LOCK, MANIFEST + PARTIAL) and not path.name.startswith(OURS) for path in folder.iterdir()
        ):
            raise BackupError(f"{folder} is neither a backup nor empty")
        return cls(folder, Manifest(cell), keys)

    @property
    def cell(self) -> str:
        return self._manifest.cell

    @property
    def chains(self) -> tuple[Chain, ...]:
        return self._manifest.chains

    @property
    def current(self) -> Chain:
        """The chain that grows. Raises BackupError if there is none."""
        if not self.chains:
            raise BackupError(f"{self.folder} holds no segments")
        return self.chains[-1]

    @property
    def longest(self) -> Chain:
        """The chain that goes furthest, of those the newest: a new one that is not finished replaces nothing yet."""
        return max((self.current, *self.chains), key=lambda chain: (chain.last, chain.number))

    @property
    def key_ids(self) -> set[str]:
        """The keys that are needed to read all of it."""
        ids = {one.header.key_id for chain in self.chains for one in chain.segments}
        return {id_ for id_ in ids if id_ is not None}

    def path(self, segment: Listed) -> Path:
        return self.folder / segment.file

    # -- growing --------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> None:
        """From now on segments are added to a new chain; the others stay as they are."""
        number = self.chains[-1].number + 1 if self.chains else 1
        self._manifest = self._manifest._replace(chains=(*self.chains, Chain(number, now_ms)))

    def writer(self, header: SegmentHeader) -> SegmentWriter:
        """For the next segment of the current chain. Raises BackupError for one that does not follow."""
        chain = self.current
        if header.cell != self.cell:
            raise BackupError(f"{self.folder} is the backup of the cell {self.cell}, and this is {header.cell}")
        if header.first != chain.last + 1 or header.chain_before != chain.chain_after:
            raise BackupError(
                f"{self.folder}: its chain at position {chain.last} is not the log's: it is of another history"
            )
        return SegmentWriter(self.folder / _file_name(chain, header, 0), header, self.keys)

    def add(self, writer: SegmentWriter, now_ms: int) -> None:
        """Lists a finished segment: from here on it counts."""
        self._change(self.current, (*self.current.segments, _listed(writer, now_ms)))

    # -- tables ---------------------------------------------------------------------------------------------------

    @property
    def tables(self) -> tuple[ListedTables, ...]:
        """Tables as of positions, oldest first (eventlog/backup_tables.py)."""
        return self._manifest.tables

    def tables_path(self, position: int) -> Path:
        return self.folder / f"tables-{position:012}"

    def add_tables(self, head: TablesHead, digest: bytes) -> None:
        """Lists a finished file of tables, whose position the segments have reached; the oldest go."""
        path = self.tables_path(head.position)
        listed = ListedTables(path.name, head, digest, path.stat().st_size)
        self._write(self._manifest._replace(tables=(*self.tables, listed)[-KEEP_TABLES:]))
        self.clear()

    def keep_tables(self, wanted: Callable[[ListedTables], bool]) -> None:
        """Forgets those that are not wanted, then removes their files."""
        kept = tuple(filter(wanted, self.tables))
        if kept != self.tables:
            self._write(self._manifest._replace(tables=kept))
            self.clear()

    # -- rewriting ------------------------------------------------------------------------------------------------

    def rewriter(self, chain: Chain, old: Sequence[Listed]) -> SegmentWriter:
        """For a segment that takes the place of those, which follow each other."""
        first, last = old[0].header, old[-1].header
        header = last._replace(first=first.first, chain_before=first.chain_before, first_at_ms=first.first_at_ms)
        revision = 1 + max(int(one.file.partition(".r")[2] or 0) for one in old)
        return SegmentWriter(self.folder / _file_name(chain, header, revision), header, self.keys)

    def replace(self, chain: Chain, old: Sequence[Listed], writer: SegmentWriter) -> Chain:
        """Lists a finished segment in the place of those that it was made from, and removes their files.

        It counts as written when the newest of them was. Gives the chain as it is now.
        """
        new = _listed(writer, max(one.written_ms for one in old))
        at = chain.segments.index(old[0])
        changed = self._change(chain, (*chain.segments[:at], new, *chain.segments[at + len(old) :]))
        self.clear()
        return changed

    @property
    def erased_to(self) -> int:
        """Redactions at positions up to this have been carried out on the segments."""
        return self._manifest.erased_to

    def mark_erased(self) -> None:
        """All that the longest chain holds have been."""
        if self.erased_to != self.longest.last:
            self._write(self._manifest._replace(erased_to=self.longest.last))

    def remove(self, chain: Chain) -> None:
        """Forgets a chain that is not the one that grows, then removes its files."""
        if chain.number == self.current.number:
            raise BackupError("the chain that grows can not be removed")
        chains = tuple(one for one in self.chains if one.number != chain.number)
        self._write(self._manifest._replace(chains=chains))
        self.clear()

    def clear(self) -> int:
        """Removes what no chain lists: halves that a killed run left, segments that were replaced. Gives how many."""
        known = {one.file for chain in self.chains for one in chain.segments} | {one.file for one in self.tables}
        left = [path for path in self.folder.iterdir() if path.name.startswith(OURS) and path.name not in known]
        for path in (*left, self.folder / (MANIFEST + PARTIAL)):
            path.unlink(missing_ok=True)
        sync_folder(self.folder)
        return len(left)

    def _change(self, chain: Chain, segments: tuple[Listed, ...]) -> Chain:
        changed = chain._replace(segments=segments)
        chains = tuple(changed if one.number == chain.number else one for one in self.chains)
        self._write(self._manifest._replace(chains=chains))
        return changed

    def _write(self, manifest: Manifest) -> None:
        write_manifest(self.folder / MANIFEST, manifest, self.keys)
        self._manifest = manifest

    # -- secrets --------------------------------------------------------------------------------------------------

    def keep_cluster_key(self, key: bytes) -> None:
        """Puts the cell's own key into the manifest, sealed under the newest key; nothing without a key to seal it."""
        if self.keys is None or (self._sealed_under == self.keys.current and self.cluster_key() == key):
            return
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(self.keys.key(self.keys.current))
        sealed = nonce + cipher.encrypt(nonce, key, _SEALED_FOR + self.cell.encode())
        place = {"key_id": self.keys.current, "sealed": sealed.hex()}
        manifest = self._manifest._replace(sealed_key=place)
        if self.chains:
            self._write(manifest)
        self._manifest = manifest  # of a backup that is only begun, it is written with the first segment

    @property
    def _sealed_under(self) -> str | None:
        return None if self._manifest.sealed_key is None else self._manifest.sealed_key.get("key_id")

    def cluster_key(self) -> bytes | None:
        """The cell's own key, or None where the backup does not carry it. Raises BackupError, KeyFileError."""
        place = self._manifest.sealed_key
        if place is None or self.keys is None:
            return None
        try:
            sealed = bytes.fromhex(place["sealed"])
            cipher = AESGCM(self.keys.key(place["key_id"]))
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _SEALED_FOR + self.cell.encode())
        except (InvalidTag, ValueError, KeyError, TypeError):
            raise BackupError(f"{self.folder / MANIFEST}: the cluster's key in it was altered") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """For as long as it is written to, as it is then. Raises BackupError if another process writes to it."""
        with (self.folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"{self.folder}: another process writes to this backup") from None
            if is_backup(self.folder):
                self._manifest = read_manifest(self.folder / MANIFEST, self.keys)
            yield


def is_backup(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def check_listed(backup: BackupSet, segment: Listed) -> None:
    """Whether the file is there with the size and the header that are listed. Raises SegmentError that names it."""
    path = backup.path(segment)
    try:
        size_bytes = path.stat().st_size
    except OSError:
        raise SegmentError(f"{segment.file}: it is not there") from None
    if size_bytes != segment.size_bytes:
        raise SegmentError(f"{segment.file}: it has {size_bytes} bytes, and {segment.size_bytes} are listed")
    if read_header(path) != segment.header:
        raise SegmentError(f"{segment.file}: it is not the segment that is listed")


def _listed(writer: SegmentWriter, now_ms: int) -> Listed:
    name = writer.path.name
    return Listed(name, writer.header, writer.digest, writer.size_bytes, writer.bodies, writer.body_bytes, now_ms)


def _file_name(chain: Chain, header: SegmentHeader, revision: int) -> str:
    name = f"segment-{chain.number:03}-{header.first:012}-{header.last:012}"
    return f"{name}.r{revision}" if revision else name


def _check_continuity(folder: Path, chain: Chain) -> None:
    last, after = 0, GENESIS
    for segment in chain.segments:
        if segment.header.first != last + 1 or segment.header.chain_before != after:
            raise BackupError(f"{folder}: {segment.file} does not follow position {last}")
        last, after = segment.header.last, segment.header.chain_after
