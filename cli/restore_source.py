"""Where `cluster restore` and `backup create` read from: which node of a folder, and what its secrets are."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cli import layout
from cli.guarded import read_in_a_child
from cli.output import CommandError, say

if TYPE_CHECKING:
    from eventlog.backup_set import BackupSet
    from eventlog.restore import Source

UNPACKED = 4  # times what it takes in a segment, at most about
CLUSTER_KEY_HINT = "--cluster-key FILE: the file cluster.key of any node of the old cluster"


class Found(NamedTuple):
    """A log to recover from. `notes` is what the one who asked should know of the choice.

    `rotated`: another key may have been used than the first.
    """

    source: Source
    description: str
    cluster_key: bytes
    key_place: str
    rotated: bool
    size_bytes: int
    notes: tuple[str, ...] = ()


class Candidate(NamedTuple):
    """The database of one node, and how far it goes."""

    folder: Path  # of the node: its data is in data/, its configuration beside
    data: Path
    facts: dict[str, Any]

    @property
    def reach(self) -> tuple[int, int]:
        """Of stopped nodes the longest log wins, as in an election; one that runs is taken for what it has folded."""
        if self.facts["running"]:
            return 0, int(self.facts["applied"])
        return int(self.facts["last_term"]), int(self.facts["last_index"])


@contextmanager
def find_source(
    place: Path, key_file: Path | None, cluster_key: Path | None, *, keep_tables: bool = False
) -> Iterator[Found]:
    """What is to be recovered from in a folder; `keep_tables`: a node's own are taken. Raises CommandError."""
    from eventlog.backup_set import is_backup

    if is_backup(place):
        yield _of_backup(place, key_file, cluster_key)
    else:
        with _of_nodes(place, cluster_key, keep_tables) as found:
            yield found


def _of_backup(place: Path, key_file: Path | None, cluster_key: Path | None) -> Found:
    from eventlog.backup import BackupSource

    backup = open_backup(place, key_file)
    key = backup.cluster_key() if cluster_key is None else read_key(cluster_key)
    if key is None:
        raise CommandError(f"{place}: this backup does not carry the cluster's key", CLUSTER_KEY_HINT)
    sizes = [segment.body_bytes + UNPACKED * segment.size_bytes for segment in backup.longest.segments]
    key_place = f"the backup {place}" if cluster_key is None else str(cluster_key)
    return Found(BackupSource(backup), f"the backup {place}", key, key_place, True, sum(sizes))


def open_backup(place: Path, key_file: Path | None) -> BackupSet:
    """The backup in a folder, with the keys that it needs. Raises CommandError."""
    from eventlog.backup_set import BackupSet
    from eventlog.errors import LogError
    from eventlog.segment_keys import read_keys

    try:
        backup = BackupSet.open(place, read_keys(key_file) if key_file else None)
    except LogError as error:
        raise CommandError(str(error), "the whole backup folder, and its key file") from None
    if key_file and not backup.key_ids:
        say(f"note: {place} is not encrypted, so no key shows who wrote it; compare its head with one that you know")
    missing = backup.key_ids - set(backup.keys.ids if backup.keys else ())
    if missing:
        what = "it is encrypted under the key" + ("s " if len(missing) > 1 else " ") + ", ".join(sorted(missing))
        raise CommandError(
            f"{place}: {what}", "--key-file FILE: the file that holds " + ("it", "them")[len(missing) > 1]
        )
    return backup


@contextmanager
def _of_nodes(place: Path, cluster_key: Path | None, keep_tables: bool) -> Iterator[Found]:
    from actors.keyring import KEYRING, in_use
    from eventlog.segment_source import StoreSource
    from eventlog.store import open_for_reading
    from eventlog.store_checkpoint import TrustedSource

    read_in_a_child(place)
    chosen, notes = choose_node(place)
    running = bool(chosen.facts["running"])
    if running and keep_tables:
        raise CommandError(f"{chosen.data}: the node runs, so its tables go on", "stop it, or leave out --keep-tables")
    place_of_key = cluster_key or chosen.folder / "cluster.key"
    with open_for_reading(chosen.data) as store:
        with store.snapshot() as snapshot:
            rotated = in_use(snapshot.view(KEYRING)) is not None
        yield Found(
            (TrustedSource if keep_tables else StoreSource)(store, cell_id(chosen.folder), tail=not running),
            f"{chosen.data} ({'running' if running else 'stopped'})",
            read_key(place_of_key),
            str(place_of_key),
            rotated,
            (chosen.data / "data.mdb").stat().st_size + UNPACKED * _archived_bytes(chosen.data),
            notes,
        )


def _archived_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in (data / "archive").glob("segment-*"))


def choose_node(place: Path) -> tuple[Candidate, tuple[str, ...]]:
    """The node of a cluster's folder, or of a node's, that has the most. Raises CommandError."""
    from nodes.inspection import NotInspected, inspect

    candidates, notes = [], []
    for folder, data in _databases(place):
        try:
            candidates.append(Candidate(folder, data, inspect(data)))
        except NotInspected as error:
            notes.append(f"passed over: {error}")
    if not candidates:
        text = "\n  ".join([f"{place}: there is no database to read from", *notes])
        raise CommandError(text, "a cluster's folder, the data folder of one node, or a backup")
    running = [one for one in candidates if one.facts["running"]]
    return max(running or candidates, key=lambda one: one.reach), tuple(notes)


def _databases(place: Path) -> Iterator[tuple[Path, Path]]:
    if (place / layout.CLUSTER_FILE).exists():
        for node in layout.load(place).nodes:
            yield node.folder, node.folder / "data"
    elif (place / "data.mdb").exists():
        yield place.parent, place
    elif (place / "data" / "data.mdb").exists():
        yield place, place / "data"


def cell_id(node_folder: Path) -> str:
    """What the node's configuration calls its cell; empty where there is none."""
    try:
        document = tomllib.loads((node_folder / "mailraft.toml").read_text())
        return str(document["node"]["cluster_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def read_key(path: Path) -> bytes:
    """The cluster's key in a file. Raises CommandError."""
    from nodes.starting import StartError, read_cluster_key

    try:
        return read_cluster_key(path)
    except StartError:
        raise CommandError(f"{path}: there is no key of the old cluster", CLUSTER_KEY_HINT) from None
