"""The manifest of a backup: which segments it is made of, as JSON that can be proven to be what was written.

It ends with the SHA-256 of everything else in canonical form and, where there is a key, with an HMAC under it, so that
nobody without the key can leave out the newest segments or put older ones in their place.
"""

import hashlib
import hmac
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.backup_tables import TablesHead
from eventlog.database_folder import sync_folder
from eventlog.errors import LogError
from eventlog.segment_keys import KeyRing
from eventlog.segments import PARTIAL, SegmentHeader
from eventlog.store import GENESIS

FORMAT = 1
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
_MAC_FOR = b"mailraft/backup/manifest\0"
MAX_AT_MS = 253_402_300_799_999  # the year 9999
_NUMBERS = ("first", "last", "first_at_ms", "last_at_ms", "last_term")
_FILE = re.compile(r"segment-[0-9-]{1,100}(\.r[0-9]{1,9})?")
_TABLES_FILE = re.compile(r"tables-[0-9]{12,19}")
_HASHES = ("chain_before", "chain_after", "salt", "digest")


class BackupError(LogError):
    """The folder is no backup, or not one that can be used for what was asked; the text says why."""

    code = "backup_failed"


class Listed(NamedTuple):
    """A segment as the manifest lists it: what its header says, and what the file must be."""

    file: str
    header: SegmentHeader
    digest: bytes
    size_bytes: int
    bodies: int
    body_bytes: int
    written_ms: int


class ListedTables(NamedTuple):
    """Tables as the manifest lists them: what their header says, and what the file must be."""

    file: str
    head: TablesHead
    digest: bytes
    size_bytes: int


class Chain(NamedTuple):
    """Segments that follow each other from position 1 on; `started_ms` is when its base was begun."""

    number: int
    started_ms: int
    segments: tuple[Listed, ...] = ()

    @property
    def last(self) -> int:
        return self.segments[-1].header.last if self.segments else 0

    @property
    def chain_after(self) -> bytes:
        return self.segments[-1].header.chain_after if self.segments else GENESIS

    @property
    def last_written_ms(self) -> int:
        return max((one.written_ms for one in self.segments), default=self.started_ms)

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.segments)


class Manifest(NamedTuple):
    """What the file says. `sealed_key` is the cell's own key, under one of the backup's.

    Redactions at positions up to `erased_to` have been carried out on the segments.
    """

    cell: str
    chains: tuple[Chain, ...] = ()
    sealed_key: dict[str, str] | None = None
    erased_to: int = 0
    tables: tuple[ListedTables, ...] = ()  # oldest first


def write_manifest(path: Path, manifest: Manifest, keys: KeyRing | None) -> None:
    """Replaces the file, whole and durably."""
    document = {
        "format": FORMAT,
        "cell": manifest.cell,
        "chains": [_chain_json(chain) for chain in manifest.chains],
        "cluster_key": manifest.sealed_key,
        "erased_to": manifest.erased_to,
        "tables": [_tables_json(one) for one in manifest.tables],
    }
    end: dict[str, Any] = {"sha256": hashlib.sha256(_canonical(document)).hexdigest(), "mac": None}
    if keys is not None:
        end["mac"] = {"key_id": keys.current, "hmac": _mac(keys.key(keys.current), document)}
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("w", encoding="ascii") as file:
        json.dump({**document, "digest": end}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def read_manifest(path: Path, keys: KeyRing | None) -> Manifest:
    """What the file says, once it is proven. Without `keys` its MAC is not checked: enough to list, not to restore.

    Raises BackupError, and KeyFileError if the key of its MAC is not in the ring.
    """
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("too long")
        document: dict[str, Any] = json.loads(path.read_text("ascii"))
        end = document.pop("digest")
        if document["format"] != FORMAT:
            raise BackupError(f"{path}: of format {document['format']}; this version reads {FORMAT}")
        if hashlib.sha256(_canonical(document)).hexdigest() != end["sha256"]:
            raise BackupError(f"{path}: it was altered, or is damaged: its digest is another")
        if keys is not None:
            _check_mac(path, document, end["mac"], keys)
        cell = str(document["cell"])
        chains = tuple(_chain(chain, cell) for chain in document["chains"])
        tables = tuple(_tables(one, cell) for one in document.get("tables", ()))
        return Manifest(cell, chains, document["cluster_key"], int(document["erased_to"]), tables)
    except FileNotFoundError:
        raise BackupError(f"{path.parent} is no backup: it has no {path.name}") from None
    except OSError as error:
        raise BackupError(f"{path}: can not be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{path}: not as it was written ({error})") from None


def _check_mac(path: Path, document: dict[str, Any], mac: dict[str, str] | None, keys: KeyRing) -> None:
    if mac is None:
        parts = [*(one for chain in document["chains"] for one in chain["segments"]), *document.get("tables", ())]
        encrypted = any(one["key_id"] for one in parts)
        if encrypted or document["cluster_key"] is not None:
            raise BackupError(f"{path}: it was altered: a backup that is encrypted has a MAC")
    elif not hmac.compare_digest(_mac(keys.key(mac["key_id"]), document), mac["hmac"]):
        raise BackupError(f"{path}: it was altered: its MAC is another")


def _mac(key: bytes, document: dict[str, Any]) -> str:
    return hmac.digest(hmac.digest(key, _MAC_FOR, "sha256"), _canonical(document), "sha256").hex()


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _chain_json(chain: Chain) -> dict[str, Any]:
    segments = [_listed_json(one) for one in chain.segments]
    return {"number": chain.number, "started_ms": chain.started_ms, "segments": segments}


def _listed_json(segment: Listed) -> dict[str, Any]:
    fields = segment._asdict() | segment.header._asdict()
    del fields["header"], fields["cell"]
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _tables_json(tables: ListedTables) -> dict[str, Any]:
    fields = {**tables.head._asdict(), "file": tables.file, "digest": tables.digest, "size_bytes": tables.size_bytes}
    del fields["cell"]
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _tables(document: dict[str, Any], cell: str) -> ListedTables:
    file = document["file"]
    if not isinstance(file, str) or not _TABLES_FILE.fullmatch(file):
        raise ValueError(f"{file!r} is no name of tables")
    position, at_ms, size_bytes = (int(document[name]) for name in ("position", "at_ms", "size_bytes"))
    if not (0 < position < 1 << 63 and 0 <= at_ms <= MAX_AT_MS):
        raise ValueError("a number that no log has")
    chain, salt, digest = (bytes.fromhex(document[name]) for name in ("chain", "salt", "digest"))
    key_id = None if document["key_id"] is None else str(document["key_id"])
    return ListedTables(file, TablesHead(cell, position, at_ms, chain, key_id, salt), digest, size_bytes)


def _chain(document: dict[str, Any], cell: str) -> Chain:
    segments = tuple(_listed(one, cell) for one in document["segments"])
    return Chain(int(document["number"]), int(document["started_ms"]), segments)


def _listed(document: dict[str, Any], cell: str) -> Listed:
    file = document["file"]
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        raise ValueError(f"{file!r} is no segment's name")
    first, last, first_at_ms, last_at_ms, last_term = (int(document[name]) for name in _NUMBERS)
    if not all(0 <= number < 1 << 63 for number in (first, last, last_term)) or not 0 <= last_at_ms <= MAX_AT_MS:
        raise ValueError("a number that no log has")
    before, after, salt, digest = (bytes.fromhex(document[name]) for name in _HASHES)
    key_id = None if document["key_id"] is None else str(document["key_id"])
    header = SegmentHeader(cell, first, last, before, after, first_at_ms, last_at_ms, last_term, key_id, salt)
    sizes = [int(document[name]) for name in ("size_bytes", "bodies", "body_bytes", "written_ms")]
    return Listed(file, header, digest, *sizes)
