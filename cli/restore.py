"""`mailraft cluster restore`: a whole cell as it was at a moment, as a new cluster in a folder of its own.

The folder appears under its name only when everything in it has been proven; until then it is built beside it, and a
run that was killed leaves nothing that the next one does not clear away.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cli import layout
from cli.moments import moment_argument
from cli.options import json_option
from cli.output import CommandError, console, counted, iso_time, print_json, say
from cli.restore_keys import require_keys
from cli.restore_source import Found, find_source
from eventlog.database_folder import sync_folder

if TYPE_CHECKING:
    from eventlog.restore import Head, Restored

BUILDING = ".restoring"
SPARE_BYTES = 64 * 1024 * 1024


class Target(NamedTuple):
    """Where the new cluster goes."""

    folder: Path
    nodes: int
    base_port: int

    @property
    def building(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}{BUILDING}")


def target_options(command: Any) -> Any:
    """What `cluster restore` and `backup restore` both take."""
    for option in reversed(
        (
            click.option("--as-of", default="latest", show_default=True, metavar="MOMENT", help=AS_OF_HELP),
            click.option(
                "--into",
                type=click.Path(path_type=Path),
                metavar="DIR",
                required=True,
                help="Folder of the new cluster: empty, or not there yet.",
            ),
            click.option(
                "--nodes",
                type=click.Choice(["1", "3", "5"]),
                default="3",
                show_default=True,
                help="How many nodes, whatever the old cluster had.",
            ),
            click.option(
                "--base-port",
                type=click.IntRange(1024, 65535 - 5 * layout.PORTS_PER_NODE),
                default=20000,
                show_default=True,
                help="First port, as for `mailraft cluster init`.",
            ),
            key_file_option,
            cluster_key_option,
            click.option(
                "--missing-keys",
                is_flag=True,
                help="Go on where a key that sealed something then is not in cluster.key: what it sealed stays closed, "
                "passwords among them.",
            ),
            click.option(
                "--rehearse",
                is_flag=True,
                help="Fold the whole log from zero, also where a backup has tables: slower, and proves those too.",
            ),
            click.option("--dry-run", is_flag=True, help="Show what would be restored; write nothing."),
            json_option,
        )
    ):
        command = option(command)
    return command


AS_OF_HELP = "A time (2026-11-01T10:00Z), a position (#12345), how long ago (-2h), or latest."
key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    envvar="MAILRAFT_BACKUP_KEYS",
    show_envvar=True,
    metavar="FILE",
    help="The keys of an encrypted backup.",
)
cluster_key_option = click.option(
    "--cluster-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The cluster's own key (cluster.key of a node), where it is not found beside the log.",
)


@click.command()
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="DIR|BACKUP",
    required=True,
    help="A cluster's folder (running or not), the data folder of one node, or a backup.",
)
@click.option(
    "--keep-tables",
    is_flag=True,
    help="Take a stopped node's tables as they are, where they are not later than the moment, instead of folding the "
    "log again: quicker; the log is proven, what the tables hold is not.",
)
@target_options
def restore(source: Path, **options: Any) -> None:
    """Make a new cluster from an old one, or from a backup, as it was at a moment.

    Every position up to that moment is proven: its record, the chain, the hash of each body; the new cluster is there
    only when everything fits. Of a node's folder the log is folded again from zero, unless its tables are to be kept.
    A backup may have tables as of an earlier position (`backup create --tables-every`): then they are loaded, and what
    comes after them is folded. The source is not changed.
    """
    run(source, **options)


def run(
    source: Path,
    *,
    as_of: str,
    into: Path,
    nodes: str,
    base_port: int,
    key_file: Path | None,
    cluster_key: Path | None,
    missing_keys: bool,
    rehearse: bool,
    dry_run: bool,
    as_json: bool,
    keep_tables: bool = False,
) -> None:
    """The command. Raises CommandError."""
    target = Target(into.absolute(), int(nodes), base_port)
    moment = moment_argument(as_of, "--as-of") if as_of != "latest" else None
    _refuse_occupied(target)
    with _told(source), find_source(source, key_file, cluster_key, keep_tables=keep_tables) as found:
        from eventlog.restore import find_cut

        cut = find_cut(found.source, *(moment or (None, None)))
        for note in found.notes:
            say(f"note: {note}")
        if found.rotated and not missing_keys:
            require_keys(found.source, cut, found.cluster_key, found.key_place)
        if dry_run:
            _report(found, cut, target, None, as_json)
            return
        started = time.monotonic()
        _check_room(found, target)
        restored = _build(found, cut, target, rehearse)
    _report(found, cut, target, restored, as_json, time.monotonic() - started)


def _refuse_occupied(target: Target) -> None:
    folder = target.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} is not empty", "an empty folder, or one that does not exist yet")
    if not folder.parent.is_dir() or not os.access(folder.parent, os.W_OK):
        raise CommandError(f"{folder.parent} is no folder that can be written to", "another place for --into")


def _check_room(found: Found, target: Target) -> None:
    needed = found.size_bytes * target.nodes + SPARE_BYTES
    free = shutil.disk_usage(target.folder.parent).free
    if free < needed:
        raise CommandError(
            f"{target.folder.parent} has {free >> 20} MiB free, and {target.nodes} nodes take about {needed >> 20} MiB",
            "a disk with more room, or --nodes 1",
        )


@contextmanager
def _told(source: Path) -> Iterator[None]:
    """What the log's own errors mean to the one who restores."""
    import lmdb

    from eventlog.errors import LogError

    try:
        yield
    except (LogError, lmdb.Error) as error:
        raise CommandError(
            f"{source}: {error}", "another node's folder, a backup, or --as-of a moment before"
        ) from None
    except OSError as error:
        raise CommandError(
            f"{error.filename or source}: {error.strerror or error}", "make room, or another folder"
        ) from None


def _build(found: Found, cut: Head, target: Target, rehearse: bool) -> Restored:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    terminal = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shutil.rmtree(target.building, ignore_errors=True)
    try:
        with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
            task = bar.add_task("restore", total=cut.position)
            restored = _write(found, cut, target, rehearse, lambda done, _: bar.update(task, completed=done))
        if target.folder.exists():
            target.folder.rmdir()
        target.building.rename(target.folder)
        sync_folder(target.folder.parent)
    finally:
        shutil.rmtree(target.building, ignore_errors=True)
    return restored


def _write(found: Found, cut: Head, target: Target, rehearse: bool, progress: Any) -> Restored:
    """The whole folder beside its place; gives what went into it."""
    from actors.registry import fold_event
    from actors.sealing import key_lines
    from eventlog.members import Member
    from eventlog.record import By, stream_id
    from eventlog.restore import begin_cell
    from eventlog.restore import restore as fold_into
    from nodes.files import write_atomically
    from nodes.process import tune_memory

    tune_memory()
    made = layout.create(target.building, target.nodes, target.base_port)
    for node in made.nodes:
        write_atomically(node.folder / "cluster.key", key_lines(found.cluster_key), 0o600)
    first, *others = (node.folder / "data" for node in made.nodes)
    restored = fold_into(found.source, cut, first, fold_event, progress, refold=rehearse)
    members = tuple(Member(node.name, node.addresses["raft"], True) for node in made.nodes)
    by = By("admin", stream_id("admin", "restore"), "cluster restore")
    cause = f"restored from the cell {found.source.cell or '?'} as of position {cut.position}"
    begin_cell(first, fold_event, members, by, cause, int(time.time() * 1000))
    for folder in others:
        _copy(first / "data.mdb", folder / "data.mdb")
    for node in made.nodes:
        _prove(node.folder / "data")
    return restored


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    sync_folder(target.parent)


def _prove(folder: Path) -> None:
    """What is on disk is a sound database; and from now on the node knows that it has one."""
    from eventlog.check import check_database
    from eventlog.store import joined_mark

    damage = check_database(folder)
    if damage is not None:
        raise CommandError(f"what was written can not be read: {damage}", "another disk")
    joined_mark(folder).touch()


def _report(
    found: Found, cut: Head, target: Target, restored: Restored | None, as_json: bool, seconds: float = 0.0
) -> None:
    head = cut if restored is None else restored.head
    if as_json:
        document: dict[str, Any] = {
            "restored": restored is not None,
            "source": found.description,
            "cell": found.source.cell,
            "position": head.position,
            "at": iso_time(head.at_ms),
            "chain": head.chain.hex() or None,
            "into": str(target.folder),
            "nodes": target.nodes,
        }
        if restored is not None:
            document |= {
                "events": restored.events,
                "bodies": restored.bodies,
                "body_bytes": restored.body_bytes,
                "unproven": restored.unproven,
                "tables_loaded": restored.loaded or None,
                "seconds": round(seconds, 3),
            }
        print_json(document)
        return
    place = f"position {head.position}, {iso_time(head.at_ms)}"
    if restored is None:
        say(f"would restore {found.description} up to {place} into {target.folder}; nothing was written")
        return
    if restored.unproven:
        say(f"note: the last {restored.unproven} positions were in the log, and not folded yet, when that node stopped")
    rate = head.position / seconds if seconds else 0
    what = f"{counted(restored.events, 'event')} and {counted(restored.bodies, 'body')}"
    say(
        f"{target.folder}: {place}, chain {head.chain.hex()}; {what} "
        f"from {found.description} in {seconds:.1f} s ({rate:.0f}/s), every position proven"
    )
    if restored.loaded:
        data = target.folder / "n1"
        say(
            f"note: the tables up to position {restored.loaded} were taken as they were; "
            f"`mailraft log rehearse --data {data}` folds them again and compares, now or while the cluster runs"
        )
    say(f"next: mailraft cluster up {target.folder}")
